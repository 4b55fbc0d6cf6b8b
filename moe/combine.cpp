// combine: out[t] = sum_k weight[t,k] y[position[t,k]].   dispatch_rows is its transpose:
//   y[order^-1] = weight x.   dweight[t,k] = <dout[t], y[position[t,k]]>   (row_dot)
// All three gather by the inverse of the other's index, so no two threads add to one place.
#include "core/simd.h"
#include "moe/ops.h"
#include "ops/indexing.h"

namespace wattle {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements

struct Sizes {
  int64_t tokens, k, slots, width;
};

// Checks weight [T,K] (may be absent), position [T,K], order [P].
Sizes sizes(const char* op, const Tensor& rows, const Tensor& weight, const Tensor& position,
            const Tensor& order) {
  if (position.rank() != 2 || order.rank() != 1 || order.numel() != position.numel())
    throw shape_error(
        str(op, ": position ", position, " and order ", order, ", expected [T, K] and [T K]"));
  if (rows.rank() != 2) throw shape_error(str(op, ": found ", rows, ", expected two dims"));
  if (weight && (weight.shape() != position.shape() || weight.dtype() != rows.dtype()))
    throw shape_error(
        str(op, ": weight ", weight, ", expected ", name(rows.dtype()), " ", position.shape()));
  return {position.size(0), position.size(1), order.numel(), rows.size(1)};
}

void expect_rows(const char* op, const Tensor& x, int64_t rows) {
  if (x.size(0) != rows)
    throw shape_error(str(op, ": ", x, " has ", x.size(0), " rows, expected ", rows));
}

void index_operands(const char* op, Ins in, int first) {
  rules::arity(op, in, 1, 4);
  for (int i = first; i < first + 2; ++i) {
    if (static_cast<int>(in.size()) <= i || !in[static_cast<size_t>(i)])
      throw value_error(str(op, ": order and position have to be given"));
    if (in[static_cast<size_t>(i)].dtype() != DType::i64)
      throw dtype_error(str(op, ": found ", in[static_cast<size_t>(i)], ", expected i64"));
  }
}

// Throws unless all numbers lie in [-1, size); returns how many are not -1.
int64_t used(const char* op, const Tensor& index, int64_t size) {
  const int64_t* p = index.data<int64_t>();
  int64_t n = 0;
  for (int64_t i = 0; i < index.numel(); ++i) {
    if (p[i] < -1 || p[i] >= size)
      throw value_error(str(op, ": index ", p[i], " at ", i, ", expected -1 to ", size - 1));
    n += p[i] >= 0;
  }
  return n;
}

// ---- combine: y [P,d], weight [T,K], position [T,K], order [P] ----

template <class T>
void combine_token(const T* y, const T* weight, const int64_t* position, int64_t k, int64_t width,
                   T* out) {
  for (int64_t j = 0; j < width; ++j) out[j] = T(0);
  for (int64_t c = 0; c < k; ++c) {
    if (position[c] < 0) continue;
    const T* const row = y + position[c] * width;
    if (weight)
      for (int64_t j = 0; j < width; ++j) out[j] += weight[c] * row[j];
    else
      for (int64_t j = 0; j < width; ++j) out[j] += row[j];
  }
}

// Work and bytes of `rows` rows out of the declared ones.
Cost rows_cost(Ins in, std::span<const Meta> out, int64_t rows, int64_t width, bool weighted,
               bool adds, int64_t row_bytes) {
  Cost c{.add = adds ? rows * width : 0, .mul = weighted ? rows * width : 0};
  c.read = rows * row_bytes;
  for (const Tensor& t : in) c.read += t ? t.nbytes() : 0;
  for (const Meta& m : out) c.written += storage_bytes(m.shape, m.dtype);
  return c;
}

void combine_report(Ins in, Outs out, int64_t rows, bool weighted) {
  const Tensor small[] = {in[2]};
  const Meta result[] = {out[0].meta()};
  const int64_t width = out[0].size(1);
  report_executed(rows_cost(small, result, rows, width, weighted, true,
                            (width + weighted) * info(out[0].dtype()).bytes));
}

void combine_ref(Ins in, Outs out, const NoAttr&) {
  const Sizes s = sizes("combine", in[0], in[1], in[2], in[3]);
  const int64_t rows = used("combine", in[2], s.slots);
  dispatch_floating("combine", in[0].dtype(), [&]<class T>() {
    for (int64_t t = 0; t < s.tokens; ++t)
      combine_token(in[0].data<T>(), in[1] ? in[1].data<T>() + t * s.k : nullptr,
                    in[2].data<int64_t>() + t * s.k, s.k, s.width, out[0].data<T>() + t * s.width);
  });
  combine_report(in, out, rows, in[1].defined());
}

// V vectors of one token's result. `next`: positions of the token after it, whose rows lie
// anywhere.
template <int N, int V>
WATTLE_FORCE_INLINE void combine_vectors(const float* y, const float* weight,
                                         const int64_t* position, const int64_t* next, int64_t k,
                                         int64_t width, float* out) {
  simd::f32<N> sum[V] = {};
  for (int64_t c = 0; c < k; ++c) {
    if (next[c] >= 0)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) __builtin_prefetch(y + next[c] * width + v * N);
    if (position[c] < 0) continue;
    const float* const row = y + position[c] * width;
    const float w = weight ? weight[c] : 1.0f;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const simd::f32<N> x = simd::load<N>(row + v * N);
      sum[v] += weight ? w * x : x;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) simd::store<N>(out + v * N, sum[v]);
}

template <class Isa>
void combine_simd(Ins in, Outs out, const NoAttr&) {
  const Sizes s = sizes("combine", in[0], in[1], in[2], in[3]);
  const int64_t rows = used("combine", in[2], s.slots);
  const float* const y = in[0].data<float>();
  parallel_for(s.tokens, 1 + kGrain / (s.k * s.width + 1), [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t* const position = in[2].data<int64_t>() + t * s.k;
        const int64_t* const next = t + 1 < end ? position + s.k : position;
        const float* const weight = in[1] ? in[1].data<float>() + t * s.k : nullptr;
        float* const o = out[0].data<float>() + t * s.width;
        int64_t j = 0;
        for (; j + 4 * N <= s.width; j += 4 * N)
          combine_vectors<N, 4>(y + j, weight, position, next, s.k, s.width, o + j);
        for (; j + N <= s.width; j += N)
          combine_vectors<N, 1>(y + j, weight, position, next, s.k, s.width, o + j);
        for (; j < s.width; ++j) {
          float sum = 0;
          for (int64_t c = 0; c < s.k; ++c)
            if (position[c] >= 0) sum += (weight ? weight[c] : 1.0f) * y[position[c] * s.width + j];
          o[j] = sum;
        }
      }
    });
  });
  combine_report(in, out, rows, in[1].defined());
}

Tensors combine_backward(const Saved<NoAttr>& s, Ins g);

// ---- dispatch_rows: x [T,d], weight [T,K], order [P], position [T,K] ----

void dispatch_report(Ins in, Outs out, int64_t rows, bool weighted) {
  const Tensor small[] = {in[2]};
  const Meta result[] = {out[0].meta()};
  const int64_t width = out[0].size(1), bytes = info(out[0].dtype()).bytes;
  Cost c = rows_cost(small, result, rows, width, weighted, false, weighted ? bytes : 0);
  std::vector<bool> seen(static_cast<size_t>(in[0].size(0)));
  const int64_t k = in[3].size(1);
  for (int64_t p = 0; p < in[2].numel(); ++p)
    if (const int64_t r = in[2].data<int64_t>()[p]; r >= 0 && !seen[static_cast<size_t>(r / k)])
      seen[static_cast<size_t>(r / k)] = true, c.read += width * bytes;
  report_executed(c);
}

template <class T>
void dispatch_run(Ins in, Outs out) {
  const Sizes s = sizes("dispatch_rows", in[0], in[1], in[3], in[2]);
  const int64_t rows = used("dispatch_rows", in[2], s.slots);
  const T* const weight = in[1] ? in[1].data<T>() : nullptr;
  parallel_for(s.slots, 1 + indexing::grain<T>(kGrain) / (s.width + 1), [&](int64_t b, int64_t e) {
    for (int64_t p = b; p < e; ++p) {
      const int64_t r = in[2].data<int64_t>()[p];
      T* const y = out[0].data<T>() + p * s.width;
      const T* const x = in[0].data<T>() + r / s.k * s.width;
      if (r < 0) std::fill(y, y + s.width, T(0));
      else if (!weight) std::copy(x, x + s.width, y);
      else
        for (int64_t j = 0; j < s.width; ++j) y[j] = weight[r] * x[j];
    }
  });
  dispatch_report(in, out, rows, weight != nullptr);
}

// ---- row_dot: a [T,d], b [P,d], position [T,K] -> [T,K] ----

template <class T>
void row_dot_run(Ins in, Outs out) {
  const int64_t tokens = in[2].size(0), k = in[2].size(1), width = in[0].size(1);
  const int64_t rows = used("row_dot", in[2], in[1].size(0));
  constexpr int64_t lanes = std::is_same_v<T, Counted> ? 1 : 16;
  parallel_for(tokens, 1 + indexing::grain<T>(kGrain) / (k * width + 1), [&](int64_t b, int64_t e) {
    for (int64_t r = b * k; r < e * k; ++r) {
      const int64_t p = in[2].data<int64_t>()[r];
      const T* const x = in[0].data<T>() + r / k * width;
      const T* const y = in[1].data<T>() + p * width;
      T sum[lanes];
      for (T& v : sum) v = T(0);
      int64_t j = 0;
      for (; p >= 0 && j + lanes <= width; j += lanes)
        for (int64_t i = 0; i < lanes; ++i) sum[i] += x[j + i] * y[j + i];
      for (int64_t i = 1; i < lanes; ++i) sum[0] += sum[i];
      for (; p >= 0 && j < width; ++j) sum[0] += x[j] * y[j];
      out[0].data<T>()[r] = sum[0];
    }
  });
  const Tensor small[] = {in[2]};
  const Meta result[] = {out[0].meta()};
  const int64_t bytes = width * info(in[0].dtype()).bytes;
  Cost c = rows_cost(small, result, rows, width, true, true, bytes);
  c.add += (lanes - 1) * rows;
  for (int64_t t = 0; t < tokens; ++t) {
    bool any = false;
    for (int64_t i = 0; i < k; ++i) any = any || in[2].data<int64_t>()[t * k + i] >= 0;
    c.read += any ? bytes : 0;
  }
  report_executed(c);
}

using S = SampleIn;
SampleIn index(const Shape& s, std::vector<double> v) {
  return {s, 0, 1, S::integers, {}, DType::i64, std::move(v)};
}
const std::vector<double> kOrder{1, 4, 0, 3, 5, -1}, kPosition{2, 0, -1, 3, 1, 4};
const SampleIn kAbsent{{1}, 0, 1, S::absent};

const Op<> dot_op{{
    .name = "row_dot",
    .doc = "Inner products of a token with the rows that it was sent to: gradient of the weights",
    .equation = "y[t,k] = <a[t], b[position[t,k]]>",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("row_dot", in, 3, 3);
          rules::same_dtype("row_dot", in.first(2));
          rules::floating("row_dot", in, 0);
          if (in[2].dtype() != DType::i64)
            throw dtype_error(str("row_dot: found ", in[2], ", expected i64"));
          rules::rank("row_dot", in, 0, 2), rules::rank("row_dot", in, 1, 2),
              rules::rank("row_dot", in, 2, 2);
          expect_rows("row_dot", in[0], in[2].size(0));
          if (in[0].size(1) != in[1].size(1))
            throw shape_error(str("row_dot: ", in[0], " and ", in[1], " differ in width"));
          return Metas{{in[2].shape(), in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NoAttr&) {
          const int64_t n = in[2].numel() * in[0].size(1);
          return Cost{.add = n, .mul = n};
        },
    .kernels = {{"ref",
                 [](Ins in, Outs out, const NoAttr&) {
                   dispatch_floating("row_dot", in[0].dtype(),
                                     [&]<class T>() { row_dot_run<T>(in, out); });
                 }}},
    .data_dependent = true,
    .samples = {{{{{3, 5}}, {{6, 5}}, index({3, 2}, kPosition)}},
                {{{{1, 1}}, {{1, 1}}, index({1, 1}, {0})}},
                {{{{2, 37}}, {{2, 37}}, index({2, 1}, {1, 0})}}},
}};

const Op<> dispatch_op{{
    .name = "dispatch_rows",
    .doc = "Rows of tokens in the slots of their experts",
    .equation = "y[p] = weight[t,k] x[t] where order[p] = t K + k",
    .shape =
        [](Ins in, const NoAttr&) {
          index_operands("dispatch_rows", in, 2);
          rules::floating("dispatch_rows", in, 0);
          const Sizes s = sizes("dispatch_rows", in[0], in[1], in[3], in[2]);
          expect_rows("dispatch_rows", in[0], s.tokens);
          return Metas{{{s.slots, s.width}, in[0].dtype()}};
        },
    .cost = [](Ins in, std::span<const Meta> out,
               const NoAttr&) { return Cost{.mul = in[1] ? out[0].shape.numel() : 0}; },
    .kernels = {{"ref",
                 [](Ins in, Outs out, const NoAttr&) {
                   dispatch_floating("dispatch_rows", in[0].dtype(),
                                     [&]<class T>() { dispatch_run<T>(in, out); });
                 }}},
    .saves_in = {0, 1, 2, 3},
    .aux_ins = {3},
    .data_dependent = true,
    .backward =
        [](const Saved<NoAttr>& s, Ins g) {
          const Tensor weight = s.has(1) ? s.in(1) : Tensor{};
          Tensor gx, gw;
          if (s.needs(0)) gx = combine(g[0], weight, s.in(3), s.in(2));
          if (s.has(1) && s.needs(1)) gw = dot_op.one({s.in(0), g[0], s.in(3)});
          return Tensors{gx, gw, {}, {}};
        },
    .samples = {{{{{3, 5}}, {{3, 2}}, index({6}, kOrder), index({3, 2}, kPosition)}},
                {{{{1, 1}}, {{1, 1}}, index({1}, {0}), index({1, 1}, {0})}},
                {{{{2, 37}}, kAbsent, index({4}, {1, 3, 0, 2}), index({2, 2}, {2, 0, 3, 1})}}},
}};

const Op<> op{{
    .name = "combine",
    .doc = "Sum of the results of a token's experts, by weight",
    .equation = "out[t] = sum_k weight[t,k] y[position[t,k]]",
    .shape =
        [](Ins in, const NoAttr&) {
          index_operands("combine", in, 2);
          rules::floating("combine", in, 0);
          const Sizes s = sizes("combine", in[0], in[1], in[2], in[3]);
          expect_rows("combine", in[0], s.slots);
          return Metas{{{s.tokens, s.width}, in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NoAttr&) {
          return Cost{.add = in[0].numel(), .mul = in[1] ? in[0].numel() : 0};
        },
    .kernels = {simd_kernel<simd::Avx512>(combine_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(combine_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(combine_simd<simd::Portable>),
                {"ref", combine_ref}},
    .saves_in = {0, 1, 2, 3},
    .aux_ins = {3},
    .data_dependent = true,
    .backward = combine_backward,
    .samples = {{{{{6, 5}}, {{3, 2}}, index({3, 2}, kPosition), index({6}, kOrder)}},
                {{{{1, 1}}, {{1, 1}}, index({1, 1}, {0}), index({1}, {0})}},
                {{{{4, 37}}, kAbsent, index({2, 2}, {2, 0, 3, 1}), index({4}, {1, 3, 0, 2})}}},
}};

Tensors combine_backward(const Saved<NoAttr>& s, Ins g) {
  const Tensor weight = s.has(1) ? s.in(1) : Tensor{};
  Tensor gy, gw;
  if (s.needs(0)) gy = dispatch_op.one({g[0], weight, s.in(3), s.in(2)});
  if (s.has(1) && s.needs(1)) gw = dot_op.one({g[0], s.in(0), s.in(2)});
  return {gy, gw, {}, {}};
}

}  // namespace

Tensor combine(const Tensor& y, const Tensor& weight, const Tensor& position, const Tensor& order) {
  return op.one({y, weight, position, order});
}
Tensor dispatch_rows(const Tensor& x, const Tensor& weight, const Tensor& order,
                     const Tensor& position) {
  return dispatch_op.one({x, weight, order, position});
}

}  // namespace wattle
