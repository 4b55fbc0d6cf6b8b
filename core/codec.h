// Codecs: how the codes of a coded dtype become plain floats and back. quant/ brings them; core,
// ops and files only ask for the one of a dtype.
#pragma once
#include <initializer_list>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/rounding.h"
#include "core/tensor.h"

namespace wattle {

/// One row of the codec table. Functions take `n` numbers of one row that starts at a block; the
/// last block may be shorter.
struct Codec {
  DType dtype;
  /// Whether the codes hold numbers that f32 does not.
  bool wide = false;
  bool may_overflow = true;     ///< saturate = off means something (not for posits, integers)
  bool has_scale_rule = false;  ///< scale_rule means something (MX)
  /// Integer operations that decoding and encoding a number run, as written.
  int decode_iops = 0, encode_iops = 0;
  void (*decode)(const void* codes, float* x, int64_t n) = nullptr;
  void (*decode_wide)(const void* codes, double* x, int64_t n) = nullptr;
  /// Throws value_error for NaN where the format has no code for it.
  CastStats (*encode)(const float* x, void* codes, int64_t n, const EncodeOptions&) = nullptr;
  CastStats (*encode_wide)(const double* x, void* codes, int64_t n, const EncodeOptions&) = nullptr;
};

/// The codec of a coded dtype; throws dtype_error when none is registered.
const Codec& codec(DType t);
void register_codec(const Codec* c);

/// The function of a codec for the type of the numbers.
inline void decode_run(const Codec& c, const void* codes, float* x, int64_t n) {
  c.decode(codes, x, n);
}
inline void decode_run(const Codec& c, const void* codes, double* x, int64_t n) {
  c.decode_wide(codes, x, n);
}
inline CastStats encode_run(const Codec& c, const float* x, void* codes, int64_t n,
                            const EncodeOptions& o = {}) {
  return c.encode(x, codes, n, o);
}
inline CastStats encode_run(const Codec& c, const double* x, void* codes, int64_t n,
                            const EncodeOptions& o = {}) {
  return c.encode_wide(x, codes, n, o);
}

/// CastStats that several threads add to; integers, so the order does not matter.
class SharedCastStats {
 public:
  void add(const CastStats& s) {
    const std::lock_guard lock(mutex_);
    sum_ += s;
  }
  const CastStats& get() const { return sum_; }  ///< after the parallel loop

 private:
  std::mutex mutex_;
  CastStats sum_;
};

/// All numbers of a coded tensor, row-major, any strides. f32 is exact unless the codec is wide.
void decode(const Tensor& t, float* x);
void decode(const Tensor& t, double* x);
/// Several contiguous tensors of formats without blocks, in one parallel loop.
struct Decoding {
  const Tensor* codes;
  float* x;
};
void decode(std::initializer_list<Decoding> all);
/// Row-major numbers into a coded tensor that is contiguous.
CastStats encode(const float* x, const Tensor& t, const EncodeOptions& options = {});
CastStats encode(const double* x, const Tensor& t, const EncodeOptions& options = {});
/// Bytes from one block-aligned element of a row to another, `columns` (a multiple of the block)
/// apart.
inline int64_t code_bytes(DType t, int64_t columns) {
  return (columns + info(t).block - 1) / info(t).block * info(t).bytes;
}

/// A kernel's report of the rounding that the running call did; apply puts it into the counters.
void report_rounding(const CastStats& s);
/// What was reported on this thread since the last call of this function.
CastStats take_rounding();

}  // namespace wattle
