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

// 32 rows by 32 columns at once; a is [32][k], k a multiple of 64. Out: rows ld apart.
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

}  // namespace

void int_gemm_amx(const IntGemm& g) {
  const PackedInts b = pack<int8_t, 4>(g, 64, false);
  const auto* data = static_cast<const uint8_t*>(b.data.raw());
  const int64_t panels = static_cast<int64_t>(b.sums.size()) / columns;
  constexpr int64_t rows = 32;
  for_row_blocks(g.m, rows, [&](int64_t i0, int64_t count) {
    const uint8_t* a = g.a + i0 * g.k;
    Tensor filled;
    if (b.k != g.k || count < rows) {
      filled = bytes(rows * b.k);
      auto* to = static_cast<uint8_t*>(filled.raw());
      std::memset(to, 0, static_cast<size_t>(rows * b.k));
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(to + i * b.k, a + i * g.k, static_cast<size_t>(g.k));
      a = to;
    }
    alignas(64) int32_t out[32 * 32];
    Tensor pair;  // the last panel, where it has no partner
    start_tiles();
    for (int64_t panel = 0; panel < panels; panel += 2) {
      const uint8_t* from = data + panel * b.k * columns;
      if (panel + 1 == panels) {
        pair = bytes(2 * b.k * columns);
        auto* to = static_cast<uint8_t*>(pair.raw());
        std::memcpy(to, from, static_cast<size_t>(b.k * columns));
        std::memset(to + b.k * columns, 0, static_cast<size_t>(b.k * columns));
        from = to;
      }
      const int64_t width = std::min<int64_t>(32, g.n - panel * columns);
      int32_t* const c = g.c + i0 * g.n + panel * columns;
      const bool whole = count == rows && width == 32;
      tiles_amx(a, b.k, g.a_unsigned, from, b.k, whole ? c : out, whole ? g.n : 32);
      for (int64_t i = 0; i < count && !whole; ++i)
        std::memcpy(c + i * g.n, out + i * 32, static_cast<size_t>(width) * sizeof(int32_t));
    }
    stop_tiles();
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
