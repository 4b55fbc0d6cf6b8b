// The op of docs/ADDING_AN_OP.md, extracted from the page and compiled, passes what every op
// passes.
#include <gtest/gtest.h>

#include "leaky_relu.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

TEST(AddingAnOp, RegistersItself) {
  const OpBase& op = find_op("leaky_relu");
  EXPECT_TRUE(op.differentiable);
  EXPECT_EQ(op.kernel_count(), 4);
  const auto attr = op.make_attr();
  ASSERT_EQ(op.attr_texts(attr.get()).size(), 1u);
  EXPECT_EQ(op.attr_texts(attr.get())[0].text, "0.01");
  EXPECT_THROW(op.set_attr(attr.get(), "slope", "1"), value_error);
}

TEST(AddingAnOp, ComputesWhatTheCatalogueSays) {
  const Tensor y = leaky_relu(Tensor::from<float>({-2, 0, 3}, {3}), 0.5);
  EXPECT_EQ(y.values<float>(), (std::vector<float>{-1, 0, 3}));
  EXPECT_FLOAT_EQ(leaky_relu(Tensor::full({1}, -1)).values<float>()[0], -0.01f);
  EXPECT_THROW(leaky_relu(Tensor::zeros({2}, DType::i64)), dtype_error);
}

TEST(AddingAnOp, PassesEveryGenericCheck) {
  const OpBase& op = find_op("leaky_relu");
  ASSERT_GE(op.sample_count(), 3);
  for (int s = 0; s < op.sample_count(); ++s) {
    EXPECT_EQ(checks::meta_equals_real(op, s), "") << s;
    EXPECT_EQ(checks::cost_equals_counted(op, s), "") << s;
    EXPECT_EQ(checks::kernels_agree(op, s), "") << s;
    EXPECT_EQ(checks::gradients_agree(op, s), "") << s;
    EXPECT_EQ(checks::strided_agrees(op, s), "") << s;
    EXPECT_EQ(checks::same_bits(op, s), "") << s;
    EXPECT_TRUE(checks::has_nonzero_gradient(op, s)) << s;
  }
}

}  // namespace
}  // namespace wattle
