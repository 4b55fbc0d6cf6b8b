// Blocking of the f32 GEMM: B is packed once into panels that all threads read, C is cut into
// blocks that are tasks, and a task sweeps strips of kTileRows rows over its panels. Where an
// operand already lies well it is read in place.
#include "ops/gemm.h"

#include <algorithm>
#include <array>
#include <memory>
#include <new>

#include "core/parallel.h"
#include "ops/gemm_cut.h"
#include "ops/gemm_kernels.h"
#include "ops/gemm_vector.h"

namespace wattle::gemm {
namespace {

using detail::ceil_div;
using detail::crowded;
using detail::Cut;
using detail::cut;
using detail::kDepth;
using detail::kPanel;
using detail::kSmallTask;
using detail::kTaskWork;
using detail::run_dots;
using detail::run_row;
using detail::kTileRows;
using detail::Layout;
using detail::Panels;
using detail::Strip;

// A transposed in memory is read in place up to this many columns: a narrow tile uses little of
// each cache line, and pays for it in every panel.
template <class Isa>
constexpr int64_t kInPlaceCols = Isa::width >= 16 ? INT64_MAX : 2 * kPanel<Isa>;
constexpr int64_t kPackedMax = 4 << 20;   // floats of shared packed B alive at a time (16 MB)
constexpr int64_t kSerialPack = 1 << 15;  // smaller B is packed by the caller alone

// Buffers of one thread, grown and kept. Three places, because a split sum holds its partial
// products while each part packs its own B and strips.
enum Slot { kSlotPartials, kSlotPanels, kSlotStrip, kSlots };

float* scratch(Slot slot, int64_t floats) {
  struct Buffer {
    struct Free {
      void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<float[], Free> data;
    int64_t size = 0;
  };
  thread_local std::array<Buffer, kSlots> buffers;
  Buffer& b = buffers[slot];
  if (b.size < floats) {
    b.data.reset();
    b.size = 0;
    b.data.reset(static_cast<float*>(
        ::operator new[](static_cast<size_t>(floats) * sizeof(float), std::align_val_t{64})));
    b.size = floats;
  }
  return b.data.get();
}

// All of B for all threads; the larger the more of them pack it.
template <class Isa>
Panels shared_panels(int64_t n, int64_t k, MatView b, bool in_place) {
  const Layout<Isa> l(n, in_place);
  float* const buffer = scratch(kSlotPanels, l.floats(k));
  if (l.floats(k) <= kSerialPack) l.pack(l.first(), l.last(), k, b, buffer);
  else
    parallel_for(
        l.last() - l.first(), std::max<int64_t>(1, kSerialPack / 2 / (k * l.kWide)),
        [&](int64_t lo, int64_t hi) { l.pack(l.first() + lo, l.first() + hi, k, b, buffer); });
  return l.panels(k, b, buffer);
}

template <class Isa>
struct Problem {
  int64_t m, n, k;
  MatView a, b;
  float* c;
  int64_t ldc;
  Epilogue e;
  Cut cut;
  Panels shared;
  Around around;
};

// One block of C and one slab of the depth.
struct Block {
  int64_t tile, tile_end, col, col_end, p0 = 0, p1 = 0;
  Panels b{};                   // columns from col on, rows from p0 on
  const char* ahead = nullptr;  // the part of Around::ahead that the strips of this block fetch
  int64_t ahead_part = 0;       // bytes of a strip
};

template <class Isa>
constexpr int64_t strip_floats = (kDepth<Isa> + 16) * kTileRows<Isa> + 16;

// Rows side by side, contiguous along k: picked ones, and those that would evict each other.
// kDepth + 16 is not a multiple of 512.
void gather_strip(Strip& s, const MatView& a, int64_t r0, int rows, int64_t p0, float* to) {
  const int64_t ld = s.k + 16 - s.k % 16;
  for (int i = 0; i < rows; ++i) {
    const int64_t row = a.rows ? a.rows[r0 + i] : r0 + i;
    const float* const from = a.p + row * a.row_stride + p0 * a.col_stride;
    if (a.col_stride == 1) std::copy_n(from, s.k, to + i * ld);
    else
      for (int64_t p = 0; p < s.k; ++p) to[i * ld + p] = from[p * a.col_stride];
  }
  s.a = to, s.a_rs = ld, s.a_cs = 1;
}

// One line a step of k at most: prefetches in a bunch would have to wait for each other. Without
// anything to fetch a step asks for what is there.
template <class Isa>
void fetch_ahead(Strip& s, const Block& x, int64_t strip) {
  const int64_t steps = ceil_div(s.n, kPanel<Isa>) * s.k;
  s.ahead = x.ahead ? x.ahead + strip * x.ahead_part : reinterpret_cast<const char*>(s.b);
  s.ahead_step = x.ahead ? std::min<int64_t>(64, ceil_div(x.ahead_part, steps)) : 0;
}

template <class Isa>
void run_strip(const Problem<Isa>& g, const Block& x, int64_t tile) {
  const int64_t r0 = tile * g.m / g.cut.tiles, r1 = (tile + 1) * g.m / g.cut.tiles;
  const int rows = static_cast<int>(r1 - r0);
  Strip s{};
  s.a = g.a.p + r0 * g.a.row_stride + x.p0 * g.a.col_stride;
  s.a_rs = g.a.row_stride, s.a_cs = g.a.col_stride;
  s.k = x.p1 - x.p0, s.n = x.col_end - x.col;
  if (g.a.rows || (s.a_cs == 1 && crowded(s.a_rs)))
    gather_strip(s, g.a, r0, rows, x.p0, scratch(kSlotStrip, strip_floats<Isa>));
  const bool apart = s.a_cs == 1 && !crowded(s.a_rs);
  const bool side_by_side = s.a_rs == 1 && !crowded(s.a_cs) && s.n <= kInPlaceCols<Isa>;
  if (!apart && !side_by_side) {
    float* packed = scratch(kSlotStrip, strip_floats<Isa>);
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      detail::pack_strip<N>(s.a, s.a_rs, s.a_cs, rows, s.k, packed);
    });
    s.a = packed, s.a_rs = 1, s.a_cs = rows;
  }
  s.b = x.b.b, s.ldb = x.b.ldb, s.panel_step = x.b.step;
  s.b_tail = x.b.tail, s.ldb_tail = x.b.ldb_tail;
  s.c = g.c + r0 * g.ldc + x.col, s.ldc = g.ldc;
  s.bias = x.p0 == 0 && g.e.bias_n ? g.e.bias_n + x.col : nullptr;
  s.add = x.p0 > 0 || g.e.accumulate;
  fetch_ahead<Isa>(s, x, tile - x.tile);
  detail::strip_fn<Isa>(rows, apart)(s);
}

// The panels of a block: cut out of the shared ones, or packed here.
template <class Isa>
Panels panels_of(const Problem<Isa>& g, const Block& x) {
  if (!g.cut.own_panels) {
    const Panels& s = g.shared;
    return {s.b + x.col / kPanel<Isa> * s.step + x.p0 * s.ldb, s.ldb, s.step,
            s.tail + x.p0 * s.ldb_tail, s.ldb_tail};
  }
  const Layout<Isa> l(x.col_end - x.col, g.cut.in_place);
  const MatView b{g.b.p + x.p0 * g.b.row_stride + x.col * g.b.col_stride, g.b.row_stride,
                  g.b.col_stride};
  const int64_t depth = x.p1 - x.p0;
  float* const buffer = scratch(kSlotPanels, l.floats(depth));
  l.pack(l.first(), l.last(), depth, b, buffer);
  return l.panels(depth, b, buffer);
}

template <class Isa>
void run_task(const Problem<Isa>& g, int64_t task) {
  const Cut& c = g.cut;
  const int64_t tm = task / c.tasks_n, tn = task % c.tasks_n;
  // Columns are shared out by vectors, so that a narrow last panel weighs what it costs.
  const int64_t vectors = ceil_div(g.n, Isa::width);
  auto bound = [&](int64_t t) {
    return t == c.tasks_n ? g.n : (t * vectors / c.tasks_n + 1) / 2 * kPanel<Isa>;
  };
  Block x{.tile = tm * c.tiles / c.tasks_m,
          .tile_end = (tm + 1) * c.tiles / c.tasks_m,
          .col = bound(tn),
          .col_end = bound(tn + 1)};
  if (x.col >= x.col_end) return;
  const int64_t slabs = ceil_div(g.k, kDepth<Isa>);
  for (int64_t s = 0; s < slabs; ++s) {
    x.p0 = s * g.k / slabs, x.p1 = (s + 1) * g.k / slabs;
    x.b = panels_of(g, x);
    if (g.around.ahead) {
      x.ahead_part = g.around.ahead_floats * 4 / (c.tasks_n * slabs * c.tiles);
      x.ahead =
          reinterpret_cast<const char*>(g.around.ahead) + (tn * slabs + s) * c.tiles * x.ahead_part;
    }
    for (int64_t t = x.tile; t < x.tile_end; ++t) run_strip(g, x, t);
  }
  if (!g.e.finish) return;
  const int64_t row = x.tile * g.m / c.tiles, row_end = x.tile_end * g.m / c.tiles;
  (*g.e.finish)(row, x.col, row_end - row, x.col_end - x.col);
}

template <class Isa>
void run(const Problem<Isa>& g) {
  parallel_chunks(g.cut.tasks_m * g.cut.tasks_n, [&](int64_t t) { run_task(g, t); });
}

template <class Isa>
void multiply(int64_t m, int64_t n, int64_t k, MatView a, MatView b, float* c, int64_t ldc,
              Epilogue e, Around around) {
  const Cut whole = cut<Isa>(m, n, k, b, around.alone);
  if (whole.own_panels) return run<Isa>({m, n, k, a, b, c, ldc, e, whole, {}, around});
  // Shared panels: pieces of B small enough to keep packed.
  const int64_t deep = std::min<int64_t>(k, 8192);
  const int64_t wide = std::max<int64_t>(kPackedMax / deep / kPanel<Isa>, 1) * kPanel<Isa>;
  for (int64_t p = 0; p < k; p += deep)
    for (int64_t j = 0; j < n; j += wide) {
      const int64_t ni = std::min(wide, n - j), ki = std::min(deep, k - p);
      const MatView ap{a.p + p * a.col_stride, a.row_stride, a.col_stride, a.rows};
      const MatView bp{b.p + p * b.row_stride + j * b.col_stride, b.row_stride, b.col_stride};
      const Finish finish = [&](int64_t row, int64_t col, int64_t rows, int64_t columns) {
        (*e.finish)(row, j + col, rows, columns);
      };
      const Epilogue ep{e.bias_n && p == 0 ? e.bias_n + j : nullptr, e.accumulate || p > 0,
                        e.finish && p + ki == k ? &finish : nullptr};
      Cut piece = cut<Isa>(m, ni, ki, bp, false);
      piece.own_panels = false;
      const Panels shared = shared_panels<Isa>(ni, ki, bp, piece.in_place);
      run<Isa>({m, ni, ki, ap, bp, c + j, ldc, ep, piece, shared, {}});
    }
}

// C = sum of parts [m, n], taken in order, with bias and old C as asked.
void combine(int64_t m, int64_t n, int64_t parts, const float* part, float* c, int64_t ldc,
             Epilogue e) {
  parallel_for(m, std::max<int64_t>(1, kSerialPack / (n * parts)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = c + i * ldc;
      for (int64_t s = 0; s < parts; ++s) {
        const float* x = part + (s * m + i) * n;
        if (s == 0 && !e.accumulate) std::copy(x, x + n, row);
        else
          for (int64_t j = 0; j < n; ++j) row[j] += x[j];
      }
      if (e.bias_n)
        for (int64_t j = 0; j < n; ++j) row[j] += e.bias_n[j];
    }
  });
}

// Few results, long sums (the weight gradient of a narrow layer): threads share k in parts whose
// number depends on the shape alone.
template <class Isa>
void multiply_split(int64_t m, int64_t n, int64_t k, int64_t parts, MatView a, MatView b, float* c,
                    int64_t ldc, Epilogue e) {
  float* const partial = scratch(kSlotPartials, parts * m * n);
  parallel_chunks(parts, [&](int64_t s) {
    const int64_t p0 = s * k / parts, p1 = (s + 1) * k / parts;
    const MatView ap{a.p + p0 * a.col_stride, a.row_stride, a.col_stride, a.rows};
    const MatView bp{b.p + p0 * b.row_stride, b.row_stride, b.col_stride};
    multiply<Isa>(m, n, p1 - p0, ap, bp, partial + s * m * n, n, {}, {.alone = true});
  });
  combine(m, n, parts, partial, c, ldc, e);
}

// Where C is complete only at the end.
void finish_all(int64_t m, int64_t n, Epilogue e) {
  if (!e.finish) return;
  parallel_for(m, std::max<int64_t>(1, kSerialPack / 4 / n),
               [&](int64_t begin, int64_t end) { (*e.finish)(begin, 0, end - begin, n); });
}

void empty_sum(int64_t m, int64_t n, float* c, int64_t ldc, Epilogue e) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float& x = c[i * ldc + j];
      x = (e.accumulate ? x : 0.0f) + (e.bias_n ? e.bias_n[j] : 0.0f);
    }
}

}  // namespace

template <class Isa>
detail::StripFn detail::strip_fn(int rows, bool rows_apart) {
  return [&]<int... I>(std::integer_sequence<int, I...>) {
    static constexpr StripFn table[2][sizeof...(I)] = {{&strip<Isa, I + 1, false>...},
                                                       {&strip<Isa, I + 1, true>...}};
    return table[rows_apart][rows - 1];
  }
  (std::make_integer_sequence<int, kTileRows<Isa>>{});
}

template <class Isa>
void sgemm(int64_t m, int64_t n, int64_t k, MatView a, MatView b, float* c, int64_t ldc, Epilogue e,
           Around around) {
  if (m <= 0 || n <= 0) return;
  constexpr int64_t kPart = 1024, kPartials = 1 << 19;
  const bool few = m * n <= 1 << 14 || (m * n <= 1 << 16 && k >= 32 * std::max(m, n));
  const bool along_k = a.col_stride == 1 && b.row_stride == 1;
  if (k <= 0) {
    empty_sum(m, n, c, ldc, e);
  } else if (along_k && m == 1) {
    const float* const first = a.rows ? a.p + a.rows[0] * a.row_stride : a.p;
    run_dots<Isa>({n, k, first, b.p, b.col_stride, c, 1, e.bias_n, 1, e.accumulate});
  } else if (m == 1 && b.col_stride == 1 && n >= 256 && k <= 16 * n) {
    const float* const first = a.rows ? a.p + a.rows[0] * a.row_stride : a.p;
    run_row<Isa>({n, k, first, a.col_stride, b.p, b.row_stride, c, e.bias_n, e.accumulate});
  } else if (along_k && n == 1 && !a.rows) {
    run_dots<Isa>({m, k, b.p, a.p, a.row_stride, c, ldc, e.bias_n, 0, e.accumulate});
  } else if (few && k >= 2 * kPart) {
    const int64_t parts = std::min({k / kPart, int64_t{32}, kPartials / (m * n)});
    multiply_split<Isa>(m, n, k, parts, a, b, c, ldc, e);
  } else {
    return multiply<Isa>(m, n, k, a, b, c, ldc, e, around);  // finishes block by block
  }
  finish_all(m, n, e);
}

template <class Isa>
void sgemm_batched(int64_t batch, int64_t m, int64_t n, int64_t k, MatView a, BatchStep a_step,
                   MatView b, BatchStep b_step, float* c, BatchStep c_step, int64_t ldc,
                   Epilogue e) {
  // One B for stacked A and C is a single tall product.
  if (!a_step.offset && !b_step.offset && !c_step.offset && b_step.stride == 0 &&
      a_step.stride == m * a.row_stride && c_step.stride == m * ldc)
    return sgemm<Isa>(batch * m, n, k, a, b, c, ldc, e);
  const int64_t work = m * n * std::max<int64_t>(k, 1);
  auto one = [&](int64_t i) {
    const MatView ai{a.p + a_step.at(i), a.row_stride, a.col_stride};
    const MatView bi{b.p + b_step.at(i), b.row_stride, b.col_stride};
    sgemm<Isa>(m, n, k, ai, bi, c + c_step.at(i), ldc, e);
  };
  if (work >= 4 * kTaskWork) {
    for (int64_t i = 0; i < batch; ++i) one(i);
    return;
  }
  // Inside a parallel loop sgemm runs on the thread that calls it.
  parallel_for(batch, std::max<int64_t>(1, kSmallTask / std::max<int64_t>(work, 1)),
               [&](int64_t lo, int64_t hi) {
                 for (int64_t i = lo; i < hi; ++i) one(i);
               });
}

#define WATTLE_GEMM_FOR(Isa)                                                                       \
  template detail::StripFn detail::strip_fn<Isa>(int, bool);                                       \
  template void sgemm<Isa>(int64_t, int64_t, int64_t, MatView, MatView, float*, int64_t, Epilogue, \
                           Around);                                                                \
  template void sgemm_batched<Isa>(int64_t, int64_t, int64_t, int64_t, MatView, BatchStep,         \
                                   MatView, BatchStep, float*, BatchStep, int64_t, Epilogue);
WATTLE_GEMM_FOR(simd::Portable)
#if defined(__x86_64__)
WATTLE_GEMM_FOR(simd::Avx2)
WATTLE_GEMM_FOR(simd::Avx512)
#endif
#undef WATTLE_GEMM_FOR

}  // namespace wattle::gemm
