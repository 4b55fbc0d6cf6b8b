// wattle experiment: two or more commands compared by repetition, with the joules that this host
// can give.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "data/atomic_file.h"
#include "energy/tdp.h"
#include "energy/window.h"
#include "green/calibrate.h"
#include "green/experiment.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

struct Options {
  green::ExperimentOptions experiment;
  std::vector<std::string> commands, names;
  std::string out;
  double tdp = 0;
  bool as_json = false;
};

struct Usage {
  double cpu_seconds = 0;
  int exit_code = 0;
};

// Runs a shell command; its output goes to `log`.
Usage run_command(const std::string& command, const std::string& log) {
  const pid_t child = ::fork();
  if (child < 0) throw io_error("experiment: cannot start a process");
  if (child == 0) {
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd >= 0) ::dup2(fd, STDOUT_FILENO), ::dup2(fd, STDERR_FILENO);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  struct rusage used {};
  while (::wait4(child, &status, 0, &used) < 0 && errno == EINTR) {}
  const auto seconds = [](const timeval& t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return {seconds(used.ru_utime) + seconds(used.ru_stime),
          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
}

std::string last_line(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = line;
  return last;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class Experiment {
 public:
  explicit Experiment(Options& o)
      : o_(o), meter_(energy::Meter::probe(energy::probe_options_from_environment())) {
    if (o.names.empty())
      for (size_t i = 0; i < o.commands.size(); ++i)
        o.names.push_back(std::string(1, char('A' + i)));
    if (o.names.size() != o.commands.size())
      throw value_error(str("--name: found ", static_cast<int64_t>(o.names.size()), " names for ",
                            static_cast<int64_t>(o.commands.size()), " commands"));
    io::make_folders(o.out);
    const std::string path = o.out + "/samples.csv";
    if (::access(path.c_str(), F_OK) == 0) {
      samples_ = green::samples_from_csv(read_text(path), path);
      if (read_text(o.out + "/experiment.txt") != settings())
        throw value_error(str("--out ", o.out,
                              " holds an experiment of other commands or options; choose another"));
      if (!o.as_json)
        std::printf("continues from %zu samples in %s\n", samples_.size(), path.c_str());
    }
    io::write_file(o.out + "/experiment.txt", settings());
  }

  void run() {
    if (!o_.as_json) std::printf("meter: %s\n", meter_->describe().c_str());
    std::vector<green::Variant> variants;
    for (size_t i = 0; i < o_.commands.size(); ++i)
      variants.push_back({o_.names[i], [this, i](green::Sample& s) { measure(i, s); }});
    const auto start = std::chrono::steady_clock::now();
    green::ExperimentWorld world;
    world.sleep_s = [this](double s) { meter_->io().sleep_s(s); };
    world.celsius = [this] { return green::temperature_c(meter_->io()); };
    world.now_s = [start] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    world.done = [this](const green::Sample& s) { keep(s); };
    auto samples = samples_;
    green::run_experiment(variants, o_.experiment, world, samples);
    report();
  }

 private:
  // Everything that two sessions must share to belong to one experiment.
  std::string settings() const {
    const green::ExperimentOptions& e = o_.experiment;
    std::string s = str("repetitions ", e.repetitions, ", rest ", e.rest_s, " s, seed ",
                        static_cast<int64_t>(e.seed), ", meter ", meter_->describe(), "\n");
    for (size_t i = 0; i < o_.commands.size(); ++i)
      s += str(o_.names[i], ": ", o_.commands[i], "\n");
    return s;
  }

  void measure(size_t i, green::Sample& s) {
    const std::string log = o_.out + "/last_run.log";
    energy::Window window(*meter_, o_.names[i]);
    const auto start = std::chrono::steady_clock::now();
    const Usage used = run_command(o_.commands[i], log);
    s.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const energy::WindowResult r = window.end();
    if (used.exit_code != 0)
      throw value_error(str(o_.names[i], ": '", o_.commands[i], "' ended with ", used.exit_code,
                            ", last line of output '", last_line(log),
                            "'; samples so far are kept in ", o_.out));
    const int threads = std::max(1u, std::thread::hardware_concurrency());
    s.joules = meter_->available()
                   ? r.gross
                   : energy::tdp_estimate(s.seconds, used.cpu_seconds, threads, o_.tdp);
  }

  void keep(const green::Sample& s) {
    samples_.push_back(s);
    io::write_file(o_.out + "/samples.csv", green::samples_csv(samples_));
    if (!o_.as_json)
      std::fprintf(stderr, "round %d, %s: %.3f s, %s\n", s.round + 1, s.variant.c_str(), s.seconds,
                   s.joules.str().c_str());
  }

  void report() {
    const auto a = green::analyse_experiment(samples_, o_.experiment);
    const std::string text = green::experiment_json(a, o_.experiment);
    io::write_file(o_.out + "/experiment.json", text);
    io::write_file(o_.out + "/report.html", green::experiment_html(a, samples_, o_.experiment));
    if (o_.as_json) {
      std::printf("%s", text.c_str());
      return;
    }
    std::printf("%s\n", a.energy_sentence.c_str());
    for (const green::QuantityAnalysis* q : {&a.joules, &a.seconds}) {
      if (!q->refused.empty()) std::printf("%s: %s\n", q->quantity.c_str(), q->refused.c_str());
      for (const green::Comparison& c : q->pairs) std::printf("%s\n", c.sentence.c_str());
      for (const std::string& w : q->warnings) std::printf("warning: %s\n", w.c_str());
    }
    std::printf("Read %s/report.html; figures in samples.csv, experiment.json beside it.\n",
                o_.out.c_str());
  }

  Options& o_;
  std::shared_ptr<energy::Meter> meter_;
  std::vector<green::Sample> samples_;
};

}  // namespace

void add_experiment(CLI::App& app) {
  auto* c =
      app.add_subcommand("experiment", "Compares commands by repetition, in joules and seconds");
  auto o = std::make_shared<Options>();
  c->add_option("commands", o->commands, "Two or more shell commands")->required()->expected(2, 26);
  c->add_option("--name", o->names, "A name for each command (default: A, B, ...)");
  c->add_option("--repetitions", o->experiment.repetitions, "Runs of each")->capture_default_str();
  c->add_option("--warmup", o->experiment.warmup, "Rounds thrown away first")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  c->add_option("--rest", o->experiment.rest_s, "Seconds before every run")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  c->add_option("--seed", o->experiment.seed, "Seed of the order")->capture_default_str();
  c->add_option("--tdp", o->tdp, "TDP in watts, for the estimate on hosts without a meter")
      ->check(CLI::NonNegativeNumber);
  c->add_option("--out", o->out, "Folder of the results; an experiment that is there continues")
      ->required();
  c->add_flag("--json", o->as_json, "Result as JSON");
  c->callback([o] { Experiment(*o).run(); });
}

}  // namespace wattle::cli
