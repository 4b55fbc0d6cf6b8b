#include "green/study.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/counters.h"
#include "core/cuda.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "data/atomic_file.h"
#include "energy/carbon.h"
#include "green/clock_text.h"
#include "green/energy_session.h"
#include "green/experiment.h"
#include "green/ledger.h"
#include "green/meta_cost.h"
#include "green/mlflow_study.h"
#include "green/replay_energy.h"
#include "green/report.h"
#include "green/run_device.h"
#include "green/study_files.h"
#include "green/trainer.h"

namespace wattle::green {
namespace {

NetSpec spec_of(const NetKey& k) { return {k.net, k.linear, k.conv, k.relu != 0}; }

LayerType type_of(const LedgerRow& r) {
  if (r.kind == "Conv2d") return LayerType::conv;
  if (r.kind == "Linear") return LayerType::linear;
  if (r.kind == "ReLU") return LayerType::relu;
  if (r.kind == "BatchNorm2d") return LayerType::batch_norm;
  if (r.kind.ends_with("Pool2d")) return LayerType::pool;
  if (r.kind == "loss") return LayerType::loss;
  if (r.kind == unattributed_row) return LayerType::other;
  if (r.phase == Phase::data) return LayerType::data;
  return LayerType::other;
}

std::vector<std::string> oddities(const StudyOptions& o) {
  if (o.protocol != "as-published") return {};
  return {"Batches are made once: every epoch sees the same batches in the same order.",
          "Test accuracy is taken with batch normalisation in training mode, on the statistics of "
          "the whole test set at once.",
          "There is no validation split; the test set is what the published accuracies are on.",
          "Nothing non-linear stands between linear layers, so the linear tail is an affine map."};
}

StudySettings settings_of(const StudyOptions& o, const data::Split& data,
                          const EnergySession& energy) {
  StudySettings s;
  s.dataset = o.dataset;
  s.protocol = o.protocol;
  s.epochs = o.epochs;
  s.batch = o.batch;
  s.rows = data.train.rows();
  s.test_rows = data.test.rows();
  s.optimizer = o.protocol == "as-published" ? "adam" : "adam, cosine schedule";
  s.lr = o.lr;
  s.energy_source = energy.source();
  s.energy_sentence = energy.sentence();
  s.region = o.region;
  s.version = o.version;
  s.cpu = energy.host().cpu;
  s.simd = simd::level_name(simd::level());
  s.threads = num_threads();
  s.device = device_text(o.device, o.math);
  s.date = now_iso();
  for (int i = 0; i < o.seeds; ++i) s.seeds.push_back(static_cast<uint64_t>(i));
  s.nets = o.nets;
  s.oddities = oddities(o);
  return s;
}

// Seconds of one step, roughly: only ratios between nets matter, for the time that is left.
double step_weight(const NetKey& k, const StudyOptions& o) {
  const StepCost c = meta_step_cost(spec_of(k), image_spec(o.dataset), o.batch);
  return double(c.ledger.cost.bytes()) / 10e9 + double(c.ledger.cost.flops_weighted()) / 100e9;
}

class StudyRunner {
 public:
  StudyRunner(const StudyOptions& o, std::atomic<bool>& stop, ProgressFn progress, void* ctx)
      : options_(o),
        energy_(2, nullptr, open_device(o.device, o.math)),
        stop_(stop),
        progress_(progress),
        ctx_(ctx) {
    if (options_.nets.empty()) options_.nets = default_nets();
    if (options_.lr == 0) options_.lr = o.protocol == "as-published" ? 3e-4 : 3e-3;
    if (o.protocol != "fixed" && o.protocol != "as-published")
      throw value_error(
          str("--protocol: found '", o.protocol, "', expected fixed or as-published"));
    for (const NetKey& k : options_.nets) check_net(spec_of(k), image_spec(o.dataset));
    if (o.seeds < 1) throw value_error(str("--seeds: found ", o.seeds, ", expected >= 1"));
    if (o.rows < 1 && o.rows != -1)
      throw value_error(str("--rows: found ", o.rows, ", expected at least one image per class"));
    if (!o.region.empty()) energy::intensity_of(o.region);
    if (!o.mlflow.empty()) options_.mlflow = checked_mlflow_url(o.mlflow);
  }

  StudyResult run() {
    data_ = data::load(options_.dataset, options_.data_dir);
    if (options_.rows > 0) data_.train = data::subset(data_.train, options_.rows, 0);
    open();
    // Seeds are the rounds of an experiment: in each every net once, in an order of its own, so
    // that a host that warms up or slows down does not look like a net that costs more.
    for (const PlannedRun& r :
         plan_runs(options_.nets.size(), {.repetitions = options_.seeds, .warmup = 0})) {
      const NetKey& k = options_.nets[r.variant];
      const auto seed = static_cast<uint64_t>(r.round);
      if (!has_run(result_, k, seed)) plan_.push_back({k, seed});
    }
    for (const Item& i : plan_) weight_all_ += step_weight(i.key, options_);
    start_ = std::chrono::steady_clock::now();
    for (size_t i = 0; i < plan_.size() && !stop_; ++i)
      if (train(plan_[i], i)) write();
    return result_;
  }

 private:
  struct Item {
    NetKey key;
    uint64_t seed;
  };

  // Continues what the folder holds; otherwise writes the empty study at once, so that a folder
  // that cannot be written is found before hours of work.
  void open() {
    StudyResult before;
    const StudySettings now = settings_of(options_, data_, energy_);
    io::make_folders(options_.out);
    if (read_study(options_.out, before)) {
      const std::string difference = settings_difference(before.settings, now);
      if (!difference.empty())
        throw value_error(str("--out ", options_.out, " holds a study of other settings (",
                              difference, "); choose another folder"));
      result_ = std::move(before);
      result_.settings.nets = now.nets;
      result_.settings.seeds = now.seeds;
    } else {
      result_.settings = now;
    }
    write();
  }

  void write() {
    write_study(options_.out, result_);
    io::write_file(options_.out + "/report.html", study_report_html(result_));
  }

  double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  void report(const Item& item, size_t index, const Trainer& t, double loss, double weight) {
    if (!progress_) return;
    const double share = double(t.steps()) / double(t.total_steps());
    const double done = weight_done_ + weight * share;
    const double spent = elapsed();
    progress_(ctx_, {static_cast<int>(result_.runs.size()),
                     static_cast<int>(result_.runs.size() + plan_.size() - index), label(item.key),
                     item.seed, t.steps(), t.total_steps(), loss, spent,
                     spent > 2 ? spent / done * (weight_all_ - done) : -1});
  }

  // False when it was interrupted: a run counts whole or not at all.
  bool train(const Item& item, size_t index) {
    TrainOptions t;
    t.net = spec_of(item.key);
    t.epochs = options_.epochs;
    t.batch = options_.batch;
    t.lr = options_.lr;
    t.seed = item.seed;
    t.device = options_.device;
    t.math = options_.math;
    if (options_.protocol == "fixed") t.schedule = "cosine";
    t.frozen_batches = t.batch_statistics_at_test = options_.protocol == "as-published";
    Trainer trainer(t, data_.train);
    const double weight = step_weight(item.key, options_);
    counters() = Counters();
    StudyRun run{.dataset = options_.dataset, .key = item.key, .seed = item.seed};
    std::vector<EpochPoint> curve;
    EnergyRun energy;
    const auto mlflow =
        start_mlflow_run(options_.mlflow, options_.out, result_.settings, item.key, item.seed);
    double seconds = 0, loss_sum = 0;
    int64_t in_epoch = 0;
    while (!stop_) {
      if (in_epoch == 0) energy_.begin(energy, label(item.key));
      const auto before = std::chrono::steady_clock::now();
      const auto loss = trainer.step();
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
      if (!loss) break;
      ++in_epoch;
      run.diverged = !std::isfinite(*loss);
      if (trainer.epoch_ended() || run.diverged) energy.end();  // evaluation is not training
      if (run.diverged) break;
      loss_sum += *loss;
      if (mlflow) mlflow->metric("loss", *loss, trainer.steps());
      if (trainer.steps() % 4 == 0 || trainer.epoch_ended())
        report(item, index, trainer, *loss, weight);
      if (!trainer.epoch_ended()) continue;
      run.train_loss = loss_sum / static_cast<double>(in_epoch);
      loss_sum = 0;
      in_epoch = 0;
      run.accuracy = trainer.evaluate(data_.test).accuracy;
      curve.push_back({.key = item.key,
                       .seed = item.seed,
                       .epoch = static_cast<int>(trainer.epoch()),
                       .train_loss = run.train_loss,
                       .accuracy = run.accuracy,
                       .seconds = seconds});
      if (!mlflow) continue;
      mlflow->metric("train_loss", run.train_loss, trainer.steps());
      mlflow->metric("accuracy", run.accuracy, trainer.steps());
      mlflow->flush();
    }
    if (stop_ && trainer.epoch() < options_.epochs && !run.diverged) return false;
    if (trainer.captured() && energy_.measured() && options_.replay_seconds > 0 && !run.diverged)
      energy.replace(energy_of_steps(measure_step(energy_.meter(), energy_.idle(),
                                                  *trainer.captured(), options_.replay_seconds),
                                     trainer.steps()));
    const Ledger ledger = energy_.ledger(counters(), module_kinds(trainer.net()), energy);
    run.epochs = static_cast<int>(trainer.epoch());
    run.seconds = seconds;
    run.params = trainer.net().parameter_count();
    add_run(run, ledger);
    if (mlflow)
      note(finish_mlflow_run(*mlflow, result_.runs.back(), ledger, trainer.steps(),
                             options_.region));
    result_.curves.insert(result_.curves.end(), curve.begin(), curve.end());
    weight_done_ += weight;
    return true;
  }

  void add_run(StudyRun run, const Ledger& ledger) {
    note(ledger.warning);
    run.rows = data_.train.rows();
    run.flops_weighted = ledger.cost.flops_weighted();
    run.flops_all = ledger.cost.flops();
    run.bytes = ledger.cost.bytes();
    run.joules = ledger.joules;
    run.idle = ledger.idle;
    run.net = ledger.net;
    run.kappa = ledger.kappa;
    for (const LedgerRow& r : ledger.rows)
      add_layer_row(result_, {.key = run.key,
                              .layer = r.layer.empty() ? "(none)" : r.layer,
                              .type = type_of(r),
                              .phase = r.phase,
                              .calls = r.calls,
                              .flops_weighted = r.cost.flops_weighted(),
                              .flops_all = r.cost.flops(),
                              .bytes_read = r.cost.read,
                              .bytes_written = r.cost.written,
                              // A launch returns before it has run: no time is known.
                              .ms = options_.device == "cpu" ? r.ns * 1e-6 : not_known,
                              .joules = r.joules});
    result_.runs.push_back(run);
  }

  // Each warning once, where the report's reader finds it.
  void note(const std::string& warning) {
    auto& notes = result_.settings.notes;
    if (!warning.empty() && std::find(notes.begin(), notes.end(), warning) == notes.end())
      notes.push_back(warning);
  }

  StudyOptions options_;
  EnergySession energy_;
  std::atomic<bool>& stop_;
  ProgressFn progress_;
  void* ctx_;
  data::Split data_;
  StudyResult result_;
  std::vector<Item> plan_;
  double weight_all_ = 0, weight_done_ = 0;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

std::vector<NetKey> default_nets() {
  std::vector<NetKey> nets;
  for (int conv : {1, 4})
    for (int linear : {3, 7})
      for (int relu : {0, 1}) nets.push_back({"cnn", linear, conv, relu});
  nets.push_back({"densepoly", 3, 0, 0});
  nets.push_back({"denselinear", 3, 0, 0});
  return nets;
}

std::string net_name(const NetKey& k) {
  return k.net == "cnn" ? str("cnn", k.linear, k.conv, k.relu) : str(k.net, k.linear);
}

std::vector<NetKey> parse_nets(const std::string& list) {
  std::vector<NetKey> nets;
  size_t at = 0;
  while (at <= list.size()) {
    const size_t comma = std::min(list.find(',', at), list.size());
    const std::string item = list.substr(at, comma - at);
    at = comma + 1;
    const size_t digits = item.find_first_of("0123456789");
    const std::string kind = item.substr(0, digits);
    const std::string number = digits == item.npos ? "" : item.substr(digits);
    const bool numeric = number.find_first_not_of("0123456789") == number.npos;
    if (item == "cnn") {
      for (const NetKey& k : default_nets())
        if (k.net == "cnn") nets.push_back(k);
    } else if (kind == "cnn" && numeric && number.size() == 3 && number[2] <= '1') {
      nets.push_back({"cnn", number[0] - '0', number[1] - '0', number[2] - '0'});
    } else if ((kind == "densepoly" || kind == "denselinear") && numeric && number.size() <= 2) {
      nets.push_back({kind, number.empty() ? 3 : std::stoi(number), 0, 0});
    } else {
      throw value_error(str("--nets: found '", item,
                            "', expected cnn, cnn341 (3 linear, 4 conv, "
                            "ReLU), densepoly3, denselinear7 and the like, separated by commas"));
    }
  }
  std::vector<NetKey> once;  // "cnn,cnn341" names one net twice
  for (const NetKey& k : nets)
    if (std::find(once.begin(), once.end(), k) == once.end()) once.push_back(k);
  return once;
}

StudyResult run_study(const StudyOptions& options, std::atomic<bool>& stop, ProgressFn progress,
                      void* ctx) {
  return StudyRunner(options, stop, progress, ctx).run();
}

}  // namespace wattle::green
