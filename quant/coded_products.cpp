// matmul and linear on codes, summed in f32 as in the plain way (ops/coded.h), bit for bit, with
// less sent through memory: B is decoded into the panels that the product reads, a strip of A where
// it is used, and results are rounded while they are still in the cache of the core that has them.
#include <atomic>

#include "core/parallel.h"
#include "ops/coded.h"
#include "ops/gemm.h"
#include "ops/gemm_kernels.h"
#include "ops/matmul_plan.h"

namespace wattle::quant {
namespace {

struct Product {
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col;
};

struct Codes {
  explicit Codes(const Tensor& t)
      : codec(&wattle::codec(t.dtype())),
        p(static_cast<uint8_t*>(t.raw())),
        bytes(info(t.dtype()).bytes) {}
  void decode(int64_t first, int64_t n, float* x) const { codec->decode(p + first * bytes, x, n); }
  CastStats encode(const float* x, int64_t first, int64_t n) const {
    return codec->encode(x, p + first * bytes, n, {});
  }
  const Codec* codec;
  uint8_t* p;
  int64_t bytes;
};

// B [k, n] in panels; panels [begin, end) of it.
template <class Isa>
void pack(const Product& p, const gemm::detail::Layout<Isa>& l, const Codes& b, int64_t begin,
          int64_t end, float* buffer) {
  constexpr int64_t wide = l.kWide;
  const int64_t first = begin * wide, columns = std::min(end * wide, p.n) - first;
  if (p.b_col != 1) {  // transposed: a column at a time
    std::vector<float> side(static_cast<size_t>(wide * p.k));
    for (int64_t j = begin; j < end; ++j) {
      const int64_t width = j < l.whole ? wide : l.rest;
      for (int64_t i = 0; i < width; ++i)
        b.decode((j * wide + i) * p.b_col, p.k, side.data() + i * p.k);
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        gemm::detail::pack_panel<N>(side.data(), 1, p.k, static_cast<int>(width), p.k,
                                    buffer + j * wide * p.k,
                                    static_cast<int>(j < l.whole ? wide : l.tail_width));
      });
    }
    return;
  }
  std::vector<float> row(static_cast<size_t>((end - begin) * wide));
  for (int64_t i = 0; i < p.k; ++i) {
    b.decode(i * p.b_row + first, columns, row.data());
    for (int64_t j = begin; j < end; ++j) {
      const int64_t width = j < l.whole ? wide : l.tail_width;
      std::copy_n(row.data() + (j - begin) * wide, width, buffer + j * wide * p.k + i * width);
    }
  }
}

// Strips of results, one after the other: their rows of A decoded, multiplied, rounded.
template <class Isa>
struct Strips {
  static constexpr int64_t tile = gemm::detail::kTileRows<Isa>, depth = gemm::detail::kDepth<Isa>;
  const Product& p;
  Codes a;
  gemm::detail::Panels b;
  const float* bias;
  const Tensor& out;
  SharedCastStats& stats;

  void operator()(int64_t begin, int64_t end) const {
    const bool rounds = is_coded(out.dtype());
    std::vector<float> sums(static_cast<size_t>(rounds ? tile * p.n : 0));
    CastStats s;
    for (int64_t row = begin; row < end; row += tile) {
      const int64_t rows = std::min(tile, end - row);
      float* const c = rounds ? sums.data() : out.data<float>() + row * p.n;
      multiply(row, static_cast<int>(rows), c);
      if (rounds) s += Codes(out).encode(c, row * p.n, rows * p.n);
    }
    if (rounds) stats.add(s);
  }

  void multiply(int64_t row, int rows, float* c) const {
    alignas(64) float strip[(depth + 16) * tile];
    const int64_t slabs = (p.k + depth - 1) / depth;
    for (int64_t slab = 0; slab < slabs; ++slab) {
      const int64_t p0 = slab * p.k / slabs, k = (slab + 1) * p.k / slabs - p0;
      const int64_t ld = k + 16 - k % 16;
      for (int64_t i = 0; i < rows; ++i) a.decode((row + i) * p.a_row + p0, k, strip + i * ld);
      gemm::detail::Strip s{};
      s.a = strip, s.a_rs = ld, s.a_cs = 1;
      s.b = b.b + p0 * b.ldb, s.ldb = b.ldb, s.panel_step = b.step;
      s.b_tail = b.tail + p0 * b.ldb_tail, s.ldb_tail = b.ldb_tail;
      s.n = p.n, s.k = k, s.c = c, s.ldc = p.n;
      s.bias = slab == 0 ? bias : nullptr;
      s.add = slab > 0;
      gemm::detail::strip_fn<Isa>(rows, true)(s);
    }
  }
};

// How many times B is decoded: by every thread for itself, where there are few. Fetching the other
// half from the cache of another core takes longer than decoding it.
int64_t decodings_of_b(const Product& p) {
  const int threads = num_threads();
  return threads <= 4 && p.m >= 64 * threads ? threads : 1;
}

template <class Isa>
void in_strips(const Product& p, Ins in, const float* bias, const Tensor& out,
               SharedCastStats& stats) {
  const int64_t teams = decodings_of_b(p);
  // Rows of whole panels that do not crowd into few sets of the cache are read where they are.
  const bool in_place = teams > 1 && p.b_col == 1 && p.b_row == p.n &&
                        p.n % gemm::detail::kPanel<Isa> == 0 && p.n % 512 != 0;
  const gemm::detail::Layout<Isa> l(p.n, in_place);
  const Codes b(in[1]);
  // Whole tiles, so many that they cost a few microseconds.
  const int64_t tile = gemm::detail::kTileRows<Isa>;
  const int64_t rows = tile * std::max<int64_t>(1, (1 << 21) / (tile * p.n * p.k));
  if (teams > 1) {
    std::atomic<int64_t> next{0};
    return parallel_chunks(teams, [&](int64_t) {
      const Tensor own = Tensor::empty({in_place ? p.k * p.n : l.floats(p.k)}, DType::f32);
      float* const x = own.data<float>();
      if (in_place) b.decode(0, p.k * p.n, x);
      else pack<Isa>(p, l, b, 0, l.last(), x);
      const gemm::detail::Panels panels = l.panels(p.k, {x, p.n, 1}, x);
      const Strips<Isa> strips{p, Codes(in[0]), panels, bias, out, stats};
      for (int64_t i; (i = next.fetch_add(rows)) < p.m;) strips(i, std::min(p.m, i + rows));
    });
  }
  const Tensor shared = Tensor::empty({l.floats(p.k)}, DType::f32);
  float* const panels = shared.data<float>();
  // As wide as threads allow: short pieces of rows cost more to decode.
  const int64_t share = (l.last() + num_threads() - 1) / num_threads();
  const int64_t group =
      std::max<int64_t>({1, 16384 / (l.kWide * p.k), std::min<int64_t>(share, 16)});
  parallel_for(l.last(), group,
               [&](int64_t begin, int64_t end) { pack<Isa>(p, l, b, begin, end, panels); });
  parallel_for(p.m, rows,
               Strips<Isa>{p, Codes(in[0]), l.panels(p.k, {}, panels), bias, out, stats});
}

// Whether B, decoded, stays in a core's cache while enough strips pass by for all cores.
template <class Isa>
bool fits_strips(const Product& p) {
  return p.a_col == 1 && p.k > 0 && p.k < 2048 && p.m >= 4 * gemm::detail::kTileRows<Isa> &&
         p.n > 1 && p.k * p.n <= 1 << 18;
}

template <class Isa>
void in_blocks(const Product& p, Ins in, const float* bias, const Tensor& out,
               SharedCastStats& stats) {
  const Tensor a = Tensor::empty(in[0].shape(), DType::f32);
  const Tensor b = Tensor::empty(in[1].shape(), DType::f32);
  decode({{&in[0], a.data<float>()}, {&in[1], b.data<float>()}});
  const bool rounds = is_coded(out.dtype());
  const Tensor sums = rounds ? Tensor::empty(out.shape(), DType::f32) : out;
  float* const c = sums.data<float>();
  const gemm::Finish round = [&](int64_t row, int64_t col, int64_t rows, int64_t columns) {
    const Codes codes(out);
    const bool whole = columns == p.n;  // rows follow each other
    CastStats s;
    for (int64_t i = 0; i < (whole ? 1 : rows); ++i) {
      const int64_t at = (row + i) * p.n + col;
      s += codes.encode(c + at, at, whole ? rows * columns : columns);
    }
    stats.add(s);
  };
  gemm::sgemm<Isa>(p.m, p.n, p.k, {a.data<float>(), p.a_row, p.a_col},
                   {b.data<float>(), p.b_row, p.b_col}, c, p.n,
                   {.bias_n = bias, .finish = rounds ? &round : nullptr});
}

template <class Isa>
void multiply(const Product& p, Ins in, const Tensor& out) {
  if (out.numel() == 0) return;
  std::vector<float> bias;
  if (in.size() > 2 && in[2]) {
    bias.resize(static_cast<size_t>(p.n));
    decode(in[2], bias.data());
  }
  SharedCastStats stats;
  const float* const b = bias.empty() ? nullptr : bias.data();
  if (fits_strips<Isa>(p)) in_strips<Isa>(p, in, b, out, stats);
  else in_blocks<Isa>(p, in, b, out, stats);
  if (is_coded(out.dtype())) report_rounding(stats.get());
}

Product product(Ins in, const MatmulAttr& a) {
  const MatmulPlan p = matmul_plan(in, a);
  return {p.m, p.n, p.k, p.a_row, p.a_col, p.b_row, p.b_col};
}
Product product(Ins in, const LinearAttr&) {
  const int64_t k = in[0].size(-1), n = in[1].size(0);
  return {k ? in[0].numel() / k : 0, n, k, k, 1, 1, k};
}

template <class Isa, class Attr>
void run(Ins in, Outs out, const void* attr) {
  multiply<Isa>(product(in, *static_cast<const Attr*>(attr)), in, out[0]);
}

// Codes of one format without blocks, held in f32, side by side.
Refusal plain_codes(Ins in) {
  for (const Tensor& t : in) {
    if (!t) continue;
    if (!is_coded(t.dtype()) || info(t.dtype()).block != 1 || codec(t.dtype()).wide)
      return {str(name(t.dtype()), " is decoded in another way")};
    if (!t.is_contiguous()) return {"an operand is strided"};
  }
  return {};
}

template <class Attr>
Refusal refusal(Ins in, const void* attr) {
  const auto& a = *static_cast<const Attr*>(attr);
  if (a.accumulate != "f32") return {"does not sum in f32"};
  if constexpr (std::is_same_v<Attr, MatmulAttr>)
    if (matmul_plan(in, a).batch.numel() != 1) return {"a batch of products"};
  return plain_codes(in);
}

// Float work as declared; codes read and written, and the floats between them and the product.
template <class Isa, class Attr>
Cost executes(Ins in, const Cost& declared, const void* attr) {
  Cost cost = declared;
  const auto converted = [&](int64_t n, int iops) {
    cost.iop += n * iops, cost.read += 4 * n, cost.written += 4 * n;
  };
  if (declared.written == 0) return cost;
  for (const Tensor& t : in)
    if (t) converted(t.numel(), codec(t.dtype()).decode_iops);
  const Product p = product(in, *static_cast<const Attr*>(attr));
  const int64_t more = fits_strips<Isa>(p) ? decodings_of_b(p) - 1 : 0;
  converted(more * in[1].numel(), codec(in[1].dtype()).decode_iops);
  cost.read += more * in[1].nbytes();
  DType to = in[0].dtype();
  if constexpr (std::is_same_v<Attr, MatmulAttr>)
    to = static_cast<const Attr*>(attr)->out.value_or(to);
  if (is_coded(to)) converted(declared.written / info(to).bytes, codec(to).encode_iops);
  return cost;
}

template <class Isa>
bool add() {
  const char* const name = simd::level_name(Isa::level);
  coded::register_kernel({"matmul", name, Isa::level, refusal<MatmulAttr>, run<Isa, MatmulAttr>,
                          executes<Isa, MatmulAttr>});
  coded::register_kernel({"linear", name, Isa::level, refusal<LinearAttr>, run<Isa, LinearAttr>,
                          executes<Isa, LinearAttr>});
  return true;
}

const bool registered = add<simd::Portable>() && add<simd::Avx2>() && add<simd::Avx512>();

}  // namespace
}  // namespace wattle::quant
