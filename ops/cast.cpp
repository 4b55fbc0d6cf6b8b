// cast(x) = x as another element type.   dx = gy in x's type, between floating types.
// Into a coded type numbers are rounded: to the nearest code, or up or down by chance so that the
// mean is right; what that did to them is counted (CastStats).
#include "ops/coded.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

// Towards zero; negative numbers wrap around in unsigned types, by way of 64 bits, as in PyTorch.
template <class To, class From>
To convert(const From& x) {
  if constexpr (std::is_same_v<To, bool>) return static_cast<double>(x) != 0;
  else if constexpr (std::is_same_v<To, Counted>) return To(static_cast<double>(x));
  else if constexpr (std::is_integral_v<To> && sizeof(To) < 8)
    return static_cast<To>(static_cast<int64_t>(x));
  else return static_cast<To>(x);
}

template <class From, class To>
void cast_run(const Tensor& x, const Tensor& y) {
  const From* from = x.data<From>();
  To* to = y.data<To>();
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = convert<To>(from[i]);
  };
  if (std::is_same_v<From, Counted>) run(0, x.numel());
  else parallel_for(x.numel(), light, run);
}

void cast_plain(const Tensor& x, const Tensor& y) {
  dispatch_all("cast", x.dtype(), [&]<class From>() {
    dispatch_all("cast", y.dtype(), [&]<class To>() { cast_run<From, To>(x, y); });
  });
}

EncodeOptions options_of(const CastAttr& a) {
  EncodeOptions o;
  o.saturate = a.saturate;
  o.rounding = a.rounding == "stochastic" ? Rounding::stochastic : Rounding::nearest;
  o.scale_rule = a.scale_rule == "ceil"   ? ScaleRule::ceil
                 : a.scale_rule == "even" ? ScaleRule::even
                                          : ScaleRule::floor;
  o.seed = a.seed;
  return o;
}

// The type in which numbers travel from one side to the other: f32 where both sides' numbers fit.
DType between(DType from, DType to) {
  const auto fits = [](DType t) {
    return t == DType::f32 || t == DType::u8 || t == DType::i8 || t == DType::boolean ||
           (is_coded(t) && info(t).computes_in == DType::f32);
  };
  return fits(from) && (fits(to) || !is_floating(to)) ? DType::f32 : DType::f64;
}

template <class T>
void cast_codes(const Tensor& x, const Tensor& y, const CastAttr& a) {
  const auto as = [](const Tensor& t) {
    return t.dtype() == dtype_of<T>() ? t : Tensor::empty(t.shape(), dtype_of<T>());
  };
  const bool final = !is_coded(y.dtype());
  const Tensor numbers = final ? as(y) : as(x);
  if (is_coded(x.dtype())) decode(x, numbers.data<T>());
  else if (x.dtype() != dtype_of<T>()) cast_plain(x, numbers);
  if (!final) report_rounding(encode(numbers.data<T>(), y, options_of(a)));
  else if (y.dtype() != dtype_of<T>()) cast_plain(numbers, y);
}

void cast_ref(Ins in, Outs out, const CastAttr& a) {
  const Tensor &x = in[0], &y = out[0];
  if (!is_coded(x.dtype()) && !is_coded(y.dtype())) return cast_plain(x, y);
  if (between(x.dtype(), y.dtype()) == DType::f32) cast_codes<float>(x, y, a);
  else cast_codes<double>(x, y, a);
}

// Conversions are 0 in the convention of the declared cost; the integer work of codecs is not.
Cost cast_executes(Ins in, const Cost& declared, const CastAttr& a) {
  Cost c = declared;
  const DType from = in[0].dtype();
  if (is_coded(from)) c.iop += in[0].numel() * codec(from).decode_iops;
  if (is_coded(a.to)) c.iop += in[0].numel() * codec(a.to).encode_iops;
  return c;
}

Metas cast_shape(Ins in, const CastAttr& a) {
  rules::arity("cast", in, 1, 1);
  const auto fail = [&](const char* field, const std::string& found, const std::string& expected) {
    throw value_error(str("cast: attribute ", field, ": found '", found, "', expected ", expected));
  };
  const bool coded = is_coded(a.to);
  const std::string to(name(a.to));
  if (a.rounding != "nearest" && a.rounding != "stochastic")
    fail("rounding", a.rounding, "nearest or stochastic");
  if (a.scale_rule != "floor" && a.scale_rule != "ceil" && a.scale_rule != "even")
    fail("scale_rule", a.scale_rule, "floor, ceil or even");
  if (!coded && a.rounding != "nearest") fail("rounding", a.rounding, "nearest for " + to);
  if (!a.saturate && (!coded || !codec(a.to).may_overflow))
    fail("saturate", "false", "true: " + to + " has nothing beyond its largest number");
  if (a.scale_rule != "floor" && (!coded || !codec(a.to).has_scale_rule))
    fail("scale_rule", a.scale_rule, "floor: only MX formats have another one, found " + to);
  if (a.grad && !is_floating(*a.grad)) fail("grad", std::string(name(*a.grad)), "a floating dtype");
  return {{in[0].shape(), a.to}};
}

const Op<CastAttr> op{{
    .name = "cast",
    .doc = "Conversion of the element type",
    .equation = "y = x as dtype",
    .shape = cast_shape,
    .cost = [](Ins, std::span<const Meta>, const CastAttr&) { return Cost{}; },
    .kernels = {{.name = "ref", .run = cast_ref, .executes = cast_executes, .codes = true}},
    .backward =
        [](const Saved<CastAttr>& s, Ins gy) {
          const DType from = s.in_meta(0).dtype;
          if (from == DType::spike && !s.attr().grad) return Tensors{gy[0]};  // stays a number
          return Tensors{cast(gy[0], s.attr().grad.value_or(from))};
        },
    .samples = {{{{{3, 5}}}, {DType::f64}},
                {{{{1}}}, {DType::f64}},
                {{{{2, 37}, -50, 50}}, {DType::i64}},
                {{{{2, 37}, -9, 9, SampleIn::integers}}, {DType::f64}},
                {{{{7}, 0, 1, SampleIn::booleans}}, {DType::u8}},
                {{{{9}, -2, 3, SampleIn::integers}}, {DType::boolean}},
                {{{{5}, 0, 90}}, {DType::i32}}},
}};

}  // namespace

Tensor cast(const Tensor& x, const CastAttr& attr) { return op.one({x}, attr); }

Tensor cast(const Tensor& x, DType dtype) {
  return x.dtype() == dtype ? x : op.one({x}, {.to = dtype});
}

}  // namespace wattle
