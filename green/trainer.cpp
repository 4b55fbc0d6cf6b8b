#include "green/trainer.h"

#include <algorithm>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/cuda.h"
#include "core/rng.h"
#include "data/safetensors.h"
#include "green/run_device.h"
#include "green/uncounted.h"

namespace wattle::green {
namespace {

int64_t correct(const Tensor& logits, const Tensor& labels) {
  const auto guess = argmax(logits, 1).values<int64_t>();
  const auto truth = labels.values<int64_t>();
  int64_t n = 0;
  for (size_t i = 0; i < truth.size(); ++i) n += guess[i] == truth[i];
  return n;
}

// In the floating type that the net computes in.
Tensor images_to_float(const Tensor& images, const nn::Sequential& net) {
  const PhaseScope phase(Phase::data);
  const Scope scope("data");
  const auto params = net.named_parameters();
  const DType dtype = params.empty() ? DType::f32 : params.front().tensor.dtype();
  const Tensor x = to_float(images);
  return dtype == DType::f32 ? x : cast(x, dtype);
}

nn::StateDict copies(const nn::StateDict& state) {
  nn::StateDict out;
  for (const nn::Named& n : state) {
    Tensor copy = Tensor::empty(n.tensor.shape(), n.tensor.dtype(), n.tensor.device());
    copy.copy_from(n.tensor);
    out.push_back({n.name, copy});
  }
  return out;
}

// Factor of the base rate at a step; `step` decays at thirds of the training.
double schedule_factor(const TrainOptions& o, int64_t step, int64_t total) {
  if (o.schedule == "constant") return 1;
  if (o.schedule == "cosine") return nn::cosine_schedule(step, total);
  if (o.schedule == "step") return nn::step_schedule(step, std::max<int64_t>(1, total / 3));
  throw value_error(str("--schedule: found '", o.schedule, "', expected constant, cosine or step"));
}

}  // namespace

namespace {
// Means over the ranks of gradients and loss: each saw its share of the batch.
Tensor over_ranks(nn::Sequential& net, const Tensor& loss) {
  const int ranks = world().size();
  if (ranks == 1) return loss;
  const NoRecord off;
  const PhaseScope phase(Phase::backward);
  const Scope scope("ranks");
  nn::sum_grads(net.named_parameters());
  nn::scale_grads(net.named_parameters(), 1.0 / ranks);
  const Tensor sum = scale(loss.detach(), 1.0 / ranks);
  all_reduce(sum);
  return sum;
}
}  // namespace

Tensor train_step(nn::Sequential& net, nn::Optimizer& optimizer, const Tensor& images,
                  const Tensor& labels) {
  optimizer.zero_grad();
  Tape tape;
  const Tensor logits = net(images_to_float(images, net));
  Tensor loss;
  {
    const Scope scope("loss");
    loss = cross_entropy(logits, labels);
  }
  tape.backward(loss);
  loss = over_ranks(net, loss);
  optimizer.step();
  return loss;
}

Tensor train_step(nn::Sequential& net, nn::Optimizer& optimizer, const Tensor& images,
                  const Tensor& labels, const Precision& p, LossScaler& scaler) {
  optimizer.zero_grad();
  Tape tape;
  const Tensor logits = net(images_to_float(images, net));
  Tensor loss, scaled;
  {
    const Scope scope("loss");
    CastAttr to{.to = p.loss};
    if (is_coded(logits.dtype())) to.grad = p.loss_gradient;
    loss = cross_entropy(logits.dtype() == p.loss ? logits : cast(logits, to), labels);
    scaled = scaler.scale() == 1 ? loss : scale(loss, scaler.scale());
  }
  const CastStats before = counters().total().rounding;
  tape.backward(scaled);
  CastStats rounded = counters().total().rounding;
  rounded -= before;
  loss = over_ranks(net, loss);
  bool good = true;
  {
    const PhaseScope phase(Phase::optimizer);
    const Scope scope("loss_scale");
    good = scaler.unscale(net.named_parameters(), rounded);
  }
  if (good) optimizer.step();
  return loss;
}

Trainer::Trainer(const TrainOptions& options, data::Dataset train)
    : options_(options), precision_(precision_from(options.precision)), scaler_(precision_) {
  if (options.epochs < 1)
    throw value_error(str("--epochs: found ", options.epochs, ", expected >= 1"));
  if (options.batch < 1)
    throw value_error(str("--batch: found ", options.batch, ", expected >= 1"));
  if (!(options.lr > 0)) throw value_error(str("--lr: found ", options.lr, ", expected > 0"));
  schedule_factor(options, 0, 1);
  if (const int ranks = world().size(); ranks > 1) {
    if (options.batch % ranks != 0)
      throw value_error(
          str("--batch: found ", options.batch, ", expected a multiple of ", ranks, " ranks"));
    // What loss scaling and observers see of a share would differ between ranks.
    if (options.precision != "f32" && options.precision != "bf16")
      throw value_error(str("--precision: found ", options.precision, " on ", ranks,
                            " ranks, expected f32 or bf16"));
  }
  const ImageSpec image{train.name, train.images.size(1), train.images.size(2), train.classes};
  manual_seed(options.seed);
  net_ = make_net(options.net, image);
  if (options.precision == "f32") {
    net_->to(options.dtype);
  } else {
    if (options.dtype != DType::f32)
      throw value_error(str("--precision: found ", options.precision, " with dtype ",
                            name(options.dtype), ", expected f32"));
    if (precision_.int8_qat) qat_ = apply_int8_qat(*net_);
    else precision_.loss_gradient = apply_precision(*net_, precision_);
  }
  device_ = open_device(options.device, options.math);
  net_->to(device_);
  optimizer_ = nn::make_optimizer(options.optimizer, net_->named_parameters(), options.lr);
  loader_ = std::make_unique<data::DataLoader>(std::move(train),
                                               data::LoaderOptions{.batch = options.batch,
                                                                   .shuffle = options.shuffle,
                                                                   .seed = options.seed,
                                                                   .drop_last = options.drop_last});
  if (loader_->batches() < 1) throw value_error("the data give no batch");
}

std::optional<double> Trainer::step() {
  at_epoch_end_ = false;
  if (epoch_ >= options_.epochs) return {};
  optimizer_->lr = options_.lr * schedule_factor(options_, steps_, total_steps());
  std::optional<data::Batch> batch = loader_->next();
  if (!batch) {  // a training that ended here goes on for more epochs
    if (options_.frozen_batches) loader_->set_state({0, 0});
    batch = loader_->next();
  }
  const double loss = run_step(*batch);
  ++steps_;
  if (steps_ % loader_->batches() == 0) {
    ++epoch_;
    at_epoch_end_ = true;
    batch.reset();
    if (epoch_ < options_.epochs) {
      loader_->next();  // the end of the epoch
      if (options_.frozen_batches) loader_->set_state({0, 0});
    }
  }
  return loss;
}

// This rank's share of a batch; all of one that does not divide, whose gradients are then alike.
data::Batch Trainer::share_of(const data::Batch& all) {
  const int64_t ranks = world().size(), rank = world().rank(), rows = all.images.size(0);
  const int64_t n = rows / ranks;
  if (ranks == 1 || rows % ranks != 0) return {all.images, all.labels, {}};
  const NoRecord off;
  return {slice(all.images, 0, rank * n, (rank + 1) * n),
          slice(all.labels, 0, rank * n, (rank + 1) * n),
          {}};
}

double Trainer::run_step(const data::Batch& all) {
  const data::Batch batch = share_of(all);
  const bool plain = precision_.name == "f32" || precision_.int8_qat;
  const bool capture = plain && !precision_.int8_qat && options_.graph && steps_ > 0 &&
                       device_.kind == DeviceKind::cuda && !cuda::status().emulated;
  // The first step warms up: libraries choose their kernels, memory is asked for.
  if (capture && all.images.size(0) == options_.batch) {
    if (!captured_)
      captured_ = std::make_unique<CapturedStep>(device_, *optimizer_, batch.images, batch.labels,
                                                 [this](const Tensor& x, const Tensor& y) {
                                                   return train_step(*net_, *optimizer_, x, y);
                                                 });
    return captured_->run(batch.images, batch.labels).item();
  }
  const Tensor x = batch.images.to(device_), y = batch.labels.to(device_);
  return (plain ? train_step(*net_, *optimizer_, x, y)
                : train_step(*net_, *optimizer_, x, y, precision_, scaler_))
      .item();
}

Evaluation Trainer::evaluate(const data::Dataset& test) {
  const Uncounted off;
  const bool whole = options_.batch_statistics_at_test;
  // Batch statistics move the running ones; evaluation must leave no trace in the training.
  const nn::StateDict before = copies(net_->named_buffers());
  net_->train(whole);
  data::DataLoader loader(test,
                          {.batch = whole ? test.rows() : std::min<int64_t>(1000, test.rows()),
                           .shuffle = false,
                           .prefetch = 0});
  Evaluation e;
  int64_t right = 0;
  for (data::Batch& b : loader) {
    const Tensor labels = b.labels.to(device_);
    Tensor logits = (*net_)(images_to_float(b.images.to(device_), *net_));
    if (is_coded(logits.dtype())) logits = cast(logits, DType::f32);
    e.loss += cross_entropy(logits, labels, "sum").item();
    right += correct(logits, b.labels);
  }
  net_->train();
  if (whole) {
    nn::StateDict all = net_->named_parameters();
    all.insert(all.end(), before.begin(), before.end());
    net_->load_state_dict(all);
  }
  e.accuracy = static_cast<double>(right) / static_cast<double>(test.rows());
  e.loss /= static_cast<double>(test.rows());
  return e;
}

// Everything that decides which numbers come next and is not stored as a tensor.
std::string Trainer::fingerprint() const {
  const TrainOptions& o = options_;
  const data::Dataset& d = loader_->dataset();
  return str("net ", o.net.net, " linear ", o.net.linear, " conv ", o.net.conv, " relu ",
             o.net.relu ? 1 : 0, ", data ", d.name, " rows ", d.rows(), ", batch ", o.batch,
             ", optimizer ", o.optimizer, " lr ", o.lr, " schedule ", o.schedule, ", seed ", o.seed,
             ", shuffle ", o.shuffle ? 1 : 0, ", drop_last ", o.drop_last ? 1 : 0, ", frozen ",
             o.frozen_batches ? 1 : 0, o.precision == "f32" ? "" : str(", precision ", o.precision),
             o.dtype == DType::f32 ? "" : str(", dtype ", name(o.dtype)),
             o.schedule == "constant" ? "" : str(", epochs ", o.epochs));
}

void Trainer::save(const std::string& path, const std::map<std::string, std::string>& extra) const {
  io::SafetensorsFile file;
  for (const nn::Named& n : net_->state_dict()) file.add("model." + n.name, n.tensor);
  for (const nn::Named& n : optimizer_->state_dict()) file.add("optimizer." + n.name, n.tensor);
  const Generator& g = default_generator();
  const data::LoaderState l = loader_->state();
  file.metadata = extra;
  file.metadata["training"] = fingerprint();
  // As integers in a tensor: metadata with one key keeps the file's bytes reproducible.
  file.add("state",
           Tensor::from<int64_t>({epoch_, steps_, optimizer_->steps(), l.epoch, l.position,
                                  static_cast<int64_t>(g.seed), static_cast<int64_t>(g.offset)},
                                 {7}));
  io::write_safetensors(path, file);
}

std::map<std::string, std::string> Trainer::load(const std::string& path) {
  const io::SafetensorsFile file = io::read_safetensors(path);
  if (const std::string& found = file.text("training"); found != fingerprint())
    throw value_error(str(path, ": belongs to another training\n  found    ", found,
                          "\n  expected ", fingerprint()));
  nn::StateDict model, optimizer;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("model.")) model.push_back({name.substr(6), tensor});
    if (name.starts_with("optimizer.")) optimizer.push_back({name.substr(10), tensor});
  }
  const std::vector<int64_t> s = file.at("state").values<int64_t>();
  if (s.size() != 7)
    throw io_error(
        str(path, ": state has ", static_cast<int64_t>(s.size()), " entries, expected 7"));
  const data::LoaderState at = loader_->state();
  const nn::StateDict before = copies(net_->state_dict());
  try {
    loader_->set_state({s[3], s[4]});
    net_->load_state_dict(model);
    optimizer_->load_state_dict(optimizer, s[2]);
  } catch (const error& e) {
    loader_->set_state(at);
    net_->load_state_dict(before);
    throw value_error(str(path, ": ", e.what()));
  }
  epoch_ = s[0];
  steps_ = s[1];
  default_generator() = {static_cast<uint64_t>(s[5]), static_cast<uint64_t>(s[6])};
  return file.metadata;
}

}  // namespace wattle::green
