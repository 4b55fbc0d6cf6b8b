// Sizes and strides: a short list of integers held inline, so that making a tensor allocates once.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace wattle {

/// Up to 8 integers. Used for sizes, strides and lists of axes.
class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> v) : Shape(v.begin(), static_cast<int64_t>(v.size())) {}
  Shape(const std::vector<int64_t>& v) : Shape(v.data(), static_cast<int64_t>(v.size())) {}
  /// Throws shape_error when n > 8.
  Shape(const int64_t* v, int64_t n);
  /// n copies of v.
  static Shape filled(int n, int64_t v);

  int rank() const { return n_; }
  int size() const { return n_; }
  bool empty() const { return n_ == 0; }
  int64_t operator[](int i) const { return v_[i]; }
  int64_t& operator[](int i) { return v_[i]; }
  int64_t back() const { return v_[n_ - 1]; }
  const int64_t* begin() const { return v_; }
  const int64_t* end() const { return v_ + n_; }
  /// Throws shape_error when it is full.
  void push_back(int64_t v);
  void insert(int at, int64_t v);
  void erase(int at);
  /// Product of all sizes; 1 for a scalar.
  int64_t numel() const {
    int64_t p = 1;
    for (int i = 0; i < n_; ++i) p *= v_[i];
    return p;
  }
  /// Product of the sizes [from, to).
  int64_t numel(int from, int to) const {
    int64_t p = 1;
    for (int i = from; i < to; ++i) p *= v_[i];
    return p;
  }
  std::string str() const;  ///< "[2, 3]"
  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.n_ != b.n_) return false;
    for (int i = 0; i < a.n_; ++i)
      if (a.v_[i] != b.v_[i]) return false;
    return true;
  }

 private:
  int n_ = 0;
  int64_t v_[max_rank] = {};
};

/// Row-major strides, in elements.
Shape contiguous_strides(const Shape& shape);
/// Turns an axis in [-rank, rank) into [0, rank); throws shape_error naming `op` otherwise. A
/// scalar counts as rank 1, as in PyTorch.
int normalize_axis(const char* op, int64_t axis, int rank);
/// Sizes of a and b after broadcasting; throws shape_error naming `op`.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);
/// Product of non-negative sizes; throws shape_error when one is negative or the product overflows.
int64_t checked_numel(const char* op, const Shape& shape);

}  // namespace wattle
