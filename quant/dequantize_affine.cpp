// dequantize_affine: y = (q - z) s, and rescale: y = q s[c] + t[c], integers back to f32.
#include "quant/affine.h"

namespace wattle {
namespace {

using quant::Channels;

// Integers of any type as numbers.
template <class F>
void with_integers(const char* op, const Tensor& q, F&& fn) {
  switch (q.dtype()) {
    case DType::i8: return fn(q.data<int8_t>());
    case DType::u8: return fn(q.data<uint8_t>());
    case DType::i32: return fn(q.data<int32_t>());
    case DType::i64: return fn(q.data<int64_t>());
    default: throw dtype_error(str(op, ": operand 0 is ", q, ", expected integers"));
  }
}

void check(const char* op, Ins in) {
  rules::arity(op, in, 3, 3);
  if (!is_integer(in[0].dtype()))
    throw dtype_error(str(op, ": operand 0 is ", in[0], ", expected integers"));
  rules::floating(op, in, 1);
  if (in[1].dtype() != in[2].dtype())
    throw dtype_error(
        str(op, ": operands 1 and 2 are ", in[1], " and ", in[2], ", expected one floating dtype"));
}

// (q - z) s, or q s + z. A coded operand comes here as plain floats.
template <bool Shift, class T, class Q>
void run_typed(const Channels& c, const Q* q, const T* scale, const T* zero, T* y) {
  const auto rows = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T s = scale[r % c.count], z = zero[r % c.count];
      for (int64_t i = r * c.inner; i < (r + 1) * c.inner; ++i) {
        const T v = T(static_cast<double>(q[i]));
        y[i] = Shift ? v * s + z : (v - z) * s;
      }
    }
  };
  if (std::is_same_v<T, Counted>) rows(0, c.outer * c.count);  // its tally belongs to this thread
  else parallel_for(c.outer * c.count, std::max<int64_t>(1, (1 << 14) / (c.inner + 1)), rows);
}

template <bool Shift>
void run(const char* op, Ins in, const Tensor& out, int64_t axis) {
  const Channels c = quant::channels_of(op, in[0], in[1], in[2], axis);
  dispatch_floating(op, out.dtype(), [&]<class T>() {
    const auto all = [&](const auto* q) {
      run_typed<Shift, T>(c, q, in[1].data<T>(), in[2].data<T>(), out.data<T>());
    };
    if (in[0].dtype() == DType::f32) all(in[0].data<float>());
    else with_integers(op, in[0], all);
  });
}

void dequantize_ref(Ins in, Outs out, const AffineAttr& a) {
  run<false>("dequantize_affine", in, out[0], a.axis);
}

struct RescaleAttr {
  int64_t axis = 1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};
void rescale_ref(Ins in, Outs out, const RescaleAttr& a) {
  run<true>("rescale", in, out[0], a.axis);
}

SampleIn ints(const Shape& s, DType t, double lo, double hi) {
  SampleIn in{s, lo, hi, SampleIn::integers};
  in.int_dtype = t;
  return in;
}

const Op<AffineAttr> dequantize_op{{
    .name = "dequantize_affine",
    .doc = "Integers to floats under a scale and a zero point",
    .equation = "y = (q - z) s",
    .shape =
        [](Ins in, const AffineAttr& a) {
          check("dequantize_affine", in);
          quant::channels_of("dequantize_affine", in[0], in[1], in[2], a.axis);
          return Metas{{in[0].shape(), in[1].dtype()}};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const AffineAttr&) { return Cost{.add = in[0].numel(), .mul = in[0].numel()}; },
    .kernels = {{"ref", dequantize_ref}},
    .samples = {{{ints({5, 7}, DType::i8, -128, 128), {{1}, 0.1, 0.2}, {{1}, 3, 3}}, {}},
                {{ints({1}, DType::u8, 0, 256), {{1}, 0.1, 0.2}, {{1}, 3, 3}}, {}},
                {{ints({3, 4, 9}, DType::i32, -999, 999), {{4}, 0.1, 0.2}, {{4}, 0, 0}}, {1}}},
}};

const Op<RescaleAttr> rescale_op{{
    .name = "rescale",
    .doc = "Integer sums to floats, a scale and a shift for each channel",
    .equation = "y = q s[c] + t[c]",
    .shape =
        [](Ins in, const RescaleAttr& a) {
          check("rescale", in);
          if (a.axis < 0) throw shape_error("rescale: axis must name a dimension");
          quant::channels_of("rescale", in[0], in[1], in[2], a.axis);
          return Metas{{in[0].shape(), in[1].dtype()}};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const RescaleAttr&) { return Cost{.add = in[0].numel(), .mul = in[0].numel()}; },
    .kernels = {{"ref", rescale_ref}},
    .samples = {{{ints({5, 7}, DType::i32, -999, 999), {{7}, 0.1, 0.2}, {{7}}}, {1}},
                {{ints({1, 1}, DType::i32, -999, 999), {{1}, 0.1, 0.2}, {{1}}}, {1}},
                {{ints({3, 4, 9}, DType::i32, -999, 999), {{4}, 0.1, 0.2}, {{4}}}, {1}}},
}};

}  // namespace

Tensor dequantize_affine(const Tensor& q, const Tensor& scale, const Tensor& zero_point,
                         const AffineAttr& attr) {
  return dequantize_op.one({q, scale, zero_point}, attr);
}

Tensor rescale(const Tensor& sums, const Tensor& scale, const Tensor& shift, int64_t axis) {
  return rescale_op.one({sums, scale, shift}, {axis});
}

}  // namespace wattle
