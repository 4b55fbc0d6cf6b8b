#include "green/mlflow_study.h"

#include <charconv>

#include "core/error.h"
#include "energy/carbon.h"
#include "green/clock_text.h"
#include "green/study.h"

namespace wattle::green {
namespace {

std::string number(double v) {
  char buf[40];
  const auto r = std::to_chars(buf, buf + sizeof buf, v);
  return std::string(buf, r.ptr);
}

}  // namespace

std::unique_ptr<MlflowRun> start_mlflow_run(const std::string& url, const std::string& out,
                                            const StudySettings& s, const NetKey& net,
                                            uint64_t seed) {
  if (url.empty()) return nullptr;
  MlflowOptions o;
  o.url = url;
  o.spool = out + "/mlflow";
  o.experiment = "wattle study layers, " + s.dataset;
  // A run that was interrupted is done again from its start, as a run of its own.
  const std::string key = str(net_name(net), "-s", static_cast<int64_t>(seed), "-", now_ms());
  return std::make_unique<MlflowRun>(
      o, key, str(label(net), ", seed ", static_cast<int64_t>(seed)),
      std::map<std::string, std::string>{{"dataset", s.dataset},
                                         {"protocol", s.protocol},
                                         {"net", net.net},
                                         {"linear", std::to_string(net.linear)},
                                         {"conv", std::to_string(net.conv)},
                                         {"relu", std::to_string(net.relu)},
                                         {"seed", std::to_string(seed)},
                                         {"epochs", std::to_string(s.epochs)},
                                         {"batch", std::to_string(s.batch)},
                                         {"rows", std::to_string(s.rows)},
                                         {"optimizer", s.optimizer},
                                         {"lr", number(s.lr)},
                                         {"threads", std::to_string(s.threads)},
                                         {"cpu", s.cpu},
                                         {"simd", s.simd}},
      std::map<std::string, std::string>{{"wattle.version", s.version}});
}

std::string finish_mlflow_run(MlflowRun& m, const StudyRun& r, const Ledger& ledger, int64_t step,
                              const std::string& region) {
  m.metric("test_accuracy", r.accuracy, step);
  m.metric("flops_weighted", static_cast<double>(r.flops_weighted), step);
  m.metric("flops_all", static_cast<double>(r.flops_all), step);
  m.metric("bytes", static_cast<double>(r.bytes), step);
  m.metric("seconds", r.seconds, step);
  m.metric("params", static_cast<double>(r.params), step);
  m.ledger(ledger, step);
  if (!region.empty())
    m.metric("carbon/op_g", energy::operational(r.joules, energy::intensity_of(region)).g, step);
  m.finish(r.diverged ? "FAILED" : "FINISHED");
  return m.note();
}

size_t deliver_spool(const MlflowOptions& options, std::vector<std::string>& report) {
  size_t pending = 0;
  for (const std::string& key : spooled_runs(options.spool)) {
    try {
      MlflowSpool spool(options.spool, key);
      if (spool.lines().empty()) continue;
      MlflowDelivery delivery(spool, options);
      const size_t before = spool.pending();
      delivery.deliver();
      pending += spool.pending();
      report.push_back(str(key, ": ", static_cast<int64_t>(before - spool.pending()), " sent, ",
                           static_cast<int64_t>(spool.pending()), " pending",
                           delivery.error().empty() ? "" : " (" + delivery.error() + ")"));
      spool.remove_if_complete();
    } catch (const error& e) {  // one run in trouble must not hold up the others
      report.push_back(str(key, ": ", e.what()));
      ++pending;
    }
  }
  return pending;
}

}  // namespace wattle::green
