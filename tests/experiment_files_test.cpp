// Files, charts and the report of an experiment.
#include "green/experiment_files.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/error.h"
#include "green/distribution_charts.h"
#include "green/experiment_report.h"
#include "tests/experiment_samples.h"

namespace wattle::green {
namespace {

Experiment with_everything() {
  std::vector<Variant> v = two();
  v[1].name = "B, \"quoted\"\nline", v[1].what = "sh -c 'x < y & z'";
  for (Variant& x : v) {
    x.work = workload([](uint64_t seed) -> RunResult {
      RunResult r = noisy(seed, 100);
      r.values = {{"accuracy", static_cast<double>(seed % 1000) / 7},
                  {"a,b", seed % 2 ? 2.5 : nan}};
      if (seed % 3 == 0) r.energy = {};
      if (seed % 5 == 0) r.values.clear(), r.seconds = nan;
      if (seed % 7 == 0) r.energy.uj = -1;
      return r;
    });
  }
  ExperimentOptions o;
  o.repetitions = 12, o.seed = 0xffffffffffffffffu, o.rest_s = 0.1;
  Experiment e = finished(v, o);
  e.settings = {{"processor", "a <b> & c"}, {"governor", "performance"}};
  e.samples[2].temperature_c = nan;
  return e;
}

void expect_same_samples(const Experiment& a, const Experiment& b, bool all_values) {
  const auto same = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  ASSERT_EQ(a.samples.size(), b.samples.size());
  for (size_t i = 0; i < a.samples.size(); ++i) {
    const Sample &x = a.samples[i], &y = b.samples[i];
    EXPECT_EQ(x.order, y.order);
    EXPECT_EQ(x.round, y.round);
    EXPECT_EQ(x.variant, y.variant);
    EXPECT_EQ(x.seed, y.seed);
    EXPECT_TRUE(same(x.start_s, y.start_s));
    EXPECT_TRUE(same(x.temperature_c, y.temperature_c));
    EXPECT_TRUE(same(x.result.seconds, y.result.seconds));
    EXPECT_EQ(x.result.energy.kind, y.result.energy.kind);
    if (x.result.energy.available()) {
      EXPECT_EQ(x.result.energy.uj, y.result.energy.uj);
      EXPECT_DOUBLE_EQ(x.result.energy.sd_uj, y.result.energy.sd_uj);
      EXPECT_EQ(x.result.energy.source, y.result.energy.source);
    }
    std::vector<std::pair<std::string, double>> known;
    for (const auto& v : x.result.values) {
      if (all_values || std::isfinite(v.second)) known.push_back(v);
    }
    ASSERT_EQ(known.size(), y.result.values.size());
    for (size_t k = 0; k < known.size(); ++k) {
      EXPECT_EQ(known[k].first, y.result.values[k].first);
      EXPECT_TRUE(same(known[k].second, y.result.values[k].second));
    }
  }
}

TEST(Files, CsvReadsBack) {
  const Experiment e = with_everything();
  Experiment back = e;
  back.samples.clear();
  const std::string text = samples_csv(e);
  read_samples_csv(back, text);
  expect_same_samples(e, back, false);  // an unknown value is an empty field
  EXPECT_EQ(samples_csv(back), text);
  EXPECT_TRUE(text.starts_with(
      "order,round,variant,seed,start_s,temperature_c,joules,joules_sd,joules_kind,joules_source,"
      "seconds,value.accuracy,\"value.a,b\"\n"));
  EXPECT_EQ(text.find("nan"), std::string::npos);
}

TEST(Files, DamagedCsvIsRefusedByLine) {
  Experiment e = finished(two());
  const std::string good = samples_csv(e);
  const auto message = [&](const std::string& text) {
    Experiment back = e;
    try {
      read_samples_csv(back, text, "here.csv");
    } catch (const io_error& error) { return std::string(error.what()); }
    return std::string("read");
  };
  EXPECT_EQ(message(good), "read");
  EXPECT_NE(message("").find("here.csv: found an empty file"), std::string::npos);
  EXPECT_NE(message("a,b\n1,2\n").find("line 1"), std::string::npos);
  const auto with_row = [&](const std::string& row) {
    return message(good.substr(0, good.find('\n') + 1) + row + "\n");
  };
  EXPECT_NE(with_row("0,0,A").find("line 2: found 3 fields, expected 11"), std::string::npos);
  EXPECT_NE(with_row("x,0,A,1,1,,1.000000,0,measured,s,1").find("order: found 'x'"),
            std::string::npos);
  EXPECT_NE(with_row("0,0,Z,1,1,,1.000000,0,measured,s,1").find("variant: found 'Z'"),
            std::string::npos);
  EXPECT_NE(with_row("0,0,A,1,1,,1.0,0,measured,s,1").find("six decimals"), std::string::npos);
  EXPECT_NE(with_row("0,0,A,1,1,,1.000000,0,guessed,s,1").find("kind of joules"),
            std::string::npos);
  EXPECT_NE(with_row("0,0,A,1,1,,1.000000,0,measured,s,fast").find("seconds: found 'fast'"),
            std::string::npos);
}

TEST(Files, JsonReadsBack) {
  const Experiment e = with_everything();
  const ExperimentAnalysis a = analyse(e);
  const std::string text = experiment_json(e, &a);
  const Experiment back = experiment_from_json(text);
  EXPECT_EQ(back.variants, e.variants);
  EXPECT_EQ(back.options, e.options);
  EXPECT_EQ(back.settings, e.settings);
  expect_same_samples(e, back, true);
  EXPECT_EQ(experiment_json(back, &a), text);
  const auto j = nlohmann::json::parse(text);
  EXPECT_EQ(j["analysis"]["energy"], a.energy_line);
  EXPECT_EQ(j["analysis"]["quantities"][0]["pairs"][0]["p"].get<double>(), only_pair(a).p);
  for (const auto& s : j["samples"]) {
    if (s["joules"]["kind"] == "unavailable") { EXPECT_TRUE(s["joules"]["uj"].is_null()); }
  }
  EXPECT_EQ(experiment_from_json(experiment_json(e)).samples.size(), e.samples.size());
}

TEST(Files, ForeignJsonIsRefused) {
  const std::string good = experiment_json(finished(two()));
  for (const std::string& bad :
       {std::string("{"), std::string("[]"), std::string("{\"format\":\"wattle layer study\"}"),
        std::string("{\"format\":\"wattle experiment\",\"format_version\":9}"),
        good.substr(0, good.size() / 2)}) {
    EXPECT_THROW(experiment_from_json(bad, "x.json"), io_error);
  }
  auto j = nlohmann::json::parse(good);
  j["samples"][0]["seed"] = 5;
  EXPECT_THROW(experiment_from_json(j.dump()), io_error);
}

TEST(Charts, AxisTellsTicksApart) {
  for (const auto& [lo, hi, unit] : {std::tuple{100.2, 100.9, "J"},
                                     {0.0012341, 0.0012349, "s"},
                                     {0.0, 5e9, "J"},
                                     {-3.0, 4.0, ""},
                                     {1500.1, 1500.4, "J"}}) {
    const AxisScale s = axis_scale(lo, hi, unit);
    std::set<std::string> texts;
    for (const double t : s.ticks) texts.insert(s.text(t));
    EXPECT_EQ(texts.size(), s.ticks.size()) << lo;
    EXPECT_GE(s.ticks.size(), 3u);
  }
  EXPECT_EQ(axis_scale(0.0012, 0.0014, "s").unit, "ms");
  EXPECT_EQ(axis_scale(2000, 3000, "J").unit, "kJ");
  EXPECT_EQ(axis_scale(2000, 3000, "").unit, "");
}

TEST(Charts, DensityIntegratesToOne) {
  const Vec x = {1, 2, 2.5, 3, 7, 7.1, 9};
  Vec at;
  for (double v = -20; v < 30; v += 0.01) at.push_back(v);
  double sum = 0;
  for (const double d : kernel_density(x, at)) sum += d * 0.01;
  EXPECT_NEAR(sum, 1, 1e-6);
  EXPECT_TRUE(kernel_density({1, 2}, at).empty());
  EXPECT_TRUE(kernel_density({3, 3, 3}, at).empty());
  // three quarters of equal values: the quartiles coincide, the deviation does not
  EXPECT_FALSE(kernel_density({3, 3, 3, 3, 3, 3, 9}, at).empty());
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

TEST(Charts, EveryValueIsDrawnOnce) {
  const std::string s = distribution_svg("d", "joules of a run", "J",
                                         {{"A <1>", {1, 2, 3, 4}, {true, true, true, false}, {}},
                                          {"B", {2, 2, 2}, {}, {}},
                                          {"C", {}, {}, {}}});
  EXPECT_EQ(count(s, "<circle"), 7u);
  EXPECT_EQ(count(s, "class=\"run v0 out\""), 1u);
  EXPECT_EQ(count(s, "class=\"violin"), 1u) << "constants have no density";
  EXPECT_EQ(count(s, "class=\"quartiles\""), 2u);
  EXPECT_NE(s.find("A &lt;1&gt;"), std::string::npos);
  EXPECT_EQ(count(s, "nan"), 0u);
  EXPECT_EQ(count(distribution_svg("d", "t", "", {}), "no values"), 1u);
  EXPECT_EQ(count(distribution_svg("d", "t", "s", {{"A", {nan}, {}, {}}}), "no values"), 1u);
  const std::string order = run_order_svg(
      "d", "joules", "J", {{1, 5, 0, false, ""}, {2, nan, 1, false, ""}, {3, 6, 1, true, "x"}});
  EXPECT_EQ(count(order, "<circle"), 2u);
  EXPECT_EQ(count(order, "nan"), 0u);
  EXPECT_EQ(count(run_order_svg("d", "t", "", {}), "no values"), 1u);
}

void expect_sound_page(const std::string& page) {
  for (const char* bad : {"nan", "inf<", ">inf", "http://", "https://", "<script", "url("}) {
    EXPECT_EQ(page.find(bad), std::string::npos) << bad;
  }
  for (const char* tag : {"svg", "table", "p", "ul", "ol", "figure", "div", "tr", "td", "main"}) {
    const std::string open = std::string("<") + tag;
    EXPECT_EQ(count(page, open + ">") + count(page, open + " "),
              count(page, std::string("</") + tag + ">"))
        << tag;
  }
}

TEST(Report, FirstLineSaysWhereTheJoulesComeFrom) {
  const auto first_line = [](const Experiment& e) {
    const std::string page = experiment_report_html(e, analyse(e));
    expect_sound_page(page);
    const size_t main = page.find("<main>\n") + 7;
    return page.substr(main, page.find('\n', main) - main);
  };
  EXPECT_NE(first_line(finished(two())).find("Joules: measured, powercap package-0."),
            std::string::npos);
  const Vec x = {1, 2, 3}, y = {4, 5, 6};
  EXPECT_NE(first_line(with_joules({x, y}, {JouleKind::modelled_table, JouleKind::modelled_table}))
                .find("modelled, table horowitz45. Nothing was measured"),
            std::string::npos);
  Experiment none = finished(two());
  for (Sample& s : none.samples) s.result.energy = {};
  EXPECT_NE(first_line(none).find("Joules: not available"), std::string::npos);
  EXPECT_NE(first_line(with_everything()).find("Joules: measured"), std::string::npos);
  Experiment empty = new_experiment(two(), {});
  EXPECT_NE(first_line(empty).find("not available"), std::string::npos);
}

TEST(Report, ShowsProtocolAndTemperature) {
  const Experiment e = with_everything();
  const std::string page = experiment_report_html(e, analyse(e));
  for (const char* text : {"a &lt;b&gt; &amp; c", "sh -c &#39;x &lt; y &amp; z&#39;", "Temperature",
                           "18446744073709551615", "Shapiro", "12 of each variant", "accuracy"}) {
    EXPECT_NE(page.find(text), std::string::npos) << text;
  }
  Experiment cold = e;
  for (Sample& s : cold.samples) s.temperature_c = nan;
  EXPECT_EQ(experiment_report_html(cold, analyse(cold)).find("<h2>Temperature"), std::string::npos);
}

}  // namespace
}  // namespace wattle::green
