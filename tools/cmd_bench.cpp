// wattle bench step: times training steps; as a worker it takes its orders on standard input, so
// that a peer can be timed in turn with it (bench/README.md has the protocol).
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <sstream>

#include "core/counters.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/simd.h"
#include "energy/test_kit.h"
#include "energy/window.h"
#include "green/trainer.h"
#include "tools/cli.h"
#include "tools/net_options.h"

namespace wattle::cli {

void bench_formats(int repeats, bool as_json);  // bench_formats.cpp
void bench_moe(int repeats, bool as_json);      // bench_moe.cpp
void bench_moe_worker();
void bench_snn(int repeats, bool as_json);  // bench_snn.cpp
void bench_snn_worker();
void bench_formats_worker();
void bench_cuda(int repeats, bool as_json);  // bench_cuda.cpp
void bench_cuda_worker();
void bench_closure(const green::NetSpec& spec, const std::string& dataset, int64_t batch,
                   double seconds, bool as_json);            // bench_closure.cpp
void bench_nvml(double seconds, double each, bool as_json);  // bench_nvml.cpp

namespace {

struct Timed {
  double median = 0, min = 0;
};

// A net with its optimiser, kept between orders.
struct Cell {
  std::shared_ptr<nn::Sequential> net;
  std::unique_ptr<nn::Optimizer> optimizer;
};

Cell make_cell(const green::NetSpec& spec, const green::ImageSpec& image) {
  manual_seed(0);
  Cell c{green::make_net(spec, image), nullptr};
  c.optimizer = nn::make_optimizer("adam", c.net->named_parameters(), 1e-3);
  return c;
}

Timed time_steps(Cell& cell, const green::ImageSpec& image, int64_t batch, int steps) {
  Tensor images = Tensor::empty({batch, image.channels, image.height, image.height}, DType::u8);
  for (int64_t i = 0; i < images.numel(); ++i)
    images.data<uint8_t>()[i] = static_cast<uint8_t>(below_at(1, static_cast<uint64_t>(i), 256));
  Tensor labels = Tensor::empty({batch}, DType::i64);
  for (int64_t i = 0; i < batch; ++i)
    labels.data<int64_t>()[i] = static_cast<int64_t>(below_at(2, static_cast<uint64_t>(i), 10));
  std::vector<double> ms;
  for (int s = -3; s < steps; ++s) {
    const auto start = std::chrono::steady_clock::now();
    green::train_step(*cell.net, *cell.optimizer, images, labels);
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - start;
    if (s >= 0) ms.push_back(spent.count());
  }
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2], ms[0]};
}

void work(const green::ImageSpec& image) {
  std::printf(
      "ready {\"name\": \"wattle\", \"version\": \"0.1.0\", \"threads\": %d, \"simd\": \"%s\"}\n",
      num_threads(), simd::level_name(simd::level()));
  std::fflush(stdout);
  std::map<std::string, Cell> cells;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string cell, batch_word, steps_word;
    int linear = 0, conv = 0, relu = 0, steps = 0;
    int64_t batch = 0;
    words >> cell >> linear >> conv >> relu >> batch_word >> batch >> steps_word >> steps;
    try {
      if (!words || cell != "cell" || batch < 1 || steps < 1)
        throw value_error(str("found '", line, "', expected 'cell L C R batch B steps S'"));
      Cell& c = cells[str(linear, conv, relu)];
      if (!c.net) c = make_cell({"cnn", linear, conv, relu != 0}, image);
      const Timed t = time_steps(c, image, batch, steps);
      std::printf("ms median %.6f min %.6f\n", t.median, t.min);
    } catch (const std::exception& e) { std::printf("error %s\n", e.what()); }
    std::fflush(stdout);
  }
}

// Every counter row of the steps since the counters were cleared, dearest first, with the line of
// code that it comes from.
void print_profile(int steps) {
  std::vector<Row> rows = counters().rows();
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.ns > b.ns; });
  std::printf("%s%s%s%s%s%s%s  source\n", cell("layer", 10).c_str(), cell("phase", 11).c_str(),
              cell("op", 22).c_str(), cell("kernel", 10).c_str(), cell("ms/step", -10).c_str(),
              cell("GFLOP/s", -10).c_str(), cell("GB/s", -8).c_str());
  for (const Row& r : rows) {
    if (r.ns == 0) continue;
    char ms[16], gflops[16], gbytes[16];
    std::snprintf(ms, sizeof ms, "%.3f", r.ns * 1e-6 / steps);
    std::snprintf(gflops, sizeof gflops, "%.1f", double(r.cost.flops()) / r.ns);
    std::snprintf(gbytes, sizeof gbytes, "%.1f", double(r.cost.bytes()) / r.ns);
    std::printf("%s%s%s%s%s%s%s  %s:%d\n", cell(counters().path(r.key.scope), 10).c_str(),
                cell(std::string(name(r.key.phase)), 11).c_str(), cell(r.key.op->name, 22).c_str(),
                cell(r.key.kernel, 10).c_str(), cell(ms, -10).c_str(), cell(gflops, -10).c_str(),
                cell(gbytes, -8).c_str(), r.key.op->file, r.key.op->line);
  }
  std::printf("in kernels: %.3f ms/step\n", counters().total().ns * 1e-6 / steps);
}

// Opening and closing a window, on this host's meter or else on a powercap tree of files (five
// zones of a laptop on the disk: the same system calls, without the hardware behind them).
void time_windows() {
  auto meter = energy::Meter::probe(energy::probe_options_from_environment());
  std::string what = meter->describe();
  const std::string root =
      (std::filesystem::temp_directory_path() / ("wattle_bench_" + std::to_string(::getpid())))
          .string();
  if (!meter->available()) {
    energy::fake_laptop()->write_to(root);
    const auto io = energy::HostIo::real(root);
    meter = energy::Meter::of(energy::probe_powercap(*io, {}).counters, io);
    what = meter->describe() + ", as files (no meter on this host)";
  }
  std::vector<double> us;
  for (int i = 0; i < 2000; ++i) {
    const auto start = std::chrono::steady_clock::now();
    energy::Window w(*meter, "window");
    w.end();
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
                     .count());
  }
  std::filesystem::remove_all(root);
  std::sort(us.begin(), us.end());
  std::printf(
      "%s: a window opened and closed in %.1f us (median; 99 %% below %.1f us), %.4f %% of "
      "100 ms, limit 1 %%\n",
      what.c_str(), us[us.size() / 2], us[us.size() * 99 / 100], us[us.size() / 2] / 1e5 * 100);
}

// A subcommand whose rows are two ways to do the same thing, or which takes another program's
// orders.
void add_paired(CLI::App& bench, const char* name, const char* about, void (*run)(int, bool),
                void (*serve)()) {
  struct Options {
    int repeats = 9;
    bool as_json = false, worker = false;
  };
  auto* c = bench.add_subcommand(name, about);
  auto o = std::make_shared<Options>();
  c->add_option("--repeats", o->repeats, "Timings of each side")
      ->capture_default_str()
      ->check(positive());
  c->add_flag("--json", o->as_json, "As JSON");
  c->add_flag("--worker", o->worker, "Take orders on standard input");
  c->callback([=] {
    if (o->worker) serve();
    else run(o->repeats, o->as_json);
  });
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* c = app.add_subcommand("bench",
                               "Timings; `./wattle bench --against pytorch` compares with a peer");
  c->require_subcommand(1);
  c->add_subcommand("window", "What opening and closing a measured window costs")
      ->callback(time_windows);
  add_paired(*c, "formats", "Number formats against f32 and their references", bench_formats,
             bench_formats_worker);
  add_paired(*c, "moe", "A mixture of experts against dense layers and plain loops", bench_moe,
             bench_moe_worker);
  add_paired(*c, "snn", "Spiking neurons against their steps, events against dense", bench_snn,
             bench_snn_worker);
  add_paired(*c, "cuda", "Steps, products and convolutions on a GPU", bench_cuda,
             bench_cuda_worker);
  auto* q = c->add_subcommand("closure",
                              "On a GPU, whether the joules of a step's ops sum to the step's");
  auto net = add_net_options(*q);
  auto rows = std::make_shared<int64_t>(128);
  auto length = std::make_shared<double>(1);
  auto closure_json = std::make_shared<bool>(false);
  q->add_option("--batch", *rows, "Images in a step")->capture_default_str()->check(positive());
  q->add_option("--seconds", *length, "For which each op is repeated")
      ->capture_default_str()
      ->check(positive());
  q->add_flag("--json", *closure_json, "As JSON");
  q->callback([=] { bench_closure(net->net(), net->dataset, *rows, *length, *closure_json); });
  auto* n = c->add_subcommand("nvml", "A GPU's energy counter against its power, beside a load");
  auto seconds = std::make_shared<double>(60), each = std::make_shared<double>(6);
  auto as_json = std::make_shared<bool>(false);
  n->add_option("--seconds", *seconds, "Altogether")->capture_default_str()->check(positive());
  n->add_option("--window", *each, "Of one window")->capture_default_str()->check(positive());
  n->add_flag("--json", *as_json, "As JSON");
  n->callback([=] { bench_nvml(*seconds, *each, *as_json); });
  auto* s = c->add_subcommand("step", "Milliseconds of a training step");
  auto o = add_net_options(*s);
  auto batch = std::make_shared<int64_t>(512);
  auto steps = std::make_shared<int>(20);
  auto worker = std::make_shared<bool>(false), profile = std::make_shared<bool>(false);
  s->add_option("--batch", *batch, "Images in a step")->capture_default_str()->check(positive());
  s->add_option("--steps", *steps, "Timed steps")->capture_default_str()->check(positive());
  s->add_flag("--worker", *worker, "Take orders on standard input");
  s->add_flag("--profile", *profile, "Also every op: time, rates, source line");
  s->callback([=] {
    const green::ImageSpec image = green::image_spec(o->dataset);
    if (*worker) return work(image);
    Cell cell = make_cell(o->net(), image);
    counters().clear();
    const Timed t = time_steps(cell, image, *batch, *steps);
    if (*profile) print_profile(*steps + 3);
    std::printf("%s, batch %lld, %d threads, %s: median %.2f ms, min %.2f ms of %d steps\n",
                o->title().c_str(), static_cast<long long>(*batch), num_threads(),
                simd::level_name(simd::level()), t.median, t.min, *steps);
  });
}

}  // namespace wattle::cli
