#include "green/moe_study.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "core/counters.h"
#include "core/error.h"
#include "core/op.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "data/atomic_file.h"
#include "data/bytes.h"
#include "green/energy_session.h"
#include "green/run_device.h"

namespace wattle::green {
namespace {

constexpr int64_t kWidth = 64, kHidden = 256;

moe::LmConfig dense(int64_t hidden) { return {.dense_hidden = hidden}; }

moe::LmConfig routed(int64_t m, int64_t k, int64_t shared, int64_t hidden = kHidden) {
  moe::MoEConfig c{.d_model = kWidth,
                   .d_ff = hidden,
                   .experts = 16,
                   .top_k = k,
                   .segments = m,
                   .shared = shared};
  c.aux_alpha = 0.01;
  moe::LmConfig l;
  l.moe = c;
  return l;
}

moe::LmConfig changed(moe::LmConfig l, auto&& change) {
  change(*l.moe);
  return l;
}

std::vector<MoeArm> make_arms() {
  return {
      {"dense1", "a standard FFN", dense(kHidden)},
      {"dense2", "an FFN of twice the hidden size: equal active FLOPs", dense(2 * kHidden)},
      {"dense16", "an FFN with the weights of all 16 experts", dense(16 * kHidden)},
      {"switch", "16 experts, top 1", routed(1, 1, 0)},
      {"hash", "16 experts, chosen by the byte",
       changed(routed(1, 1, 0), [](moe::MoEConfig& c) { c.score = "hash", c.aux_alpha = 0; })},
      {"gshard", "16 experts, top 2", routed(1, 2, 0)},
      {"gshard15", "16 experts of 1.5 times the size, top 2", routed(1, 2, 0, kHidden * 3 / 2)},
      {"shared", "1 shared + 15 experts, top 1", routed(1, 2, 1)},
      {"m2", "1 shared + 31 half experts, top 3", routed(2, 2, 1)},
      {"m4", "1 shared + 63 quarter experts, top 7 (DeepSeekMoE)", routed(4, 2, 1)},
      {"segments", "64 quarter experts, top 8, none shared", routed(4, 2, 0)},
      {"auxfree", "m4 with sigmoid scores and bias balancing, no loss",
       changed(routed(4, 2, 1),
               [](moe::MoEConfig& c) {
                 c.score = "sigmoid", c.norm_topk = true, c.aux_alpha = 0,
                 c.bias_update_rate = 0.001;
               })},
      {"noaux", "m4 without any balancing",
       changed(routed(4, 2, 1), [](moe::MoEConfig& c) { c.aux_alpha = 0; })},
  };
}

// Sums over training batches of what is not in the counters.
struct Touched {
  double experts = 0, bytes = 0;
  int64_t batches = 0;
  void add(moe::LanguageModel& model) {
    const std::vector<moe::MoE*> layers = moe::moe_layers(model);
    ++batches;
    for (moe::MoE* l : layers) {
      const double distinct = static_cast<double>(l->stats().distinct);
      experts += distinct / static_cast<double>(layers.size());
      bytes += 4 * (distinct + static_cast<double>(l->config().shared)) *
               static_cast<double>(l->config().expert_parameters());
    }
  }
};

int64_t active_parameters(moe::LanguageModel& m) {
  int64_t n = m.parameter_count();
  for (moe::MoE* l : moe::moe_layers(m))
    n -= (l->config().routed() - l->config().active()) * l->config().expert_parameters();
  return n;
}

void account(MoeRun& r, moe::LanguageModel& model) {
  int64_t gate = 0, all = 0;
  const double tokens = static_cast<double>(r.tokens);
  for (const Row& row : counters().rows()) {
    const std::string scope = counters().path(row.key.scope);
    const Cost& c = row.key.op->data_dependent ? row.executed : row.cost;
    r.bytes += c.bytes();
    if (row.key.phase == Phase::optimizer) r.optimizer_bytes += c.bytes();
    if (scope.ends_with("route")) r.index_bytes += c.bytes();
    all += row.executed.flops_weighted();
    if (scope.ends_with("gate")) gate += row.executed.flops_weighted();
  }
  r.active_flops = static_cast<double>(all - gate) / tokens;
  r.gate_flops = static_cast<double>(gate) / tokens;
  r.params_total = model.parameter_count();
  r.params_active = active_parameters(model);
  r.resident_bytes = 3 * 4 * r.params_total;  // the weights and two moments
}

struct Bench {
  const MoeStudyOptions& options;
  std::shared_ptr<const TextStream> text;
  EnergySession energy;
  const std::atomic<bool>& stop;
};

LmTrainOptions train_options(const MoeStudyOptions& o, const std::string& arm, int64_t seed) {
  LmTrainOptions t;
  t.model = moe_arm(arm).model;
  t.device = o.device, t.math = o.math;
  t.lr = o.lr, t.seed = static_cast<uint64_t>(seed);
  t.steps = std::max<int64_t>(1, o.tokens / (t.batch * t.length));
  t.warmup = std::min<int64_t>(t.warmup, t.steps / 5 + 1);
  return t;
}

// Nothing when it was stopped on the way.
std::optional<MoeRun> train_one(Bench& b, const std::string& arm, int64_t seed, auto&& show) {
  LmTrainer trainer(train_options(b.options, arm, seed), b.text);
  const int64_t steps = trainer.options().steps;
  counters().clear();
  EnergyRun measured;
  const auto start = std::chrono::steady_clock::now();
  b.energy.begin(measured, "training");
  MoeRun r;
  r.arm = arm, r.seed = seed;
  Touched touched;
  int64_t last = 0;
  while (const auto loss = trainer.step()) {
    if (b.stop) return {};
    if (trainer.steps() > steps - 100) r.train_loss += *loss, ++last;
    if (trainer.steps() % 50 == 1) touched.add(trainer.model());
    if (trainer.steps() % 20 == 0 || trainer.steps() == steps) show(trainer.steps(), *loss);
  }
  measured.end();
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  r.train_loss /= static_cast<double>(last);
  r.tokens = steps * trainer.options().batch * trainer.options().length;
  account(r, trainer.model());
  r.experts_touched = touched.experts / static_cast<double>(touched.batches);
  r.weight_bytes_touched = touched.bytes / static_cast<double>(touched.batches);
  r.joules = b.energy.ledger(counters(), module_kinds(trainer.model()), measured).joules;
  const LmEvaluation e =
      evaluate_lm(trainer.model(), b.text->validation, b.options.validation_tokens);
  r.loss = e.loss, r.max_vio = e.max_vio();
  for (const moe::RouterStats& s : e.layers) r.load.push_back(s.load);
  r.probes = probe_model(trainer.model(), b.text->validation, b.options.validation_tokens);
  io::make_folders(b.options.out + "/models");
  save_lm(str(b.options.out, "/models/", arm, "-", seed, ".safetensors"), trainer.model());
  return r;
}

void write(const MoeStudy& s) {
  io::make_folders(s.options.out);
  io::write_file(s.options.out + "/runs.csv", moe_study_csv(s));
  io::write_file(s.options.out + "/report.html", moe_study_html(s));
  io::write_file(s.options.out + "/study.json", moe_study_json(s));
}

std::string settings(const MoeStudy& s) {
  return str(s.options.tokens, " tokens, lr ", s.options.lr, ", validation ",
             s.options.validation_tokens, ", text ", s.text_sha256,
             device_setting(s.options.device, s.options.math));
}

bool has_run(const MoeStudy& s, const std::string& arm, int64_t seed) {
  for (const MoeRun& r : s.runs)
    if (r.arm == arm && r.seed == seed) return true;
  return false;
}

struct Todo {
  std::string arm;
  int64_t seed;
  int number;
};

// Seed by seed: a study that is cut short has whole rounds.
void train_missing(Bench& b, MoeStudy& s, const Callable<void(const MoeProgress&)>& show) {
  const MoeStudyOptions& o = b.options;
  std::vector<Todo> todo;
  int number = 0;
  for (int64_t seed = 1; seed <= o.seeds; ++seed)
    for (const std::string& arm : o.arms)
      if (++number; !has_run(s, arm, seed)) todo.push_back({arm, seed, number});
  std::mutex mutex;
  std::atomic<size_t> next{0};
  std::exception_ptr failed;
  const auto work = [&] {
    try {
      for (size_t i; !b.stop && (i = next++) < todo.size();) {
        const Todo& t = todo[i];
        const int64_t steps = train_options(o, t.arm, t.seed).steps;
        const auto r = train_one(b, t.arm, t.seed, [&](int64_t step, double loss) {
          const std::lock_guard lock(mutex);
          if (show) show({t.arm, t.seed, step, steps, loss, t.number, number});
        });
        const std::lock_guard lock(mutex);
        if (!r) return;
        s.runs.push_back(*r);
        write(s);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failed = std::current_exception();
      next = todo.size();
    }
  };
  std::vector<std::thread> others;
  for (int j = 1; j < o.jobs; ++j) others.emplace_back(work);
  work();
  for (std::thread& t : others) t.join();
  if (failed) std::rethrow_exception(failed);
}

}  // namespace

const std::vector<MoeArm>& moe_arms() {
  static const std::vector<MoeArm> arms = make_arms();
  return arms;
}

const MoeArm& moe_arm(const std::string& name) {
  std::string known;
  for (const MoeArm& a : moe_arms()) {
    if (a.name == name) return a;
    known += (known.empty() ? "" : ", ") + a.name;
  }
  throw value_error(str("--arms: found '", name, "', expected some of ", known));
}

std::vector<MoeProbePoint> probe_model(moe::LanguageModel& model, const std::vector<uint8_t>& text,
                                       int64_t tokens) {
  const std::vector<moe::MoE*> layers = moe::moe_layers(model);
  std::vector<MoeProbePoint> out;
  if (layers.empty()) return out;
  const moe::MoEConfig& c = layers[0]->config();
  const auto measure = [&](const std::string& what, const moe::Probe& p) {
    for (moe::MoE* l : layers) l->set_probe(p);
    out.push_back({what, evaluate_lm(model, text, tokens).loss});
    for (moe::MoE* l : layers) l->set_probe({});
  };
  for (int64_t k = c.active(); k >= 1; --k) measure(str("active ", k), {.active = k});
  if (c.score == "hash") return out;
  for (int r = 1; r <= 4; ++r)
    if (c.routed() - std::lround(r / 16.0 * static_cast<double>(c.routed())) >= c.active())
      measure(str("disable ", r, "/16"), {.disable_top = r / 16.0});
  if (c.shared > 0) measure("shared off", {.shared_off = true});
  return out;
}

MoeStudy run_moe_study(const MoeStudyOptions& o, const std::atomic<bool>& stop,
                       const Callable<void(const MoeProgress&)>& show) {
  for (const std::string& a : o.arms) moe_arm(a);
  if (o.seeds < 1) throw value_error(str("--seeds: found ", o.seeds, ", expected >= 1"));
  if (o.jobs < 1) throw value_error(str("--jobs: found ", o.jobs, ", expected >= 1"));
  if (o.tokens < 1) throw value_error(str("--tokens: found ", o.tokens, ", expected >= 1"));
  const Device device = open_device(o.device, o.math);
  check_jobs(o.jobs, device);
  Bench b{o, std::make_shared<TextStream>(make_text_stream(o.text)),
          EnergySession(2, nullptr, device), stop};
  if (o.jobs > 1 && b.energy.measured())
    throw value_error(str("--jobs: found ", o.jobs,
                          ", expected 1 where a meter is read: windows of trainings that run "
                          "side by side hold each other's joules"));
  if (o.jobs > 1) set_num_threads(1);
  MoeStudy s;
  s.options = o, s.text_sha256 = b.text->sha256;
  const std::string wanted = settings(s), path = o.out + "/study.json";
  if (access(path.c_str(), F_OK) == 0) {
    const auto bytes = io::read_file(path);
    s = moe_study_from_json(std::string(bytes.begin(), bytes.end()), path);
    if (settings(s) != wanted)
      throw value_error(str(path, ": belongs to another study\n  found    ", settings(s),
                            "\n  expected ", wanted));
  }
  s.options = o;
  s.text_about.clear();
  for (const TextDomain& d : b.text->domains)
    s.text_about.push_back(str(d.name, ": ", d.bytes, " bytes of ", d.origin));
  s.cpu = b.energy.host().cpu, s.isa = simd::level_name(simd::level());
  s.energy = b.energy.sentence(), s.threads = num_threads();
  s.device = device_text(o.device, o.math);
  train_missing(b, s, show);
  if (!stop) write(s);
  return s;
}

}  // namespace wattle::green
