#include "moe/config.h"

#include <fstream>

#include "core/error.h"
#include "moe/json_fields.h"

namespace wattle::moe {
namespace {

template <class T>
[[noreturn]] void fail(const char* field, const T& found, const std::string& expected) {
  throw value_error(str("moe: ", field, ": found ", found, ", expected ", expected));
}

void check_routing(const MoEConfig& c) {
  if (c.score != "softmax" && c.score != "sigmoid" && c.score != "hash")
    fail("score", c.score, "softmax, sigmoid or hash");
  if (c.score == "hash" && (c.norm_topk || c.bias_update_rate > 0 || c.aux_alpha != 0 ||
                            c.device_alpha != 0 || c.z_loss != 0))
    fail("score", c.score,
         "softmax or sigmoid with norm_topk, losses or a bias: a hash has no gate");
  if (c.groups < 1 || c.routed() % c.groups != 0)
    fail("groups", c.groups, str("a divisor of ", c.routed(), ", the number of routed experts"));
  if (c.topk_groups < 1 || c.topk_groups > c.groups)
    fail("topk_groups", c.topk_groups, str("1 to ", c.groups));
  const int64_t eligible = c.groups > 1 ? c.routed() / c.groups * c.topk_groups : c.routed();
  if (c.active() < 1 || c.active() > eligible)
    fail("top_k", c.top_k,
         str("m K - Ks from 1 to ", eligible, " routed experts; m K - Ks is ", c.active()));
  if (c.device_alpha != 0 && (c.device_groups < 1 || c.routed() % c.device_groups != 0))
    fail("device_groups", c.device_groups,
         str("a divisor of ", c.routed(), ", the number of routed experts"));
}

}  // namespace

void check(const MoEConfig& c) {
  if (c.d_model < 1) fail("d_model", c.d_model, ">= 1");
  if (c.experts < 1) fail("experts", c.experts, ">= 1");
  if (c.segments < 1 || c.d_ff % c.segments != 0 || c.d_ff < 1)
    fail("segments", c.segments, str("a divisor of d_ff ", c.d_ff));
  if (c.top_k < 1 || c.top_k > c.experts)
    fail("top_k", c.top_k, str("1 to ", c.experts, " experts"));
  if (c.shared < 0 || c.shared >= c.segments * c.experts)
    fail("shared", c.shared, str("0 to ", c.segments * c.experts - 1));
  if (c.activation != "relu" && c.activation != "gelu" && c.activation != "swiglu")
    fail("activation", c.activation, "relu, gelu or swiglu");
  if (c.capacity_factor < 0) fail("capacity_factor", c.capacity_factor, ">= 0, 0 for no limit");
  if (c.bias_update_rate < 0) fail("bias_update_rate", c.bias_update_rate, ">= 0");
  check_routing(c);
}

Json json_of_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw io_error(str(path, ": cannot be opened"));
  try {
    return Json::parse(in);
  } catch (const Json::exception& e) { throw io_error(str(path, ": is not JSON: ", e.what())); }
}

MoEConfig config_from(const std::string& path) {
  MoEConfig c;
  read_field({path, ""}, json_of_file(path), c);
  check(c);
  return c;
}

}  // namespace wattle::moe
