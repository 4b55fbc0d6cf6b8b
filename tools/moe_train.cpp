// wattle moe train: one language model, in one process or over the ranks of an mpirun.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>

#include "core/counters.h"
#include "core/error.h"
#include "data/atomic_file.h"
#include "data/bytes.h"
#include "green/energy_session.h"
#include "green/moe_study.h"
#include "green/rendezvous.h"
#include "moe/exchange.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

struct Request {
  std::string arm = "m4", out;
  std::vector<std::string> text = green::MoeStudyOptions{}.text;
  int64_t steps = 500, batch = 32, length = 64, warmup = 200, checkpoint_every = 0,
          validation = 65536;
  double lr = 3e-3;
  uint64_t seed = 1;
  std::string dtype = "f32", device = "cpu", math = "f32";
};

// Rows of losses.csv before `steps`, of the part of the training that a checkpoint keeps.
std::string rows_before(const std::string& path, int64_t steps) {
  std::string kept = "step,loss\n";
  if (access(path.c_str(), F_OK) != 0) return kept;
  const auto bytes = io::read_file(path);
  std::istringstream in(std::string(bytes.begin(), bytes.end()));
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line))
    if (std::atoll(line.c_str()) < steps) kept += line + "\n";
  return kept;
}

// A line for each rank, on rank 0.
void print_ranks(const Joules& joules, double seconds) {
  moe::Group& g = moe::world();
  const Cost cost = counters().total().executed;
  const int64_t own[] = {g.bytes_sent, g.calls, cost.bytes(), cost.flops(),
                         joules.available() ? joules.uj : -1};
  std::vector<int64_t> all(5 * static_cast<size_t>(g.size()));
  g.all_gather(own, 5, all.data());
  if (g.rank() != 0) return;
  std::printf("%d rank%s, %.1f s\n", g.size(), g.size() == 1 ? "" : "s", seconds);
  for (int r = 0; r < g.size(); ++r) {
    const int64_t* const a = all.data() + 5 * r;
    std::printf("rank %d: sent %sB in %lld calls, moved %sB, %sFLOP, %.2f J (%s)\n", r,
                si(double(a[0])).c_str(), static_cast<long long>(a[1]), si(double(a[2])).c_str(),
                si(double(a[3])).c_str(), double(a[4]) * 1e-6,
                std::string(word(joules.kind)).c_str());
  }
}

void train(const Request& r) {
  std::string device = r.device;
  const green::JoinedRanks ranks(device);
  green::LmTrainOptions o;
  o.model = green::moe_arm(r.arm).model;
  o.steps = r.steps, o.batch = r.batch, o.length = r.length, o.lr = r.lr, o.seed = r.seed;
  o.warmup = r.warmup, o.dtype = dtype_from_name(r.dtype);
  o.device = device, o.math = r.math;
  const bool first = moe::world().rank() == 0;
  const auto text = std::make_shared<green::TextStream>(green::make_text_stream(r.text));
  green::LmTrainer trainer(o, text);
  io::make_folders(r.out);
  const std::string checkpoints = r.out + "/checkpoint", csv = r.out + "/losses.csv";
  if (trainer.load_checkpoint(checkpoints) && first)
    std::fprintf(stderr, "continues after step %lld\n", static_cast<long long>(trainer.steps()));
  std::string rows = rows_before(csv, trainer.steps());
  counters().clear();
  const auto start = std::chrono::steady_clock::now();
  while (const auto loss = trainer.step()) {
    char line[64];
    std::snprintf(line, sizeof line, "%lld,%.9g\n", static_cast<long long>(trainer.steps() - 1),
                  *loss);
    rows += line;
    const bool last = trainer.steps() == o.steps;
    if (last || (r.checkpoint_every > 0 && trainer.steps() % r.checkpoint_every == 0)) {
      if (first) io::write_file(csv, rows);
      trainer.save_checkpoint(checkpoints);
      if (first)
        std::fprintf(stderr, "step %lld  loss %.4f\n", static_cast<long long>(trainer.steps()),
                     *loss);
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // Ranks of one host share its meter, so their joules are modelled from what each executed.
  print_ranks(green::make_ledger(counters(), green::module_kinds(trainer.model())).joules, seconds);
  // A model whose experts lie on several ranks is not one file.
  if (moe::world().size() == 1) green::save_lm(r.out + "/model.safetensors", trainer.model());
  const green::LmEvaluation e = green::evaluate_lm(trainer.model(), text->validation, r.validation);
  if (first)
    std::printf("held-out loss %.6f nats per byte, global MaxVio %.3f\n", e.loss, e.max_vio());
}

}  // namespace

void add_moe_train(CLI::App& moe_command) {
  auto* t = moe_command.add_subcommand("train",
                                       "Trains one arm of the study; under `wattle mpi RANKS` the "
                                       "experts are shared out over ranks");
  auto r = std::make_shared<Request>();
  t->add_option("--arm", r->arm, "An arm of `wattle study moe`")->capture_default_str();
  t->add_option("--text", r->text, "kjv, python, c++, or files and folders")
      ->delimiter(',')
      ->capture_default_str();
  t->add_option("--steps", r->steps, "Steps")->capture_default_str()->check(positive());
  t->add_option("--batch", r->batch, "Windows of text in a step")->capture_default_str();
  t->add_option("--length", r->length, "Bytes in a window")->capture_default_str();
  t->add_option("--lr", r->lr, "Learning rate of AdamW")->capture_default_str();
  t->add_option("--warmup", r->warmup, "Steps over which the rate grows")->capture_default_str();
  t->add_option("--dtype", r->dtype, "f32, or f64, in which the number of ranks hardly shows")
      ->capture_default_str();
  add_device_options(*t, r->device, r->math);
  t->add_option("--seed", r->seed, "Of weights and order")->capture_default_str();
  t->add_option("--checkpoint-every", r->checkpoint_every,
                "Steps between checkpoints (default: at the end only)");
  t->add_option("--validation-tokens", r->validation, "Held-out bytes, 0 = all")
      ->capture_default_str();
  t->add_option("--out", r->out,
                "Folder of losses.csv, checkpoint/, model.safetensors; continues what is there")
      ->required();
  t->callback([r] { train(*r); });
}

}  // namespace wattle::cli
