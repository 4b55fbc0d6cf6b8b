// Device code of the ops that draw random numbers: the same Philox4x32-10 stream as on the host.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// Number i of the stream `key` (core/rng.h).
WATTLE_HD uint32_t bits_at(uint64_t key, uint64_t i) {
  const uint64_t counter = i / 4;
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  const uint32_t lane = static_cast<uint32_t>(i % 4);
  return lane == 0 ? c0 : lane == 1 ? c1 : lane == 2 ? c2 : c3;
}
WATTLE_HD float unit(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

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
    y[i] = low + width * unit(bits_at(place.seed, place.at(i)));
  }
};

// Box and Muller for the pair that number `at` belongs to.
struct Normal {
  Place place;
  float mean, std;
  float* y;
  WATTLE_HD void operator()(int64_t i) const {
    const uint64_t at = place.at(i), pair = at / 2 * 2;
    const float u = unit(bits_at(place.seed, pair)), v = unit(bits_at(place.seed, pair + 1));
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
