#include "ops/rules.h"

namespace wattle::rules {

void arity(const char* op, Ins in, int lo, int hi) {
  const int n = static_cast<int>(in.size());
  if (n < lo || n > hi)
    throw shape_error(
        str(op, ": ", n, " operands found, expected ", lo == hi ? str(lo) : str(lo, " to ", hi)));
  for (int i = 0; i < lo; ++i)
    if (!in[static_cast<size_t>(i)]) throw shape_error(str(op, ": operand ", i, " is not given"));
}

void same_dtype(const char* op, Ins in) {
  // Codes of two kinds meet in plain floats: gradients in E5M2 with weights in E4M3.
  const auto mixable = [](DType t) { return is_coded(t) && is_floating(t); };
  const DType first = numbers_dtype(in);
  for (const Tensor& t : in)
    if (t && t.dtype() != DType::spike && t.dtype() != first &&
        !(mixable(t.dtype()) && mixable(first)))
      throw dtype_error(str(op, ": operands have dtypes ", name(first), " and ", name(t.dtype()),
                            "; convert one with cast"));
}

DType numbers_dtype(Ins in) {
  for (const Tensor& t : in)
    if (t && t.dtype() != DType::spike) return t.dtype();
  return DType::f32;
}

Cost contraction(Ins in, int64_t products) {
  for (const Tensor& t : in)
    if (t && t.dtype() == DType::spike) return {.add = products};
  return {.mac = products};
}

void accumulate(const char* op, Ins in, const std::string& mode) {
  if (mode == "f32") return;
  if (mode != "certified" && mode != "quire" && mode != "per_op")
    throw value_error(str(op, ": attribute accumulate: found '", mode,
                          "', expected f32, certified, quire or per_op"));
  for (const Tensor& t : in)
    if (t && (t.dtype() != in[0].dtype() || !is_posit(t.dtype())))
      throw dtype_error(str(op, ": accumulate=", mode, " found ", in[0], " and ", t,
                            ", expected posits of one type"));
}

DType result_dtype(const char* op, Ins in, std::optional<DType> wanted) {
  if (wanted && !is_floating(*wanted))
    throw dtype_error(str(op, ": found ", name(*wanted),
                          " as the result's dtype, expected a "
                          "floating one"));
  const DType first = numbers_dtype(in);
  return wanted && is_coded(first) ? *wanted : first;
}

void floating(const char* op, Ins in, int i) {
  const Tensor& t = in[static_cast<size_t>(i)];
  if (t && !is_floating(t.dtype()))
    throw dtype_error(str(op, ": operand ", i, " is ", t, ", expected a floating dtype"));
}

void index_dtype(const char* op, Ins in, int i) {
  const Tensor& t = in[static_cast<size_t>(i)];
  if (t && t.dtype() != DType::i64 && t.dtype() != DType::i32)
    throw dtype_error(str(op, ": operand ", i, " is ", t, ", expected i64 or i32 indices"));
}

void room_for_one_more(const char* op, Ins in, int i) {
  if (in[static_cast<size_t>(i)].rank() >= Shape::max_rank)
    throw shape_error(str(op, ": operand ", i, " (", in[static_cast<size_t>(i)],
                          ") gets one more dimension, expected at most ", Shape::max_rank - 1,
                          " now"));
}

void rank(const char* op, Ins in, int i, int expected) {
  const Tensor& t = in[static_cast<size_t>(i)];
  if (t && t.rank() != expected)
    throw shape_error(str(op, ": operand ", i, " is ", t, ", expected ", expected, " dimensions"));
}

uint32_t axis_mask(const char* op, const Shape& dim, int rank) {
  if (dim.empty()) return ~0u;
  uint32_t mask = 0;
  for (int64_t d : dim) {
    const uint32_t bit = 1u << normalize_axis(op, d, rank);
    if (mask & bit) throw shape_error(str(op, ": dim ", d, " appears twice in ", dim));
    mask |= bit;
  }
  return mask;
}

Shape reduced_shape(const Shape& in, uint32_t mask, bool keepdim) {
  Shape out;
  for (int i = 0; i < in.rank(); ++i) {
    if (!(mask >> i & 1u)) out.push_back(in[i]);
    else if (keepdim) out.push_back(1);
  }
  return out;
}

int64_t index_at(const Tensor& t, int64_t i) {
  return t.dtype() == DType::i64 ? t.data<int64_t>()[i] : t.data<int32_t>()[i];
}

}  // namespace wattle::rules
