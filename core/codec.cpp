#include "core/codec.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "core/parallel.h"

namespace wattle {
namespace {

constexpr int64_t piece = 8192;  // numbers; a multiple of every block

std::array<const Codec*, 64>& table() {
  static std::array<const Codec*, 64> codecs{};
  return codecs;
}

// Calls fn(codes, first number, count) for runs of numbers that lie in one row.
template <class F>
void for_each_run(const Tensor& t, F&& fn) {
  auto* base = static_cast<uint8_t*>(t.raw());
  const DType d = t.dtype();
  if (info(d).block == 1)
    return parallel_for(t.numel(), piece, [&](int64_t begin, int64_t end) {
      fn(base + begin * info(d).bytes, begin, end - begin);
    });
  const int64_t columns = t.rank() ? t.size(-1) : 1;
  if (t.numel() == 0) return;
  if (t.rank() && columns > 1 && t.strides()[t.rank() - 1] != 1)
    throw dtype_error(str("codes of ", t, ": the packed dimension is not the last one any more"));
  Shape outer = t.shape();
  if (t.rank()) outer[t.rank() - 1] = 1;
  std::vector<int64_t> offsets;
  for_each_offset(outer, t.strides(), [&](int64_t, int64_t o) { offsets.push_back(o); });
  const auto rows = static_cast<int64_t>(offsets.size());
  parallel_for(rows, std::max<int64_t>(1, piece / columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      fn(base + code_bytes(d, offsets[static_cast<size_t>(r)]), r * columns, columns);
  });
}

// Codes of a strided tensor side by side.
Tensor gathered(const Tensor& t) {
  const Tensor g = Tensor::empty(t.shape(), t.dtype());
  const auto bytes = static_cast<size_t>(info(t.dtype()).bytes);
  const auto* from = static_cast<const uint8_t*>(t.raw());
  auto* to = static_cast<uint8_t*>(g.raw());
  for_each_offset(t.shape(), t.strides(), [&](int64_t i, int64_t o) {
    std::memcpy(to + static_cast<size_t>(i) * bytes, from + o * static_cast<int64_t>(bytes), bytes);
  });
  return g;
}

template <class T>
void decode_all(const Tensor& t, T* x) {
  const Codec& c = codec(t.dtype());
  if (info(t.dtype()).block == 1 && !t.is_contiguous()) return decode_all(gathered(t), x);
  for_each_run(
      t, [&](const void* codes, int64_t first, int64_t n) { decode_run(c, codes, x + first, n); });
}

template <class T>
CastStats encode_all(const T* x, const Tensor& t, const EncodeOptions& options) {
  if (!t.is_contiguous()) throw shape_error(str("encode: ", t, " is strided"));
  const Codec& c = codec(t.dtype());
  SharedCastStats stats;
  for_each_run(t, [&](void* codes, int64_t first, int64_t n) {
    EncodeOptions o = options;
    o.first += static_cast<uint64_t>(first);
    stats.add(encode_run(c, x + first, codes, n, o));
  });
  return stats.get();
}

CastStats& reported() {
  thread_local CastStats s;
  return s;
}

}  // namespace

const Codec& codec(DType t) {
  const Codec* c = table()[static_cast<size_t>(t)];
  if (!c) throw dtype_error(str("codec: ", name(t), " has none"));
  return *c;
}

void register_codec(const Codec* c) { table()[static_cast<size_t>(c->dtype)] = c; }

void decode(const Tensor& t, float* x) { decode_all(t, x); }
void decode(const Tensor& t, double* x) { decode_all(t, x); }
void decode(std::initializer_list<Decoding> all) {
  std::vector<int64_t> ends;  // in pieces
  for (const Decoding& d : all)
    ends.push_back((ends.empty() ? 0 : ends.back()) + (d.codes->numel() + piece - 1) / piece);
  parallel_chunks(ends.empty() ? 0 : ends.back(), [&](int64_t chunk) {
    size_t i = 0;
    while (chunk >= ends[i]) ++i;
    const Tensor& t = *all.begin()[i].codes;
    const int64_t begin = (chunk - (i ? ends[i - 1] : 0)) * piece;
    codec(t.dtype()).decode(static_cast<const uint8_t*>(t.raw()) + begin * info(t.dtype()).bytes,
                            all.begin()[i].x + begin, std::min(piece, t.numel() - begin));
  });
}
CastStats encode(const float* x, const Tensor& t, const EncodeOptions& o) {
  return encode_all(x, t, o);
}
CastStats encode(const double* x, const Tensor& t, const EncodeOptions& o) {
  return encode_all(x, t, o);
}

std::vector<double> decode_to_doubles(const Tensor& t) {
  std::vector<double> x(static_cast<size_t>(t.numel()));
  decode(t, x.data());
  return x;
}

void report_rounding(const CastStats& s) { reported() += s; }
CastStats take_rounding() {
  const CastStats s = reported();
  reported() = {};
  return s;
}

}  // namespace wattle
