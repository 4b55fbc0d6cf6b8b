// batch_norm: y = (x - mean) / sqrt(var + eps) * weight + bias, per channel of x [N,C,...].
//
// Training: mean and (biased) variance are those of the batch, over the n = N * spatial size values
// of a channel, and the running statistics move by `momentum` towards them (towards the unbiased
// variance, as in PyTorch). Evaluation: they are the running statistics.
//
// With d = x - mean, i = 1 / sqrt(var + eps), k = weight * i:
//   gbias = sum gy,   gweight = i * sum gy * d
//   gx    = k * (gy - gbias / n - d * i^2 * (sum gy * d) / n)     (training)
//   gx    = k * gy                                                 (evaluation)
#include <cmath>

#include "ops/batch_norm_kernels.h"
#include "ops/rules.h"

namespace wattle {
namespace {

using namespace batch_norm_detail;

struct BatchNormAttr {
  bool training = false;
  double momentum = 0.1;
  double eps = 1e-5;
  template <class V>
  void visit(V&& v) {
    v("training", training), v("momentum", momentum), v("eps", eps);
  }
};

// x [N,C,S]
struct NormShape {
  int64_t n, c, s;
  explicit NormShape(const Tensor& x)
      : n(x.size(0)), c(x.size(1)), s(x.shape().numel(2, x.rank())) {}
  int64_t count() const { return n * s; }
};

template <class T>
T* optional_data(Ins in, size_t i) {
  return i < in.size() && in[i] ? in[i].data<T>() : nullptr;
}
bool given(Ins in, size_t i) { return i < in.size() && in[i]; }

// ---- Reference kernels ----

template <class T>
struct Channels {
  T *running_mean, *running_var, *weight, *bias;
  T *mean, *invstd;  // results
};

template <class T>
T invstd_of(T var, double eps) {
  return T(1) / num::sqrt(var + T(eps));
}

// Mean and 1/sqrt(var + eps) of channel c over the batch; moves the running statistics.
template <class T>
void batch_statistics(const T* x, NormShape d, int64_t c, const Channels<T>& p,
                      const BatchNormAttr& a) {
  const T count = T(static_cast<double>(d.count()));
  T sum = 0, squares = 0;
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t i = 0; i < d.s; ++i) sum += x[(n * d.c + c) * d.s + i];
  const T mean = sum / count;
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t i = 0; i < d.s; ++i) {
      const T delta = x[(n * d.c + c) * d.s + i] - mean;
      squares += delta * delta;
    }
  p.mean[c] = mean;
  p.invstd[c] = invstd_of(T(squares / count), a.eps);
  if (!p.running_mean) return;
  const T keep = T(1 - a.momentum), move = T(a.momentum);
  p.running_mean[c] = keep * p.running_mean[c] + move * mean;
  p.running_var[c] =
      keep * p.running_var[c] + move * (squares / T(static_cast<double>(d.count() - 1)));
}

template <class T>
void normalise(const T* x, T* y, NormShape d, int64_t c, const Channels<T>& p) {
  const T k = p.weight ? p.weight[c] * p.invstd[c] : p.invstd[c];
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t i = 0; i < d.s; ++i) {
      const int64_t at = (n * d.c + c) * d.s + i;
      y[at] = (x[at] - p.mean[c]) * k;
      if (p.bias) y[at] = y[at] + p.bias[c];
    }
}

template <class T>
Channels<T> channels_of(Ins in, Outs out) {
  return {optional_data<T>(in, 1), optional_data<T>(in, 2), optional_data<T>(in, 3),
          optional_data<T>(in, 4), out[1].data<T>(),        out[2].data<T>()};
}

// A batch of nothing leaves the running statistics alone.
bool empty_batch(Ins in, Outs out) {
  if (in[0].numel() > 0) return false;
  for (int i : {1, 2})
    dispatch_floating("batch_norm", in[0].dtype(), [&]<class T>() {
      std::fill_n(out[static_cast<size_t>(i)].data<T>(), in[0].size(1), T(0));
    });
  return true;
}

void batch_norm_ref(Ins in, Outs out, const BatchNormAttr& a) {
  if (empty_batch(in, out)) return;
  dispatch_floating("batch_norm", in[0].dtype(), [&]<class T>() {
    const NormShape d(in[0]);
    const Channels<T> p = channels_of<T>(in, out);
    for (int64_t c = 0; c < d.c; ++c) {
      if (a.training) {
        batch_statistics(in[0].data<T>(), d, c, p, a);
      } else {
        p.mean[c] = p.running_mean[c];
        p.invstd[c] = invstd_of(p.running_var[c], a.eps);
      }
      normalise(in[0].data<T>(), out[0].data<T>(), d, c, p);
    }
  });
}

// ---- SIMD kernels ----

// Statistics of channel c as double -> saved and running statistics; returns the shift of `map`.
float finish_channel(const Channels<float>& p, int64_t c, double mean, double var, double eps) {
  const double invstd = 1 / std::sqrt(var + eps);
  p.mean[c] = static_cast<float>(mean);
  p.invstd[c] = static_cast<float>(invstd);
  // map subtracts the rounded mean; what rounding took from it goes into the shift.
  const double k = p.weight ? p.weight[c] * invstd : invstd;
  return static_cast<float>((p.bias ? p.bias[c] : 0) + (p.mean[c] - mean) * k);
}

template <class Isa>
void batch_norm_simd(Ins in, Outs out, const BatchNormAttr& a) {
  if (empty_batch(in, out)) return;
  const NormShape d(in[0]);
  const Partition part(d.n, d.c, d.s);
  const Channels<float> p = channels_of<float>(in, out);
  const float* x = in[0].data<float>();
  std::vector<float> table(static_cast<size_t>(2 * d.c));
  float *scale = table.data(), *shift = scale + d.c;
  if (a.training) {
    std::vector<Partial> moments = block_moments<Isa>(part, x);
    combine_moments(part, moments);
    const double count = static_cast<double>(d.count());
    for (int64_t c = 0; c < d.c; ++c) {
      const auto [mean, squares] = moments[static_cast<size_t>(c)];
      shift[c] = finish_channel(p, c, mean, squares / count, a.eps);
      if (!p.running_mean) continue;
      const double keep = 1 - a.momentum;
      p.running_mean[c] = static_cast<float>(keep * p.running_mean[c] + a.momentum * mean);
      p.running_var[c] =
          static_cast<float>(keep * p.running_var[c] + a.momentum * (squares / (count - 1)));
    }
  } else {
    for (int64_t c = 0; c < d.c; ++c)
      shift[c] = finish_channel(p, c, p.running_mean[c], p.running_var[c], a.eps);
  }
  for (int64_t c = 0; c < d.c; ++c) scale[c] = p.weight ? p.weight[c] * p.invstd[c] : p.invstd[c];
  parallel_chunks(part.tasks(), [&](int64_t i) {
    const int64_t task =
        part.tasks() - 1 - i;  // backwards: what was read last is still in the cache
    const int64_t c = task % part.groups() * part.channels;
    map_task<Isa, false>(slab_of(part, task, x, x, out[0].data<float>()),
                         {p.mean + c, scale + c, shift + c, nullptr});
  });
}

// ---- Gradient: gy, x [N,C,...], save_mean, save_invstd, weight? -> gx, gweight, gbias ----

struct BatchNormGradAttr {
  bool training = false;
  template <class V>
  void visit(V&& v) {
    v("training", training);
  }
};

template <class T>
struct GradChannels {
  const T *weight, *mean, *invstd;
  T *gweight, *gbias;
};

template <class T>
GradChannels<T> grad_channels_of(Ins in, Outs out) {
  return {optional_data<T>(in, 4), in[2].data<T>(), in[3].data<T>(), out[1].data<T>(),
          out[2].data<T>()};
}

template <class T>
void gradient_ref(const T* gy, const T* x, T* gx, NormShape d, int64_t c, const GradChannels<T>& p,
                  bool training) {
  const T count = T(static_cast<double>(d.count()));
  T sum = 0, along = 0;
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t i = 0; i < d.s; ++i) {
      const int64_t at = (n * d.c + c) * d.s + i;
      sum += gy[at];
      along += gy[at] * (x[at] - p.mean[c]);
    }
  p.gbias[c] = sum;
  p.gweight[c] = along * p.invstd[c];
  const T k = p.weight ? p.weight[c] * p.invstd[c] : p.invstd[c];
  const T level = sum / count, slope = along * p.invstd[c] * p.invstd[c] / count;
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t i = 0; i < d.s; ++i) {
      const int64_t at = (n * d.c + c) * d.s + i;
      gx[at] = training ? k * (gy[at] - level - (x[at] - p.mean[c]) * slope) : k * gy[at];
    }
}

void batch_norm_grad_ref(Ins in, Outs out, const BatchNormGradAttr& a) {
  if (empty_batch(in, out)) return;
  dispatch_floating("batch_norm_grad", in[0].dtype(), [&]<class T>() {
    const NormShape d(in[0]);
    for (int64_t c = 0; c < d.c; ++c)
      gradient_ref(in[0].data<T>(), in[1].data<T>(), out[0].data<T>(), d, c,
                   grad_channels_of<T>(in, out), a.training);
  });
}

template <class Isa>
void batch_norm_grad_simd(Ins in, Outs out, const BatchNormGradAttr& a) {
  if (empty_batch(in, out)) return;
  const NormShape d(in[0]);
  const Partition part(d.n, d.c, d.s);
  const GradChannels<float> p = grad_channels_of<float>(in, out);
  const float *gy = in[0].data<float>(), *x = in[1].data<float>();
  const std::vector<Partial> sums = gradient_sums<Isa>(part, gy, x, p.mean);
  std::vector<float> table(static_cast<size_t>(3 * d.c));
  float *gain = table.data(), *scale = gain + d.c, *shift = scale + d.c;
  const double per_count = a.training ? 1.0 / static_cast<double>(d.count()) : 0;
  for (int64_t c = 0; c < d.c; ++c) {
    const auto [sum, along] = sums[static_cast<size_t>(c)];
    const double i = p.invstd[c], k = p.weight ? p.weight[c] * i : i;
    p.gbias[c] = static_cast<float>(sum);
    p.gweight[c] = static_cast<float>(along * i);
    gain[c] = static_cast<float>(k);
    scale[c] = static_cast<float>(-k * i * i * along * per_count);
    shift[c] = static_cast<float>(-k * sum * per_count);
  }
  parallel_chunks(part.tasks(), [&](int64_t i) {
    const int64_t task = part.tasks() - 1 - i;  // backwards, as in batch_norm
    const int64_t c = task % part.groups() * part.channels;
    map_task<Isa, true>(slab_of(part, task, gy, x, out[0].data<float>()),
                        {p.mean + c, scale + c, shift + c, gain + c});
  });
}

// ---- Rules ----

void check_channels(const char* op, Ins in, size_t i, const char* what, int64_t c) {
  if (given(in, i) && in[i].shape() != Shape{c})
    throw shape_error(str(op, ": ", what, " is ", in[i].shape(), ", expected ", Shape{c},
                          " for input ", in[0].shape()));
}

Metas batch_norm_shape(Ins in, const BatchNormAttr& a) {
  const char* const op = "batch_norm";
  rules::arity(op, in, 1, 5);
  rules::floating(op, in, 0);
  rules::same_dtype(op, in);
  if (in[0].rank() < 2)
    throw shape_error(str(op, ": input is ", in[0].shape(), ", expected [N, C, ...]"));
  const int64_t c = in[0].size(1);
  const char* const names[] = {"input", "running_mean", "running_var", "weight", "bias"};
  for (size_t i = 1; i < in.size(); ++i) check_channels(op, in, i, names[i], c);
  if (given(in, 1) != given(in, 2))
    throw value_error(
        str(op, ": running_mean and running_var: one is given, expected both or none"));
  if (!a.training && !given(in, 1))
    throw value_error(str(op, ": no running_mean and running_var, expected both in evaluation"));
  if (a.training && NormShape(in[0]).count() == 1)
    throw value_error(
        str(op, ": one value per channel in training, expected more, found input ", in[0].shape()));
  return {in[0].meta(), {{c}, in[0].dtype()}, {{c}, in[0].dtype()}};
}

Cost batch_norm_cost(Ins in, std::span<const Meta>, const BatchNormAttr& a) {
  const int64_t all = in[0].numel(), c = all ? in[0].size(1) : 0;
  Cost cost{.add = all + c, .mul = all, .special = 2 * c};  // normalise; invstd
  if (given(in, 3)) cost.mul += c;
  if (given(in, 4)) cost.add += all;
  if (!a.training) return cost;
  cost += {.add = 3 * all, .mul = all, .special = 2 * c};  // mean and variance
  if (given(in, 1)) cost += {.add = 2 * c, .mul = 4 * c, .special = c};
  return cost;
}

// The running statistics are read when they are used: in evaluation, or to be moved.
Bytes batch_norm_bytes(Ins in, std::span<const Meta> out, const BatchNormAttr& a) {
  if (in[0].numel() > 0) return default_bytes(in, out, a.training ? Bits{1, 2} : Bits{});
  return {0, 2 * storage_bytes(out[1].shape, out[1].dtype)};
}

Metas batch_norm_grad_shape(Ins in, const BatchNormGradAttr&) {
  const char* const op = "batch_norm_grad";
  rules::arity(op, in, 4, 5);
  rules::same_dtype(op, in);
  if (in[0].shape() != in[1].shape() || in[0].rank() < 2)
    throw shape_error(str(op, ": gradient is ", in[0].shape(), ", input ", in[1].shape(),
                          ", expected the same [N, C, ...]"));
  const Shape c{in[0].size(1)};
  const char* const names[] = {"gradient", "input", "save_mean", "save_invstd", "weight"};
  for (size_t i = 2; i < in.size(); ++i) check_channels(op, in, i, names[i], c[0]);
  return {in[0].meta(), {c, in[0].dtype()}, {c, in[0].dtype()}};
}

Cost batch_norm_grad_cost(Ins in, std::span<const Meta>, const BatchNormGradAttr& a) {
  const int64_t all = in[0].numel(), c = all ? in[0].size(1) : 0;
  Cost cost{.add = 3 * all, .mul = all + 3 * c, .special = 2 * c};
  if (given(in, 4)) cost.mul += c;
  if (a.training) return cost + Cost{.add = 3 * all, .mul = 2 * all};
  return cost + Cost{.mul = all};
}

const Op<BatchNormGradAttr> batch_norm_grad_op{{
    .name = "batch_norm_grad",
    .doc = "Gradients of batch_norm: of x, weight and bias",
    .equation = "gx = weight * invstd * (gy - mean(gy) - xhat * mean(gy * xhat)), "
                "gweight = sum gy * xhat, gbias = sum gy",
    .shape = batch_norm_grad_shape,
    .cost = batch_norm_grad_cost,
    .kernels = {simd_kernel<simd::Avx512>(batch_norm_grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(batch_norm_grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(batch_norm_grad_simd<simd::Portable>),
                {"ref", batch_norm_grad_ref}},
    .samples = {{{{{4, 3, 2, 3}}, {{4, 3, 2, 3}}, {{3}}, {{3}, 0.5, 2}, {{3}}}, {true}},
                {{{{11, 1}}, {{11, 1}}, {{1}}, {{1}, 0.5, 2}}, {true}},
                {{{{9, 2, 8, 9}}, {{9, 2, 8, 9}}, {{2}}, {{2}, 0.5, 2}, {{2}}}, {true}},
                {{{{2, 37}}, {{2, 37}}, {{37}}, {{37}, 0.5, 2}, {{37}}}, {false}},
                {{{{2, 17, 64}}, {{2, 17, 64}}, {{17}}, {{17}, 0.5, 2}, {{17}}}, {false}},
                {{{{1, 1, 1}}, {{1, 1, 1}}, {{1}}, {{1}, 0.5, 2}, {{1}}}, {false}}},
}};

Tensors batch_norm_backward(const Saved<BatchNormAttr>& s, Ins gy) {
  const bool weight = s.has(3), bias = s.has(4);
  const Tensors g = batch_norm_grad_op(
      {gy[0], s.in(0), s.out(1), s.out(2), weight ? s.in(3) : Tensor{}}, {s.attr().training});
  Tensors grads(static_cast<size_t>(s.in_count()));
  if (s.needs(0)) grads[0] = g[0];
  if (weight && s.needs(3)) grads[3] = g[1];
  if (bias && s.needs(4)) grads[4] = g[2];
  return grads;
}

constexpr SampleIn none{{}, 0, 0, SampleIn::absent};

const Op<BatchNormAttr> batch_norm_op{{
    .name = "batch_norm",
    .doc = "Normalises every channel by the batch's or the running statistics",
    .equation = "y = (x - mean) / sqrt(var + eps) * weight + bias",
    .shape = batch_norm_shape,
    .cost = batch_norm_cost,
    .bytes = batch_norm_bytes,
    .kernels = {simd_kernel<simd::Avx512>(batch_norm_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(batch_norm_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(batch_norm_simd<simd::Portable>),
                {"ref", batch_norm_ref}},
    .saves_in = {0, 3},
    .saves_out = {1, 2},
    .writes = {1, 2},
    .writes_when =
        [](const BatchNormAttr& a) {
          return a.training ? Bits{1, 2} : Bits{};
        },
    .aux_outs = {1, 2},
    .backward = batch_norm_backward,
    .samples = {{{{{4, 3, 3, 5}}, {{3}}, {{3}, 0.5, 2}, {{3}}, {{3}}}, {true}},
                {{{{5, 37}}, {{37}}, {{37}, 0.5, 2}, {{37}}, {{37}}}, {true, 0.3, 1e-3}},
                {{{{11, 1}}, none, none, {{1}}}, {true}},
                {{{{9, 1, 8, 9}}, none, none, none, {{1}}}, {true}},
                {{{{1, 17, 64}, 7, 9}}, {true}},
                {{{{19, 2, 1, 7}, -1e-4, 1e-4}, {{2}}, {{2}, 0.5, 2}}, {true}},
                {{{{2, 550, 2}}}, {true}},
                {{{{2, 1, 1040}}}, {true}},
                {{{{2, 3, 4, 4}}, {{3}}, {{3}, 0.5, 2}, {{3}}, {{3}}}, {false}},
                {{{{1, 1, 1, 1}}, {{1}}, {{1}, 0.5, 2}, {{1}}}, {false, 0.1, 1e-3}},
                {{{{2, 2, 9, 9}}, {{2}}, {{2}, 0.5, 2}}, {false}}},
}};

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const Tensor& weight, const Tensor& bias, bool training, double momentum,
                  double eps) {
  return batch_norm_op.one({x, running_mean, running_var, weight, bias}, {training, momentum, eps});
}

}  // namespace wattle
