// Every check of tests/op_checks.h on every sample of every registered op, one test per op and
// check: Op/relu.cost_equals_counted and so on.
#include <gtest/gtest.h>

#include <set>

#include "tests/op_checks.h"

namespace wattle {
namespace {

using Check = std::string (*)(const OpBase&, int);

class OpTest : public testing::Test {
 public:
  OpTest(const OpBase* op, Check check) : op_(op), check_(check) {}
  void TestBody() override {
    for (int s = 0; s < op_->sample_count(); ++s) {
      std::string wrong;
      try {
        wrong = check_(*op_, s);
      } catch (const std::exception& e) { wrong = str("throws: ", e.what()); }
      EXPECT_EQ(wrong, "") << op_->name << ", sample " << s << " (" << op_->file << ":" << op_->line
                           << ")";
    }
  }

 private:
  const OpBase* op_;
  Check check_;
};

// A gradient that vanishes for every sample would agree with anything.
std::string gradient_exists(const OpBase& op, int sample) {
  if (!op.differentiable || op.estimated_gradient || sample > 0) return {};
  for (int s = 0; s < op.sample_count(); ++s)
    if (checks::has_nonzero_gradient(op, s)) return {};
  return "no sample has a gradient that differs from zero";
}

// A kernel that no sample reaches is a kernel that no check has seen.
std::string kernels_reached(const OpBase& op, int sample) {
  if (sample > 0) return {};
  std::string missed;
  for (int k = 0; k < op.kernel_count(); ++k) {
    std::string why;
    bool reached = false;
    for (int s = 0; s < op.sample_count() && !reached; ++s) {
      const Refusal no =
          op.kernel_refusal(k, checks::sample_inputs(op, s, DType::f32), op.sample_attr(s));
      reached = !no;
      why = no.why;
    }
    const bool other_machine =
        why.starts_with("this machine has no") || why.find("switched off") != why.npos;
    if (!reached && !other_machine) missed += str(op.kernel_name(k), ": ", why, "; ");
  }
  return missed;
}

struct NamedCheck {
  const char* name;
  Check check;
};
constexpr NamedCheck all_checks[] = {
    {"meta_equals_real", checks::meta_equals_real},
    {"cost_equals_counted", checks::cost_equals_counted},
    {"kernels_agree", checks::kernels_agree},
    {"gradients_agree", checks::gradients_agree},
    {"gradient_exists", gradient_exists},
    {"strided_agrees", checks::strided_agrees},
    {"same_bits", checks::same_bits},
    {"kernels_reached", kernels_reached},
};

// Called by main, when every op of every file has registered itself.
void register_op_tests() {
  for (const OpBase* op : all_ops())
    for (const NamedCheck& c : all_checks)
      testing::RegisterTest(str("Op/", op->name).c_str(), c.name, nullptr, nullptr, op->file,
                            op->line,
                            [op, c]() -> testing::Test* { return new OpTest(op, c.check); });
}

}  // namespace
}  // namespace wattle

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  wattle::register_op_tests();
  return RUN_ALL_TESTS();
}
