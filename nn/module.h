// Modules hold parameters, call ops and name the scope that their ops are credited to. They contain
// no arithmetic: a layer's cost is the sum of its ops.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/callable.h"
#include "core/tensor.h"
#include "ops/ops.h"

namespace wattle::nn {

/// A tensor under its path in the model, e.g. "conv1.weight".
struct Named {
  std::string name;
  Tensor tensor;
};
/// Parameters and buffers in the order in which they were registered, under PyTorch's names.
using StateDict = std::vector<Named>;

/// What a layer's input, parameters and output pass through on their way: how low-precision
/// training and quantisation reach into a model without the layers knowing of them. Empty ones do
/// nothing.
struct Hooks {
  using Fn = Callable<Tensor(const Tensor&)>;
  Fn input, weight, bias, output;
  /// Dtype in which a weight's gradient leaves a Conv2d or Linear that computes with codes; none =
  /// that of the gradient which reaches it.
  std::optional<DType> weight_grad;
};

class Module {
 public:
  virtual ~Module() = default;
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Runs forward() inside the module's scope.
  Tensor operator()(const Tensor& x);
  virtual Tensor forward(const Tensor& x) = 0;
  /// PyTorch's class name: "Linear".
  virtual const char* kind() const = 0;
  /// What a reader wants to know of it: "588 -> 392".
  virtual std::string extra() const { return {}; }

  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }
  const std::string& name() const { return name_; }

  std::vector<Named> named_parameters() const;
  std::vector<Named> named_buffers() const;
  int64_t parameter_count() const;
  /// Handles of parameters and buffers; they share storage with the module.
  StateDict state_dict() const;
  /// Copies values in. Every entry of the module must be given with its shape and dtype, and
  /// nothing unknown (PyTorch's num_batches_tracked is ignored); otherwise value_error names the
  /// entries and nothing is changed.
  void load_state_dict(const StateDict& state);

  /// Converts parameters and buffers to a floating dtype (f32, f64, posit16, bf16, ...), in place:
  /// handles stay valid, gradients are dropped. Call it before an optimiser takes the parameters.
  /// Throws dtype_error for integers and for types that pack several numbers together.
  void to(DType dtype);
  /// Moves parameters and buffers, in place, under the same conditions.
  void to(Device device);

  /// Of this module alone, not of its children.
  Hooks hooks;
  /// The tape keeps what this module is given and runs it again on the way back (Recompute). Pays
  /// for a block of layers, not for a single op.
  bool recompute = false;

  struct Child {
    std::string name;
    std::shared_ptr<Module> module;
  };
  const std::vector<Child>& children() const { return children_; }

 protected:
  /// Replaces a child; null takes it out.
  void put(const std::string& name, std::shared_ptr<Module> m);
  static Tensor through(const Hooks::Fn& hook, const Tensor& t) { return hook && t ? hook(t) : t; }
  Tensor register_parameter(std::string name, Tensor t);
  Tensor register_buffer(std::string name, Tensor t);
  template <class M>
  std::shared_ptr<M> register_module(std::string name, std::shared_ptr<M> m) {
    add_child(std::move(name), m);
    return m;
  }

 private:
  void add_child(std::string name, std::shared_ptr<Module> m);
  void collect(const std::string& prefix, bool buffers, std::vector<Named>& out) const;
  std::string name_;
  bool training_ = true;
  std::vector<Named> parameters_, buffers_;
  std::vector<Child> children_;
};

/// One module after another. Names default to positions, as in PyTorch.
class Sequential final : public Module {
 public:
  Sequential() = default;
  Sequential& add(std::shared_ptr<Module> m) { return add(std::to_string(children().size()), m); }
  Sequential& add(std::string name, std::shared_ptr<Module> m);
  /// Puts another module in the place of `name`, or takes it out; throws value_error for a name
  /// that is not there.
  void replace(const std::string& name, std::shared_ptr<Module> m) { put(name, std::move(m)); }
  void remove(const std::string& name) { put(name, nullptr); }
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "Sequential"; }
};

}  // namespace wattle::nn
