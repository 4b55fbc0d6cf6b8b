// wattle op NAME: runs one op on .npy arrays, so that anybody can check it against any oracle.
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/cuda.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "data/npy.h"
#include "energy/table_model.h"
#include "green/calibrate.h"
#include "green/row_joules.h"
#include "ops/ops.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Request {
  std::string op, kernel, out;
  std::vector<std::string> in, attrs, grad;  ///< attrs as name=value
  std::string dtype;                         ///< of operands that hold codes
  double replay_s = 0;                       ///< repeat the op for so long and measure it
  std::string device = "cpu";
};

struct Taken {
  Cost cost, executed;
  std::string kernel;
  double ns = 0;
};

// Keeps the last call: apply may insert copies of strided operands before it.
struct LastCall final : Recorder {
  explicit LastCall(Taken& t) : taken(t) {}
  void record(const Call& c) override { taken = {c.cost, c.executed, c.kernel, c.ns}; }
  Taken& taken;
};

json to_json(const Cost& c) {
  return {{"flops", c.flops()},   {"flops_weighted", c.flops_weighted()},
          {"mac", c.mac},         {"add", c.add},
          {"mul", c.mul},         {"cmp", c.cmp},
          {"special", c.special}, {"iop", c.iop},
          {"bytes_read", c.read}, {"bytes_written", c.written}};
}

// sum over results of <result, upstream>: its gradient is the upstream-weighted one.
Tensor weighted(const OpBase& op, const Tensors& out, const std::vector<std::string>& grad) {
  Tensor total;
  size_t used = 0;
  for (size_t o = 0; o < out.size(); ++o) {
    if (!is_floating(out[o].dtype()) || op.aux_outs.has(static_cast<int>(o))) continue;
    if (used == grad.size()) break;
    Tensor gy = io::read_npy(grad[used++]).to(out[o].device());
    // A file may hold the gradient in f32 where the result is f64: nothing is lost.
    if (gy.dtype() == DType::f32 && out[o].dtype() == DType::f64) gy = cast(gy, DType::f64);
    if (gy.shape() != out[o].shape() || gy.dtype() != out[o].dtype())
      throw shape_error(str("--grad ", grad[used - 1], ": found ", gy, ", expected ", out[o]));
    const Tensor part = sum(mul(out[o], gy));
    total = total ? add(total, part) : part;
  }
  if (used < grad.size() || !total)
    throw value_error(str(op.name, ": ", static_cast<int64_t>(grad.size()),
                          " upstream gradients given, the op has ", static_cast<int64_t>(used),
                          " floating results"));
  return total;
}

// One call, measured: repeated until the meter has moved often enough to be believed.
json replay_json(const std::function<void()>& once, double seconds) {
  const auto meter = energy::Meter::probe(energy::probe_options_from_environment());
  const energy::IdleBaseline idle = energy::measure_idle(*meter, 2);
  const green::Replay r = green::replay(*meter, once, seconds, idle);
  const double n = static_cast<double>(r.repeats);
  return {{"repeats", r.repeats},
          {"seconds", r.seconds},
          {"joules_a_call", r.total.available() ? json(r.total.joules() / n) : json()},
          {"joules", json::parse(r.total.json())},
          {"joules_net_a_call", json::parse(r.net.json())},
          {"note", r.note},
          {"text", r.total.str()}};
}

// Unsigned integers and bytes are codes where --dtype names a coded type; other operands, such as
// indices, are what their file says.
Tensor read_operand(const std::string& path, const std::string& dtype) {
  if (path == "-") return {};
  if (dtype.empty()) return io::read_npy(path);
  const DType t = dtype_from_name(dtype);
  if (!is_coded(t))
    throw dtype_error(str("--dtype: found ", dtype, ", expected a type of codes (posit16, ...); a ",
                          dtype, " file says so itself"));
  return io::read_npy(path, t);
}

json rounding_json(const CastStats& s) {
  if (s == CastStats{}) return {};
  return {{"n", s.n},           {"inexact", s.inexact},  {"to_max", s.to_max},
          {"to_min", s.to_min}, {"to_zero", s.to_zero},  {"nar", s.nar},
          {"proven", s.proven}, {"to_quire", s.to_quire}};
}

json run(const Request& r) {
  const OpBase& op = find_op(r.op);
  const auto attr = op.make_attr();
  for (const std::string& a : r.attrs) {
    const size_t eq = a.find('=');
    if (eq == std::string::npos) throw value_error(str("--attr ", a, ": expected name=value"));
    op.set_attr(attr.get(), a.substr(0, eq), a.substr(eq + 1));
  }
  Tensors in;
  const Device device = cuda::device_from_name(r.device);
  const DefaultDevice here(device);
  for (const std::string& path : r.in) {
    const Tensor t = read_operand(path, r.dtype);
    in.push_back(t ? t.to(device) : t);
  }
  std::unique_ptr<ForceKernel> force;
  if (!r.kernel.empty()) force = std::make_unique<ForceKernel>(op.name, r.kernel);
  if (!r.grad.empty() && !op.differentiable)
    throw autograd_error(str(op.name, ": has no gradient"));

  Tape tape;
  if (!r.grad.empty())
    for (const Tensor& t : in)
      if (t && is_floating(t.dtype())) tape.watch(t);
  Tensors out;
  Taken taken;
  {
    LastCall recorder(taken);
    counters().clear();
    out = apply(op, in, attr.get());
  }
  const CastStats rounding = counters().total().rounding;
  io::make_folders(r.out);
  for (size_t o = 0; o < out.size(); ++o)
    io::write_npy(str(r.out, "/out", static_cast<int64_t>(o), ".npy"), contiguous(out[o]).to(cpu));
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] && op.writes.has(static_cast<int>(i)))
      io::write_npy(str(r.out, "/in", static_cast<int64_t>(i), ".npy"), in[i].to(cpu));
  if (!r.grad.empty()) {
    const Tensors g = tape.gradient(weighted(op, out, r.grad), in);
    for (size_t i = 0; i < g.size(); ++i)
      if (g[i])
        io::write_npy(str(r.out, "/grad", static_cast<int64_t>(i), ".npy"),
                      contiguous(g[i]).to(cpu));
  }
  json replayed;
  const auto once = [&] {
    apply(op, in, attr.get());
    cuda::synchronize();
  };
  if (r.replay_s > 0) replayed = replay_json(once, r.replay_s);
  // Codes are priced by what was executed; plain types by the convention of their cost.
  DType dtype = in.empty() || !in[0] ? DType::f32 : in[0].dtype();
  if (!is_coded(dtype) && !out.empty() && is_coded(out[0].dtype())) dtype = out[0].dtype();
  const energy::Femtojoules f =
      green::energy_of(is_coded(dtype) ? taken.executed : taken.cost, dtype, energy::horowitz45());
  const Joules j = f.available ? Joules{energy::microjoules(f.fj), f.sd_fj * 1e-9,
                                        JouleKind::modelled_table, energy::horowitz45().name}
                               : Joules{0, 0, JouleKind::unavailable, energy::horowitz45().name};
  return {{"op", op.name},
          {"kernel", taken.kernel},
          {"cost", to_json(taken.cost)},
          {"executed", to_json(taken.executed)},
          {"ns", taken.ns},
          {"rounding", rounding_json(rounding)},
          {"joules", json::parse(j.json())},
          {"replay", replayed}};
}

std::string rounding_text(const json& j) {
  const json& r = j["rounding"];
  const auto n = [&](const char* key) { return r[key].get<int64_t>(); };
  std::string s;
  if (n("n") > 0) {
    s = str("rounded ", n("n"), " numbers:");
    for (const char* k : {"inexact", "to_max", "to_min", "to_zero", "nar"})
      s += str(" ", k, " ", n(k));
  }
  if (n("proven") + n("to_quire") > 0)
    s += str(s.empty() ? "" : "; ", "sums: proven ", n("proven"), " to_quire ", n("to_quire"));
  return s;
}

Request parse_line(const std::string& line, int number) {
  try {
    const json j = json::parse(line);
    Request r{.op = j.at("op"), .out = j.at("out")};
    if (j.contains("dtype")) r.dtype = j["dtype"];
    if (j.contains("device")) r.device = j["device"];
    if (j.contains("kernel") && j["kernel"].is_string()) r.kernel = j["kernel"];
    for (const auto& p : j.at("in")) r.in.push_back(p.is_null() ? "-" : p.get<std::string>());
    if (j.contains("attr"))
      for (const auto& [k, v] : j["attr"].items())
        r.attrs.push_back(k + "=" + (v.is_string() ? v.get<std::string>() : v.dump()));
    if (j.contains("grad") && j["grad"].is_string()) r.grad.push_back(j["grad"]);
    if (j.contains("grad") && j["grad"].is_array())
      for (const auto& p : j["grad"])
        if (p.is_string()) r.grad.push_back(p);
    return r;
  } catch (const json::exception& e) {
    throw io_error(str("--batch, line ", number, ": ", e.what()));
  }
}

// One request per line; a request that fails prints its error and the others still run.
void run_batch(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw io_error(str(path, ": cannot be opened"));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    json answer;
    try {
      answer = run(parse_line(line, number));
    } catch (const error& e) { answer = {{"error", e.what()}}; }
    std::printf("%s\n", answer.dump().c_str());
  }
}

}  // namespace

void add_op(CLI::App& app) {
  auto* c = app.add_subcommand("op", "Runs one op on .npy arrays");
  auto r = std::make_shared<Request>();
  auto batch = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  c->add_option("NAME", r->op, "An op; `wattle ops` lists them");
  c->add_option("--in", r->in, "Operands, .npy files; - for an optional one that is left out");
  c->add_option("--dtype", r->dtype,
                "Operands are codes of this type: posit16, fp8_e4m3, mxfp4, ...");
  c->add_option("--device", r->device, "cpu, cuda or cuda:N")->capture_default_str();
  c->add_option("--attr", r->attrs, "Attributes, name=value; lists as 1,2 and nothing as none");
  c->add_option("--grad", r->grad, "Upstream gradients, one .npy for each floating result");
  c->add_option("--kernel", r->kernel, "Run this kernel, or say why it refuses");
  c->add_option("--out", r->out,
                "Folder for out0.npy, ..., grad0.npy, ... and operands written in place");
  c->add_option("--replay", r->replay_s,
                "Repeat the op for at least so many seconds and measure a call's joules")
      ->check(not_negative());
  c->add_option("--batch", *batch, "A file with one request per line, as JSON");
  c->add_flag("--json", *as_json, "Print cost and kernel as JSON");
  c->callback([=] {
    if (!batch->empty()) return run_batch(*batch);
    if (r->op.empty()) throw value_error("op: NAME is missing (`wattle ops` lists them)");
    if (r->out.empty()) throw value_error("op: --out DIR is missing");
    const json j = run(*r);
    if (*as_json) std::printf("%s\n", j.dump(1).c_str());
    else
      std::printf(
          "%s:%s  %s FLOP, %s bytes\n", r->op.c_str(), j["kernel"].get<std::string>().c_str(),
          si(j["cost"]["flops"].get<double>()).c_str(),
          si(j["cost"]["bytes_read"].get<double>() + j["cost"]["bytes_written"].get<double>())
              .c_str());
    if (!*as_json && !j["rounding"].is_null()) std::printf("%s\n", rounding_text(j).c_str());
    if (*as_json || j["replay"].is_null()) return;
    const json& m = j["replay"];
    std::printf("%lld calls of %.3g s: %s%s\n", m["repeats"].get<long long>(),
                m["seconds"].get<double>(), m["text"].get<std::string>().c_str(),
                m["note"].get<std::string>().empty()
                    ? str(", ", m["joules_a_call"].get<double>(), " J a call").c_str()
                    : str(" (", m["note"].get<std::string>(), ")").c_str());
  });
}

}  // namespace wattle::cli
