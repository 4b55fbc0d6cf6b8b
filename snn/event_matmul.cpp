// Products by events of matrices of spikes: matmul of spikes [.., k] with weights [k, n], linear
// with weights [n, k], and the gradients of both kinds of weights, from gy [rows, n] and spikes
// [rows, k]: their product with one of them transposed. Silent inputs cost nothing; matmul does not
// read their weights.
#include <algorithm>

#include "core/error.h"
#include "ops/coded.h"
#include "ops/gemm.h"
#include "ops/matmul_plan.h"
#include "snn/event.h"
#include "snn/event_rows.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

const uint8_t* bits_of(const Tensor& spikes) { return static_cast<const uint8_t*>(spikes.raw()); }

// spikes [rows, k], numbers w, bias [n] or null, results y; each returns the number of spikes.
struct Product {
  int64_t rows, k, n;
  const uint8_t* spikes;
  const float *w, *bias;
  float* y;
};

// y [rows, n] = spikes w, w [k, n] with rows `w_row` apart.
int64_t rows_of_weights(const Product& p, int64_t w_row) {
  const SpikeLists lists = SpikeLists::by_row(p.spikes, p.rows, p.k);
  sum_rows(lists, {p.n, p.k, p.w, w_row, RowSums::tile, p.bias, p.y});
  return lists.spikes();
}
// y [rows, n] = spikes w^T, w [n, k].
int64_t weights_by_output(const Product& p) {
  const Tensor tiles = by_input(p.w, p.n, p.k);
  const SpikeLists lists = SpikeLists::by_row(p.spikes, p.rows, p.k);
  constexpr int64_t tile = RowSums::tile;
  sum_rows(lists, {p.n, p.k, tiles.data<float>(), tile, tile * p.k, p.bias, p.y});
  return lists.spikes();
}
// y [k, n] = spikes^T w, w [rows, n]: row i adds the rows in which i spikes.
int64_t rows_that_spike(const Product& p) {
  const SpikeLists lists = SpikeLists::by_column(p.spikes, p.rows, p.k);
  sum_rows(lists, {p.n, p.rows, p.w, p.n, RowSums::tile, nullptr, p.y});
  return lists.spikes();
}
// y [n, k] = w^T spikes.
int64_t rows_that_spike_transposed(Product p) {
  float* const y = p.y;
  const Tensor by_input = Tensor::empty({p.k, p.n}, DType::f32);
  p.y = by_input.data<float>();
  const int64_t spikes = rows_that_spike(p);
  transpose_into(p.y, p.k, p.n, y);
  return spikes;
}

// ---- which way ----

enum class Form : int64_t { matmul = 1, linear = 3, gradient = 4, gradient_by_output = 5 };
bool is_gradient(Form f) { return f == Form::gradient || f == Form::gradient_by_output; }

int64_t run(Form f, const Product& p) {
  switch (f) {
    case Form::matmul: return rows_of_weights(p, p.n);
    case Form::linear: return weights_by_output(p);
    case Form::gradient: return rows_that_spike(p);
    case Form::gradient_by_output: break;
  }
  return rows_that_spike_transposed(p);
}

void run_dense(Form f, const Product& p, const Tensor& bits) {
  const Tensor floats = Tensor::empty({p.rows, p.k}, DType::f32);
  decode(bits, floats.data<float>());
  const float* const x = floats.data<float>();
  const gemm::MatView spikes{x, p.k, 1}, turned{x, 1, p.k};
  at_level([&]<class Isa>() {
    switch (f) {
      case Form::matmul: return gemm::sgemm<Isa>(p.rows, p.n, p.k, spikes, {p.w, p.n, 1}, p.y, p.n);
      case Form::linear: return gemm::sgemm<Isa>(p.rows, p.n, p.k, spikes, {p.w, 1, p.k}, p.y, p.n);
      case Form::gradient:
        return gemm::sgemm<Isa>(p.k, p.n, p.rows, turned, {p.w, p.n, 1}, p.y, p.n);
      case Form::gradient_by_output:
        return gemm::sgemm<Isa>(p.n, p.k, p.rows, {p.w, 1, p.n}, spikes, p.y, p.k);
    }
  });
}

Times measure(Form f, int64_t rows, int64_t k, int64_t n) {
  const bool gradient = is_gradient(f);
  const Tensor w = Tensor::full({gradient ? rows : k, n}, 0.5);
  const Tensor y = Tensor::empty({gradient ? k : rows, n}, DType::f32);
  const Tensor bits = Tensor::zeros({rows, k}, DType::spike);
  const Product p{rows, k, n, bits_of(bits), w.data<float>(), nullptr, y.data<float>()};
  Times t{};
  scatter_spikes(bits, kFew);
  t.few = fastest([&] { run(f, p); });
  scatter_spikes(bits, kMany);
  t.many = fastest([&] { run(f, p); });
  t.dense = fastest([&] { run_dense(f, p, bits); });
  if (t.many < t.dense) {
    scatter_spikes(bits, 2);  // all of them
    t.all = fastest([&] { run(f, p); });
  }
  return t;
}

// Why events are not the way for spikes of this rate; empty where they are.
Refusal too_many(const Tensor& spikes, Form f, const char* what, int64_t rows, int64_t k,
                 int64_t n) {
  if (exec() != Exec::automatic)
    return exec() == Exec::event ? Refusal{} : Refusal{"dense was asked for"};
  const double rate =
      static_cast<double>(count_spikes(spikes)) / static_cast<double>(spikes.numel());
  // Beyond so many rows the times per row are the same.
  rows = std::min<int64_t>(rows, is_gradient(f) ? 1024 : 128);
  const double limit = crossover(
      {static_cast<int64_t>(f), rows, k, n},
      [&] { return str(what, " ", rows, " x ", k, " x ", n); },
      [&] { return measure(f, rows, k, n); });
  if (rate <= limit) return {};
  return {str(rate * 100, " % spikes, events pay up to ", limit * 100, " % here")};
}

// ---- matmul with spikes on the left ----

// Inputs that spike in any row, of which all rows have `spikes`.
int64_t active_inputs(const uint8_t* bits, int64_t rows, int64_t k, int64_t spikes) {
  if (rows == 1) return spikes;
  const int64_t row_bytes = spike_row_bytes(k);
  std::vector<uint8_t> any(static_cast<size_t>(row_bytes));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t b = 0; b < row_bytes; ++b) any[static_cast<size_t>(b)] |= bits[r * row_bytes + b];
  return count_bits(any.data(), row_bytes);
}

// Sizes of a call; of two matrices, which the shape rule has checked already, without a plan, whose
// making takes as long as adding up three rows.
struct Sizes {
  int64_t m, k, n, b_row, b_col;
  bool one;  ///< product, not a batch of them
};
Sizes sizes_of(Ins in, const MatmulAttr& a) {
  if (in[0].rank() == 2 && in[1].rank() == 2) {
    const int r = a.transpose_b ? 1 : 0;
    return {in[0].size(0),      in[0].size(1),          in[1].size(1 - r),
            in[1].strides()[r], in[1].strides()[1 - r], true};
  }
  const MatmulPlan p = matmul_plan(in, a);
  return {p.m, p.k, p.n, p.b_row, p.b_col, p.batch.numel() == 1};
}

void matmul_events(Ins in, Outs out, const void* attr) {
  const Sizes p = sizes_of(in, *static_cast<const MatmulAttr*>(attr));
  const uint8_t* const bits = bits_of(in[0]);
  const int64_t spikes = rows_of_weights(
      {p.m, p.k, p.n, bits, in[1].data<float>(), nullptr, out[0].data<float>()}, p.b_row);
  report_executed({.add = spikes * p.n,
                   .read = in[0].nbytes() + active_inputs(bits, p.m, p.k, spikes) * p.n * 4,
                   .written = out[0].nbytes()});
}

Refusal matmul_refused(Ins in, const void* attr) {
  const auto& a = *static_cast<const MatmulAttr*>(attr);
  if (in[0].dtype() != DType::spike) return {"no spikes on the left"};
  if (in[1].dtype() != DType::f32) return {str("weights are ", name(in[1].dtype()))};
  if (a.transpose_a || in[0].rank() < 2 || !in[0].is_contiguous())
    return {"spikes do not lie in rows"};
  const Sizes p = sizes_of(in, a);
  if (!p.one) return {"spikes do not lie in rows"};
  if (p.b_col != 1 || p.k < 1 || p.n < 1 || p.m < 1) return {"weights of an input lie apart"};
  return too_many(in[0], Form::matmul, "matmul", p.m, p.k, p.n);
}

// ---- linear ----

int64_t rows_of(const Tensor& x) { return x.numel() / x.size(-1); }

void linear_events(Ins in, Outs out, const void*) {
  const bool biased = in.size() > 2 && in[2].defined();
  const int64_t n = in[1].size(0);
  const int64_t spikes =
      weights_by_output({rows_of(in[0]), in[1].size(1), n, bits_of(in[0]), in[1].data<float>(),
                         biased ? in[2].data<float>() : nullptr, out[0].data<float>()});
  // Weights are all read: they are laid out anew in every call.
  report_executed({.add = spikes * n + (biased ? out[0].numel() : 0),
                   .read = in[0].nbytes() + 2 * in[1].nbytes() + (biased ? in[2].nbytes() : 0),
                   .written = out[0].nbytes() + in[1].nbytes()});
}

Refusal linear_refused(Ins in, const void* attr) {
  if (in[0].dtype() != DType::spike) return {"no spikes on the left"};
  if (in[1].dtype() != DType::f32) return {str("weights are ", name(in[1].dtype()))};
  if (static_cast<const LinearAttr*>(attr)->accumulate != "f32") return {"sums are no f32"};
  if (!in[0].is_contiguous() || !in[1].is_contiguous() || in[0].numel() == 0 || in[1].numel() == 0)
    return {"spikes or weights do not lie in rows"};
  return too_many(in[0], Form::linear, "linear", rows_of(in[0]), in[1].size(1), in[1].size(0));
}

// ---- gradients of weights: spikes^T gy, or gy^T spikes for weights by output ----

void gradient_events(Ins in, Outs out, const void*) {
  const bool by_output = in[1].dtype() == DType::spike;
  const Tensor &x = in[by_output ? 1 : 0], &gy = in[by_output ? 0 : 1];
  const Product p{x.size(0),        x.size(1), gy.size(1),          bits_of(x),
                  gy.data<float>(), nullptr,   out[0].data<float>()};
  const int64_t spikes = run(by_output ? Form::gradient_by_output : Form::gradient, p);
  const int64_t turned = by_output ? out[0].nbytes() : 0;  // sums are transposed once
  report_executed({.add = spikes * p.n,
                   .read = gy.nbytes() + 2 * x.nbytes() + turned,
                   .written = out[0].nbytes() + turned});
}

Refusal gradient_refused(Ins in, const void* attr) {
  const auto& a = *static_cast<const MatmulAttr*>(attr);
  const bool by_output = in[1].dtype() == DType::spike;
  const Tensor &x = in[by_output ? 1 : 0], &gy = in[by_output ? 0 : 1];
  if (x.dtype() != DType::spike) return {"no spikes"};
  if (gy.dtype() != DType::f32) return {str("the other operand is ", name(gy.dtype()))};
  if (a.accumulate != "f32" || (a.out && *a.out != DType::f32)) return {"sums are no f32"};
  if (!a.transpose_a || a.transpose_b || x.rank() != 2 || gy.rank() != 2 || !x.is_contiguous() ||
      !gy.is_contiguous())
    return {"rows of numbers do not meet rows of spikes"};
  if (x.numel() == 0 || gy.numel() == 0) return {"nothing to add"};
  return too_many(x, by_output ? Form::gradient_by_output : Form::gradient, "weight gradient",
                  x.size(0), x.size(1), gy.size(1));
}

const bool registered = [] {
  coded::register_kernel({.op = "matmul",
                          .name = "event_gradient",
                          .when = gradient_refused,
                          .run = gradient_events,
                          .spikes = true});
  coded::register_kernel({.op = "matmul",
                          .name = "event",
                          .when = matmul_refused,
                          .run = matmul_events,
                          .spikes = true});
  coded::register_kernel({.op = "linear",
                          .name = "event",
                          .when = linear_refused,
                          .run = linear_events,
                          .spikes = true});
  return true;
}();

}  // namespace
}  // namespace wattle::snn
