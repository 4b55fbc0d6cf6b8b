// wattle mlflow deliver: sends what trainings left in their spool while the server was away.
#include <cstdio>

#include "green/mlflow_study.h"
#include "tools/cli.h"

namespace wattle::cli {

void add_mlflow(CLI::App& app) {
  auto* c = app.add_subcommand("mlflow", "MLflow tracking");
  c->require_subcommand(1);
  auto* d = c->add_subcommand("deliver", "Sends what is spooled on the disk");
  auto o = std::make_shared<green::MlflowOptions>();
  d->add_option("--url", o->url, "http://HOST:PORT")->required();
  d->add_option("--spool", o->spool, "Folder: OUT/mlflow of a study, --mlflow-spool of a training")
      ->required();
  d->add_option("--timeout", o->timeout_s, "Seconds a request may take")->capture_default_str();
  d->callback([o] {
    o->url = green::checked_mlflow_url(o->url);
    std::vector<std::string> report;
    const size_t pending = green::deliver_spool(*o, report);
    for (const std::string& line : report) std::printf("%s\n", line.c_str());
    if (report.empty()) std::printf("nothing is spooled in %s\n", o->spool.c_str());
    if (pending > 0) throw CLI::RuntimeError(1);
  });
}

}  // namespace wattle::cli
