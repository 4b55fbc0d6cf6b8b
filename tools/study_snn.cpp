// wattle study snn: spiking nets against nets of numbers.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>

#include "green/snn_study.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

std::atomic<bool> stop{false};
void on_signal(int) { stop = true; }

void print(const green::SnnStudy& s) {
  std::printf("%s%s%s%s%s%s\n", cell("point", 30).c_str(), cell("accuracy", -10).c_str(),
              cell("sd", -8).c_str(), cell("E0", -12).c_str(), cell("E1", -12).c_str(),
              cell("ms, batch 64", -14).c_str());
  for (const green::SnnCell& c : green::cells_of(s)) {
    const auto joules = [&](green::SnnTier t) {
      return energy::energy_text(green::snn_pj(c.layers, c.point.widths(), t, 1) * 1e-6);
    };
    std::printf("%s%10.4f%8.4f%s%s%14.3f\n", cell(c.point.name, 30).c_str(), c.mean, c.sd,
                cell(joules(green::SnnTier::compute), -12).c_str(),
                cell(joules(green::SnnTier::buffers), -12).c_str(), c.ms64);
  }
  std::printf("\nan image, batch 1, modelled; verdicts:\n");
  for (const std::string& v : green::verdict_sentences(s)) std::printf("- %s\n", v.c_str());
}

void run(const green::SnnStudyOptions& o) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  const green::SnnStudy s = green::run_snn_study(o, stop, [](const green::SnnProgress& p) {
    std::fprintf(stderr, "run %d/%d  %s seed %lld  epoch %lld/%lld  validation %.4f\n", p.run,
                 p.runs, p.point.c_str(), static_cast<long long>(p.seed),
                 static_cast<long long>(p.epoch), static_cast<long long>(p.epochs), p.validation);
  });
  print(s);
  std::printf("\n%s/report.html\n", o.out.c_str());
  if (stop) throw CLI::RuntimeError(130);
}

}  // namespace

void add_study_snn(CLI::App& study) {
  auto* c = study.add_subcommand("snn", "Spiking nets against nets of numbers at equal accuracy");
  auto o = std::make_shared<green::SnnStudyOptions>();
  c->add_option("--dataset", o->dataset, "fashion-mnist or cifar10")->capture_default_str();
  c->add_option("--data-dir", o->data_dir, "Folder of the data set");
  c->add_option("--steps", o->steps, "Steps of the spiking nets; activation bits follow from them")
      ->delimiter(',')
      ->capture_default_str();
  c->add_option("--rate-weight", o->rate_weight,
                "Weight of rates above the goal in the loss of one more spiking net, 0 = none")
      ->capture_default_str()
      ->check(not_negative());
  c->add_option("--rate-goal", o->rate_goal, "Mean rate of a layer that this net aims at")
      ->capture_default_str()
      ->check(not_negative());
  c->add_option("--seeds", o->seeds, "Trainings of each point")->capture_default_str();
  c->add_option("--epochs", o->epochs, "Epochs of a training")->capture_default_str();
  c->add_option("--rows", o->rows, "Training images")->capture_default_str();
  c->add_option("--batch", o->batch, "Images in a step")->capture_default_str();
  c->add_option("--lrs", o->lrs, "Learning rates that every point chooses from")
      ->delimiter(',')
      ->capture_default_str();
  c->add_option("--sample", o->sample, "Validation images of the account")->capture_default_str();
  c->add_option("--jobs", o->jobs, "Trainings at a time, of one thread each")
      ->capture_default_str();
  add_device_options(*c, o->device, o->math);
  c->add_option("--out", o->out, "Folder of the results; a study that is there continues")
      ->required();
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
