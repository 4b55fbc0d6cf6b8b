// conv2d of spikes by events: the weights of every spike under the kernel are added up for a block
// of output channels at once, tap by tap, so that the weights of a tap stay in the first-level
// cache while all pixels pass. Weights are laid out as [block][C/groups R S][channels] for it,
// spikes as lists of channels per pixel. Sums run over taps, then channels, whatever the task.
#include <algorithm>
#include <bit>
#include <memory>
#include <span>
#include <vector>

#include "core/parallel.h"
#include "ops/coded.h"
#include "ops/conv2d_kernels.h"
#include "ops/gemm_kernels.h"
#include "snn/event.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

using conv::Geometry;

struct Conv {
  Geometry g;
  const uint8_t* spikes;
  const float *w, *bias;
  float* y;
  int64_t wide = 0, blocks = 0;  ///< channels of a block, blocks of a group

  int64_t taps() const { return g.c / g.groups * g.r * g.s; }
  int64_t outs() const { return g.k / g.groups; }
};

// Channels of the spikes of each pixel of an image: those of pixel i are channel[i c] up to
// channel[i c + count[i]].
struct PixelLists {
  int64_t c = 0;
  std::vector<int32_t> count;
  std::unique_ptr<int32_t[]> channel;

  void start(const Geometry& g) {
    if (!channel) channel = std::make_unique_for_overwrite<int32_t[]>(size(g));
    c = g.c;
    count.assign(static_cast<size_t>(g.h * g.w), 0);
  }
  // Rows [i0, i1) of an image. Short rows pass several at a time, as one: loops of a spike or two
  // cost more than what they do.
  void build(const Conv& conv, int64_t image, int64_t i0, int64_t i1) {
    const Geometry& g = conv.g;
    const int64_t row_bytes = spike_row_bytes(g.w), row_bits = 8 * row_bytes;
    const int64_t together =
        row_bytes <= 8 && std::has_single_bit(uint64_t(row_bytes)) ? 8 / row_bytes : 1;
    const int shift = std::countr_zero(static_cast<uint64_t>(row_bits));
    const uint8_t* const bits = conv.spikes + image * g.c * g.h * row_bytes;
    for (int64_t ch = 0; ch < c; ++ch)
      for (int64_t i = i0; i < i1; i += together) {
        const int64_t rows = std::min(together, i1 - i);
        for_each_spike(bits + (ch * g.h + i) * row_bytes, rows * row_bits, [&](int64_t at) {
          const int64_t row = together > 1 ? at >> shift : 0;
          const int64_t pixel = (i + row) * g.w + at - row * row_bits;
          channel[static_cast<size_t>(pixel * c + count[static_cast<size_t>(pixel)]++)] =
              static_cast<int32_t>(ch);
        });
      }
  }
  // Those of the channels [from, to).
  std::span<const int32_t> list(int64_t pixel, int32_t from, int32_t to) const {
    const int32_t* const at = channel.get() + pixel * c;
    const std::span<const int32_t> all(at, static_cast<size_t>(count[static_cast<size_t>(pixel)]));
    if (to - from == c) return all;
    const auto begin = std::lower_bound(all.begin(), all.end(), from);
    return {begin, std::lower_bound(begin, all.end(), to)};
  }
  static size_t size(const Geometry& g) { return static_cast<size_t>(g.h * g.w * g.c); }
};
constexpr int64_t kListed = 1 << 23;  // entries of lists alive at a time (32 MB)

// One block of channels of rows [p0, p1) of an image's output.
struct Task {
  int64_t image, group, block, p0, p1;
};

// Input pixels that tap (r, s) reads for a row of outputs: q0 to q1 are inside the image.
struct Reach {
  int64_t i, q0, q1;
};
Reach reach(const Geometry& g, int64_t p, int64_t r, int64_t s) {
  Reach x{p * g.stride_h - g.pad_h + r * g.dil_h, 0, 0};
  if (x.i < 0 || x.i >= g.h) return x;
  const int64_t shift = s * g.dil_w - g.pad_w;  // j = q stride + shift
  x.q0 = shift < 0 ? (-shift + g.stride_w - 1) / g.stride_w : 0;
  x.q1 = shift >= g.w ? 0 : std::min(g.wo, (g.w - 1 - shift) / g.stride_w + 1);
  return x;
}

// Adds the weights of one tap, whose rows are `step` apart, for spikes of these channels.
template <int N, int V>
WATTLE_FORCE_INLINE void add_tap(const int32_t* at, const int32_t* end, const float* w,
                                 int64_t step, float* sums) {
  simd::f32<N> sum[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) sum[v] = simd::load<N>(sums + v * N);
  for (; at != end; ++at) {
    const float* const row = w + *at * step;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[v] += simd::load<N>(row + v * N);
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) simd::store<N>(sums + v * N, sum[v]);
}

// The same for two pixels at a time, whose sums wait for each other less than for themselves.
template <int N, int V>
WATTLE_FORCE_INLINE void add_tap_twice(std::span<const int32_t> a, std::span<const int32_t> b,
                                       const float* w, int64_t step, float* sums_a, float* sums_b) {
  simd::f32<N> sum_a[V], sum_b[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    sum_a[v] = simd::load<N>(sums_a + v * N);
    sum_b[v] = simd::load<N>(sums_b + v * N);
  }
  const size_t both = std::min(a.size(), b.size());
  for (size_t i = 0; i < both; ++i) {
    const float *const row_a = w + a[i] * step, *const row_b = w + b[i] * step;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      sum_a[v] += simd::load<N>(row_a + v * N);
      sum_b[v] += simd::load<N>(row_b + v * N);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    simd::store<N>(sums_a + v * N, sum_a[v]);
    simd::store<N>(sums_b + v * N, sum_b[v]);
  }
  const bool more_a = a.size() > both;
  const std::span<const int32_t> rest = more_a ? a : b;
  add_tap<N, V>(rest.data() + both, rest.data() + rest.size(), w, step, more_a ? sums_a : sums_b);
}

// Sums [pixel][Wide] to `width` channels of y, from `first` on.
template <class Isa, int Wide>
void put_sums(const Conv& c, const Task& t, const float* sums, int64_t first, int64_t width) {
  const int64_t pixels = (t.p1 - t.p0) * c.g.wo, plane = c.g.ho * c.g.wo;
  float* const y = c.y + (t.image * c.g.k + first) * plane + t.p0 * c.g.wo;
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    int64_t i = 0;
    for (; i + N <= pixels; i += N)
      gemm::detail::pack_transposed<N>(sums + i * Wide, Wide, N, width, y + i, plane);
    for (; i < pixels; ++i)
      for (int64_t k = 0; k < width; ++k) y[k * plane + i] = sums[i * Wide + k];
  });
  for (int64_t k = 0; c.bias && k < width; ++k)
    for (int64_t i = 0; i < pixels; ++i) y[k * plane + i] += c.bias[first + k];
}

template <class Isa, int Wide>
int64_t run_task(const Conv& c, const PixelLists& l, const float* w, const Task& t) {
  const Geometry& g = c.g;
  const int64_t cg = g.c / g.groups, first = t.group * c.outs() + t.block * Wide;
  const int64_t width = std::min<int64_t>(Wide, c.outs() - t.block * Wide);
  const auto from = static_cast<int32_t>(t.group * cg), to = static_cast<int32_t>(from + cg);
  const Tensor buffer = Tensor::empty({(t.p1 - t.p0) * g.wo * Wide}, DType::f32);
  float* const sums = buffer.data<float>();
  std::fill_n(sums, buffer.numel(), 0.0f);
  int64_t count = 0;
  w -= from * g.r * g.s * Wide;  // so that channels count from the first of all groups
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int V = Wide / N;
    const int64_t step = g.r * g.s * Wide;
    for (int64_t tap = 0; tap < g.r * g.s; ++tap)
      for (int64_t p = t.p0; p < t.p1; ++p) {
        const int64_t s = tap % g.s;
        const Reach x = reach(g, p, tap / g.s, s);
        const int64_t j0 = x.i * g.w - g.pad_w + s * g.dil_w;
        const auto list = [&](int64_t q) { return l.list(j0 + q * g.stride_w, from, to); };
        float* const row = sums + (p - t.p0) * g.wo * Wide;
        int64_t q = x.q0;
        // Eight sums hide how long an addition takes; more do not fit 16 registers.
        for (; V <= 4 && q + 2 <= x.q1; q += 2) {
          const auto a = list(q), b = list(q + 1);
          add_tap_twice<N, V>(a, b, w + tap * Wide, step, row + q * Wide, row + (q + 1) * Wide);
          count += static_cast<int64_t>(a.size() + b.size());
        }
        for (; q < x.q1; ++q) {
          const auto a = list(q);
          add_tap<N, V>(a.data(), a.data() + a.size(), w + tap * Wide, step, row + q * Wide);
          count += static_cast<int64_t>(a.size());
        }
      }
  });
  put_sums<Isa, Wide>(c, t, sums, first, width);
  return count * width;
}

// Block b of w [K, taps] as [taps, wide], zeros beyond the channels of its group.
template <class Isa>
void pack(const Conv& c, int64_t b, float* to) {
  const int64_t taps = c.taps(), wide = c.wide;
  const int64_t k0 = b % c.blocks * wide, width = std::min(wide, c.outs() - k0);
  const float* const from = c.w + (b / c.blocks * c.outs() + k0) * taps;
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    for (int64_t i = 0; i < wide; i += N)
      gemm::detail::pack_transposed<N>(from + i * taps, taps,
                                       static_cast<int>(std::clamp<int64_t>(width - i, 0, N)), taps,
                                       to + i, wide);
  });
}

template <class Isa>
int64_t run(Conv c) {
  const Geometry& g = c.g;
  c.wide = c.outs() <= 16 ? 16 : c.outs() <= 32 ? 32 : 64;
  c.blocks = (c.outs() + c.wide - 1) / c.wide;
  const int64_t all_blocks = g.groups * c.blocks, block = c.taps() * c.wide;
  const Tensor packed = Tensor::empty({all_blocks * block}, DType::f32);
  const auto weights = [&](int64_t b) { return packed.data<float>() + b * block; };
  const int64_t group =
      std::clamp<int64_t>(kListed / std::max<int64_t>(1, g.h * g.w * g.c), 1, g.n);
  std::vector<PixelLists> lists(static_cast<size_t>(group));
  // About 200 pixels a task: their sums and a tap's weights fit the first-level cache together.
  const int64_t rows = std::clamp<int64_t>(200 / g.wo, 1, g.ho), cuts = (g.ho + rows - 1) / rows;
  const int64_t per_image = all_blocks * cuts;
  const int64_t bands = std::clamp<int64_t>(g.c * g.h / 4096, 1, g.h);  // to list spikes in
  // A block that one task alone needs is laid out by that task, in the cache of its thread.
  const bool alone = g.n * cuts == 1;
  if (!alone)
    parallel_for(all_blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) pack<Isa>(c, b, weights(b));
    });
  std::vector<int64_t> added(static_cast<size_t>(g.n * per_image));
  for (int64_t image0 = 0; image0 < g.n; image0 += group) {
    const int64_t images = std::min(group, g.n - image0);
    for (int64_t i = 0; i < images; ++i) lists[static_cast<size_t>(i)].start(g);
    parallel_for(images * bands, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / bands, band = i % bands;
        lists[static_cast<size_t>(image)].build(c, image0 + image, band * g.h / bands,
                                                (band + 1) * g.h / bands);
      }
    });
    parallel_for(images * per_image, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t cut = i % cuts, b = i / cuts % all_blocks, image = i / per_image;
        const Task t{image0 + image, b / c.blocks, b % c.blocks, cut * rows,
                     std::min(g.ho, (cut + 1) * rows)};
        const PixelLists& l = lists[static_cast<size_t>(image)];
        if (alone) pack<Isa>(c, b, weights(b));
        added[static_cast<size_t>(image0 * per_image + i)] =
            c.wide == 16   ? run_task<Isa, 16>(c, l, weights(b), t)
            : c.wide == 32 ? run_task<Isa, 32>(c, l, weights(b), t)
                           : run_task<Isa, 64>(c, l, weights(b), t);
      }
    });
  }
  int64_t all = 0;
  for (int64_t n : added) all += n;
  return all;
}

int64_t run_at_level(const Conv& c) {
  return at_level([&]<class Isa>() { return run<Isa>(c); });
}

bool has_bias(Ins in) { return in.size() > 2 && in[2].defined(); }

void conv_events(Ins in, Outs out, const void* attr) {
  const Geometry g = conv::forward_geometry(in, *static_cast<const Conv2dAttr*>(attr));
  const float* const bias = has_bias(in) ? in[2].data<float>() : nullptr;
  const int64_t added = run_at_level({g, static_cast<const uint8_t*>(in[0].raw()),
                                      in[1].data<float>(), bias, out[0].data<float>()});
  // Weights are all read: they are laid out anew in every call.
  report_executed({.add = added + (bias ? out[0].numel() : 0),
                   .read = in[0].nbytes() + 2 * in[1].nbytes() + (bias ? in[2].nbytes() : 0),
                   .written = out[0].nbytes() + in[1].nbytes()});
}

template <class Isa>
void dense(const Geometry& g, const float* x, const float* w, float* y) {
  conv::forward<Isa>(g, x, w, nullptr, y);
}

Times measure(Geometry g, const Shape& image, const Shape& weight) {
  const Tensor bits = Tensor::zeros(image, DType::spike), w = Tensor::full(weight, 0.5);
  const Tensor y = Tensor::empty({g.n, g.k, g.ho, g.wo}, DType::f32);
  const Conv c{g, static_cast<const uint8_t*>(bits.raw()), w.data<float>(), nullptr,
               y.data<float>()};
  Times t{};
  scatter_spikes(bits, kFew);
  t.few = fastest([&] { run_at_level(c); });
  scatter_spikes(bits, kMany);
  t.many = fastest([&] { run_at_level(c); });
  t.dense = fastest([&] {
    const Tensor x = Tensor::empty(image, DType::f32);
    decode(bits, x.data<float>());
    at_level(
        [&]<class Isa>() { dense<Isa>(g, x.data<float>(), w.data<float>(), y.data<float>()); });
  });
  if (t.many < t.dense) {
    scatter_spikes(bits, 2);  // all of them
    t.all = fastest([&] { run_at_level(c); });
  }
  return t;
}

double conv_crossover(Ins in, const Conv2dAttr& a) {
  Geometry g = conv::forward_geometry(in, a);
  g.n = std::min<int64_t>(g.n, 16);  // beyond, the times per image are the same
  const Shape image{g.n, g.c, g.h, g.w};
  const ProductKey key{2,        g.n,        g.c,        g.h,     g.w,     g.k,     g.r,    g.s,
                       g.groups, g.stride_h, g.stride_w, g.pad_h, g.pad_w, g.dil_h, g.dil_w};
  const auto what = [&] {
    return str("conv2d ", image, " with ", in[1].shape(), ", stride ", attr::text(a.stride),
               ", padding ", attr::text(a.padding), ", dilation ", attr::text(a.dilation));
  };
  return crossover(key, what, [&] { return measure(g, image, in[1].shape()); });
}

Refusal refused(Ins in, const void* attr) {
  const auto& a = *static_cast<const Conv2dAttr*>(attr);
  if (in[0].dtype() != DType::spike) return {"the image holds no spikes"};
  if (in[1].dtype() != DType::f32 || a.accumulate != "f32") return {"weights are no f32"};
  if (!in[0].is_contiguous() || in[0].numel() == 0) return {"spikes do not lie in rows"};
  if (exec() != Exec::automatic)
    return exec() == Exec::event ? Refusal{} : Refusal{"dense was asked for"};
  const double rate = static_cast<double>(count_spikes(in[0])) / static_cast<double>(in[0].numel());
  const double limit = conv_crossover(in, a);
  if (rate <= limit) return {};
  return {str(rate * 100, " % spikes, events pay up to ", limit * 100, " % here")};
}

const bool registered = [] {
  coded::register_kernel(
      {.op = "conv2d", .name = "event", .when = refused, .run = conv_events, .spikes = true});
  return true;
}();

}  // namespace
}  // namespace wattle::snn
