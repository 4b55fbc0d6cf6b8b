// The integer product on plain AVX2 with fewer multiplications than its definition (Strassen 1969):
// of matrices in 2 x 2 blocks, 7 products of sums of blocks make the 8 of blocks. Floating point
// pays for that with accuracy. Integers do not: sums of two blocks of bytes fit the 16 bits that
// vpmaddwd multiplies, and sums modulo 2^32 are exact whatever their order.
//
// Sums of blocks of b are made once, those of a for a block of rows that stays in the second cache
// with its part of c, to which each tile of a product is added as soon as it is there.
#include <array>

#include "quant/int_pack.h"
#include "quant/int_pairs.h"

namespace wattle::quant {

#if defined(__x86_64__)
using namespace int_pack;
using namespace int_pairs;
namespace {

// A block, and whether it is added or taken away.
struct Term {
  int row, col, sign;
};
struct Terms {
  std::array<Term, 2> term;
  int count = 2;
};
// What becomes of a product in a block of c; the last one leaves the block finished.
enum class Into { set, add, subtract };
struct Target {
  int row, col;
  Into how;
  bool last = false;
};
// A product of a sum of blocks of a and a sum of blocks of b, and the blocks of c it belongs to.
struct Product {
  Terms a, b;
  std::array<Target, 2> c;
  int targets = 2;
};

constexpr Terms one(Term t) { return {{t, {}}, 1}; }
constexpr Terms two(Term t, Term u) { return {{t, u}, 2}; }
constexpr Into set = Into::set, add = Into::add, subtract = Into::subtract;
constexpr std::array<Product, 7> products = {{
    {two({0, 0, 1}, {1, 1, 1}), two({0, 0, 1}, {1, 1, 1}), {{{0, 0, set}, {1, 1, set}}}},
    {two({1, 0, 1}, {1, 1, 1}), one({0, 0, 1}), {{{1, 0, set}, {1, 1, subtract}}}},
    {one({0, 0, 1}), two({0, 1, 1}, {1, 1, -1}), {{{0, 1, set}, {1, 1, add}}}},
    {one({1, 1, 1}), two({1, 0, 1}, {0, 0, -1}), {{{0, 0, add}, {1, 0, add, true}}}},
    {two({0, 0, 1}, {0, 1, 1}), one({1, 1, 1}), {{{0, 0, subtract}, {0, 1, add, true}}}},
    {two({1, 0, 1}, {0, 0, -1}), two({0, 0, 1}, {0, 1, 1}), {{{1, 1, add, true}, {}}}, 1},
    {two({0, 1, 1}, {1, 1, -1}), two({1, 0, 1}, {1, 1, 1}), {{{0, 0, add, true}, {}}}, 1},
}};

// What sum_blocks rests on: the first term is never taken away.
static_assert([] {
  for (const Product& p : products)
    if (p.a.term[0].sign != 1 || p.b.term[0].sign != 1) return false;
  return true;
}());

// How a product is cut: 2 x 2 blocks of `rows` x `depth` of a and of `depth` x `panels` of b. What
// reaches beyond a matrix is zeros.
struct Cut {
  int64_t rows, depth, panels;
};

[[gnu::target("avx2")]] __m256i load16(const int16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
[[gnu::target("avx2")]] __m256i load16(const int8_t* p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
[[gnu::target("avx2")]] __m256i load16(const uint8_t* p) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// to = the sum of n numbers of one or two blocks, where at(term) has them; n is a multiple of 16.
template <class T, class At>
[[gnu::target("avx2")]] void sum_blocks(const Terms& terms, int64_t n, const At& at, int16_t* to) {
  const T *x = at(terms.term[0]), *y = terms.count == 2 ? at(terms.term[1]) : x;
  const __m256i sign = _mm256_set1_epi16(
      static_cast<int16_t>(terms.count == 2 ? terms.term[1].sign : 0));  // 0 leaves nothing of y
  for (int64_t i = 0; i < n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_add_epi16(load16(x + i), _mm256_sign_epi16(load16(y + i), sign)));
}

// The sums of blocks of b of every product: [product][panel][depth / 2][16][2].
Tensor sums_of_b(const PackedInts& b, const Cut& cut) {
  const int64_t panel = cut.depth * columns, all = static_cast<int64_t>(b.sums.size()) / columns;
  const int64_t count = static_cast<int64_t>(products.size()) * cut.panels;
  Tensor held = bytes(count * panel * 2);
  const Tensor nothing = Tensor::zeros({panel * 2}, DType::u8);
  parallel_for(count, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto block = [&](const Term& t) {
        const int64_t at = t.col * cut.panels + i % cut.panels;
        const auto* data = static_cast<const int16_t*>(at < all ? b.data.raw() : nothing.raw());
        return at < all ? data + (2 * at + t.row) * panel : data;
      };
      sum_blocks<int16_t>(products[static_cast<size_t>(i / cut.panels)].b, panel, block,
                          static_cast<int16_t*>(held.raw()) + i * panel);
    }
  });
  return held;
}

// Rows [i0, i0 + count) of both blocks of rows of a: [2][count][2 * depth].
void copy_rows(const IntGemm& g, const Cut& cut, int64_t i0, int64_t count, uint8_t* to) {
  for (int64_t s = 0; s < 2; ++s)
    for (int64_t i = 0; i < count; ++i, to += 2 * cut.depth) {
      const int64_t row = s * cut.rows + i0 + i, filled = row < g.m ? g.k : 0;
      std::copy_n(g.a + (filled ? row * g.k : 0), filled, to);
      std::fill(to + filled, to + 2 * cut.depth, uint8_t{0});
    }
}

// The sum of blocks of a of one product, from what copy_rows made: [count][depth].
template <class T>
void sums_of_a(const uint8_t* rows, const Cut& cut, const Terms& terms, int64_t count,
               int16_t* to) {
  for (int64_t i = 0; i < count; ++i)
    sum_blocks<T>(
        terms, cut.depth,
        [&](const Term& t) {
          return reinterpret_cast<const T*>(rows) + (2 * (t.row * count + i) + t.col) * cut.depth;
        },
        to + i * cut.depth);
}

// The sums of products of a block of rows of c so far: [2][2][panel][count][16].
struct Sums {
  const IntGemm& g;
  const Cut& cut;
  int64_t i0, count;
  Tensor held = bytes(4 * cut.panels * count * columns * 4);

  uint32_t* at(const Target& t, int64_t panel) const {
    return static_cast<uint32_t*>(held.raw()) +
           ((2 * t.row + t.col) * cut.panels + panel) * count * columns;
  }
};

// to = tile, from + tile or from - tile.
template <Into How>
[[gnu::target("avx2")]] void put_rows(const uint32_t* tile, int64_t rows, const uint32_t* from,
                                      uint32_t* to, int64_t to_row) {
  using V = simd::u32<8>;
  const auto at = [](const uint32_t* p) { return reinterpret_cast<const __m256i*>(p); };
  for (int64_t r = 0; r < rows; ++r, tile += columns, from += columns, to += to_row)
    for (int64_t j = 0; j < columns; j += 8) {
      V x = (V)_mm256_loadu_si256(at(tile + j));
      if (How == Into::add) x = (V)_mm256_loadu_si256(at(from + j)) + x;
      if (How == Into::subtract) x = (V)_mm256_loadu_si256(at(from + j)) - x;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), (__m256i)x);
    }
}

// A tile of rows from i and of one panel of a block of c: to the sums, the last to c itself.
void put_tile(const Sums& sums, const Target& t, int64_t i, int64_t panel, const uint32_t* tile,
              int64_t rows) {
  const IntGemm& g = sums.g;
  const auto put = t.how == set   ? put_rows<Into::set>
                   : t.how == add ? put_rows<Into::add>
                                  : put_rows<Into::subtract>;
  uint32_t* const sum = sums.at(t, panel) + i * columns;
  if (!t.last) return put(tile, rows, sum, sum, columns);
  const int64_t row = t.row * sums.cut.rows + sums.i0 + i;
  const int64_t col = (t.col * sums.cut.panels + panel) * columns;
  if (row >= g.m || col >= g.n) return;
  rows = std::min(rows, g.m - row);
  auto* const c = reinterpret_cast<uint32_t*>(g.c) + row * g.n + col;
  if (col + columns <= g.n) return put(tile, rows, sum, c, g.n);
  put(tile, rows, sum, sum, columns);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(sum + r * columns, g.n - col, c + r * g.n);
}

// One product of sums of blocks: a [count][depth], b [panel][depth / 2][16][2].
void multiply(const Product& p, const int16_t* a, const int16_t* b, const Sums& sums) {
  alignas(32) uint32_t tile[tile_rows * columns];
  const int64_t depth = sums.cut.depth;
  for (int64_t panel = 0; panel < sums.cut.panels; ++panel, b += depth * columns)
    for (int64_t i = 0, rows = 0; i < sums.count; i += rows) {
      rows = run_tile(a + i * depth, depth, b, depth, i, sums.count, tile);
      for (int t = 0; t < p.targets; ++t)
        put_tile(sums, p.c[static_cast<size_t>(t)], i, panel, tile, rows);
    }
}

}  // namespace

void int_gemm_strassen(const IntGemm& g) {
  const PackedInts b = pack<int16_t, 2>(g, 32, false);
  const int64_t panels = static_cast<int64_t>(b.sums.size()) / columns;
  const Cut cut{(g.m + 1) / 2, b.k / 2, (panels + 1) / 2};
  const Tensor b_sums = sums_of_b(b, cut);
  for_row_blocks(cut.rows, block_rows(cut.rows), [&](int64_t i0, int64_t count) {
    const Tensor copies = bytes(2 * count * b.k), a_sums = bytes(count * cut.depth * 2);
    const auto* const rows = static_cast<const uint8_t*>(copies.raw());
    auto* const left = static_cast<int16_t*>(a_sums.raw());
    const auto* right = static_cast<const int16_t*>(b_sums.raw());
    const Sums sums{g, cut, i0, count};
    copy_rows(g, cut, i0, count, static_cast<uint8_t*>(copies.raw()));
    for (const Product& p : products) {
      if (g.a_unsigned) sums_of_a<uint8_t>(rows, cut, p.a, count, left);
      else sums_of_a<int8_t>(rows, cut, p.a, count, left);
      multiply(p, left, right, sums);
      right += cut.panels * cut.depth * columns;
    }
  });
}

#else
void int_gemm_strassen(const IntGemm&) {}
#endif

}  // namespace wattle::quant
