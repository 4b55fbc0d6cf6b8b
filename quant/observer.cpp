#include "quant/observer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace wattle::quant {
namespace {

constexpr double eps = 1.1920929e-07;

struct Range {
  double min = 0, max = 0;
};

Range range_of(const Tensor& x) {
  Range r;
  bool first = true;
  for (const float v : x.values<float>()) {
    if (!std::isfinite(v))
      throw value_error(str("observer: found ", v, " in ", x, ", expected finite numbers"));
    r = first ? Range{v, v} : Range{std::min<double>(r.min, v), std::max<double>(r.max, v)};
    first = false;
  }
  return r;
}

class MinMax : public Observer {
 public:
  explicit MinMax(double share) : share_(share) {}
  void observe(const Tensor& x) override {
    const Range r = range_of(x);
    if (!seen_) range_ = r;
    else if (share_ < 1) {
      range_.min += share_ * (r.min - range_.min);
      range_.max += share_ * (r.max - range_.max);
    } else {
      range_ = {std::min(range_.min, r.min), std::max(range_.max, r.max)};
    }
    seen_ = true;
  }
  QParams qparams(Mapping mapping, const AffineAttr& attr) const override {
    if (!seen_) throw value_error("observer: has seen nothing yet");
    return choose_qparams_affine({range_.min}, {range_.max}, mapping, attr);
  }

 private:
  double share_;  // of a new range; 1: the union of all
  Range range_;
  bool seen_ = false;
};

// Magnitudes in 2048 bins; the bins double in width when a larger number comes.
class Histogram : public Observer {
 public:
  static constexpr size_t bins = 2048;
  void observe(const Tensor& x) override {
    const Range r = range_of(x);
    range_ = total_ == 0 ? r : Range{std::min(range_.min, r.min), std::max(range_.max, r.max)};
    const double most = std::max(std::fabs(r.min), std::fabs(r.max));
    if (width_ == 0 && most > 0) width_ = most / bins;
    while (width_ > 0 && most > width_ * bins) widen();
    for (const float v : x.values<float>()) {
      const size_t at = width_ > 0 ? static_cast<size_t>(std::fabs(double{v}) / width_) : 0;
      count_[std::min(at, bins - 1)] += 1;
    }
    total_ += static_cast<double>(x.numel());
  }
  QParams qparams(Mapping mapping, const AffineAttr& attr) const override {
    if (total_ == 0) throw value_error("observer: has seen nothing yet");
    const double t = clip(attr);
    return choose_qparams_affine({std::max(range_.min, -t)}, {std::min(range_.max, t)}, mapping,
                                 attr);
  }

 protected:
  virtual double clip(const AffineAttr& attr) const = 0;
  double count_[bins] = {}, total_ = 0, width_ = 0;

 private:
  void widen() {
    for (size_t i = 0; i < bins / 2; ++i) count_[i] = count_[2 * i] + count_[2 * i + 1];
    std::fill(count_ + bins / 2, count_ + bins, 0.0);
    width_ *= 2;
  }
  Range range_;
};

class Percentile final : public Histogram {
 public:
  explicit Percentile(double p) : p_(p) {
    if (!(p > 0 && p <= 100))
      throw value_error(str("observer: percentile ", p, " found, expected one in (0, 100]"));
  }

 private:
  double clip(const AffineAttr&) const override {
    double below = 0;
    for (size_t i = 0; i < bins; ++i) {
      below += count_[i];
      if (below >= total_ * p_ / 100) return width_ * static_cast<double>(i + 1);
    }
    return width_ * bins;
  }
  double p_;
};

class Mse final : public Histogram {
  // Rounding spreads errors evenly over a step; what is clipped errs by its distance to the clip.
  double clip(const AffineAttr& attr) const override {
    const double levels = static_cast<double>(std::max(attr.qmax, -attr.qmin - 1));
    double best = INFINITY, at = width_ * bins;
    for (size_t c = 16; c <= bins; c += 4) {
      const double t = width_ * static_cast<double>(c), step = t / levels;
      double error = 0;
      for (size_t i = 0; i < bins; ++i) {
        const double v = width_ * (static_cast<double>(i) + 0.5);
        error += count_[i] * (v <= t ? step * step / 12 : (v - t) * (v - t));
      }
      if (error < best) best = error, at = t;
    }
    return at;
  }
};

class Entropy final : public Histogram {
  double clip(const AffineAttr&) const override {
    double best = INFINITY;
    size_t at = bins;
    for (size_t c = 128; c <= bins; c += 8)
      if (const double d = divergence(c); d < best) best = d, at = c;
    return width_ * static_cast<double>(at);
  }
  // Of the first c bins, with what lies beyond in the last one, from their 128 levels.
  double divergence(size_t c) const {
    std::vector<double> p(count_, count_ + c), q(c, 0.0);
    for (size_t i = c; i < bins; ++i) p[c - 1] += count_[i];
    for (size_t level = 0; level < 128; ++level) {
      const size_t from = level * c / 128, to = (level + 1) * c / 128;
      double sum = 0;
      int filled = 0;
      for (size_t i = from; i < to; ++i) {
        sum += count_[i];
        filled += p[i] > 0 ? 1 : 0;
      }
      for (size_t i = from; i < to; ++i)
        if (p[i] > 0) q[i] = sum / filled;
    }
    double sum_p = 0, sum_q = 0, d = 0;
    for (size_t i = 0; i < c; ++i) sum_p += p[i], sum_q += q[i];
    if (sum_q == 0) return INFINITY;
    for (size_t i = 0; i < c; ++i)
      if (p[i] > 0) d += p[i] / sum_p * std::log(p[i] / sum_p / std::max(q[i] / sum_q, 1e-12));
    return d;
  }
};

Tensor as_tensor(const std::vector<float>& v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}

}  // namespace

QParams choose_qparams_affine(const std::vector<double>& min, const std::vector<double>& max,
                              Mapping mapping, const AffineAttr& attr) {
  std::vector<float> scale, zero;
  for (size_t i = 0; i < min.size(); ++i) {
    const double lo = std::min(min[i], 0.0), hi = std::max(max[i], 0.0);
    const auto qmin = static_cast<double>(attr.qmin), qmax = static_cast<double>(attr.qmax);
    if (mapping == Mapping::symmetric) {
      const double levels = std::min(qmax, -qmin < qmax ? qmax : -qmin);
      scale.push_back(static_cast<float>(std::max(std::max(-lo, hi) / levels, eps)));
      zero.push_back(0);
    } else {
      const double s = std::max((hi - lo) / (qmax - qmin), eps);
      scale.push_back(static_cast<float>(s));
      zero.push_back(static_cast<float>(std::clamp(qmin - std::nearbyint(lo / s), qmin, qmax)));
    }
  }
  return {as_tensor(scale), as_tensor(zero), attr};
}

QParams choose_weight_qparams(const Tensor& weight, int64_t axis, int64_t qmax) {
  const std::vector<float> w = weight.values<float>();
  const int64_t channels = axis < 0 ? 1 : weight.size(static_cast<int>(axis));
  const int64_t inner =
      axis < 0 ? weight.numel() : weight.shape().numel(static_cast<int>(axis) + 1, weight.rank());
  std::vector<double> most(static_cast<size_t>(channels), 0.0);
  for (size_t i = 0; i < w.size(); ++i) {
    double& m = most[static_cast<size_t>(static_cast<int64_t>(i) / inner % channels)];
    m = std::max(m, std::fabs(double{w[i]}));
  }
  std::vector<double> least;
  for (double m : most) least.push_back(-m);
  return choose_qparams_affine(least, most, Mapping::symmetric, {axis, -qmax, qmax});
}

std::unique_ptr<Observer> make_observer(const std::string& name, double percentile) {
  if (name == "minmax") return std::make_unique<MinMax>(1);
  if (name == "ema") return std::make_unique<MinMax>(0.01);
  if (name == "percentile") return std::make_unique<Percentile>(percentile);
  if (name == "mse") return std::make_unique<Mse>();
  if (name == "entropy") return std::make_unique<Entropy>();
  throw value_error(
      str("observer: found '", name, "', expected minmax, ema, percentile, mse or entropy"));
}

}  // namespace wattle::quant
