#include "snn/stdp.h"

#include "core/error.h"
#include "core/recorder.h"
#include "ops/ops.h"

namespace wattle::snn {
namespace {

Tensor numbers(const Tensor& s) { return cast(s, DType::f32); }

void decay(Tensor& trace, const Tensor& s, double tau) {
  trace = trace ? add(scale(trace, 1 - 1 / tau), s) : s;
}

}  // namespace

Stdp::Stdp(const StdpAttr& attr) : a_(attr) {
  const auto least = [](const char* name, double found, double expected) {
    if (!(found >= expected))
      throw value_error(str("stdp: ", name, ": found ", found, ", expected >= ", expected));
  };
  least("tau_pre", a_.tau_pre, 1), least("tau_post", a_.tau_post, 1), least("mu", a_.mu, 0);
}

Tensor Stdp::step(const Tensor& pre, const Tensor& post, const Tensor& weight) {
  if (pre.rank() != 2 || post.rank() != 2 || pre.size(0) != post.size(0) ||
      weight.shape() != Shape{post.size(1), pre.size(1)})
    throw shape_error(str("stdp: found ", pre, ", ", post, " and weight ", weight,
                          ", expected [N,in], [N,out] and [out,in]"));
  const NoRecord off;
  const Tensor s_pre = numbers(pre), s_post = numbers(post);
  decay(pre_, s_pre, a_.tau_pre), decay(post_, s_post, a_.tau_post);
  Tensor up = matmul(transpose(s_post, 0, 1), pre_);
  Tensor down = matmul(transpose(post_, 0, 1), s_pre);
  if (a_.mu > 0) {
    const Tensor mu = Tensor::full({1}, a_.mu);
    up = mul(up, pow(scale(weight, -1, a_.w_max), mu));
    down = mul(down, pow(scale(weight, 1, -a_.w_min), mu));
  }
  return sub(scale(up, a_.a_post), scale(down, a_.a_pre));
}

}  // namespace wattle::snn
