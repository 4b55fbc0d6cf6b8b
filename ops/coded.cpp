#include "ops/coded.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>

#include "core/cuda.h"
#include "ops/ops.h"

namespace wattle::coded {
namespace {

// Of an op, without and with spikes.
using OfOp = std::array<std::vector<CodedKernel>, 2>;
std::unordered_map<std::string_view, OfOp>& registry() {
  static std::unordered_map<std::string_view, OfOp> all;
  return all;
}

Cost codec_cost(const Meta& m, DType plain, bool decoded, bool encoded) {
  const Codec& c = codec(m.dtype);
  const int64_t n = m.shape.numel(), codes = storage_bytes(m.shape, m.dtype);
  const int64_t floats = storage_bytes(m.shape, plain);
  Cost cost;
  if (decoded) cost += {.iop = n * c.decode_iops, .read = codes, .written = floats};
  if (encoded) cost += {.iop = n * c.encode_iops, .read = floats, .written = codes};
  return cost;
}

void decode_into(const Tensor& codes, const Tensor& x) {
  if (x.dtype() == DType::f64) decode(codes, x.data<double>());
  else decode(codes, x.data<float>());
}

void encode_from(const Tensor& x, const Tensor& codes) {
  report_rounding(x.dtype() == DType::f64 ? encode(x.data<double>(), codes)
                                          : encode(x.data<float>(), codes));
}

}  // namespace

void register_kernel(const CodedKernel& k) {
  std::vector<CodedKernel>& of_op = registry()[k.op][k.spikes];
  of_op.insert(of_op.begin(), k);
}
const std::vector<CodedKernel>& kernels(const OpBase& op, bool spikes) {
  const void* of_op = op.coded_kernels.load(std::memory_order_acquire);
  if (!of_op) {
    static std::mutex adding;
    const std::lock_guard lock(adding);
    of_op = &registry()[op.name];
    op.coded_kernels.store(of_op, std::memory_order_release);
  }
  return (*static_cast<const OfOp*>(of_op))[spikes];
}

Refusal refusal(const CodedKernel& k, Ins in, const void* attr) {
  for (const Tensor& t : in)
    if (t && t.device().kind != DeviceKind::cpu && !t.is_meta())
      return {str("operands are on ", t.device())};
  if (!simd::machine_has(k.isa)) return {str("this machine has no ", simd::level_name(k.isa))};
  if (k.isa > simd::level()) return {str(simd::level_name(k.isa), " is switched off")};
  return k.when ? k.when(in, attr) : Refusal{};
}

const CodedKernel* for_device(const OpBase& op, const void* attr, Ins in) {
  for (const CodedKernel& k : kernels(op, false))
    if (k.on_device && !(k.when && k.when(in, attr))) return &k;
  return nullptr;
}

bool involved(Ins in, std::span<const Meta> out) {
  return std::any_of(in.begin(), in.end(),
                     [](const Tensor& t) { return t && is_coded(t.dtype()); }) ||
         std::any_of(out.begin(), out.end(), [](const Meta& m) { return is_coded(m.dtype); });
}

Plain::Plain(const OpBase& op, Ins in, std::span<const Meta> out, const void* attr)
    : op_(op), written_(op.written(attr)) {
  DType plain = DType::f32;
  const auto widen = [&](DType t) {
    if (t == DType::f64 || (is_coded(t) && info(t).computes_in == DType::f64)) plain = DType::f64;
  };
  for (const Tensor& t : in)
    if (t) widen(t.dtype());
  for (const Meta& m : out) widen(m.dtype);
  for (size_t i = 0; i < in.size(); ++i) {
    const bool codes = in[i] && is_coded(in[i].dtype());
    in_.push_back(codes ? Tensor::empty(in[i].shape(), plain, meta) : in[i]);
    if (codes)
      conversions_ += codec_cost(in[i].meta(), plain, true, written_.has(static_cast<int>(i)));
  }
  for (const Meta& m : out) {
    out_.push_back({m.shape, is_coded(m.dtype) ? plain : m.dtype});
    if (is_coded(m.dtype)) conversions_ += codec_cost(m, plain, false, true);
  }
}

// convert(from, to) decodes or rounds, run(in, out) is the op on floats.
template <class Convert, class Run>
void Plain::around(Ins in, Outs out, Device where, const Convert& convert, const Run& run) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i] || !is_coded(in[i].dtype())) continue;
    in_[i] = Tensor::empty(in[i].shape(), in_[i].dtype(), where);
    convert(in[i], in_[i]);
  }
  Tensors results;
  for (size_t o = 0; o < out.size(); ++o)
    results.push_back(is_coded(out[o].dtype()) ? Tensor::empty(out_[o].shape, out_[o].dtype, where)
                                               : out[o]);
  run(Ins(in_), Outs(results));
  for (size_t o = 0; o < out.size(); ++o)
    if (is_coded(out[o].dtype())) convert(results[o], out[o]);
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] && is_coded(in[i].dtype()) && written_.has(static_cast<int>(i)))
      convert(in_[i], in[i]);
}

void Plain::run(int k, Ins in, Outs out, const void* attr) {
  const auto convert = [](const Tensor& from, const Tensor& to) {
    if (is_coded(from.dtype())) decode_into(from, to);
    else encode_from(from, to);
  };
  around(in, out, cpu, convert, [&](Ins x, Outs y) { op_.kernel_run(k, x, y, attr); });
}

const char* Plain::run(device::Function f, Device where, Ins in, Outs out, const void* attr,
                       double* ns) {
  const OpBase& cast = find_op("cast");
  const device::Function cast_there = cuda::detail::function(cast);
  const char* kernel = "";
  *ns = 0;
  const auto launch = [&](device::Function g, const OpBase& op, Ins x, Outs y, const void* a) {
    double more = 0;
    const char* const name = cuda::detail::launch(g, op, x, y, a, &more);
    *ns += more;
    return name;
  };
  const auto convert = [&](const Tensor& from, const Tensor& to) {
    const CastAttr as{.to = to.dtype()};
    const Tensor x = from.is_contiguous() ? from : contiguous(from);
    launch(cast_there, cast, {&x, 1}, {&to, 1}, &as);
  };
  around(in, out, where, convert, [&](Ins x, Outs y) { kernel = launch(f, op_, x, y, attr); });
  return kernel;
}

bool known_on_device(const OpBase& op, Ins in, std::span<const Meta> out) {
  if (op.takes_codes) return true;
  // Products of halves give halves there; sums that are wanted in f32 are not among them.
  const DType half = in.empty() || !in[0] ? DType::f32 : in[0].dtype();
  return (half == DType::bf16 || half == DType::fp16) &&
         std::all_of(in.begin(), in.end(),
                     [&](const Tensor& t) { return !t || t.dtype() == half; }) &&
         std::all_of(out.begin(), out.end(), [&](const Meta& m) { return m.dtype == half; }) &&
         cuda::detail::backend().takes_halves(op.name);
}

Tensor view(const OpBase& op, const Tensor& x, ViewSpec v) {
  const int64_t block = info(x.dtype()).block;
  if (block == 1) return x.alias(v.shape, v.strides, v.offset);
  const auto columns = [](const Shape& s) { return s.rank() ? s.back() : 1; };
  // A reshape of whole rows counts its strides without the unused end of a row's last block.
  if (columns(v.shape) == columns(x.shape()) && v.offset == x.offset() && x.is_contiguous() &&
      v.shape.numel() == x.numel() && v.strides == contiguous_strides(v.shape))
    v.strides = row_major_strides(v.shape, x.dtype());
  bool whole = columns(v.shape) == columns(x.shape()) && v.offset % block == 0;
  for (int i = 0; i < v.shape.rank(); ++i)
    whole = whole && (v.shape[i] == 1 ||
                      (i == v.shape.rank() - 1 ? v.strides[i] == 1 : v.strides[i] % block == 0));
  if (!whole)
    throw dtype_error(str(op.name, ": ", x, " keeps ", block, " numbers of a row in ",
                          info(x.dtype()).bytes, " bytes; a view must leave its rows of ",
                          columns(x.shape()), " whole. cast it to f32 first"));
  return x.alias(v.shape, v.strides, v.offset);
}

}  // namespace wattle::coded
