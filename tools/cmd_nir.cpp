// wattle nir: spiking nets in the exchange format of neuromorphic tools.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/recorder.h"
#include "data/nir.h"
#include "data/npy.h"
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
};

void run(const Request& r) {
  const auto net = green::net_from_nir(io::read_nir(r.file), r.dt);
  const NoRecord off;
  net->eval();
  const Tensor x = io::read_npy(r.in);
  const Tensor y = (*net)(x);
  io::write_npy(r.out, y);
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
  dt(go);
  go->callback([r] { run(*r); });
  auto* through = file(c->add_subcommand("copy", "Reads a net and writes it again"));
  through->add_option("--out", r->out, "Where the copy goes")->required();
  dt(through);
  through->callback([r] { copy(*r); });
}

}  // namespace wattle::cli
