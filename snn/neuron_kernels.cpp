#include "snn/neuron_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "snn/neuron_grad.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

constexpr int64_t kBlock = 512;  // neurons

// Dividing by a power of two is multiplying by another one, to the bit.
NeuronRule without_division(NeuronRule r) {
  int exponent = 0;
  if (std::frexp(r.tau, &exponent) == 0.5) r.product = true;
  return r;
}

template <class F>
void with_fixed_rule(const NeuronRule& r, F&& fn) {
  const auto delayed = [&]<Charge C, ResetTo R>() {
    if (r.delayed) fn(FixedRule<C, R, true>(r));
    else fn(FixedRule<C, R, false>(r));
  };
  const auto reset = [&]<Charge C>() {
    if (r.reset == ResetTo::hard) delayed.template operator()<C, ResetTo::hard>();
    else if (r.reset == ResetTo::soft) delayed.template operator()<C, ResetTo::soft>();
    else if (r.reset == ResetTo::clear) fn(FixedRule<C, ResetTo::clear, true>(r));
    else fn(FixedRule<C, ResetTo::none, false>(r));  // delayed or not, it is the same
  };
  switch (r.charge) {
    case Charge::integrate: return reset.template operator()<Charge::integrate>();
    case Charge::lif: return reset.template operator()<Charge::lif>();
    case Charge::lif_plain: return reset.template operator()<Charge::lif_plain>();
    case Charge::lif_rest: return reset.template operator()<Charge::lif_rest>();
    case Charge::leaky: return reset.template operator()<Charge::leaky>();
  }
}

// Bit l is that of lane l, which is 0 or -1.
template <int N>
WATTLE_FORCE_INLINE uint32_t bits_of(simd::i32<N> mask) {
  typedef int8_t Bytes __attribute__((vector_size(N)));
  const Bytes b = __builtin_convertvector(mask, Bytes);
  uint32_t all = 0;
  for (int at = 0; at < N; at += 8) {
    uint64_t w = 0;
    std::memcpy(&w, reinterpret_cast<const char*>(&b) + at, N < 8 ? N : 8);
    all |= static_cast<uint32_t>((w & 0x8040201008040201u) * 0x0101010101010101u >> 56) << at;
  }
  return all;
}

// One vector of neurons and one step. Returns the spikes, a bit each.
template <int N, class R>
WATTLE_FORCE_INLINE simd::f32<N> step_lanes(const R& r, float d, float keep, simd::f32<N> x,
                                            float* v, float* h) {
  using V = simd::f32<N>;
  const V p = potential<Lanes<N>>(r, simd::load<N>(v), x, V{} + d, V{} + keep);
  simd::store<N>(h, p);
  simd::store<N>(v, state<Lanes<N>>(r, p));
  return p;
}

// Neurons [begin, end) of a row; `bit` is the place of the first one's spikes in each step's bits.
template <class Isa, class R>
void forward_block(const NeuronForward& f, const R& r, int64_t begin, int64_t end, uint8_t* bits,
                   int64_t bits_step) {
  alignas(64) float v[kBlock];
  const int64_t n = end - begin;
  for (int64_t i = 0; i < n; ++i) v[i] = f.v ? f.v[begin + i] : static_cast<float>(r.start());
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    using V = simd::f32<N>;
    const V one = V{} + 1.0f, zero{}, set = (V)(simd::i32<N>{} - 1);
    for (int64_t t = 0; t < f.steps; ++t) {
      const float* const x = f.x + t * f.x_step + begin;
      float* const h = f.h + t * f.n + begin;
      float* const s = f.spikes ? f.spikes + t * f.n + begin : nullptr;
      uint8_t* const b = bits ? bits + t * bits_step : nullptr;
      const auto store_spikes = [&](int64_t i, V p, int64_t count) WATTLE_INLINE_BODY {
        if (s) {
          const V as_float = if_fires<Lanes<N>>(r, p, one, zero);
          if (count == N) simd::store<N>(s + i, as_float);
          else std::memcpy(s + i, &as_float, static_cast<size_t>(count) * sizeof(float));
          return;
        }
        uint32_t m =
            bits_of<N>((simd::i32<N>)if_fires<Lanes<N>>(r, p, set, zero)) & ((1u << count) - 1);
        if (N == 4 && i % 8 == 4) m = static_cast<uint32_t>(b[i / 8]) | m << 4;
        std::memcpy(b + i / 8, &m, static_cast<size_t>(spike_row_bytes(count)));
      };
      int64_t i = 0;
      for (; i + N <= n; i += N)
        store_spikes(i, step_lanes<N>(r, f.d, f.keep, simd::load<N>(x + i), v + i, h + i), N);
      if (i == n) continue;
      float rest[2][N] = {};
      std::copy(x + i, x + n, rest[0]);
      const V p = step_lanes<N>(r, f.d, f.keep, simd::load<N>(rest[0]), v + i, rest[1]);
      std::copy(rest[1], rest[1] + (n - i), h + i);
      store_spikes(i, p, n - i);
    }
  });
  std::copy(v, v + n, f.v_end + begin);
}

// gh of a block of neurons, step by step backwards; sums up the gradient of d.
template <class Isa, class R>
double backward_block(const NeuronBackward& b, const R& r, int64_t begin, int64_t end) {
  alignas(64) float buffer[10][kBlock];
  float *const gh = buffer[0], *const gv = buffer[1], *const v0 = buffer[2], *const sum = buffer[3],
               *const h = buffer[4], *const gs = buffer[5], *const more = buffer[6],
               *const gx = buffer[7], *const sg = buffer[8], *const earlier = buffer[9];
  const bool clear = r.reset == ResetTo::clear;
  const int64_t n = end - begin;
  // The last vector of a block is computed whole, with zeros past its end.
  if (n % 16 != 0) std::memset(buffer, 0, sizeof buffer);
  for (float* const zero : {gh, sum, sg}) std::fill_n(zero, n, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    gv[i] = b.gv ? b.gv[begin + i] : 0.0f;
    v0[i] = b.v ? b.v[begin + i] : static_cast<float>(r.start());
  }
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    using V = simd::f32<N>;
    const NeuronGrad<Lanes<N>, R> g(r, V{} + b.d, V{} + b.keep);
    const auto slopes = [&](const float* of) WATTLE_INLINE_BODY {
      surrogate_row<N>(r.surrogate, static_cast<float>(r.v_th), of, sg, n);
    };
    const bool whole = n % N == 0;  // vectors: rows are read and written where they lie
    const bool has_gs = b.gs, has_gh = b.gh, sum_x = b.sum_x;  // not to be read again after a store
    const auto row = [&](const float* from, float* copy) WATTLE_INLINE_BODY {
      if (whole && from) return from;
      if (from) std::copy(from, from + n, copy);
      return static_cast<const float*>(copy);
    };
    for (int64_t t = b.steps; t-- > 0;) {
      const int64_t at = t * b.n + begin;
      const float *const ht = row(b.h + at, h), *const gst = row(b.gs ? b.gs + at : nullptr, gs),
                         *const ght = row(b.gh ? b.gh + at : nullptr, more);
      float* const out = b.sum_x || !whole ? gx : b.gx + at;
      const bool is_last = t == b.steps - 1;
      slopes(ht);
      const float* const before = !r.learned && !clear ? nullptr
                                  : t > 0              ? row(b.h + at - b.n, earlier)
                                                       : v0;
      for (int64_t i = 0; i < n; i += N) {
        const V p = simd::load<N>(ht + i), slope = simd::load<N>(sg + i);
        V x = is_last ? g.last(simd::load<N>(gv + i), p, slope)
                      : g.back(simd::load<N>(gh + i), p, slope);
        if (has_gs) x += simd::load<N>(gst + i) * slope;
        if (has_gh) x += simd::load<N>(ght + i);
        simd::store<N>(gh + i, x);
        const V to_x = g.to_x(x, clear ? simd::load<N>(before + i) : V{});
        simd::store<N>(out + i, sum_x && !is_last ? simd::load<N>(gx + i) + to_x : to_x);
      }
      if (b.sum_x ? t == 0 : !whole) std::copy(gx, gx + n, b.gx + (b.sum_x ? begin : at));
      if (!r.learned) continue;
      for (int64_t i = 0; i < n; i += N) {
        const V from = simd::load<N>(before + i), v = t > 0 ? state<Lanes<N>>(r, from) : from;
        const V e = g.by_decay(simd::load<N>(ht + i), v);
        simd::store<N>(sum + i, simd::load<N>(sum + i) + simd::load<N>(gh + i) * e);
      }
    }
    if (g.start_fires()) slopes(v0);
    for (int64_t i = 0; i < n; i += N)
      simd::store<N>(
          gh + i, g.to_start(simd::load<N>(gh + i), simd::load<N>(v0 + i), simd::load<N>(sg + i)));
  });
  std::copy(gh, gh + n, b.gv0 + begin);
  double all = 0;
  for (int64_t i = 0; i < n; ++i) all += double{sum[i]};
  return all;
}

}  // namespace

template <class Isa>
void neuron_forward(const NeuronForward& f) {
  const int64_t rows = f.n / f.row, blocks = (f.row + kBlock - 1) / kBlock;
  const int64_t bytes = spike_row_bytes(f.row);
  with_fixed_rule(without_division(f.rule), [&](const auto& r) {
    parallel_for(rows * blocks, std::max<int64_t>(1, 16384 / (f.steps * std::min(f.row, kBlock))),
                 [&](int64_t first, int64_t last) {
                   for (int64_t i = first; i < last; ++i) {
                     const int64_t row = i / blocks, col = i % blocks * kBlock;
                     uint8_t* const b = f.bits ? f.bits + row * bytes + col / 8 : nullptr;
                     forward_block<Isa>(f, r, row * f.row + col,
                                        row * f.row + std::min(f.row, col + kBlock), b,
                                        rows * bytes);
                   }
                 });
  });
}

template <class Isa>
void neuron_backward(const NeuronBackward& b) {
  const int64_t blocks = (b.n + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks));
  with_fixed_rule(without_division(b.rule), [&](const auto& r) {
    parallel_for(blocks, std::max<int64_t>(1, 16 / b.steps), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        sums[static_cast<size_t>(i)] =
            backward_block<Isa>(b, r, i * kBlock, std::min(b.n, (i + 1) * kBlock));
    });
  });
  double all = 0;
  for (double s : sums) all += s;
  *b.gdecay = static_cast<float>(all);
}

#define WATTLE_NEURON_FOR(Isa)                             \
  template void neuron_forward<Isa>(const NeuronForward&); \
  template void neuron_backward<Isa>(const NeuronBackward&);
WATTLE_NEURON_FOR(simd::Portable)
#if defined(__x86_64__)
WATTLE_NEURON_FOR(simd::Avx2)
WATTLE_NEURON_FOR(simd::Avx512)
#endif
#undef WATTLE_NEURON_FOR

}  // namespace wattle::snn
