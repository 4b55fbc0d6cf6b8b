// Mixtures of experts against dense layers on one stream of text: loss beside active FLOPs, bytes
// and joules, load per expert, and what the trained models owe to their experts.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "core/callable.h"
#include "energy/joules.h"
#include "green/lm_trainer.h"

namespace wattle::green {

struct MoeArm {
  std::string name, about;
  moe::LmConfig model;
};
/// Every arm: dense1, dense2 (equal active FFN FLOPs), dense16, switch, hash, gshard, gshard15,
/// shared, m2, m4, segments, auxfree, noaux. Models of 2 layers, d 64, context 64.
const std::vector<MoeArm>& moe_arms();
/// Throws value_error with the known names.
const MoeArm& moe_arm(const std::string& name);

struct MoeStudyOptions {
  std::vector<std::string> arms = {"dense2", "switch", "gshard", "shared", "m4", "auxfree"};
  std::vector<std::string> text = {"kjv", "python", "c++"};
  int seeds = 5;
  int64_t tokens = 8'192'000;     ///< of a training
  int64_t validation_tokens = 0;  ///< 0 = all that is held out
  double lr = 3e-3;
  int jobs = 1;  ///< trainings at a time, of one thread each where there are several
  std::string device = "cpu", math = "f32";  ///< as in TrainOptions
  std::string out;
};

/// A loss under a departure from the trained routing.
struct MoeProbePoint {
  std::string what;  ///< "active 4", "disable 2/16", "shared off"
  double loss = 0;
};

struct MoeRun {
  std::string arm;
  int64_t seed = 0;
  double loss = 0, train_loss = 0;  ///< nats per byte: held out; mean of the last 100 steps
  double seconds = 0;
  int64_t tokens = 0;
  int64_t params_total = 0, params_active = 0;  ///< of the whole model; of what a token meets
  double active_flops = 0;      ///< contractions, forward and backward, per token, without gates
  double gate_flops = 0;        ///< of gates, the same way
  int64_t bytes = 0;            ///< moved by all ops of the training
  int64_t optimizer_bytes = 0;  ///< of these by the optimiser
  int64_t index_bytes = 0;      ///< of these by routing (order, positions, offsets)
  double experts_touched = 0;   ///< distinct experts of a layer in a training batch, mean
  double weight_bytes_touched = 0;  ///< of their weights, all layers, one forward pass
  int64_t resident_bytes = 0;       ///< weights and optimiser state
  Joules joules;
  double max_vio = 0;                      ///< over the held-out text, mean of the layers
  std::vector<std::vector<int64_t>> load;  ///< per layer and expert, held-out text
  std::vector<MoeProbePoint> probes;
};

struct MoeStudy {
  MoeStudyOptions options;
  std::string cpu, isa, energy, text_sha256;
  std::string device = "cpu";           ///< or the GPU's name and how it multiplies f32 numbers
  std::vector<std::string> text_about;  ///< "kjv: 4400000 bytes of ..."
  int threads = 0;
  std::vector<MoeRun> runs;
};

/// Loss of `model` with fewer and more active experts, without its best experts, without the shared
/// ones. Empty for a dense model.
std::vector<MoeProbePoint> probe_model(moe::LanguageModel& model, const std::vector<uint8_t>& text,
                                       int64_t tokens);

struct MoeProgress {
  std::string arm;
  int64_t seed, step, steps;
  double loss;
  int run, runs;
};
/// Runs what is missing of the study in `options.out` (study.json there is continued) and writes
/// study.json, runs.csv, report.html and models/ARM-SEED.safetensors. `stop` ends it after the
/// current step; a run that was cut is run again. Several jobs need a host without a meter:
/// measured windows would overlap (value_error). `show` is called by one thread at a time.
MoeStudy run_moe_study(const MoeStudyOptions& options, const std::atomic<bool>& stop,
                       const Callable<void(const MoeProgress&)>& show);

std::string moe_study_json(const MoeStudy& s);
/// Throws io_error naming `path` and what is wrong.
MoeStudy moe_study_from_json(const std::string& text, const std::string& path);
std::string moe_study_csv(const MoeStudy& s);
std::string moe_study_html(const MoeStudy& s);

/// What is said of a pair of arms over paired seeds.
struct MoeClaim {
  std::string text, found;
  enum Verdict : uint8_t { holds, fails, open, reported } verdict = open;  ///< open: too few seeds
  bool asserted = false;  ///< expected to hold at this scale
};
/// Every claim that the arms of the study allow, asserted ones first.
std::vector<MoeClaim> claims_of(const MoeStudy& s);

/// Losses of an arm by seed; empty where it did not run.
std::vector<std::pair<int64_t, double>> losses_of(const MoeStudy& s, const std::string& arm);
double median(std::vector<double> v);

}  // namespace wattle::green
