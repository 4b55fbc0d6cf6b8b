// What an op is: one object that holds its equation, shape rule, cost rule, kernels, backward and
// samples. ops/apply.cpp is the only caller of a kernel.
#pragma once
#include <atomic>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/attr.h"
#include "core/cost.h"
#include "core/error.h"
#include "core/launch.h"
#include "core/simd.h"
#include "core/tensor.h"

namespace wattle {

using Ins = std::span<const Tensor>;
using Outs = std::span<const Tensor>;
using Metas = std::vector<Meta>;
using Tensors = std::vector<Tensor>;

/// A member that must be given: leaving it out of a designated initialiser does not compile.
template <class F>
struct Required {
  Required() = delete;
  template <class G>
  requires std::is_convertible_v<G, F>
  constexpr Required(G&& g) : value(std::forward<G>(g)) {}
  F value;
};

/// Why a kernel does not take a call; empty = it does.
struct Refusal {
  std::string why;
  explicit operator bool() const { return !why.empty(); }
};

/// Unique bytes of one call, for ops that do not touch every element of their operands.
struct Bytes {
  int64_t read = 0, written = 0;
};

/// Whether kernels take any strides, or rely on row-major operands (apply then inserts a counted
/// `contiguous` where an operand is not).
enum class Layout : uint8_t { contiguous, strided };

/// One way to compute an op. Lists are ordered fastest first; the last, "ref", is the definition.
template <class A>
struct Kernel {
  const char* name;
  void (*run)(Ins, Outs, const A&);
  /// Beyond device, instruction set and dtype, which apply checks: what else this kernel needs.
  Refusal (*when)(Ins, const A&) = nullptr;
  /// What it really executes, where that is not the op's cost (skipped padding, scratch copies).
  Cost (*executes)(Ins, const Cost& declared, const A&) = nullptr;
  simd::Level isa = simd::Level::portable;
  bool f32_only = false;  ///< every floating operand must be f32
  bool codes = false;     ///< knows coded operands; others are given decoded ones (ops/coded.h)
  DeviceKind device = DeviceKind::cpu;
};

/// A kernel compiled for the instruction set Isa; takes f32 only and is named after the set.
template <class Isa, class A>
Kernel<A> simd_kernel(
    void (*run)(Ins, Outs, const A&),
    std::type_identity_t<Refusal (*)(Ins, const A&)> when = nullptr,
    std::type_identity_t<Cost (*)(Ins, const Cost&, const A&)> executes = nullptr) {
  return {simd::level_name(Isa::level), run, when, executes, Isa::level, true};
}

/// How a sample fills an operand.
struct SampleIn {
  Shape shape;
  double lo = -1, hi = 1;
  enum Fill : uint8_t {
    uniform,   ///< real numbers in [lo, hi]
    distinct,  ///< evenly spaced in [lo, hi], shuffled: no two closer than (hi - lo) / numel
    integers,  ///< integers in [lo, hi)
    booleans,
    absent,  ///< an optional operand that is not given
  } fill = uniform;
  /// Points where the op is not differentiable; values stay away from them.
  std::vector<double> kinks = {};
  DType int_dtype = DType::i64;  ///< of Fill::integers
  /// The numbers themselves, row-major, where they have to fit together; `fill` then says only
  /// whether they are integers.
  std::vector<double> values = {};
};

template <class A>
struct Sample {
  std::vector<SampleIn> in;
  A attr = {};
};

/// What backward is given: declared inputs and outputs, attributes and shapes; nothing else.
class SavedBase {
 public:
  virtual ~SavedBase() = default;
  /// Input i. Throws autograd_error when the op does not declare it, or when it was overwritten.
  virtual Tensor in(int i) const = 0;
  virtual Tensor out(int i) const = 0;
  virtual Meta in_meta(int i) const = 0;
  virtual int in_count() const = 0;
  /// False for an optional input that was not given.
  virtual bool has(int i) const = 0;
  /// True when the gradient of input i is wanted; others may be left undefined.
  virtual bool needs(int i) const = 0;
  virtual const void* attr_ptr() const = 0;
};
template <class A>
class Saved {
 public:
  explicit Saved(const SavedBase& b) : b_(b) {}
  Tensor in(int i) const { return b_.in(i); }
  Tensor out(int i) const { return b_.out(i); }
  Meta in_meta(int i) const { return b_.in_meta(i); }
  Shape shape(int i) const { return b_.in_meta(i).shape; }
  int in_count() const { return b_.in_count(); }
  bool has(int i) const { return i < b_.in_count() && b_.has(i); }
  bool needs(int i) const { return b_.needs(i); }
  const A& attr() const { return *static_cast<const A*>(b_.attr_ptr()); }

 private:
  const SavedBase& b_;
};

/// A view: same storage, other shape.
struct ViewSpec {
  Shape shape, strides;
  int64_t offset = 0;
};

/// Bit set of operand numbers.
struct Bits {
  uint32_t mask = 0;
  constexpr Bits() = default;
  constexpr Bits(std::initializer_list<int> is) {
    for (int i : is) mask |= 1u << i;
  }
  constexpr bool has(int i) const { return mask >> i & 1u; }
  static constexpr Bits all() {
    Bits b;
    b.mask = ~0u;
    return b;
  }
};

/// An op's name, and the line on which it is given: where a reader finds the op.
struct OpName {
  OpName(const char* t, std::source_location w = std::source_location::current())
      : text(t), where(w) {}
  const char* text;
  std::source_location where;
};

/// Everything that is known about an op. Field order is the order in which an op file reads.
template <class A>
struct Rules {
  OpName name;
  const char* doc;       ///< one line
  const char* equation;  ///< what it computes
  /// Shapes and dtypes of the results; throws shape_error/dtype_error naming op, operands, sizes.
  Required<Metas (*)(Ins, const A&)> shape;
  /// Operations executed (bytes are filled in by apply, see `bytes`). Pure; no data is read.
  Required<Cost (*)(Ins, std::span<const Meta> out, const A&)> cost;
  /// Unique bytes, where not every element of every operand is touched exactly as declared.
  Bytes (*bytes)(Ins, std::span<const Meta> out, const A&) = nullptr;
  std::vector<Kernel<A>> kernels = {};
  Layout layout = Layout::contiguous;
  Bits saves_in = {}, saves_out = {};  ///< what backward may read
  Bits writes = {};                    ///< inputs that are overwritten in place
  /// Those of `writes` that this call overwrites, where an attribute decides. Null = all.
  Bits (*writes_when)(const A&) = nullptr;
  Bits aux_outs = {};  ///< results for backward only; no gradient flows to them
  Bits aux_ins = {};   ///< operands that backward alone reads; kernels do not touch them
  /// Operands that may be spikes (bits) beside the numbers of the others; results are numbers,
  /// unless the shape rule says otherwise. Every other op refuses spikes.
  Bits spike_ins = {};
  /// The work depends on the data: `cost` is the upper bound, kernels call report_executed().
  bool data_dependent = false;
  /// Makes the op a view of input 0; it then has no kernels and costs nothing.
  ViewSpec (*view)(const Tensor&, const A&) = nullptr;
  /// The gradient is one by definition (straight-through), not the derivative: finite differences
  /// do not find it.
  bool estimated_gradient = false;
  /// Gradients of the inputs, made of ops. Null = not differentiable.
  Tensors (*backward)(const Saved<A>&, Ins grad_out) = nullptr;
  std::vector<Sample<A>> samples = {};
  std::vector<const char*> aliases = {};
};

struct AttrText {
  std::string name, text;
};

/// An op without its attribute type: what apply, the tape, tests, tools and documents see.
class OpBase {
 public:
  const char* name;
  const char* doc;
  const char* equation;
  const char* file;
  int line;
  Layout layout;
  Bits saves_in, saves_out, writes, aux_outs, aux_ins, spike_ins;
  bool differentiable, is_view, data_dependent, estimated_gradient;
  bool takes_codes = false;  ///< some kernel knows codes
  /// Kernels for codes that other packages registered; kept by ops/coded.cpp.
  mutable std::atomic<const void*> coded_kernels = nullptr;
  std::vector<const char*> aliases;

  virtual ~OpBase() = default;
  virtual Metas shape(Ins, const void* attr) const = 0;
  virtual Cost cost(Ins, std::span<const Meta>, const void* attr) const = 0;
  virtual Bytes bytes(Ins, std::span<const Meta>, const void* attr) const = 0;
  virtual ViewSpec view(const Tensor&, const void* attr) const = 0;
  /// Inputs that a call with these attributes overwrites in place; a subset of `writes`.
  virtual Bits written(const void* attr) const = 0;
  virtual Tensors backward(const SavedBase&, Ins grad_out) const = 0;

  virtual int kernel_count() const = 0;
  virtual const char* kernel_name(int k) const = 0;
  /// Why kernel k does not take this call on this machine now.
  virtual Refusal kernel_refusal(int k, Ins, const void* attr) const = 0;
  virtual bool kernel_takes_codes(int k) const = 0;
  virtual void kernel_run(int k, Ins, Outs, const void* attr) const = 0;
  virtual Cost kernel_executes(int k, Ins, const Cost& declared, const void* attr) const = 0;

  virtual std::shared_ptr<void> make_attr() const = 0;  ///< PyTorch's defaults
  virtual std::shared_ptr<const void> copy_attr(const void* attr) const = 0;
  /// Throws value_error naming op and field for an unknown name or a malformed text.
  virtual void set_attr(void* attr, std::string_view field, std::string_view text) const = 0;
  virtual std::vector<AttrText> attr_texts(const void* attr) const = 0;
  /// The attributes as device code sees them; returns their number. Texts live as long as `attr`.
  virtual int attr_fields(const void* attr, device::Field* fields) const = 0;

  virtual int sample_count() const = 0;
  virtual const std::vector<SampleIn>& sample_in(int s) const = 0;
  virtual const void* sample_attr(int s) const = 0;

 protected:
  OpBase(const OpName& n, const char* d, const char* e)
      : name(n.text),
        doc(d),
        equation(e),
        file(n.where.file_name()),
        line(static_cast<int>(n.where.line())) {}
};

/// Every registered op, by name. For tests, documents and tools; a call does not need it.
const std::vector<const OpBase*>& all_ops();
/// The op called `name` or one of its aliases; throws value_error with the nearest names.
const OpBase& find_op(std::string_view name);

/// A kernel's report of what a call with data-dependent work (routing, spikes, sparsity) executed;
/// it replaces Kernel::executes for the call that is running on this thread.
void report_executed(const Cost& cost);

/// Runs one op: the only path to a kernel (ops/apply.cpp).
Tensors apply(const OpBase& op, Ins in, const void* attr);

namespace detail {
void register_op(const OpBase* op);
void check_rules(const OpBase& op, bool has_ref);
Refusal kernel_basics(simd::Level isa, bool f32_only, bool codes, DeviceKind device, Ins in);
[[noreturn]] void unknown_attr(const char* op, std::string_view field, const std::string& known);
}  // namespace detail

/// `registered = false` keeps an op out of all_ops() (faulty ops that tests plant).
template <class A = NoAttr>
class Op final : public OpBase {
 public:
  explicit Op(Rules<A> r, bool registered = true)
      : OpBase(r.name, r.doc, r.equation), r_(std::move(r)) {
    layout = r_.layout;
    saves_in = r_.saves_in;
    saves_out = r_.saves_out;
    writes = r_.writes;
    aux_outs = r_.aux_outs;
    aux_ins = r_.aux_ins;
    spike_ins = r_.spike_ins;
    data_dependent = r_.data_dependent;
    estimated_gradient = r_.estimated_gradient;
    differentiable = r_.backward != nullptr;
    is_view = r_.view != nullptr;
    aliases = r_.aliases;
    for (const Kernel<A>& k : r_.kernels) takes_codes = takes_codes || k.codes;
    detail::check_rules(*this,
                        !r_.kernels.empty() && std::string_view(r_.kernels.back().name) == "ref");
    if (registered) detail::register_op(this);
  }

  Tensors operator()(Ins in, const A& attr = {}) const { return apply(*this, in, &attr); }
  Tensors operator()(std::initializer_list<Tensor> in, const A& attr = {}) const {
    return apply(*this, Ins(in.begin(), in.size()), &attr);
  }
  /// For ops with one result.
  Tensor one(std::initializer_list<Tensor> in, const A& attr = {}) const {
    return std::move(apply(*this, Ins(in.begin(), in.size()), &attr)[0]);
  }
  Metas shape(Ins in, const void* a) const override { return r_.shape.value(in, as(a)); }
  Cost cost(Ins in, std::span<const Meta> out, const void* a) const override {
    return r_.cost.value(in, out, as(a));
  }
  Bytes bytes(Ins in, std::span<const Meta> out, const void* a) const override;
  ViewSpec view(const Tensor& t, const void* a) const override { return r_.view(t, as(a)); }
  Bits written(const void* a) const override {
    return r_.writes_when ? r_.writes_when(as(a)) : writes;
  }
  Tensors backward(const SavedBase& s, Ins gy) const override {
    return r_.backward(Saved<A>(s), gy);
  }
  int kernel_count() const override { return static_cast<int>(r_.kernels.size()); }
  const char* kernel_name(int k) const override { return kernel(k).name; }
  Refusal kernel_refusal(int k, Ins in, const void* a) const override {
    const Kernel<A>& kn = kernel(k);
    if (Refusal no = detail::kernel_basics(kn.isa, kn.f32_only, kn.codes, kn.device, in)) return no;
    return kn.when ? kn.when(in, as(a)) : Refusal{};
  }
  bool kernel_takes_codes(int k) const override { return kernel(k).codes; }
  void kernel_run(int k, Ins in, Outs out, const void* a) const override {
    kernel(k).run(in, out, as(a));
  }
  Cost kernel_executes(int k, Ins in, const Cost& declared, const void* a) const override {
    return kernel(k).executes ? kernel(k).executes(in, declared, as(a)) : declared;
  }
  std::shared_ptr<void> make_attr() const override { return std::make_shared<A>(); }
  std::shared_ptr<const void> copy_attr(const void* a) const override {
    return std::make_shared<const A>(as(a));
  }
  void set_attr(void* a, std::string_view field, std::string_view text) const override;
  std::vector<AttrText> attr_texts(const void* a) const override;
  int attr_fields(const void* a, device::Field* fields) const override;
  int sample_count() const override { return static_cast<int>(r_.samples.size()); }
  const std::vector<SampleIn>& sample_in(int s) const override {
    return r_.samples[static_cast<size_t>(s)].in;
  }
  const void* sample_attr(int s) const override { return &r_.samples[static_cast<size_t>(s)].attr; }

 private:
  static const A& as(const void* a) { return *static_cast<const A*>(a); }
  const Kernel<A>& kernel(int k) const { return r_.kernels[static_cast<size_t>(k)]; }
  Rules<A> r_;
};

/// Unique bytes when every operand but those in `unread` is read once, every result written once,
/// and every input that is written in place is also written once. A tensor given twice counts once;
/// an expanded view counts the elements that are stored.
Bytes default_bytes(Ins in, std::span<const Meta> out, Bits writes, Bits unread = {});

template <class A>
Bytes Op<A>::bytes(Ins in, std::span<const Meta> out, const void* a) const {
  if (r_.view) return {};
  return r_.bytes ? r_.bytes(in, out, as(a)) : default_bytes(in, out, written(a), aux_ins);
}

template <class A>
void Op<A>::set_attr(void* a, std::string_view field, std::string_view text) const {
  bool found = false;
  std::string known;
  static_cast<A*>(a)->visit([&](std::string_view f, auto& value) {
    known += (known.empty() ? "" : ", ") + std::string(f);
    if (f != field) return;
    attr::parse({name, f}, text, value);
    found = true;
  });
  if (!found) detail::unknown_attr(name, field, known);
}

template <class A>
std::vector<AttrText> Op<A>::attr_texts(const void* a) const {
  std::vector<AttrText> out;
  A copy = as(a);
  copy.visit([&](std::string_view f, auto& value) {
    out.push_back({std::string(f), attr::text(value)});
  });
  return out;
}

template <class A>
int Op<A>::attr_fields(const void* a, device::Field* fields) const {
  int n = 0;
  // visit() is for reading and writing, hence not const; this only reads.
  const_cast<A&>(as(a)).visit([&](std::string_view f, auto& value) {
    device::Field& to = fields[n++];
    to.name = f.data();
    to.name_size = static_cast<int32_t>(f.size());
    attr::pack(value, to);
  });
  return n;
}

}  // namespace wattle
