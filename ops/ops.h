// The catalogue: one line of documentation and one declaration per op. Semantics and defaults are
// PyTorch's. `wattle ops NAME` shows where an op is written, its cost rule and its kernels.
#pragma once
#include <optional>

#include "core/op.h"

namespace wattle {

// ---- Elementwise, two operands; shapes broadcast, dtypes must agree --------------------------
Tensor add(const Tensor& a, const Tensor& b);                   ///< a + b
Tensor sub(const Tensor& a, const Tensor& b);                   ///< a - b
Tensor mul(const Tensor& a, const Tensor& b);                   ///< a * b
Tensor div(const Tensor& a, const Tensor& b);                   ///< a / b, floating only
Tensor fma(const Tensor& a, const Tensor& b, const Tensor& c);  ///< a * b + c, rounded once
Tensor pow(const Tensor& a, const Tensor& b);                   ///< a to the power b, floating only
Tensor eq(const Tensor& a, const Tensor& b);                    ///< a == b, as bool
Tensor ne(const Tensor& a, const Tensor& b);                    ///< a != b
Tensor lt(const Tensor& a, const Tensor& b);                    ///< a < b
Tensor le(const Tensor& a, const Tensor& b);                    ///< a <= b
Tensor gt(const Tensor& a, const Tensor& b);                    ///< a > b
Tensor ge(const Tensor& a, const Tensor& b);                    ///< a >= b
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);  ///< condition ? a : b

// ---- Elementwise, one operand ----------------------------------------------------------------
Tensor scale(const Tensor& x, double factor, double shift = 0);         ///< factor * x + shift
Tensor neg(const Tensor& x);                                            ///< -x
Tensor exp(const Tensor& x);                                            ///< e^x
Tensor log(const Tensor& x);                                            ///< natural logarithm
Tensor sqrt(const Tensor& x);                                           ///< square root
Tensor tanh(const Tensor& x);                                           ///< hyperbolic tangent
Tensor sigmoid(const Tensor& x);                                        ///< 1 / (1 + e^-x)
Tensor relu(const Tensor& x);                                           ///< max(x, 0)
Tensor relu_grad(const Tensor& gy, const Tensor& y);                    ///< gy where y > 0, else 0
Tensor gelu(const Tensor& x, const std::string& approximate = "none");  ///< x * Phi(x)
Tensor silu(const Tensor& x);                                           ///< x * sigmoid(x)
Tensor clamp(const Tensor& x, std::optional<double> min,
             std::optional<double> max);    ///< into [min, max]
Tensor abs(const Tensor& x);                ///< |x|
Tensor cast(const Tensor& x, DType dtype);  ///< conversion of the element type
struct CastAttr {
  DType to = DType::f32;
  /// Beyond the largest number of a coded type: that number (true), or infinity or NaN.
  bool saturate = true;
  std::string rounding = "nearest";  ///< nearest | stochastic, for coded types
  std::string scale_rule = "floor";  ///< floor | ceil | even, of the scales of MX blocks
  uint64_t seed = 0;                 ///< of stochastic rounding
  std::optional<DType> grad = {};    ///< type of the gradient that flows back; none = the input's
  template <class V>
  void visit(V&& v) {
    v("to", to), v("saturate", saturate), v("rounding", rounding), v("scale_rule", scale_rule);
    v("seed", seed), v("grad", grad);
  }
};
Tensor cast(const Tensor& x, const CastAttr& attr);
/// u8 to f32: scale * x + shift.
Tensor to_float(const Tensor& x, double scale = 1.0 / 255, double shift = 0);

// ---- Reductions over `dim` (none = all) --------------------------------------------------------
Tensor sum(const Tensor& x, const Shape& dim = {}, bool keepdim = false);   ///< sum
Tensor mean(const Tensor& x, const Shape& dim = {}, bool keepdim = false);  ///< arithmetic mean
/// Largest element: {values} over several or all dims, {values, indices} over a single one.
Tensors max(const Tensor& x, const Shape& dim = {}, bool keepdim = false);
Tensors min(const Tensor& x, const Shape& dim = {}, bool keepdim = false);  ///< smallest element
Tensor argmax(const Tensor& x, std::optional<int64_t> dim = {},
              bool keepdim = false);  ///< index of it
/// Variance, divided by n - correction.
Tensor var(const Tensor& x, const Shape& dim = {}, int64_t correction = 1, bool keepdim = false);

// ---- Contractions ------------------------------------------------------------------------------
/// torch.matmul: vectors, matrices and broadcast batches; transposes act on the last two dims.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a = false, bool transpose_b = false);
/// How sums of posit products are taken; other types know f32 only, which is their own way.
///   f32        in floats (f64 for posit32), rounded to the posit once at the end
///   certified  the bits of the quire, proven from a float sum and its error bound
///   quire      exactly, rounded once
///   per_op     every product and every sum is rounded: posits without a quire
struct MatmulAttr {
  bool transpose_a = false, transpose_b = false;
  std::string accumulate = "f32";
  /// Dtype of the result of coded operands; none = the first one's.
  std::optional<DType> out = {};
  template <class V>
  void visit(V&& v) {
    v("transpose_a", transpose_a), v("transpose_b", transpose_b), v("accumulate", accumulate);
    v("out", out);
  }
};
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulAttr& attr);
/// x [.., in] weight [out, in] bias [out] -> [.., out]
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
struct LinearAttr {
  std::string accumulate = "f32";
  /// Dtype of the weight's gradient where operands are coded; none = that of the gradient given.
  std::optional<DType> weight_grad = {};
  template <class V>
  void visit(V&& v) {
    v("accumulate", accumulate), v("weight_grad", weight_grad);
  }
};
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LinearAttr& attr);
/// x [N,C,H,W] weight [K,C/groups,R,S] bias [K] -> [N,K,Ho,Wo]
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Pair stride = 1,
              Pair padding = 0, Pair dilation = 1, int64_t groups = 1);
struct ConvGeometryAttr {
  Pair stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
  template <class V>
  void visit(V&& v) {
    v("stride", stride), v("padding", padding), v("dilation", dilation), v("groups", groups);
  }
};
struct Conv2dAttr : ConvGeometryAttr {
  std::string accumulate = "f32";
  std::optional<DType> weight_grad = {};  ///< as in LinearAttr
  template <class V>
  void visit(V&& v) {
    ConvGeometryAttr::visit(v);
    v("accumulate", accumulate), v("weight_grad", weight_grad);
  }
};
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dAttr& attr);

// ---- Pooling and normalisation -----------------------------------------------------------------
Tensor max_pool2d(const Tensor& x, Pair kernel_size, std::optional<Pair> stride = {},
                  Pair padding = 0, Pair dilation = 1, bool ceil_mode = false);  ///< window maxima
Tensor avg_pool2d(const Tensor& x, Pair kernel_size, std::optional<Pair> stride = {},
                  Pair padding = 0, bool ceil_mode = false,
                  bool count_include_pad = true);  ///< window means
/// Normalises every channel of x [N,C,...] over the batch (training: also updates the running
/// statistics in place) or by the running statistics.
Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const Tensor& weight = {}, const Tensor& bias = {}, bool training = false,
                  double momentum = 0.1, double eps = 1e-5);
Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {},
                  const Tensor& bias = {}, double eps = 1e-5);  ///< over the last dims
Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {},
                std::optional<double> eps = {});  ///< by the root mean square of the last dims

// ---- Probabilities and losses ------------------------------------------------------------------
Tensor softmax(const Tensor& x, int64_t dim);      ///< e^x / sum e^x along dim
Tensor log_softmax(const Tensor& x, int64_t dim);  ///< x - log sum e^x along dim
/// logits [N,C] or [N,C,...], target i64 class numbers; reduction none | mean | sum.
Tensor cross_entropy(const Tensor& logits, const Tensor& target,
                     const std::string& reduction = "mean", int64_t ignore_index = -100,
                     double label_smoothing = 0);
Tensor mse_loss(const Tensor& x, const Tensor& target, const std::string& reduction = "mean");
/// Zeroes elements with probability p and scales the others by 1/(1-p); draws from the thread's
/// generator.
Tensor dropout(const Tensor& x, double p = 0.5, bool training = true);

// ---- Shapes (views cost nothing) ---------------------------------------------------------------
Tensor contiguous(const Tensor& x);                   ///< row-major copy; x itself when it is
Tensor reshape(const Tensor& x, const Shape& shape);  ///< one size may be -1
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);  ///< swaps two dims
Tensor permute(const Tensor& x, const Shape& dims);             ///< reorders the dims
Tensor expand(const Tensor& x, const Shape& shape);  ///< repeats size-1 dims without a copy
Tensor slice(const Tensor& x, int64_t dim, std::optional<int64_t> start = {},
             std::optional<int64_t> end = {}, int64_t step = 1);  ///< x[start:end:step] along dim

// ---- Joining and indexing ----------------------------------------------------------------------
Tensor concat(const Tensors& xs, int64_t dim = 0);  ///< end to end along dim
Tensor stack(const Tensors& xs, int64_t dim = 0);   ///< along a new dim
/// PyTorch's pad list: (left, right) of the last dim first. Negative numbers crop.
Tensor pad(const Tensor& x, const Shape& pad, const std::string& mode = "constant",
           double value = 0);
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);  ///< x[.., index, ..]
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index,
                   const Tensor& src);  ///< a copy of x with src added at index
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);  ///< whole slices
Tensor embedding(const Tensor& index, const Tensor& weight);             ///< rows of weight
Tensor one_hot(const Tensor& index, int64_t num_classes);                ///< i64 zeros and a one
Tensors topk(const Tensor& x, int64_t k, int64_t dim = -1, bool largest = true,
             bool sorted = true);  ///< {values, indices}
Tensors sort(const Tensor& x, int64_t dim = -1, bool descending = false,
             bool stable = true);  ///< {values, indices}

// ---- Random numbers ----------------------------------------------------------------------------
Tensor uniform(const Shape& shape, double low = 0,
               double high = 1);  ///< from the thread's generator
Tensor normal(const Shape& shape, double mean = 0,
              double std = 1);  ///< from the thread's generator

// ---- Optimiser steps, in place
// -------------------------------------------------------------------
struct SgdAttr {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  int64_t step = 1;  ///< counts from 1; the first step starts the momentum buffer
  template <class V>
  void visit(V&& v) {
    v("lr", lr), v("momentum", momentum), v("dampening", dampening);
    v("weight_decay", weight_decay), v("nesterov", nesterov), v("step", step);
  }
};
struct AdamAttr {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;  ///< counts from 1
  template <class V>
  void visit(V&& v) {
    v("lr", lr), v("beta1", beta1), v("beta2", beta2), v("eps", eps);
    v("weight_decay", weight_decay), v("step", step);
  }
};
void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& momentum_buffer,
              const SgdAttr& a);  ///< torch.optim.SGD
void adam_step(const Tensor& param, const Tensor& grad, const Tensor& exp_avg,
               const Tensor& exp_avg_sq, const AdamAttr& a);  ///< torch.optim.Adam
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& exp_avg,
                const Tensor& exp_avg_sq, const AdamAttr& a);  ///< torch.optim.AdamW
/// Sum of x (f32 or f64) over all ranks of core/ranks.h, in place; collective.
void all_reduce(const Tensor& x);

// ---- Used by backward rules
// ----------------------------------------------------------------------
/// Sums a gradient of a broadcast result back to the operand's shape.
Tensor sum_to(const Tensor& g, const Shape& shape);

}  // namespace wattle
