#include "green/moe_account.h"

#include <cmath>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/rng.h"
#include "moe/model_cost.h"
#include "nn/optim.h"
#include "ops/ops.h"

namespace wattle::green {
namespace {

constexpr int64_t bytes_per_weight = 4;

// The layer without a router: the same activation over `hidden` units.
class Dense final : public nn::Module {
 public:
  Dense(const moe::MoEConfig& c, int64_t hidden) : activation_(c.activation) {
    const double std = 0.6 / std::sqrt(static_cast<double>(c.d_model));
    up = register_parameter("up", normal({c.d_model, hidden}, 0, std));
    if (activation_ == "swiglu")
      gate = register_parameter("up_gate", normal({c.d_model, hidden}, 0, std));
    down = register_parameter("down", normal({hidden, c.d_model}, 0, std));
  }
  Tensor forward(const Tensor& x) override {
    const Tensor h = matmul(x, up);
    const Tensor a = gate                    ? mul(silu(matmul(x, gate)), h)
                     : activation_ == "gelu" ? gelu(h)
                                             : relu(h);
    return matmul(a, down);
  }
  const char* kind() const override { return "Dense"; }
  Tensor up, gate, down;

 private:
  std::string activation_;
};

void step(nn::Module& m, const Tensor& x, EnergySession& energy, const char* name, MoeSide& side) {
  nn::Adam adam(m.named_parameters(), AdamAttr{.lr = 1e-3}, true);
  const auto once = [&] {
    adam.zero_grad();
    Tape tape;
    tape.watch(x);
    for (const nn::Named& p : m.named_parameters()) tape.watch(p.tensor);
    const Tensor y = m(x);
    Tensor loss;
    {
      const Scope scope("loss");
      const Tensor aux = moe::aux_loss(m);
      loss = sum(mul(y, y));
      if (aux) loss = add(loss, aux);
    }
    tape.backward(loss);
    adam.step();
  };
  once();  // memory is fetched and moments are made
  counters().clear();
  EnergyRun run;
  energy.begin(run, name);
  once();
  run.end();
  side.ledger = energy.ledger(counters(), module_kinds(m), run);
}

bool is_route(const std::string& path) { return path.find("route") != std::string::npos; }

// What moved, from the counters' rows; weights are those that the batch touched.
void read_counters(MoeSide& side) {
  int64_t forward = 0;
  for (const LedgerRow& r : side.ledger.rows) {
    if (r.phase == Phase::optimizer) side.optimizer_bytes += r.executed.bytes();
    if (r.phase != Phase::forward || r.layer == "loss") continue;
    (r.layer.ends_with("gate") ? side.gate_flops : side.flops) +=
        static_cast<double>(r.executed.flops());
    if (is_route(r.layer)) side.index_bytes += r.executed.bytes();
    forward += r.executed.bytes();
  }
  side.activation_bytes = forward - side.index_bytes - side.weight_bytes_touched;
  side.resident_bytes = side.params_total * bytes_per_weight;
}

int64_t fixed_weights(const moe::MoEConfig& c) {  // touched by any batch
  return c.shared * c.expert_parameters() + c.gate_parameters();
}

}  // namespace

MoeAccount moe_account(const moe::MoEConfig& c, int64_t tokens, int64_t dense_hidden, uint64_t seed,
                       EnergySession& energy) {
  moe::check(c);
  if (tokens < 1) throw value_error(str("moe account: tokens: found ", tokens, ", expected >= 1"));
  MoeAccount a{.config = c, .tokens = tokens};
  a.dense_hidden = dense_hidden > 0 ? dense_hidden : (c.active() + c.shared) * c.d_expert();
  manual_seed(seed);
  const Tensor x = normal({tokens, c.d_model});
  moe::MoE layer(c);
  if (c.score == "hash") {
    const Tensor ids = Tensor::empty({tokens}, DType::i64);
    for (int64_t t = 0; t < tokens; ++t) ids.data<int64_t>()[t] = t;
    layer.set_tokens(ids);
  }
  step(layer, x, energy, "routed", a.routed);
  a.router = layer.stats();
  a.routed.params_total = c.parameters(), a.routed.params_active = c.active_parameters();
  a.routed.weight_bytes_touched =
      bytes_per_weight * (a.router.distinct * c.expert_parameters() + fixed_weights(c));
  read_counters(a.routed);
  Dense dense(c, a.dense_hidden);
  step(dense, x, energy, "dense", a.dense);
  a.dense.params_total = a.dense.params_active = c.matrices() * c.d_model * a.dense_hidden;
  a.dense.weight_bytes_touched = bytes_per_weight * a.dense.params_total;
  read_counters(a.dense);
  return a;
}

MoePoint moe_point(const MoeAccount& a, int64_t tokens, const energy::Table& table) {
  const moe::MoEConfig& c = a.config;
  MoePoint p{.tokens = tokens};
  p.distinct = moe::expected_distinct(c.routed(), c.active(), tokens);
  const double one = bytes_per_weight * static_cast<double>(c.expert_parameters());
  p.routed_bytes = p.distinct * one + bytes_per_weight * static_cast<double>(fixed_weights(c));
  p.dense_bytes = static_cast<double>(a.dense.weight_bytes_touched);
  const double share = static_cast<double>(tokens) / static_cast<double>(a.tokens);
  const auto joules = [&](double flops, double bytes) {
    const Cost cost{.mac = std::llround(flops / 2), .read = std::llround(bytes)};
    return static_cast<double>(energy_of(cost, DType::f32, table).fj) * 1e-9;
  };
  const auto moved = [&](const MoeSide& s) {
    return static_cast<double>(s.activation_bytes + s.index_bytes) * share;
  };
  p.routed_uj =
      joules((a.routed.flops + a.routed.gate_flops) * share, p.routed_bytes + moved(a.routed));
  p.dense_uj = joules(a.dense.flops * share, p.dense_bytes + moved(a.dense));
  return p;
}

std::optional<std::pair<int64_t, int64_t>> break_even(const MoeAccount& a,
                                                      const energy::Table& table) {
  std::optional<std::pair<int64_t, int64_t>> range;
  // Every batch up to 1024, then 1/16 more each time: the curves are smooth there.
  for (int64_t t = 1; t <= 1 << 20; t += t < 1024 ? 1 : t / 16) {
    const MoePoint p = moe_point(a, t, table);
    if (p.routed_uj >= p.dense_uj) continue;
    range = {range ? range->first : t, t};
  }
  return range;
}

}  // namespace wattle::green
