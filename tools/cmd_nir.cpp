// wattle nir: spiking nets in the exchange format of neuromorphic tools.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/recorder.h"
#include "data/nir.h"
#include "data/npy.h"
#include "green/neurobench.h"
#include "green/nir_net.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

void info(const std::string& path) {
  const io::NirGraph g = io::read_nir(path);
  std::printf("%s: NIR %s, %zu nodes, %zu edges\n", path.c_str(), g.version.c_str(), g.nodes.size(),
              g.edges.size());
  for (const io::NirNode& n : g.nodes) {
    std::string fields;
    for (const auto& [name, t] : n.arrays) fields += str("  ", name, " ", t.shape());
    for (const auto& [name, s] : n.text) fields += str("  ", name, " ", s);
    std::printf("  %s%s%s\n", cell(n.name, 16).c_str(), cell(n.type, 12).c_str(), fields.c_str());
  }
  for (const auto& [from, to] : g.edges) std::printf("  %s -> %s\n", from.c_str(), to.c_str());
}

struct Request {
  std::string file, in, out;
  double dt = 1e-4;
  bool account = false, spikes = false, json = false;
};

void print_account(const green::NeuroBench& b, bool as_json) {
  const nlohmann::ordered_json j{{"Footprint", b.footprint_bytes},
                                 {"ParameterCount", b.parameter_count},
                                 {"ConnectionSparsity", b.connection_sparsity},
                                 {"ActivationSparsity", b.activation_sparsity},
                                 {"Effective_MACs", b.effective_macs},
                                 {"Effective_ACs", b.effective_acs},
                                 {"Dense", b.dense_operations},
                                 {"MembraneUpdates", b.membrane_updates}};
  if (as_json) return void(std::printf("%s\n", j.dump(1).c_str()));
  std::printf("NeuroBench's metrics, by type: additions where a layer's input is spikes\n");
  for (const auto& [name, value] : j.items())
    std::printf("  %s%s\n", cell(name, 20).c_str(), value.dump().c_str());
}

void run(const Request& r) {
  const auto net = green::net_from_nir(io::read_nir(r.file), r.dt);
  const NoRecord off;
  net->eval();
  const Tensor x = io::read_npy(r.in);
  const Tensor y = (*net)(x);
  io::write_npy(r.out, y);
  if (r.account) print_account(green::neurobench_of(*net, x, r.spikes), r.json);
  if (r.json) return;
  const double mean = wattle::mean(cast(y, DType::f32)).item();
  std::printf("%s -> %s %s, mean %.6g\n", str(x).c_str(), r.out.c_str(), str(y).c_str(), mean);
}

void copy(const Request& r) {
  io::write_nir(r.out, green::nir_from_net(*green::net_from_nir(io::read_nir(r.file), r.dt), r.dt));
}

}  // namespace

void add_nir(CLI::App& app) {
  auto* c = app.add_subcommand("nir", "Spiking nets in NIR files: what is in one, run one");
  c->require_subcommand(1);
  auto r = std::make_shared<Request>();
  const auto file = [r](CLI::App* a) {
    a->add_option("file", r->file, "A NIR file (HDF5)")->required();
    return a;
  };
  const auto dt = [r](CLI::App* a) {
    a->add_option("--dt", r->dt, "Seconds of a step")->capture_default_str()->check(positive());
  };
  file(c->add_subcommand("info", "Nodes, what they hold, and edges"))->callback([r] {
    info(r->file);
  });
  auto* go = file(c->add_subcommand("run", "Runs a net on a sequence"));
  go->add_option("--in", r->in, "x [T,N,...], .npy")->required();
  go->add_option("--out", r->out, "Where y [T,N,...] goes, .npy")->required();
  auto* account = go->add_flag("--account", r->account, "NeuroBench's metrics of the run");
  go->add_flag("--spikes", r->spikes, "x holds spikes: the first layer adds")->needs(account);
  go->add_flag("--json", r->json, "The metrics alone, as JSON")->needs(account);
  dt(go);
  go->callback([r] { run(*r); });
  auto* through = file(c->add_subcommand("copy", "Reads a net and writes it again"));
  through->add_option("--out", r->out, "Where the copy goes")->required();
  dt(through);
  through->callback([r] { copy(*r); });
}

}  // namespace wattle::cli
