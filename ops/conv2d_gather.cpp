#include "ops/conv2d_gather.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

namespace wattle::conv {
namespace {

constexpr int64_t kTileFloats = 96 << 10;  // a strip's input and output stay in the L2 cache

void fill_table(Axis& a, int64_t taps) {
  a.at.assign(a.count.size() * static_cast<size_t>(taps), -1);
  for (size_t o = 0; o < a.count.size(); ++o)
    for (int64_t i = 0; i < a.count[o]; ++i)
      a.at[o * static_cast<size_t>(taps) + static_cast<size_t>(a.tap0[o] + i * a.tap_step)] =
          a.in0[o] + i * a.in_step;
}

// input = o * stride - pad + tap * dil
Axis forward_axis(int64_t in, int64_t out, int64_t taps, int64_t stride, int64_t pad, int64_t dil) {
  Axis a;
  a.in_step = dil;
  for (int64_t o = 0; o < out; ++o) {
    const int64_t first = o * stride - pad;
    const int64_t lo = first >= 0 ? 0 : ceil_div(-first, dil);
    const int64_t hi = first >= in ? 0 : std::min(taps, ceil_div(in - first, dil));
    a.tap0.push_back(lo), a.in0.push_back(first + lo * dil);
    a.count.push_back(std::max<int64_t>(0, hi - lo));
  }
  fill_table(a, taps);
  return a;
}

// The transposed relation: o of gx meets row q of gy where q * stride = o + pad - tap * dil.
// Packed taps are flipped, so that q grows with them.
Axis backward_axis(int64_t in, int64_t out, int64_t taps, int64_t stride, int64_t pad,
                   int64_t dil) {
  Axis a;
  const int64_t common = std::gcd(stride, dil);
  a.in_step = dil / common, a.tap_step = stride / common, a.period = stride;
  for (int64_t o = 0; o < out; ++o) {
    int64_t in0 = 0, tap0 = 0, count = 0;
    for (int64_t t = taps - 1; t >= 0; --t) {
      const int64_t q = o + pad - t * dil;
      if (q < 0 || q % stride != 0 || q / stride >= in) continue;
      if (count++ == 0) in0 = q / stride, tap0 = taps - 1 - t;
    }
    a.in0.push_back(in0), a.tap0.push_back(tap0), a.count.push_back(count);
  }
  fill_table(a, taps);
  return a;
}

// First tap and number of taps that the outputs first, first + period, ... meet.
std::pair<int64_t, int64_t> phase_taps(const Axis& a, int64_t first, int64_t taps) {
  for (auto o = static_cast<size_t>(first); o < a.count.size(); o += static_cast<size_t>(a.period))
    if (a.count[o] > 0) {
      const int64_t tap = a.tap0[o] % a.tap_step;
      return {tap, ceil_div(taps - tap, a.tap_step)};
    }
  return {0, 0};
}

}  // namespace

int64_t Axis::sum() const { return std::accumulate(count.begin(), count.end(), int64_t{0}); }

Gather forward_gather(const Geometry& g) {
  return {g.n,
          g.groups,
          g.c / g.groups,
          g.k / g.groups,
          g.h,
          g.w,
          g.ho,
          g.wo,
          g.r,
          g.s,
          forward_axis(g.h, g.ho, g.r, g.stride_h, g.pad_h, g.dil_h),
          forward_axis(g.w, g.wo, g.s, g.stride_w, g.pad_w, g.dil_w)};
}

Gather backward_gather(const Geometry& g) {
  return {g.n,
          g.groups,
          g.k / g.groups,
          g.c / g.groups,
          g.ho,
          g.wo,
          g.h,
          g.w,
          g.r,
          g.s,
          backward_axis(g.ho, g.h, g.r, g.stride_h, g.pad_h, g.dil_h),
          backward_axis(g.wo, g.w, g.s, g.stride_w, g.pad_w, g.dil_w)};
}

Span input_rows(const Gather& q, Span rows) {
  Span in{q.hi, 0};
  for (auto o = static_cast<size_t>(rows.begin); o < static_cast<size_t>(rows.end); ++o) {
    if (q.rows.count[o] == 0) continue;
    in.begin = std::min(in.begin, q.rows.in0[o]);
    in.end = std::max(in.end, q.rows.in0[o] + (q.rows.count[o] - 1) * q.rows.in_step + 1);
  }
  return in.begin < in.end ? in : Span{0, 0};
}

int64_t strips_of(const Gather& q) {
  const int64_t row_floats = (q.wo * q.co + q.wi * q.ci * q.hi / q.ho) * kLanes;
  const int64_t rows = std::clamp<int64_t>(kTileFloats / std::max<int64_t>(row_floats, 1), 1, q.ho);
  return ceil_div(q.ho, rows);
}

int64_t tiled_images(int64_t n) { return n % kLanes >= kLanes / 2 ? n : n / kLanes * kLanes; }

Phase phase_at(const Gather& q, int64_t index) {
  Phase p{};
  p.row = index / q.cols.period, p.col = index % q.cols.period;
  p.height = std::max<int64_t>(0, ceil_div(q.ho - p.row, q.rows.period));
  p.width = std::max<int64_t>(0, ceil_div(q.wo - p.col, q.cols.period));
  p.pixels = (q.n - tiled_images(q.n)) * p.height * p.width;
  std::tie(p.tap_r, p.taps_r) = phase_taps(q.rows, p.row, q.r);
  std::tie(p.tap_s, p.taps_s) = phase_taps(q.cols, p.col, q.s);
  return p;
}

}  // namespace wattle::conv
