// report.html of the format study.
#include <cmath>

#include "core/error.h"
#include "energy/format_hardware.h"
#include "green/format_study.h"
#include "green/precision.h"
#include "green/report_parts.h"
#include "green/report_svg.h"
#include "green/report_text.h"
#include "green/run_device.h"
#include "quant/formats.h"

namespace wattle::green {
namespace {

std::string title_of(const std::string& net) {
  return net == "lenet5" ? "LeNet-5" : net == "cnn31" ? "CNN 3,1" : net;
}

const FormatCell* find(const std::vector<FormatCell>& cells, const std::string& net,
                       const std::string& precision) {
  for (const FormatCell& c : cells)
    if (c.net == net && c.precision == precision) return &c;
  return nullptr;
}

std::string about(const std::string& precision) {
  if (precision == "int8_ptq") return "the f32 net, quantised after its training";
  for (const Precision& p : precisions())
    if (p.name == precision) return p.about;
  return "";
}

std::string points(double fraction) { return fixed(100 * fraction, 2); }

// Against f32: a difference is one only where it leaves the spread of the seeds.
std::string verdict(const FormatCell& c, const FormatCell& f32) {
  if (c.precision == "f32") return "";
  const double d = c.mean - f32.mean;
  if (c.accuracy.size() < 5 || f32.accuracy.size() < 5) return "too few seeds to say";
  if (c.mean < 0.2) return "fails: near chance";
  if (std::fabs(d) <= f32.sd) return "no difference within one sd";
  return str(d > 0 ? "+" : "", points(d), " points");
}

std::string hardware_text(const FormatRun& r) {
  if (!(r.hardware_hi > 0)) return "-";
  return str(significant(r.hardware_lo), "\u2013", significant(r.hardware_hi), " J");
}

std::string table(const std::vector<FormatCell>& cells, const std::string& net) {
  const FormatCell* f32 = find(cells, net, "f32");
  std::string out =
      "<div class=\"scroll\"><table>\n<thead><tr><th class=\"l\">precision</th><th>accuracy %"
      "</th><th>sd</th><th>seeds</th><th class=\"l\">against f32</th><th>s a run</th><th>moved"
      "</th><th>weights</th><th>integer work</th><th>on maxpos / largest</th><th>on minpos / "
      "smallest</th><th>joules here</th><th>with hardware for it</th></tr></thead>\n<tbody>\n";
  for (const FormatCell& c : cells) {
    if (c.net != net) continue;
    const FormatRun& r = c.first;
    const auto share = [&](int64_t n) {
      return r.rounding.n > 0 ? percent(double(n) / double(r.rounding.n), 3) : std::string("-");
    };
    out +=
        str("<tr><th scope=\"row\" class=\"l\" title=\"", escape_html(about(c.precision)), "\">",
            c.precision, "</th><td>", points(c.mean), "</td><td>",
            c.accuracy.size() > 1 ? points(c.sd) : "-", "</td><td>", c.accuracy.size(),
            "</td><td class=\"l\">", f32 ? verdict(c, *f32) : "", "</td><td>", fixed(c.seconds, 1),
            "</td><td>", si(double(r.bytes), "B"), "</td><td>", si(double(r.weight_bytes), "B"),
            "</td><td>", r.executed_iops ? si(double(r.executed_iops), "op") : "-", "</td><td>",
            share(r.rounding.to_max), "</td><td>", share(r.rounding.to_min), "</td><td>",
            joules_text(r.joules), "</td><td>", hardware_text(r), "</td></tr>\n");
  }
  return out + "</tbody></table></div>\n";
}

std::string chart(const std::vector<FormatCell>& cells, const std::string& net) {
  std::vector<ScatterPoint> points;
  for (const FormatCell& c : cells)
    if (c.net == net)
      points.push_back({.label = c.precision,
                        .tooltip = str(c.precision, ": ", fixed(100 * c.mean, 2), " %"),
                        .x = double(c.first.bytes) * 1e-9,
                        .y = c.mean,
                        .y_sd = c.sd,
                        .css = "p-cnn"});
  return scatter_svg(str("Accuracy against gigabytes moved in training, ", title_of(net)),
                     "moved in training", "GB", points);
}

std::string item(const std::string& s) { return "<li>" + s + "</li>\n"; }

// Where posits win and where they do not, from the runs and from rounding itself.
std::string conclusions(const std::vector<FormatCell>& cells,
                        const std::vector<std::string>& nets) {
  std::string out = "<ul>\n";
  for (const std::string& net : nets) {
    const FormatCell *f32 = find(cells, net, "f32"), *p16 = find(cells, net, "posit16"),
                     *mixed = find(cells, net, "posit8_mixed"), *p8 = find(cells, net, "posit8"),
                     *fp8 = find(cells, net, "fp8"), *qat = find(cells, net, "int8_qat");
    if (!f32) continue;
    const std::string t = title_of(net);
    if (p16)
      out += item(str(t, ": posit16 reaches ", points(p16->mean), " %, f32 ", points(f32->mean),
                      " \u00b1 ", points(f32->sd), " %: ", verdict(*p16, *f32), "."));
    if (mixed)
      out +=
          item(str(t, ": posit8 with a posit16 optimiser and loss reaches ", points(mixed->mean),
                   " %, ", points(std::fabs(mixed->mean - f32->mean)), " points ",
                   mixed->mean < f32->mean ? "below" : "above", " f32",
                   fp8 ? str("; FP8 with f32 master weights ", points(fp8->mean), " %") : "", "."));
    if (p8)
      out += item(str(t, ": posit8 everywhere reaches ", points(p8->mean),
                      " %. An optimiser step smaller than half a step of the format leaves a "
                      "weight as it is, and most steps are: that is what master weights are for."));
    if (qat && qat->mean > f32->mean + f32->sd)
      out += item(str(t, ": int8 training ends ", points(qat->mean - f32->mean),
                      " points above f32. Eight bits do not do that: its ranges follow a moving "
                      "average and clip the largest activations, and clipping alone trains this "
                      "net better; with ranges from minimum to maximum the gain is gone."));
  }
  const auto db = [](const char* format, double sigma) {
    return fixed(quant::sqnr_db(quant::format_from_name(format), sigma, 1 << 14), 1);
  };
  out += item(str("Rounding alone, N(0, 1): posit16 keeps ", db("posit16", 1), " dB, fp16 ",
                  db("fp16", 1), ", bf16 ", db("bf16", 1),
                  ". Sixteen-bit posits win while numbers lie near 1."));
  out += item(str("At 8 bits the standard's posit8 keeps ", db("posit8", 1), " dB and E4M3 ",
                  db("fp8_e4m3", 1), ": a tie. At \u03c3 = 0.02 it is ", db("posit8", 0.02),
                  " against ", db("fp8_e4m3", 0.02),
                  ", and only for badly scaled numbers (\u03c3 = 0.001: ", db("posit8", 0.001),
                  " against ", db("fp8_e4m3", 0.001), ") do posits come out ahead."));
  return out + "</ul>\n";
}

std::string energy_paragraph(const FormatStudy& s, const std::vector<FormatCell>& cells) {
  std::string slower;
  for (const std::string& net : s.options.nets) {
    const FormatCell *f32 = find(cells, net, "f32"), *p = find(cells, net, "posit16");
    if (f32 && p && f32->seconds > 0)
      slower +=
          str(slower.empty() ? " Posit16 training takes " : ", ",
              significant(p->seconds / f32->seconds, 3), " times f32's time on ", title_of(net));
  }
  return str(
      "<p><b>No format saves compute joules here.</b> Formats other than f32 and int8 are "
      "emulated: codes become floats, are computed with, and are rounded back; that integer "
      "work is counted and priced beside the float work.",
      slower, slower.empty() ? "" : ".",
      " What a format saves on this machine is bytes. The last column is a range from "
      "published figures for hardware that has the format (",
      escape_html(energy::format_hardware(DType::posit16).source),
      " for posits); it is not part of any sum. ", escape_html(s.energy), "</p>\n");
}

}  // namespace

std::string format_study_html(const FormatStudy& s) {
  const std::vector<FormatCell> cells = cells_of(s);
  const FormatStudyOptions& o = s.options;
  const std::string title = "What number formats do to training: " + dataset_title(o.dataset);
  std::string out = str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
                        "<title>", title, "</title>\n<style>", report::css,
                        "</style>\n</head>\n<body>\n<main>\n<h1>", title, "</h1>\n");
  out += str("<p>", o.epochs, " epochs, batches of ", o.batch, ", ", o.optimizer, " at ", o.lr,
             ", ", o.schedule, " schedule, ", o.seeds,
             " seeds; every precision starts from the same "
             "weights and sees the same batches. ",
             escape_html(host_text(s.cpu, s.isa, s.device)), ", ", s.threads,
             s.threads == 1 ? " thread" : " threads", ".</p>\n");
  out += energy_paragraph(s, cells);
  out += "<section><h2>Where posits win and where they do not</h2>\n" + conclusions(cells, o.nets) +
         "</section>\n";
  for (const std::string& net : o.nets) {
    bool any = false;
    for (const FormatCell& c : cells) any = any || c.net == net;
    if (!any) continue;
    out += str("<section><h2>", title_of(net), "</h2>\n", chart(cells, net), table(cells, net),
               "</section>\n");
  }
  return out +
         "<footer>Data: runs.csv and study.json beside this file.</footer>\n</main>\n"
         "</body>\n</html>\n";
}

}  // namespace wattle::green
