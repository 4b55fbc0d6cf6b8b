// A layer study with known sums: FLOPs and bytes by formula, joules from the published table, times
// with noise.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "energy/table_model.h"
#include "green/study_data.h"

namespace wattle::green::testing_study {

// One layer of a synthetic net: per image multiply-accumulates, element-wise FLOPs and bytes.
struct Layer {
  std::string name;
  LayerType type;
  int64_t mac, flops, bytes;
};

inline std::vector<Layer> layers_of(const NetKey& k) {
  std::vector<Layer> out;
  int64_t c = 1, side = 28, params = 0;
  for (int d = 0; d < k.conv; ++d) {
    const int64_t filters = c * 3, elements = filters * side * side;
    const std::string n = std::to_string(d + 1);
    out.push_back(
        {"conv" + n, LayerType::conv, 9 * c * elements, 0, 4 * (c * side * side + elements)});
    out.push_back({"bn" + n, LayerType::batch_norm, 0, 6 * elements, 12 * elements});
    if (k.relu) out.push_back({"relu" + n, LayerType::relu, 0, 0, 8 * elements});
    side /= 2;
    out.push_back({"pool" + n, LayerType::pool, 0, 0, 5 * elements});
    c = filters, params += 9 * c * filters;
  }
  int64_t in = c * side * side;
  for (int l = 0; l < k.linear; ++l) {
    const int64_t width = l + 1 == k.linear ? 10 : std::max<int64_t>(392 >> l, 12);
    out.push_back(
        {"fc" + std::to_string(l + 1), LayerType::linear, in * width, width, 4 * (in + width)});
    params += in * width, in = width;
  }
  out.push_back({"loss", LayerType::loss, 0, 60, 80});
  out.push_back({"adam", LayerType::optimizer, 0, params * 12 / 512, params * 28 / 512});
  out.push_back({"batch", LayerType::data, 0, 784, 784 * 5});
  return out;
}

inline void add_run(StudyResult& s, const NetKey& k, uint64_t seed, double accuracy,
                    std::mt19937_64& rng) {
  std::normal_distribution<double> noise(0, 1);
  StudyRun run;
  run.dataset = s.settings.dataset, run.key = k, run.seed = seed, run.epochs = s.settings.epochs;
  run.rows = s.settings.rows, run.accuracy = accuracy + 0.002 * noise(rng);
  run.val_accuracy = run.accuracy + 0.003, run.train_loss = 0.3 + 0.02 * noise(rng);
  run.val_loss = 0.34, run.params = 100000 + 40000 * k.linear, run.seconds = 0;
  std::vector<Joules> joules;
  for (const Layer& l : layers_of(k)) {
    for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer, Phase::data}) {
      const bool opt = l.type == LayerType::optimizer, data = l.type == LayerType::data;
      if (opt != (phase == Phase::optimizer) || data != (phase == Phase::data)) continue;
      const int64_t images = run.rows * run.epochs * (phase == Phase::backward ? 2 : 1);
      const Cost c{.mac = l.mac * images,
                   .add = l.flops * images,
                   .read = l.bytes * images,
                   .written = l.bytes * images / 3};
      LayerRow r;
      r.key = k, r.layer = l.name, r.type = l.type, r.phase = phase, r.calls = 118 * run.epochs;
      r.flops_weighted = c.flops_weighted(), r.flops_all = c.flops();
      r.bytes_read = c.read, r.bytes_written = c.written;
      r.ms = (0.9e-8 * static_cast<double>(c.mac) + 0.4e-6 * static_cast<double>(c.bytes())) *
             (1 + 0.02 * noise(rng));
      r.joules = energy::joules_of(c, "f32", energy::horowitz45());
      run.flops_weighted += r.flops_weighted, run.flops_all += r.flops_all, run.bytes += c.bytes();
      run.seconds += r.ms * 1.04e-3;
      joules.push_back(r.joules), add_layer_row(s, r);
    }
  }
  run.joules = energy::sum(joules);
  for (int e = 1; e <= run.epochs; ++e) {
    const double at = run.accuracy - 0.06 * std::exp(-1.1 * e);
    s.curves.push_back({k, seed, e, 0.3 + 1.0 / e, at, at, run.seconds * e / run.epochs});
  }
  s.runs.push_back(run);
}

inline double base_accuracy(const NetKey& k) {
  if (k.net == "densepoly") return 0.842 - 0.002 * (k.linear - 3);
  if (k.net == "denselinear") return 0.839 - 0.003 * (k.linear - 3);
  return 0.866 + 0.0025 * (k.conv - 1) - 0.0012 * (k.linear - 3) + 0.004 * k.relu;
}

inline StudyResult synthetic(int seeds, bool dense = true) {
  StudyResult s;
  s.settings.dataset = "fashion-mnist", s.settings.protocol = "fixed";
  s.settings.epochs = 3, s.settings.batch = 512, s.settings.rows = 60000;
  s.settings.test_rows = 10000, s.settings.optimizer = "adam", s.settings.lr = 1e-3;
  s.settings.energy_source = "horowitz45", s.settings.version = "0.1.0";
  s.settings.cpu = "Example CPU @ 2.50GHz", s.settings.simd = "avx512", s.settings.threads = 2;
  s.settings.date = "2025-01-31T12:00:00Z";
  for (const int conv : {1, 4}) {
    for (const int linear : {3, 7}) {
      for (const int relu : {0, 1}) s.settings.nets.push_back({"cnn", linear, conv, relu});
    }
  }
  for (const int linear : {3, 7}) {
    if (dense) s.settings.nets.push_back({"densepoly", linear, 0, 0});
    if (dense) s.settings.nets.push_back({"denselinear", linear, 0, 0});
  }
  std::mt19937_64 rng(1);
  for (int i = 1; i <= seeds; ++i) {
    s.settings.seeds.push_back(static_cast<uint64_t>(i));
    for (const NetKey& k : s.settings.nets) {
      add_run(s, k, static_cast<uint64_t>(i), base_accuracy(k), rng);
    }
  }
  return s;
}

inline std::string fresh_dir(const std::string& name) {
  // WATTLE_REPORT_DIR keeps the page for looking at it
  const char* keep = std::getenv("WATTLE_REPORT_DIR");
  const std::string dir =
      (keep ? std::string(keep) : ::testing::TempDir() + "wattle_" + std::to_string(::getpid())) +
      "/" + name;
  std::filesystem::remove_all(dir);
  return dir;
}

}  // namespace wattle::green::testing_study
