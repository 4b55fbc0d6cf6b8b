// slice: y = x[start:end:step] along dim, with Python's rules for negative and large numbers; a
// view.
//   gx[start + i*step] = gy[i], 0 elsewhere
#include <algorithm>
#include <optional>

#include "ops/rules.h"

namespace wattle {
namespace {

struct SliceAttr {
  int64_t dim = 0;
  std::optional<int64_t> start, end;  ///< none = from the first, to the last
  int64_t step = 1;
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("start", start), v("end", end), v("step", step);
  }
};

struct Range {
  int dim;
  int64_t start, count;
};

Range range_of(const Shape& x, const SliceAttr& a) {
  if (x.rank() == 0) throw shape_error("slice: found a tensor of 0 dims, expected at least 1");
  if (a.step < 1) throw value_error(str("slice: step ", a.step, " found, expected at least 1"));
  const int dim = normalize_axis("slice", a.dim, x.rank());
  const int64_t n = x[dim];
  const auto clip = [n](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n); };
  const int64_t start = clip(a.start.value_or(0));
  const int64_t end = std::max(start, clip(a.end.value_or(n)));
  return {dim, start, (end - start) / a.step + ((end - start) % a.step != 0)};
}

// ---- slice_grad: gy [.., count, ..] spread over zeros of `size` along dim ----

struct SliceGradAttr {
  int64_t dim = 0, size = 0, start = 0, step = 1;
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("size", size), v("start", start), v("step", step);
  }
};

void slice_grad_ref(Ins in, Outs out, const SliceGradAttr& a) {
  const int dim = static_cast<int>(a.dim);
  const Shape& s = in[0].shape();
  const int64_t outer = s.numel(0, dim), count = s[dim], inner = s.numel(dim + 1, s.rank());
  dispatch_floating("slice_grad", in[0].dtype(), [&]<class T>() {
    const T* gy = in[0].data<T>();
    T* gx = out[0].data<T>();
    parallel_for(outer, std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, a.size * inner)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t o = begin; o < end; ++o) {
                     T* row = gx + o * a.size * inner;
                     for (int64_t i = 0; i < a.size * inner; ++i) row[i] = T(0);
                     for (int64_t c = 0; c < count; ++c)
                       for (int64_t i = 0; i < inner; ++i)
                         row[(a.start + c * a.step) * inner + i] = gy[(o * count + c) * inner + i];
                   }
                 });
  });
}

Metas slice_grad_shape(Ins in, const SliceGradAttr& a) {
  rules::arity("slice_grad", in, 1, 1);
  rules::floating("slice_grad", in, 0);
  Shape s = in[0].shape();
  if (a.dim < 0 || a.dim >= s.rank())
    throw shape_error(str("slice_grad: dim ", a.dim, " found for ", in[0]));
  const int64_t count = s[static_cast<int>(a.dim)];
  if (a.start < 0 || a.step < 1 || (count > 0 && a.start + (count - 1) * a.step >= a.size))
    throw shape_error(str("slice_grad: ", count, " elements from ", a.start, " with step ", a.step,
                          " do not fit into size ", a.size));
  s[static_cast<int>(a.dim)] = a.size;
  return {{s, in[0].dtype()}};
}

const Op<SliceGradAttr> slice_grad_op{{
    .name = "slice_grad",
    .doc = "Gradient of slice",
    .equation = "gx[start + i*step] = gy[i], 0 elsewhere",
    .shape = slice_grad_shape,
    .cost = [](Ins, std::span<const Meta>, const SliceGradAttr&) { return Cost{}; },
    .kernels = {{"ref", slice_grad_ref}},
    .backward =
        [](const Saved<SliceGradAttr>& s, Ins g) {
          const SliceGradAttr& a = s.attr();
          const int64_t count = s.shape(0)[static_cast<int>(a.dim)];
          const int64_t end = count ? a.start + (count - 1) * a.step + 1 : a.start;
          return Tensors{slice(g[0], a.dim, a.start, end, a.step)};
        },
    .samples = {{{{{3, 5}}}, {1, 9, 2, 1}},
                {{{{1, 1}}}, {0, 3, 2, 4}},
                {{{{4, 37}}}, {0, 11, 1, 3}}},
}};

const Op<SliceAttr> op{{
    .name = "slice",
    .doc = "Every step-th element from start up to end along one dim",
    .equation = "y[i] = x[start + i*step]",
    .shape =
        [](Ins in, const SliceAttr& a) {
          rules::arity("slice", in, 1, 1);
          const Range r = range_of(in[0].shape(), a);
          Shape s = in[0].shape();
          s[r.dim] = r.count;
          return Metas{{s, in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const SliceAttr&) { return Cost{}; },
    .view =
        [](const Tensor& x, const SliceAttr& a) {
          const Range r = range_of(x.shape(), a);
          ViewSpec v{x.shape(), x.strides(), x.offset()};
          v.shape[r.dim] = r.count;
          // An empty view keeps the start, as its pointer must stay within the storage.
          if (r.count > 0) v.offset += r.start * x.strides()[r.dim];
          v.strides[r.dim] = r.count > 1 ? x.strides()[r.dim] * a.step : x.strides()[r.dim];
          return v;
        },
    .backward =
        [](const Saved<SliceAttr>& s, Ins gy) {
          const Range r = range_of(s.shape(0), s.attr());
          return Tensors{
              slice_grad_op.one({gy[0]}, {r.dim, s.shape(0)[r.dim], r.start, s.attr().step})};
        },
    .samples = {{{{{5, 7}}}, {1, 2, 6, 2}},
                {{{{1, 3}}}, {0, {}, {}, 5}},
                {{{{37, 2}}}, {-2, -30, -1, 3}},
                {{{{4, 3}}}, {0, 1, {}, 1}}},
}};

}  // namespace

Tensor slice(const Tensor& x, int64_t dim, std::optional<int64_t> start, std::optional<int64_t> end,
             int64_t step) {
  return op.one({x}, {dim, start, end, step});
}

}  // namespace wattle
