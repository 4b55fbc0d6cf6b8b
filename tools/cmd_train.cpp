// wattle train: trains one net; can be killed at any moment and goes on from its checkpoint.
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/counters.h"
#include "core/cuda.h"
#include "data/atomic_file.h"
#include "data/safetensors.h"
#include "green/chrome_trace.h"
#include "green/clock_text.h"
#include "green/energy_session.h"
#include "green/mlflow.h"
#include "green/prometheus.h"
#include "green/rendezvous.h"
#include "green/run_device.h"
#include "green/trainer.h"
#include "tools/cli.h"
#include "tools/net_options.h"
#include "tools/weights.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  green::TrainOptions train;
  std::shared_ptr<NetOptions> net;
  std::string dtype = "f32", trace, prometheus, mlflow, mlflow_spool = "wattle-mlflow", data_dir,
              init, save, log, checkpoint;
  double idle = 2;
  int64_t rows = -1, checkpoint_every = 0, stop_after = 0;
  bool no_shuffle = false, as_json = false, quiet = false;
};

// losses.csv: a row per step. On resume it is cut back to the checkpoint's step first.
class LossLog {
 public:
  LossLog(const std::string& path, int64_t steps_done, DType dtype)
      : path_(path), digits_(dtype == DType::f64 ? 17 : 9) {
    if (path.empty()) return;
    std::string kept = "step,loss\n";
    if (steps_done > 0) {
      std::ifstream old(path);
      std::string line;
      std::getline(old, line);
      for (int64_t s = 0; s < steps_done && std::getline(old, line); ++s) kept += line + "\n";
    }
    io::write_file(path, kept);
    file_ = std::fopen(path.c_str(), "a");
    if (!file_) throw io_error(str(path, ": cannot be opened for writing"));
  }
  ~LossLog() {
    if (file_) std::fclose(file_);
  }
  LossLog(const LossLog&) = delete;
  LossLog& operator=(const LossLog&) = delete;
  void add(int64_t step, double loss) {
    if (!file_) return;
    std::fprintf(file_, "%lld,%.*g\n", static_cast<long long>(step), digits_, loss);
  }
  void flush() {
    if (file_ && (std::fflush(file_) != 0 || std::ferror(file_)))
      throw io_error(str(path_, ": cannot write: ", std::strerror(errno)));
  }

 private:
  std::string path_;
  int digits_;  // as many as the dtype needs to come back to the same bits
  std::FILE* file_ = nullptr;
};

void save_weights(const nn::Module& net, const std::string& path) {
  io::SafetensorsFile file;
  for (const nn::Named& n : net.state_dict()) file.add(n.name, n.tensor);
  io::write_safetensors(path, file);
}

data::Split load_data(const Options& o) {
  if (o.rows < 1 && o.rows != -1)
    throw value_error(str("--rows: found ", o.rows, ", expected at least one image per class"));
  green::open_device(o.train.device, o.train.math);  // before anything is read
  data::Split split = data::load(o.net->dataset, o.data_dir);
  if (o.rows > 0) split.train = data::subset(split.train, o.rows, o.train.seed);
  return split;
}

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// The third step: the first two make memory and caches.
constexpr int64_t traced_step = 2;

std::optional<double> step_with_trace(const Options& o, green::Trainer& trainer,
                                      green::EnergySession& energy) {
  green::EnergyRun measured;
  const Device where = trainer.device();
  energy::GpuWatch watch(where.kind == DeviceKind::cuda
                             ? cuda::status().devices[static_cast<size_t>(where.index)].uuid
                             : "");
  green::Timeline timeline;
  energy.begin(measured, "step");
  // On a GPU op by op, each of them waited for: a captured step shows nothing of its ops.
  const bool graph = trainer.options().graph;
  trainer.set_graph(false);
  cuda::set_timing(true);
  const auto loss = trainer.step();
  cuda::set_timing(false);
  trainer.set_graph(graph);
  measured.end();
  io::write_file(o.trace, green::chrome_trace_json(timeline.calls(), timeline.begin_ns(),
                                                   energy.basis(measured),
                                                   "wattle train " + o.net->title(), watch.stop()));
  return loss;
}

std::unique_ptr<green::MlflowRun> start_mlflow(const Options& o) {
  if (o.mlflow.empty()) return nullptr;
  green::MlflowOptions m;
  m.url = o.mlflow;
  m.spool = o.mlflow_spool;
  m.experiment = "wattle train";
  const green::TrainOptions& t = o.train;
  return std::make_unique<green::MlflowRun>(
      m, str(t.net.net, "-s", static_cast<int64_t>(t.seed), "-", green::now_ms()), o.net->title(),
      std::map<std::string, std::string>{{"net", o.net->title()},
                                         {"optimizer", t.optimizer},
                                         {"lr", str(t.lr)},
                                         {"schedule", t.schedule},
                                         {"batch", std::to_string(t.batch)},
                                         {"epochs", std::to_string(t.epochs)},
                                         {"seed", std::to_string(t.seed)},
                                         {"dtype", o.dtype},
                                         {"device", t.device},
                                         {"math", t.math}},
      std::map<std::string, std::string>{});
}

void finish(green::MlflowRun& m, const green::Evaluation& test, const green::Ledger& ledger,
            int64_t step) {
  m.metric("test_accuracy", test.accuracy, step);
  m.metric("test_loss", test.loss, step);
  m.metric("flops_weighted", double(ledger.cost.flops_weighted()), step);
  m.metric("flops_all", double(ledger.cost.flops()), step);
  m.metric("bytes", double(ledger.cost.bytes()), step);
  m.ledger(ledger, step);
  m.finish();
  if (!m.note().empty()) std::fprintf(stderr, "mlflow: %s\n", m.note().c_str());
}

// One `wattle train`, from its data to its last line.
class Training {
 public:
  explicit Training(Options& o)
      : o_(o),
        ranks_(o.train.device),
        split_(load_data(o)),
        trainer_(o.train, split_.train),
        state_(o.checkpoint.empty() ? "" : o.checkpoint + "/training.safetensors"),
        energy_(o.idle, nullptr, trainer_.device()) {
    if (!state_.empty() && access(state_.c_str(), F_OK) == 0) {
      trainer_.load(state_);
      if (!o.quiet)
        std::fprintf(stderr, "continues from %s, step %lld\n", state_.c_str(),
                     static_cast<long long>(trainer_.steps()));
    } else if (!o.init.empty()) {
      load_weights(trainer_.net(), o.init);
    }
    if (!first_) return;
    if (!o.checkpoint.empty()) io::make_folders(o.checkpoint);
    // A file that cannot be written is found now, not after an epoch.
    for (const std::string& path : {o.trace, o.prometheus, o.save})
      if (!path.empty()) const io::AtomicFile tried(path);  // removed again, the old one stays
    log_ = std::make_unique<LossLog>(o.log, trainer_.steps(), o.train.dtype);
    if (!o.quiet && !o.as_json) std::printf("%s\n", energy_.sentence().c_str());
    mlflow_ = start_mlflow(o);
  }

  void run() {
    counters().clear();
    start_ = std::chrono::steady_clock::now();
    for (;;) {
      if (since_epoch_ == 0) energy_.begin(measured_, "epoch");
      const bool traced = !o_.trace.empty() && trainer_.steps() == traced_step;
      const auto loss = traced ? step_with_trace(o_, trainer_, energy_) : trainer_.step();
      if (!loss) break;
      const bool last = o_.stop_after > 0 && trainer_.steps() >= o_.stop_after;
      if (trainer_.epoch_ended() || last) measured_.end();
      take(*loss);
      if (trainer_.epoch_ended()) end_epoch();
      if (last) break;
    }
    const double seconds = seconds_since(start_);
    const green::Ledger ledger = this->ledger();
    const std::string of_ranks = joules_of_ranks(ledger);
    if (!first_) return;
    log_->flush();
    write_prometheus();
    const green::Evaluation test = trainer_.evaluate(split_.test);
    if (mlflow_) finish(*mlflow_, test, ledger, trainer_.steps());
    if (!o_.save.empty()) save_weights(trainer_.net(), o_.save);
    if (o_.as_json) print_json(test, ledger, seconds);
    else print(test, ledger, seconds, of_ranks);
  }

 private:
  green::Ledger ledger() {
    return energy_.ledger(counters(), green::module_kinds(trainer_.net()), measured_);
  }

  // Each rank has a GPU of its own; ranks on the CPUs of one host would all report the same meter.
  std::string joules_of_ranks(const green::Ledger& l) const {
    Group& g = world();
    if (g.size() == 1) return {};
    const int64_t own = l.joules.available() ? l.joules.uj : 0;
    std::vector<int64_t> all(static_cast<size_t>(g.size()));
    g.all_gather(&own, 1, all.data());
    if (trainer_.device().kind == DeviceKind::cpu && energy_.measured()) return {};
    std::string text = str(g.size(), " ranks:");
    int64_t sum = 0;
    for (const int64_t uj : all) {
      text += " " + energy::energy_text(static_cast<double>(uj));
      sum += uj;
    }
    return text + ", together " + energy::energy_text(static_cast<double>(sum)) + "\n";
  }

  // What one step leaves behind: a line of the log, a point, a checkpoint.
  void take(double loss) {
    if (!first_) {
      since_epoch_ = trainer_.epoch_ended() ? 0 : since_epoch_ + 1;
      return;
    }
    log_->add(trainer_.steps(), loss);
    if (mlflow_) mlflow_->metric("loss", loss, trainer_.steps());
    loss_sum_ += loss;
    ++since_epoch_;
    const bool every = o_.checkpoint_every > 0 && trainer_.steps() % o_.checkpoint_every == 0;
    if (state_.empty() || !(trainer_.epoch_ended() || every)) return;
    log_->flush();  // the log is never behind the checkpoint
    trainer_.save(state_);
  }

  void end_epoch() {
    if (!first_) return;
    train_loss_ = loss_sum_ / static_cast<double>(since_epoch_);
    loss_sum_ = 0;
    since_epoch_ = 0;
    write_prometheus();
    if (mlflow_) mlflow_->flush();
    if (o_.quiet || o_.as_json) return;
    std::printf("epoch %lld  loss %.4f  test accuracy %.4f  %.1f s\n",
                static_cast<long long>(trainer_.epoch()), train_loss_,
                trainer_.evaluate(split_.test).accuracy, seconds_since(start_));
    std::fflush(stdout);  // whoever reads a pipe sees the epoch when it ends
  }

  void write_prometheus() {
    if (o_.prometheus.empty()) return;
    io::write_file(o_.prometheus,
                   green::prometheus_text(ledger(), trainer_.steps(), o_.net->title()));
  }

  void print_json(const green::Evaluation& test, const green::Ledger& l, double seconds) {
    const json j{{"accuracy", test.accuracy},
                 {"test_loss", test.loss},
                 {"train_loss", train_loss_},
                 {"steps", trainer_.steps()},
                 {"epochs", trainer_.epoch()},
                 {"seconds", seconds},
                 {"params", trainer_.net().parameter_count()},
                 {"flops_weighted", l.cost.flops_weighted()},
                 {"flops_all", l.cost.flops()},
                 {"bytes", l.cost.bytes()},
                 {"joules", json::parse(l.joules.json())},
                 {"joules_idle", json::parse(l.idle.json())},
                 {"joules_net", json::parse(l.net.json())},
                 {"kappa", std::isfinite(l.kappa) ? json(l.kappa) : json()},
                 {"energy", energy_.sentence()},
                 {"device", o_.train.device},
                 {"math", o_.train.math}};
    std::printf("%s\n", j.dump(1).c_str());
  }

  void print(const green::Evaluation& test, const green::Ledger& l, double seconds,
             const std::string& of_ranks) {
    std::printf(
        "test accuracy %.4f, loss %.4f after %lld steps\n%s FLOP weighted, %s FLOP in all, "
        "%s bytes, %.1f s\n%s\n",
        test.accuracy, test.loss, static_cast<long long>(trainer_.steps()),
        si(double(l.cost.flops_weighted())).c_str(), si(double(l.cost.flops())).c_str(),
        si(double(l.cost.bytes())).c_str(), seconds, l.joules.str().c_str());
    if (l.net.available())
      std::printf("idle %s, net %s\n", l.idle.str().c_str(), l.net.str().c_str());
    std::printf("%s", of_ranks.c_str());
    if (!l.warning.empty()) std::printf("warning: %s\n", l.warning.c_str());
  }

  Options& o_;
  green::JoinedRanks ranks_;
  const bool first_ = world().rank() == 0;  // prints and writes
  data::Split split_;
  green::Trainer trainer_;
  std::string state_;
  green::EnergySession energy_;
  std::unique_ptr<LossLog> log_;
  green::EnergyRun measured_;
  std::unique_ptr<green::MlflowRun> mlflow_;
  std::chrono::steady_clock::time_point start_;
  double loss_sum_ = 0, train_loss_ = 0;
  int64_t since_epoch_ = 0;
};

void run(Options& o) {
  o.train.net = o.net->net();
  o.train.shuffle = !o.no_shuffle;
  o.train.dtype = dtype_from_name(o.dtype);
  green::check_net(o.train.net, green::image_spec(o.net->dataset));
  Training(o).run();
}

}  // namespace

void add_train(CLI::App& app) {
  auto* c = app.add_subcommand("train", "Trains one net");
  auto o = std::make_shared<Options>();
  o->net = add_net_options(*c);
  c->add_option("--data-dir", o->data_dir, "Folder of the data set");
  c->add_option("--rows", o->rows, "Training images, stratified over the classes (default: all)");
  c->add_option("--epochs", o->train.epochs, "Epochs")->capture_default_str();
  c->add_option("--batch", o->train.batch, "Images in a step")->capture_default_str();
  c->add_option("--optimizer", o->train.optimizer, "sgd, momentum, adam or adamw")
      ->capture_default_str();
  c->add_option("--lr", o->train.lr, "Learning rate")->capture_default_str();
  c->add_option("--schedule", o->train.schedule, "constant, cosine or step")->capture_default_str();
  c->add_option("--dtype", o->dtype, "f32, or f64 to compare trajectories (slower)")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "f64"}));
  c->add_option("--precision", o->train.precision,
                "f32, bf16, fp16, fp8, posit16, posit8_mixed, posit8, int8_qat, or a .json file "
                "with a precision for each layer")
      ->capture_default_str();
  add_device_options(*c, o->train.device, o->train.math);
  c->add_flag("!--no-graph", o->train.graph, "On cuda, launch op by op instead of a captured step");
  c->add_option("--seed", o->train.seed, "Seed of weights and order")->capture_default_str();
  c->add_option("--init", o->init, "Initial weights, safetensors");
  c->add_option("--save", o->save, "Where the weights go, safetensors");
  c->add_option("--log", o->log, "losses.csv: a row per step");
  c->add_option("--checkpoint", o->checkpoint,
                "Folder of the full state; continues from it when it is there");
  c->add_option("--checkpoint-every", o->checkpoint_every,
                "Also save every so many steps (default: every epoch)");
  c->add_option("--stop-after", o->stop_after,
                "End after this step (the training can go on later)");
  c->add_option("--trace", o->trace,
                "Chrome/Perfetto trace of the third step: FLOP, bytes and microjoules of every op");
  c->add_option("--prometheus", o->prometheus,
                "Text file for the node exporter's textfile collector, rewritten every epoch");
  c->add_option("--mlflow", o->mlflow, "Address of an MLflow server, http://HOST:PORT");
  c->add_option("--mlflow-spool", o->mlflow_spool, "Folder of what the server has not got yet")
      ->capture_default_str();
  c->add_option("--idle", o->idle,
                "Seconds for which the idle host is watched first, where there is a meter")
      ->capture_default_str()
      ->check(not_negative());
  c->add_flag("--no-shuffle", o->no_shuffle, "Images in the order of the file");
  c->add_flag("--quiet", o->quiet, "Only the last lines");
  c->add_flag("--json", o->as_json, "Result as JSON");
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
