// Optimisers. Each step is an op per parameter, so that it is counted, and credited to the layer
// that owns the parameter.
#pragma once
#include <memory>

#include "nn/module.h"

namespace wattle::nn {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// One step for every parameter that has a gradient.
  void step();
  void zero_grad();
  /// State tensors under "<parameter>.<state>", e.g. "conv1.weight.exp_avg".
  StateDict state_dict() const;
  /// Restores tensors and the number of steps taken. Throws value_error when an entry is missing or
  /// has another shape or dtype; nothing is changed then.
  void load_state_dict(const StateDict& state, int64_t steps);
  int64_t steps() const { return steps_; }
  /// Counts steps whose ops a captured graph ran (negative: that were captured, not run).
  void count_steps(int64_t n) { steps_ += n; }
  virtual const char* kind() const = 0;

  double lr = 1e-3;  ///< changed by schedules between steps

 protected:
  Optimizer(std::vector<Named> parameters, std::vector<const char*> states);
  /// state: in the order of the names given to the constructor.
  virtual void update(const Tensor& param, const Tensor& grad, const Tensors& state,
                      int64_t step) = 0;

 private:
  struct Slot {
    Named param;
    std::string scope;
    Tensors state;
  };
  std::vector<Slot> slots_;
  std::vector<const char*> state_names_;
  int64_t steps_ = 0;
};

/// torch.optim.SGD.
class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<Named> parameters, SgdAttr options);
  const char* kind() const override { return "sgd"; }

 private:
  void update(const Tensor&, const Tensor&, const Tensors&, int64_t) override;
  SgdAttr options_;
};

/// torch.optim.Adam; decoupled = torch.optim.AdamW.
class Adam final : public Optimizer {
 public:
  Adam(std::vector<Named> parameters, AdamAttr options, bool decoupled = false);
  const char* kind() const override { return decoupled_ ? "adamw" : "adam"; }

 private:
  void update(const Tensor&, const Tensor&, const Tensors&, int64_t) override;
  AdamAttr options_;
  bool decoupled_;
};

/// "sgd", "momentum" (SGD with 0.9), "adam", "adamw"; throws value_error otherwise.
std::unique_ptr<Optimizer> make_optimizer(const std::string& name, std::vector<Named> parameters,
                                          double lr);

/// Gradients become their sums over all ranks (core/ranks.h); nothing to do for a rank alone.
/// Collective.
void sum_grads(const std::vector<Named>& parameters);
/// Sum of the squares of all gradients.
double grad_squares(const std::vector<Named>& parameters);
/// Multiplies every gradient by `factor`.
void scale_grads(const std::vector<Named>& parameters, double factor);
/// torch.nn.utils.clip_grad_norm_: gradients are scaled so that their norm over all parameters is
/// at most max_norm. Returns the norm before. Throws value_error unless max_norm > 0.
double clip_grad_norm(const std::vector<Named>& parameters, double max_norm);

/// Learning rate as a factor of the base rate at `step` of `total` (both count from 0).
double cosine_schedule(int64_t step, int64_t total, double final_factor = 0);
double step_schedule(int64_t step, int64_t every, double gamma = 0.1);
/// Grows linearly from 1/warmup to 1 during the first `warmup` steps.
double warmup_schedule(int64_t step, int64_t warmup);

}  // namespace wattle::nn
