// What the device code of an op sees of a call: operands, attributes, scratch memory, element
// types; and how it registers itself.
#pragma once
#include <cuda_runtime.h>

#include <cstring>
#include <utility>

#include "core/cuda/runtime.h"
#include "core/launch.h"

#define WATTLE_HD __host__ __device__ __forceinline__

namespace wattle::device {

/// Memory for the length of a call. Launches are ordered, so it may be given back before they ran.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : bytes_(bytes), p_(allocate(bytes)) {}
  ~Scratch() {
    if (p_) deallocate(p_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(p_);
  }
  explicit operator bool() const { return p_ != nullptr || bytes_ == 0; }

 private:
  int64_t bytes_;
  void* p_;
};

/// The attribute called `name`; one of no value where the op has none.
inline const Field& field(const Launch& l, const char* name) {
  static const Field none;
  const size_t n = std::strlen(name);
  for (int i = 0; i < l.fields; ++i)
    if (static_cast<size_t>(l.field[i].name_size) == n && !std::memcmp(l.field[i].name, name, n))
      return l.field[i];
  return none;
}
inline int64_t integer(const Launch& l, const char* name) { return field(l, name).integer; }
inline double number(const Launch& l, const char* name) { return field(l, name).number; }
inline bool says(const Launch& l, const char* name, const char* text) {
  return !std::strcmp(field(l, name).text, text);
}
/// Whether the sums that are asked for are those of floats.
inline bool float_sums(const Launch& l) {
  const char* const mode = field(l, "accumulate").text;
  return !*mode || !std::strcmp(mode, "f32");
}
/// Bytes of a code or number of a type whose elements stand apart.
inline int64_t element_bytes(int32_t dtype) {
  switch (dtype) {
    case f64:
    case i64: return 8;
    case f32:
    case i32:
    case posit32: return 4;
    case bf16:
    case fp16:
    case posit16:
    case posit16_es1: return 2;
    default: return 1;
  }
}
inline bool has(const Launch& l, int i) { return i < l.ins && l.in[i].data; }
template <class T>
const T* in(const Launch& l, int i) {
  return has(l, i) ? static_cast<const T*>(l.in[i].data) : nullptr;
}
/// An operand that the op overwrites.
template <class T>
T* inout(const Launch& l, int i) {
  return has(l, i) ? static_cast<T*>(l.in[i].data) : nullptr;
}
template <class T>
T* out(const Launch& l, int i) {
  return i < l.outs ? static_cast<T*>(l.out[i].data) : nullptr;
}

/// a / b of numbers that are not negative: a 64-bit division takes a GPU some forty instructions.
WATTLE_HD int64_t quotient(int64_t a, int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  return a / b;
}

/// Registers the device code of an op; the body gets `const Launch& l`. Launches that wait to be
/// joined to one (ops/optimizer.cu) go first.
struct Registration {
  Registration(const char* op, Function f, bool halves = false, bool posits = false);
  const char* op;
  Function f;
  bool halves;  ///< takes bf16 and fp16; other codes are cast for it
  bool posits;  ///< for calls on posits alone, beside the op's other code
  Registration* next;
};
template <Function F>
const char* after_pending(const Launch& l) {
  const char* const e = flush_pending();
  return e ? e : F(l);
}
#define WATTLE_DEVICE_OP_AS(name, ...)                                                 \
  static const char* name##_on_device(const ::wattle::device::Launch& l);              \
  static const ::wattle::device::Registration name##_registration(#name, __VA_ARGS__); \
  static const char* name##_on_device(const ::wattle::device::Launch& l)
#define WATTLE_DEVICE_OP(name) \
  WATTLE_DEVICE_OP_AS(name, ::wattle::device::after_pending<name##_on_device>)
#define WATTLE_DEVICE_OP_ON_POSITS(name) \
  WATTLE_DEVICE_OP_AS(name, ::wattle::device::after_pending<name##_on_device>, false, true)
#define WATTLE_DEVICE_OP_WITH_HALVES(name) \
  WATTLE_DEVICE_OP_AS(name, ::wattle::device::after_pending<name##_on_device>, true)

/// The exponential of either type.
WATTLE_HD float exp_of(float x) { return expf(x); }
WATTLE_HD double exp_of(double x) { return ::exp(x); }

/// Numbers of an index operand, of 64 or 32 bits.
struct Index {
  const void* p;
  bool wide;
  explicit Index(const View& v) : p(v.data), wide(v.dtype == i64) {}
  WATTLE_HD int64_t operator()(int64_t i) const {
    return wide ? static_cast<const int64_t*>(p)[i] : static_cast<const int32_t*>(p)[i];
  }
};

// ---- Types ----

template <class T>
struct Tag {
  using type = T;
};
template <class G>
const char* floating(const Launch& l, int32_t dtype, G g) {
  if (dtype == f32) return g(Tag<float>{});
  if (dtype == f64) return g(Tag<double>{});
  return fail("dtype number %d found, device code takes f32 and f64", dtype);
}
template <class G>
const char* numeric(const Launch& l, int32_t dtype, G g) {
  switch (dtype) {
    case i64: return g(Tag<int64_t>{});
    case i32: return g(Tag<int32_t>{});
    case u8: return g(Tag<uint8_t>{});
    case i8: return g(Tag<int8_t>{});
    default: return floating(l, dtype, g);
  }
}
template <class G>
const char* any_type(const Launch& l, int32_t dtype, G g) {
  return dtype == boolean ? g(Tag<bool>{}) : numeric(l, dtype, g);
}
/// For code that only moves elements: an unsigned type of their size.
template <class G>
const char* by_size(const Launch& l, int32_t dtype, G g) {
  switch (dtype) {
    case f64:
    case i64: return g(Tag<uint64_t>{});
    case f32:
    case i32: return g(Tag<uint32_t>{});
    case u8:
    case i8:
    case boolean: return g(Tag<uint8_t>{});
    case fp8_e4m3:
    case fp8_e5m2:
    case posit8:
    case posit8_es1:
    case posit8_es0:
    case e8m0: return g(Tag<uint8_t>{});
    case bf16:
    case fp16:
    case posit16:
    case posit16_es1: return g(Tag<uint16_t>{});
    case posit32: return g(Tag<uint32_t>{});
    default: return fail("dtype number %d found, expected one whose elements stand apart", dtype);
  }
}

}  // namespace wattle::device
