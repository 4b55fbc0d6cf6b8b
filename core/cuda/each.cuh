// The loops of device code. A kernel is a functor over an index, `__host__ __device__`, so that the
// same lines run on a GPU and, in tests on machines without one, on the host.
#pragma once
#include <cuda_runtime.h>

#include <cstring>
#include <utility>

#include "core/cuda/runtime.h"
#include "core/launch.h"

#define WATTLE_HD __host__ __device__ __forceinline__

namespace wattle::device {

/// Memory for the length of a call. Launches are ordered, so it may be given back before they ran.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : bytes_(bytes), p_(allocate(bytes)) {}
  ~Scratch() {
    if (p_) deallocate(p_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(p_);
  }
  explicit operator bool() const { return p_ != nullptr || bytes_ == 0; }

 private:
  int64_t bytes_;
  void* p_;
};

/// The attribute called `name`; one of no value where the op has none.
inline const Field& field(const Launch& l, const char* name) {
  static const Field none;
  const size_t n = std::strlen(name);
  for (int i = 0; i < l.fields; ++i)
    if (static_cast<size_t>(l.field[i].name_size) == n && !std::memcmp(l.field[i].name, name, n))
      return l.field[i];
  return none;
}
inline int64_t integer(const Launch& l, const char* name) { return field(l, name).integer; }
inline double number(const Launch& l, const char* name) { return field(l, name).number; }
inline bool says(const Launch& l, const char* name, const char* text) {
  return !std::strcmp(field(l, name).text, text);
}
inline bool has(const Launch& l, int i) { return i < l.ins && l.in[i].data; }
template <class T>
const T* in(const Launch& l, int i) {
  return has(l, i) ? static_cast<const T*>(l.in[i].data) : nullptr;
}
/// An operand that the op overwrites.
template <class T>
T* inout(const Launch& l, int i) {
  return has(l, i) ? static_cast<T*>(l.in[i].data) : nullptr;
}
template <class T>
T* out(const Launch& l, int i) {
  return i < l.outs ? static_cast<T*>(l.out[i].data) : nullptr;
}

/// a / b of numbers that are not negative: a 64-bit division takes a GPU some forty instructions.
WATTLE_HD int64_t quotient(int64_t a, int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  return a / b;
}

/// Registers the device code of an op; the body gets `const Launch& l`. Launches that wait to be
/// joined to one (ops/optimizer.cu) go first.
struct Registration {
  Registration(const char* op, Function f);
  const char* op;
  Function f;
  Registration* next;
};
template <Function F>
const char* after_pending(const Launch& l) {
  const char* const e = flush_pending();
  return e ? e : F(l);
}
#define WATTLE_DEVICE_OP_AS(name, wrapped)                                         \
  static const char* name##_on_device(const ::wattle::device::Launch& l);          \
  static const ::wattle::device::Registration name##_registration(#name, wrapped); \
  static const char* name##_on_device(const ::wattle::device::Launch& l)
#define WATTLE_DEVICE_OP(name) \
  WATTLE_DEVICE_OP_AS(name, ::wattle::device::after_pending<name##_on_device>)

// ---- Types ----

template <class T>
struct Tag {
  using type = T;
};
template <class G>
const char* floating(const Launch& l, int32_t dtype, G g) {
  if (dtype == f32) return g(Tag<float>{});
  if (dtype == f64) return g(Tag<double>{});
  return fail("dtype number %d found, device code takes f32 and f64", dtype);
}
template <class G>
const char* numeric(const Launch& l, int32_t dtype, G g) {
  switch (dtype) {
    case i64: return g(Tag<int64_t>{});
    case i32: return g(Tag<int32_t>{});
    case u8: return g(Tag<uint8_t>{});
    case i8: return g(Tag<int8_t>{});
    default: return floating(l, dtype, g);
  }
}
template <class G>
const char* any_type(const Launch& l, int32_t dtype, G g) {
  return dtype == boolean ? g(Tag<bool>{}) : numeric(l, dtype, g);
}
/// For code that only moves elements: an unsigned type of their size.
template <class G>
const char* by_size(const Launch& l, int32_t dtype, G g) {
  switch (dtype) {
    case f64:
    case i64: return g(Tag<uint64_t>{});
    case f32:
    case i32: return g(Tag<uint32_t>{});
    case u8:
    case i8:
    case boolean: return g(Tag<uint8_t>{});
    case bf16:
    case fp16: return g(Tag<uint16_t>{});
    default: return fail("dtype number %d found, device code takes plain types", dtype);
  }
}

// ---- f(i) for every i below n ----

template <class F>
__global__ void __launch_bounds__(256) each_kernel(int64_t n, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    f(i);
}
template <class F>
const char* each(int64_t n, F f) {
  if (n <= 0) return nullptr;
  if (emulated()) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return nullptr;
  }
  const int64_t blocks = (n + 255) / 256;
  each_kernel<<<static_cast<unsigned>(blocks < 8192 ? blocks : 8192), 256, 0, stream()>>>(n, f);
  return launched();
}

// ---- Folds: for every row, the elements of it merged into one value ----
//
// F has a type Acc, `Acc start()`, `void take(Acc&, row, i)`, `void merge(Acc&, const Acc&)` and
// `void store(row, const Acc&)`. The order of merging depends on the sizes alone.

template <class Acc>
__device__ __forceinline__ Acc shuffled(const Acc& a, int lanes) {
  static_assert(sizeof(Acc) % 4 == 0, "an Acc is moved between lanes in words");
  Acc other;
  const int* from = reinterpret_cast<const int*>(&a);
  int* to = reinterpret_cast<int*>(&other);
#pragma unroll
  for (int w = 0; w < static_cast<int>(sizeof(Acc) / 4); ++w)
    to[w] = __shfl_down_sync(0xffffffffu, from[w], lanes);
  return other;
}

// One warp a row.
template <class F>
__global__ void __launch_bounds__(256) fold_warp(int64_t rows, int64_t n, F f) {
  const int lane = threadIdx.x & 31;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) >> 5;
  if (row >= rows) return;
  typename F::Acc a = f.start();
  for (int64_t i = lane; i < n; i += 32) f.take(a, row, i);
  for (int d = 16; d > 0; d >>= 1) {
    const typename F::Acc other = shuffled(a, d);
    f.merge(a, other);
  }
  if (lane == 0) f.store(row, a);
}

// Blocks (part, row): part p takes elements [p*each, p*each + each) of its row. With more than one
// part the values go to `partial`, to be folded again.
template <class F>
__global__ void __launch_bounds__(256)
    fold_block(int64_t n, int64_t part, F f, typename F::Acc* partial) {
  __shared__ typename F::Acc warp[8];
  const int64_t row = blockIdx.y + static_cast<int64_t>(blockIdx.z) * gridDim.y;
  const int64_t begin = blockIdx.x * part, end = begin + part < n ? begin + part : n;
  typename F::Acc a = f.start();
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) f.take(a, row, i);
  for (int d = 16; d > 0; d >>= 1) {
    const typename F::Acc other = shuffled(a, d);
    f.merge(a, other);
  }
  if ((threadIdx.x & 31) == 0) warp[threadIdx.x >> 5] = a;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < 8; ++w) f.merge(a, warp[w]);
  if (partial) partial[row * gridDim.x + blockIdx.x] = a;
  else f.store(row, a);
}

template <class F>
struct OneRowEach {
  F f;
  int64_t n;
  WATTLE_HD void operator()(int64_t row) const {
    typename F::Acc a = f.start();
    for (int64_t i = 0; i < n; ++i) f.take(a, row, i);
    f.store(row, a);
  }
};
// The parts of every row merged: a warp a row.
template <class F>
__global__ void __launch_bounds__(32)
    join_parts(int64_t parts, F f, const typename F::Acc* __restrict__ partial) {
  const int64_t row = blockIdx.x;
  typename F::Acc a = f.start();
  for (int64_t p = threadIdx.x; p < parts; p += 32) f.merge(a, partial[row * parts + p]);
  for (int d = 16; d > 0; d >>= 1) {
    const typename F::Acc other = shuffled(a, d);
    f.merge(a, other);
  }
  if (threadIdx.x == 0) f.store(row, a);
}

/// `side_by_side`: neighbouring rows lie next to each other in memory, so that a thread a row reads
/// whole lines.
template <class F>
const char* fold(int64_t rows, int64_t n, F f, bool side_by_side = false) {
  if (rows <= 0) return nullptr;
  if (emulated() || n <= 4 || (side_by_side && rows >= 16384))
    return each(rows, OneRowEach<F>{f, n});
  if (n <= 512 && rows >= 64) {
    fold_warp<<<static_cast<unsigned>((rows + 7) / 8), 256, 0, stream()>>>(rows, n, f);
    return launched();
  }
  int64_t parts = 1;
  while (rows * parts < 528 && n / (parts * 2) >= 1024) parts *= 2;
  const int64_t part = (n + parts - 1) / parts;
  const unsigned y = static_cast<unsigned>(rows < 32768 ? rows : 32768);
  if (rows > y && rows % y) return each(rows, OneRowEach<F>{f, n});
  const dim3 grid(static_cast<unsigned>(parts), y, static_cast<unsigned>(rows / y));
  if (parts == 1) {
    fold_block<<<grid, 256, 0, stream()>>>(n, part, f, static_cast<typename F::Acc*>(nullptr));
    return launched();
  }
  const Scratch partial(rows * parts * static_cast<int64_t>(sizeof(typename F::Acc)));
  if (!partial)
    return fail("out of memory for %lld partial sums", static_cast<long long>(rows * parts));
  auto* const p = partial.as<typename F::Acc>();
  fold_block<<<grid, 256, 0, stream()>>>(n, part, f, p);
  if (const char* error = launched()) return error;
  join_parts<<<static_cast<unsigned>(rows), 32, 0, stream()>>>(parts, f, p);
  return launched();
}

// ---- Rows: some lanes work on one row together ----
//
// F has `template <class L> void operator()(int64_t row, L lanes) const`; a lane takes the elements
// lanes.first, lanes.first + lanes.step, ... of its row.

template <class T>
WATTLE_HD T shuffle_xor(T v, int mask) {
#ifdef __CUDA_ARCH__
  return __shfl_xor_sync(0xffffffffu, v, mask);
#else
  return v;
#endif
}
struct Warp {
  int first = 0, step = 32;
  template <class T>
  WATTLE_HD T sum(T v) const {
    for (int d = 16; d > 0; d >>= 1) v += shuffle_xor(v, d);
    return v;
  }
  template <class T>
  WATTLE_HD T max(T v) const {
    for (int d = 16; d > 0; d >>= 1) {
      const T o = shuffle_xor(v, d);
      v = o > v ? o : v;
    }
    return v;
  }
};
struct OneLane {
  int first = 0, step = 1;
  template <class T>
  WATTLE_HD T sum(T v) const {
    return v;
  }
  template <class T>
  WATTLE_HD T max(T v) const {
    return v;
  }
};
template <class F>
__global__ void __launch_bounds__(256) rows_kernel(int64_t rows, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  Warp w;
  w.first = threadIdx.x & 31;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
       row < rows; row += step)
    f(row, w);
}
template <class F>
struct OneThreadARow {
  F f;
  WATTLE_HD void operator()(int64_t row) const { f(row, OneLane{}); }
};
/// `n`: elements of a row; short rows take a thread each.
template <class F>
const char* rows(int64_t count, int64_t n, F f) {
  if (count <= 0) return nullptr;
  if (emulated() || n <= 16) return each(count, OneThreadARow<F>{f});
  const int64_t blocks = (count + 7) / 8;
  rows_kernel<<<static_cast<unsigned>(blocks < 65535 ? blocks : 65535), 256, 0, stream()>>>(count,
                                                                                            f);
  return launched();
}

/// A dim of a row-major tensor: element i of column c lies at base(c) + i * inner.
struct Along {
  int64_t outer = 1, n = 1, inner = 1;
  WATTLE_HD int64_t base(int64_t c) const {
    const int64_t q = quotient(c, inner);
    return q * n * inner + (c - q * inner);
  }
  WATTLE_HD int64_t columns() const { return outer * inner; }
};
inline Along along(const View& x, int64_t dim) {
  Along a;
  if (x.rank == 0) return a;
  if (dim < 0) dim += x.rank;
  for (int d = 0; d < x.rank; ++d) {
    if (d < dim) a.outer *= x.size[d];
    else if (d == dim) a.n = x.size[d];
    else a.inner *= x.size[d];
  }
  return a;
}

// ---- Elementwise maps over operands of any strides, broadcast to the result ----

template <int K>
struct Broadcast {
  int rank = 0;
  bool small = false;  // indices fit 32 bits
  bool plain = false;  // every operand is dense or a single number
  int64_t size[max_rank] = {}, stride[K][max_rank] = {};
  WATTLE_HD void offsets(int64_t i, int64_t* o) const {
    for (int k = 0; k < K; ++k) o[k] = 0;
    if (small) {
      uint32_t left = static_cast<uint32_t>(i);
      for (int d = rank - 1; d >= 0; --d) {
        const uint32_t s = static_cast<uint32_t>(size[d]), q = left / s, r = left - q * s;
        for (int k = 0; k < K; ++k) o[k] += r * stride[k][d];
        left = q;
      }
      return;
    }
    for (int d = rank - 1; d >= 0; --d) {
      const int64_t q = i / size[d], r = i - q * size[d];
      for (int k = 0; k < K; ++k) o[k] += r * stride[k][d];
      i = q;
    }
  }
};

/// Dimensions that all operands pass in one stride are merged, those of size 1 dropped.
template <int K>
Broadcast<K> broadcast(const View& y, const View* const* operand) {
  Broadcast<K> b;
  b.small = y.numel < (int64_t{1} << 31);
  for (int d = 0; d < y.rank; ++d) {
    if (y.size[d] == 1) continue;
    int64_t s[K];
    bool merges = b.rank > 0;
    for (int k = 0; k < K; ++k) {
      const View& x = *operand[k];
      const int at = d - (y.rank - x.rank);
      s[k] = at >= 0 && x.size[at] != 1 ? x.stride[at] : 0;
      merges = merges && b.stride[k][b.rank - 1] == s[k] * y.size[d];
    }
    const int to = merges ? b.rank - 1 : b.rank++;
    b.size[to] = merges ? b.size[to] * y.size[d] : y.size[d];
    for (int k = 0; k < K; ++k) b.stride[k][to] = s[k];
  }
  b.plain = b.rank <= 1;
  return b;
}

template <class F, class Out, class... In>
struct MapBody {
  F f;
  Out* y;
  const void* p[sizeof...(In)];
  Broadcast<sizeof...(In)> b;
  template <size_t... I>
  WATTLE_HD Out at(const int64_t* o, std::index_sequence<I...>) const {
    return f(static_cast<const In*>(p[I])[o[I]]...);
  }
  WATTLE_HD void operator()(int64_t i) const {
    int64_t o[sizeof...(In)];
    if (b.plain)
      for (int k = 0; k < static_cast<int>(sizeof...(In)); ++k)
        o[k] = b.rank ? i * b.stride[k][0] : 0;
    else b.offsets(i, o);
    y[i] = at(o, std::make_index_sequence<sizeof...(In)>{});
  }
};

/// y = f(in[0], in[1], ...) with the element types given.
template <class Out, class... In, class F>
const char* map(const Launch& l, F f) {
  constexpr int K = sizeof...(In);
  MapBody<F, Out, In...> body{f, out<Out>(l, 0), {}, {}};
  const View* operand[K];
  for (int k = 0; k < K; ++k) {
    operand[k] = &l.in[k];
    body.p[k] = l.in[k].data;
  }
  body.b = broadcast<K>(l.out[0], operand);
  return each(l.out[0].numel, body);
}

}  // namespace wattle::device
