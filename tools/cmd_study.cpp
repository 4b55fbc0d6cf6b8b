// wattle study layers: the main job.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>

#include "energy/carbon.h"
#include "green/format_study.h"
#include "green/meta_cost.h"
#include "green/moe_study.h"
#include "green/study.h"
#include "tools/cli.h"

namespace wattle::cli {

void add_study_snn(CLI::App& study);  // study_snn.cpp
namespace {

std::atomic<bool> stop{false};
void on_signal(int) { stop = true; }

std::string clock_text(double seconds) {
  char buf[32];
  const int s = static_cast<int>(seconds + 0.5);
  if (s >= 3600) std::snprintf(buf, sizeof buf, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
  else std::snprintf(buf, sizeof buf, "%d:%02d", s / 60, s % 60);
  return buf;
}

void show(void*, const green::StudyProgress& p) {
  const bool terminal = isatty(2);
  const bool last = p.step == p.steps;
  if (!terminal && !last) return;  // a log gets one line per run
  const double share = (p.run + double(p.step) / double(p.steps)) / p.runs;
  const int width = 24, full = static_cast<int>(share * width);
  const std::string bar = std::string(static_cast<size_t>(full), '#') +
                          std::string(static_cast<size_t>(width - full), '.');
  const std::string left = p.left < 0 ? "" : ", " + clock_text(p.left) + " left";
  std::fprintf(stderr, "%s[%s] run %d/%d  %s seed %llu  step %lld/%lld  loss %.3f  %s%s%s",
               terminal ? "\r\033[K" : "", bar.c_str(), p.run + 1, p.runs, p.label.c_str(),
               static_cast<unsigned long long>(p.seed), static_cast<long long>(p.step),
               static_cast<long long>(p.steps), p.loss, clock_text(p.elapsed).c_str(), left.c_str(),
               terminal && !(last && p.run + 1 == p.runs) ? "" : "\n");
}

JouleKind kind_of(const green::StudyResult& r) {
  JouleKind weakest = JouleKind::measured;
  for (const green::StudyRun& run : r.runs) weakest = std::max(weakest, run.joules.kind);
  return r.runs.empty() ? JouleKind::unavailable : weakest;
}

// Cost(R) = E x D x H of Green AI, known before a run: joules of an example by the table, times
// examples, times trainings; against what the runs took.
void print_red_ai(const green::StudyResult& r) {
  double predicted = 0;
  std::vector<Joules> taken;
  for (const green::StudyRun& run : r.runs) {
    const green::NetSpec spec{run.key.net, run.key.linear, run.key.conv, run.key.relu != 0};
    const auto step = green::meta_step_cost(spec, green::image_spec(run.dataset), r.settings.batch);
    const energy::RedAi one{step.ledger.joules.joules() / double(r.settings.batch),
                            double(run.rows), double(run.epochs), 1};
    predicted += one.joules();
    taken.push_back(run.joules);
  }
  const Joules total = energy::sum(taken);
  if (!total.available() || !(predicted > 0)) return;
  std::printf("E x D x H from shapes (table): %s; the %zu runs: %s, %+.1f %%\n",
              energy::energy_text(predicted * 1e6).c_str(), r.runs.size(), total.str().c_str(),
              100 * (total.joules() / predicted - 1));
  if (!r.settings.region.empty())
    std::printf("carbon: %s\n",
                energy::operational(total, energy::intensity_of(r.settings.region)).str().c_str());
}

void print_summary(const green::StudyResult& r, const std::string& out) {
  std::printf("%s%s%s%s%s%s\n", cell("net", 18).c_str(), cell("accuracy", -10).c_str(),
              cell("FLOP weighted", -16).c_str(), cell("bytes", -10).c_str(),
              cell("seconds", -10).c_str(),
              cell(str("joules (", word(kind_of(r)), ")"), -30).c_str());
  std::vector<green::StudyRun> runs;  // in the design's order; they ran shuffled
  for (const green::NetKey& k : r.settings.nets)
    for (const green::StudyRun& run : r.runs)
      if (run.key == k) runs.push_back(run);
  for (const green::StudyRun& run : runs) {
    char accuracy[16], seconds[16];
    std::snprintf(accuracy, sizeof accuracy, "%.4f", run.accuracy);
    std::snprintf(seconds, sizeof seconds, "%.1f", run.seconds);
    std::printf("%s%s%s%s%s%s\n", cell(label(run.key), 18).c_str(), cell(accuracy, -10).c_str(),
                cell(si(double(run.flops_weighted)), -16).c_str(),
                cell(si(double(run.bytes)), -10).c_str(), cell(seconds, -10).c_str(),
                cell(energy::energy_text(double(run.joules.uj)), -30).c_str());
  }
  std::printf("\n");
  print_red_ai(r);
  std::printf("%s\nRead %s/report.html; figures in runs.csv, layers.csv, study.json beside it.\n",
              r.settings.energy_sentence.c_str(), out.c_str());
}

}  // namespace

namespace {

void print_formats(const green::FormatStudy& s) {
  std::printf("%s%s%s%s%s%s\n", cell("net", 9).c_str(), cell("precision", 14).c_str(),
              cell("accuracy", -10).c_str(), cell("sd", -8).c_str(), cell("seeds", -6).c_str(),
              cell("seconds", -9).c_str());
  for (const green::FormatCell& c : green::cells_of(s))
    std::printf("%s%s%10.4f%8.4f%6zu%9.1f\n", cell(c.net, 9).c_str(), cell(c.precision, 14).c_str(),
                c.mean, c.sd, c.accuracy.size(), c.seconds);
}

void add_study_formats(CLI::App& study) {
  auto* f = study.add_subcommand("formats", "What number formats do to training");
  auto o = std::make_shared<green::FormatStudyOptions>();
  f->add_option("--dataset", o->dataset, "fashion-mnist or cifar10")->capture_default_str();
  f->add_option("--data-dir", o->data_dir, "Folder of the data set");
  f->add_option("--nets", o->nets, "lenet5, cnn31, ...")->delimiter(',')->capture_default_str();
  f->add_option("--precisions", o->precisions, "Presets of `wattle train --precision`")
      ->delimiter(',')
      ->capture_default_str();
  f->add_option("--seeds", o->seeds, "Trainings of each net and precision")->capture_default_str();
  f->add_option("--epochs", o->epochs, "Epochs of a training")->capture_default_str();
  f->add_option("--batch", o->batch, "Images in a step")->capture_default_str();
  f->add_option("--rows", o->rows, "Training images, stratified (default: all)");
  f->add_option("--lr", o->lr, "Learning rate of Adam, cosine schedule")->capture_default_str();
  add_device_options(*f, o->device, o->math);
  f->add_option("--out", o->out, "Folder of the results; a study that is there continues")
      ->required();
  f->callback([=] {
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    const green::FormatStudy s =
        green::run_format_study(*o, stop, [](const green::FormatRun& r, int done, int all) {
          std::fprintf(stderr, "%d/%d  %s %s seed %lld: accuracy %.4f, %.1f s\n", done, all,
                       r.net.c_str(), r.precision.c_str(), static_cast<long long>(r.seed),
                       r.accuracy, r.seconds);
        });
    print_formats(s);
    std::printf("%s/report.html\n", o->out.c_str());
    if (stop) throw CLI::RuntimeError(130);
  });
}

void print_moe(const green::MoeStudy& s) {
  std::printf("%s%s%s%s%s%s%s\n", cell("arm", 10).c_str(), cell("loss", -9).c_str(),
              cell("seeds", -6).c_str(), cell("weights", -10).c_str(), cell("active", -10).c_str(),
              cell("MFLOP/token", -13).c_str(), cell("bytes", -10).c_str());
  for (const green::MoeArm& arm : green::moe_arms()) {
    std::vector<double> losses;
    const green::MoeRun* first = nullptr;
    for (const green::MoeRun& r : s.runs)
      if (r.arm == arm.name) losses.push_back(r.loss), first = first ? first : &r;
    if (!first) continue;
    std::printf("%s%9.4f%6zu%s%s%13.3f%s\n", cell(arm.name, 10).c_str(), green::median(losses),
                losses.size(), cell(si(double(first->params_total)), -10).c_str(),
                cell(si(double(first->params_active)), -10).c_str(), first->active_flops * 1e-6,
                cell(si(double(first->bytes)) + "B", -11).c_str());
  }
  std::printf("\n");
  for (const green::MoeClaim& c : green::claims_of(s)) {
    const char* const verdict = c.verdict == green::MoeClaim::holds   ? "holds   "
                                : c.verdict == green::MoeClaim::fails ? "FAILS   "
                                : c.verdict == green::MoeClaim::open  ? "open    "
                                                                      : "reported";
    std::printf("%s  %s: %s\n", verdict, c.text.c_str(), c.found.c_str());
  }
}

void add_study_moe(CLI::App& study) {
  auto* m = study.add_subcommand(
      "moe", "Mixtures of experts against dense layers, as language models of bytes");
  auto o = std::make_shared<green::MoeStudyOptions>();
  std::string known;
  for (const green::MoeArm& a : green::moe_arms()) known += (known.empty() ? "" : ", ") + a.name;
  m->add_option("--arms", o->arms, "Some of " + known)->delimiter(',')->capture_default_str();
  m->add_option("--text", o->text, "kjv, python, c++, or files and folders of your own")
      ->delimiter(',')
      ->capture_default_str();
  m->add_option("--seeds", o->seeds, "Trainings of each arm, paired by seed")
      ->capture_default_str();
  m->add_option("--tokens", o->tokens, "Bytes of a training")->capture_default_str();
  m->add_option("--validation-tokens", o->validation_tokens, "Held-out bytes (default: all)");
  m->add_option("--lr", o->lr, "Learning rate of AdamW")->capture_default_str();
  m->add_option("--jobs", o->jobs, "Trainings at a time, one thread each")->capture_default_str();
  add_device_options(*m, o->device, o->math);
  m->add_option("--out", o->out, "Folder of the results; a study that is there continues")
      ->required();
  m->callback([=] {
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    const green::MoeStudy s = green::run_moe_study(*o, stop, [](const green::MoeProgress& p) {
      const bool terminal = isatty(2), last = p.step == p.steps;
      if (!terminal && !last) return;
      const int full = static_cast<int>(24 * p.step / p.steps);
      std::fprintf(stderr, "%s[%s%s] run %d/%d  %s seed %lld  step %lld/%lld  loss %.3f%s",
                   terminal ? "\r\033[K" : "", std::string(static_cast<size_t>(full), '#').c_str(),
                   std::string(static_cast<size_t>(24 - full), '.').c_str(), p.run, p.runs,
                   p.arm.c_str(), static_cast<long long>(p.seed), static_cast<long long>(p.step),
                   static_cast<long long>(p.steps), p.loss, terminal && !last ? "" : "\n");
    });
    print_moe(s);
    std::printf("%s/report.html\n", o->out.c_str());
    if (stop) throw CLI::RuntimeError(130);
  });
}

}  // namespace

void add_study(CLI::App& app) {
  auto* c = app.add_subcommand("study", "Studies on real data");
  c->require_subcommand(1);
  add_study_formats(*c);
  add_study_moe(*c);
  add_study_snn(*c);
  auto* l = c->add_subcommand("layers", "What conv, linear and ReLU layers cost (CAIN 2023)");
  auto o = std::make_shared<green::StudyOptions>();
  auto nets = std::make_shared<std::string>();
  auto full = std::make_shared<bool>(false);
  auto* epochs = l->add_option("--epochs", o->epochs, "Epochs of a run")->capture_default_str();
  l->add_option("--dataset", o->dataset, "fashion-mnist or cifar10")->capture_default_str();
  l->add_option("--data-dir", o->data_dir, "Folder of the data set");
  l->add_option("--rows", o->rows, "Training images, stratified over the classes (default: all)");
  l->add_option("--batch", o->batch, "Images in a step")->capture_default_str();
  l->add_option("--seeds", o->seeds, "Repeats of the whole design")->capture_default_str();
  l->add_option(
      "--lr", o->lr,
      "Learning rate (default: 3e-3, cosine schedule, fixed; 3e-4, constant, as published)");
  l->add_option("--nets", *nets,
                "cnn, cnn341 (linear, conv, relu), densepoly3, denselinear7, ... (default: "
                "cnn,densepoly3,denselinear3)");
  l->add_option("--protocol", o->protocol, "fixed, or as-published with the study's oddities")
      ->capture_default_str();
  add_device_options(*l, o->device, o->math);
  l->add_option(
       "--replay", o->replay_seconds,
       "On cuda with a meter, seconds for which each run's step is repeated to measure it; "
       "0 = windows around epochs")
      ->capture_default_str()
      ->check(not_negative());
  l->add_flag("--full", *full, "The published 25 epochs");
  l->add_option(
      "--region", o->region,
      "Where the electricity comes from, for grams: a country code (wattle carbon --regions)");
  l->add_option("--mlflow", o->mlflow, "Address of an MLflow server, http://HOST:PORT");
  l->add_option("--out", o->out, "Folder of the results; a study that is there continues")
      ->required();
  l->callback([=] {
    if (*full && epochs->count() == 0) o->epochs = 25;
    if (!nets->empty()) o->nets = green::parse_nets(*nets);
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    const green::StudyResult r = green::run_study(*o, stop, show, nullptr);
    if (stop)
      std::fprintf(stderr,
                   "\ninterrupted; finished runs are kept in %s, the same command continues\n",
                   o->out.c_str());
    print_summary(r, o->out);
    if (stop) throw CLI::RuntimeError(130);
  });
}

}  // namespace wattle::cli
