#include "ops/indexing.h"

namespace wattle::indexing {
namespace {

// A set of small numbers.
class BitSet {
 public:
  explicit BitSet(int64_t size) : words_(static_cast<size_t>(size / 64 + 1)) {}
  void insert(int64_t i) { words_[static_cast<size_t>(i / 64)] |= uint64_t{1} << (i % 64); }
  int64_t count() const {
    int64_t n = 0;
    for (uint64_t w : words_) n += __builtin_popcountll(w);
    return n;
  }

 private:
  std::vector<uint64_t> words_;
};

}  // namespace

void check_range(const char* op, const Tensor& index, int64_t size) {
  const auto all_in = [&](const auto* p) {
    bool in = true;  // without an exit, so that the loop becomes vectors
    for (int64_t i = 0; i < index.numel(); ++i) in &= (p[i] >= 0) & (p[i] < size);
    return in;
  };
  if (index.dtype() == DType::i64 ? all_in(index.data<int64_t>()) : all_in(index.data<int32_t>()))
    return;
  for (int64_t i = 0; i < index.numel(); ++i) {
    const int64_t at = rules::index_at(index, i);
    if (at < 0 || at >= size)
      throw value_error(
          str(op, ": index ", at, " found at position ", i, ", expected one in [0, ", size, ")"));
  }
}

int64_t distinct(const Tensor& index, int64_t size) {
  BitSet seen(size);
  for (int64_t i = 0; i < index.numel(); ++i) seen.insert(rules::index_at(index, i));
  return seen.count();
}

int check_elementwise(const char* op, const Tensor& x, int64_t dim, const Tensor& index) {
  const int d = normalize_axis(op, dim, x.rank());
  if (index.rank() != x.rank())
    throw shape_error(str(op, ": index ", index, " has ", index.rank(), " dims, the tensor ", x,
                          " has ", x.rank()));
  for (int i = 0; i < x.rank(); ++i)
    if (i != d && index.size(i) > x.size(i))
      throw shape_error(str(op, ": index ", index, " is larger than the tensor ", x,
                            " at dimension ", i, ": ", index.size(i), " and ", x.size(i)));
  return d;
}

int64_t distinct_elements(const Shape& x, int dim, const Tensor& index) {
  BitSet seen(x.numel());
  const Shape strides = contiguous_strides(x);
  Shape base = strides;
  if (x.rank() > 0) base[dim] = 0;
  for_each_offset(index.shape(), base, [&](int64_t i, int64_t o) {
    seen.insert(o + (x.rank() > 0 ? rules::index_at(index, i) * strides[dim] : 0));
  });
  return seen.count();
}

}  // namespace wattle::indexing
