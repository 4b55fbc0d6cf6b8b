// Template parts of core/tensor.h.
#pragma once
#include "core/error.h"
#include "core/tensor.h"

namespace wattle {

/// The numbers of a coded tensor, row-major (core/codec.cpp).
std::vector<double> decode_to_doubles(const Tensor& t);
[[noreturn]] void throw_no_dtype(const char* what, DType t, const char* expected);

template <class F>
decltype(auto) dispatch_floating(const char* what, DType t, F&& fn) {
  switch (t) {
    case DType::f32: return fn.template operator()<float>();
    case DType::f64: return fn.template operator()<double>();
    case DType::counted: return fn.template operator()<Counted>();
    default: throw_no_dtype(what, t, "f32 or f64");
  }
}

template <class F>
decltype(auto) dispatch_all(const char* what, DType t, F&& fn) {
  switch (t) {
    case DType::f32: return fn.template operator()<float>();
    case DType::f64: return fn.template operator()<double>();
    case DType::i64: return fn.template operator()<int64_t>();
    case DType::i32: return fn.template operator()<int32_t>();
    case DType::u8: return fn.template operator()<uint8_t>();
    case DType::i8: return fn.template operator()<int8_t>();
    case DType::boolean: return fn.template operator()<bool>();
    case DType::counted: return fn.template operator()<Counted>();
    default: break;
  }
  throw_no_dtype(what, t, "an element type of its own");
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  Tensor t = empty(shape, dtype_of<T>());
  if (static_cast<int64_t>(values.size()) != t.numel())
    throw shape_error(wattle::str("Tensor::from: ", static_cast<int64_t>(values.size()),
                                  " values found, shape ", shape, " needs ", t.numel()));
  T* p = t.data<T>();
  for (size_t i = 0; i < values.size(); ++i) p[i] = values[i];
  return t;
}

template <class T>
std::vector<T> Tensor::values() const {
  if (device().kind != DeviceKind::cpu) return to(cpu).values<T>();
  std::vector<T> out(static_cast<size_t>(numel()));
  if (is_coded(dtype())) {
    const std::vector<double> decoded = decode_to_doubles(*this);
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(decoded[i]);
    return out;
  }
  dispatch_all("values", dtype(), [&]<class S>() {
    const S* p = data<S>();
    for_each_offset(shape(), strides(), [&](int64_t i, int64_t o) {
      out[static_cast<size_t>(i)] = static_cast<T>(p[o]);
    });
  });
  return out;
}

}  // namespace wattle
