// wattle moe account: one routed layer beside a dense one.
#include "green/moe_account.h"

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "energy/carbon.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;
using green::MoeAccount, green::MoeSide;

struct Request {
  std::string config;
  int64_t tokens = 2048, dense_hidden = 0;
  uint64_t seed = 1;
  double grams_per_gb = 0, hours = 24 * 365, life = 4;
  bool as_json = false;
};

energy::Grams embodied(const Request& r, int64_t bytes) {
  const double per_gb = r.grams_per_gb > 0 ? r.grams_per_gb : energy::act_dram_per_gb("ddr4");
  return energy::embodied_share(per_gb * static_cast<double>(bytes) * 1e-9, r.hours, r.life);
}

std::string three_digits(double x, const char* unit) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g%s", x, unit);
  return text;
}

json to_json(const Request& r, const MoeSide& s) {
  return {{"params_total", s.params_total},
          {"params_active", s.params_active},
          {"forward_flops", s.flops},
          {"gate_flops", s.gate_flops},
          {"weight_bytes_touched", s.weight_bytes_touched},
          {"activation_bytes", s.activation_bytes},
          {"index_bytes", s.index_bytes},
          {"optimizer_bytes", s.optimizer_bytes},
          {"resident_bytes", s.resident_bytes},
          {"training_bytes", s.training_bytes()},
          {"embodied_g", embodied(r, s.training_bytes()).g},
          {"step", json::parse(s.ledger.joules.json())},
          {"step_ms", s.ledger.ns * 1e-6}};
}

json to_json(const green::MoePoint& p) {
  return {{"tokens", p.tokens},
          {"distinct_expected", p.distinct},
          {"weight_bytes", p.routed_bytes},
          {"dense_weight_bytes", p.dense_bytes},
          {"forward_uj_modelled", p.routed_uj},
          {"dense_forward_uj_modelled", p.dense_uj}};
}

const std::vector<int64_t> batches{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536};

void print_json(const Request& r, const MoeAccount& a, const energy::Table& table) {
  json j{{"tokens", a.tokens},
         {"dense_hidden", a.dense_hidden},
         {"experts_with_a_row", a.router.distinct},
         {"routed", to_json(r, a.routed)},
         {"dense", to_json(r, a.dense)}};
  for (const int64_t t : batches) j["batches"].push_back(to_json(green::moe_point(a, t, table)));
  const auto range = green::break_even(a, table);
  j["fewer_joules_from"] = range ? json(range->first) : json();
  j["fewer_joules_to"] = range ? json(range->second) : json();
  std::printf("%s\n", j.dump(1).c_str());
}

void print_parts(const char* side, const green::Ledger& l) {
  std::printf("\n%s: where a step goes\n", side);
  std::printf("  %s%s%10s%10s%12s%9s\n", cell("part", 18).c_str(), cell("phase", 12).c_str(),
              "FLOP", "B moved", "J", "ms");
  for (const green::LedgerRow& row : l.rows)
    std::printf("  %s%s%10s%10s%12.3g%9.3f\n",
                cell(row.layer.empty() ? "-" : row.layer, 18).c_str(),
                cell(std::string(wattle::name(row.phase)), 12).c_str(),
                si(double(row.executed.flops())).c_str(), si(double(row.executed.bytes())).c_str(),
                row.joules.joules(), row.ns * 1e-6);
}

void print_sides(const Request& r, const MoeAccount& a) {
  const auto line = [](const char* what, const std::string& routed, const std::string& dense) {
    std::printf("  %s%16s%16s\n", cell(what, 44).c_str(), routed.c_str(), dense.c_str());
  };
  const auto count = [&](const char* what, double routed, double dense, const char* unit) {
    line(what, si(routed) + unit, si(dense) + unit);
  };
  const MoeSide &m = a.routed, &d = a.dense;
  line("", "routed", "dense");
  count("weights", double(m.params_total), double(d.params_total), "");
  count("  that a row meets", double(m.params_active), double(d.params_active), "");
  count("FLOP of a forward, without the gate", m.flops, d.flops, "");
  count("  of the gate", m.gate_flops, 0, "");
  count("weights touched in a forward", double(m.weight_bytes_touched),
        double(d.weight_bytes_touched), "B");
  count("activations moved", double(m.activation_bytes), double(d.activation_bytes), "B");
  count("routing indices moved", double(m.index_bytes), double(d.index_bytes), "B");
  count("moved by AdamW", double(m.optimizer_bytes), double(d.optimizer_bytes), "B");
  count("resident weights", double(m.resident_bytes), double(d.resident_bytes), "B");
  count("  with gradients and moments", double(m.training_bytes()), double(d.training_bytes()),
        "B");
  line(str("  carbon of that memory, ", r.hours, " h of ", r.life, " years").c_str(),
       three_digits(embodied(r, m.training_bytes()).g, " g"),
       three_digits(embodied(r, d.training_bytes()).g, " g"));
  line("a step: joules", three_digits(m.ledger.joules.joules(), ""),
       three_digits(d.ledger.joules.joules(), ""));
  line("  milliseconds", three_digits(m.ledger.ns * 1e-6, ""),
       three_digits(d.ledger.ns * 1e-6, ""));
}

void print_batches(const MoeAccount& a, const energy::Table& table) {
  std::printf(
      "\na forward by the batch, uniform routing, unique bytes, joules modelled from %s\n"
      "  %8s%10s%12s%9s%12s%9s\n",
      std::string(table.name).c_str(), "rows", "experts", "weights", "x dense", "J", "x dense");
  for (const int64_t t : batches) {
    const green::MoePoint p = green::moe_point(a, t, table);
    std::printf("  %8lld%10.1f%11sB%9.2f%12.3g%9.2f\n", static_cast<long long>(t), p.distinct,
                si(p.routed_bytes).c_str(), p.routed_bytes / p.dense_bytes, p.routed_uj * 1e-6,
                p.routed_uj / p.dense_uj);
  }
  const auto range = green::break_even(a, table);
  if (range)
    std::printf("  fewer joules than the dense layer from %lld to %lld rows\n",
                static_cast<long long>(range->first), static_cast<long long>(range->second));
  else std::printf("  fewer joules than the dense layer at no batch up to 2^20 rows\n");
}

void run(const Request& r) {
  const moe::MoEConfig c =
      r.config.empty() ? moe::MoEConfig{.segments = 4, .shared = 1} : moe::config_from(r.config);
  green::EnergySession energy(0);
  const MoeAccount a = green::moe_account(c, r.tokens, r.dense_hidden, r.seed, energy);
  const energy::Table& table = energy::horowitz45();
  if (r.as_json) return print_json(r, a, table);
  std::printf("%lld shared + %lld routed experts of %lld, top %lld, d %lld; dense: %lld hidden\n",
              static_cast<long long>(c.shared), static_cast<long long>(c.routed()),
              static_cast<long long>(c.d_expert()), static_cast<long long>(c.active()),
              static_cast<long long>(c.d_model), static_cast<long long>(a.dense_hidden));
  std::printf("%lld rows; %lld of %lld experts got one, batch MaxVio %.2f\n%s\n\n",
              static_cast<long long>(a.tokens), static_cast<long long>(a.router.distinct),
              static_cast<long long>(c.routed()), a.router.max_vio(), energy.sentence().c_str());
  print_sides(r, a);
  print_parts("routed", a.routed.ledger);
  print_batches(a, table);
}

}  // namespace

void add_moe_account(CLI::App& moe_command) {
  auto* c = moe_command.add_subcommand(
      "account",
      "One routed layer beside a dense one: a step run and counted, and what is resident");
  auto r = std::make_shared<Request>();
  c->add_option("--config", r->config,
                "JSON as for `moe layer` (default: 16 experts in 4 segments, 1 shared, d 64)");
  c->add_option("--tokens", r->tokens, "Rows of the step")
      ->capture_default_str()
      ->check(positive());
  c->add_option("--dense-hidden", r->dense_hidden,
                "Hidden units of the dense layer (default: as many as a row meets)")
      ->check(positive());
  c->add_option("--seed", r->seed, "Of weights and rows")->capture_default_str();
  c->add_option("--grams-per-gb", r->grams_per_gb,
                "Carbon of making a gigabyte of memory (default: ACT's DDR4)")
      ->check(positive());
  c->add_option("--hours", r->hours, "That the memory is held")
      ->capture_default_str()
      ->check(positive());
  c->add_option("--life-years", r->life, "Of the memory")->capture_default_str()->check(positive());
  c->add_flag("--json", r->as_json, "Result as JSON");
  c->callback([r] { run(*r); });
}

}  // namespace wattle::cli
