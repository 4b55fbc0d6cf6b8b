// wattle info: what this build holds and what this machine offers.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/cuda.h"
#include "core/op.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

std::string version(int v) {
  return v > 0 ? std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10) : "none";
}

json cuda_json(const cuda::Status& s) {
  json devices = json::array();
  for (const cuda::DeviceInfo& d : s.devices)
    devices.push_back({{"name", d.name},
                       {"uuid", d.uuid},
                       {"compute_capability", str(d.major, ".", d.minor)},
                       {"multiprocessors", d.multiprocessors},
                       {"memory_bytes", d.memory}});
  return {{"available", s.available},
          {"reason", s.reason},
          {"message", s.message},
          {"plugin", s.plugin.empty() ? json() : json(s.plugin)},
          {"tried", s.tried},
          {"driver", version(s.driver)},
          {"runtime", version(s.runtime)},
          {"architectures", s.architectures},
          {"emulated", s.emulated},
          {"ops", cuda::device_ops().size()},
          {"devices", devices}};
}

void print(const cuda::Status& s) {
  std::printf("wattle 0.1.0, %zu ops\ncpu: %d threads, %s kernels\n", all_ops().size(),
              num_threads(), simd::level_name(simd::level()));
  std::printf("cuda: %s (%s)\n", s.message.c_str(), s.reason.c_str());
  if (!s.plugin.empty())
    std::printf("  plugin  %s\n  driver  %s, runtime %s, kernels for %s, %zu ops\n",
                s.plugin.c_str(), version(s.driver).c_str(), version(s.runtime).c_str(),
                s.architectures.c_str(), cuda::device_ops().size());
  else
    for (const std::string& path : s.tried) std::printf("  not at  %s\n", path.c_str());
  for (size_t i = 0; i < s.devices.size(); ++i) {
    const cuda::DeviceInfo& d = s.devices[i];
    std::printf("  cuda:%zu  %s, compute capability %d.%d, %d multiprocessors, %sB, %s\n", i,
                d.name.c_str(), d.major, d.minor, d.multiprocessors, si(double(d.memory)).c_str(),
                d.uuid.c_str());
  }
}

}  // namespace

void add_info(CLI::App& app) {
  auto* c = app.add_subcommand("info", "What was built, which devices there are, and why not");
  auto as_json = std::make_shared<bool>(false);
  c->add_flag("--json", *as_json, "As JSON");
  c->callback([=] {
    const cuda::Status& s = cuda::status();
    if (!*as_json) return print(s);
    const json j{{"version", "0.1.0"},
                 {"ops", all_ops().size()},
                 {"threads", num_threads()},
                 {"simd", simd::level_name(simd::level())},
                 {"cuda", cuda_json(s)}};
    std::printf("%s\n", j.dump(1).c_str());
  });
}

}  // namespace wattle::cli
