// What the ops of affine quantisation share: one scale and zero point for a tensor, or one for each
// index of an axis (a channel).
#pragma once
#include "core/error.h"
#include "ops/rules.h"
#include "quant/ops.h"

namespace wattle::quant {

/// x seen as [outer, channels, inner].
struct Channels {
  int64_t outer = 1, count = 1, inner = 1;
};

/// Throws unless scale and zero point have one number, or one for each index of `axis`.
inline Channels channels_of(const char* op, const Tensor& x, const Tensor& scale,
                            const Tensor& zero_point, int64_t axis) {
  Channels c;
  if (axis < -1 || axis >= x.rank())
    throw shape_error(
        str(op, ": axis ", axis, " found for ", x, ", expected -1 to ", x.rank() - 1));
  if (axis == -1) c.inner = x.numel();
  else {
    c.outer = x.shape().numel(0, static_cast<int>(axis));
    c.count = x.size(static_cast<int>(axis));
    c.inner = x.shape().numel(static_cast<int>(axis) + 1, x.rank());
  }
  for (const Tensor& t : {scale, zero_point})
    if (t.numel() != c.count || t.rank() > 1)
      throw shape_error(
          str(op, ": scale or zero point is ", t, ", expected ", c.count,
              axis == -1 ? " number for the tensor" : " numbers, one for each channel"));
  return c;
}

inline void check_range(const char* op, const wattle::AffineAttr& a, int64_t least, int64_t most) {
  if (a.qmin >= a.qmax || a.qmin < least || a.qmax > most)
    throw value_error(str(op, ": qmin ", a.qmin, " and qmax ", a.qmax, " found, expected ", least,
                          " <= qmin < qmax <= ", most));
}

/// Calls fn(channel, first element) for every run of `inner` elements, channel by channel.
template <class F>
void for_each_run(const Channels& c, F&& fn) {
  for (int64_t channel = 0; channel < c.count; ++channel)
    for (int64_t outer = 0; outer < c.outer; ++outer)
      fn(channel, (outer * c.count + channel) * c.inner);
}

/// Nearest whole number, ties to even, of a number below 2^22: vector code everywhere.
WATTLE_FORCE_INLINE float round_small(float x) { return (x + 12582912.0f) - 12582912.0f; }

}  // namespace wattle::quant
