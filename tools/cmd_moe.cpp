// wattle moe: what mixtures of experts cost.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "autograd/tape.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "data/npy.h"
#include "green/moe_study.h"
#include "moe/layer.h"
#include "moe/model_cost.h"
#include "tools/cli.h"
#include "tools/weights.h"

namespace wattle::cli {

void add_moe_train(CLI::App& moe_command);    // moe_train.cpp
void add_moe_account(CLI::App& moe_command);  // moe_account.cpp

namespace {

using json = nlohmann::ordered_json;
using moe::ModelConfig;

json to_json(const ModelConfig& m, int64_t sequence) {
  const moe::ParameterCount all = parameters(m, false), active = parameters(m, true);
  json touched = json::object();
  for (int64_t t : {1, 4, 8, 32, 128, 512})
    touched[std::to_string(t)] = weight_bytes_touched(m, t, 2);
  const auto count = [](const moe::ParameterCount& p) {
    return json{{"embedding", p.embedding}, {"head", p.head},       {"attention", p.attention},
                {"dense", p.dense},         {"experts", p.experts}, {"shared", p.shared},
                {"gate", p.gate},           {"norm", p.norm}};
  };
  json j{{"model", m.name},
         {"source", m.source},
         {"sequence", sequence},
         {"flops_per_sequence", flops_per_sequence(m, sequence)},
         {"params_total", all.total()},
         {"params_active", active.total()},
         {"params_active_without_input_embedding", active.total() - active.embedding},
         {"params_total_by_part", count(all)},
         {"params_active_by_part", count(active)},
         {"weight_bytes_touched_bf16", touched}};
  if (m.published_tflop) j["flops_per_sequence_published"] = *m.published_tflop * 1e12;
  return j;
}

void print_table(int64_t sequence) {
  std::printf(
      "FLOPs: forward and backward of one sequence, T (6 active weights + 12 L d T + 6 V d); "
      "gates and norms not counted\n"
      "weights: both embeddings counted; in brackets the active ones without the input "
      "embedding\n\n");
  std::printf("%s%8s%14s%14s%11s%11s%12s\n", cell("model", 24).c_str(), "tokens", "10^12 FLOP",
              "published", "10^9 all", "active", "(no input)");
  for (const ModelConfig& m : moe::model_presets()) {
    const int64_t t = sequence > 0 ? sequence : m.sequence;
    const moe::ParameterCount all = parameters(m, false), active = parameters(m, true);
    const std::string published =
        m.published_tflop && t == m.sequence ? str(*m.published_tflop) : "-";
    std::printf("%s%8lld%14.2f%14s%11.3f%11.3f%12.3f\n", cell(m.name, 24).c_str(),
                static_cast<long long>(t), flops_per_sequence(m, t) * 1e-12, published.c_str(),
                static_cast<double>(all.total()) * 1e-9, static_cast<double>(active.total()) * 1e-9,
                static_cast<double>(active.total() - active.embedding) * 1e-9);
  }
}

void print_one(const ModelConfig& m, int64_t sequence, const ModelConfig& dense) {
  const moe::ParameterCount all = parameters(m, false), active = parameters(m, true);
  std::printf("%s (%s)\n", m.name.c_str(), m.source.c_str());
  std::printf("  FLOPs of a sequence of %lld tokens, forward and backward: %.4g\n",
              static_cast<long long>(sequence), flops_per_sequence(m, sequence));
  std::printf("\n  weights%17s%18s\n", "all", "one token meets");
  const auto row = [&](const char* name, int64_t a, int64_t b) {
    std::printf("  %s%14lld%18lld\n", cell(name, 10).c_str(), static_cast<long long>(a),
                static_cast<long long>(b));
  };
  row("embedding", all.embedding, active.embedding), row("head", all.head, active.head);
  row("attention", all.attention, active.attention), row("dense", all.dense, active.dense);
  row("experts", all.experts, active.experts), row("shared", all.shared, active.shared);
  row("gate", all.gate, active.gate), row("norm", all.norm, active.norm);
  row("sum", all.total(), active.total());
  std::printf(
      "\n  weight bytes that a step touches, bf16, if routing were uniform (%s beside it)\n",
      dense.name.c_str());
  for (int64_t t : {1, 2, 4, 5, 8, 16, 32, 64, 128, 512})
    std::printf("  %6lld tokens %10.2f GB  %6.2fx\n", static_cast<long long>(t),
                weight_bytes_touched(m, t, 2) * 1e-9,
                weight_bytes_touched(m, t, 2) / weight_bytes_touched(dense, t, 2));
  const auto even = break_even_tokens(m, dense);
  std::printf(even ? "  from %lld tokens on it touches more than %s\n"
                   : "  at no number of tokens more than the other\n",
              static_cast<long long>(even.value_or(0)), dense.name.c_str());
  std::printf("  resident in bf16 whatever is active: %.2f GB\n",
              static_cast<double>(all.total()) * 2e-9);
}

// ---- wattle moe layer ----

struct LayerRequest {
  std::string config, weights, in, grad, experts, out = ".";
  uint64_t seed = 0;
};

json stats_json(const moe::RouterStats& s) {
  return {{"tokens", s.tokens},
          {"active", s.active},
          {"load", s.load},
          {"distinct", s.distinct},
          {"dropped", s.dropped},
          {"max_vio_batch", s.max_vio()},
          {"entropy", s.tokens ? json(s.entropy()) : json()}};
}

void run_layer(const LayerRequest& r) {
  manual_seed(r.seed);
  moe::MoE layer(moe::config_from(r.config));
  if (!r.weights.empty()) load_weights(layer, r.weights);
  const Tensor x = io::read_npy(r.in);
  if (!r.experts.empty()) layer.freeze(io::read_npy(r.experts));
  Tape tape;
  tape.watch(x);
  for (const nn::Named& p : layer.named_parameters()) tape.watch(p.tensor);
  const Tensor y = layer(x), aux = layer.aux_loss();
  io::make_folders(r.out);
  io::write_npy(r.out + "/y.npy", y);
  io::write_npy(r.out + "/experts.npy", layer.experts_of_tokens());
  io::SafetensorsFile file;
  if (r.weights.empty())
    for (const nn::Named& p : layer.state_dict()) file.add(p.name, p.tensor);
  if (r.weights.empty()) io::write_safetensors(r.out + "/weights.safetensors", file);
  if (!r.grad.empty()) {
    const Tensor gy = io::read_npy(r.grad);
    if (gy.shape() != y.shape())
      throw shape_error(str(r.grad, ": found ", gy, ", expected ", y.shape()));
    Tensor total = sum(mul(y, gy));
    if (aux) total = add(total, aux);
    Tensors at{x};
    for (const nn::Named& p : layer.named_parameters()) at.push_back(p.tensor);
    const Tensors g = tape.gradient(total, at);
    io::write_npy(r.out + "/x_grad.npy", g[0]);
    io::SafetensorsFile grads;
    const auto parameters = layer.named_parameters();
    for (size_t i = 0; i < parameters.size(); ++i) grads.add(parameters[i].name, g[i + 1]);
    io::write_safetensors(r.out + "/grads.safetensors", grads);
  }
  json j = stats_json(layer.stats());
  j["aux_loss"] = aux ? json(aux.item()) : json();
  std::printf("%s\n", j.dump(1).c_str());
}

void add_layer(CLI::App& c) {
  auto* l = c.add_subcommand(
      "layer", "Runs one routed layer on .npy files, with gradients and what its router did");
  auto r = std::make_shared<LayerRequest>();
  l->add_option("--config", r->config, "JSON: d_model, d_ff, experts, top_k, segments, shared, ...")
      ->required();
  l->add_option("--weights", r->weights, "safetensors; without it drawn and written to --out");
  l->add_option("--in", r->in, "x [.., d], .npy")->required();
  l->add_option("--experts", r->experts,
                "Routing to use instead of the gate's choice, [T,K] i64 .npy");
  l->add_option("--grad", r->grad,
                "Upstream gradient of y; also writes x_grad.npy and grads.safetensors");
  l->add_option("--seed", r->seed, "Seed of weights")->capture_default_str();
  l->add_option("--out", r->out, "Folder of y.npy, experts.npy, ...")->capture_default_str();
  l->callback([r] { run_layer(*r); });
}

// ---- wattle moe probe ----

void add_probe(CLI::App& c) {
  auto* p = c.add_subcommand("probe",
                             "Loss of a trained model with fewer or more active experts, without "
                             "its best or its shared ones");
  auto model = std::make_shared<std::string>();
  auto text = std::make_shared<std::vector<std::string>>(green::MoeStudyOptions{}.text);
  auto tokens = std::make_shared<int64_t>(0);
  auto as_json = std::make_shared<bool>(false);
  p->add_option("--model", *model, "A model of `wattle study moe`, models/ARM-SEED.safetensors")
      ->required();
  p->add_option("--text", *text, "The text that it was trained on; its held-out part is used")
      ->delimiter(',')
      ->capture_default_str();
  p->add_option("--tokens", *tokens, "Held-out bytes (default: all)");
  p->add_flag("--json", *as_json, "Result as JSON");
  p->callback([=] {
    const auto lm = green::load_lm(*model);
    if (moe::moe_layers(*lm).empty())
      throw value_error(*model + ": is a dense model; it has no experts to probe");
    const green::TextStream stream = green::make_text_stream(*text);
    const green::LmEvaluation plain = green::evaluate_lm(*lm, stream.validation, *tokens);
    const auto points = green::probe_model(*lm, stream.validation, *tokens);
    if (*as_json) {
      json j{{"model", *model},
             {"tokens", plain.tokens},
             {"loss", plain.loss},
             {"max_vio_global", plain.max_vio()}};
      j["probes"] = json::array();
      for (const green::MoeProbePoint& q : points)
        j["probes"].push_back({{"what", q.what}, {"loss", q.loss}});
      std::printf("%s\n", j.dump(1).c_str());
      return;
    }
    std::printf("%s: %.4f nats per byte over %lld held-out bytes, global MaxVio %.2f\n",
                model->c_str(), plain.loss, static_cast<long long>(plain.tokens), plain.max_vio());
    for (const green::MoeProbePoint& q : points)
      std::printf("  %s %.4f  %+.4f\n", cell(q.what, 14).c_str(), q.loss, q.loss - plain.loss);
  });
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* g = app.add_subcommand("generate", "Continues a text with a trained language model");
  auto model = std::make_shared<std::string>(), prompt = std::make_shared<std::string>();
  auto count = std::make_shared<int64_t>(400);
  auto temperature = std::make_shared<double>(0.8);
  auto seed = std::make_shared<uint64_t>(0);
  g->add_option("--model", *model, "A model of `wattle study moe`, models/ARM-SEED.safetensors")
      ->required();
  g->add_option("--prompt", *prompt, "What comes before")->required();
  g->add_option("--count", *count, "Bytes")->capture_default_str()->check(not_negative());
  g->add_option("--temperature", *temperature, "0 takes the most likely byte")
      ->capture_default_str();
  g->add_option("--seed", *seed, "Of the draws")->capture_default_str();
  g->callback([=] {
    const auto lm = green::load_lm(*model);
    std::printf("%s%s\n", prompt->c_str(),
                moe::generate(*lm, *prompt, *count, *temperature, *seed).c_str());
  });
}

void add_moe(CLI::App& app) {
  auto* c =
      app.add_subcommand("moe", "Mixtures of experts: what they cost and what a layer computes");
  c->require_subcommand(1);
  add_layer(*c);
  add_probe(*c);
  add_moe_train(*c);
  add_moe_account(*c);
  auto* f =
      c->add_subcommand("flops", "FLOPs, weights and weight bytes of a model, from shapes alone");
  auto config = std::make_shared<std::string>(),
       dense = std::make_shared<std::string>("deepseek-7b");
  auto sequence = std::make_shared<int64_t>(0);
  auto as_json = std::make_shared<bool>(false);
  f->add_option("--config", *config, "A preset or a .json file; without it a table of all presets");
  f->add_option("--seq", *sequence, "Tokens of a sequence (default: the model's own)")
      ->check(positive());
  f->add_option("--dense", *dense, "The model whose weight bytes stand beside it")
      ->capture_default_str();
  f->add_flag("--json", *as_json, "Result as JSON");
  f->callback([=] {
    if (config->empty() && !*as_json) return print_table(*sequence);
    if (config->empty()) {
      json all = json::array();
      for (const ModelConfig& m : moe::model_presets())
        all.push_back(to_json(m, *sequence > 0 ? *sequence : m.sequence));
      std::printf("%s\n", all.dump(1).c_str());
      return;
    }
    const ModelConfig m = moe::model_from(*config);
    const int64_t t = *sequence > 0 ? *sequence : m.sequence;
    if (*as_json) std::printf("%s\n", to_json(m, t).dump(1).c_str());
    else print_one(m, t, moe::model_from(*dense));
  });
}

}  // namespace wattle::cli
