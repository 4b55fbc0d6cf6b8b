#include "moe/layer.h"

#include <cmath>

#include "core/counters.h"
#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "moe/exchange.h"
#include "moe/ops.h"

namespace wattle::moe {

double RouterStats::max_vio() const {
  int64_t most = 0, sum = 0;
  for (int64_t n : load) most = std::max(most, n), sum += n;
  if (sum == 0) return 0;
  return static_cast<double>(most) * static_cast<double>(load.size()) / static_cast<double>(sum) -
         1;
}

double RouterStats::entropy() const {
  int64_t sum = 0;
  for (int64_t n : load) sum += n;
  double h = 0;
  for (int64_t n : load) {
    const double p = static_cast<double>(n) / static_cast<double>(sum);
    if (n > 0) h -= p * std::log(p);
  }
  return h;
}

RouterStats operator+(RouterStats a, const RouterStats& b) {
  if (a.load.empty()) return b;
  if (b.load.size() != a.load.size() || a.active != b.active)
    throw value_error(str("router statistics: found ", b.load.size(), " experts, ", b.active,
                          " active, expected ", a.load.size(), " and ", a.active));
  const double n = static_cast<double>(a.tokens + b.tokens);
  a.distinct = 0;
  for (size_t i = 0; i < a.load.size(); ++i) {
    a.load[i] += b.load[i];
    a.distinct += a.load[i] > 0;
    a.mean_score[i] = n == 0 ? 0
                             : (a.mean_score[i] * static_cast<double>(a.tokens) +
                                b.mean_score[i] * static_cast<double>(b.tokens)) /
                                   n;
  }
  a.tokens += b.tokens, a.dropped += b.dropped;
  return a;
}

MoE::MoE(const MoEConfig& c, double init_std) : c_(c) {
  check(c);
  const int64_t n = c.routed(), d = c.d_model, h = c.d_expert(), s = c.shared * h;
  const double std = init_std > 0 ? init_std : 0.6 / std::sqrt(static_cast<double>(d));
  const auto draw = [&](const char* name, const Shape& shape) {
    return register_parameter(name, normal(shape, 0, std));
  };
  if (c.score != "hash") gate = draw("gate.weight", {n, d});
  if (n < world().size())
    throw value_error(str("moe: found ", world().size(), " ranks, expected at most ", n,
                          ", the number of routed experts"));
  const auto share = [&](const char* name, const Shape& shape) {
    return register_parameter(name, own_experts(normal(shape, 0, std)));
  };
  up = share("experts.up", {n, d, h});
  if (c.activation == "swiglu") up_gate = share("experts.up_gate", {n, d, h});
  down = share("experts.down", {n, h, d});
  if (s > 0) {
    shared_up = draw("shared.up", {d, s});
    if (c.activation == "swiglu") shared_up_gate = draw("shared.up_gate", {d, s});
    shared_down = draw("shared.down", {s, d});
  }
  if (c.bias_update_rate > 0) bias = register_buffer("bias", Tensor::zeros({n}));
  load_.assign(static_cast<size_t>(n), 0);
}

std::string MoE::extra() const {
  return str(c_.shared, " + ", c_.routed(), " experts of ", c_.d_expert(), ", top ", c_.active());
}

void MoE::set_probe(const Probe& p) {
  if (!(p.disable_top >= 0 && p.disable_top < 1))
    throw value_error(str("moe: disable_top: found ", p.disable_top, ", expected 0 to below 1"));
  if (p.active < 0 || p.active > c_.routed())
    throw value_error(str("moe: active: found ", p.active, ", expected 0 to ", c_.routed()));
  probe_ = p;
}

int64_t MoE::k() const {
  return (probe_.active > 0 ? probe_.active : c_.active()) + (probe_.shared_off ? c_.shared : 0);
}

int64_t MoE::capacity(int64_t tokens, int64_t k) const {
  if (c_.capacity_factor <= 0) return 0;
  const double rows =
      c_.capacity_factor * static_cast<double>(k * tokens) / static_cast<double>(c_.routed());
  return std::max<int64_t>(1, static_cast<int64_t>(std::floor(rows)));
}

namespace {
// A fixed choice for every token number: the K first of a permutation that the number seeds.
Tensor hash_experts(const Tensor& tokens, int64_t experts, int64_t k) {
  const Tensor out = Tensor::empty({tokens.numel(), k}, DType::i64, cpu);
  const std::vector<int64_t> ids = tokens.values<int64_t>();
  std::vector<int64_t> all(static_cast<size_t>(experts));
  for (size_t t = 0; t < ids.size(); ++t) {
    for (int64_t e = 0; e < experts; ++e) all[static_cast<size_t>(e)] = e;
    for (int64_t i = 0; i < k; ++i) {
      const uint64_t left = static_cast<uint64_t>(experts - i);
      const int64_t j =
          i + below_at(0x9e3779b9u + static_cast<uint64_t>(ids[t]), static_cast<uint64_t>(i), left);
      std::swap(all[static_cast<size_t>(i)], all[static_cast<size_t>(j)]);
      out.data<int64_t>()[static_cast<int64_t>(t) * k + i] = all[static_cast<size_t>(i)];
    }
  }
  return out.to(tokens.device());
}
}  // namespace

MoE::Chosen MoE::choose(const Tensor& x) {
  if (c_.score == "hash") {
    if (frozen_) return {{}, frozen_, {}};
    if (x.is_meta()) return {{}, Tensor::empty({x.size(0), k()}, DType::i64, meta), {}};
    if (!tokens_ || tokens_.numel() != x.size(0))
      throw value_error(str("moe ", name(), ": score hash needs the numbers of ", x.size(0),
                            " tokens, found ", tokens_ ? tokens_.numel() : 0, " (set_tokens)"));
    return {{}, hash_experts(tokens_, c_.routed(), k()), {}};
  }
  const Scope scope("gate");
  logits_ = linear(x, gate);
  TopkGateAttr a{
      .k = k(), .score = c_.score, .norm_topk = c_.norm_topk, .route_scale = c_.route_scale};
  a.groups = c_.groups, a.topk_groups = c_.topk_groups;
  a.skip = std::lround(probe_.disable_top * static_cast<double>(c_.routed()));
  const Tensors r = topk_gate(logits_, bias, frozen_, a);
  return {r[0], r[1], r[2]};
}

Tensor MoE::activate(const Tensor& h, const Tensor& gate) const {
  if (c_.activation == "swiglu") return mul(silu(gate), h);
  return c_.activation == "gelu" ? gelu(h) : relu(h);
}

Tensor MoE::routed(const Tensor& x, const Chosen& c) {
  Tensors sorted;
  {
    const Scope scope("route");
    sorted = counting_sort(c.expert, {c_.routed(), capacity(x.size(0), k())});
  }
  const Tensor &order = sorted[0], &position = sorted[1];
  offsets_ = sorted[2];
  const Scope scope("experts");
  if (world().size() == 1)
    return combine(experts_here(x, offsets_, order, position), c.weight, position, order);
  const Tensor y = experts_of_all_ranks(dispatch_rows(x, {}, order, position));
  return combine(y, c.weight, position, order);
}

// Results in slots. Rows of x are read through order and position.
Tensor MoE::experts_here(const Tensor& x, const Tensor& offsets, const Tensor& order,
                         const Tensor& position) const {
  if (c_.activation == "relu")
    return grouped_gemm(grouped_gemm_relu(x, up, offsets, order, position), down, offsets);
  Tensor h = grouped_gemm(x, up, offsets, order, position);
  h = activate(h, up_gate ? grouped_gemm(x, up_gate, offsets, order, position) : Tensor{});
  return grouped_gemm(h, down, offsets);
}

// rows [P,d] in the slots of all experts, of which each rank holds a run: they travel to the rank
// of their expert, are computed there, and come back into the same slots.
Tensor MoE::experts_of_all_ranks(const Tensor& rows) {
  Group& g = world();
  const int64_t ranks = g.size(), first = first_expert(c_.routed(), g.rank());
  const int64_t here = first_expert(c_.routed(), g.rank() + 1) - first;
  const int64_t* const o = offsets_.data<int64_t>();
  std::vector<int64_t> counts(static_cast<size_t>(c_.routed())),
      all(static_cast<size_t>(c_.routed() * ranks));
  for (size_t e = 0; e < counts.size(); ++e) counts[e] = o[e + 1] - o[e];
  g.all_gather(counts.data(), c_.routed(), all.data());
  const Tensor send = Tensor::zeros({ranks}, DType::i64), recv = Tensor::zeros({ranks}, DType::i64);
  std::vector<int64_t> experts;  // of the rows that come, rank by rank
  for (int64_t r = 0; r < ranks; ++r) {
    for (int64_t e = first_expert(c_.routed(), r); e < first_expert(c_.routed(), r + 1); ++e)
      send.data<int64_t>()[r] += counts[static_cast<size_t>(e)];
    for (int64_t e = 0; e < here; ++e) {
      const int64_t n = all[static_cast<size_t>(r * c_.routed() + first + e)];
      recv.data<int64_t>()[r] += n;
      experts.insert(experts.end(), static_cast<size_t>(n), e);
    }
  }
  const int64_t came = static_cast<int64_t>(experts.size());
  const Tensor index = Tensor::empty({came, 1}, DType::i64);
  std::copy(experts.begin(), experts.end(), index.data<int64_t>());
  const Tensors sorted = counting_sort(index, {here});
  const Tensor x = all_to_all_rows(rows, send, recv, came);
  const Tensor y = experts_here(x, sorted[2], sorted[0], sorted[1]);
  return all_to_all_rows(combine(y, {}, sorted[1], sorted[0]), recv, send, rows.size(0));
}

Tensor MoE::own_experts(const Tensor& all) const {
  if (world().size() == 1) return all;
  return contiguous(slice(all, 0, first_expert(c_.routed(), world().rank()),
                          first_expert(c_.routed(), world().rank() + 1)));
}

Tensor MoE::shared(const Tensor& x) const {
  const Scope scope("shared");
  const Tensor g = shared_up_gate ? matmul(x, shared_up_gate) : Tensor{};
  return matmul(activate(matmul(x, shared_up), g), shared_down);
}

void MoE::losses(const Tensor& logits, const Chosen& c, int64_t sequences) {
  aux_ = {};
  const auto put = [&](const Tensor& loss, double factor) {
    const Tensor l = scale(loss, factor);
    aux_ = aux_ ? add(aux_, l) : l;
  };
  const Scope scope("balance");
  Tensor expert = c.expert;  // f is that of the tokens of all ranks
  if (world().size() > 1 && (c_.aux_alpha != 0 || c_.device_alpha != 0)) {
    if (c_.sequence_wise)
      throw value_error("moe: sequence_wise: found several ranks, expected one");
    expert = Tensor::empty({c.expert.size(0) * world().size(), c.expert.size(1)}, DType::i64);
    world().all_gather(c.expert.data<int64_t>(), c.expert.numel(), expert.data<int64_t>());
  }
  const int64_t runs = c_.sequence_wise ? sequences : 1;
  // Sigmoid scores do not sum to 1; P is a distribution only after this.
  Tensor p = c.score;
  if (c_.score == "sigmoid" && (c_.aux_alpha != 0 || c_.device_alpha != 0))
    p = div(p, sum(p, {1}, true));
  if (c_.aux_alpha != 0) put(balance_loss(p, expert, {0, runs}), c_.aux_alpha);
  if (c_.device_alpha != 0) put(balance_loss(p, expert, {c_.device_groups, runs}), c_.device_alpha);
  if (c_.z_loss != 0) put(router_z_loss(logits), c_.z_loss);
}

Tensor MoE::forward(const Tensor& given) {
  if (given.rank() < 1 || given.size(-1) != c_.d_model)
    throw shape_error(
        str("moe ", name(), ": found ", given, ", expected the last size ", c_.d_model));
  const Tensor x = reshape(given, {given.numel() / c_.d_model, c_.d_model});
  const int64_t sequences = given.rank() > 2 ? given.shape().numel(0, given.rank() - 2) : 1;
  const Chosen c = choose(x);
  if (training()) losses(logits_, c, sequences);
  else aux_ = {};
  Tensor y = routed(x, c);
  if (shared_up && !probe_.shared_off) y = add(y, shared(x));
  expert_ = c.expert, score_ = c.score;
  if (training() && bias && !x.is_meta()) {
    const std::vector<int64_t> o = offsets_.values<int64_t>();
    for (size_t e = 0; e < load_.size(); ++e) load_[e] += o[e + 1] - o[e];
  }
  return reshape(y, given.shape());
}

RouterStats MoE::stats() const {
  if (!expert_ || expert_.is_meta())
    throw value_error(str("moe ", name(), ": no batch has been routed yet"));
  RouterStats s;
  s.tokens = expert_.size(0), s.active = expert_.size(1);
  const std::vector<int64_t> o = offsets_.values<int64_t>();
  for (size_t e = 0; e + 1 < o.size(); ++e) {
    s.load.push_back(o[e + 1] - o[e]);
    s.distinct += s.load.back() > 0;
  }
  s.dropped = expert_.numel() - o.back();
  s.mean_score.assign(s.load.size(), 0);
  const std::vector<double> score = score_ ? score_.values<double>() : std::vector<double>{};
  for (size_t i = 0; i < score.size(); ++i)
    s.mean_score[i % s.load.size()] += score[i] / static_cast<double>(s.tokens);
  return s;
}

void MoE::update_bias() {
  if (!bias) return;
  if (Group& g = world(); g.size() > 1) {  // the loads of all ranks together
    std::vector<int64_t> all(load_.size() * static_cast<size_t>(g.size()));
    g.all_gather(load_.data(), static_cast<int64_t>(load_.size()), all.data());
    load_.assign(load_.size(), 0);
    for (size_t i = 0; i < all.size(); ++i) load_[i % load_.size()] += all[i];
  }
  int64_t sum = 0;
  for (int64_t n : load_) sum += n;
  const NoRecord off;
  const Scope scope("bias");
  // One step downhill along sign(load - mean), by the op that every optimiser step is.
  const Tensor direction = Tensor::zeros(bias.shape(), DType::f32, cpu);
  const int64_t n = static_cast<int64_t>(load_.size());
  for (int64_t e = 0; e < n; ++e) {
    const int64_t over = load_[static_cast<size_t>(e)] * n - sum;
    direction.data<float>()[e] = static_cast<float>((over > 0) - (over < 0));
  }
  sgd_step(bias, cast(direction.to(bias.device()), bias.dtype()), {}, {.lr = c_.bias_update_rate});
  load_.assign(load_.size(), 0);
}

bool is_of_experts(const std::string& parameter) {
  return parameter.find("experts.") != std::string::npos;
}

std::vector<MoE*> moe_layers(nn::Module& m) {
  std::vector<MoE*> out;
  if (auto* const layer = dynamic_cast<MoE*>(&m)) out.push_back(layer);
  for (const nn::Module::Child& c : m.children())
    for (MoE* layer : moe_layers(*c.module)) out.push_back(layer);
  return out;
}

Tensor aux_loss(nn::Module& m) {
  Tensor total;
  for (MoE* layer : moe_layers(m)) {
    const Tensor l = layer->aux_loss();
    if (l) total = total ? add(total, l) : l;
  }
  return total;
}

}  // namespace wattle::moe
