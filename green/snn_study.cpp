#include "green/snn_study.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/cuda.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "core/simd.h"
#include "data/atomic_file.h"
#include "data/bytes.h"
#include "data/loader.h"
#include "green/accuracy.h"
#include "green/energy_session.h"
#include "green/run_device.h"
#include "green/uncounted.h"
#include "nn/optim.h"

namespace wattle::green {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

struct Bench {
  const SnnStudyOptions& options;
  data::Dataset train, validation, test;
  Device device;
  EnergySession energy;
  const std::atomic<bool>& stop;
};

double accuracy(SnnNet& net, const data::Dataset& d) {
  const Uncounted free;
  net.eval();
  const double a = accuracy_of(net, d);
  net.train();
  return a;
}

nn::StateDict copy_of(const SnnNet& net) {
  nn::StateDict out;
  for (const nn::Named& p : net.state_dict()) {
    Tensor t = Tensor::empty(p.tensor.shape());
    t.copy_from(p.tensor);
    out.push_back({p.name, t});
  }
  return out;
}

// One epoch; false when it was stopped.
bool train_epoch(Bench& b, SnnNet& net, nn::Optimizer& adam, data::DataLoader& loader, double lr,
                 double rate_weight, int64_t epoch) {
  int64_t step = epoch * loader.batches();
  for (const data::Batch& batch : loader) {
    if (b.stop) return false;
    adam.lr = lr * nn::cosine_schedule(step++, b.options.epochs * loader.batches());
    adam.zero_grad();
    Tape tape;
    Tensor loss =
        cross_entropy(net(to_float(batch.images.to(b.device))), batch.labels.to(b.device));
    if (rate_weight > 0)
      // Only what is above the goal: a net without spikes would be a way out otherwise.
      for (const Tensor& r : net.rates())
        loss = add(loss, scale(relu(scale(r, 1, -b.options.rate_goal)), rate_weight));
    tape.backward(loss);
    adam.step();
  }
  return true;
}

double ms_of_an_image(SnnNet& net, const Tensor& images, int repeats) {
  const NoRecord off;
  std::vector<double> ms;
  for (int i = -1; i < repeats; ++i) {
    const auto start = Clock::now();
    net(images);
    cuda::synchronize();
    if (i >= 0) ms.push_back(since(start) * 1e3 / static_cast<double>(images.size(0)));
  }
  std::nth_element(ms.begin(), ms.begin() + ms.size() / 2, ms.end());
  return ms[ms.size() / 2];
}

std::vector<std::vector<std::string>> raster_of(SnnNet& net, const Tensor& image) {
  const NoRecord off;
  std::vector<SnnTrace> trace;
  net.trace = &trace;
  net(image);
  net.trace = nullptr;
  std::vector<std::vector<std::string>> out;
  for (const SnnTrace& t : trace) {
    if (!t.out) continue;
    const Tensor x = cast(t.out, DType::f32);
    const int64_t steps = x.size(0), n = x.numel() / steps, shown = std::min<int64_t>(24, n);
    std::vector<std::string> rows(static_cast<size_t>(shown));
    for (int64_t i = 0; i < shown; ++i)
      for (int64_t s = 0; s < steps; ++s)  // neurons from all over the layer
        rows[static_cast<size_t>(i)] += x.data<float>()[s * n + i * n / shown] > 0 ? '1' : '0';
    out.push_back(rows);
  }
  return out;
}

// Everything about a trained net but its training.
void examine(Bench& b, SnnNet& net, SnnRun& r) {
  const Uncounted free;
  const bool spikes = net.activation().kind == SnnActivation::spikes;
  r.test = accuracy(net, b.test);
  ++r.test_passes;
  if (spikes) {
    net.silenced = true;
    r.silenced = accuracy(net, b.validation);
    net.silenced = false;
  }
  net.eval();
  const auto images = [&](int64_t n) { return to_float(slice(b.validation.images, 0, 0, n)); };
  const auto packed_on = [&](Device d) {
    net.to(d);
    net.pack_spikes(true);
  };
  packed_on(cpu);  // the account reads what it counts
  r.layers = snn_layers(net, images(b.options.sample));
  r.bench = neurobench_of(net, images(b.options.sample));
  if (spikes && r.seed == 1) r.raster = raster_of(net, images(1));
  packed_on(b.device);
  r.ms_batch1 = ms_of_an_image(net, images(1).to(b.device), 15);
  EnergyRun measured;
  const Tensor many = images(64).to(b.device);
  if (b.energy.measured()) b.energy.begin(measured, "inference");
  r.ms_batch64 = ms_of_an_image(net, many, 7);
  if (b.energy.measured()) {
    measured.end();
    r.joules_batch64 = measured.total().gross;
    r.joules_batch64.uj /= 8 * 64;  // the warm-up ran within the window, too
    r.joules_batch64.sd_uj /= 8 * 64;
  }
  net.pack_spikes(false);
  net.train();
}

struct Trained {
  SnnRun run;
  nn::StateDict weights;  ///< of the epoch that validated best
  double validation() const { return run.validation[static_cast<size_t>(run.epoch - 1)]; }
};

std::unique_ptr<SnnNet> net_of(const Bench& b, const SnnPoint& p) {
  auto net = std::make_unique<SnnNet>(SnnShape{}, p.activation, image_spec(b.options.dataset));
  net->hold_weights_in_int8(p.int8);
  return net;
}

// Nothing when it was stopped.
std::optional<Trained> train_one(Bench& b, const SnnPoint& p, int64_t seed, double lr,
                                 auto&& show) {
  manual_seed(static_cast<uint64_t>(seed));
  const std::unique_ptr<SnnNet> owned = net_of(b, p);
  SnnNet& net = *owned;
  net.to(b.device);
  const auto adam = nn::make_optimizer("adam", net.named_parameters(), lr);
  data::DataLoader loader(
      b.train, {.batch = b.options.batch, .seed = static_cast<uint64_t>(seed), .drop_last = true});
  Trained t;
  t.run.point = p.name, t.run.seed = seed, t.run.lr = lr;
  SnnRun& r = t.run;
  counters().clear();
  EnergyRun measured;
  for (int64_t e = 0; e < b.options.epochs; ++e) {
    const auto start = Clock::now();
    b.energy.begin(measured, "training");
    if (!train_epoch(b, net, *adam, loader, lr, p.rate_weight, e)) return {};
    measured.end();
    r.train_seconds += since(start);
    r.validation.push_back(accuracy(net, b.validation));
    if (r.epoch == 0 || r.validation.back() > t.validation())
      r.epoch = e + 1, t.weights = copy_of(net);
    show(p, seed, e + 1, r.validation.back());
  }
  r.train_joules = b.energy.ledger(counters(), module_kinds(net), measured).joules;
  return t;
}

// The finished runs of a training: for spiking nets, the same weights in int8 beside those in f32.
std::vector<SnnRun> finish(Bench& b, const SnnPoint& p, const Trained& t) {
  const std::unique_ptr<SnnNet> owned = net_of(b, p);
  SnnNet& net = *owned;
  net.load_state_dict(t.weights);
  net.to(b.device);
  std::vector<SnnRun> out{t.run};
  if (p.activation.kind == SnnActivation::spikes) out.push_back(t.run), out[1].point += ", int8";
  for (SnnRun& r : out) {
    net.hold_weights_in_int8(p.int8 || r.point != p.name);
    examine(b, net, r);
  }
  return out;
}

const SnnRun* find(const SnnStudy& s, const std::string& point, int64_t seed) {
  for (const SnnRun& r : s.runs)
    if (r.point == point && r.seed == seed) return &r;
  return nullptr;
}

void write(const SnnStudy& s) {
  io::make_folders(s.options.out);
  io::write_file(s.options.out + "/runs.csv", snn_runs_csv(s));
  io::write_file(s.options.out + "/layers.csv", snn_layers_csv(s));
  io::write_file(s.options.out + "/report.html", snn_study_html(s));
  io::write_file(s.options.out + "/study.json", snn_study_json(s));
}

std::string settings(const SnnStudyOptions& o) {
  std::string lrs;
  for (double lr : o.lrs) lrs += str(" ", lr);
  return str(o.dataset, ", ", o.rows, " rows, ", o.epochs, " epochs, batch ", o.batch, ", rates",
             lrs, ", spikes weigh ", o.rate_weight, " above ", o.rate_goal,
             device_setting(o.device, o.math));
}

struct Todo {
  SnnPoint point;
  int64_t seed;
};

class Study {
 public:
  Study(Bench& b, SnnStudy& s, const Callable<void(const SnnProgress&)>& show)
      : b_(b), s_(s), show_(show), points_(snn_points(b.options)) {}

  // The first seed of every point tries all learning rates; the others take what validated best.
  void run() {
    const int64_t seeds = b_.options.seeds;
    round(1, 1);
    round(2, seeds);
  }

 private:
  void round(int64_t first, int64_t last) {
    std::vector<Todo> todo;
    for (int64_t seed = first; seed <= last; ++seed)
      for (const SnnPoint& p : points_)
        if (!find(s_, p.name, seed)) todo.push_back({p, seed});
    // The longest first, so that no thread is left with one at the end.
    std::stable_sort(todo.begin(), todo.end(), [](const Todo& a, const Todo& b) {
      const auto work = [](const Todo& t) {
        return t.point.activation.kind == SnnActivation::spikes ? t.point.activation.steps : 0;
      };
      return work(a) > work(b);
    });
    std::atomic<size_t> next{0};
    std::exception_ptr failed;
    const auto work = [&] {
      try {
        for (size_t i; !b_.stop && (i = next++) < todo.size();) one(todo[i]);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        failed = std::current_exception();
        next = todo.size();
      }
    };
    std::vector<std::thread> others;
    for (int j = 1; j < b_.options.jobs; ++j) others.emplace_back(work);
    work();
    for (std::thread& t : others) t.join();
    if (failed) std::rethrow_exception(failed);
  }

  void one(const Todo& t) {
    std::vector<double> lrs = b_.options.lrs;
    if (t.seed > 1) {
      const std::lock_guard lock(mutex_);
      lrs = {find(s_, t.point.name, 1)->lr};
    }
    std::optional<Trained> best;
    for (double lr : lrs) {
      auto trained = train_one(b_, t.point, t.seed, lr, [this](auto&&... a) { show(a...); });
      if (!trained) return;
      if (!best || trained->validation() > best->validation()) best = std::move(trained);
    }
    const std::vector<SnnRun> runs = finish(b_, t.point, *best);
    const std::lock_guard lock(mutex_);
    s_.runs.insert(s_.runs.end(), runs.begin(), runs.end());
    write(s_);
  }

  void show(const SnnPoint& p, int64_t seed, int64_t epoch, double validation) {
    const std::lock_guard lock(mutex_);
    int done = 0;
    for (const SnnRun& r : s_.runs) done += r.point.find(", int8") == std::string::npos;
    if (show_)
      show_({p.name, seed, epoch, b_.options.epochs, validation, done + 1,
             static_cast<int>(points_.size()) * b_.options.seeds});
  }

  Bench& b_;
  SnnStudy& s_;
  const Callable<void(const SnnProgress&)>& show_;
  std::vector<SnnPoint> points_;
  std::mutex mutex_;
};

void check(const SnnStudyOptions& o) {
  const auto at_least = [](const char* name, int64_t found, int64_t least) {
    if (found < least) throw value_error(str(name, ": found ", found, ", expected >= ", least));
  };
  at_least("--seeds", o.seeds, 1), at_least("--epochs", o.epochs, 1), at_least("--jobs", o.jobs, 1);
  at_least("--batch", o.batch, 1), at_least("--rows", o.rows, o.batch);
  at_least("--sample", o.sample, 1);
  if (o.steps.empty() || o.lrs.empty())
    throw value_error("--steps, --lrs: found none, expected at least one of each");
  for (const int64_t t : o.steps)
    if (t < 1 || t > 255) throw value_error(str("--steps: found ", t, ", expected 1 to 255"));
}

}  // namespace

char SnnPoint::arm() const {
  if (activation.kind == SnnActivation::spikes) return int8 ? 'D' : 'C';
  return activation.kind == SnnActivation::quantized ? 'B' : 'A';
}

SnnWidths SnnPoint::widths() const {
  SnnWidths w;
  if (int8) w.weight_bits = 8;
  if (activation.kind == SnnActivation::quantized) w.activation_bits = activation.bits;
  return w;
}

std::vector<SnnPoint> snn_points(const SnnStudyOptions& o) {
  std::vector<SnnPoint> out{{"ann", {}, false, 0}};
  for (const int64_t t : o.steps) {
    const int bits = bits_of_steps(t);
    const std::string name = str("qnn ", bits, bits == 1 ? " bit" : " bits");
    const auto same = [&](const SnnPoint& p) { return p.name == name; };
    if (std::none_of(out.begin(), out.end(), same))
      out.push_back({name, {SnnActivation::quantized, t, bits}, true, 0});
  }
  const auto spiking = [&](int64_t t, double weight) {
    out.push_back({str("snn T=", t, weight > 0 ? ", fewer spikes" : ""),
                   {SnnActivation::spikes, t, bits_of_steps(t)},
                   false,
                   weight});
  };
  for (const int64_t t : o.steps) spiking(t, 0);
  if (o.rate_weight > 0) spiking(o.steps[std::min<size_t>(2, o.steps.size() - 1)], o.rate_weight);
  return out;
}

SnnStudy run_snn_study(const SnnStudyOptions& o, const std::atomic<bool>& stop,
                       const Callable<void(const SnnProgress&)>& show) {
  check(o);
  const data::Split split = data::load(o.dataset, o.data_dir);
  const int64_t held_out = std::min<int64_t>(10000, split.train.rows() / 5);
  const int64_t first = split.train.rows() - held_out;
  if (o.rows > first)
    throw value_error(str("--rows: found ", o.rows, ", expected at most ", first, "; the last ",
                          held_out, " images validate"));
  const Device device = open_device(o.device, o.math);
  check_jobs(o.jobs, device);
  Bench b{o,
          rows_of(split.train, 0, o.rows),
          rows_of(split.train, first, first + held_out),
          split.test,
          device,
          EnergySession(2, nullptr, device),
          stop};
  if (o.jobs > 1 && b.energy.measured())
    throw value_error(str("--jobs: found ", o.jobs,
                          ", expected 1 where a meter is read: windows of trainings that run "
                          "side by side hold each other's joules"));
  if (o.jobs > 1) set_num_threads(1);
  SnnStudy s;
  const std::string path = o.out + "/study.json";
  if (access(path.c_str(), F_OK) == 0) {
    const auto bytes = io::read_file(path);
    s = snn_study_from_json(std::string(bytes.begin(), bytes.end()), path);
    if (settings(s.options) != settings(o))
      throw value_error(str(path, ": belongs to another study\n  found    ", settings(s.options),
                            "\n  expected ", settings(o)));
  }
  s.options = o, s.first_validation_row = first;
  s.cpu = b.energy.host().cpu, s.isa = simd::level_name(simd::level());
  s.energy = b.energy.sentence();
  s.device = device_text(o.device, o.math);
  Study(b, s, show).run();
  if (!stop) write(s);
  return s;
}

}  // namespace wattle::green
