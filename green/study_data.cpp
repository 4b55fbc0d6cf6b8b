#include "green/study_data.h"

#include <map>

#include "core/error.h"

namespace wattle::green {
namespace {

constexpr std::array<std::string_view, layer_type_count> type_names = {
    "conv", "linear", "relu", "batch_norm", "pool", "loss", "optimizer", "data", "other"};
constexpr std::array<std::string_view, phase_count> phase_names = {"forward", "backward",
                                                                   "optimizer", "data"};

template <class E, size_t N>
E from_name(const char* what, const std::array<std::string_view, N>& names, std::string_view s) {
  std::string known;
  for (size_t i = 0; i < N; ++i) {
    if (names[i] == s) return static_cast<E>(i);
    known += str(i ? ", " : "", names[i]);
  }
  throw value_error(str(what, ": found '", s, "', expected one of ", known));
}

template <class T>
void note_difference(std::string& out, const char* field, const T& before, const T& now) {
  // NaN (not set) equals NaN
  if (before == now || (before != before && now != now) || !out.empty()) return;
  out = str(field, ": ", before, " before, ", now, " now");
}

struct Totals {
  int64_t flops_weighted = 0, flops_all = 0, bytes = 0, uj = 0;
  bool rows = false, joules = true;
};

void note_sum(std::vector<std::string>& out, const NetKey& k, const char* what, int64_t layers,
              int64_t runs) {
  if (layers == runs) return;
  out.push_back(str(label(k), ": the layers hold ", layers, " ", what, ", the runs ", runs));
}

}  // namespace

std::string_view name(LayerType t) { return type_names.at(static_cast<size_t>(t)); }
LayerType layer_type_from_name(std::string_view s) {
  return from_name<LayerType>("layer type", type_names, s);
}
Phase phase_from_name(std::string_view s) { return from_name<Phase>("phase", phase_names, s); }

std::string label(const NetKey& k) {
  if (k.net == "densepoly") return str("DensePoly ", k.linear);
  if (k.net == "denselinear") return str("DenseLinear ", k.linear);
  if (k.net == "cnn") return str("CNN ", k.linear, ",", k.conv, k.relu ? " ReLU" : "");
  return str(k.net, " ", k.linear, ",", k.conv, k.relu ? " ReLU" : "");
}

bool has_run(const StudyResult& s, const NetKey& key, uint64_t seed) {
  for (const StudyRun& r : s.runs) {
    if (r.key == key && r.seed == seed) return true;
  }
  return false;
}

void add_layer_row(StudyResult& s, const LayerRow& row) {
  for (LayerRow& r : s.layers) {
    if (r.key != row.key || r.layer != row.layer || r.type != row.type || r.phase != row.phase) {
      continue;
    }
    r.calls += row.calls;
    r.flops_weighted += row.flops_weighted, r.flops_all += row.flops_all;
    r.bytes_read += row.bytes_read, r.bytes_written += row.bytes_written;
    r.ms += row.ms;
    r.joules = energy::sum({r.joules, row.joules});
    return;
  }
  s.layers.push_back(row);
}

std::string settings_difference(const StudySettings& a, const StudySettings& b) {
  std::string d;
  note_difference(d, "dataset", a.dataset, b.dataset);
  note_difference(d, "protocol", a.protocol, b.protocol);
  note_difference(d, "epochs", a.epochs, b.epochs);
  note_difference(d, "batch", a.batch, b.batch);
  note_difference(d, "rows", a.rows, b.rows);
  note_difference(d, "test rows", a.test_rows, b.test_rows);
  note_difference(d, "optimizer", a.optimizer, b.optimizer);
  note_difference(d, "lr", a.lr, b.lr);
  note_difference(d, "energy source", a.energy_source, b.energy_source);
  note_difference(d, "version", a.version, b.version);
  note_difference(d, "cpu", a.cpu, b.cpu);
  note_difference(d, "simd", a.simd, b.simd);
  note_difference(d, "threads", a.threads, b.threads);
  note_difference(d, "device", a.device, b.device);
  return d;
}

std::vector<std::string> check_conservation(const StudyResult& s) {
  std::map<NetKey, Totals> layers, runs;
  for (const LayerRow& r : s.layers) {
    Totals& t = layers[r.key];
    t.rows = true;
    t.flops_weighted += r.flops_weighted, t.flops_all += r.flops_all;
    t.bytes += r.bytes_read + r.bytes_written;
    t.uj += r.joules.uj, t.joules = t.joules && r.joules.available();
  }
  for (const StudyRun& r : s.runs) {
    Totals& t = runs[r.key];
    t.flops_weighted += r.flops_weighted, t.flops_all += r.flops_all;
    t.bytes += r.bytes;
    t.uj += r.joules.uj, t.joules = t.joules && r.joules.available();
  }
  std::vector<std::string> out;
  for (const auto& [key, l] : layers) {
    const Totals& r = runs[key];
    note_sum(out, key, "FLOPs (weighted)", l.flops_weighted, r.flops_weighted);
    note_sum(out, key, "FLOPs (all)", l.flops_all, r.flops_all);
    note_sum(out, key, "bytes", l.bytes, r.bytes);
    if (l.joules && r.joules) note_sum(out, key, "uJ", l.uj, r.uj);
  }
  return out;
}

}  // namespace wattle::green
