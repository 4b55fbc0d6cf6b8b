// Integer products on AMX tiles.
#include "quant/int_pack.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace wattle::quant {

#if defined(__x86_64__)
using namespace int_pack;
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

// All tiles 16 rows of 64 bytes, from here to stop_tiles(); costs as much as a small product.
[[gnu::target("amx-tile")]] void start_tiles() {
  TileConfig config;
  for (int t = 0; t < 8; ++t) config.bytes_per_row[t] = 64, config.rows[t] = 16;
  // GCC 12's intrinsic owns up to reading 8 bytes of the 64.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}
[[gnu::target("amx-tile")]] void stop_tiles() { _tile_release(); }

// 32 rows by 32 columns; a is [32][k], k a multiple of 64. Out: rows ld apart.
[[gnu::target("amx-tile,amx-int8")]] void tiles_amx(const uint8_t* a, int64_t lda, bool is_unsigned,
                                                    const uint8_t* b, int64_t k, int32_t* out,
                                                    int64_t ld) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const uint8_t* b1 = b + k * columns;
  for (int64_t q = 0; q < k; q += 64) {
    _tile_loadd(4, a + q, lda);
    _tile_loadd(5, a + 16 * lda + q, lda);
    _tile_loadd(6, b + q * columns, 64);
    _tile_loadd(7, b1 + q * columns, 64);
    if (is_unsigned) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  }
  _tile_stored(0, out, ld * 4);
  _tile_stored(1, out + 16, ld * 4);
  _tile_stored(2, out + 16 * ld, ld * 4);
  _tile_stored(3, out + 16 * ld + 16, ld * 4);
}

constexpr int64_t block = 32;  // rows and columns at once

// A in whole blocks of rows, k filled up to whole tiles; a itself where it is so already.
struct WholeRows {
  WholeRows(const IntGemm& g, int64_t k) : a(g.a) {
    if (k == g.k && g.m % block == 0) return;
    copy = bytes(round_up(g.m, block) * k);
    auto* const to = static_cast<uint8_t*>(copy.raw());
    std::memset(to, 0, static_cast<size_t>(copy.numel()));
    for (int64_t i = 0; i < g.m; ++i)
      std::memcpy(to + i * k, g.a + i * g.k, static_cast<size_t>(g.k));
    a = to;
  }
  const uint8_t* a;
  Tensor copy;
};

// A block of rows from i0 times panels [begin, end), whose data starts at b. An odd last panel has
// a partner of zeros.
void multiply(const IntGemm& g, const uint8_t* a, int64_t i0, const uint8_t* b, int64_t k,
              int64_t begin, int64_t end) {
  alignas(64) int32_t out[block * block];
  const int64_t count = std::min(block, g.m - i0);
  start_tiles();
  for (int64_t panel = begin; panel < end; panel += 2, b += 2 * k * columns) {
    const int64_t width = std::min(block, g.n - panel * columns);
    int32_t* const c = g.c + i0 * g.n + panel * columns;
    const bool whole = count == block && width == block;
    tiles_amx(a + i0 * k, k, g.a_unsigned, b, k, whole ? c : out, whole ? g.n : block);
    for (int64_t i = 0; i < count && !whole; ++i)
      std::memcpy(c + i * g.n, out + i * block, static_cast<size_t>(width) * sizeof(int32_t));
  }
  stop_tiles();
}

}  // namespace

void int_gemm_amx(const IntGemm& g) {
  const int64_t k = round_up(g.k, 64), panels = round_up(round_up(g.n, columns) / columns, 2);
  const WholeRows rows(g, k);
  // Few rows use a group of panels where it is packed; for many, all are packed first.
  constexpr int64_t few = 128, group = 4;
  const bool fused = g.m <= few;
  const Tensor all = fused ? Tensor() : bytes(panels * k * columns);
  const auto pack = [&](int64_t begin, int64_t end, int8_t* to) {
    pack_panels<int8_t, 4>(g, begin, end, k * columns, to);
  };
  parallel_for(panels, group, [&](int64_t begin, int64_t end) {
    if (!fused) return pack(begin, end, static_cast<int8_t*>(all.raw()) + begin * k * columns);
    const Tensor some = bytes(group * k * columns);
    auto* const b = static_cast<int8_t*>(some.raw());
    pack(begin, end, b);
    for (int64_t i = 0; i < g.m; i += block)
      multiply(g, rows.a, i, reinterpret_cast<const uint8_t*>(b), k, begin, end);
  });
  if (fused) return;
  parallel_for(g.m, block, [&](int64_t i, int64_t) {
    multiply(g, rows.a, i, static_cast<const uint8_t*>(all.raw()), k, 0, panels);
  });
}

bool has_amx() {
#if defined(__linux__)
  static const bool yes = [] {
    unsigned a = 7, b = 0, c = 0, d = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(d >> 24 & 1) || !(d >> 25 & 1)) return false;  // amx-tile, amx-int8
    constexpr long request_permission = 0x1023, tile_data = 18;
    return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return yes;
#else
  return false;
#endif
}
#else
void int_gemm_amx(const IntGemm&) {}
bool has_amx() { return false; }
#endif

}  // namespace wattle::quant
