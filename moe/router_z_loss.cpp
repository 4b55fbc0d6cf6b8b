// router_z_loss: L = mean_t z_t^2,  z_t = log sum_i e^(x_ti).   dx_ti = g 2 z_t / T softmax(x_t)_i
// (Zoph et al., "ST-MoE", 2022, equation 5): it keeps the logits of a router small.
#include "moe/ops.h"
#include "ops/indexing.h"

namespace wattle {
namespace {

// log sum exp of a row of n, the exponentials left in `work`.
template <class T>
T log_sum_exp(const T* x, int64_t n, T* work, T& total) {
  T m = x[0];
  for (int64_t i = 1; i < n; ++i) m = x[i] > m ? x[i] : m;
  total = T(0);
  for (int64_t i = 0; i < n; ++i) {
    work[i] = num::exp(x[i] - m);
    total += work[i];
  }
  return m + num::log(total);
}

void loss_ref(Ins in, Outs out, const NoAttr&) {
  const int64_t tokens = in[0].size(0), n = in[0].size(1);
  dispatch_floating("router_z_loss", in[0].dtype(), [&]<class T>() {
    std::vector<T> work(static_cast<size_t>(n));
    T sum = T(0), total;
    for (int64_t t = 0; t < tokens; ++t) {
      const T z = log_sum_exp(in[0].data<T>() + t * n, n, work.data(), total);
      sum += z * z;
    }
    if (tokens == 0) out[0].data<T>()[0] = sum;
    else out[0].data<T>()[0] = sum / T(static_cast<double>(tokens));
  });
}

void grad_ref(Ins in, Outs out, const NoAttr&) {
  const int64_t tokens = in[1].size(0), n = in[1].size(1);
  dispatch_floating("router_z_loss_grad", in[1].dtype(), [&]<class T>() {
    const T scale = T(tokens > 0 ? 2.0 / static_cast<double>(tokens) : 0.0);
    parallel_for(tokens, 1 + indexing::grain<T>(1 << 12) / (n + 1), [&](int64_t b, int64_t e) {
      std::vector<T> work(static_cast<size_t>(n));
      for (int64_t t = b; t < e; ++t) {
        T total;
        const T z = log_sum_exp(in[1].data<T>() + t * n, n, work.data(), total);
        const T factor = in[0].data<T>()[0] * scale * z / total;
        for (int64_t i = 0; i < n; ++i)
          out[0].data<T>()[t * n + i] = factor * work[static_cast<size_t>(i)];
      }
    });
  });
}

Cost rows_cost(const Tensor& x) {
  const int64_t n = x.size(1);
  return Cost{.add = 2 * n + 1, .cmp = n - 1, .special = n + 1} * x.size(0);
}

void logits_operand(const char* op, Ins in, int i) {
  rules::floating(op, in, i);
  rules::rank(op, in, i, 2);
  if (in[static_cast<size_t>(i)].size(1) < 1)
    throw shape_error(
        str(op, ": found ", in[static_cast<size_t>(i)], ", expected at least one expert"));
}

const Op<> grad_op{{
    .name = "router_z_loss_grad",
    .doc = "Gradient of router_z_loss",
    .equation = "dx = g 2 z / T softmax(x)",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("router_z_loss_grad", in, 2, 2);
          rules::same_dtype("router_z_loss_grad", in);
          rules::rank("router_z_loss_grad", in, 0, 0);
          logits_operand("router_z_loss_grad", in, 1);
          return Metas{in[1].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NoAttr&) {
          const int64_t t = in[1].size(0), n = in[1].size(1);
          return rows_cost(in[1]) + Cost{.mul = t * (n + 2), .special = t};
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const NoAttr&) {
          return in[1].numel() == 0 ? Bytes{} : default_bytes(in, out, {});
        },
    .kernels = {{"ref", grad_ref}},
    .samples = {{{{{}}, {{3, 5}}}}, {{{{}}, {{1, 1}}}}, {{{{}}, {{4, 37}}}}},
}};

const Op<> op{{
    .name = "router_z_loss",
    .doc = "Mean square of the log-partition of a router's logits",
    .equation = "L = mean_t (log sum_i e^x_ti)^2",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("router_z_loss", in, 1, 1);
          logits_operand("router_z_loss", in, 0);
          return Metas{{{}, in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NoAttr&) {
          const int64_t t = in[0].size(0);
          return rows_cost(in[0]) + Cost{.add = t, .mul = t, .special = t > 0 ? 1 : 0};
        },
    .kernels = {{"ref", loss_ref}},
    .saves_in = {0},
    .backward =
        [](const Saved<NoAttr>& s, Ins g) {
          return Tensors{grad_op.one({g[0], s.in(0)})};
        },
    .samples = {{{{{3, 5}}}}, {{{{1, 1}, 0.5, 1}}}, {{{{4, 37}}}}},
}};

}  // namespace

Tensor router_z_loss(const Tensor& logits) { return op.one({logits}); }

}  // namespace wattle
