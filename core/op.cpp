#include "core/op.h"

#include <algorithm>

namespace wattle {
namespace {

std::vector<const OpBase*>& registry() {
  static std::vector<const OpBase*> ops;
  return ops;
}

// Elements of the storage that a tensor can reach; an expanded dimension has stride 0.
int64_t stored_elements(const Tensor& t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank(); ++i)
    n *= t.strides()[i] == 0 && t.shape()[i] > 0 ? 1 : t.shape()[i];
  return n;
}

bool same_view(const Tensor& a, const Tensor& b) {
  return &a.storage() == &b.storage() && a.offset() == b.offset() && a.shape() == b.shape() &&
         a.strides() == b.strides();
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

}  // namespace

const std::vector<const OpBase*>& all_ops() {
  auto& ops = registry();
  static const bool sorted = [&] {
    std::sort(ops.begin(), ops.end(),
              [](const OpBase* a, const OpBase* b) { return std::string_view(a->name) < b->name; });
    return true;
  }();
  (void)sorted;
  return ops;
}

const OpBase& find_op(std::string_view wanted) {
  std::string_view nearest;
  size_t best = 4;
  for (const OpBase* op : all_ops()) {
    if (wanted == op->name) return *op;
    for (const char* a : op->aliases)
      if (wanted == a) return *op;
    if (const size_t d = edit_distance(wanted, op->name); d < best) {
      best = d;
      nearest = op->name;
    }
  }
  std::string hint = nearest.empty() ? "" : str("; did you mean ", nearest, "?");
  throw value_error(str("op '", wanted, "' does not exist", hint, " (`wattle ops` lists them)"));
}

Bytes default_bytes(Ins in, std::span<const Meta> out, Bits writes, Bits unread) {
  Bytes b;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i] || unread.has(static_cast<int>(i))) continue;
    bool seen = false;
    for (size_t j = 0; j < i; ++j) seen = seen || (in[j] && same_view(in[i], in[j]));
    const int64_t numel = in[i].numel(), stored = stored_elements(in[i]);
    const int64_t bytes =
        numel == stored ? in[i].nbytes() : storage_bytes(Shape{stored}, in[i].dtype());
    if (!seen) b.read += bytes;
    if (writes.has(static_cast<int>(i))) b.written += bytes;
  }
  for (const Meta& m : out) b.written += storage_bytes(m.shape, m.dtype);
  return b;
}

namespace detail {

void register_op(const OpBase* op) { registry().push_back(op); }

void check_rules(const OpBase& op, bool has_ref) {
  if (!op.is_view && !has_ref)
    throw value_error(str("op ", op.name, ": its last kernel must be called \"ref\""));
  if (op.is_view && op.kernel_count() > 0)
    throw value_error(str("op ", op.name, ": a view has no kernels"));
  if (op.sample_count() < 3)
    throw value_error(
        str("op ", op.name, ": ", op.sample_count(), " samples, expected at least 3"));
}

Refusal kernel_basics(simd::Level isa, bool f32_only, bool codes, DeviceKind device, Ins in) {
  for (const Tensor& t : in) {
    if (!t) continue;
    if (t.device().kind != device && t.device().kind != DeviceKind::meta)
      return {str("operands are on ", t.device())};
    if (!codes && is_coded(t.dtype())) return {str("takes plain types, found ", name(t.dtype()))};
    if (f32_only && is_floating(t.dtype()) && t.dtype() != DType::f32)
      return {str("takes f32, found ", name(t.dtype()))};
  }
  if (f32_only && std::none_of(in.begin(), in.end(),
                               [](const Tensor& t) { return t && t.dtype() == DType::f32; }))
    return {"takes f32, found no f32 operand"};
  if (!simd::machine_has(isa)) return {str("this machine has no ", simd::level_name(isa))};
  if (isa > simd::level())
    return {str(simd::level_name(isa), " is switched off (level ", simd::level_name(simd::level()),
                ")")};
  return {};
}

void unknown_attr(const char* op, std::string_view field, const std::string& known) {
  throw value_error(str(op, ": attribute '", field, "' does not exist, expected ",
                        known.empty() ? "none" : known));
}

}  // namespace detail
}  // namespace wattle
