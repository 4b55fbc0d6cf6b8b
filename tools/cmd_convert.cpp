// wattle convert: a trained net of ReLU layers as a net that spikes.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/accuracy.h"
#include "snn/convert.h"
#include "tools/cli.h"
#include "tools/net_options.h"
#include "tools/weights.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  std::shared_ptr<NetOptions> net;
  std::string model, data_dir;
  std::vector<int64_t> steps = {8, 16, 32, 50};
  snn::ConvertOptions convert;
  int64_t calibration_rows = 1000, rows = 0;
  bool from_zero = false, as_json = false;
};

void run(const Options& o) {
  const data::Split split = data::load(o.net->dataset, o.data_dir);
  const auto net = green::make_net(o.net->net(), green::image_spec(o.net->dataset));
  load_weights(*net, o.model);
  net->eval();
  // Scales come from training images; the test set judges alone.
  const Tensor images = to_float(data::subset(split.train, o.calibration_rows, 1).images);
  const int64_t all = split.test.rows();
  const data::Dataset test =
      green::rows_of(split.test, 0, o.rows > 0 ? std::min(o.rows, all) : all);
  json j{{"net", green::accuracy_of(*net, test, 200)}, {"images", test.rows()}};
  if (!o.as_json)
    std::printf("the net itself: %.2f %% of %lld test images\n", 100 * j["net"].get<double>(),
                static_cast<long long>(test.rows()));
  for (const int64_t steps : o.steps) {
    snn::ConvertOptions c = o.convert;
    c.steps = steps, c.half_threshold = !o.from_zero;
    const auto spiking = snn::convert(*net, images, c);
    const double a = green::accuracy_of(*spiking, test, 200);
    j["spiking"].push_back({{"steps", steps},
                            {"accuracy", a},
                            {"rates", spiking->rates()},
                            {"scales", spiking->scales()}});
    if (o.as_json) continue;
    std::printf("%4lld steps: %.2f %%, mean rates", static_cast<long long>(steps), 100 * a);
    for (const double r : spiking->rates()) std::printf(" %.3f", r);
    std::printf("\n");
    std::fflush(stdout);
  }
  if (o.as_json) std::printf("%s\n", j.dump(1).c_str());
}

}  // namespace

void add_convert(CLI::App& app) {
  auto* c = app.add_subcommand("convert", "A trained net as a spiking one, without training");
  auto o = std::make_shared<Options>();
  o->net = add_net_options(*c);
  c->add_option("--model", o->model, "Trained weights, .safetensors")->required();
  c->add_option("--data-dir", o->data_dir, "Folder of the data set");
  c->add_option("--steps", o->steps, "Steps of an inference, several to compare")
      ->delimiter(',')
      ->capture_default_str();
  c->add_option("--percentile", o->convert.percentile,
                "Of a layer's positive activations: what becomes one spike a step")
      ->capture_default_str();
  c->add_flag("--from-zero", o->from_zero, "Neurons start at 0, not halfway to the threshold");
  c->add_option("--calibration-rows", o->calibration_rows, "Training images that set the scales")
      ->capture_default_str()
      ->check(positive());
  c->add_option("--rows", o->rows, "Test images (default: all)")->check(positive());
  c->add_flag("--json", o->as_json, "Result as JSON");
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
