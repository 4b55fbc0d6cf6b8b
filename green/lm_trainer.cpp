#include "green/lm_trainer.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "data/bytes.h"
#include "data/safetensors.h"
#include "green/run_device.h"
#include "green/uncounted.h"
#include "moe/exchange.h"
#include "moe/json_fields.h"

namespace wattle::green {

void check(const LmTrainOptions& o) {
  const auto positive = [](const char* name, double v) {
    if (!(v > 0)) throw value_error(str("language model: ", name, ": found ", v, ", expected > 0"));
  };
  positive("steps", static_cast<double>(o.steps)), positive("batch", static_cast<double>(o.batch));
  positive("length", static_cast<double>(o.length)), positive("lr", o.lr), positive("clip", o.clip);
  if (o.length > o.model.context)
    throw value_error(str("language model: length: found ", o.length, ", expected at most ",
                          o.model.context, ", the context"));
  if (o.dtype != DType::f32 && o.dtype != DType::f64)
    throw value_error(str("language model: dtype: found ", name(o.dtype), ", expected f32 or f64"));
}

double lm_schedule(const LmTrainOptions& o, int64_t step) {
  const double warm = nn::warmup_schedule(step, o.warmup);
  const double done = static_cast<double>(step) / static_cast<double>(o.steps);
  return warm * (done >= 0.9 ? 0.316 * 0.316 : done >= 0.8 ? 0.316 : 1);
}

double LmEvaluation::max_vio() const {
  double sum = 0;
  for (const moe::RouterStats& s : layers) sum += s.max_vio();
  return layers.empty() ? 0 : sum / static_cast<double>(layers.size());
}

LmTrainer::LmTrainer(const LmTrainOptions& o, std::shared_ptr<const TextStream> text)
    : o_(o), device_(open_device(o.device, o.math)), text_(std::move(text)) {
  check(o);
  if (device_.kind == DeviceKind::cuda && moe::world().size() > 1)
    throw value_error(str("language model: device: found ", device_, " on ", moe::world().size(),
                          " ranks, expected cpu, whose memory they exchange"));
  if (o.batch % moe::world().size() != 0)
    throw value_error(str("language model: batch: found ", o.batch, ", expected a multiple of ",
                          moe::world().size(), " ranks"));
  manual_seed(o.seed);
  model_ = std::make_shared<moe::LanguageModel>(o.model);
  model_->to(o.dtype);
  model_->to(device_);
  optimizer_ = std::make_unique<nn::Adam>(
      model_->named_parameters(),
      AdamAttr{.lr = o.lr, .beta1 = 0.9, .beta2 = 0.95, .weight_decay = o.weight_decay}, true);
}

std::optional<double> LmTrainer::step() {
  if (steps_ >= o_.steps) return {};
  const TextBatch b = own_batch();
  optimizer_->zero_grad();
  optimizer_->lr = o_.lr * lm_schedule(o_, steps_);
  Tape tape;
  const Tensor logits = (*model_)(b.tokens);
  Tensor loss, total;
  {
    const Scope scope("loss");
    loss = moe::next_token_loss(logits, b.targets);
    const Tensor aux = moe::aux_loss(*model_);
    total = aux ? add(loss, aux) : loss;
  }
  tape.backward(total);
  average_gradients();
  clip_gradients();
  optimizer_->step();
  {
    const PhaseScope phase(Phase::optimizer);
    for (moe::MoE* layer : moe::moe_layers(*model_)) layer->update_bias();
  }
  ++steps_;
  double mean = loss.item();
  moe::world().all_reduce(&mean, 1);
  return mean / moe::world().size();
}

TextBatch LmTrainer::own_batch() const {
  TextBatch b = random_windows(text_->train, o_.batch, o_.length, o_.seed, steps_);
  const int64_t ranks = moe::world().size(), rank = moe::world().rank(), n = o_.batch / ranks;
  if (ranks == 1) return {b.tokens.to(device_), b.targets.to(device_)};
  const NoRecord off;
  return {slice(b.tokens, 0, rank * n, (rank + 1) * n),
          slice(b.targets, 0, rank * n, (rank + 1) * n)};
}

void LmTrainer::average_gradients() {
  moe::Group& g = moe::world();
  if (g.size() == 1) return;
  const PhaseScope phase(Phase::backward);
  const Scope scope("average_gradients");
  std::vector<nn::Named> everywhere;  // rows of all ranks have met in an expert's gradient already
  for (const nn::Named& p : model_->named_parameters())
    if (!moe::is_of_experts(p.name)) everywhere.push_back(p);
  nn::sum_grads(everywhere);
  nn::scale_grads(model_->named_parameters(), 1.0 / g.size());
}

void LmTrainer::clip_gradients() {
  moe::Group& g = moe::world();
  if (g.size() == 1) {
    nn::clip_grad_norm(model_->named_parameters(), o_.clip);
    return;
  }
  const PhaseScope phase(Phase::optimizer);
  const Scope scope("clip_grad_norm");
  std::vector<nn::Named> here, everywhere;
  for (const nn::Named& p : model_->named_parameters())
    (moe::is_of_experts(p.name) ? here : everywhere).push_back(p);
  double own = nn::grad_squares(here);
  g.all_reduce(&own, 1);
  const double norm = std::sqrt(nn::grad_squares(everywhere) + own);
  if (norm > o_.clip) nn::scale_grads(model_->named_parameters(), o_.clip / (norm + 1e-6));
}

namespace {
std::string rank_file(const std::string& dir, int64_t step) {
  return str(dir, "/step-", step, "/rank-", moe::world().rank(), ".safetensors");
}
}  // namespace

void LmTrainer::save_checkpoint(const std::string& dir) const {
  io::SafetensorsFile file;
  file.metadata["wattle.steps"] = str(steps_, " of ", o_.steps, ", ranks ", moe::world().size());
  for (const nn::Named& p : model_->state_dict()) file.add("model." + p.name, p.tensor);
  for (const nn::Named& p : optimizer_->state_dict()) file.add("optimizer." + p.name, p.tensor);
  io::make_folders(str(dir, "/step-", steps_));
  io::write_safetensors(rank_file(dir, steps_), file);
  double all = 1;
  moe::world().all_reduce(&all, 1);  // every rank has written
  if (moe::world().rank() == 0) io::write_file(dir + "/latest", str(steps_, "\n"));
  moe::world().all_reduce(&all, 1);
}

bool LmTrainer::load_checkpoint(const std::string& dir) {
  const std::string latest = dir + "/latest";
  if (access(latest.c_str(), F_OK) != 0) return false;
  const auto bytes = io::read_file(latest, 64);
  const int64_t step = std::atoll(std::string(bytes.begin(), bytes.end()).c_str());
  const std::string path = rank_file(dir, step);
  const io::SafetensorsFile file = io::read_safetensors(path);
  const std::string wanted = str(step, " of ", o_.steps, ", ranks ", moe::world().size());
  if (file.text("wattle.steps") != wanted)
    throw value_error(str(path, ": found step ", file.text("wattle.steps"), ", expected ", wanted));
  nn::StateDict model, optimizer;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("model.")) model.push_back({name.substr(6), tensor});
    if (name.starts_with("optimizer.")) optimizer.push_back({name.substr(10), tensor});
  }
  try {
    model_->load_state_dict(model);
    optimizer_->load_state_dict(optimizer, step);
  } catch (const value_error& e) { throw value_error(str(path, ": ", e.what())); }
  steps_ = step;
  return true;
}

LmEvaluation evaluate_lm(moe::LanguageModel& model, const std::vector<uint8_t>& text,
                         int64_t tokens) {
  const Uncounted off;
  const NoRecord quiet;
  const bool training = model.training();
  model.eval();
  const int64_t length = model.config().context;
  const Device device = model.named_parameters().front().tensor.device();
  int64_t windows = (static_cast<int64_t>(text.size()) - 1) / length;
  if (tokens > 0) windows = std::min(windows, std::max<int64_t>(1, tokens / length));
  LmEvaluation e;
  double sum = 0;
  for (int64_t first = 0; first < windows; first += 64) {
    const int64_t batch = std::min<int64_t>(64, windows - first);
    const TextBatch b = windows_in_order(text, first, batch, length);
    sum += moe::next_token_loss(model(b.tokens.to(device)), b.targets.to(device)).item() *
           static_cast<double>(batch * length);
    e.tokens += batch * length;
    const std::vector<moe::MoE*> layers = moe::moe_layers(model);
    e.layers.resize(layers.size());
    for (size_t i = 0; i < layers.size(); ++i) e.layers[i] = e.layers[i] + layers[i]->stats();
  }
  e.loss = sum / static_cast<double>(e.tokens);
  model.train(training);
  return e;
}

namespace {
template <class T>
nlohmann::ordered_json fields_of(const T& value) {
  nlohmann::ordered_json j = nlohmann::ordered_json::object();
  T copy = value;
  copy.visit([&](const char* name, auto& field) { j[name] = field; });
  return j;
}
constexpr const char* kConfig = "wattle.language_model";
}  // namespace

void save_lm(const std::string& path, moe::LanguageModel& model) {
  nlohmann::ordered_json j = fields_of(model.config());
  if (model.config().moe) j["moe"] = fields_of(*model.config().moe);
  io::SafetensorsFile file;
  file.metadata[kConfig] = j.dump();
  for (const nn::Named& p : model.state_dict()) file.add(p.name, p.tensor);
  io::write_safetensors(path, file);
}

std::shared_ptr<moe::LanguageModel> load_lm(const std::string& path) {
  const io::SafetensorsFile file = io::read_safetensors(path);
  moe::Json j;
  try {
    j = moe::Json::parse(file.text(kConfig));
  } catch (const moe::Json::exception& e) {
    throw io_error(str(path, ": ", kConfig, " is not JSON: ", e.what()));
  }
  moe::LmConfig c;
  if (j.is_object() && j.contains("moe")) {
    c.moe.emplace();
    moe::read_field({path, "moe"}, j["moe"], *c.moe);
    moe::check(*c.moe);
    j.erase("moe");
  }
  moe::read_field({path, ""}, j, c);
  auto model = std::make_shared<moe::LanguageModel>(c);
  nn::StateDict state;
  for (const auto& [name, tensor] : file.tensors) state.push_back({name, tensor});
  try {
    model->load_state_dict(state);
  } catch (const value_error& e) { throw value_error(str(path, ": ", e.what())); }
  return model;
}

}  // namespace wattle::green
