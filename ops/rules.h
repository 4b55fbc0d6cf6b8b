// Small pieces that many op files share: shape rules, dtype checks, loops of reference kernels.
#pragma once
#include "core/counted.h"
#include "core/parallel.h"
#include "ops/ops.h"

namespace wattle::rules {

/// Throws unless 'in' holds between lo and hi operands and the first lo are given.
void arity(const char* op, Ins in, int lo, int hi);
/// Throws dtype_error unless all given operands have the first one's dtype, or all are floating
/// codes (posits, FP8, ...), of any kinds; results then have the first one's. Spikes go with all.
void same_dtype(const char* op, Ins in);
/// Dtype of the first operand that does not hold spikes; f32 where all do.
DType numbers_dtype(Ins in);
/// Work of so many products summed up: multiply-accumulates, or additions alone where an operand is
/// spikes by its type.
Cost contraction(Ins in, int64_t products);
/// Throws unless `mode` is one of f32, certified, quire, per_op, and the operands are posits of one
/// type where it is not f32.
void accumulate(const char* op, Ins in, const std::string& mode);
/// Dtype of a result: the first operand's, or `wanted` where that is coded; throws dtype_error for
/// a wanted dtype that is not floating.
DType result_dtype(const char* op, Ins in, std::optional<DType> wanted);
/// Throws dtype_error unless operand i is floating.
void floating(const char* op, Ins in, int i);
/// Throws dtype_error unless operand i is i64 or i32.
void index_dtype(const char* op, Ins in, int i);
/// Throws shape_error unless operand i has exactly `rank` dimensions.
void rank(const char* op, Ins in, int i, int rank);
/// Operand i is about to get one more dimension: throws shape_error where it has all there can be.
void room_for_one_more(const char* op, Ins in, int i);

/// Axes of a reduction as a bit set, from PyTorch's `dim` list (empty = all).
uint32_t axis_mask(const char* op, const Shape& dim, int rank);
Shape reduced_shape(const Shape& in, uint32_t mask, bool keepdim);

/// Index i of an i64 or i32 tensor that is contiguous.
int64_t index_at(const Tensor& t, int64_t i);

}  // namespace wattle::rules
