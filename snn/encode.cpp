#include "snn/encode.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "ops/ops.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

// Data preparation, like decoding an image: outside the ops and their counters.
template <class F>
Tensor spikes_where(const char* encoder, const Shape& one, int64_t steps, F&& fires) {
  if (steps < 1) throw value_error(str(encoder, ": found ", steps, " steps, expected at least 1"));
  if (one.rank() < 1) throw shape_error(str(encoder, ": found a scalar, expected [...]"));
  Shape shape{steps};
  for (int64_t s : one) shape.push_back(s);
  const Tensor out = Tensor::zeros(shape, DType::spike);
  auto* const bits = static_cast<uint8_t*>(out.raw());
  const int64_t columns = one.back(), bytes = spike_row_bytes(columns);
  const int64_t rows = columns ? one.numel() / columns : 0;
  parallel_for(steps * rows, std::max<int64_t>(1, 8192 / std::max<int64_t>(columns, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r)
                   for (int64_t j = 0; j < columns; ++j)
                     if (fires(r / rows, r % rows * columns + j)) {
                       uint8_t& b = bits[r * bytes + j / 8];
                       b = static_cast<uint8_t>(b | 1u << (j % 8));
                     }
               });
  return out;
}

std::vector<float> numbers(const char* encoder, const Tensor& x) {
  if (x.dtype() != DType::f32) throw dtype_error(str(encoder, ": found ", x, ", expected f32"));
  std::vector<float> v = x.values<float>();
  for (float a : v)
    if (!std::isfinite(a)) throw value_error(str(encoder, ": found ", a, ", expected a number"));
  return v;
}

double time_of(double x, int64_t steps, const Latency& how) {
  const double last = static_cast<double>(steps - 1);
  if (!how.logarithmic) return last * (1 - std::clamp(x, how.threshold, 1.0));
  const double y = std::max(x, how.threshold + 1e-7);
  return how.tau * std::log(y / (y - how.threshold));
}

}  // namespace

Tensor encode_rate(const Tensor& x, int64_t steps, uint64_t seed, double gain, double offset) {
  const std::vector<float> v = numbers("encode_rate", x);
  const auto n = static_cast<int64_t>(v.size());
  return spikes_where("encode_rate", x.shape(), steps, [&](int64_t t, int64_t i) {
    const double p = gain * double{v[static_cast<size_t>(i)]} + offset;
    return double{uniform_at(seed, static_cast<uint64_t>(t * n + i))} < p;
  });
}

Tensor latency_times(const Tensor& x, int64_t steps, const Latency& how) {
  const std::vector<float> v = numbers("encode_latency", x);
  if (steps < 1)
    throw value_error(str("encode_latency: found ", steps, " steps, expected at least 1"));
  const double last = static_cast<double>(steps - 1);
  std::vector<double> times(v.size());
  double latest = 0;
  for (size_t i = 0; i < v.size(); ++i)
    times[i] = time_of(double{v[i]}, steps, how), latest = std::max(latest, times[i]);
  const double stretch = how.logarithmic && how.normalized && latest > 0 ? last / latest : 1;
  const Tensor out = Tensor::empty(x.shape(), DType::f32);
  for (size_t i = 0; i < v.size(); ++i)
    out.data<float>()[i] = static_cast<float>(std::min(times[i] * stretch, last));
  return out;
}

Tensor encode_latency(const Tensor& x, int64_t steps, const Latency& how) {
  const std::vector<float> times = latency_times(x, steps, how).values<float>();
  return spikes_where("encode_latency", x.shape(), steps, [&](int64_t t, int64_t i) {
    return std::lround(times[static_cast<size_t>(i)]) == t;
  });
}

Tensor encode_delta(const Tensor& x, double threshold) {
  const std::vector<float> v = numbers("encode_delta", x);
  if (x.rank() < 2) throw shape_error(str("encode_delta: found ", x, ", expected [T, ...]"));
  const Shape one(x.shape().begin() + 1, x.rank() - 1);
  const int64_t n = one.numel();
  return spikes_where("encode_delta", one, x.size(0), [&](int64_t t, int64_t i) {
    const float before = t == 0 ? 0 : v[static_cast<size_t>((t - 1) * n + i)];
    return v[static_cast<size_t>(t * n + i)] - before >= static_cast<float>(threshold);
  });
}

Tensor encode_phase(const Tensor& x, int64_t steps, int bits) {
  const std::vector<float> v = numbers("encode_phase", x);
  if (bits < 1 || bits > 24)
    throw value_error(str("encode_phase: found ", bits, " bits, expected 1 to 24"));
  const double most = std::ldexp(1.0, bits) - 1;
  return spikes_where("encode_phase", x.shape(), steps, [&](int64_t t, int64_t i) {
    const double scaled = std::floor(std::ldexp(double{v[static_cast<size_t>(i)]}, bits));
    const auto plane = static_cast<uint32_t>(std::clamp(scaled, 0.0, most));
    return (plane >> (bits - 1 - static_cast<int>(t % bits)) & 1u) != 0;
  });
}

}  // namespace wattle::snn
