// Counts of what the gather kernels do, from the loops of conv2d_kernels.cpp.
#include "core/simd.h"
#include "ops/conv2d_gather.h"

namespace wattle::conv {
namespace {

template <class Isa>
Work gather_work(const Gather& q, bool bias) {
  const int64_t weights = q.groups * q.co * q.ci * q.rs(), channels = q.groups * q.co;
  const int64_t tiled = tiled_images(q.n), tiles = ceil_div(tiled, kLanes);
  const int64_t strips = strips_of(q), blocks = q.groups * ceil_div(q.co, max_block<Isa::width>);
  int64_t rows = 0;  // input rows packed, those that two strips share twice
  for (int64_t i = 0; i < strips; ++i) {
    const Span out = part_of(q.ho, strips, i);
    rows += input_rows(q, out).size();
  }
  const int64_t packed_in = q.groups * q.ci * rows * q.wi, outputs = channels * q.ho * q.wo;
  const int64_t tap_pixels = q.rows.sum() * q.cols.sum() * q.ci;
  Work k;
  k.mac = tiles * kLanes * channels * tap_pixels;
  k.read = weights + tiled * packed_in + tiles * tap_pixels * (blocks * kLanes + channels) +
           tiles * kLanes * outputs + (bias ? tiles * outputs : 0);
  k.written = weights + tiles * kLanes * (packed_in + outputs) + tiled * outputs;

  for (int64_t i = 0; i < phases_of(q); ++i) {
    const Phase f = phase_at(q, i);
    const int64_t panels = ceil_div(f.pixels, kLanes), rows = f.taps_r * f.taps_s * q.ci;
    k.mac += panels * kLanes * channels * rows;
    k.read += panels * rows * (blocks * kLanes + channels) + channels * f.pixels +
              (bias ? panels * channels : 0);
    k.written += panels * kLanes * (q.groups * rows + channels) + channels * f.pixels;
  }
  k.read += (q.n - tiled) * q.groups * tap_pixels;  // elements gathered; zeros are not read
  k.read *= 4, k.written *= 4;
  return k;
}

}  // namespace

template <class Isa>
Work forward_work(const Geometry& g, bool bias) {
  return gather_work<Isa>(forward_gather(g), bias);
}
template <class Isa>
Work grad_input_work(const Geometry& g) {
  return gather_work<Isa>(backward_gather(g), false);
}

#define WATTLE_CONV(ISA)                                  \
  template Work forward_work<ISA>(const Geometry&, bool); \
  template Work grad_input_work<ISA>(const Geometry&);
WATTLE_CONV(simd::Portable)
#if defined(__x86_64__)
WATTLE_CONV(simd::Avx2)
WATTLE_CONV(simd::Avx512)
#endif
#undef WATTLE_CONV

}  // namespace wattle::conv
