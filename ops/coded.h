// Ops on coded dtypes (posits, FP8, MX, ...). An op's kernels know plain floats; a call with codes
// takes, in this order: a kernel of the op that says it knows codes (cast, contiguous), a kernel
// that another package registered for it (posit arithmetic), or the way round by plain floats -
// decode every coded operand, run the op's best kernel in f32 (f64 for posit32), round the results
// once. What that costs is counted as what it is: float work plus the integer work of the codecs.
#pragma once
#include "core/codec.h"
#include "core/launch.h"
#include "core/op.h"

namespace wattle::coded {

/// A kernel for codes that a package above ops brings along.
struct CodedKernel {
  const char* op;    ///< name of the op
  const char* name;  ///< of the kernel
  simd::Level isa = simd::Level::portable;
  Refusal (*when)(Ins, const void* attr) = nullptr;
  void (*run)(Ins, Outs, const void* attr) = nullptr;
  Cost (*executes)(Ins, const Cost& declared, const void* attr) = nullptr;
  bool spikes = false;     ///< for calls with an operand of spikes; else for those without
  bool on_device = false;  ///< the op's device code takes these calls, too, and does the same work
};
/// Later ones are tried first.
void register_kernel(const CodedKernel& k);
/// Those of an op for calls with or without spikes.
const std::vector<CodedKernel>& kernels(const OpBase& op, bool spikes);
/// Why `k` does not take this call on this machine now.
Refusal refusal(const CodedKernel& k, Ins in, const void* attr);

/// The kernel whose calls the op's device code takes; null where it does not take this one.
const CodedKernel* for_device(const OpBase& op, const void* attr, Ins in);

/// Whether an operand or a result is coded.
bool involved(Ins in, std::span<const Meta> out);

/// The operands and results of a coded call as plain floats.
class Plain {
 public:
  /// Shapes only; no number is decoded yet.
  Plain(const OpBase& op, Ins in, std::span<const Meta> out, const void* attr);
  Ins in() const { return in_; }
  std::span<const Meta> out() const { return out_; }
  /// Decodes, calls kernel k of the op, and rounds results and operands written in place.
  void run(int k, Ins in, Outs out, const void* attr);
  /// The same by device code; returns the name of what ran, and its time as cuda::detail::launch.
  const char* run(device::Function f, Device where, Ins in, Outs out, const void* attr, double* ns);
  /// Codec operations, codes read and written, floats written between them and the kernel and back.
  Cost conversions() const { return conversions_; }

 private:
  template <class Convert, class Run>
  void around(Ins in, Outs out, Device where, const Convert& convert, const Run& run);

  const OpBase& op_;
  Bits written_;
  Tensors in_;  // on meta until run()
  Metas out_;
  Cost conversions_;
};

/// Whether device code takes this call's codes as they are: it casts or moves them, or all are bf16
/// or fp16 and it knows these.
bool known_on_device(const OpBase& op, Ins in, std::span<const Meta> out);

/// A view of a tensor. Rows of a packed dtype stay whole: throws dtype_error for a view that would
/// cut or join them.
Tensor view(const OpBase& op, const Tensor& x, ViewSpec v);

}  // namespace wattle::coded
