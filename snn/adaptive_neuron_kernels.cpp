#include "snn/adaptive_neuron_kernels.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"

namespace wattle::snn {
namespace {

constexpr int64_t kBlock = 512;  // neurons; their states stay in the first-level cache

template <class F>
void with_fixed_rule(const AdaptiveRule& r, F&& fn) {
  const auto reset = [&]<AdaptiveKind Kind>() {
    if (r.hard) fn(FixedAdaptive<Kind, true>(r));
    else fn(FixedAdaptive<Kind, false>(r));
  };
  switch (r.kind) {
    case AdaptiveKind::klif: return reset.template operator()<AdaptiveKind::klif>();
    case AdaptiveKind::alif: return reset.template operator()<AdaptiveKind::alif>();
    case AdaptiveKind::izhikevich: return reset.template operator()<AdaptiveKind::izhikevich>();
  }
}

// A row of a block, whole vectors whatever its length: what lies behind the neurons is computed
// along and never stored.
struct alignas(64) Row {
  float at[kBlock] = {};
  Row(const float* from, int64_t n, double otherwise) { fill(from, n, otherwise); }
  Row() = default;
  void fill(const float* from, int64_t n, double otherwise) {
    if (from) std::copy(from, from + n, at);
    else std::fill(at, at + n, static_cast<float>(otherwise));
  }
};

template <class Isa, class R>
void forward_block(const AdaptiveForward& f, const R& r, int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  Row v(f.v ? f.v + begin : nullptr, n, r.start()), w(f.w ? f.w + begin : nullptr, n, 0);
  Row x, h, s;
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    using V = simd::f32<N>;
    const V one = V{} + 1.0f, none{};
    const AdaptiveStep<Lanes<N>, R> step(r, V{} + f.gain);
    for (int64_t i = 0; i < n; i += N)
      simd::store<N>(h.at + i, step.before(simd::load<N>(v.at + i), simd::load<N>(w.at + i)));
    for (int64_t t = 0; t < f.steps; ++t) {
      const int64_t at = t * f.n + begin;
      x.fill(f.x + at, n, 0);
      for (int64_t i = 0; i < n; i += N) {
        V vi = simd::load<N>(v.at + i), wi = simd::load<N>(w.at + i);
        const V hi = step(simd::load<N>(x.at + i), simd::load<N>(h.at + i), vi, wi);
        simd::store<N>(v.at + i, vi);
        simd::store<N>(w.at + i, wi);
        simd::store<N>(h.at + i, hi);
        simd::store<N>(s.at + i, if_fires<Lanes<N>>(r, hi, one, none));
      }
      std::copy(h.at, h.at + n, f.h + at);
      std::copy(s.at, s.at + n, f.spikes + at);
    }
  });
  std::copy(v.at, v.at + n, f.v_end + begin);
  if (f.w_end) std::copy(w.at, w.at + n, f.w_end + begin);
}

// Returns the gradient of the gain.
template <class Isa, class R>
double backward_block(const AdaptiveBackward& b, const R& r, int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  const auto from = [&](const float* p) { return p ? p + begin : nullptr; };
  Row gv(from(b.gv), n, 0), gw(from(b.gw), n, 0), v0(from(b.v), n, r.start()), w0(from(b.w), n, 0);
  Row h, before, up, more, gain, sg;
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    using V = simd::f32<N>;
    const AdaptiveGrad<Lanes<N>, R> g(r, V{} + b.gain, b.learned);
    const auto slopes = [&](const Row& of) WATTLE_INLINE_BODY {
      surrogate_row<N>(r.surrogate, static_cast<float>(r.v_th), of.at, sg.at, n);
    };
    const auto back = [&](int64_t i, V more_up, V hi, V sg, V v, bool last) WATTLE_INLINE_BODY {
      V gvi = simd::load<N>(gv.at + i), gwi = simd::load<N>(gw.at + i),
        k = simd::load<N>(gain.at + i);
      const V gx = g(more_up, hi, sg, v, last, gvi, gwi, k);
      simd::store<N>(gv.at + i, gvi);
      simd::store<N>(gw.at + i, gwi);
      simd::store<N>(gain.at + i, k);
      return gx;
    };
    for (int64_t t = b.steps; t-- > 0;) {
      const int64_t at = t * b.n + begin;
      h.fill(b.h + at, n, 0);
      up.fill(b.gs ? b.gs + at : nullptr, n, 0);
      more.fill(b.gh ? b.gh + at : nullptr, n, 0);
      if (R::kind == AdaptiveKind::izhikevich && t > 0) before.fill(b.h + at - b.n, n, 0);
      slopes(h);
      for (int64_t i = 0; i < n; i += N) {
        const V hi = simd::load<N>(h.at + i), slope = simd::load<N>(sg.at + i);
        const V v = t > 0 ? g.step.after(simd::load<N>(before.at + i)) : simd::load<N>(v0.at + i);
        const V u = simd::load<N>(up.at + i) * slope + simd::load<N>(more.at + i);
        simd::store<N>(up.at + i, back(i, u, hi, slope, v, t == b.steps - 1));
      }
      std::copy(up.at, up.at + n, b.gx + at);
    }
    if (R::kind != AdaptiveKind::alif) return;
    for (int64_t i = 0; i < n; i += N)
      simd::store<N>(h.at + i, g.step.before(simd::load<N>(v0.at + i), simd::load<N>(w0.at + i)));
    slopes(h);
    for (int64_t i = 0; i < n; i += N)
      back(i, V{}, simd::load<N>(h.at + i), simd::load<N>(sg.at + i), simd::load<N>(v0.at + i),
           false);
  });
  std::copy(gv.at, gv.at + n, b.gv0 + begin);
  if (b.gw0) std::copy(gw.at, gw.at + n, b.gw0 + begin);
  double all = 0;
  for (int64_t i = 0; i < n; ++i) all += double{gain.at[i]};
  return all;
}

}  // namespace

template <class Isa>
void adaptive_forward(const AdaptiveForward& f) {
  with_fixed_rule(f.rule, [&](const auto& r) {
    const int64_t blocks = (f.n + kBlock - 1) / kBlock;
    parallel_for(blocks, std::max<int64_t>(1, 16 / f.steps), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        forward_block<Isa>(f, r, i * kBlock, std::min(f.n, (i + 1) * kBlock));
    });
  });
}

template <class Isa>
void adaptive_backward(const AdaptiveBackward& b) {
  const int64_t blocks = (b.n + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks));
  with_fixed_rule(b.rule, [&](const auto& r) {
    parallel_for(blocks, std::max<int64_t>(1, 16 / b.steps), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        sums[static_cast<size_t>(i)] =
            backward_block<Isa>(b, r, i * kBlock, std::min(b.n, (i + 1) * kBlock));
    });
  });
  double all = 0;
  for (double s : sums) all += s;
  *b.ggain = static_cast<float>(all);
}

#define WATTLE_ADAPTIVE_FOR(Isa)                               \
  template void adaptive_forward<Isa>(const AdaptiveForward&); \
  template void adaptive_backward<Isa>(const AdaptiveBackward&);
WATTLE_ADAPTIVE_FOR(simd::Portable)
#if defined(__x86_64__)
WATTLE_ADAPTIVE_FOR(simd::Avx2)
WATTLE_ADAPTIVE_FOR(simd::Avx512)
#endif
#undef WATTLE_ADAPTIVE_FOR

}  // namespace wattle::snn
