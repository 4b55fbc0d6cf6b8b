// wattle train: trains one net; can be killed at any moment and goes on from its checkpoint.
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/counters.h"
#include "data/atomic_file.h"
#include "data/safetensors.h"
#include "green/chrome_trace.h"
#include "green/energy_session.h"
#include "green/prometheus.h"
#include "green/trainer.h"
#include "tools/cli.h"
#include "tools/net_options.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  green::TrainOptions train;
  std::shared_ptr<NetOptions> net;
  std::string dtype = "f32", trace, prometheus, data_dir, init, save, log, checkpoint;
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

void load_weights(nn::Module& net, const std::string& path) {
  nn::StateDict state;
  for (auto& [name, tensor] : io::read_safetensors(path).tensors) state.push_back({name, tensor});
  try {
    net.load_state_dict(state);
  } catch (const value_error& e) { throw value_error(str(path, ": ", e.what())); }
}

void save_weights(const nn::Module& net, const std::string& path) {
  io::SafetensorsFile file;
  for (const nn::Named& n : net.state_dict()) file.add(n.name, n.tensor);
  io::write_safetensors(path, file);
}

data::Split load_data(const Options& o) {
  if (o.rows < 1 && o.rows != -1)
    throw value_error(str("--rows: found ", o.rows, ", expected at least one image per class"));
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
  green::Timeline timeline;
  energy.begin(measured, "step");
  const auto loss = trainer.step();
  measured.end();
  io::write_file(
      o.trace, green::chrome_trace_json(timeline.calls(), timeline.begin_ns(),
                                        energy.basis(measured), "wattle train " + o.net->title()));
  return loss;
}

void run(Options& o) {
  o.train.net = o.net->net();
  o.train.shuffle = !o.no_shuffle;
  o.train.dtype = dtype_from_name(o.dtype);
  green::check_net(o.train.net, green::image_spec(o.net->dataset));
  data::Split split = load_data(o);
  green::Trainer trainer(o.train, split.train);
  const std::string state = o.checkpoint.empty() ? "" : o.checkpoint + "/training.safetensors";
  if (!state.empty() && access(state.c_str(), F_OK) == 0) {
    trainer.load(state);
    if (!o.quiet)
      std::fprintf(stderr, "continues from %s, step %lld\n", state.c_str(),
                   static_cast<long long>(trainer.steps()));
  } else if (!o.init.empty()) {
    load_weights(trainer.net(), o.init);
  }
  if (!o.checkpoint.empty()) io::make_folders(o.checkpoint);
  LossLog log(o.log, trainer.steps(), o.train.dtype);
  green::EnergySession energy(o.idle);
  if (!o.quiet && !o.as_json) std::printf("%s\n", energy.sentence().c_str());
  green::EnergyRun measured;
  counters().clear();
  const auto start = std::chrono::steady_clock::now();
  double loss_sum = 0, train_loss = 0;
  int64_t since_epoch = 0;
  for (;;) {
    if (since_epoch == 0) energy.begin(measured, "epoch");
    const bool traced = !o.trace.empty() && trainer.steps() == traced_step;
    const auto loss = traced ? step_with_trace(o, trainer, energy) : trainer.step();
    if (!loss) break;
    const bool last = o.stop_after > 0 && trainer.steps() >= o.stop_after;
    if (trainer.epoch_ended() || last) measured.end();
    if (!o.prometheus.empty() && (trainer.epoch_ended() || last))
      io::write_file(o.prometheus,
                     green::prometheus_text(
                         energy.ledger(counters(), green::module_kinds(trainer.net()), measured),
                         trainer.steps(), o.net->title()));
    log.add(trainer.steps(), *loss);
    loss_sum += *loss;
    ++since_epoch;
    const bool every = o.checkpoint_every > 0 && trainer.steps() % o.checkpoint_every == 0;
    if (!state.empty() && (trainer.epoch_ended() || every)) {
      log.flush();  // the log is never behind the checkpoint
      trainer.save(state);
    }
    if (trainer.epoch_ended()) {
      train_loss = loss_sum / static_cast<double>(since_epoch);
      loss_sum = 0;
      since_epoch = 0;
      if (!o.quiet && !o.as_json)
        std::printf("epoch %lld  loss %.4f  test accuracy %.4f  %.1f s\n",
                    static_cast<long long>(trainer.epoch()), train_loss,
                    trainer.evaluate(split.test).accuracy, seconds_since(start));
    }
    if (last) break;
  }
  log.flush();
  const double seconds = seconds_since(start);
  const green::Ledger ledger =
      energy.ledger(counters(), green::module_kinds(trainer.net()), measured);
  const green::Evaluation test = trainer.evaluate(split.test);
  if (!o.save.empty()) save_weights(trainer.net(), o.save);
  if (o.as_json) {
    const json j{{"accuracy", test.accuracy},
                 {"test_loss", test.loss},
                 {"train_loss", train_loss},
                 {"steps", trainer.steps()},
                 {"epochs", trainer.epoch()},
                 {"seconds", seconds},
                 {"params", trainer.net().parameter_count()},
                 {"flops_weighted", ledger.cost.flops_weighted()},
                 {"flops_all", ledger.cost.flops()},
                 {"bytes", ledger.cost.bytes()},
                 {"joules", json::parse(ledger.joules.json())}};
    std::printf("%s\n", j.dump(1).c_str());
  } else {
    std::printf(
        "test accuracy %.4f, loss %.4f after %lld steps\n%s FLOP weighted, %s FLOP in all, "
        "%s bytes, %.1f s\n%s\n",
        test.accuracy, test.loss, static_cast<long long>(trainer.steps()),
        si(double(ledger.cost.flops_weighted())).c_str(), si(double(ledger.cost.flops())).c_str(),
        si(double(ledger.cost.bytes())).c_str(), seconds, ledger.joules.str().c_str());
  }
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
  c->add_option("--idle", o->idle,
                "Seconds for which the idle host is watched first, where there is a meter")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  c->add_flag("--no-shuffle", o->no_shuffle, "Images in the order of the file");
  c->add_flag("--quiet", o->quiet, "Only the last lines");
  c->add_flag("--json", o->as_json, "Result as JSON");
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
