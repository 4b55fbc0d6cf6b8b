#include "green/snn_nets.h"

#include <bit>
#include <cmath>

#include "core/counters.h"
#include "core/error.h"
#include "core/recorder.h"
#include "quant/observer.h"
#include "quant/ops.h"

namespace wattle::green {
namespace {

constexpr const char* kLayers[] = {"conv1", "conv2", "fc1", "fc2"};

NeuronAttr neuron_of(const SnnActivation& a, bool packed, bool constant) {
  NeuronAttr n;
  n.charge = "lif", n.tau = 2, n.decay_input = false;
  n.reset = "soft", n.detach_reset = true;
  n.out = packed ? DType::spike : DType::f32;
  n.steps = constant ? a.steps : 0;
  return n;
}

// Weights as int8 holds them; gradients pass straight through.
Tensor int8_of(const Tensor& w) {
  return quant::fake_quantize(w, quant::choose_weight_qparams(w, 0));
}

// One row for each image (and step). Packed spikes are laid out row by row, so they are packed
// anew.
Tensor rows_of(const Tensor& x, int64_t rows) {
  if (x.dtype() != DType::spike) return reshape(x, {rows, x.numel() / rows});
  return cast(reshape(cast(x, DType::f32), {rows, x.numel() / rows}), DType::spike);
}

}  // namespace

int bits_of_steps(int64_t steps) { return std::bit_width(static_cast<uint64_t>(steps)); }

SnnNet::SnnNet(const SnnShape& shape, const SnnActivation& activation, const ImageSpec& image)
    : shape_(shape), act_(activation) {
  if (image.height % 4 != 0)
    throw value_error(str("spiking net: images of ", image.height, ", expected a multiple of 4"));
  if (act_.steps < 1 || act_.bits < 1 || act_.bits > 8)
    throw value_error(str("spiking net: found ", act_.steps, " steps and ", act_.bits,
                          " bits, expected at least one step and 1 to 8 bits"));
  const nn::Conv2dOptions same{.padding = 1};
  conv_[0] =
      register_module(kLayers[0], std::make_shared<nn::Conv2d>(image.channels, shape.conv1, same));
  conv_[1] =
      register_module(kLayers[1], std::make_shared<nn::Conv2d>(shape.conv1, shape.conv2, same));
  const int64_t side = image.height / 4;
  fc_[0] = register_module(kLayers[2],
                           std::make_shared<nn::Linear>(shape.conv2 * side * side, shape.hidden));
  fc_[1] = register_module(kLayers[3], std::make_shared<nn::Linear>(shape.hidden, image.classes));
  for (int i = 0; i < 3 && act_.kind == SnnActivation::quantized; ++i)
    // The largest level is 2 at the start and learnt from there (LSQ, Esser et al., ICLR 2020).
    scale_[i] = register_parameter("scale" + std::to_string(i + 1),
                                   Tensor::full({1}, 2.0 / ((1 << act_.bits) - 1)));
}

std::vector<nn::Module*> SnnNet::weighted() const {
  return {conv_[0].get(), conv_[1].get(), fc_[0].get(), fc_[1].get()};
}

void SnnNet::hold_weights_in_int8(bool on) {
  for (nn::Module* m : weighted()) {
    m->hooks = {};
    if (on) m->hooks.weight = int8_of;
  }
}

void SnnNet::pack_spikes(bool on) {
  const NoRecord off;
  packed_ = on && act_.kind == SnnActivation::spikes;
  for (int i = 0; i < 2; ++i) {
    const nn::Linear& f = *fc_[i];
    rows_[i] =
        packed_ ? contiguous(transpose(f.hooks.weight ? f.hooks.weight(f.weight) : f.weight, 0, 1))
                : Tensor{};
  }
}

// x [N,...], or [T,N,...] after neurons: steps are folded into the batch.
Tensor SnnNet::linear_part(size_t layer, const Tensor& x) {
  const Scope scope(kLayers[layer]);
  const bool steps = act_.kind == SnnActivation::spikes && layer > 0;
  if (trace) trace->push_back({x, {}});
  const int64_t t = steps ? x.size(0) : 1, n = x.size(steps ? 1 : 0);
  Tensor in = x, out;
  if (layer < 2) {
    if (steps) in = reshape(x, {t * n, x.size(2), x.size(3), x.size(4)});
    out = conv_[layer]->forward(in);
  } else {
    in = rows_of(x, t * n);
    const nn::Linear& f = *fc_[layer - 2];
    out = packed_ ? add(matmul(in, rows_[layer - 2]), f.bias) : fc_[layer - 2]->forward(in);
  }
  if (act_.kind != SnnActivation::spikes) return out;
  Shape shape{t, n};
  for (int64_t d = 1; d < out.rank(); ++d) shape.push_back(out.size(d));
  return reshape(out, shape);
}

Tensor SnnNet::activate(size_t layer, const Tensor& x) {
  const Scope scope(kLayers[layer]);
  Tensor y;
  if (act_.kind == SnnActivation::relu) {
    y = relu(x);
  } else if (act_.kind == SnnActivation::quantized) {
    FakeQuantizeAttr q;
    q.qmin = 0, q.qmax = (int64_t{1} << act_.bits) - 1;
    q.grad_scale = 1 / std::sqrt(static_cast<double>(x.numel() / x.size(0) * q.qmax));
    y = fake_quantize_affine(x, scale_[layer], Tensor::zeros({1}, DType::f32, x.device()), q);
  } else {
    y = neuron(x, {}, {}, neuron_of(act_, packed_, layer == 0))[0];
    if (silenced) y = scale(y, 0);
    rates_.push_back(mean(y));
  }
  if (trace) trace->back().out = y;
  return y;
}

Tensor SnnNet::pooled(const Tensor& x) const {
  if (act_.kind != SnnActivation::spikes) return max_pool2d(x, 2, 2);
  const Tensor y =
      max_pool2d(reshape(x, {x.size(0) * x.size(1), x.size(2), x.size(3), x.size(4)}), 2, 2);
  return reshape(y, {x.size(0), x.size(1), y.size(1), y.size(2), y.size(3)});
}

Tensor SnnNet::forward(const Tensor& images) {
  rates_.clear();
  if (trace) trace->clear();
  Tensor x = pooled(activate(0, linear_part(0, images)));
  x = pooled(activate(1, linear_part(1, x)));
  const Tensor out = linear_part(3, activate(2, linear_part(2, x)));
  return act_.kind == SnnActivation::spikes ? mean(out, {0}) : out;
}

}  // namespace wattle::green
