// wattle cost: the layer table of a training step, from shapes alone.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "green/meta_cost.h"
#include "tools/cli.h"
#include "tools/net_options.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;
using green::LedgerRow;

json to_json(const LedgerRow& r) {
  return {{"layer", r.layer},
          {"kind", r.kind},
          {"phase", name(r.phase)},
          {"calls", r.calls},
          {"flops_weighted", r.cost.flops_weighted()},
          {"flops_all", r.cost.flops()},
          {"flops_executed", r.executed.flops()},
          {"bytes_read", r.cost.read},
          {"bytes_written", r.cost.written},
          {"joules", json::parse(r.joules.json())}};
}

void print_json(const green::StepCost& c, const green::NetSpec& net, const std::string& dataset) {
  json j{{"net", net.net},
         {"linear", net.linear},
         {"conv", net.net == "cnn" ? net.conv : 0},
         {"relu", net.net == "cnn" && net.relu ? 1 : 0},
         {"dataset", dataset},
         {"batch", c.batch},
         {"params", c.params},
         {"forward_flops_per_image", c.forward_flops / c.batch},
         {"backward_flops_per_image", c.backward_flops / c.batch},
         {"step",
          {{"flops_weighted", c.ledger.cost.flops_weighted()},
           {"flops_all", c.ledger.cost.flops()},
           {"flops_executed", c.ledger.executed.flops()},
           {"bytes", c.ledger.cost.bytes()},
           {"joules", json::parse(c.ledger.joules.json())}}}};
  j["layers"] = json::array();
  for (const LedgerRow& r : c.ledger.rows) j["layers"].push_back(to_json(r));
  std::printf("%s\n", j.dump(1).c_str());
}

void print_table(const green::StepCost& c, const std::string& title) {
  std::printf("%s, one training step of %lld images (Adam), from shapes alone\n\n", title.c_str(),
              static_cast<long long>(c.batch));
  std::printf("%s%s%s%s%s%s%s\n", cell("layer", 12).c_str(), cell("kind", 13).c_str(),
              cell("phase", 11).c_str(), cell("FLOP weighted", -15).c_str(),
              cell("FLOP all", -12).c_str(), cell("bytes", -11).c_str(),
              cell("joules (modelled)", -20).c_str());
  for (const LedgerRow& r : c.ledger.rows)
    std::printf("%s%s%s%s%s%s%s\n", cell(r.layer, 12).c_str(), cell(r.kind, 13).c_str(),
                cell(std::string(name(r.phase)), 11).c_str(),
                cell(si(double(r.cost.flops_weighted())), -15).c_str(),
                cell(si(double(r.cost.flops())), -12).c_str(),
                cell(si(double(r.cost.bytes())), -11).c_str(),
                cell(energy::energy_text(double(r.joules.uj)), -20).c_str());
  std::printf("%s%s%s%s%s\n\n", cell("total", 36).c_str(),
              cell(si(double(c.ledger.cost.flops_weighted())), -15).c_str(),
              cell(si(double(c.ledger.cost.flops())), -12).c_str(),
              cell(si(double(c.ledger.cost.bytes())), -11).c_str(),
              cell(energy::energy_text(double(c.ledger.joules.uj)), -20).c_str());
  std::printf(
      "%lld parameters; per image %lld FLOP forward, %lld backward (weighted layers, 2 per "
      "multiply-add)\n",
      static_cast<long long>(c.params), static_cast<long long>(c.forward_flops / c.batch),
      static_cast<long long>(c.backward_flops / c.batch));
  std::printf("joules: %s\n", c.ledger.joules.str().c_str());
}

}  // namespace

void add_cost(CLI::App& app) {
  auto* c =
      app.add_subcommand("cost", "The layer table of a net before any run: FLOPs, bytes, joules");
  auto o = add_net_options(*c);
  auto batch = std::make_shared<int64_t>(512);
  auto as_json = std::make_shared<bool>(false);
  c->add_option("--batch", *batch, "Images in a step")->capture_default_str();
  c->add_flag("--json", *as_json, "As JSON");
  c->callback([=] {
    const green::NetSpec net = o->net();
    const auto cost = green::meta_step_cost(net, green::image_spec(o->dataset), *batch);
    if (*as_json) print_json(cost, net, o->dataset);
    else print_table(cost, o->title());
  });
}

}  // namespace wattle::cli
