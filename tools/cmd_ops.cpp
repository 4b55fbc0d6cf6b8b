// wattle ops [NAME]: the catalogue, and for one op where it is written and which kernel would run.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/op.h"
#include "core/simd.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

// Which kernels take f32 operands of the op's first sample on this machine. Meta operands suffice:
// no kernel looks at data to decide.
Tensors probe_operands(const OpBase& op) {
  Tensors in;
  for (const SampleIn& s : op.sample_in(0)) {
    if (s.fill == SampleIn::absent) in.push_back({});
    else
      in.push_back(Tensor::empty(s.shape,
                                 s.fill == SampleIn::integers   ? s.int_dtype
                                 : s.fill == SampleIn::booleans ? DType::boolean
                                                                : DType::f32,
                                 meta));
  }
  return in;
}

json describe(const OpBase& op) {
  json j{{"name", op.name},   {"doc", op.doc},   {"equation", op.equation},
         {"file", op.file},   {"line", op.line}, {"differentiable", op.differentiable},
         {"view", op.is_view}};
  const auto attr = op.make_attr();
  json attrs = json::object();
  for (const AttrText& a : op.attr_texts(attr.get())) attrs[a.name] = a.text;
  j["attributes"] = attrs;
  j["aliases"] = op.aliases;
  j["kernels"] = json::array();
  const Tensors in = probe_operands(op);
  for (int k = 0; k < op.kernel_count(); ++k) {
    const Refusal no = op.kernel_refusal(k, in, op.sample_attr(0));
    j["kernels"].push_back({{"name", op.kernel_name(k)}, {"accepted", !no}, {"why", no.why}});
  }
  return j;
}

void print_list() {
  for (const OpBase* op : all_ops())
    std::printf("%s  %s  %s\n", cell(op->name, 20).c_str(), cell(op->doc, 56).c_str(),
                str(op->file, ":", op->line).c_str());
  std::printf("%d ops. `wattle ops NAME` shows one.\n", static_cast<int>(all_ops().size()));
}

void print_one(const OpBase& op) {
  const json j = describe(op);
  std::printf("%s: %s\n  %s\n  %s:%d\n", op.name, op.doc, op.equation, op.file, op.line);
  std::printf("  gradient: %s\n", op.differentiable ? "yes" : "no");
  for (const auto& [name, text] : j["attributes"].items())
    std::printf("  attribute %s = %s\n", name.c_str(), text.get<std::string>().c_str());
  if (op.is_view) std::printf("  a view: shares storage, costs nothing\n");
  bool chosen = false;
  for (const auto& k : j["kernels"]) {
    const bool ok = k["accepted"];
    std::printf("  kernel %s %s\n", cell(k["name"].get<std::string>(), 10).c_str(),
                !ok       ? ("refuses: " + k["why"].get<std::string>()).c_str()
                : !chosen ? "runs (f32, first sample)"
                          : "accepts, a faster one is taken");
    chosen = chosen || ok;
  }
}

}  // namespace

void add_ops(CLI::App& app) {
  auto* c =
      app.add_subcommand("ops", "Lists the ops, or shows one: equation, source line, kernels");
  auto name = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  c->add_option("NAME", *name, "An op");
  c->add_flag("--json", *as_json, "As JSON");
  c->callback([=] {
    if (*as_json) {
      json out = json::array();
      if (!name->empty()) out = describe(find_op(*name));
      else
        for (const OpBase* op : all_ops()) out.push_back(describe(*op));
      std::printf("%s\n", out.dump(1).c_str());
    } else if (name->empty()) {
      print_list();
    } else {
      print_one(find_op(*name));
    }
  });
}

}  // namespace wattle::cli
