// Device code of cast. Types of codes are quant/codecs.cu's; bf16 and fp16, in which a GPU
// computes, have their own, faster loops here.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/cuda/each.cuh"
#include "core/rounding.h"

namespace wattle::device {
namespace {

// Any plain type to any other in one kernel, the types looked up for every element: a kernel for
// each of the 49 pairs would take as long to compile as all other elementwise ops together. Towards
// zero; negative numbers wrap around in unsigned types by way of 64 bits.
struct Convert {
  int32_t from, to;
  const void* x;
  void* y;
  WATTLE_HD void operator()(int64_t i) const {
    const bool real = from == f32 || from == f64;
    const double d = from == f32   ? static_cast<double>(static_cast<const float*>(x)[i])
                     : from == f64 ? static_cast<const double*>(x)[i]
                                   : 0;
    store(i, real, d, real ? 0 : load(i));
  }
  WATTLE_HD int64_t load(int64_t i) const {
    switch (from) {
      case i64: return static_cast<const int64_t*>(x)[i];
      case i32: return static_cast<const int32_t*>(x)[i];
      case i8: return static_cast<const int8_t*>(x)[i];
      default: return static_cast<const uint8_t*>(x)[i];
    }
  }
  WATTLE_HD void store(int64_t i, bool real, double d, int64_t n) const {
    switch (to) {
      case f32:
        static_cast<float*>(y)[i] = real ? static_cast<float>(d) : static_cast<float>(n);
        break;
      case f64: static_cast<double*>(y)[i] = real ? d : static_cast<double>(n); break;
      case boolean: static_cast<bool*>(y)[i] = real ? d != 0 : n != 0; break;
      case i64: static_cast<int64_t*>(y)[i] = real ? static_cast<int64_t>(d) : n; break;
      case i32:
        static_cast<int32_t*>(y)[i] = static_cast<int32_t>(real ? static_cast<int64_t>(d) : n);
        break;
      default:
        static_cast<uint8_t*>(y)[i] = static_cast<uint8_t>(real ? static_cast<int64_t>(d) : n);
    }
  }
};
WATTLE_HD __nv_bfloat16 half_of(float x, __nv_bfloat16) { return __float2bfloat16_rn(x); }
WATTLE_HD __half half_of(float x, __half) { return __float2half_rn(x); }
WATTLE_HD float largest(__nv_bfloat16) { return 3.38953138925153547590470800371487867e38f; }
WATTLE_HD float largest(__half) { return 65504.0f; }
WATTLE_HD float smallest(__nv_bfloat16) { return 0x1p-133f; }
WATTLE_HD float smallest(__half) { return 0x1p-24f; }
// To the nearest, ties to even; what lies beyond the largest number becomes it if `saturate`.
template <class H>
struct ToHalf {
  bool saturate;
  WATTLE_HD H operator()(float v) const {
    const float top = largest(H{});
    if (saturate && v > top) return half_of(top, H{});
    if (saturate && v < -top) return half_of(-top, H{});
    return half_of(v, H{});
  }
};
struct FromHalf {
  template <class H>
  WATTLE_HD float operator()(H x) const {
    return static_cast<float>(x);
  }
};

// The same with a count of what it did to the numbers: a fold, four numbers at a time.
template <class H>
struct CountedHalves {
  using Acc = CastStats;
  ToHalf<H> round;
  const float* x;
  H* y;
  int64_t n;
  CastStats* counts;
  WATTLE_HD CastStats start() const { return {}; }
  WATTLE_HD void merge(CastStats& a, const CastStats& b) const { a += b; }
  WATTLE_HD void store(int64_t, const CastStats& a) const { *counts += a; }
  WATTLE_HD void take(CastStats& s, int64_t, int64_t quad) const {
    const int64_t first = 4 * quad, m = n - first < 4 ? n - first : 4;
    s.n += m;
    for (int i = 0; i < 4; ++i)
      if (i < m) one(s, first + i);
  }
  WATTLE_HD void one(CastStats& s, int64_t i) const {
    const float v = x[i];
    const H h = round(v);
    y[i] = h;
    const float back = static_cast<float>(h), size = back < 0 ? -back : back;
    if (back != back) {
      ++s.nar;
    } else if (back != v) {
      ++s.inexact;
      s.to_max += size >= largest(H{});
      s.to_min += size == smallest(H{});
      s.to_zero += size == 0;
    }
  }
};

// Between f32 and a half, to the nearest.
template <class H>
const char* cast_half(const Launch& l) {
  if (l.out[0].dtype == f32) return map<float, H>(l, FromHalf{});
  const ToHalf<H> round{integer(l, "saturate") != 0};
  if (!l.rounding) return map<H, float>(l, round);
  const int64_t n = l.in[0].numel;
  return fold(1, (n + 3) / 4,
              CountedHalves<H>{round, in<float>(l, 0), out<H>(l, 0), n, l.rounding});
}

const char* cast_any(const Launch& l);
// Integers to codes and back have f64 between them.
const char* through_doubles(const Launch& l) {
  const Scratch numbers(l.in[0].numel * 8);
  if (!numbers)
    return fail("out of memory for %lld numbers", static_cast<long long>(l.in[0].numel));
  View between = l.in[0];
  between.dtype = f64, between.data = numbers.as<void>();
  Launch first = l, second = l;
  first.out = &between, second.in = &between;
  const char* const error = cast_any(first);
  return error ? error : cast_any(second);
}

const char* cast_any(const Launch& l) {
  const int32_t from = l.in[0].dtype, to = l.out[0].dtype;
  const auto coded = [](int32_t t) { return t >= bf16; };
  const auto half = [](int32_t t) { return t == bf16 || t == fp16; };
  const auto real = [](int32_t t) { return t == f32 || t == f64; };
  if (!coded(from) && !coded(to))
    return each(l.in[0].numel, Convert{from, to, l.in[0].data, l.out[0].data});
  if (!(coded(from) || real(from)) || !(coded(to) || real(to))) return through_doubles(l);
  if (!says(l, "rounding", "stochastic") &&
      ((half(from) && to == f32) || (from == f32 && half(to))))
    return (half(from) ? from : to) == bf16 ? cast_half<__nv_bfloat16>(l) : cast_half<__half>(l);
  return cast_codes(l);
}

}  // namespace

WATTLE_DEVICE_OP(cast) { return cast_any(l); }

}  // namespace wattle::device
