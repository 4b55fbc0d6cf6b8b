// grouped_gemm: y[p] = x[row(p)] W_e for the slots p of expert e.
//   dx = combine(dy W_e^T),   dW_e = sum over its slots of x[row(p)]^T dy[p]
// grouped_gemm_relu: the same, and relu while a block of results is in the cache.
// The weights of experts without a row are neither read nor counted.
#include "moe/grouped_gemm.h"

#include "moe/ops.h"
#include "ops/indexing.h"

namespace wattle {
namespace {

bool has(Ins in, size_t i) { return in.size() > i && in[i].defined(); }

// Where each slot's operand lies, from `order` and the K of position [T,K]; empty: slot by slot.
// Checks both index operands.
std::vector<int64_t> source_rows(const char* op, Ins in, size_t offsets, size_t order, int64_t k) {
  const int64_t* const o = in[offsets].data<int64_t>();
  const int64_t experts = in[offsets].numel() - 1;
  const int64_t slots = has(in, order) ? in[order].numel() : in[0].size(0);
  for (int64_t e = 0; e <= experts; ++e)
    if (o[e] < (e == 0 ? 0 : o[e - 1]) || o[e] > slots || (e == 0 && o[e] != 0))
      throw value_error(str(op, ": offsets: found ", o[e], " at ", e,
                            ", expected rising from 0 to at most ", slots,
                            ", the number of slots"));
  std::vector<int64_t> rows;
  if (!has(in, order)) return rows;
  rows.resize(static_cast<size_t>(o[experts]));
  for (int64_t p = 0; p < o[experts]; ++p) {
    const int64_t r = in[order].data<int64_t>()[p];
    if (r < 0 || r >= slots)
      throw value_error(
          str(op, ": order: found ", r, " in slot ", p, ", expected 0 to ", slots - 1));
    rows[static_cast<size_t>(p)] = r / k;
  }
  return rows;
}

int64_t touched_rows(const std::vector<int64_t>& rows, int64_t used, int64_t tokens) {
  if (rows.empty()) return used;
  std::vector<bool> seen(static_cast<size_t>(tokens));
  int64_t n = 0;
  for (int64_t r : rows)
    if (!seen[static_cast<size_t>(r)]) seen[static_cast<size_t>(r)] = true, ++n;
  return n;
}

void offsets_operand(const char* op, const Tensor& offsets, int64_t experts) {
  if (offsets.shape() != Shape{experts + 1} || offsets.dtype() != DType::i64)
    throw shape_error(str(op, ": offsets ", offsets, ", expected i64 ", Shape{experts + 1}));
}

// ---- grouped_gemm_grad: a [T|P,k], b [P,n], offsets, order?, position? -> [N,k,n] ----

struct GradAttr {
  bool gathers_b = false;  ///< order belongs to b, not to a
  template <class V>
  void visit(V&& v) {
    v("gathers_b", gathers_b);
  }
};

int64_t choices(Ins in) { return has(in, 4) ? in[4].size(1) : 1; }

template <class T>
void outer_ref(Ins in, const Tensor& out, const int64_t* a_rows, const int64_t* b_rows) {
  const int64_t k = in[0].size(1), n = in[1].size(1);
  const int64_t* const o = in[2].data<int64_t>();
  T* const dw = out.data<T>();
  for (int64_t e = 0; e < out.size(0); ++e)
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < n; ++j) {
        T acc = T(0);
        for (int64_t p = o[e]; p < o[e + 1]; ++p)
          acc = num::mac(acc, in[0].data<T>()[(a_rows ? a_rows[p] : p) * k + i],
                         in[1].data<T>()[(b_rows ? b_rows[p] : p) * n + j]);
        dw[(e * k + i) * n + j] = acc;
      }
}

void grad_report(Ins in, Outs out, const GradAttr& a, const std::vector<int64_t>& rows) {
  const int64_t used = in[2].data<int64_t>()[in[2].numel() - 1], k = in[0].size(1),
                n = in[1].size(1);
  const int64_t a_rows = a.gathers_b ? used : touched_rows(rows, used, in[0].size(0));
  const int64_t b_rows = a.gathers_b ? touched_rows(rows, used, in[1].size(0)) : used;
  const int64_t bytes = info(in[0].dtype()).bytes;
  report_executed({.mac = used * k * n,
                   .read = (a_rows * k + b_rows * n) * bytes + in[2].nbytes() +
                           (has(in, 3) ? in[3].nbytes() : 0),
                   .written = out[0].nbytes()});
}

template <class Run>
void grad_run(Ins in, Outs out, const GradAttr& a, Run&& run) {
  const std::vector<int64_t> rows = source_rows("grouped_gemm_grad", in, 2, 3, choices(in));
  const int64_t* const r = rows.empty() ? nullptr : rows.data();
  run(a.gathers_b ? nullptr : r, a.gathers_b ? r : nullptr);
  grad_report(in, out, a, rows);
}

template <class Isa>
void grad_simd(Ins in, Outs out, const GradAttr& a) {
  grad_run(in, out, a, [&](const int64_t* a_rows, const int64_t* b_rows) {
    grouped::outer<Isa>(out[0].size(0), in[2].data<int64_t>(), in[0].data<float>(), a_rows,
                        in[0].size(1), in[1].data<float>(), b_rows, in[1].size(1),
                        out[0].data<float>());
  });
}

// Whether order and position are given; they have to fit x, the operand that is read through them.
bool routed(const char* op, Ins in, const Tensor& x) {
  if (has(in, 3) != has(in, 4))
    throw value_error(str(op, ": order and position go together; found one of them"));
  if (!has(in, 3)) return false;
  const Tensor &order = in[3], &position = in[4];
  if (position.rank() != 2 || order.rank() != 1 || order.numel() != position.numel() ||
      position.size(0) != x.size(0) || order.dtype() != DType::i64 ||
      position.dtype() != DType::i64)
    throw shape_error(str(op, ": order ", order, " and position ", position,
                          ", expected i64 [T K] and [T, K] for ", x));
  return true;
}

Metas grad_shape(Ins in, const GradAttr& a) {
  const char* const op = "grouped_gemm_grad";
  rules::arity(op, in, 3, 5);
  rules::same_dtype(op, in.first(2));
  rules::floating(op, in, 0);
  rules::rank(op, in, 0, 2), rules::rank(op, in, 1, 2), rules::rank(op, in, 2, 1);
  if (in[2].numel() < 1) throw shape_error(str(op, ": offsets ", in[2], ", expected [N + 1]"));
  offsets_operand(op, in[2], in[2].numel() - 1);
  const Tensor &gathered = in[a.gathers_b ? 1 : 0], &slots = in[a.gathers_b ? 0 : 1];
  const int64_t rows = routed(op, in, gathered) ? in[3].numel() : gathered.size(0);
  if (slots.size(0) != rows)
    throw shape_error(str(op, ": found ", slots, ", expected ", rows, " rows, one for each slot"));
  return {{{in[2].numel() - 1, in[0].size(1), in[1].size(1)}, in[0].dtype()}};
}

using S = SampleIn;
SampleIn index(const Shape& s, std::vector<double> v) {
  return {s, 0, 1, S::integers, {}, DType::i64, std::move(v)};
}
// Three tokens, two choices, four experts: expert 2 has no row, one row was dropped.
const std::vector<double> kOffsets{0, 2, 3, 3, 5}, kOrder{1, 4, 0, 3, 5, -1},
    kPosition{2, 0, -1, 3, 1, 4};
const SampleIn kAbsent{{1}, 0, 1, S::absent};

const Op<GradAttr> grad_op{{
    .name = "grouped_gemm_grad",
    .doc = "Gradient of the weights of grouped_gemm",
    .equation = "dW[e] = sum over its slots p of a[p]^T b[p]",
    .shape = grad_shape,
    .cost =
        [](Ins in, std::span<const Meta>, const GradAttr& a) {
          const int64_t slots = in[a.gathers_b ? 0 : 1].size(0);
          return Cost{.mac = slots * in[0].size(1) * in[1].size(1)};
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref",
                 [](Ins in, Outs out, const GradAttr& a) {
                   grad_run(in, out, a, [&](const int64_t* a_rows, const int64_t* b_rows) {
                     dispatch_floating("grouped_gemm_grad", in[0].dtype(), [&]<class T>() {
                       outer_ref<T>(in, out[0], a_rows, b_rows);
                     });
                   });
                 }}},
    .aux_ins = {4},
    .data_dependent = true,
    .samples =
        {{{{{3, 5}}, {{6, 4}}, index({5}, kOffsets), index({6}, kOrder), index({3, 2}, kPosition)}},
         {{{{1, 1}}, {{1, 1}}, index({2}, {0, 1})}},
         {{{{4, 37}},
           {{2, 19}},
           index({3}, {0, 3, 4}),
           index({4}, {0, 1, 3, 2}),
           index({2, 2}, {0, 1, 3, 2})},
          {true}}},
}};

// ---- grouped_gemm: x, weight, offsets, order?, position? ----

template <bool Relu>
constexpr const char* gemm_name = Relu ? "grouped_gemm_relu" : "grouped_gemm";

template <bool Relu>
Metas gemm_shape(Ins in, const GroupedGemmAttr& a) {
  const char* const op = gemm_name<Relu>;
  rules::arity(op, in, 3, 5);
  rules::same_dtype(op, in.first(2));
  rules::floating(op, in, 0);
  rules::rank(op, in, 0, 2), rules::rank(op, in, 1, 3), rules::rank(op, in, 2, 1);
  const Tensor &x = in[0], &w = in[1];
  const int64_t k = w.size(a.transpose_weight ? 2 : 1), n = w.size(a.transpose_weight ? 1 : 2);
  if (x.size(1) != k)
    throw shape_error(str(op, ": x ", x, " and weight ", w, " differ in the number of features (",
                          x.size(1), " and ", k, ")"));
  offsets_operand(op, in[2], w.size(0));
  if (!routed(op, in, x)) return {{{x.size(0), n}, x.dtype()}};
  return {{{in[3].numel(), n}, x.dtype()}};
}

template <bool Relu, class Run>
void gemm_run(Ins in, Outs out, Run&& run) {
  const std::vector<int64_t> rows = source_rows(gemm_name<Relu>, in, 2, 3, choices(in));
  const Tensor &x = in[0], &w = in[1];
  const int64_t k = x.size(1), n = out[0].size(1), bytes = info(x.dtype()).bytes;
  const int64_t* const o = in[2].data<int64_t>();
  const int64_t used = o[w.size(0)];
  run(grouped::Groups{w.size(0), o, rows.empty() ? nullptr : rows.data()}, k, n);
  dispatch_floating(gemm_name<Relu>, x.dtype(), [&]<class T>() {
    std::fill(out[0].data<T>() + used * n, out[0].data<T>() + out[0].numel(), T(0));
  });
  int64_t experts = 0;
  for (int64_t e = 0; e < w.size(0); ++e) experts += o[e + 1] > o[e];
  report_executed({.mac = used * k * n,
                   .cmp = Relu ? used * n : 0,
                   .read = touched_rows(rows, used, x.size(0)) * k * bytes +
                           experts * k * n * bytes + in[2].nbytes() +
                           (has(in, 3) ? in[3].nbytes() : 0),
                   .written = out[0].nbytes()});
}

template <bool Relu, class T>
void gemm_ref(Ins in, const Tensor& out, const GroupedGemmAttr& a, const grouped::Groups& g,
              int64_t k, int64_t n) {
  for (int64_t e = 0; e < g.count; ++e) {
    const T* const w = in[1].data<T>() + e * k * n;
    for (int64_t p = g.offsets[e]; p < g.offsets[e + 1]; ++p) {
      const T* const x = in[0].data<T>() + (g.rows ? g.rows[p] : p) * k;
      for (int64_t j = 0; j < n; ++j) {
        T acc = T(0);
        for (int64_t i = 0; i < k; ++i)
          acc = num::mac(acc, x[i], w[a.transpose_weight ? j * k + i : i * n + j]);
        if constexpr (Relu) acc = acc < T(0) ? T(0) : acc;
        out.data<T>()[p * n + j] = acc;
      }
    }
  }
}

template <class Isa, bool Relu>
void gemm_simd(Ins in, Outs out, const GroupedGemmAttr& a) {
  gemm_run<Relu>(in, out, [&](const grouped::Groups& g, int64_t k, int64_t n) {
    grouped::multiply<Isa>(g, in[0].data<float>(), {in[1].data<float>(), k, n, a.transpose_weight},
                           out[0].data<float>(), Relu);
  });
}

Bytes gemm_bytes(Ins in, std::span<const Meta> out, const GroupedGemmAttr&) {
  Bytes b = default_bytes(in, out, {}, Bits{1, 4});
  const Tensor& w = in[1];
  const int64_t experts = std::min(w.size(0), out[0].shape[0]);
  b.read += experts * w.size(1) * w.size(2) * info(w.dtype()).bytes;
  return b;
}

template <bool Relu>
Tensors gemm_backward(const Saved<GroupedGemmAttr>& s, Ins g) {
  const Tensor x = s.in(0), w = s.in(1), offsets = s.in(2);
  const bool gathers = s.has(3);
  const Tensor order = gathers ? s.in(3) : Tensor{}, position = gathers ? s.in(4) : Tensor{};
  const bool t = s.attr().transpose_weight;
  Tensor gy = g[0];
  if constexpr (Relu) gy = relu_grad(gy, s.out(0));
  Tensor gx, gw;
  if (s.needs(0)) {
    gx = grouped_gemm(gy, w, offsets, {}, {}, {!t});
    if (gathers) gx = combine(gx, {}, position, order);
  }
  if (s.needs(1))
    gw = t ? grad_op.one({gy, x, offsets, order, position}, {true})
           : grad_op.one({x, gy, offsets, order, position}, {false});
  return {gx, gw, {}, {}, {}};
}

template <bool Relu>
Rules<GroupedGemmAttr> gemm_rules() {
  return {
      .name = gemm_name<Relu>,
      .doc = Relu ? "Product of each expert's rows with its weights, and relu"
                  : "Product of each expert's rows with its weights",
      .equation = Relu ? "y[p] = max(0, x[row(p)] W[e]) for offsets[e] <= p < offsets[e+1]"
                       : "y[p] = x[row(p)] W[e] for offsets[e] <= p < offsets[e+1]",
      .shape = gemm_shape<Relu>,
      .cost =
          [](Ins in, std::span<const Meta> out, const GroupedGemmAttr&) {
            const int64_t results = out[0].shape.numel();
            return Cost{.mac = results * in[0].size(1), .cmp = Relu ? results : 0};
          },
      .bytes = gemm_bytes,
      .kernels = {simd_kernel<simd::Avx512>(gemm_simd<simd::Avx512, Relu>),
                  simd_kernel<simd::Avx2>(gemm_simd<simd::Avx2, Relu>),
                  simd_kernel<simd::Portable>(gemm_simd<simd::Portable, Relu>),
                  {"ref",
                   [](Ins in, Outs out, const GroupedGemmAttr& a) {
                     gemm_run<Relu>(in, out, [&](const grouped::Groups& g, int64_t k, int64_t n) {
                       dispatch_floating(gemm_name<Relu>, in[0].dtype(), [&]<class T>() {
                         gemm_ref<Relu, T>(in, out[0], a, g, k, n);
                       });
                     });
                   }}},
      .saves_in = {0, 1, 2, 3, 4},
      .saves_out = Relu ? Bits{0} : Bits{},
      .aux_ins = {4},
      .data_dependent = true,
      .backward = gemm_backward<Relu>,
      .samples = {{{{{3, 5}},
                    {{4, 5, 3}},
                    index({5}, kOffsets),
                    index({6}, kOrder),
                    index({3, 2}, kPosition)}},
                  {{{{1, 1}, 0.5, 1}, {{1, 1, 1}, 0.5, 1}, index({2}, {0, 1})}},
                  {{{{4, 37}}, {{2, 19, 37}}, index({3}, {0, 1, 4})}, {true}},
                  {{{{2, 6}},
                    {{2, 4, 6}},
                    index({3}, {0, 3, 4}),
                    index({4}, {0, 1, 3, 2}),
                    index({2, 2}, {0, 1, 3, 2})},
                   {true}}},
  };
}

const Op<GroupedGemmAttr> op{gemm_rules<false>()};
const Op<GroupedGemmAttr> relu_op{gemm_rules<true>()};

}  // namespace

Tensor grouped_gemm(const Tensor& x, const Tensor& weight, const Tensor& offsets,
                    const Tensor& order, const Tensor& position, const GroupedGemmAttr& attr) {
  return op.one({x, weight, offsets, order, position}, attr);
}
Tensor grouped_gemm_relu(const Tensor& x, const Tensor& weight, const Tensor& offsets,
                         const Tensor& order, const Tensor& position, const GroupedGemmAttr& attr) {
  return relu_op.one({x, weight, offsets, order, position}, attr);
}

}  // namespace wattle
