// Device code of the ops that draw random numbers: the same Philox4x32-10 stream as on the host.
#include "core/cuda/each.cuh"
#include "core/philox.h"

namespace wattle::device {
namespace {

// Number i of the stream `key`. Chosen by hand: an array with an index that varies lies in memory.
WATTLE_HD uint32_t bits_at(uint64_t key, uint64_t i) {
  const auto r = philox(key, i / 4);
  const uint32_t lane = static_cast<uint32_t>(i % 4);
  return lane == 0 ? r[0] : lane == 1 ? r[1] : lane == 2 ? r[2] : r[3];
}

// Where the call stands in its stream; a replayed graph moves on by what it is told.
struct Place {
  uint64_t seed, offset;
  const Live* live;
  explicit Place(const Launch& l)
      : seed(static_cast<uint64_t>(integer(l, "seed"))),
        offset(static_cast<uint64_t>(integer(l, "offset"))),
        live(l.live) {}
  WATTLE_HD uint64_t at(int64_t i) const {
    return offset + (live ? live->random_delta : 0) + static_cast<uint64_t>(i);
  }
};

struct Uniform {
  Place place;
  float low, width;
  float* y;
  WATTLE_HD void operator()(int64_t i) const {
    y[i] = low + width * to_unit(bits_at(place.seed, place.at(i)));
  }
};

// Box and Muller for the pair that number `at` belongs to.
struct Normal {
  Place place;
  float mean, std;
  float* y;
  WATTLE_HD void operator()(int64_t i) const {
    const uint64_t at = place.at(i), pair = at / 2 * 2;
    const float u = to_unit(bits_at(place.seed, pair)), v = to_unit(bits_at(place.seed, pair + 1));
    const double radius = ::sqrt(-2.0 * ::log(1.0 - static_cast<double>(u)));
    const double angle = 2.0 * 3.14159265358979323846 * static_cast<double>(v);
    y[i] = mean + std * static_cast<float>(radius * (at % 2 ? ::sin(angle) : ::cos(angle)));
  }
};

template <class T>
struct Dropout {
  Place place;
  uint32_t limit;
  T scale;
  const T* x;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    y[i] = bits_at(place.seed, place.at(i)) >> 8 < limit ? T(0) : x[i] * scale;
  }
};

}  // namespace

WATTLE_DEVICE_OP(uniform) {
  const double low = number(l, "low"), high = number(l, "high");
  return each(l.out[0].numel, Uniform{Place(l), static_cast<float>(low),
                                      static_cast<float>(high - low), out<float>(l, 0)});
}
WATTLE_DEVICE_OP(normal) {
  return each(l.out[0].numel, Normal{Place(l), static_cast<float>(number(l, "mean")),
                                     static_cast<float>(number(l, "std")), out<float>(l, 0)});
}
WATTLE_DEVICE_OP(dropout) {
  const double p = number(l, "p");
  const bool identity = !integer(l, "training") || p == 0;
  const uint32_t limit = identity ? 0 : static_cast<uint32_t>(::ceil(p * 0x1p24));
  const double scale = identity ? 1 : p < 1 ? 1 / (1 - p) : 0;
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[0].numel,
                Dropout<T>{Place(l), limit, static_cast<T>(scale), in<T>(l, 0), out<T>(l, 0)});
  });
}

}  // namespace wattle::device
