// Elementwise maps (included by core/cuda/each.cuh).
#pragma once
#include "core/cuda/each.cuh"

namespace wattle::device {

// ---- Elementwise maps over operands of any strides, broadcast to the result ----

template <int K>
struct Broadcast {
  int rank = 0;
  bool small = false;  // indices fit 32 bits
  bool plain = false;  // every operand is dense or a single number
  int64_t size[max_rank] = {}, stride[K][max_rank] = {};
  WATTLE_HD void offsets(int64_t i, int64_t* o) const {
    for (int k = 0; k < K; ++k) o[k] = 0;
    if (small) {
      uint32_t left = static_cast<uint32_t>(i);
      for (int d = rank - 1; d >= 0; --d) {
        const uint32_t s = static_cast<uint32_t>(size[d]), q = left / s, r = left - q * s;
        for (int k = 0; k < K; ++k) o[k] += r * stride[k][d];
        left = q;
      }
      return;
    }
    for (int d = rank - 1; d >= 0; --d) {
      const int64_t q = i / size[d], r = i - q * size[d];
      for (int k = 0; k < K; ++k) o[k] += r * stride[k][d];
      i = q;
    }
  }
};

/// Dimensions that all operands pass in one stride are merged, those of size 1 dropped.
template <int K>
Broadcast<K> broadcast(const View& y, const View* const* operand) {
  Broadcast<K> b;
  b.small = y.numel < (int64_t{1} << 31);
  for (int d = 0; d < y.rank; ++d) {
    if (y.size[d] == 1) continue;
    int64_t s[K];
    bool merges = b.rank > 0;
    for (int k = 0; k < K; ++k) {
      const View& x = *operand[k];
      const int at = d - (y.rank - x.rank);
      s[k] = at >= 0 && x.size[at] != 1 ? x.stride[at] : 0;
      merges = merges && b.stride[k][b.rank - 1] == s[k] * y.size[d];
    }
    const int to = merges ? b.rank - 1 : b.rank++;
    b.size[to] = merges ? b.size[to] * y.size[d] : y.size[d];
    for (int k = 0; k < K; ++k) b.stride[k][to] = s[k];
  }
  b.plain = b.rank <= 1;
  return b;
}

template <class F, class Out, class... In>
struct MapBody {
  F f;
  Out* y;
  const void* p[sizeof...(In)];
  Broadcast<sizeof...(In)> b;
  template <size_t... I>
  WATTLE_HD Out at(const int64_t* o, std::index_sequence<I...>) const {
    return f(static_cast<const In*>(p[I])[o[I]]...);
  }
  WATTLE_HD void operator()(int64_t i) const {
    int64_t o[sizeof...(In)];
    if (b.plain)
      for (int k = 0; k < static_cast<int>(sizeof...(In)); ++k)
        o[k] = b.rank ? i * b.stride[k][0] : 0;
    else b.offsets(i, o);
    y[i] = at(o, std::make_index_sequence<sizeof...(In)>{});
  }
};

// ---- Four f32 a thread, where every operand is as dense as the result ----

struct alignas(16) Four {
  float v[4];
};
// One kernel for both ways: a second one for every op would take as long to compile again.
template <class F, class... In>
struct FoursBody {
  MapBody<F, float, In...> one;
  int64_t n;
  bool fours;
  explicit FoursBody(const MapBody<F, float, In...>& body, int64_t count)
      : one(body), n(count), fours(body.b.rank == 1 && aligned(body.y)) {
    for (size_t k = 0; k < sizeof...(In); ++k)
      fours = fours && body.b.stride[k][0] == 1 && aligned(body.p[k]);
  }
  static bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(Four) == 0; }
  int64_t threads() const { return fours ? (n + 3) / 4 : n; }

  template <class... Fours>
  WATTLE_HD Four apply(const Fours&... x) const {
    Four r;
    for (int k = 0; k < 4; ++k) r.v[k] = one.f(x.v[k]...);
    return r;
  }
  template <size_t... I>
  WATTLE_HD void four(int64_t i, std::index_sequence<I...>) const {
    reinterpret_cast<Four*>(one.y)[i] = apply(static_cast<const Four*>(one.p[I])[i]...);
  }
  WATTLE_HD void operator()(int64_t i) const {
    if (fours && 4 * i + 4 <= n) return four(i, std::make_index_sequence<sizeof...(In)>{});
    const int64_t begin = fours ? 4 * i : i, end = fours ? n : i + 1;
    for (int64_t j = begin; j < end; ++j) one(j);
  }
};

/// y = f(in[0], in[1], ...) with the element types given.
template <class Out, class... In, class F>
const char* map(const Launch& l, F f) {
  constexpr int K = sizeof...(In);
  MapBody<F, Out, In...> body{f, out<Out>(l, 0), {}, {}};
  const View* operand[K];
  for (int k = 0; k < K; ++k) {
    operand[k] = &l.in[k];
    body.p[k] = l.in[k].data;
  }
  body.b = broadcast<K>(l.out[0], operand);
  const int64_t n = l.out[0].numel;
  if constexpr ((std::is_same_v<Out, float> && ... && std::is_same_v<In, float>)) {
    const FoursBody<F, In...> fours(body, n);
    return each(fours.threads(), fours);
  } else {
    return each(n, body);
  }
}

}  // namespace wattle::device
