// Which range of numbers the integers shall cover: what an observer saw of a tensor, and the scale
// and zero point that follow from it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "quant/ops.h"

namespace wattle::quant {

enum class Mapping : uint8_t {
  symmetric,   ///< zero point 0, scale = largest magnitude / qmax
  asymmetric,  ///< the range, stretched to hold 0, onto [qmin, qmax]
};

/// Scale, zero point (f32, one number each or one a channel) and range of the integers.
struct QParams {
  Tensor scale, zero_point;
  AffineAttr attr;
};

/// Scale and zero point of the ranges [min_i, max_i]; the names and rules of torchao. A range of
/// nothing gets the scale 1.1920929e-07 (PyTorch's eps).
QParams choose_qparams_affine(const std::vector<double>& min, const std::vector<double>& max,
                              Mapping mapping, const AffineAttr& attr);
/// The ops of quant/ops.h with these parameters, which follow x to its device.
inline Tensor quantize(const Tensor& x, const QParams& p) {
  const Device where = x.device();
  return quantize_affine(x, p.scale.to(where), p.zero_point.to(where), p.attr);
}
inline Tensor fake_quantize(const Tensor& x, const QParams& p) {
  const Device where = x.device();
  return fake_quantize_affine(x, p.scale.to(where), p.zero_point.to(where),
                              FakeQuantizeAttr{p.attr});
}
/// Of a weight: a symmetric range of -qmax..qmax for each index of `axis`.
QParams choose_weight_qparams(const Tensor& weight, int64_t axis, int64_t qmax = 127);

/// Looks at tensors and proposes a range for all of them.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void observe(const Tensor& x) = 0;
  /// Throws value_error before the first observe().
  virtual QParams qparams(Mapping mapping, const AffineAttr& attr) const = 0;
};

/// minmax; ema (moving average of minimum and maximum, 1 % of each new one); percentile (clips 0.01
/// % of the magnitudes); mse (the clip with the least squared error); entropy (the clip whose 128
/// levels keep most of the distribution, by Kullback-Leibler divergence). Throws value_error for
/// others.
std::unique_ptr<Observer> make_observer(const std::string& name, double percentile = 99.99);

}  // namespace wattle::quant
