// wattle experiment: shell commands compared by energy and time.
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "data/atomic_file.h"
#include "data/bytes.h"
#include "energy/meter.h"
#include "energy/tdp.h"
#include "energy/window.h"
#include "green/experiment_files.h"
#include "green/experiment_host.h"
#include "green/experiment_report.h"
#include "green/report_text.h"
#include "tools/cli.h"

extern char** environ;

namespace wattle::cli {
namespace {

using green::Experiment;

constexpr std::string_view letters = "abcdefgh";

std::atomic<bool> stop{false};
void on_signal(int) { stop = true; }

struct Options {
  std::array<std::string, letters.size()> commands, names;
  green::ExperimentOptions plan;
  std::string outliers = "three_sigma", out;
  double tdp = 0;
  bool as_json = false;
};

/// A command that did not end with 0.
struct CommandFailed : error {
  CommandFailed(const std::string& message, int code_) : error(message), code(code_) {}
  int code;  ///< its exit code; 128 + the signal that ended it, as shells have it
};

/// An unnamed file that takes what a command writes to its standard error.
class ErrorOutput {
 public:
  ErrorOutput() : file_(std::tmpfile()) {
    if (!file_) io::throw_errno("standard error of the command", "open a file for", errno);
  }
  ~ErrorOutput() { std::fclose(file_); }
  int fd() const { return fileno(file_); }
  std::string last_line() const {
    char buf[4096];
    const off_t size = lseek(fd(), 0, SEEK_END), from = std::max<off_t>(0, size - sizeof buf);
    const ssize_t n = pread(fd(), buf, sizeof buf, from);
    std::string text(buf, n > 0 ? static_cast<size_t>(n) : 0);
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    return text.substr(text.rfind('\n') + 1);
  }

 private:
  std::FILE* file_;
};

struct Took {
  double seconds = 0;      ///< wall clock
  double cpu_seconds = 0;  ///< of the command and what it waited for
};

// The environment with WATTLE_SEED, so that a command may draw other random numbers in every run.
std::vector<std::string> environment(uint64_t seed) {
  std::vector<std::string> out = {str("WATTLE_SEED=", seed)};
  for (char** e = environ; *e; ++e) {
    if (std::strncmp(*e, "WATTLE_SEED=", 12) != 0) out.push_back(*e);
  }
  return out;
}

// Its output goes nowhere: a terminal that scrolls costs time and energy too.
pid_t start(const std::string& command, uint64_t seed, int error_fd) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&files, error_fd, 2);
  std::vector<std::string> variables = environment(seed), words = {"sh", "-c", command};
  std::vector<char*> argv, env;
  for (std::string& w : words) argv.push_back(w.data());
  for (std::string& v : variables) env.push_back(v.data());
  argv.push_back(nullptr), env.push_back(nullptr);
  pid_t pid = 0;
  const int bad = posix_spawn(&pid, "/bin/sh", &files, nullptr, argv.data(), env.data());
  posix_spawn_file_actions_destroy(&files);
  if (bad) io::throw_errno("/bin/sh", "start", bad);
  return pid;
}

Took run_command(const std::string& variant, const std::string& command, uint64_t seed) {
  const ErrorOutput errors;
  const auto begin = std::chrono::steady_clock::now();
  const pid_t pid = start(command, seed, errors.fd());
  int status = 0;
  rusage used{};
  while (wait4(pid, &status, 0, &used) < 0) {
    if (errno != EINTR) io::throw_errno(command, "wait for", errno);
  }
  Took took;
  took.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (const timeval& t : {used.ru_utime, used.ru_stime}) {
    took.cpu_seconds += static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  }
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (code != 0) {
    const std::string line = errors.last_line();
    throw CommandFailed(str("variant ", variant, ": the command ended with exit code ", code,
                            line.empty() ? ", and wrote no error" : ": " + line),
                        code);
  }
  return took;
}

/// The one place where joules of a run come from: a window of the meter, else a guess from TDP.
Joules measure_around(energy::Meter& meter, const Callable<Took()>& work, double tdp, Took& took) {
  if (meter.available()) {
    energy::Window window(meter, "run");
    took = work();
    return window.end().gross;
  }
  took = work();
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return energy::tdp_estimate(took.seconds, took.cpu_seconds, threads, tdp);
}

std::vector<green::Variant> variants_of(const Options& o, std::shared_ptr<energy::Meter> meter) {
  std::vector<green::Variant> out;
  for (size_t i = 0; i < letters.size(); ++i) {
    const std::string command = o.commands[i];
    const double tdp = o.tdp;
    if (command.empty()) continue;
    const std::string name =
        o.names[i].empty() ? std::string(1, static_cast<char>('A' + i)) : o.names[i];
    out.push_back({name, command, green::workload([=](uint64_t seed) {
                     green::RunResult r;
                     Took took;
                     r.energy = measure_around(
                         *meter, [&] { return run_command(name, command, seed); }, tdp, took);
                     r.seconds = took.seconds;
                     return r;
                   })});
  }
  return out;
}

void save(const Experiment& e, const std::string& out) {
  io::write_file(out + "/samples.csv", green::samples_csv(e));
}

void save_all(const Experiment& e, const std::string& out) {
  const green::ExperimentAnalysis a = green::analyse(e);
  save(e, out);
  io::write_file(out + "/experiment.json", green::experiment_json(e, &a));
  io::write_file(out + "/report.html", green::experiment_report_html(e, a));
}

/// Saves after every run, shows what is going on, and stops on a signal.
class CommandHost : public green::RealHost {
 public:
  explicit CommandHost(std::string out) : out_(std::move(out)) {}
  bool stop() override { return cli::stop; }
  void sample_taken(const Experiment& e) override {
    save(e, out_);
    const green::Sample& s = e.samples.back();
    const size_t all = e.variants.size() * static_cast<size_t>(e.options.repetitions);
    std::fprintf(stderr, "%s[%zu/%zu] %s  %s  %s%s", isatty(2) ? "\r\033[K" : "", e.samples.size(),
                 all, e.variants[s.variant].name.c_str(), green::si(s.result.seconds, "s").c_str(),
                 green::joules_with_kind(s.result.energy).c_str(),
                 isatty(2) && !e.complete() ? "" : "\n");
  }

 private:
  std::string out_;
};

std::string text_of(const std::string& path) {
  const auto bytes = io::read_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A new experiment in the folder, or the one that was interrupted there.
Experiment open_experiment(const std::vector<green::Variant>& variants, const Options& o,
                           const energy::Meter& meter) {
  Experiment e = green::new_experiment(variants, o.plan);
  e.settings = green::host_settings();
  e.settings.push_back({"meter", meter.describe()});
  io::make_folders(o.out);
  const std::string plan = o.out + "/experiment.json", samples = o.out + "/samples.csv";
  if (std::filesystem::exists(plan)) {
    green::require_same_plan(green::experiment_from_json(text_of(plan), plan), e);
  }
  if (std::filesystem::exists(samples)) green::read_samples_csv(e, text_of(samples), samples);
  // the plan is on disk before the first run, so that no other one continues its samples
  io::write_file(plan, green::experiment_json(e));
  return e;
}

void print_summary(const green::ExperimentAnalysis& a, const std::string& out) {
  std::printf("%s\n", a.energy_line.c_str());
  for (const green::Quantity& q : a.quantities) {
    std::printf("\n%s%s%s%s%s\n", cell(q.name, 24).c_str(), cell("runs", -6).c_str(),
                cell("mean", -12).c_str(), cell("sd", -12).c_str(), cell("median", -12).c_str());
    if (!q.refused.empty()) std::printf("%s\n", q.refused.c_str());
    for (const green::VariantSummary& v : q.variants) {
      const auto number = [&](double x) { return cell(green::si(x, q.unit, 4), -13); };
      std::printf("%s%s%s%s%s\n", cell(v.name, 24).c_str(),
                  cell(std::to_string(v.kept.size()), -6).c_str(), number(v.mean).c_str(),
                  number(v.sd).c_str(), number(v.median).c_str());
    }
    for (const green::PairResult& p : q.pairs) std::printf("%s\n", p.conclusion.c_str());
  }
  for (const std::string& w : a.warnings) std::printf("\nwarning: %s", w.c_str());
  std::printf("\nRead %s/report.html; figures in samples.csv and experiment.json beside it.\n",
              out.c_str());
}

void run(Options o) {
  o.plan.outliers = green::outlier_rule_from_name(o.outliers);
  const std::shared_ptr<energy::Meter> meter =
      energy::Meter::probe(energy::probe_options_from_environment());
  const std::vector<green::Variant> variants = variants_of(o, meter);
  Experiment e = open_experiment(variants, o, *meter);
  std::signal(SIGINT, on_signal), std::signal(SIGTERM, on_signal);
  CommandHost host(o.out);
  bool done = false;
  try {
    done = green::run_experiment(e, variants, host);
  } catch (const CommandFailed& f) {
    save_all(e, o.out);
    if (!stop) {  // a signal from the terminal reaches the command as well
      std::fprintf(stderr, "\nwattle experiment: %s\n%zu finished runs are kept in %s\n", f.what(),
                   e.samples.size(), o.out.c_str());
      throw CLI::RuntimeError(f.code);
    }
  }
  save_all(e, o.out);
  if (!done) {
    std::fprintf(stderr,
                 "\ninterrupted; %zu finished runs are kept in %s, the same command continues\n",
                 e.samples.size(), o.out.c_str());
    throw CLI::RuntimeError(130);
  }
  const green::ExperimentAnalysis a = green::analyse(e);
  if (o.as_json) std::printf("%s", green::experiment_json(e, &a).c_str());
  else print_summary(a, o.out);
}

}  // namespace

void add_experiment(CLI::App& app) {
  auto* c = app.add_subcommand(
      "experiment", "Compare commands by energy and time: shuffled repeats, tests, a report");
  auto o = std::make_shared<Options>();
  for (size_t i = 0; i < letters.size(); ++i) {
    const std::string letter(1, letters[i]);
    auto* command = c->add_option("--" + letter, o->commands[i],
                                  "Shell command of a variant; finds WATTLE_SEED");
    if (i == 0) command->required();
    c->add_option("--name-" + letter, o->names[i], "Its name");
  }
  c->add_option("--repetitions", o->plan.repetitions, "Runs of each variant that count")
      ->capture_default_str();
  c->add_option("--warmup", o->plan.warmup, "Runs of each variant before them, thrown away")
      ->capture_default_str();
  c->add_option("--rest", o->plan.rest_s, "Seconds between runs; 60 where the host gets warm")
      ->capture_default_str();
  c->add_option("--seed", o->plan.seed, "Seed of the order and of the runs")->capture_default_str();
  c->add_option("--tdp", o->tdp, "TDP in watts, for the estimate where there is no meter")
      ->check(not_negative());
  c->add_option("--outliers", o->outliers, "three_sigma or none")->capture_default_str();
  c->add_option("--out", o->out, "Folder of the results; an experiment that is there continues")
      ->required();
  c->add_flag("--json", o->as_json, "The result as JSON");
  c->callback([=] { run(*o); });
}

}  // namespace wattle::cli
