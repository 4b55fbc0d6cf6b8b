// Pieces that the tests of the routed layer share.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "moe/layer.h"
#include "moe/ops.h"

namespace wattle::moe {

inline Tensor numbers(const Shape& s, const std::vector<double>& v, DType t = DType::f64) {
  Tensor out = Tensor::empty(s, t);
  dispatch_all("numbers", t, [&]<class T>() {
    for (size_t i = 0; i < v.size(); ++i) out.data<T>()[i] = static_cast<T>(v[i]);
  });
  return out;
}

inline void expect_near(const Tensor& got, const std::vector<double>& expected,
                        double tolerance = 1e-6) {
  const auto v = got.values<double>();
  ASSERT_EQ(v.size(), expected.size());
  for (size_t i = 0; i < v.size(); ++i) EXPECT_NEAR(v[i], expected[i], tolerance) << i;
}

inline double worst(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  double diff = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i)
    diff = std::max(diff, std::fabs(x[i] - y[i])), size = std::max(size, std::fabs(y[i]));
  return size > 0 ? diff / size : diff;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data<float>(), b.data<float>(), static_cast<size_t>(a.nbytes())) == 0;
}

inline MoEConfig small() {
  return {.d_model = 24, .d_ff = 32, .experts = 4, .top_k = 2, .segments = 2};
}

inline Tensor dense_ffn(const Tensor& x, const Tensor& up, const Tensor& down) {
  return matmul(relu(matmul(x, up)), down);
}

}  // namespace wattle::moe
