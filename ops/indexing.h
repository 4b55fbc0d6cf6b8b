// Pieces shared by the ops that address elements through an index tensor.
#pragma once
#include <algorithm>
#include <vector>

#include "ops/rules.h"

namespace wattle::indexing {

/// Throws value_error naming op, index, position and size unless every index lies in [0, size).
void check_range(const char* op, const Tensor& index, int64_t size);

/// How many different numbers `index` holds; all of them in [0, size).
int64_t distinct(const Tensor& index, int64_t size);

/// A tensor seen as [outer, n, inner] around one dim; a scalar counts as one element.
struct Split {
  int64_t outer = 1, n = 1, inner = 1;
  Split(const Shape& s, int dim) {
    if (s.rank() == 0) return;
    outer = s.numel(0, dim), n = s[dim], inner = s.numel(dim + 1, s.rank());
  }
};

/// Rules of gather and scatter_add: an index of x's rank that is nowhere larger than x except in
/// `dim`. Returns the dim as a number in [0, rank).
int check_elementwise(const char* op, const Tensor& x, int64_t dim, const Tensor& index);

/// Number of different elements of x (shape `x`) that `index` names along dim.
int64_t distinct_elements(const Shape& x, int dim, const Tensor& index);

/// Elements per parallel chunk. The counting scalar keeps its tally per thread, so it stays on one.
template <class T>
constexpr int64_t grain(int64_t elements) {
  return std::is_same_v<T, Counted> ? INT64_MAX / 2 : elements;
}

/// Calls fn(i, x, s) for every coordinate of `index`: its position in index, in a row-major tensor
/// of shape `x` (with coordinate `dim` at 0), and in a row-major tensor of shape `src`. Coordinates
/// whose x positions may meet lie in the same parallel chunk, in row-major order.
template <class T, class F>
void for_each_element(const Shape& index, const Shape& x, const Shape& src, int dim, F&& fn) {
  const int rank = index.rank();
  Shape xs = contiguous_strides(x);
  const Shape is = contiguous_strides(index), ss = contiguous_strides(src);
  if (rank > 0) xs[dim] = 0;
  const int cut = dim == 0 ? 1 : 0;  // the dim that is cut for the threads
  const int64_t pieces = cut < rank ? index[cut] : 1;
  const int64_t work = index.numel() / std::max<int64_t>(1, pieces);
  parallel_for(pieces, 1 + grain<T>(1 << 14) / (work + 1), [&](int64_t begin, int64_t end) {
    Shape size = index;
    int64_t i = 0, o = 0, s = 0, at[Shape::max_rank] = {};
    if (cut < rank) {
      size[cut] = end - begin;
      i = begin * is[cut], o = begin * xs[cut], s = begin * ss[cut];
    }
    for (int64_t left = size.numel(); left > 0; --left) {
      fn(i, o, s);
      for (int d = rank - 1; d >= 0; --d) {
        i += is[d], o += xs[d], s += ss[d];
        if (++at[d] < size[d]) break;
        i -= is[d] * size[d], o -= xs[d] * size[d], s -= ss[d] * size[d];
        at[d] = 0;
      }
    }
  });
}

/// y[.., index[i], ..] += src over zeros of `shape`: the gradient of gather (ops/gather.cpp).
Tensor scatter_zeros(const Tensor& src, const Tensor& index, int64_t dim, const Shape& shape);

/// gx [n, inner] per outer: gx[index[i]] += gy[i] over zeros. Columns are cut for the threads, so
/// that no two of them add to one element and every sum runs in the order of the index.
template <class T>
void add_rows(const T* gy, const Tensor& index, T* gx, int64_t outer, int64_t n, int64_t inner) {
  constexpr int64_t columns = 128;
  const int64_t blocks = (inner + columns - 1) / columns, k = index.numel();
  parallel_for(outer * blocks, 1 + grain<T>(1 << 14) / ((n + k + 1) * std::min(inner + 1, columns)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t task = begin; task < end; ++task) {
                   const int64_t o = task / blocks, from = task % blocks * columns;
                   const int64_t width = std::min(columns, inner - from);
                   T* const x = gx + o * n * inner + from;
                   const T* const g = gy + o * k * inner + from;
                   for (int64_t r = 0; r < n; ++r)
                     for (int64_t c = 0; c < width; ++c) x[r * inner + c] = T(0);
                   for (int64_t i = 0; i < k; ++i) {
                     T* const row = x + rules::index_at(index, i) * inner;
#pragma omp simd
                     for (int64_t c = 0; c < width; ++c) row[c] += g[i * inner + c];
                   }
                 }
               });
}

/// y [outer, k, inner]: y[o, i] = x[o, index[i]] for x [outer, n, inner].
template <class T>
void copy_rows(const T* x, const Tensor& index, T* y, int64_t outer, int64_t n, int64_t inner) {
  const int64_t k = index.numel();
  parallel_for(outer * k, 1 + (1 << 15) / (inner + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* const row = x + (r / k * n + rules::index_at(index, r % k)) * inner;
      std::copy(row, row + inner, y + r * inner);
    }
  });
}

}  // namespace wattle::indexing
