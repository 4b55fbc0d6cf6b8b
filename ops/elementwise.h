// Shared machinery of elementwise ops: broadcasting loops, SIMD kernels, shape and cost rules.
//
// An op is a functor Fn. One value: operator()(a, b, ...) on any scalar; N values: lanes<N>(a, b,
// ...) on f32 vectors. Operands may have any strides; the result is row-major. Loops run over rows
// of a Plan; an operand that is constant along a row is spread over one vector, one with another
// stride is gathered block by block, so that a single vector loop serves every case.
#pragma once
#include <tuple>
#include <utility>

#include "ops/rules.h"

namespace wattle::elementwise {

/// Rows of equal length over a row-major result and the operands broadcast to it. Dimensions that
/// are contiguous in all operands are merged, those of size 1 dropped.
struct Plan {
  static constexpr int max_operands = 4;
  int outer_rank = 0;
  int64_t outer_size[Shape::max_rank] = {};
  int64_t outer_stride[max_operands][Shape::max_rank] = {};
  int64_t rows = 1, row = 1;              ///< number of rows, elements per row
  int64_t row_stride[max_operands] = {};  ///< step of each operand along a row
};
Plan make_plan(const Shape& out, Ins in);

/// Position in the outer dimensions: offset of each operand at the start of a row.
struct Cursor {
  int64_t index[Shape::max_rank] = {};
  int64_t offset[Plan::max_operands] = {};
  Cursor(const Plan& plan, int operands, int64_t row);
  void next(const Plan& plan, int operands) {
    for (int d = plan.outer_rank - 1; d >= 0; --d) {
      for (int k = 0; k < operands; ++k) offset[k] += plan.outer_stride[k][d];
      if (++index[d] < plan.outer_size[d]) return;
      for (int k = 0; k < operands; ++k) offset[k] -= plan.outer_stride[k][d] * plan.outer_size[d];
      index[d] = 0;
    }
  }
};

/// A piece of work: elements [begin, end) of rows [first, last).
struct Piece {
  int64_t first, last, begin, end;
};
/// Calls fn(Piece) for pieces of about `grain` elements. The cut depends on the plan alone.
template <class F>
void for_each_piece(const Plan& plan, int64_t grain, F&& fn) {
  if (plan.rows == 0 || plan.row == 0) return;
  if (plan.rows == 1 || plan.row >= grain) {
    const int64_t cuts = (plan.row + grain - 1) / grain;
    parallel_chunks(plan.rows * cuts, [&](int64_t c) {
      const int64_t r = c / cuts, begin = c % cuts * grain;
      fn(Piece{r, r + 1, begin, begin + grain < plan.row ? begin + grain : plan.row});
    });
    return;
  }
  parallel_for(plan.rows, grain / plan.row, [&](int64_t first, int64_t last) {
    fn(Piece{first, last, 0, plan.row});
  });
}

/// Element types of the operands.
template <class... T>
struct Pack {};
struct Map1 {
  template <class T>
  using In = Pack<T>;
};
struct Map2 {
  template <class T>
  using In = Pack<T, T>;
};
struct Map3 {
  template <class T>
  using In = Pack<T, T, T>;
};

enum class Dtypes : uint8_t { floating, numeric, all };

/// The functor of a call; built from the attributes where it has any.
template <class Fn, class A>
Fn make_fn(const A& attr) {
  if constexpr (std::is_constructible_v<Fn, const A&>) return Fn(attr);
  else return Fn{};
}

// ---- Reference: one value at a time ----

template <class Fn, class... In, size_t... I>
void map_piece(const Fn& fn, const Plan& plan, Piece piece, const Tensor& out, Ins in,
               std::index_sequence<I...>) {
  using Out = decltype(fn(std::declval<In>()...));
  constexpr int K = sizeof...(In);
  Out* const y = out.data<Out>();
  Cursor at(plan, K, piece.first);
  for (int64_t r = piece.first; r < piece.last; ++r, at.next(plan, K))
    for (int64_t i = piece.begin; i < piece.end; ++i)
      y[r * plan.row + i] = fn(in[I].template data<In>()[at.offset[I] + i * plan.row_stride[I]]...);
}

template <class Fn, class T, class... In>
void map_ref_typed(const Fn& fn, Ins in, Outs out, Pack<In...>) {
  const Plan plan = make_plan(out[0].shape(), in);
  const auto seq = std::index_sequence_for<In...>{};
  if constexpr (std::is_same_v<T, Counted>)  // its tally belongs to this thread
    map_piece<Fn, In...>(fn, plan, {0, plan.rows, 0, plan.row}, out[0], in, seq);
  else
    for_each_piece(plan, 1 << 14,
                   [&](Piece p) { map_piece<Fn, In...>(fn, plan, p, out[0], in, seq); });
}

template <class Fn, class A>
void map_ref(Ins in, Outs out, const A& attr) {
  const Fn fn = make_fn<Fn>(attr);
  const auto run = [&]<class T>() {
    map_ref_typed<Fn, T>(fn, in, out, typename Fn::template In<T>{});
  };
  const DType dtype = in.back().dtype();
  if constexpr (Fn::dtypes == Dtypes::floating) dispatch_floating(Fn::name, dtype, run);
  else if constexpr (Fn::dtypes == Dtypes::all) dispatch_all(Fn::name, dtype, run);
  else
    dispatch_all(Fn::name, dtype, [&]<class T>() {
      if constexpr (std::is_same_v<T, bool>) throw_no_dtype(Fn::name, dtype, "numbers");
      else run.template operator()<T>();
    });
}

// ---- SIMD: f32 lanes; truth values are masks of i32 lanes ----

template <int N>
using i8 = typename simd::VecOf<int8_t, N>::type;

template <int N>
WATTLE_FORCE_INLINE simd::f32<N> load_lanes(const float* p) {
  return simd::load<N>(p);
}
template <int N>
WATTLE_FORCE_INLINE simd::i32<N> load_lanes(const bool* p) {
  i8<N> b;
  std::memcpy(&b, p, sizeof b);
  return __builtin_convertvector(b, simd::i32<N>) != 0;
}
template <int N>
WATTLE_FORCE_INLINE void store_lanes(float* p, simd::f32<N> v) {
  simd::store<N>(p, v);
}
template <int N>
WATTLE_FORCE_INLINE void store_lanes(bool* p, simd::i32<N> mask) {
  const i8<N> b = __builtin_convertvector(mask & 1, i8<N>);
  std::memcpy(p, &b, sizeof b);
}

// step is 0 for an operand that is constant along the row (p then holds a whole vector of it).
template <int N, class Fn, class Out, class... In, size_t... I>
WATTLE_FORCE_INLINE void run_lanes(const Fn& fn, Out* y, int64_t n, const int64_t* step,
                                   std::index_sequence<I...> seq, const In*... p) {
  int64_t i = 0;
  for (; i + N <= n; i += N)
    store_lanes<N>(y + i, fn.template lanes<N>(load_lanes<N>(p + i * step[I])...));
  if constexpr (N > 1)
    if (i < n) run_lanes<N / 2>(fn, y + i, n - i, step, seq, (p + i * step[I])...);
}

constexpr int64_t block = 256;  // elements that are gathered at once
template <class T>
struct alignas(64) Buffer {
  Buffer() {}  // not "= default": a tuple would then fill it with zeros, once per row
  T v[block];
};

template <int N, class T>
WATTLE_FORCE_INLINE const T* gather(Buffer<T>& b, const T* p, int64_t stride, int64_t n) {
  if (stride == 1) return p;
  const int64_t count = stride == 0 ? N : n;
  for (int64_t i = 0; i < count; ++i) b.v[i] = p[i * stride];
  return b.v;
}

template <int N, class Fn, class Out, class... In, size_t... I>
WATTLE_FORCE_INLINE void run_row(const Fn& fn, Out* y, int64_t n, const int64_t* stride,
                                 std::index_sequence<I...> seq, const In*... p) {
  std::tuple<Buffer<In>...> buffers;
  const int64_t step[] = {(stride[I] != 0 ? 1 : 0)...};
  const bool dense = ((stride[I] == 0 || stride[I] == 1) && ...);
  const int64_t piece = dense ? n : block;
  for (int64_t i = 0; i < n; i += piece) {
    const int64_t m = n - i < piece ? n - i : piece;
    run_lanes<N>(fn, y + i, m, step, seq,
                 gather<N>(std::get<I>(buffers), p + i * stride[I], stride[I], m)...);
  }
}

// Rows [begin, end) of operand k side by side: in place, or collected in a buffer.
template <class T>
WATTLE_FORCE_INLINE const T* join_rows(Buffer<T>& b, const T* p, const Plan& plan, int k,
                                       const int64_t* offset, int64_t rows) {
  const int64_t n = plan.row, stride = plan.row_stride[k];
  if (stride == 1 && plan.outer_rank == 1 && plan.outer_stride[k][0] == n) return p + offset[0];
  for (int64_t r = 0; r < rows; ++r) {
    const T* const from = p + offset[r];
    T* const to = b.v + r * n;
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  }
  return b.v;
}

constexpr int64_t short_row = 32;  // below, several rows are worked on as one

template <int N, class Fn, class Out, class... In, size_t... I>
WATTLE_FORCE_INLINE void run_short_rows(const Fn& fn, const Plan& plan, Piece piece, Out* y,
                                        std::index_sequence<I...> seq, const In*... base) {
  constexpr int K = sizeof...(In);
  constexpr int64_t step[K] = {(static_cast<void>(I), 1)...};
  std::tuple<Buffer<In>...> buffers;
  int64_t offset[K][block];
  Cursor at(plan, K, piece.first);
  const int64_t at_once = block / plan.row;
  for (int64_t r = piece.first; r < piece.last; r += at_once) {
    const int64_t rows = piece.last - r < at_once ? piece.last - r : at_once;
    for (int64_t j = 0; j < rows; ++j, at.next(plan, K))
      for (int k = 0; k < K; ++k) offset[k][j] = at.offset[k];
    run_lanes<N>(fn, y + r * plan.row, rows * plan.row, step, seq,
                 join_rows(std::get<I>(buffers), base, plan, I, offset[I], rows)...);
  }
}

template <class Isa, class Fn, class... In, size_t... I>
void map_piece_simd(const Fn& fn, const Plan& plan, Piece piece, const Tensor& out, Ins in,
                    std::index_sequence<I...> seq) {
  using Out = decltype(fn(std::declval<In>()...));
  constexpr int K = sizeof...(In);
  Out* const y = out.data<Out>();
  const std::tuple<const In*...> base{in[I].template data<In>()...};
  const int64_t n = piece.end - piece.begin;
  Cursor at(plan, K, piece.first);
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    if (plan.rows > 1 && plan.row < short_row)
      return run_short_rows<N>(fn, plan, piece, y, seq, std::get<I>(base)...);
    for (int64_t r = piece.first; r < piece.last; ++r, at.next(plan, K))
      run_row<N>(fn, y + r * plan.row + piece.begin, n, plan.row_stride, seq,
                 (std::get<I>(base) + at.offset[I] + piece.begin * plan.row_stride[I])...);
  });
}

template <class Isa, class Fn, class... In>
void map_simd_typed(const Fn& fn, Ins in, Outs out, Pack<In...>) {
  const Plan plan = make_plan(out[0].shape(), in);
  for_each_piece(plan, Fn::grain, [&](Piece p) {
    map_piece_simd<Isa, Fn, In...>(fn, plan, p, out[0], in, std::index_sequence_for<In...>{});
  });
}

template <class Isa, class Fn, class A>
void map_simd(Ins in, Outs out, const A& attr) {
  map_simd_typed<Isa>(make_fn<Fn>(attr), in, out, typename Fn::template In<float>{});
}

/// Elements per chunk of a parallel loop: one addition, or an exponential, per element.
constexpr int64_t light = 1 << 15, heavy = 1 << 13;

template <class Fn, class A = NoAttr>
std::vector<Kernel<A>> kernels() {
  return {simd_kernel<simd::Avx512, A>(map_simd<simd::Avx512, Fn, A>),
          simd_kernel<simd::Avx2, A>(map_simd<simd::Avx2, Fn, A>),
          simd_kernel<simd::Portable, A>(map_simd<simd::Portable, Fn, A>),
          {"ref", map_ref<Fn, A>}};
}

// ---- Rules ----

/// Throws dtype_error unless operand i has a type that the op takes.
void check_dtype(const char* op, Ins in, int i, Dtypes allowed);
/// Broadcast shape of all operands.
Shape broadcast_all(const char* op, Ins in);

/// K operands of one dtype that broadcast; the result has their dtype.
template <class Fn, int K, class A = NoAttr>
Metas map_shape(Ins in, const A&) {
  rules::arity(Fn::name, in, K, K);
  rules::same_dtype(Fn::name, in);
  check_dtype(Fn::name, in, 0, Fn::dtypes);
  return {Meta{broadcast_all(Fn::name, in), in[0].dtype()}};
}
/// The same for two operands, with truth values as the result.
template <class Fn>
Metas compare_shape(Ins in, const NoAttr& a) {
  return {Meta{map_shape<Fn, 2>(in, a)[0].shape, DType::boolean}};
}
std::vector<Sample<NoAttr>> compare_samples();
/// Fn::cost per element of the result.
template <class Fn, class A = NoAttr>
Cost map_cost(Ins, std::span<const Meta> out, const A&) {
  return Fn::cost * out[0].shape.numel();
}

/// Two's complement arithmetic on integers (wraps as PyTorch does), plain on everything else.
template <class T>
struct Wrap {
  using type = T;
};
template <>
struct Wrap<int64_t> {
  using type = uint64_t;
};
template <>
struct Wrap<int32_t> {
  using type = uint32_t;
};
template <class T>
using wrap = typename Wrap<T>::type;

}  // namespace wattle::elementwise
