// Loop plans and checks shared by the elementwise ops.
#include "ops/elementwise.h"

namespace wattle::elementwise {
namespace {

// Dimensions from the last to the first, merged where every operand steps on without a gap.
struct Merged {
  int rank = 0;
  int64_t size[Shape::max_rank] = {};
  int64_t stride[Plan::max_operands][Shape::max_rank] = {};

  void push(int64_t n, const int64_t* step, int operands) {
    bool joins = rank > 0;
    for (int k = 0; k < operands && joins; ++k)
      joins = step[k] == stride[k][rank - 1] * size[rank - 1];
    if (joins) {
      size[rank - 1] *= n;
      return;
    }
    size[rank] = n;
    for (int k = 0; k < operands; ++k) stride[k][rank] = step[k];
    ++rank;
  }
};

bool all_dense(const Shape& out, Ins in) {
  for (const Tensor& t : in)
    if (t.shape() != out || !t.is_contiguous()) return false;
  return true;
}

}  // namespace

Plan make_plan(const Shape& out, Ins in) {
  Plan plan;
  const int operands = static_cast<int>(in.size());
  if (all_dense(out, in)) {
    plan.row = out.numel();
    for (int k = 0; k < operands; ++k) plan.row_stride[k] = 1;
    return plan;
  }
  Merged dims;
  for (int d = out.rank() - 1; d >= 0; --d) {
    if (out[d] == 1) continue;
    int64_t step[Plan::max_operands];
    for (int k = 0; k < operands; ++k) {
      const Tensor& t = in[static_cast<size_t>(k)];
      const int own = d - (out.rank() - t.rank());
      step[k] = own < 0 || t.shape()[own] == 1 ? 0 : t.strides()[own];
    }
    dims.push(out[d], step, operands);
  }
  if (dims.rank == 0) {
    plan.row = out.numel();
    return plan;
  }
  plan.row = dims.size[0];
  plan.outer_rank = dims.rank - 1;
  for (int k = 0; k < operands; ++k) plan.row_stride[k] = dims.stride[k][0];
  for (int d = 1; d < dims.rank; ++d) {
    const int to = plan.outer_rank - d;
    plan.outer_size[to] = dims.size[d];
    plan.rows *= dims.size[d];
    for (int k = 0; k < operands; ++k) plan.outer_stride[k][to] = dims.stride[k][d];
  }
  return plan;
}

Cursor::Cursor(const Plan& plan, int operands, int64_t row) {
  for (int d = plan.outer_rank - 1; d >= 0 && row > 0; --d) {
    index[d] = row % plan.outer_size[d];
    row /= plan.outer_size[d];
    for (int k = 0; k < operands; ++k) offset[k] += index[d] * plan.outer_stride[k][d];
  }
}

void check_dtype(const char* op, Ins in, int i, Dtypes allowed) {
  const DType t = in[static_cast<size_t>(i)].dtype();
  if (allowed == Dtypes::floating) rules::floating(op, in, i);
  else if (allowed == Dtypes::numeric && t == DType::boolean)
    throw dtype_error(str(op, ": operand ", i, " is ", in[static_cast<size_t>(i)],
                          ", expected numbers; convert it with cast"));
}

Shape broadcast_all(const char* op, Ins in) {
  Shape shape = in[0].shape();
  for (size_t i = 1; i < in.size(); ++i)
    if (in[i].shape() != shape) shape = broadcast_shapes(op, shape, in[i].shape());
  return shape;
}

// Small whole numbers, so that equal elements are frequent.
std::vector<Sample<NoAttr>> compare_samples() {
  SampleIn i64{{3, 5}, -2, 3, SampleIn::integers}, u8{{3, 5}, 0, 3, SampleIn::integers};
  u8.int_dtype = DType::u8;
  return {{{{{3, 5}}, {{3, 5}}}},
          {{{{1}}, {{1}}}},
          {{{{2, 37}, 0, 0}, {{37}}}},
          {{{{4, 1}}, {{1, 3}}}},
          {{i64, i64}},
          {{u8, u8}},
          {{{{2, 7}, 0, 1, SampleIn::booleans}, {{7}, 0, 1, SampleIn::booleans}}}};
}

}  // namespace wattle::elementwise
