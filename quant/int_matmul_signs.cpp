// The integer product on plain AVX2 with vpmaddubsw, and exact. That instruction multiplies bytes
// without a sign by bytes with one and clips the sum of two products to 16 bits. Magnitudes of a
// by copies of b that carry the sign of a stay within 2 * 128 * 127 < 2^15, so nothing is clipped:
//   a b = |a| (sign(a) b).
// A group of four values of a has 16 patterns of signs. The 16 signed copies of a group of b are
// made once and serve every row of a, which picks its own by an address: 32 products take three
// instructions, where pairs of 16 bits (tile_avx2) take four. Two groups whose b is small enough,
// as weights with a bell-shaped distribution mostly are, add up in 16 bits first: 64 products,
// five.
//
// -(-128) is no byte: -128 is -127 in its group, and -1 in one that is added for it.
#include <array>

#include "core/simd.h"
#include "quant/int_matmul_kernels.h"
#include "quant/int_pack.h"

namespace wattle::quant {

#if defined(__x86_64__)
using namespace int_pack;
namespace {

// Three rows by 32 columns: 12 sums, and 4 registers for the rest. A row takes an address and a
// register of its own, so that many columns a row are better than many rows.
constexpr int64_t tile_rows = 3, vectors = 4, width = 8 * vectors;
constexpr int64_t patterns = 16;  // of the signs of four values
constexpr int64_t copies_bytes = patterns * 4 * width;
static_assert(4 * width == 16 * 8);
// Groups of four values of k whose copies stay in the first cache: 24 KiB.
constexpr int64_t stretch = 12;
constexpr int64_t most_rows = 1536;  // of a block: their sums are 192 KiB

// Four values of k of the rows of a tile.
struct alignas(16) Group {
  uint32_t magnitudes[tile_rows];  // four bytes each
  uint8_t signs[tile_rows];        // the pattern, times 16: an eighth of the place of its copy
};

// Four values of k of 32 columns of b: [8 columns][4] in each vector.
struct BGroup {
  __m256i x[vectors];
  uint8_t of;  ///< the group of a that it meets
};

// Copies of a stretch of b. First come couples, whose sums of products fit 16 bits together.
struct SignedCopies {
  alignas(64) std::array<int8_t, 2 * stretch * copies_bytes> data;
  std::array<uint8_t, 2 * stretch> group;  // of a that each meets
  int64_t couples = 0, count = 0;
};

// Whether the products of two groups with bytes up to 128 add up to less than 2^15: |b| adds up to
// at most 255 in each pair of pairs.
[[gnu::target("avx2")]] bool fit_together(const BGroup& a, const BGroup& b) {
  const __m256i ones = _mm256_set1_epi8(1), most = _mm256_set1_epi16(255);
  __m256i beyond = _mm256_setzero_si256();
  for (int v = 0; v < vectors; ++v) {
    const __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(a.x[v]), ones),
                                         _mm256_maddubs_epi16(_mm256_abs_epi8(b.x[v]), ones));
    beyond = _mm256_or_si256(beyond, _mm256_cmpgt_epi16(sum, most));
  }
  return _mm256_testz_si256(beyond, beyond);
}

[[gnu::target("avx2")]] void add_copies(const BGroup& b, SignedCopies& to) {
  to.group[static_cast<size_t>(to.count)] = b.of;
  auto* const copies = reinterpret_cast<__m256i*>(to.data.data() + to.count++ * copies_bytes);
  for (int64_t p = 0; p < patterns; ++p) {
    // Bit i of p negates value i of every four.
    const auto byte = [&](int bit) { return (p >> bit & 1) ? 0xffu : 1u; };
    const __m256i sign =
        _mm256_set1_epi32(static_cast<int>(byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24));
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
      _mm256_store_si256(copies + p * vectors + v, _mm256_sign_epi8(b.x[v], sign));
  }
}

void make_copies(const BGroup* b, int64_t groups, SignedCopies& to) {
  to.count = to.couples = 0;
  int64_t alone[2 * stretch], left = 0;
  for (int64_t g = 0; g < groups; ++g) {
    if (left && fit_together(b[alone[left - 1]], b[g])) {
      add_copies(b[alone[--left]], to);
      add_copies(b[g], to);
      ++to.couples;
    } else {
      alone[left++] = g;
    }
  }
  for (int64_t i = 0; i < left; ++i) add_copies(b[alone[i]], to);
}

[[gnu::target("avx2")]] inline __m256i magnitudes(const Group& g, int64_t r) {
  return _mm256_set1_epi32(static_cast<int>(g.magnitudes[r]));
}
const __m256i* copy_for(const int8_t* copies, const Group& g, int64_t r) {
  return reinterpret_cast<const __m256i*>(copies + int64_t{g.signs[r]} * 8);
}

// Adds the products of the rows of a tile with the copies: `to` is `from` and them.
[[gnu::target("avx2")]] void add_tile(const Group* a, const SignedCopies& b, const int32_t* from,
                                      int64_t from_row, int32_t* to, int64_t to_row) {
  using V = simd::i32<8>;
  V sum[tile_rows][vectors];
#pragma GCC unroll 4  // a copy as a whole would be a string instruction
  for (int64_t r = 0; r < tile_rows; ++r)
#pragma GCC unroll 4
    for (int64_t v = 0; v < vectors; ++v)
      sum[r][v] =
          (V)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + r * from_row + v * 8));
  alignas(32) static const std::array<int16_t, 16> ones = {1, 1, 1, 1, 1, 1, 1, 1,
                                                           1, 1, 1, 1, 1, 1, 1, 1};
  const auto* one = reinterpret_cast<const __m256i*>(ones.data());
  const int8_t* copies = b.data.data();
  const uint8_t* at = b.group.data();
  for (int64_t e = 0; e < b.couples; ++e, at += 2, copies += 2 * copies_bytes) {
    const Group &g = a[at[0]], &h = a[at[1]];
    __asm__("" : "+r"(one));  // stays in memory: there is no register left
#pragma GCC unroll 4
    for (int64_t r = 0; r < tile_rows; ++r) {
      const __m256i x = magnitudes(g, r), y = magnitudes(h, r);
      const __m256i *p = copy_for(copies, g, r), *q = copy_for(copies + copies_bytes, h, r);
#pragma GCC unroll 4
      for (int64_t v = 0; v < vectors; ++v)
        sum[r][v] += (V)_mm256_madd_epi16(
            _mm256_add_epi16(_mm256_maddubs_epi16(x, p[v]), _mm256_maddubs_epi16(y, q[v])), *one);
    }
  }
  for (int64_t e = 2 * b.couples; e < b.count; ++e, ++at, copies += copies_bytes) {
#pragma GCC unroll 4
    for (int64_t r = 0; r < tile_rows; ++r) {
      const __m256i x = magnitudes(a[*at], r), *p = copy_for(copies, a[*at], r);
#pragma GCC unroll 4
      for (int64_t v = 0; v < vectors; ++v)
        sum[r][v] += (V)_mm256_madd_epi16(_mm256_maddubs_epi16(x, p[v]), *one);
    }
  }
#pragma GCC unroll 4
  for (int64_t r = 0; r < tile_rows; ++r)
#pragma GCC unroll 4
    for (int64_t v = 0; v < vectors; ++v)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * to_row + v * 8), (__m256i)sum[r][v]);
}

// A block of rows of a: [stretch][tile][group], so that all rows pass the copies of a stretch in
// the order of memory.
struct PackedRows {
  int64_t tiles;
  Tensor held;
  Group* data;

  PackedRows(int64_t rows, int64_t k)
      : tiles(round_up(rows, tile_rows) / tile_rows),
        held(bytes(tiles * round_up(round_up(k, 32) / 4, stretch) *
                   static_cast<int64_t>(sizeof(Group)))),
        data(static_cast<Group*>(held.raw())) {}
  Group* at(int64_t group, int64_t tile) const {
    return data + (group / stretch * tiles + tile) * stretch + group % stretch;
  }
};

// A row from k bytes; `flip` takes the 128 from bytes without a sign.
[[gnu::target("avx2")]] void pack_row(const uint8_t* from, int64_t k, uint8_t flip, int64_t row,
                                      const PackedRows& to) {
  const int64_t tile = row / tile_rows, r = row % tile_rows;
  for (int64_t p = 0; p < k; p += 32) {
    alignas(32) uint8_t bytes[32] = {};
    if (k - p >= 32) std::memcpy(bytes, from + p, 32);
    else std::memcpy(bytes, from + p, static_cast<size_t>(k - p));
    const __m256i x = _mm256_xor_si256(_mm256_load_si256(reinterpret_cast<__m256i*>(bytes)),
                                       _mm256_set1_epi8(static_cast<char>(flip)));
    auto signs = static_cast<uint32_t>(_mm256_movemask_epi8(x));
    alignas(32) uint32_t fours[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(fours), _mm256_abs_epi8(x));
    for (int64_t g = 0; g < 8; ++g, signs >>= 4) {
      Group& group = *to.at(p / 4 + g, tile);
      group.magnitudes[r] = fours[g];
      group.signs[r] = static_cast<uint8_t>((signs & 15) * 16);
    }
  }
}

// The copies of one stretch of panels `panel` and the next of b. What has no negative byte, -128,
// is -127 in its group, and -1 in one of the groups after all of them.
[[gnu::target("avx2")]] void copies_of(const PackedInts& b, int64_t panel, int64_t first,
                                       SignedCopies& to) {
  const bool both = (panel + 1) * columns < static_cast<int64_t>(b.sums.size());
  const auto* from = static_cast<const __m256i*>(b.data.raw()) + panel * b.k * columns / 32;
  const int64_t groups = std::min(stretch, b.k / 4 - first);
  const __m256i lowest = _mm256_set1_epi8(-128), zero = _mm256_setzero_si256();
  BGroup all[2 * stretch];
  int64_t count = groups;
  for (int64_t g = 0; g < groups; ++g) {
    __m256i any = zero;
    for (int64_t v = 0; v < vectors; ++v) {
      const __m256i* const at = from + v / 2 * b.k * columns / 32 + 2 * (first + g) + v % 2;
      const __m256i x = v < 2 || both ? _mm256_loadu_si256(at) : zero;
      const __m256i lost = _mm256_cmpeq_epi8(x, lowest);
      all[g].x[v] = _mm256_sub_epi8(x, lost);
      all[count].x[v] = lost;
      any = _mm256_or_si256(any, lost);
    }
    all[g].of = all[count].of = static_cast<uint8_t>(g);
    count += !_mm256_testz_si256(any, any);
  }
  make_copies(all, count, to);
}

// Two panels of b, of 16 columns each, by rows [i0, i0 + rows) of a.
void two_panels(const IntGemm& g, const PackedInts& b, const PackedRows& a, int64_t i0,
                int64_t rows, int64_t panel, int32_t* sums) {
  // a - 128 is multiplied where a has no sign: 128 times the sum of b is missing.
  int32_t start[width] = {};
  const auto all = static_cast<int64_t>(b.sums.size());
  for (int64_t j = 0; j < std::min(width, all - panel * columns); ++j)
    start[j] = 128 * b.sums[static_cast<size_t>(panel * columns + j)];
  const int64_t j0 = panel * columns, wide = std::min(width, g.n - j0);
  const int64_t last = std::max<int64_t>(1, round_up(b.k / 4, stretch) / stretch) - 1;
  SignedCopies copies;
  for (int64_t s = 0; s <= last; ++s) {
    copies_of(b, panel, s * stretch, copies);
    for (int64_t t = 0; t < a.tiles; ++t) {
      const int64_t row = t * tile_rows;
      int32_t* const tile = sums + row * width;
      int32_t* const c = g.c + (i0 + row) * g.n + j0;
      const bool direct = s == last && wide == width && row + tile_rows <= rows;
      add_tile(a.at(s * stretch, t), copies, s ? tile : start, s ? width : 0, direct ? c : tile,
               direct ? g.n : width);
      if (s < last) continue;
      for (int64_t r = 0; r < std::min(tile_rows, rows - row); ++r) {
        __builtin_prefetch(c + (4 * tile_rows + r) * g.n, 1);
        __builtin_prefetch(c + (4 * tile_rows + r) * g.n + columns, 1);
        if (!direct) std::copy_n(tile + r * width, wide, c + r * g.n);
      }
    }
  }
}

}  // namespace

void int_gemm_signs(const IntGemm& g) {
  const PackedInts b = pack<int8_t, 4>(g, 4, g.a_unsigned);
  const std::vector<uint8_t> no_row(static_cast<size_t>(g.k));  // fills the last tile
  const int64_t blocks = (g.m + most_rows - 1) / most_rows;
  const int64_t block = round_up((g.m + blocks - 1) / blocks, tile_rows);
  for (int64_t i0 = 0; i0 < g.m; i0 += block) {
    const int64_t rows = std::min(block, g.m - i0);
    const PackedRows a(rows, g.k);
    parallel_for(a.tiles * tile_rows, 8 * tile_rows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        pack_row(i < rows ? g.a + (i0 + i) * g.k : no_row.data(), g.k, g.a_unsigned ? 0x80 : 0, i,
                 a);
    });
    parallel_for(round_up(g.n, width) / width, 1, [&](int64_t begin, int64_t end) {
      const Tensor sums = bytes(a.tiles * tile_rows * width * 4);
      for (int64_t p = begin; p < end; ++p)
        two_panels(g, b, a, i0, rows, 2 * p, static_cast<int32_t*>(sums.raw()));
    });
  }
}

#else
void int_gemm_signs(const IntGemm&) {}
#endif

}  // namespace wattle::quant
