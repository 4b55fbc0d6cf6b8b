// matmul: y = op(a) op(b) over the last two dims, batches broadcast, op = identity or transpose.
//   da = gy op(b)^T,  db = op(a)^T gy   (transposed back where the operand was)
#include "ops/gemm.h"
#include "ops/matmul_plan.h"
#include "ops/rules.h"

namespace wattle {
namespace {

struct Matrix {
  int64_t rows, cols, row_stride, col_stride;
  Shape batch, batch_strides;
};

Matrix as_matrix(const Tensor& t, bool transposed, bool left) {
  if (t.rank() == 0)
    throw shape_error(str("matmul: operand ", t, ", expected at least 1 dimension"));
  if (t.rank() == 1) {
    const int64_t s = t.strides()[0];
    return left ? Matrix{1, t.size(0), 0, s, {}, {}} : Matrix{t.size(0), 1, s, 0, {}, {}};
  }
  const int r = t.rank();
  Matrix m{t.size(-2), t.size(-1), t.strides()[r - 2], t.strides()[r - 1], {}, {}};
  if (transposed) {
    std::swap(m.rows, m.cols);
    std::swap(m.row_stride, m.col_stride);
  }
  m.batch = Shape(t.shape().begin(), r - 2);
  m.batch_strides = Shape(t.strides().begin(), r - 2);
  return m;
}

void check_inner(const Tensor& a, const Tensor& b, int64_t cols, int64_t rows) {
  if (cols != rows)
    throw shape_error(str("matmul: inner sizes differ: ", a.shape(), " x ", b.shape(), " (", cols,
                          " and ", rows, ")"));
}

// Of two matrices; small products would feel the batch's shapes.
MatmulPlan plain_plan(const Tensor& a, const Tensor& b, const MatmulAttr& attr) {
  const int ai = attr.transpose_a ? 1 : 0, bi = attr.transpose_b ? 1 : 0;
  const Shape &x = a.shape(), &y = b.shape(), &sx = a.strides(), &sy = b.strides();
  check_inner(a, b, x[1 - ai], y[bi]);
  MatmulPlan p{};
  p.m = x[ai], p.n = y[1 - bi], p.k = x[1 - ai];
  p.a_row = sx[ai], p.a_col = sx[1 - ai], p.b_row = sy[bi], p.b_col = sy[1 - bi];
  p.out = {p.m, p.n};
  return p;
}

Shape broadcast_strides(const Matrix& m, const Shape& batch) {
  Shape s = Shape::filled(batch.rank(), 0);
  const int shift = batch.rank() - m.batch.rank();
  for (int i = 0; i < m.batch.rank(); ++i) s[shift + i] = m.batch[i] == 1 ? 0 : m.batch_strides[i];
  return s;
}

}  // namespace

MatmulPlan matmul_plan(Ins in, const MatmulAttr& a) {
  rules::arity("matmul", in, 2, 2);
  rules::same_dtype("matmul", in);
  if (in[0].rank() == 2 && in[1].rank() == 2) return plain_plan(in[0], in[1], a);
  const Matrix x = as_matrix(in[0], a.transpose_a, true),
               y = as_matrix(in[1], a.transpose_b, false);
  check_inner(in[0], in[1], x.cols, y.rows);
  MatmulPlan p{x.rows,
               y.cols,
               x.cols,
               broadcast_shapes("matmul", x.batch, y.batch),
               {},
               x.row_stride,
               x.col_stride,
               y.row_stride,
               y.col_stride,
               {},
               {}};
  p.a_batch = broadcast_strides(x, p.batch);
  p.b_batch = broadcast_strides(y, p.batch);
  p.out = p.batch;
  if (in[0].rank() > 1) p.out.push_back(p.m);
  if (in[1].rank() > 1) p.out.push_back(p.n);
  return p;
}

std::vector<int64_t> batch_offsets(const Shape& batch, const Shape& strides) {
  std::vector<int64_t> offsets;
  for_each_offset(batch, strides, [&](int64_t, int64_t o) { offsets.push_back(o); });
  return offsets;
}

namespace {

void matmul_ref(Ins in, Outs out, const MatmulAttr& attr) {
  const MatmulPlan p = matmul_plan(in, attr);
  const auto oa = batch_offsets(p.batch, p.a_batch), ob = batch_offsets(p.batch, p.b_batch);
  dispatch_all("matmul", in[0].dtype(), [&]<class T>() {
    T* y = out[0].data<T>();
    for (size_t g = 0; g < oa.size(); ++g) {
      const T *a = in[0].data<T>() + oa[g], *b = in[1].data<T>() + ob[g];
      for (int64_t i = 0; i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) {
          T acc = T(0);
          for (int64_t k = 0; k < p.k; ++k)
            acc = num::mac(acc, a[i * p.a_row + k * p.a_col], b[k * p.b_row + j * p.b_col]);
          *y++ = acc;
        }
    }
  });
}

template <class Isa>
void matmul_simd(Ins in, Outs out, const MatmulAttr& attr) {
  MatmulPlan p = matmul_plan(in, attr);
  const gemm::MatView a{in[0].data<float>(), p.a_row, p.a_col};
  const gemm::MatView b{in[1].data<float>(), p.b_row, p.b_col};
  float* c = out[0].data<float>();
  if (p.batch.numel() == 1) return gemm::sgemm<Isa>(p.m, p.n, p.k, a, b, c, p.n);
  const auto oa = batch_offsets(p.batch, p.a_batch), ob = batch_offsets(p.batch, p.b_batch);
  gemm::sgemm_batched<Isa>(p.batch.numel(), p.m, p.n, p.k, a, {0, oa.data()}, b, {0, ob.data()}, c,
                           {p.m * p.n, nullptr}, p.n);
}

// Both operands with at least two dims, gy with the two dims that belong to them.
Tensors matmul_backward(const Saved<MatmulAttr>& s, Ins grad) {
  const bool ta = s.attr().transpose_a, tb = s.attr().transpose_b;
  const auto matmul = [&](const Tensor& p, const Tensor& q, bool tp, bool tq) {
    return wattle::matmul(p, q, MatmulAttr{tp, tq, s.attr().accumulate});
  };
  Tensor a = s.in(0), b = s.in(1), gy = grad[0];
  const Shape a_shape = a.shape(), b_shape = b.shape();
  Shape g_shape = gy.shape();
  const bool a_vector = a.rank() == 1, b_vector = b.rank() == 1;
  if (a_vector) {
    a = reshape(a, {1, a_shape[0]});
    g_shape.insert(g_shape.rank() - (b_vector ? 0 : 1), 1);
  }
  if (b_vector) {
    b = reshape(b, {b_shape[0], 1});
    g_shape.push_back(1);
  }
  gy = reshape(gy, g_shape);
  const bool ta2 = ta && !a_vector, tb2 = tb && !b_vector;
  Tensor ga, gb;
  if (s.needs(0)) {
    ga = ta2 ? matmul(b, gy, tb2, true) : matmul(gy, b, false, !tb2);
    ga = reshape(sum_to(ga, a.shape()), a_shape);
  }
  if (s.needs(1)) {
    // One matrix shared by a batch: its gradient is one product over all rows of the batch.
    if (b.rank() == 2 && a.rank() > 2 && !ta2) {
      a = reshape(a, {-1, a.size(-1)});
      gy = reshape(gy, {-1, gy.size(-1)});
    }
    gb = tb2 ? matmul(gy, a, true, ta2) : matmul(a, gy, !ta2, false);
    gb = reshape(sum_to(gb, b.shape()), b_shape);
  }
  return {ga, gb};
}

const Op<MatmulAttr> op{{
    .name = "matmul",
    .doc = "Matrix product; vectors and broadcast batches as torch.matmul",
    .equation = "y[..,i,j] = sum_k a[..,i,k] b[..,k,j]",
    .shape =
        [](Ins in, const MatmulAttr& a) {
          rules::accumulate("matmul", in, a.accumulate);
          if (a.accumulate != "f32" && a.out && *a.out != in[0].dtype())
            throw dtype_error(str("matmul: accumulate=", a.accumulate, " found out=", name(*a.out),
                                  ", expected ", name(in[0].dtype())));
          return Metas{{matmul_plan(in, a).out, rules::result_dtype("matmul", in, a.out)}};
        },
    .cost =
        [](Ins in, std::span<const Meta> out, const MatmulAttr& a) {
          const Tensor& x = in[0];
          const int64_t k = x.size(a.transpose_a && x.rank() > 1 ? -2 : -1);
          return rules::contraction(in, out[0].shape.numel() * k);
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const MatmulAttr&) {
          // With an empty result nothing is read.
          if (out[0].shape.numel() == 0) return Bytes{};
          return default_bytes(in, out, {});
        },
    .kernels = {simd_kernel<simd::Avx512>(matmul_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(matmul_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(matmul_simd<simd::Portable>),
                {"ref", matmul_ref}},
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .spike_ins = {0, 1},
    .backward = matmul_backward,
    .samples = {{{{{5, 7}}, {{7, 9}}}},
                {{{{1, 1}}, {{1, 1}}}},
                {{{{7, 5}}, {{9, 7}}}, {true, true}},
                {{{{7, 37}}, {{7, 19}}}, {true, false}},
                {{{{2, 1, 3, 4}}, {{3, 4, 5}}}},
                {{{{2, 3, 4}}, {{4, 5}}}},
                {{{{2, 3, 4}}, {{5, 4}}}, {false, true}},
                {{{{4}}, {{2, 4, 3}}}},
                {{{{2, 3, 4}}, {{4}}}},
                {{{{6}}, {{6}}}}},
}};

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  return op.one({a, b}, {transpose_a, transpose_b});
}
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulAttr& attr) {
  return op.one({a, b}, attr);
}

}  // namespace wattle
