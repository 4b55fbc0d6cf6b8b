// matmul, linear and conv2d on posits where the attribute `accumulate` asks for more than floats
// (f32 is the way every op takes, ops/coded.h): their operands laid out for posit_gemm.
#include "core/error.h"
#include "ops/coded.h"
#include "ops/conv2d_kernels.h"
#include "ops/matmul_plan.h"
#include "quant/patches.h"
#include "quant/posit_gemm.h"

namespace wattle::quant {
namespace {

const char* at(const Tensor& t, int64_t element) {
  return static_cast<const char*>(t.raw()) + element * info(t.dtype()).bytes;
}
char* at_out(const Tensor& t, int64_t element) {
  return static_cast<char*>(t.raw()) + element * info(t.dtype()).bytes;
}
const void* bias_of(Ins in) { return in.size() > 2 && in[2] ? in[2].raw() : nullptr; }

// Only certified proves anything; roundings are not counted in these modes.
void report(const std::string& mode, int64_t fallbacks, int64_t sums) {
  CastStats s;
  if (mode == "certified") s.proven = sums - fallbacks, s.to_quire = fallbacks;
  report_rounding(s);
}

void matmul(Ins in, Outs out, const void* attr) {
  const auto& a = *static_cast<const MatmulAttr*>(attr);
  const MatmulPlan p = matmul_plan(in, a);
  const auto oa = batch_offsets(p.batch, p.a_batch), ob = batch_offsets(p.batch, p.b_batch);
  int64_t fallbacks = 0;
  for (size_t g = 0; g < oa.size(); ++g)
    fallbacks +=
        posit_gemm({p.m, p.n, p.k, at(in[0], oa[g]), p.a_row, p.a_col, at(in[1], ob[g]), p.b_row,
                    p.b_col, nullptr, at_out(out[0], static_cast<int64_t>(g) * p.m * p.n), p.n, 1},
                   a.accumulate, in[0].dtype());
  report(a.accumulate, fallbacks, out[0].numel());
}

void linear(Ins in, Outs out, const void* attr) {
  const auto& a = *static_cast<const LinearAttr*>(attr);
  const int64_t k = in[0].size(-1), n = in[1].size(0), rows = n ? out[0].numel() / n : 0;
  report(a.accumulate,
         posit_gemm(
             {rows, n, k, in[0].raw(), k, 1, in[1].raw(), 1, k, bias_of(in), out[0].raw(), n, 1},
             a.accumulate, in[0].dtype()),
         out[0].numel());
}

// Patches of codes of any width; 0 in the padding, whose code is 0 in every posit type.
void code_patches(const conv::Geometry& g, const void* image, int64_t bytes, void* to) {
  const auto as = [&]<class Code>() {
    patches<Code>(g, static_cast<const Code*>(image), 0, static_cast<Code*>(to));
  };
  if (bytes == 1) as.template operator()<uint8_t>();
  else if (bytes == 2) as.template operator()<uint16_t>();
  else as.template operator()<uint32_t>();
}

void conv2d(Ins in, Outs out, const void* attr) {
  const auto& a = *static_cast<const Conv2dAttr*>(attr);
  const conv::Geometry g = conv::forward_geometry(in, a);
  const int64_t bytes = info(in[0].dtype()).bytes, plane = g.ho * g.wo, kg = g.k / g.groups;
  const int64_t cg = g.c / g.groups, taps = cg * g.r * g.s;
  const Tensor rows = Tensor::empty({plane, taps}, in[0].dtype());
  int64_t fallbacks = 0;
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t group = 0; group < g.groups; ++group) {
      code_patches(g, at(in[0], (n * g.c + group * cg) * g.h * g.w), bytes, rows.raw());
      const char* bias = static_cast<const char*>(bias_of(in));
      fallbacks += posit_gemm({plane, kg, taps, rows.raw(), taps, 1, at(in[1], group * kg * taps),
                               1, taps, bias ? bias + group * kg * bytes : nullptr,
                               at_out(out[0], (n * g.k + group * kg) * plane), 1, plane},
                              a.accumulate, in[0].dtype());
    }
  report(a.accumulate, fallbacks, out[0].numel());
}

template <class Attr>
Refusal wanted(Ins, const void* attr) {
  const std::string& mode = static_cast<const Attr*>(attr)->accumulate;
  return mode == "f32" ? Refusal{"accumulate=f32 runs in floats"} : Refusal{};
}

Cost gemms(Ins in, const MatmulAttr& a) {
  const MatmulPlan p = matmul_plan(in, a);
  return posit_gemm_executes(p.m, p.n, p.k, a.accumulate, in[0].dtype()) * p.batch.numel();
}
Cost gemms(Ins in, const LinearAttr& a) {
  const int64_t k = in[0].size(-1), n = in[1].size(0);
  return posit_gemm_executes(k ? in[0].numel() / k : 0, n, k, a.accumulate, in[0].dtype());
}
Cost gemms(Ins in, const Conv2dAttr& a) {
  const conv::Geometry g = conv::forward_geometry(in, a);
  return posit_gemm_executes(g.ho * g.wo, g.k / g.groups, g.c / g.groups * g.r * g.s, a.accumulate,
                             in[0].dtype()) *
         (g.n * g.groups);
}

template <class Attr>
Cost executes(Ins in, const Cost& declared, const void* attr) {
  Cost cost = declared.written ? gemms(in, *static_cast<const Attr*>(attr)) : Cost{};
  cost.read = declared.read, cost.written = declared.written;
  return cost;
}

template <class Attr>
void add(const char* op, void (*run)(Ins, Outs, const void*)) {
  coded::register_kernel({.op = op,
                          .name = "posit",
                          .when = wanted<Attr>,
                          .run = run,
                          .executes = executes<Attr>,
                          .on_device = true});
}

const bool registered = [] {
  add<MatmulAttr>("matmul", matmul);
  add<LinearAttr>("linear", linear);
  add<Conv2dAttr>("conv2d", conv2d);
  return true;
}();

}  // namespace
}  // namespace wattle::quant
