#include "core/shape.h"

#include "core/error.h"

namespace wattle {

Shape::Shape(const int64_t* v, int64_t n) {
  if (n > max_rank)
    throw shape_error(
        wattle::str("shape: ", n, " dimensions found, at most ", max_rank, " are supported"));
  for (int64_t i = 0; i < n; ++i) v_[i] = v[i];
  n_ = static_cast<int>(n);
}

Shape Shape::filled(int n, int64_t v) {
  Shape s;
  for (int i = 0; i < n; ++i) s.push_back(v);
  return s;
}

void Shape::push_back(int64_t v) { insert(n_, v); }

void Shape::insert(int at, int64_t v) {
  if (n_ == max_rank)
    throw shape_error(wattle::str("shape: more than ", max_rank, " dimensions are not supported"));
  for (int i = n_; i > at; --i) v_[i] = v_[i - 1];
  v_[at] = v;
  ++n_;
}

void Shape::erase(int at) {
  for (int i = at; i + 1 < n_; ++i) v_[i] = v_[i + 1];
  v_[--n_] = 0;
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < n_; ++i) {
    if (i) s += ", ";
    s += std::to_string(v_[i]);
  }
  return s + "]";
}

Shape contiguous_strides(const Shape& shape) {
  Shape s = shape;
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    s[i] = step;
    step *= shape[i];
  }
  return s;
}

int normalize_axis(const char* op, int64_t axis, int rank) {
  const int64_t r = rank == 0 ? 1 : rank;
  if (axis < -r || axis >= r)
    throw shape_error(str(op, ": dim ", axis, " found, expected one in [", -r, ", ", r - 1, "]"));
  return static_cast<int>(axis < 0 ? axis + r : axis);
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  const int rank = a.rank() > b.rank() ? a.rank() : b.rank();
  Shape out = Shape::filled(rank, 1);
  for (int i = 0; i < rank; ++i) {
    const int ia = a.rank() - rank + i, ib = b.rank() - rank + i;
    const int64_t da = ia < 0 ? 1 : a[ia], db = ib < 0 ? 1 : b[ib];
    if (da != db && da != 1 && db != 1)
      throw shape_error(str(op, ": shapes ", a, " and ", b, " do not broadcast: sizes ", da,
                            " and ", db, " at dimension ", i));
    out[i] = da == 1 ? db : da;
  }
  return out;
}

int64_t checked_numel(const char* op, const Shape& shape) {
  int64_t p = 1;
  for (int64_t d : shape) {
    if (d < 0) throw shape_error(str(op, ": negative size in shape ", shape));
    if (__builtin_mul_overflow(p, d, &p))
      throw shape_error(str(op, ": shape ", shape, " has more elements than fit 64 bits"));
  }
  return p;
}

}  // namespace wattle
