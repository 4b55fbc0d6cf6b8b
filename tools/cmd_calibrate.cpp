// wattle calibrate: fits this host's energy model with the meter it has.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "data/atomic_file.h"
#include "green/calibrate.h"
#include "green/clock_text.h"
#include "green/energy_session.h"
#include "green/experiment_host.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

struct Options {
  green::CalibrateOptions calibrate;
  std::string out;
};

void print(const energy::HostModel& m) {
  for (size_t i = 0; i < m.columns.size() && i < m.coef.size(); ++i) {
    const double sd = std::sqrt(std::max(0.0, m.covariance[i * m.coef.size() + i]));
    const bool watts = i == 0;
    std::printf("  %s %.4g +- %.2g %s\n",
                cell(watts ? "idle power" : "per " + m.columns[i], 22).c_str(),
                m.coef[i] * (watts ? 1 : 1e12), sd * (watts ? 1 : 1e12), watts ? "W" : "pJ");
  }
  std::printf("  condition number %.1f, kernels left out predicted within %.1f %% on average\n",
              m.condition, 100 * m.loo_mape);
}

void run(const Options& o) {
  const auto meter = energy::Meter::probe(energy::probe_options_from_environment());
  if (!meter->available()) {
    std::printf(
        "No meter on this host (\"wattle meter\" says why): nothing to calibrate, nothing "
        "changed.\n");
    return;
  }
  const std::string path = o.out.empty() ? green::calibration_path() : o.out;
  if (path.empty()) throw value_error("calibrate: neither HOME nor --out says where the file goes");
  std::printf("meter: %s\n", meter->describe().c_str());
  const double before = green::processor_celsius();
  const auto windows = green::calibration_windows(
      *meter, green::default_workloads(), o.calibrate, [](int i, int n, const std::string& kernel) {
        std::fprintf(stderr, "window %d of %d: %s\n", i + 1, n, kernel.c_str());
      });
  energy::FitReport fit = energy::fit_host_model(windows, green::this_host(*meter));
  const double after = green::processor_celsius();
  fit.model.date = green::now_iso();
  fit.model.coldest_c = std::fmin(before, after);
  fit.model.hottest_c = std::fmax(before, after);
  print(fit.model);
  if (!fit.refused.empty())
    throw value_error(str("calibrate: refused, nothing written: ", fit.refused));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (!folder.empty()) io::make_folders(folder);
  io::write_file(path, energy::to_json(fit.model));
  std::printf("written to %s; runs with this CPU, governor and number of threads use it\n",
              path.c_str());
}

}  // namespace

void add_calibrate(CLI::App& app) {
  auto* c = app.add_subcommand("calibrate", "Fits this host's energy model with its meter");
  auto o = std::make_shared<Options>();
  c->add_option("--seconds", o->calibrate.window_s, "Length of a window")->capture_default_str();
  c->add_option("--repeats", o->calibrate.repeats, "Windows per kernel")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  c->add_option("--seed", o->calibrate.seed, "Seed of the order")->capture_default_str();
  c->add_option("--out", o->out, "File (default: wattle/calibration.json in ~/.config)");
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
