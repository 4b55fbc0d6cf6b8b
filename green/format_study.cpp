#include "green/format_study.h"

#include <unistd.h>

#include <chrono>
#include <cmath>

#include "core/counters.h"
#include "core/error.h"
#include "core/parallel.h"
#include "data/atomic_file.h"
#include "energy/format_hardware.h"
#include "green/calibration.h"
#include "green/energy_session.h"
#include "green/run_device.h"
#include "green/study.h"
#include "green/trainer.h"

namespace wattle::green {
namespace {

NetSpec spec_of(const std::string& net) {
  if (net == "lenet5") return {.net = "lenet5"};
  if (net == "cnn31") return {.net = "cnn", .linear = 3, .conv = 1};
  const std::vector<NetKey> keys = parse_nets(net);
  return {keys[0].net, keys[0].linear, keys[0].conv, keys[0].relu != 0};
}

const FormatRun* find(const FormatStudy& s, const std::string& net, const std::string& precision,
                      int64_t seed) {
  for (const FormatRun& r : s.runs)
    if (r.net == net && r.precision == precision && r.seed == seed) return &r;
  return nullptr;
}

// What the counted work would spend on hardware that has the formats of its rows.
void add_hardware(const Counters& c, FormatRun& run) {
  for (const Row& r : c.rows()) {
    const auto h = energy::hardware_range(r.cost, r.key.dtype, energy::horowitz45());
    if (!h.available) {
      run.hardware_lo = run.hardware_hi = 0;
      return;
    }
    run.hardware_lo += h.lo;
    run.hardware_hi += h.hi;
  }
}

struct Bench {
  const FormatStudyOptions& options;
  data::Split split;
  EnergySession energy;
};

FormatRun train_one(Bench& b, const std::string& net, const std::string& precision, int64_t seed,
                    std::vector<FormatRun>& extra) {
  const FormatStudyOptions& o = b.options;
  TrainOptions t;
  t.net = spec_of(net);
  t.epochs = o.epochs, t.batch = o.batch, t.lr = o.lr;
  t.optimizer = o.optimizer, t.schedule = o.schedule;
  t.seed = static_cast<uint64_t>(seed);
  t.precision = precision;
  t.device = o.device, t.math = o.math;
  Trainer trainer(t, b.split.train);
  counters().clear();
  EnergyRun measured;
  const auto start = std::chrono::steady_clock::now();
  b.energy.begin(measured, "training");
  while (trainer.step()) {}
  measured.end();
  FormatRun r;
  r.net = net, r.precision = precision, r.seed = seed;
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Ledger l = b.energy.ledger(counters(), module_kinds(trainer.net()), measured);
  r.joules = l.joules;
  r.bytes = l.cost.bytes(), r.flops = l.cost.flops();
  r.executed_flops = l.executed.flops(), r.executed_iops = l.executed.iop;
  r.rounding = counters().total().rounding;
  add_hardware(counters(), r);
  r.loss_scale = trainer.scaler().scale();
  r.skipped = trainer.scaler().skipped();
  const bool qat = precision == "int8_qat";
  // Weights are quantised on the host, and run where they were trained.
  const auto quantize = [&](auto&& ranges) {
    trainer.net().to(cpu);
    quant::quantize_(trainer.net(), {.to = "int8"}, ranges());
    trainer.net().to(trainer.device());
  };
  if (qat) quantize([&] { return trainer.input_ranges(); });
  const auto test = [&](FormatRun& run) {
    const Evaluation e = trainer.evaluate(b.split.test);
    run.accuracy = e.accuracy, run.loss = e.loss;
    run.weight_bytes = quant::model_bytes(trainer.net());
  };
  test(r);
  if (precision == "f32") {  // the same net, quantised after its training
    FormatRun ptq = r;
    ptq.precision = "int8_ptq";
    quantize([&] { return calibrate(trainer.net(), b.split.train, "percentile"); });
    test(ptq);
    extra.push_back(ptq);
  }
  return r;
}

void write(const FormatStudy& s) {
  const std::string& dir = s.options.out;
  io::make_folders(dir);
  io::write_file(dir + "/runs.csv", format_study_csv(s));
  io::write_file(dir + "/report.html", format_study_html(s));
  io::write_file(dir + "/study.json", format_study_json(s));
}

// Settings that decide the figures; seeds may be added later.
std::string settings(const FormatStudyOptions& o) {
  return str(o.dataset, ", ", o.epochs, " epochs, batch ", o.batch, ", rows ", o.rows, ", ",
             o.optimizer, " ", o.lr, " ", o.schedule, device_setting(o.device, o.math));
}

}  // namespace

FormatStudy run_format_study(const FormatStudyOptions& o, const std::atomic<bool>& stop,
                             const Callable<void(const FormatRun&, int done, int all)>& show) {
  for (const std::string& n : o.nets) check_net(spec_of(n), image_spec(o.dataset));
  for (const std::string& p : o.precisions) precision_from(p);
  if (o.seeds < 1) throw value_error(str("--seeds: found ", o.seeds, ", expected >= 1"));
  const Device device = open_device(o.device, o.math);
  FormatStudy s;
  const std::string path = o.out + "/study.json";
  if (access(path.c_str(), F_OK) == 0) {
    const auto bytes = io::read_file(path);
    s = format_study_from_json(std::string(bytes.begin(), bytes.end()), path);
    if (settings(s.options) != settings(o))
      throw value_error(str(path, ": belongs to another study\n  found    ", settings(s.options),
                            "\n  expected ", settings(o)));
  }
  s.options = o;
  Bench b{o, data::load(o.dataset, o.data_dir), EnergySession(2, nullptr, device)};
  if (o.rows > 0) b.split.train = data::subset(b.split.train, o.rows, 0);
  s.cpu = b.energy.host().cpu;
  s.isa = simd::level_name(simd::level());
  s.energy = b.energy.sentence();
  s.device = device_text(o.device, o.math);
  s.threads = num_threads();
  const int all = static_cast<int>(o.nets.size() * o.precisions.size()) * o.seeds;
  int done = 0;
  // Seed by seed, so that a study that is cut short has whole rounds.
  for (int64_t seed = 0; seed < o.seeds; ++seed)
    for (const std::string& net : o.nets)
      for (const std::string& p : o.precisions) {
        ++done;
        if (find(s, net, p, seed)) continue;
        if (stop) return s;
        std::vector<FormatRun> extra;
        s.runs.push_back(train_one(b, net, p, seed, extra));
        if (show) show(s.runs.back(), done, all);
        s.runs.insert(s.runs.end(), extra.begin(), extra.end());
        write(s);
      }
  write(s);
  return s;
}

std::vector<FormatCell> cells_of(const FormatStudy& s) {
  std::vector<FormatCell> cells;
  for (const FormatRun& r : s.runs) {
    FormatCell* c = nullptr;
    for (FormatCell& x : cells)
      if (x.net == r.net && x.precision == r.precision) c = &x;
    if (!c) {
      cells.push_back({.net = r.net, .precision = r.precision, .first = r});
      c = &cells.back();
    }
    c->accuracy.push_back(r.accuracy);
    c->seconds += r.seconds;
  }
  for (FormatCell& c : cells) {
    const auto n = static_cast<double>(c.accuracy.size());
    for (double a : c.accuracy) c.mean += a / n;
    for (double a : c.accuracy) c.sd += (a - c.mean) * (a - c.mean);
    c.sd = n > 1 ? std::sqrt(c.sd / (n - 1)) : 0;
    c.seconds /= n;
  }
  return cells;
}

}  // namespace wattle::green
