// The study's report, on a synthetic study whose sums are known.
#include "green/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>

#include "core/error.h"
#include "data/atomic_file.h"
#include "green/report_analysis.h"
#include "green/report_svg.h"
#include "green/report_text.h"
#include "green/study_files.h"
#include "tests/synthetic_study.h"

namespace wattle::green {
namespace {

namespace fs = std::filesystem;
using testing_study::fresh_dir;
using testing_study::synthetic;

// Every element that opens also closes, in order; text holds no figure that is none.
void check_page(const std::string& html) {
  for (const char* bad :
       {">nan", ">-nan", ">inf", " nan", "=\"nan", "\u2212nan", "(nan", ">\u2212inf"}) {
    EXPECT_EQ(html.find(bad), std::string::npos)
        << bad << ": " << html.substr(std::max<size_t>(html.find(bad), 80) - 80, 160);
  }
  EXPECT_EQ(html.find("http"), std::string::npos) << "the page must work offline";
  std::vector<std::string> open;
  const std::set<std::string> empty = {"meta", "br", "!doctype"};
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const size_t end = html.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const bool closing = html[at + 1] == '/';
    const size_t from = at + 1 + closing;
    const std::string tag = html.substr(from, html.find_first_of(" >\n", from) - from);
    if (closing) {
      ASSERT_FALSE(open.empty()) << tag;
      ASSERT_EQ(open.back(), tag) << html.substr(at > 200 ? at - 200 : 0, 260);
      open.pop_back();
    } else if (html[end - 1] != '/' && !empty.count(tag)) {
      open.push_back(tag);
    }
    if (!closing && (tag == "style" || tag == "script")) at = html.find("</" + tag, end) - 1;
  }
  EXPECT_TRUE(open.empty());
}

TEST(Synthetic, ConservesAndTheCheckSeesOneMissingMicrojoule) {
  StudyResult s = synthetic(2);
  EXPECT_TRUE(check_conservation(s).empty());
  s.layers[5].joules.uj -= 1;  // planted
  ASSERT_EQ(check_conservation(s).size(), 1u);
  EXPECT_NE(check_conservation(s)[0].find("uJ"), std::string::npos);
  s.runs[0].flops_weighted += 2;
  EXPECT_EQ(check_conservation(s).size(), 2u);
  EXPECT_NE(study_report_html(s).find("Sums do not match"), std::string::npos);
}

TEST(Analysis, PairedEffectsMatchTheStudysOwnFigures) {
  // the published cell means of Fashion-MNIST as one run each: conv 1 -> 4 costs 817 J and brings
  // 0.74 points; linear 3 -> 7 costs 61 J and loses 0.47 points (green-studies.md 3.1)
  const struct {
    int linear, conv, relu;
    double joules, accuracy;
  } cells[] = {{3, 1, 0, 834.9, .8660},  {3, 1, 1, 854.9, .8681},  {7, 1, 0, 858.0, .8605},
               {7, 1, 1, 881.1, .8627},  {3, 4, 0, 1600.7, .8764}, {3, 4, 1, 1650.0, .8710},
               {7, 4, 0, 1700.7, .8727}, {7, 4, 1, 1745.0, .8669}};
  StudyResult s;
  for (const auto& c : cells) {
    StudyRun r;
    r.key = {"cnn", c.linear, c.conv, c.relu}, r.seed = 1, r.accuracy = c.accuracy, r.seconds = 10;
    r.joules = {std::llround(c.joules * 1e6), 0, JouleKind::measured, "nvidia-smi"};
    s.runs.push_back(r);
  }
  const Analysis a = analyse(s);
  EXPECT_EQ(a.factors[1].pairs, 4);
  EXPECT_NEAR(mean(a.factors[1].joules), 817, 0.5);
  EXPECT_NEAR(mean(a.factors[1].accuracy_points), 0.74, 0.006);
  EXPECT_NEAR(mean(a.factors[0].joules), 61, 0.5);
  EXPECT_NEAR(mean(a.factors[0].accuracy_points), -0.47, 0.006);
  EXPECT_NEAR(a.factors[1].joules_ratio.mid, 0.512, 0.001);
  std::set<std::string> front;
  for (const NetSummary& n : a.nets) {
    if (n.on_front) front.insert(n.label);
  }
  EXPECT_EQ(front, (std::set<std::string>{"CNN 3,1", "CNN 3,1 ReLU", "CNN 3,4"}));
  const std::string html = study_report_html(s);
  check_page(html);
  EXPECT_NE(html.find("Every CNN with 7 linear layers is dominated"), std::string::npos);
  EXPECT_NE(html.find("Halving the network: 4 to 1 convolution blocks"), std::string::npos);
  EXPECT_NE(html.find("817"), std::string::npos);
  EXPECT_NE(html.find("measured, nvidia-smi"), std::string::npos);
  EXPECT_EQ(html.find("modelled, table"), std::string::npos);
}

TEST(Analysis, DivergedRunsEnterNoMean) {
  StudyResult s = synthetic(3, false);
  s.runs[0].diverged = true, s.runs[0].accuracy = 0.1;
  const Analysis a = analyse(s);
  EXPECT_EQ(a.nets[0].runs, 3);
  EXPECT_EQ(a.nets[0].diverged, 1);
  EXPECT_GT(mean(a.nets[0].accuracy), 0.8);
  EXPECT_EQ(a.factors[1].pairs, 11);
  EXPECT_EQ(cnn_design(s).runs.size(), 23u);
  EXPECT_NE(study_report_html(s).find("1 run diverged"), std::string::npos);
}

TEST(Report, FullStudy) {
  StudyResult s = synthetic(3);
  const std::string dir = fresh_dir("report");
  write_study(dir, s);
  const std::string html = study_report_html(s);
  io::write_file(dir + "/report.html", html);
  check_page(html);
  for (const char* need : {"modelled, table horowitz45", "F and p do not exist",
                           "computed from operation and byte counts", "By construction",
                           "add up to the totals of the runs exactly", "Pareto front",
                           "Kruskal-Wallis", "DenseLinear 7", "prefers-color-scheme:dark"}) {
    EXPECT_NE(html.find(need), std::string::npos) << need;
  }
  EXPECT_EQ(html.find("Read this first"), std::string::npos);
  EXPECT_EQ(html.find("Oddities"), std::string::npos);
  if (!std::getenv("WATTLE_REPORT_DIR")) fs::remove_all(dir);
}

// Every element that shows joules says of what kind they are.
TEST(Report, NoJouleWithoutItsKind) {
  const std::string html = study_report_html(synthetic(2));
  const size_t list = html.find("<ol class=\"findings\">"), end = html.find("</ol>", list);
  for (size_t at = list; (at = html.find("<li>", at + 1)) < end;) {
    const std::string item = html.substr(at, html.find("</li>", at) - at);
    const bool joules = item.find("\u00a0J") != std::string::npos ||
                        item.find("kJ") != std::string::npos ||
                        item.find("joules") != std::string::npos;
    if (joules) { EXPECT_NE(item.find("modelled"), std::string::npos) << item; }
  }
}

TEST(Report, SmallAndBrokenStudies) {
  check_page(study_report_html({}));

  StudyResult one = synthetic(1);
  const std::string single = study_report_html(one);
  check_page(single);
  EXPECT_NE(single.find("One run per net"), std::string::npos);
  EXPECT_NE(single.find("One run per cell leaves no residual"), std::string::npos);

  StudyResult partial = synthetic(2, false);  // interrupted in the second round
  partial.runs.resize(11);
  partial.layers.clear(), partial.curves.clear();
  const std::string cut = study_report_html(partial);
  check_page(cut);
  EXPECT_NE(cut.find("not complete: 5 of 16 runs"), std::string::npos);
  EXPECT_NE(cut.find("holds no layer rows"), std::string::npos);

  StudyResult net = synthetic(1);  // a single net
  net.runs.resize(1);
  check_page(study_report_html(net));

  StudyResult diverged = synthetic(2);  // nothing usable at all
  for (StudyRun& r : diverged.runs) r.diverged = true, r.accuracy = NAN;
  check_page(study_report_html(diverged));

  StudyResult dense = synthetic(2);
  std::erase_if(dense.runs, [](const StudyRun& r) { return r.key.net == "cnn"; });
  check_page(study_report_html(dense));
}

TEST(Report, JoulesNotAvailable) {
  StudyResult s = synthetic(2);
  for (StudyRun& r : s.runs) r.joules = {};
  for (LayerRow& r : s.layers) r.joules = {};
  const std::string html = study_report_html(s);
  check_page(html);
  EXPECT_NE(html.find("Joules: not available"), std::string::npos);
  EXPECT_EQ(html.find("modelled, table"), std::string::npos);
  EXPECT_EQ(html.find(">0\u00a0J<"), std::string::npos) << "an unknown energy must not read as 0";
}

TEST(Report, AsPublishedListsOdditiesAndEscapesText) {
  StudyResult s = synthetic(1);
  s.settings.protocol = "as-published";
  s.settings.oddities = {"no <eval()> & no validation split"};
  s.settings.cpu = "<script>alert(1)</script>";
  const std::string html = study_report_html(s);
  check_page(html);
  EXPECT_NE(html.find("no &lt;eval()&gt; &amp; no validation split"), std::string::npos);
  EXPECT_EQ(html.find("<script>alert"), std::string::npos);
}

TEST(Report, IsDeterministic) {
  EXPECT_EQ(study_report_html(synthetic(2)), study_report_html(synthetic(2)));
}

TEST(Svg, LabelsDoNotOverlap) {
  std::mt19937_64 rng(9);
  std::uniform_real_distribution<double> u(0, 1);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<std::pair<double, double>> at, size;
    std::vector<Box> marks;
    for (int i = 0; i < 12; ++i) {  // two tight clusters, as in the study
      at.push_back({(i < 6 ? 120 : 330) + 40 * u(rng), 150 + 40 * u(rng)});
      size.push_back({80, 15});
      marks.push_back({at.back().first - 6, at.back().second - 6, 12, 12});
    }
    const std::vector<Box> boxes = place_labels(at, size, marks, {0, 0, 500, 360});
    for (size_t i = 0; i < boxes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) ASSERT_EQ(overlap(boxes[i], boxes[j]), 0) << trial;
      ASSERT_NEAR(overlap(boxes[i], {0, 0, 500, 360}), 80 * 15, 1e-6);
    }
  }
}

TEST(Svg, Ticks) {
  EXPECT_EQ(round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ticks(0, 1, 4), (std::vector<double>{0, 0.25, 0.5, 0.75, 1}));
  EXPECT_EQ(round_ticks(3, 3, 4), (std::vector<double>{3}));
}

TEST(Text, Numbers) {
  EXPECT_EQ(si(2.91e12, "FLOP"), "2.91\u00a0TFLOP");
  EXPECT_EQ(si(999.96, "J"), "1.00\u00a0kJ");
  EXPECT_EQ(si(0.0123, "s"), "12.3\u00a0ms");
  EXPECT_EQ(si(0, "J"), "0\u00a0J");
  EXPECT_EQ(si(NAN, "J"), "-");
  EXPECT_EQ(fixed(-0.001, 2), "0.00");
  EXPECT_EQ(fixed(-1.5, 1), "\u22121.5");
  EXPECT_EQ(p_text(0), "< 1e\u2212300");
  EXPECT_EQ(p_text(0.0341), "0.034");
  EXPECT_EQ(p_text(NAN), "-");
  EXPECT_EQ(grouped(1408410), "1\u2009408\u2009410");
  EXPECT_EQ(escape_html("<a & 'b'>"), "&lt;a &amp; &#39;b&#39;&gt;");
  EXPECT_EQ(joules_text({}), "-");
}

}  // namespace
}  // namespace wattle::green
