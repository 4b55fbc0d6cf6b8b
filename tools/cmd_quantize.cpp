// wattle quantize, wattle advise: a trained net in fewer bits.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/safetensors.h"
#include "green/calibration.h"
#include "green/format_advice.h"
#include "green/trainer.h"
#include "tools/cli.h"
#include "tools/net_options.h"
#include "tools/weights.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  std::shared_ptr<NetOptions> net;
  std::string model, data_dir, to = "int8", calibrate = "percentile", out;
  std::vector<std::string> layers, formats = {"int8", "posit8", "fp8_e4m3", "posit16"};
  int64_t calibration_rows = 1000, rows = -1;
  int qat = 0;
  double drop = 0.5, lr = 1e-4;
  bool weights_only = false, as_json = false;
};

std::shared_ptr<nn::Sequential> load_net(const Options& o) {
  auto net = green::make_net(o.net->net(), green::image_spec(o.net->dataset));
  load_weights(*net, o.model);
  return net;
}

std::map<std::string, std::string> layer_formats(const std::vector<std::string>& items) {
  std::map<std::string, std::string> out;
  for (const std::string& item : items) {
    const size_t eq = item.find('=');
    if (eq == item.npos || eq == 0)
      throw value_error(str("--layers: found '", item, "', expected NAME=FORMAT"));
    out[item.substr(0, eq)] = item.substr(eq + 1);
  }
  return out;
}

json to_json(const green::Inference& i) {
  return {{"accuracy", i.accuracy},
          {"weight_bytes", i.weight_bytes},
          {"bytes", i.bytes},
          {"flops", i.flops},
          {"iops", i.iops},
          {"seconds", i.seconds},
          {"joules", json::parse(i.joules.json())}};
}

void print_line(const char* title, const green::Inference& i) {
  std::printf("%s%9.4f%12s%12s%10.2f  %s\n", cell(title, 12).c_str(), i.accuracy,
              si(double(i.weight_bytes)).c_str(), si(double(i.bytes)).c_str(), i.seconds,
              i.joules.str().c_str());
}
void print_head(const char* what) {
  std::printf("%s%9s%12s%12s%10s  joules of %s\n", cell("", 12).c_str(), "accuracy", "weights B",
              "moved B", "seconds", what);
}

void save(const nn::Module& net, const std::string& path, const quant::QuantizeConfig& c) {
  io::SafetensorsFile file;
  for (const nn::Named& n : net.state_dict()) file.add(n.name, n.tensor);
  file.metadata["wattle.quantized"] = c.to;
  io::write_safetensors(path, file);
}

// Trains on with int8 roundings in the forward pass; the ranges that it saw are those of the
// layers.
quant::InputRanges train_on(const Options& o, nn::Sequential& net, const data::Dataset& train) {
  green::QatRanges qat = green::apply_int8_qat(net);
  const auto optimizer = nn::make_optimizer("adam", net.named_parameters(), o.lr);
  data::DataLoader loader(train, {.batch = 100, .seed = 1});
  net.train();
  for (int e = 0; e < o.qat; ++e)
    while (std::optional<data::Batch> b = loader.next())
      green::train_step(net, *optimizer, b->images, b->labels);
  for (const nn::Module::Child& c : net.children()) c.module->hooks = {};
  return qat.ranges();
}

void quantize(const Options& o) {
  const quant::QuantizeConfig config{o.to, layer_formats(o.layers), !o.weights_only};
  bool int8 = o.to == "int8";
  for (const auto& [name, format] : config.layers) int8 = int8 || format == "int8";
  if (o.qat > 0 && o.to != "int8")
    throw value_error(str("--qat: found --to ", o.to, ", expected int8"));
  if (!o.out.empty()) const io::AtomicFile tried(o.out);  // found now, not after the work
  data::Split split = data::load(o.net->dataset, o.data_dir);
  const auto net = load_net(o);
  green::EnergySession energy(0);
  const green::Inference before = green::infer(*net, split.test, energy);
  quant::InputRanges ranges;
  if (o.qat > 0) ranges = train_on(o, *net, split.train);
  else if (int8) ranges = green::calibrate(*net, split.train, o.calibrate, o.calibration_rows);
  quant::quantize_(*net, config, ranges);
  const green::Inference after = green::infer(*net, split.test, energy);
  if (!o.out.empty()) save(*net, o.out, config);
  if (o.as_json) {
    std::printf(
        "%s\n",
        json{{"to", o.to}, {"before", to_json(before)}, {"after", to_json(after)}}.dump(1).c_str());
    return;
  }
  print_head("the test set");
  print_line("f32", before);
  print_line(o.to.c_str(), after);
  if (after.seconds > before.seconds && o.to != "int8")
    std::printf("%s is emulated here: it saves bytes, not time and not compute joules\n",
                o.to.c_str());
}

void advise(const Options& o) {
  data::Split split = data::load(o.net->dataset, o.data_dir);
  // The last fifth of the training images judges, the others calibrate; the test set does neither.
  const int64_t rows = split.train.rows(), cut = rows - rows / 5;
  data::Dataset calibration = split.train, validation = split.train;
  calibration.images = slice(split.train.images, 0, 0, cut);
  calibration.labels = slice(split.train.labels, 0, 0, cut);
  validation.images = slice(split.train.images, 0, cut, rows);
  validation.labels = slice(split.train.labels, 0, cut, rows);
  green::EnergySession energy(0);
  const green::Advice a = green::advise([&] { return load_net(o); }, calibration, validation,
                                        o.drop, o.formats, energy);
  if (o.as_json) {
    json layers = json::object(), tried = json::array();
    for (const auto& [name, format] : a.config.layers) layers[name] = format;
    for (const auto& t : a.tried)
      tried.push_back({{"layer", t.layer},
                       {"format", t.format},
                       {"kept", t.kept},
                       {"result", to_json(t.result)}});
    std::printf("%s\n", json{{"drop", o.drop},
                             {"f32", to_json(a.f32)},
                             {"chosen", to_json(a.chosen)},
                             {"layers", layers},
                             {"search", to_json(a.search)},
                             {"tried", tried}}
                            .dump(1)
                            .c_str());
    return;
  }
  print_head("the validation images");
  print_line("f32", a.f32);
  print_line("advised", a.chosen);
  std::string layers;
  for (const auto& [name, format] : a.config.layers) {
    std::printf("  %s %s\n", cell(name, 10).c_str(), format.c_str());
    layers += (layers.empty() ? "" : ",") + name + "=" + format;
  }
  std::printf("the search: %zu trials, %.1f s, %s\n", a.tried.size(), a.search.seconds,
              a.search.joules.str().c_str());
  if (layers.empty()) std::printf("no format stays within %g points: leave it in f32\n", o.drop);
  else std::printf("wattle quantize --to f32 --layers %s does it\n", layers.c_str());
}

void add_common(CLI::App& c, Options& o) {
  o.net = add_net_options(c);
  c.add_option("--model", o.model, "Weights of the trained net, safetensors")->required();
  c.add_option("--data-dir", o.data_dir, "Folder of the data set");
  c.add_flag("--json", o.as_json, "Result as JSON");
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto* c = app.add_subcommand("quantize", "Puts a trained net into fewer bits");
  auto o = std::make_shared<Options>();
  add_common(*c, *o);
  c->add_option("--to", o->to, "int8, or a coded type: fp8_e4m3, posit8, posit16, mxfp4, int4, ...")
      ->capture_default_str();
  c->add_option("--layers", o->layers, "Other formats for single layers, NAME=FORMAT,...")
      ->delimiter(',');
  c->add_option("--calibrate", o->calibrate,
                "How ranges follow from calibration data: minmax, ema, percentile, mse, entropy")
      ->capture_default_str();
  c->add_option("--calibration-rows", o->calibration_rows, "Training images for it")
      ->capture_default_str();
  c->add_option("--qat", o->qat, "Epochs of training with int8 roundings first (int8 only)")
      ->capture_default_str();
  c->add_option("--lr", o->lr, "Learning rate of --qat")->capture_default_str();
  c->add_flag("--weights-only", o->weights_only, "Activations stay f32 (coded types)");
  c->add_option("--out", o->out, "Where the quantised weights go, safetensors");
  c->callback([o] { quantize(*o); });
}

void add_advise(CLI::App& app) {
  auto* c = app.add_subcommand("advise", "Formats per layer within an allowed drop of accuracy");
  auto o = std::make_shared<Options>();
  add_common(*c, *o);
  c->add_option("--drop", o->drop, "Allowed drop in points of percent")->capture_default_str();
  c->add_option("--formats", o->formats, "Formats to try for each layer, in this order")
      ->delimiter(',')
      ->capture_default_str();
  c->callback([o] { advise(*o); });
}

}  // namespace wattle::cli
