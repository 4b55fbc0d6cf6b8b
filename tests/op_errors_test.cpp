// Wrong operands of every op: too few, too many, other ranks, sizes and element types. A call
// either works or throws an error that names the op; it never crashes and never throws anything
// else.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "ops/ops.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

enum class Outcome { worked, refused, wrong };

struct Tried {
  Outcome outcome;
  std::string message;
};

Tried attempt(const OpBase& op, const Tensors& in, const void* attr) {
  Tensors own;  // the call may write in place
  for (const Tensor& t : in) own.push_back(t ? checks::deep_copy(t) : Tensor{});
  try {
    apply(op, own, attr);
    return {Outcome::worked, ""};
  } catch (const error& e) {
    const std::string text = e.what();  // the limit of 8 dimensions is Shape's own
    const bool named = text.starts_with(op.name) || text.starts_with("shape: more than 8");
    return {named ? Outcome::refused : Outcome::wrong, text};
  } catch (const std::exception& e) {
    return {Outcome::wrong, str("not an error of ours: ", e.what())};
  }
}

/// Other shapes than `s`: one dimension more or fewer, every size changed, none, as many as
/// possible.
std::vector<Shape> other_shapes(const Shape& s) {
  std::vector<Shape> out{Shape{}, Shape::filled(Shape::max_rank, 1)};
  if (s.rank() < Shape::max_rank) {
    out.push_back(s);
    out.back().insert(0, 2);
    out.push_back(s);
    out.back().push_back(1);
  }
  for (int d = 0; d < s.rank(); ++d) {
    out.push_back(s);
    out.back().erase(d);
    for (const int64_t size : {s[d] + 1, int64_t{0}}) {
      out.push_back(s);
      out.back()[d] = size;
    }
  }
  return out;
}

/// Cycles through the values of `t`, so that what was a valid index or class stays one.
Tensor reshaped(const Tensor& t, const Shape& shape, DType dtype) {
  const auto v = t.values<double>();
  const Tensor out = Tensor::empty(shape, dtype);
  dispatch_all("reshaped", dtype, [&]<class T>() {
    for (int64_t i = 0; i < out.numel(); ++i)
      out.data<T>()[i] = v.empty() ? T(0) : static_cast<T>(v[static_cast<size_t>(i) % v.size()]);
  });
  return out;
}

/// All wrong calls made from one sample.
template <class F>
void for_each_mutation(const Tensors& in, F&& fn) {
  Tensors changed = in;
  changed.push_back(in.empty() ? Tensor::ones({2}) : in[0]);
  fn(changed, "one operand more");
  if (!in.empty()) {
    changed = in;
    changed.pop_back();
    fn(changed, "one operand less");
    fn(Tensors{}, "no operand");
  }
  for (size_t i = 0; i < in.size(); ++i) {
    changed = in;
    changed[i] = Tensor{};
    fn(changed, str("operand ", i, " not given"));
    if (!in[i]) continue;
    for (const Shape& s : other_shapes(in[i].shape())) {
      changed[i] = reshaped(in[i], s, in[i].dtype());
      fn(changed, str("operand ", i, " as ", changed[i]));
    }
    for (DType t : {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean}) {
      if (t == in[i].dtype()) continue;
      changed[i] = reshaped(in[i], in[i].shape(), t);
      fn(changed, str("operand ", i, " as ", changed[i]));
    }
  }
}

class OpErrors : public ::testing::TestWithParam<const OpBase*> {};

TEST_P(OpErrors, WrongOperandsAreRefusedByName) {
  const OpBase& op = *GetParam();
  int refused = 0;
  for (int s = 0; s < op.sample_count(); ++s) {
    const Tensors in = checks::sample_inputs(op, s, DType::f32);
    const bool large =
        std::any_of(in.begin(), in.end(), [](const Tensor& t) { return t && t.numel() > 3000; });
    if (large) continue;
    for_each_mutation(in, [&](const Tensors& changed, const std::string& how) {
      const Tried t = attempt(op, changed, op.sample_attr(s));
      EXPECT_NE(t.outcome, Outcome::wrong)
          << op.name << ", sample " << s << ", " << how << ": " << t.message;
      refused += t.outcome == Outcome::refused;
    });
  }
  EXPECT_GE(refused, op.sample_count()) << "takes anything";
}

std::string name_of(const ::testing::TestParamInfo<const OpBase*>& i) { return i.param->name; }
TEST(OpErrorsOne, NoRoomForOneMoreDimension) {
  const Tensor full = Tensor::zeros({1, 1, 1, 1, 1, 1, 1, 1}, DType::i64);
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const shape_error& e) { return e.what(); }
    return "nothing was thrown";
  };
  const std::string why = "gets one more dimension, expected at most 7";
  for (const auto& [op, text] : {std::pair{"embedding", message([&] {
                                             embedding(full, Tensor::zeros({2, 3}));
                                           })},
                                 std::pair{"one_hot", message([&] { one_hot(full, 3); })},
                                 std::pair{"stack", message([&] {
                                             stack({full, full}, 0);
                                           })}}) {
    EXPECT_TRUE(text.starts_with(op) && text.find(why) != text.npos) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(All, OpErrors, ::testing::ValuesIn(all_ops()), name_of);

}  // namespace
}  // namespace wattle
