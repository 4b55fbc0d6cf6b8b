// One list of tasks for all groups, the largest first: groups as units would leave threads idle as
// soon as one is larger than the others. The dense product does a task, and reads the rows of
// tokens where they lie. Every sum runs along k in one chain, whatever the task, so cutting does
// not change bits.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "moe/grouped_gemm.h"
#include "ops/gemm.h"

namespace wattle::grouped {
namespace {

constexpr int64_t kRows = 512;      // slots of a task at most
constexpr int64_t kWork = 1 << 22;  // multiply-adds of a task, where there are few
constexpr int64_t kManyTasks = 8;   // of a thread
constexpr int64_t kLeastCols = 128;

struct Task {
  int64_t group, begin, end, col, col_end, depth, work;
};

// Cuts [begin, end) x [0, cols) of each group; `depth` is the length of the sums.
class Tasks {
 public:
  void add(int64_t group, int64_t begin, int64_t end, int64_t rows, int64_t cols, int64_t depth) {
    const int64_t n = end - begin, parts = (n + rows - 1) / rows;
    for (int64_t i = 0; i < parts; ++i)
      list_.push_back(
          {group, begin + i * n / parts, begin + (i + 1) * n / parts, 0, cols, depth, 0});
  }
  const std::vector<Task>& sorted() {
    std::vector<Task> out;
    for (const Task& t : list_) {
      const int64_t work = (t.end - t.begin) * t.col_end * t.depth;
      int64_t parts = 1;
      if (static_cast<int64_t>(list_.size()) < kManyTasks * num_threads())
        parts = std::clamp<int64_t>(work / kWork, 1, std::max<int64_t>(1, t.col_end / kLeastCols));
      const int64_t blocks = (t.col_end + 31) / 32;  // columns are cut at whole panels
      for (int64_t i = 0; i < parts; ++i) {
        Task piece = t;
        piece.col = i * blocks / parts * 32;
        piece.col_end = std::min(t.col_end, (i + 1) * blocks / parts * 32);
        piece.work = (piece.end - piece.begin) * (piece.col_end - piece.col) * piece.depth;
        out.push_back(piece);
      }
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const Task& a, const Task& b) { return a.work > b.work; });
    return list_ = std::move(out);
  }

 private:
  std::vector<Task> list_;
};

// Rows of a slot range side by side. Rows 2 KB apart would fall into few sets of the cache.
int64_t spread(int64_t width) { return width % 512 == 0 ? width + 16 : width; }

gemm::MatView gathered(const float* x, const int64_t* rows, int64_t begin, int64_t end, int64_t col,
                       int64_t width, int64_t ld, int slot) {
  if (!rows) return {x + begin * ld + col, ld, 1};
  thread_local std::vector<float> buffers[2];
  std::vector<float>& b = buffers[slot];
  const int64_t to = spread(width);
  if (static_cast<int64_t>(b.size()) < (end - begin) * to)
    b.resize(static_cast<size_t>((end - begin) * to));
  for (int64_t p = begin; p < end; ++p)
    std::copy_n(x + rows[p] * ld + col, width, b.data() + (p - begin) * to);
  return {b.data(), to, 1};
}

template <class Isa>
void relu(float* x, int64_t n) {
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    const simd::f32<N> zero{};
    int64_t i = 0;
    for (; i + N <= n; i += N) {
      const simd::f32<N> v = simd::load<N>(x + i);
      simd::store<N>(x + i, v < zero ? zero : v);
    }
    for (; i < n; ++i) x[i] = x[i] < 0 ? 0 : x[i];
  });
}

// The weights of a task of multiply where they lie in one piece, and no more of them than the
// second-level cache takes beside those at work.
gemm::Around with_next(const std::vector<Task>& list, int64_t i, const Weights& w) {
  constexpr int64_t kMost = 1 << 18;
  gemm::Around out{.alone = true};
  const size_t next = static_cast<size_t>(i + num_threads());  // the next of this thread, likely
  if (next >= list.size()) return out;
  const Task& t = list[next];
  const int64_t width = t.col_end - t.col;
  if (width < w.n && !w.transposed) return out;
  out.ahead = w.p + t.group * w.k * w.n + t.col * w.k;
  out.ahead_floats = std::min(kMost, width * w.k);
  return out;
}

}  // namespace

template <class Isa>
void multiply(const Groups& g, const float* x, const Weights& w, float* y, bool relu_after) {
  Tasks tasks;
  for (int64_t e = 0; e < g.count; ++e)
    if (g.offsets[e + 1] > g.offsets[e])
      tasks.add(e, g.offsets[e], g.offsets[e + 1], kRows, w.n, w.k);
  const std::vector<Task>& list = tasks.sorted();
  parallel_chunks(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Task& t = list[static_cast<size_t>(i)];
    const float* const we = w.p + t.group * w.k * w.n;
    const gemm::MatView b =
        w.transposed ? gemm::MatView{we + t.col * w.k, 1, w.k} : gemm::MatView{we + t.col, w.n, 1};
    float* const c = y + t.begin * w.n + t.col;
    const gemm::Finish finish = [&](int64_t row, int64_t col, int64_t rows, int64_t columns) {
      for (int64_t r = row; r < row + rows; ++r) relu<Isa>(c + r * w.n + col, columns);
    };
    gemm::sgemm<Isa>(t.end - t.begin, t.col_end - t.col, w.k,
                     {g.rows ? x : x + t.begin * w.k, w.k, 1, g.rows ? g.rows + t.begin : nullptr},
                     b, c, w.n, {.finish = relu_after ? &finish : nullptr}, with_next(list, i, w));
  });
}

template <class Isa>
void outer(int64_t groups, const int64_t* offsets, const float* a, const int64_t* a_rows, int64_t k,
           const float* b, const int64_t* b_rows, int64_t n, float* dw) {
  // A task owns rows of dw_e, all columns, and sums over all slots of the group.
  Tasks tasks;
  for (int64_t e = 0; e < groups; ++e) tasks.add(e, 0, k, 256, n, offsets[e + 1] - offsets[e] + 1);
  const std::vector<Task>& list = tasks.sorted();
  parallel_chunks(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Task& t = list[static_cast<size_t>(i)];
    const int64_t begin = offsets[t.group], end = offsets[t.group + 1];
    if (begin == end && t.col_end - t.col == n) {  // most groups, where there are few tokens
      std::memset(dw + (t.group * k + t.begin) * n, 0,
                  static_cast<size_t>((t.end - t.begin) * n) * sizeof(float));
      return;
    }
    const gemm::MatView x = gathered(a, a_rows, begin, end, t.begin, t.end - t.begin, k, 0);
    const gemm::MatView y = gathered(b, b_rows, begin, end, t.col, t.col_end - t.col, n, 1);
    gemm::sgemm<Isa>(t.end - t.begin, t.col_end - t.col, end - begin,
                     {x.p, x.col_stride, x.row_stride}, y, dw + (t.group * k + t.begin) * n + t.col,
                     n, {}, {.alone = true});
  });
}

#define WATTLE_GROUPED_FOR(Isa)                                                            \
  template void multiply<Isa>(const Groups&, const float*, const Weights&, float*, bool);  \
  template void outer<Isa>(int64_t, const int64_t*, const float*, const int64_t*, int64_t, \
                           const float*, const int64_t*, int64_t, float*);
WATTLE_GROUPED_FOR(simd::Portable)
#if defined(__x86_64__)
WATTLE_GROUPED_FOR(simd::Avx2)
WATTLE_GROUPED_FOR(simd::Avx512)
#endif
#undef WATTLE_GROUPED_FOR

}  // namespace wattle::grouped
