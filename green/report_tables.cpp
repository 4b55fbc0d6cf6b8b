// Tables of the report.
#include <cmath>

#include "core/error.h"
#include "green/report_parts.h"
#include "green/report_text.h"

namespace wattle::green::report {
namespace {

std::string th(const std::string& s, bool left = false) {
  return str("<th scope=\"col\"", left ? " class=\"l\">" : ">", s, "</th>");
}
std::string td(const std::string& s) { return str("<td>", s, "</td>"); }
std::string tdl(const std::string& s) { return str("<td class=\"l\">", escape_html(s), "</td>"); }

// A cell that sorts by its value, whatever it shows.
std::string cell(const std::string& shown, double value) {
  if (!std::isfinite(value)) return "<td data-v=\"\">-</td>";
  char buf[40];
  std::snprintf(buf, sizeof buf, "%.17g", value);
  return str("<td data-v=\"", static_cast<const char*>(buf), "\">", shown, "</td>");
}
// "12.5 J \u00b1 2.5 J" and the kind, with the source as a tooltip.
std::string joule_cells(const Joules& j) {
  const std::string value =
      j.available() ? str(joules_text(j), " \u00b1 ", si(j.sd_joules(), "J", 2)) : "-";
  return str(cell(value, j.joules()), "<td class=\"l\" title=\"", escape_html(j.origin()), "\">",
             energy::word(j.kind), "</td>");
}

std::string table(const std::string& caption, const std::string& head, const std::string& body,
                  const char* css = "") {
  return str("<div class=\"scroll\"><table class=\"", css, "\">",
             caption.empty() ? "" : str("<caption>", caption, "</caption>"), "<thead><tr>", head,
             "</tr></thead><tbody>\n", body, "</tbody></table></div>\n");
}

std::string plus_minus(double m, double s, int decimals) {
  return std::isfinite(s) ? str(fixed(m, decimals), " \u00b1 ", fixed(s, decimals))
                          : fixed(m, decimals);
}

std::string interval(const Interval& r) {
  if (!std::isfinite(r.lo)) return fixed(r.mid, 3);
  return str(fixed(r.mid, 3), " [", fixed(r.lo, 3), ", ", fixed(r.hi, 3), "]");
}

// Kruskal-Wallis over the two levels of one factor.
KruskalWallis rank_test(const Design& d, const Vec& y, size_t factor) {
  std::vector<Vec> groups(2);
  for (size_t i = 0; i < y.size(); ++i) {
    groups[static_cast<size_t>(d.levels[i][factor])].push_back(y[i]);
  }
  return kruskal_wallis(groups);
}

std::string anova_table(const Design& d, const Vec& y, const std::string& caption,
                        const std::string& note) {
  const Anova a = anova3(d.levels, y, {"linear", "conv", "ReLU"});
  double all = a.residual_ss;
  for (const AnovaTerm& t : a.terms) all += t.ss;
  // below 1e-12 of the total there is rounding only
  const auto ss = [all](double v) { return v < 1e-12 * all ? "0" : significant(v, 4); };
  std::string body;
  for (const AnovaTerm& t : a.terms) {
    std::string kw = td("") + td("");
    for (size_t f = 0; f < 3; ++f) {
      constexpr std::string_view names[] = {"linear", "conv", "ReLU"};
      if (t.name != names[f]) continue;
      const KruskalWallis k = rank_test(d, y, f);
      kw = td(fixed(k.h, 2)) + td(p_text(k.p));
    }
    std::string name;
    for (const char c : t.name) name += c == 'x' ? std::string("\u00d7") : std::string(1, c);
    body += str("<tr>", tdl(name), td("1"), td(ss(t.ss)), td(fixed(t.f, 1)), td(p_text(t.p)),
                td(fixed(t.eta2, 4)), kw, "</tr>\n");
  }
  body += str("<tr class=\"sum\">", tdl("residual"), td(std::to_string(a.residual_df)),
              td(ss(a.residual_ss)), td(""), td(""), td(""), td(""), td(""), "</tr>\n");
  const std::string remark = str(a.note, a.note.empty() || note.empty() ? "" : " ", note);
  return table(caption,
               th("Term", true) + th("df") + th("SS") + th("F") + th("p") + th("\u03b7\u00b2") +
                   th("KW H") + th("KW p"),
               body, "even") +
         (remark.empty() ? "" : str("<p class=\"note\">", remark, "</p>\n"));
}

std::string heat(double v, int decimals, bool by_construction) {
  if (!std::isfinite(v)) return td("-");
  char h[16];
  std::snprintf(h, sizeof h, "%.2f", std::min(std::fabs(v), 1.0));
  return str("<td class=\"heat\" style=\"--h:", static_cast<const char*>(h), "\">",
             fixed(v, decimals), by_construction ? "*" : "", "</td>");
}

std::string layer_row(const LayerRow& r, double runs) {
  const auto mean_si = [&](int64_t v, const char* unit) {
    return cell(si(static_cast<double>(v) / runs, unit), static_cast<double>(v) / runs);
  };
  Joules j = energy::mean_of(r.joules, static_cast<int64_t>(runs));
  return str("<tr>", tdl(r.layer), tdl(std::string(name(r.type))), tdl(std::string(name(r.phase))),
             cell(grouped(std::llround(static_cast<double>(r.calls) / runs)),
                  static_cast<double>(r.calls) / runs),
             mean_si(r.flops_weighted, ""), mean_si(r.flops_all, ""), mean_si(r.bytes_read, "B"),
             mean_si(r.bytes_written, "B"), cell(si(r.ms / runs * 1e-3, "s"), r.ms / runs),
             joule_cells(j), "</tr>\n");
}

}  // namespace

std::string factor_table(const Analysis& a) {
  std::string body;
  for (const size_t f : {1, 0, 2}) {
    const FactorEffect& e = a.factors[f];
    if (e.pairs == 0) continue;
    body += str(
        "<tr>", tdl(e.name), td(str(e.low, " \u2192 ", e.high)), td(std::to_string(e.pairs)),
        td(plus_minus(mean(e.accuracy_points), sd(e.accuracy_points), 2)),
        td(percent(e.high_better, 0)), td(si(mean(e.joules), "J")), td(interval(e.joules_ratio)),
        td(si(mean(e.seconds), "s")), td(interval(e.seconds_ratio)), "</tr>\n");
  }
  if (body.empty()) return "<p>No two finished runs differ in exactly one factor.</p>\n";
  const std::string kind = str("<br>(", energy::word(a.total_energy.kind), ")");
  std::string note =
      "<p class=\"note\">Mean over pairs of runs that differ in this factor alone, same seed. "
      "\u00b1 is the standard deviation over pairs; brackets hold a 95\u00a0% paired bootstrap "
      "interval of smaller / larger.";
  if (a.has_joules && a.factors[0].exact_joules) {
    note += " Joules do not vary between seeds, so their intervals span only the other factors.";
  }
  return table("",
               th("Factor", true) + th("Levels") + th("Pairs") + th("Accuracy,<br>points") +
                   th("Larger is<br>more accurate") + th("Joules added" + kind) +
                   th("Joules ratio" + kind) + th("Time added<br>(measured)") +
                   th("Time ratio<br>(measured)"),
               body) +
         note + "</p>\n";
}

std::string anova_tables(const Analysis& a) {
  const Design d = cnn_design(*a.study);
  if (d.runs.size() < 2) return "<p>Fewer than two CNN runs: nothing to analyse.</p>\n";
  Vec joules, seconds, accuracy;
  for (const StudyRun* r : d.runs) {
    joules.push_back(r->joules.joules()), seconds.push_back(r->seconds);
    accuracy.push_back(100 * r->accuracy);
  }
  std::string out;
  if (a.has_joules) {
    out += anova_table(d, joules,
                       str("Joules per run (", escape_html(energy_origin(a)), "), SS in J\u00b2"),
                       a.modelled ? "These joules are computed from operation and byte counts: a "
                                    "repeat has the same joules by construction."
                                  : "");
  }
  out += anova_table(d, seconds, "Seconds per run (measured), SS in s\u00b2", "");
  out += anova_table(d, accuracy, "Test accuracy (measured), SS in points\u00b2", "");
  return out +
         "<p class=\"note\">Type III sums of squares, \u00b11 coding: SS = RSS(without the term) "
         "\u2212 RSS(full); \u03b7\u00b2 = SS / (all SS + residual). KW: Kruskal-Wallis rank test "
         "of the factor alone.</p>\n";
}

std::string predictor_table(const Analysis& a) {
  std::string body;
  bool star = false;
  for (const Predictor& p : a.predictors) {
    star = star || p.by_construction;
    const std::string kind = str(" (", energy::word(a.total_energy.kind), ")");
    const auto named = [&](const std::string& s) {
      return s == "joules" ? s + kind : s == "seconds" ? s + " (measured)" : s;
    };
    body += str("<tr>", tdl(named(p.target)), tdl(named(p.from)), heat(p.r2, 3, p.by_construction),
                heat(p.pearson, 3, p.by_construction), heat(p.spearman, 3, p.by_construction),
                "</tr>\n");
  }
  size_t nets = 0;
  for (const NetSummary& n : a.nets) nets += !n.accuracy.empty();
  std::string out = table("",
                          th("Predicted", true) + th("from", true) + th("R\u00b2") +
                              th("Pearson r") + th("Spearman \u03c1"),
                          body);
  out += str("<p class=\"note\">Over the means of ", nets,
             " nets; least squares with intercept. \"weighted\" counts contractions only, as "
             "most papers do; \"all\" counts every floating-point operation.");
  if (nets < 6) out += " So few points fit almost any line: read with care.";
  if (star) {
    out +=
        " * By construction: modelled joules are a weighted sum of these very counts, so these "
        "figures describe the table of energies, not the machine.";
  }
  return out + "</p>\n";
}

std::string net_table(const Analysis& a) {
  std::string body;
  for (const NetSummary& n : a.nets) {
    const double acc = mean(n.accuracy), s = mean(n.seconds), kj = n.energy.joules() / 1000;
    body += str("<tr", n.on_front ? " class=\"front\">" : ">", tdl(n.label),
                cell(str(n.runs, n.diverged ? str(" (", n.diverged, " diverged)") : ""), n.runs),
                cell(plus_minus(100 * acc, 100 * sd(n.accuracy), 2), acc),
                cell(grouped(n.params), static_cast<double>(n.params)),
                cell(si(n.flops_weighted, ""), n.flops_weighted),
                cell(si(n.flops_all, ""), n.flops_all), cell(si(n.bytes, "B"), n.bytes),
                cell(plus_minus(s, sd(n.seconds), 2), s), joule_cells(n.energy),
                cell(significant(acc / kj), acc / kj), "</tr>\n");
  }
  return table("",
               th("Net", true) + th("Runs") + th("Accuracy, %") + th("Parameters") +
                   th("FLOPs,<br>weighted") + th("FLOPs,<br>all") + th("Bytes") + th("Seconds") +
                   th("Joules \u00b1 sd") + th("Joule<br>kind", true) + th("Accuracy<br>per kJ"),
               body, "sortable");
}

std::string runs_table(const Analysis& a) {
  std::string body;
  for (const StudyRun& r : a.study->runs) {
    const double seed = static_cast<double>(r.seed);
    body += str("<tr>", tdl(label(r.key)), cell(std::to_string(r.seed), seed),
                cell(std::to_string(r.epochs), r.epochs),
                cell(grouped(r.rows), static_cast<double>(r.rows)),
                cell(fixed(100 * r.accuracy, 2), r.accuracy),
                cell(fixed(100 * r.val_accuracy, 2), r.val_accuracy),
                cell(significant(r.train_loss, 4), r.train_loss),
                cell(si(static_cast<double>(r.flops_weighted), "", 4),
                     static_cast<double>(r.flops_weighted)),
                cell(si(static_cast<double>(r.bytes), "B", 4), static_cast<double>(r.bytes)),
                cell(fixed(r.seconds, 2), r.seconds), joule_cells(r.joules),
                tdl(r.diverged ? "diverged" : ""), "</tr>\n");
  }
  return table("",
               th("Net", true) + th("Seed") + th("Epochs") + th("Rows") + th("Accuracy,<br>%") +
                   th("Validation,<br>%") + th("Train<br>loss") + th("FLOPs,<br>weighted") +
                   th("Bytes") + th("Seconds") + th("Joules \u00b1 sd") +
                   th("Joule<br>kind", true) + th("", true),
               body, "sortable");
}

std::string layer_tables(const Analysis& a) {
  std::string out;
  for (const NetSummary& n : a.nets) {
    if (!n.has_layers) continue;
    std::string body;
    for (const LayerRow& r : a.study->layers) {
      if (r.key == n.key) body += layer_row(r, n.runs);
    }
    out +=
        str("<details><summary><b>", escape_html(n.label), "</b> <span class=\"note\">",
            joules_with_kind(n.energy), ", ", si(mean(n.seconds), "s"), " per run</span></summary>",
            table("",
                  th("Layer", true) + th("Type", true) + th("Phase", true) + th("Calls") +
                      th("FLOPs,<br>weighted") + th("FLOPs,<br>all") + th("Read") + th("Written") +
                      th("Time") + th("Joules \u00b1 sd") + th("Joule<br>kind", true),
                  body, "sortable"),
            "</details>\n");
  }
  return out.empty() ? "<p>The result holds no layer rows.</p>\n" : out;
}

}  // namespace wattle::green::report
