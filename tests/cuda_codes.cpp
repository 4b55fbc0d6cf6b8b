// Codes on a device (part of cuda_test): the host's bits, the host's counts of what rounding did,
// and trainings in every precision.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/codec.h"
#include "core/counters.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "green/trainer.h"
#include "ops/ops.h"
#include "tests/cuda_cases.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

// bf16 and fp16: the codes of the host's codecs, and products of them within 1e-2.
TEST(Cuda, HalvesAreTheHostsCodes) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  Tensor x = normal({40, 64});
  for (int i = 0; i < 6; ++i)
    x.data<float>()[i] = std::vector<float>{3.4e38f, -3.4e38f, 7e4f, 1e-30f, 0, -0.0f}[size_t(i)];
  const Tensor w = normal({24, 64}), b = normal({24});
  for (DType t : {DType::bf16, DType::fp16}) {
    const Tensor here = cast(x, t), there = cast(x.to(d), t);
    EXPECT_EQ(here.values<float>(), there.values<float>()) << name(t);
    EXPECT_EQ(cast(here, DType::f32).values<float>(), cast(there, DType::f32).values<float>());
    const Tensor a = slice(here, 0, 8, 40), ad = slice(there, 0, 8, 40);
    const Tensor y = linear(a, cast(w, t), cast(b, t));
    const Tensor yd = linear(ad, cast(w.to(d), t), cast(b.to(d), t));
    EXPECT_EQ(yd.dtype(), t);
    EXPECT_LT(checks::relative_error(yd.to(cpu), cast(y, DType::f64)), 1e-2) << name(t);
    const MatmulAttr wide{.transpose_b = true, .out = DType::f32};
    const Tensor sums = matmul(ad, cast(w.to(d), t), wide);
    EXPECT_EQ(sums.dtype(), DType::f32);
    EXPECT_LT(checks::relative_error(sums.to(cpu), cast(matmul(a, cast(w, t), wide), DType::f64)),
              1e-5)
        << name(t);
  }
}

// What a format's edges are made of, and numbers between them; NaN for formats that have it.
bool has_nan(DType t) {
  return !std::set{DType::fp6_e3m2, DType::fp6_e2m3, DType::fp4_e2m1, DType::int4, DType::spike}
              .count(t);
}
Tensor numbers_for(DType t, DType as) {
  manual_seed(11);
  Tensor x = cast(scale(normal({37, 70}), t == DType::spike ? 1 : 40), as);
  std::vector<double> edges = {0,     -0.0, 0.5,  1,     -1,      448, 449, 464,
                               65504, 1e-3, 1e-8, -1e30, 0x1p-24, 6,   5,   3.5};
  if (has_nan(t)) edges.insert(edges.end(), {INFINITY, -INFINITY, NAN});
  for (size_t i = 0; i < edges.size(); ++i) {
    const auto at = static_cast<int64_t>(i) * 71 % x.numel();
    if (as == DType::f64) x.data<double>()[at] = edges[i];
    else x.data<float>()[at] = static_cast<float>(edges[i]);
  }
  return x;
}
// Empty, or where numbers differ; all NaN are one, zeros have signs. Codes by their values.
std::string difference(const Tensor& there, const Tensor& here) {
  const auto numbers = [](const Tensor& t) { return cast(t.to(cpu), DType::f64).values<double>(); };
  const std::vector<double> a = numbers(there), b = numbers(here);
  if (there.dtype() != here.dtype() || a.size() != b.size()) return str(there, " and ", here);
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::isnan(a[i]) && std::isnan(b[i])) &&
        (a[i] != b[i] || std::signbit(a[i]) != std::signbit(b[i])))
      return str("number ", i, ": ", a[i], ", on the host ", b[i]);
  return {};
}
std::vector<DType> coded_types() {
  std::vector<DType> all;
  for (int i = 0; i <= static_cast<int>(DType::spike); ++i)
    if (is_coded(static_cast<DType>(i))) all.push_back(static_cast<DType>(i));
  return all;
}

// What rounding did to the numbers of `f`'s casts, by the counters.
template <class F>
std::string rounding_of(F f) {
  counters().clear();
  f();
  const CastStats s = counters().total().rounding;
  return str(s.n, " numbers, inexact ", s.inexact, ", to max ", s.to_max, ", min ", s.to_min,
             ", zero ", s.to_zero, ", NaN ", s.nar);
}

// The codes of the host to and from f32 and f64, and its counts of roundings, with every way to
// round that it has.
TEST(Cuda, CodesAreTheHosts) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  for (const DType t : coded_types())
    for (const DType as : {DType::f32, DType::f64}) {
      const Tensor x = numbers_for(t, as), xd = x.to(d);
      std::vector<CastAttr> ways = {{.to = t}};
      if (codec(t).may_overflow) ways.push_back({.to = t, .saturate = false});
      for (const char* rule : {"ceil", "even"})
        if (codec(t).has_scale_rule) ways.push_back({.to = t, .scale_rule = rule});
      if (t != DType::spike) ways.push_back({.to = t, .rounding = "stochastic", .seed = 77});
      for (const CastAttr& way : ways) {
        Tensor here, there;
        const std::string counted = rounding_of([&] { here = cast(x, way); });
        EXPECT_EQ(rounding_of([&] { there = cast(xd, way); }), counted)
            << name(t) << " from " << name(as) << ", " << way.rounding;
        EXPECT_EQ(difference(there, here), "")
            << name(t) << " from " << name(as) << ", " << way.rounding;
        for (const DType back : {DType::f32, DType::f64})
          EXPECT_EQ(difference(cast(there, back), cast(here, back)), "") << name(t);
      }
      EXPECT_EQ(difference(cast(cast(xd, t), DType::posit32), cast(cast(x, t), DType::posit32)), "")
          << name(t);
    }
}

TEST(Cuda, IntegersBecomeCodesAndNaNNeedsOne) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  const Tensor i = Tensor::from<int64_t>({-3, 0, 1, 5, 70000}, {5});
  for (const DType t : {DType::bf16, DType::posit8, DType::fp8_e4m3, DType::int4}) {
    EXPECT_EQ(difference(cast(i.to(d), t), cast(i, t)), "") << name(t);
    EXPECT_EQ(cast(cast(i.to(d), t), DType::i64).to(cpu).values<int64_t>(),
              cast(cast(i, t), DType::i64).values<int64_t>())
        << name(t);
  }
  const Tensor none = Tensor::from<float>({1, NAN}, {2}).to(d);
  for (const DType t : {DType::fp6_e3m2, DType::fp6_e2m3, DType::fp4_e2m1, DType::int4})
    EXPECT_THROW(cast(none, t), device_error) << name(t);
}

// Counts arrive late, but in the row of the call that made them, however often slots run out.
TEST(Cuda, RoundingIsCountedWhereItHappened) {
  NEEDS_DEVICE();
  const Tensor x = Tensor::full({3, 5}, 0.3, DType::f32).to(cuda::device());
  counters().clear();
  for (int i = 0; i < 3000; ++i) {
    const Scope scope(i % 3 == 0 ? "a" : "b");
    cast(x, i % 3 == 0 ? DType::bf16 : DType::posit8);
  }
  const Counters copy = counters();
  int64_t a = 0, b = 0, all = 0;
  for (const Row& r : copy.rows()) {
    (copy.path(r.key.scope) == "a" ? a : b) += r.rounding.inexact;
    all += r.rounding.n;
  }
  EXPECT_EQ(a, 15 * 1000);
  EXPECT_EQ(b, 15 * 2000);
  EXPECT_EQ(all, 15 * 3000);
  EXPECT_EQ(copy.total().rounding.inexact, a + b);
  cast(x, DType::bf16);
  counters().clear();
  EXPECT_EQ(counters().total().rounding.n, 0);  // what was forgotten does not come back
}

// Every code of 8 and 16 bits.
TEST(Cuda, EveryCodeHasItsValue) {
  NEEDS_DEVICE();
  for (const DType t : coded_types()) {
    if (info(t).block != 1 || info(t).bytes > 2) continue;
    const int64_t n = int64_t{1} << (8 * info(t).bytes);
    const Tensor codes = Tensor::empty({n}, t);
    for (int64_t i = 0; i < n; ++i)
      if (info(t).bytes == 1) static_cast<uint8_t*>(codes.raw())[i] = static_cast<uint8_t>(i);
      else static_cast<uint16_t*>(codes.raw())[i] = static_cast<uint16_t>(i);
    EXPECT_EQ(difference(cast(codes.to(cuda::device()), DType::f64), cast(codes, DType::f64)), "")
        << name(t);
  }
}

// An op that knows no codes runs on their numbers, and its results are rounded once.
TEST(Cuda, OpsTakeCodes) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  manual_seed(3);
  const Tensor x = normal({8, 32}), w = normal({16, 32}), b = normal({16});
  const Tensor image = normal({2, 3, 8, 8}), kernel = normal({4, 3, 3, 3});
  for (const DType t :
       {DType::posit16, DType::fp8_e4m3, DType::posit8, DType::mxfp8_e4m3, DType::bf16}) {
    const auto here = [&](const Tensor& y) { return cast(y, t); };
    const auto there = [&](const Tensor& y) { return cast(y, t).to(d); };
    const auto same = [&](const Tensor& on_d, const Tensor& on_cpu, const char* what) {
      EXPECT_EQ(on_d.dtype(), t) << what;
      EXPECT_EQ(on_d.device().kind, DeviceKind::cuda);
      // Sums in another order end on a neighbour now and then.
      EXPECT_LT(checks::relative_error(cast(on_d.to(cpu), DType::f64), cast(on_cpu, DType::f64)),
                info(t).bytes == 2 ? 1e-2 : 0.2)
          << what << " in " << name(t);
    };
    same(relu(there(x)), relu(here(x)), "relu");
    same(add(there(x), there(x)), add(here(x), here(x)), "add");
    same(softmax(there(x), 1), softmax(here(x), 1), "softmax");
    same(linear(there(x), there(w), {}), linear(here(x), here(w), {}), "linear");
    if (info(t).block == 1)
      same(conv2d(there(image), there(kernel), {}, 1, 1),
           conv2d(here(image), here(kernel), {}, 1, 1), "conv2d");
  }
  const Tensor s = cast(uniform({6, 40}, 0, 1), DType::spike), v = normal({40, 5});
  EXPECT_LT(checks::relative_error(matmul(s.to(d), v.to(d)).to(cpu), matmul(s, v)), 1e-5);
}

// Sums of posits that are no floats': the host's bits, and as many proven.
TEST(Cuda, ExactSumsAreTheHosts) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  manual_seed(9);
  const Tensor x = normal({2, 9, 33}), y = normal({2, 33, 7}), w = normal({11, 33});
  const Tensor b = normal({11}), image = normal({2, 4, 6, 5}), kernel = normal({6, 2, 3, 3});
  x.data<float>()[5] = NAN;
  for (const DType t : {DType::posit8, DType::posit8_es1, DType::posit8_es0, DType::posit16,
                        DType::posit16_es1, DType::posit32})
    for (const char* mode : {"certified", "quire", "per_op"}) {
      const auto at = [&](const Tensor& v, Device where) { return cast(v, t).to(where); };
      const auto all = [&](Device where, std::string* counted) {
        Tensors out;
        counters().clear();
        out.push_back(matmul(at(x, where), at(y, where), {.accumulate = mode}));
        out.push_back(matmul(at(y, where), at(x, where),
                             {.transpose_a = true, .transpose_b = true, .accumulate = mode}));
        out.push_back(linear(at(x, where), at(w, where), at(b, where), {.accumulate = mode}));
        Conv2dAttr conv;
        conv.padding = {1, 2}, conv.stride = {2, 1}, conv.groups = 2, conv.accumulate = mode;
        out.push_back(
            conv2d(at(image, where), at(kernel, where), at(slice(b, 0, 0, 6), where), conv));
        CastStats s;
        Cost executed;
        for (const Row& r : counters().rows())
          if (std::string(r.key.op->name) != "cast") s += r.rounding, executed += r.executed;
        *counted = str(s.proven, " proven, ", s.to_quire, " by quire, ", executed.mac, " MAC, ",
                       executed.iop, " iop");
        return out;
      };
      std::string here_counts, there_counts;
      const Tensors here = all(cpu, &here_counts), there = all(d, &there_counts);
      for (size_t i = 0; i < here.size(); ++i)
        EXPECT_EQ(difference(there[i], here[i]), "") << name(t) << ", " << mode << ", result " << i;
      EXPECT_EQ(there_counts, here_counts) << name(t) << ", " << mode;
    }
  // Other codes have no such sums.
  EXPECT_THROW(matmul(cast(x, DType::fp8_e4m3).to(d), cast(y, DType::fp8_e4m3).to(d),
                      {.accumulate = "quire"}),
               error);
}

// Arithmetic and comparisons of posits: the host's bits, with strides and broadcasting.
TEST(Cuda, PositsComputeAsOnTheHost) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  manual_seed(12);
  Tensor x = scale(normal({9, 41}), 3), y = normal({9, 41});
  x.data<float>()[3] = 0, y.data<float>()[7] = 0, x.data<float>()[11] = NAN;
  const Tensor row = normal({41}), other = normal({41, 9});
  for (const DType t : {DType::posit8, DType::posit8_es1, DType::posit8_es0, DType::posit16,
                        DType::posit16_es1, DType::posit32}) {
    const auto all = [&](Device where) {
      const auto at = [&](const Tensor& v) { return cast(v, t).to(where); };
      const Tensor a = at(x), b = at(y), c = at(row), turned = transpose(at(other), 0, 1);
      Tensors out{add(a, b), sub(a, c),    mul(c, b),      div(a, b),
                  sqrt(a),   fma(a, b, c), add(a, turned), mul(turned, turned)};
      for (const auto& compared : {eq(a, b), ne(a, c), lt(a, b), le(a, a), gt(c, b), ge(turned, a)})
        out.push_back(cast(compared, DType::f32));
      return out;
    };
    const Tensors here = all(cpu), there = all(d);
    for (size_t i = 0; i < here.size(); ++i)
      EXPECT_EQ(difference(there[i], here[i]), "") << name(t) << ", result " << i;
    if (t == DType::posit16_es1) continue;  // the host's kernel for it counts nothing
    const auto sums = [&](Device where) {
      const Tensor a = cast(x, t).to(where), b = cast(y, t).to(where);
      return rounding_of([&] { mul(a, b), div(a, b), add(a, b); });
    };
    EXPECT_EQ(sums(d), sums(cpu)) << name(t);
  }
}

// --math fp8: the product of the codes that the host's codec makes under the same scales.
TEST(Cuda, ProductsOfFp8AreThoseOfTheCodes) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  manual_seed(21);
  const Tensor x = scale(normal({3, 19, 37}), 5), w = scale(normal({3, 37, 21}), 0.01);
  const Tensor matrix = normal({21, 37}), bias = normal({21}), none = Tensor::zeros({2, 37});
  const auto held = [](const Tensor& t) {  // as E4M3 holds it
    double most = 0;
    for (const double v : t.values<double>()) most = std::max(most, std::fabs(v));
    const float s = most > 0 ? static_cast<float>(most) / 448 : 1;
    const Tensor codes = cast(div(t, Tensor::full({1}, s)), DType::fp8_e4m3);
    return scale(cast(codes, DType::f32), s);
  };
  Tensors by_batch;
  for (int64_t i = 0; i < 3; ++i)
    by_batch.push_back(matmul(held(slice(x, 0, i, i + 1)), held(slice(w, 0, i, i + 1))));
  const Tensor batches = concat(by_batch, 0);
  const Tensor product = linear(held(slice(x, 0, 0, 1)), held(matrix), bias);
  cuda::set_math(cuda::Math::fp8);
  const Tensor on_x = x.to(d), on_w = w.to(d);
  const Tensor got = matmul(on_x, on_w);
  const Tensor line = linear(slice(on_x, 0, 0, 1), matrix.to(d), bias.to(d));
  const Tensor turned = matmul(on_w, on_x, {.transpose_a = true, .transpose_b = true});
  const Tensor zeros = linear(none.to(d), matrix.to(d), {});
  // So small that a 448th of them is none.
  const Tensor tiny = linear(Tensor::full({2, 37}, 1e-44).to(d), matrix.to(d), {});
  cuda::set_math(cuda::Math::f32);
  EXPECT_LT(checks::relative_error(got.to(cpu), cast(batches, DType::f64)), 1e-6);
  EXPECT_LT(checks::relative_error(line.to(cpu), cast(product, DType::f64)), 1e-6);
  EXPECT_EQ(zeros.to(cpu).values<float>(), std::vector<float>(42, 0.0f));
  EXPECT_EQ(tiny.to(cpu).values<float>(), std::vector<float>(42, 0.0f));
  const Tensor exact = matmul(w, x, {.transpose_a = true, .transpose_b = true});
  const double e = checks::relative_error(turned.to(cpu), cast(exact, DType::f64));
  EXPECT_GT(e, 1e-4) << "f32 would pass for fp8";
  EXPECT_LT(e, 0.1);
}

// A training in every precision: the codes of weights, gradients and states are made there.
TEST(Cuda, TrainsInEveryPrecision) {
  NEEDS_DEVICE();
  manual_seed(5);
  Tensor pixels = Tensor::empty({32, 1, 28, 28}, DType::u8),
         labels = Tensor::empty({32}, DType::i64);
  for (int64_t i = 0; i < pixels.numel(); ++i)
    static_cast<uint8_t*>(pixels.raw())[i] = static_cast<uint8_t>(i * i % 251);
  for (int64_t i = 0; i < 32; ++i) labels.data<int64_t>()[i] = i % 10;
  struct Result {
    double loss = 0;
    int64_t skipped = 0;
  };
  const auto train = [&](const std::string& precision, const char* device) {
    green::TrainOptions o;
    o.net = {.net = "lenet5"};
    o.batch = 16, o.precision = precision, o.device = device;
    green::Trainer t(o, {"fashion-mnist", pixels, labels, 10});
    Result r;
    while (const std::optional<double> l = t.step()) r.loss += *l;
    r.skipped = t.scaler().skipped();
    return r;
  };
  // Scaled until the gradients of every step overflow, which has to be noticed there, too.
  const std::string high = testing::TempDir() + "/high_scale.json";
  for (const char* preset : {"fp16", "fp8"}) {
    io::write_file(high, str("{\"preset\": \"", preset, "\", \"loss_scale\": 1e12}"));
    EXPECT_EQ(train(high, "cpu").skipped, 2) << preset;
    EXPECT_EQ(train(high, "cuda").skipped, 2) << preset;
  }
  for (const char* p : {"bf16", "fp16", "fp8", "posit16", "posit8_mixed", "posit8", "int8_qat"}) {
    const Result here = train(p, "cpu"), there = train(p, "cuda");
    ASSERT_GT(here.loss, 1) << p;
    EXPECT_NEAR(there.loss, here.loss, 5e-3 * here.loss) << p;
    EXPECT_EQ(there.skipped, here.skipped) << p;
  }
}

}  // namespace
}  // namespace wattle
