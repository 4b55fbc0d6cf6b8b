// What max and min share. Over a single dim the results are {values, indices}, over several or all
// dims {values}. Not-a-number wins; of equal elements the first one does.
#pragma once
#include "core/simd_math.h"
#include "ops/reduce.h"

namespace wattle::extremum {

using reduce::DimAttr;

inline bool with_indices(const DimAttr& a) { return a.dim.size() == 1; }

template <bool Largest>
constexpr const char* op_name = Largest ? "max" : "min";

/// Whether v replaces the best so far. One comparison, whatever the values are.
template <bool Largest, class T>
bool beats(const T& v, const T& best) {
  bool better;
  if constexpr (Largest) better = v > best;
  else better = v < best;
  return (better || num::isnan(v)) && !num::isnan(best);
}

template <bool Largest>
Metas shape(Ins in, const DimAttr& a) {
  const char* name = op_name<Largest>;
  rules::arity(name, in, 1, 1);
  const uint32_t mask = rules::axis_mask(name, a.dim, in[0].rank());
  const Shape y = rules::reduced_shape(in[0].shape(), mask, a.keepdim);
  if (reduce::reduced_count(in[0].shape(), mask) == 0)
    throw shape_error(str(name, ": nothing to choose from in ", in[0].shape(), " over dim ",
                          a.dim.empty() ? std::string("all") : a.dim.str()));
  Metas out{{y, in[0].dtype()}};
  if (with_indices(a)) out.push_back({y, DType::i64});
  return out;
}

template <bool Largest>
Cost cost(Ins in, std::span<const Meta> out, const DimAttr&) {
  return {.cmp = in[0].numel() - out[0].shape.numel()};
}

/// Best element of n that lie `step` apart, and its number.
template <bool Largest, class T>
int64_t best_of(const T* x, int64_t n, int64_t step) {
  T top = x[0];
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) {
    if (!beats<Largest>(x[i * step], top)) continue;
    top = x[i * step];
    best = i;
  }
  return best;
}

template <bool Largest, class T>
void run_single(Ins in, Outs out, const DimAttr& a) {
  const Shape& s = in[0].shape();
  const int dim = normalize_axis(op_name<Largest>, a.dim[0], s.rank());
  const int64_t d = s.empty() ? 1 : s[dim];
  const int64_t inner = s.empty() ? 1 : s.numel(dim + 1, s.rank());
  const T* x = in[0].data<T>();
  T* y = out[0].data<T>();
  int64_t* index = out[1].data<int64_t>();
  const auto columns = [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const T* p = x + c / inner * d * inner + c % inner;
      index[c] = best_of<Largest>(p, d, inner);
      y[c] = p[index[c] * inner];
    }
  };
  if (std::is_same_v<T, Counted>) columns(0, out[0].numel());
  else parallel_for(out[0].numel(), d < (1 << 14) ? (1 << 14) / d : 1, columns);
}

template <bool Largest, class T>
void run_several(Ins in, Outs out, const DimAttr& a) {
  const uint32_t mask = rules::axis_mask(op_name<Largest>, a.dim, in[0].rank());
  const reduce::Split split = reduce::split_dims(in[0].shape(), mask);
  const T* x = in[0].data<T>();
  T* y = out[0].data<T>();
  reduce::for_each_result(split, [&](int64_t o, int64_t base) {
    const T* best = x + base;
    for_each_offset(split.reduced, split.reduced_strides, [&](int64_t k, int64_t i) {
      if (k > 0 && beats<Largest>(x[base + i], *best)) best = x + base + i;
    });
    y[o] = *best;
  });
}

template <bool Largest>
void ref(Ins in, Outs out, const DimAttr& a) {
  dispatch_all(op_name<Largest>, in[0].dtype(), [&]<class T>() {
    if (with_indices(a)) run_single<Largest, T>(in, out, a);
    else run_several<Largest, T>(in, out, a);
  });
}

// ---- SIMD: values over the last dims (or all of them) ----

inline Refusal whole_rows(Ins in, const DimAttr& a) {
  if (with_indices(a)) return {"gives values without indices"};
  const reduce::Runs r =
      reduce::merge_runs(in[0].shape(), rules::axis_mask("max", a.dim, in[0].rank()));
  if (r.count == 0 || r.count > 2 || !r.reduced[r.count - 1]) return {"reduces the last dims"};
  return {};
}

template <bool Largest, int N>
WATTLE_FORCE_INLINE float best_run(const float* p, int64_t n) {
  simd::f32<N> m = simd::set1<N>(p[0]);
  simd::i32<N> odd{};
  int64_t i = 0;
  for (; i + N <= n; i += N) {
    const simd::f32<N> v = simd::load<N>(p + i);
    odd |= v != v;
    m = (Largest ? v > m : v < m) ? v : m;
  }
  float lanes[N], best = p[0];
  int32_t nan[N];
  simd::store<N>(lanes, m);
  std::memcpy(nan, &odd, sizeof nan);
  for (int l = 0; l < N; ++l) {
    best = (Largest ? lanes[l] > best : lanes[l] < best) ? lanes[l] : best;
    if (nan[l]) return __builtin_nanf("");
  }
  for (; i < n; ++i) {
    best = (Largest ? p[i] > best : p[i] < best) ? p[i] : best;
    if (p[i] != p[i]) return p[i];
  }
  return best;
}

template <class Isa, bool Largest>
void rows_simd(Ins in, Outs out, const DimAttr&) {
  constexpr int64_t grain = 1 << 15;
  const float* x = in[0].data<float>();
  float* y = out[0].data<float>();
  const int64_t rows = out[0].numel();
  if (rows == 0) return;
  const int64_t n = in[0].numel() / rows, cuts = (n + grain - 1) / grain;
  std::vector<float> part(static_cast<size_t>(rows * cuts));
  parallel_for(rows * cuts, n < grain ? grain / n : 1, [&](int64_t first, int64_t last) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t c = first; c < last; ++c) {
        const int64_t begin = c % cuts * grain, left = n - begin;
        part[static_cast<size_t>(c)] =
            best_run<Largest, N>(x + c / cuts * n + begin, left < grain ? left : grain);
      }
    });
  });
  for (int64_t r = 0; r < rows; ++r) {
    const float* const p = part.data() + r * cuts;
    y[r] = p[best_of<Largest>(p, cuts, 1)];
  }
}

/// Puts gy at `index` along dim of zeros: the gradient over a single dim.
Tensor put(const Tensor& gy, const Tensor& index, const Shape& x, int64_t dim, bool keepdim);
/// Gradient of max and min.
Tensors backward(const char* op, const Saved<DimAttr>& s, Ins gy);

std::vector<Sample<DimAttr>> samples();

}  // namespace wattle::extremum
