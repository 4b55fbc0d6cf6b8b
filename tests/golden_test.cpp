// Every op against PyTorch's answers, kept in tests/golden (made by tests/oracle/make_golden.py,
// which also describes the layout): results, operands written in place and gradients, by the kernel
// that dispatch picks and by every other one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/tape.h"
#include "core/recorder.h"
#include "data/safetensors.h"

namespace wattle {
namespace {

using nlohmann::json;

constexpr double tolerance = 1e-5;  // norm-wise, f32

struct Golden {
  io::SafetensorsFile tensors;
  json cases;
};

const Golden& golden() {
  static const Golden g = [] {
    const std::string folder = WATTLE_SOURCE_DIR "/tests/golden/";
    std::ifstream text(folder + "ops.json");
    const json all = json::parse(text);
    EXPECT_EQ(all.at("tolerance"), tolerance);
    return Golden{io::read_safetensors(folder + "ops.safetensors"), all.at("cases")};
  }();
  return g;
}

Tensor copy_of(const Tensor& t) {
  const Tensor c = Tensor::empty(t.shape(), t.dtype());
  std::memcpy(c.raw(), t.raw(), static_cast<size_t>(t.nbytes()));
  return c;
}

double norm(const std::vector<double>& v) {
  double s = 0;
  for (double x : v) s += x * x;
  return std::sqrt(s);
}

/// One case, read from the files; `expected` maps out0, written1, grad2, ... to PyTorch's answers.
struct Case {
  std::string name;
  const OpBase* op = nullptr;
  std::shared_ptr<void> attr;
  Tensors in;
  Tensor gy;
  std::map<std::string, Tensor> expected;
};

Case read_case(const json& j) {
  Case c;
  c.op = &find_op(j.at("op").get<std::string>());
  c.name = j.at("op").get<std::string>() + "/" + j.at("case").get<std::string>();
  c.attr = c.op->make_attr();
  for (const auto& [field, text] : j.at("attrs").items())
    c.op->set_attr(c.attr.get(), field, text.get<std::string>());
  const std::set<int> missing = j.at("missing");
  auto at = [&](const char* what, int i) {
    return golden().tensors.at(c.name + "/" + what + std::to_string(i));
  };
  for (int i = 0; i < j.at("inputs"); ++i)
    c.in.push_back(missing.count(i) ? Tensor{} : at("in", i));
  auto expect = [&](const char* what, int i) {
    c.expected[what + std::to_string(i)] = at(what, i);
  };
  for (int i = 0; i < j.at("outputs"); ++i) expect("out", i);
  for (int i : j.at("written")) expect("written", i);
  for (int i : j.at("grads")) expect("grad", i);
  if (j.at("gy")) c.gy = at("gy", 0);
  return c;
}

/// The same keys from the library.
std::map<std::string, Tensor> answers(const Case& c) {
  Tensors in;
  for (const Tensor& t : c.in) in.push_back(t ? copy_of(t) : Tensor{});
  Tape tape;
  if (c.gy)
    for (const Tensor& t : in)
      if (t && is_floating(t.dtype())) tape.watch(t);
  const Tensors out = apply(*c.op, in, c.attr.get());
  std::map<std::string, Tensor> got;
  for (size_t i = 0; i < out.size(); ++i) got["out" + std::to_string(i)] = out[i];
  for (size_t i = 0; i < in.size(); ++i) got["written" + std::to_string(i)] = in[i];
  if (!c.gy) return got;
  for (const Tensor& y : out) {
    if (!is_floating(y.dtype())) continue;
    const Tensors g = tape.gradient(y, in, c.gy);
    for (size_t i = 0; i < g.size(); ++i) got["grad" + std::to_string(i)] = g[i];
    break;
  }
  return got;
}

/// What is wrong, or an empty text. An expectation of exact zeros has no norm; the error is then
/// taken relative to `scale`.
std::string difference(const Tensor& got, const Tensor& expected, double scale) {
  if (!got) return "is missing";
  if (got.shape() != expected.shape() || got.dtype() != expected.dtype())
    return str("is ", got, ", PyTorch's ", expected);
  const auto a = got.values<double>(), b = expected.values<double>();
  if (!is_floating(expected.dtype())) return a == b ? "" : "differs";
  std::vector<double> distance, size;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(b[i])) {
      if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i])))
        return str("holds ", a[i], " at ", i, ", PyTorch's ", b[i]);
      continue;
    }
    distance.push_back(a[i] - b[i]);
    size.push_back(b[i]);
  }
  const double d = norm(distance), n = norm(size), e = d == 0 ? 0 : d / (n > 0 ? n : scale);
  return e <= tolerance ? "" : str("is off by ", e);
}

std::string check(const Case& c) {
  std::map<std::string, Tensor> got;
  try {
    got = answers(c);
  } catch (const error& e) { return str(c.name, ": ", e.what()); }
  const double scale = c.gy ? norm(c.gy.values<double>()) : 1;
  for (const auto& [key, expected] : c.expected)
    if (const std::string d = difference(got[key], expected, key[0] == 'g' ? scale : 1); !d.empty())
      return str(c.name, ": ", key, " ", d);
  return {};
}

/// Runs fn() once by default dispatch, then with every instruction set, then by the definition of
/// all ops (gradient ops included), then with every kernel of the op that takes the operands.
int for_every_kernel(const Case& c, const std::function<void(const std::string&)>& fn) {
  int runs = 1;
  fn("default dispatch");
  const simd::Level best = simd::level();
  for (simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512}) {
    if (l > best) continue;
    simd::set_level(l);
    fn(str("level ", simd::level_name(l)));
    ++runs;
  }
  simd::set_level(best);
  {
    const ForceKernel force("*", "ref");
    fn("every op by its definition");
    ++runs;
  }
  for (int k = 0; k < c.op->kernel_count(); ++k) {
    if (c.op->kernel_refusal(k, c.in, c.attr.get())) continue;
    const ForceKernel force(c.op->name, c.op->kernel_name(k));
    fn(str("kernel ", c.op->kernel_name(k)));
    ++runs;
  }
  return runs;
}

TEST(Golden, EveryCaseByEveryKernel) {
  std::map<std::string, int> cases;
  int runs = 0;
  for (const json& j : golden().cases) {
    const Case c = read_case(j);
    ++cases[j.at("op")];
    runs += for_every_kernel(c, [&](const std::string& how) {
      const std::string wrong = check(c);
      EXPECT_EQ(wrong, "") << how;
    });
  }
  EXPECT_GE(cases.size(), 60u);
  for (const auto& [op, n] : cases) EXPECT_EQ(n, 3) << op;
  EXPECT_GT(runs, 1000);
}

// One value that is wrong by little more than the tolerance has to be found, in every kind of
// answer: results, operands written in place, gradients, integers.
TEST(Golden, PlantedWrongValuesAreFound) {
  std::map<std::string, int> found;
  for (const json& j : golden().cases) {
    const Case sound = read_case(j);
    for (const auto& [key, right] : sound.expected) {
      if (right.numel() == 0) continue;
      Case planted = sound;
      const Tensor wrong = copy_of(right);
      if (wrong.dtype() == DType::f32) {
        const double scale = norm(right.values<double>());
        if (!(scale > 0) || !std::isfinite(scale)) continue;
        wrong.data<float>()[right.numel() / 2] += static_cast<float>(4 * tolerance * scale);
      } else if (wrong.dtype() == DType::i64) {
        ++wrong.data<int64_t>()[right.numel() - 1];
      } else {
        continue;
      }
      planted.expected[key] = wrong;
      EXPECT_NE(check(planted).find(sound.name + ": " + key), std::string::npos) << key;
      ++found[key.substr(0, key.find_first_of("0123456789"))];
    }
  }
  EXPECT_GT(found["out"], 100);
  EXPECT_GT(found["grad"], 100);
  EXPECT_GT(found["written"], 20);
}

}  // namespace
}  // namespace wattle
