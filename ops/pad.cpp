// pad: y[o] = x[source(o)] per dim, where source is o - left inside x and outside of it
//   constant: none (the value)   reflect: mirrored at the edge element   replicate: the edge
//   element
// Negative amounts crop.   gx[i] = sum of gy[o] over all o with source(o) == i
#include <algorithm>
#include <vector>

#include "ops/rules.h"

namespace wattle {
namespace {

struct PadAttr {
  Shape pad;  ///< left, right of the last dim, then of the one before
  std::string mode = "constant";
  double value = 0;
  template <class V>
  void visit(V&& v) {
    v("pad", pad), v("mode", mode), v("value", value);
  }
};

int64_t left_of(const PadAttr& a, int rank, int d) {
  const int at = 2 * (rank - 1 - d);
  return at < a.pad.size() ? a.pad[at] : 0;
}
int64_t right_of(const PadAttr& a, int rank, int d) {
  const int at = 2 * (rank - 1 - d) + 1;
  return at < a.pad.size() ? a.pad[at] : 0;
}

// Position in x of element o of y along dim d; -1 = the constant.
int64_t source(const PadAttr& a, const Shape& x, int d, int64_t o) {
  const int64_t i = o - left_of(a, x.rank(), d), n = x[d];
  if (i >= 0 && i < n) return i;
  if (a.mode == "constant") return -1;
  if (a.mode == "replicate") return i < 0 ? 0 : n - 1;
  return i < 0 ? -i : 2 * (n - 1) - i;
}

Shape padded(const char* op, const Shape& x, const PadAttr& a) {
  if (a.mode != "constant" && a.mode != "reflect" && a.mode != "replicate")
    throw value_error(
        str(op, ": mode '", a.mode, "' found, expected constant, reflect or replicate"));
  if (a.pad.size() % 2 != 0 || a.pad.size() > 2 * x.rank())
    throw shape_error(str(op, ": pad ", a.pad, " found for shape ", x, ", expected at most ",
                          x.rank(), " pairs"));
  Shape y = x;
  for (int d = 0; d < x.rank(); ++d) {
    const int64_t l = left_of(a, x.rank(), d), r = right_of(a, x.rank(), d);
    const bool mirror = a.mode == "reflect" && (l > 0 || r > 0);
    if (mirror && (l >= x[d] || r >= x[d]))
      throw shape_error(str(op, ": pad (", l, ", ", r, ") by reflection found for size ", x[d],
                            " at dimension ", d, ", expected less than the size"));
    y[d] = x[d] + l + r;
    if (y[d] < 0 || (a.mode != "constant" && x[d] == 0 && y[d] > 0))
      throw shape_error(str(op, ": pad (", l, ", ", r, ") found for size ", x[d], " at dimension ",
                            d, " of shape ", x));
  }
  return y;
}

// Sources of every dim but the last padded one, whose rows (and the whole dims behind it) are
// copied in one piece. y and x are seen as [rows.., n, inner].
struct Plan {
  int last = 0;       ///< the last dim that changes
  int64_t inner = 1;  ///< elements behind it
  Shape x, y;
  std::vector<std::vector<int64_t>> map;

  Plan(const Shape& from, const Shape& to, const PadAttr& a) : x(from), y(to) {
    for (int d = 0; d < x.rank(); ++d)
      if (left_of(a, x.rank(), d) != 0 || right_of(a, x.rank(), d) != 0) last = d;
    inner = x.numel(last + 1, x.rank());
    for (int d = 0; d <= last && d < x.rank(); ++d) {
      map.emplace_back(static_cast<size_t>(y[d]));
      for (int64_t o = 0; o < y[d]; ++o) map.back()[static_cast<size_t>(o)] = source(a, x, d, o);
    }
  }
  int64_t rows() const { return y.numel(0, last); }
  /// Row of x behind row r of y, in elements; -1 = all constant.
  int64_t row_of(int64_t r) const {
    int64_t at = 0, step = x.numel(last, x.rank());
    for (int d = last - 1; d >= 0; --d) {
      const int64_t s = map[static_cast<size_t>(d)][static_cast<size_t>(r % y[d])];
      if (s < 0) return -1;
      at += s * step;
      step *= x[d];
      r /= y[d];
    }
    return at;
  }
};

template <class T>
void pad_row(const T* x, T* y, const std::vector<int64_t>& map, int64_t inner, T value) {
  const int64_t n = static_cast<int64_t>(map.size());
  for (int64_t o = 0; o < n;) {
    const int64_t from = map[static_cast<size_t>(o)];
    int64_t end = o + 1;  // a run of neighbours, or of the constant
    while (end < n && map[static_cast<size_t>(end)] == (from < 0 ? -1 : from + (end - o))) ++end;
    if (from < 0) std::fill(y + o * inner, y + end * inner, value);
    else std::copy(x + from * inner, x + (from + end - o) * inner, y + o * inner);
    o = end;
  }
}

void pad_ref(Ins in, Outs out, const PadAttr& a) {
  if (out[0].numel() == 0) return;
  dispatch_all("pad", in[0].dtype(), [&]<class T>() {
    const T* const x = in[0].data<T>();
    T* const y = out[0].data<T>();
    const T value = static_cast<T>(a.value);
    if (in[0].rank() == 0) return void(y[0] = x[0]);
    const Plan p(in[0].shape(), out[0].shape(), a);
    const int64_t row = p.y[p.last] * p.inner;
    parallel_for(p.rows(), 1 + (1 << 15) / (row + 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t from = p.row_of(r);
        if (from < 0) std::fill(y + r * row, y + (r + 1) * row, value);
        else pad_row(x + from, y + r * row, p.map.back(), p.inner, value);
      }
    });
  });
}

// Elements of x that y shows: all of them unless something is cropped.
int64_t shown(const Shape& x, const Shape& y, const PadAttr& a) {
  if (y.numel() == 0) return 0;
  int64_t n = 1;
  for (int d = 0; d < x.rank(); ++d) {
    std::vector<bool> seen(static_cast<size_t>(x[d]));
    int64_t count = x[d];
    if (left_of(a, x.rank(), d) < 0 || right_of(a, x.rank(), d) < 0) {
      for (int64_t o = 0; o < y[d]; ++o)
        if (const int64_t s = source(a, x, d, o); s >= 0) seen[static_cast<size_t>(s)] = true;
      count = std::count(seen.begin(), seen.end(), true);
    }
    n *= count;
  }
  return n;
}

// ---- pad_grad: gy of the padded shape summed back into `shape` ----

struct PadGradAttr {
  Shape shape, pad;
  std::string mode = "reflect";
  template <class V>
  void visit(V&& v) {
    v("shape", shape), v("pad", pad), v("mode", mode);
  }
};

void pad_grad_ref(Ins in, Outs out, const PadGradAttr& g) {
  const PadAttr a{g.pad, g.mode};
  dispatch_floating("pad_grad", in[0].dtype(), [&]<class T>() {
    const T* const gy = in[0].data<T>();
    T* const gx = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gx[i] = T(0);
    if (in[0].numel() == 0) return;
    if (g.shape.rank() == 0) return void(gx[0] += gy[0]);
    const Plan p(g.shape, in[0].shape(), a);
    const std::vector<int64_t>& map = p.map.back();
    const int64_t row = p.y[p.last] * p.inner;
    // Several rows of gy may meet in one of gx, so they are added one after the other.
    for (int64_t r = 0; r < p.rows(); ++r) {
      const int64_t to = p.row_of(r);
      if (to < 0) continue;
      for (int64_t o = 0; o < p.y[p.last]; ++o) {
        T* const sum = gx + to + map[static_cast<size_t>(o)] * p.inner;
        for (int64_t i = 0; i < p.inner; ++i) sum[i] += gy[r * row + o * p.inner + i];
      }
    }
  });
}

const Op<PadGradAttr> grad_op{{
    .name = "pad_grad",
    .doc = "Gradient of pad by reflect or replicate",
    .equation = "gx[i] = sum of gy[o] over source(o) == i",
    .shape =
        [](Ins in, const PadGradAttr& a) {
          rules::arity("pad_grad", in, 1, 1);
          rules::floating("pad_grad", in, 0);
          if (a.mode == "constant")
            throw value_error("pad_grad: mode 'constant' found, expected reflect or replicate");
          if (padded("pad_grad", a.shape, {a.pad, a.mode}) != in[0].shape())
            throw shape_error(str("pad_grad: gradient ", in[0], " found for shape ", a.shape,
                                  " padded by ", a.pad));
          return Metas{{a.shape, in[0].dtype()}};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const PadGradAttr&) { return Cost{.add = in[0].numel()}; },
    .kernels = {{"ref", pad_grad_ref}},
    .backward = [](const Saved<PadGradAttr>& s,
                   Ins g) { return Tensors{pad(g[0], s.attr().pad, s.attr().mode)}; },
    .samples = {{{{{3, 8}}}, {{3, 5}, {1, 2}, "reflect"}},
                {{{{4, 37}}}, {{1, 35}, {1, 1, 2, 1}, "replicate"}},
                {{{{1}}}, {{1}, {0, 0}, "reflect"}}},
}};

// ---- pad ----

Tensors pad_backward(const Saved<PadAttr>& s, Ins gy) {
  const PadAttr& a = s.attr();
  if (a.mode != "constant") return {grad_op.one({gy[0]}, {s.shape(0), a.pad, a.mode})};
  Shape back = a.pad;
  for (int i = 0; i < back.size(); ++i) back[i] = -back[i];
  return {pad(gy[0], back)};
}

const Op<PadAttr> op{{
    .name = "pad",
    .doc = "Wider (or, with negative amounts, narrower) last dims",
    .equation = "y[o] = x[source(o)], or value outside x (mode constant)",
    .shape =
        [](Ins in, const PadAttr& a) {
          rules::arity("pad", in, 1, 1);
          return Metas{{padded("pad", in[0].shape(), a), in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const PadAttr&) { return Cost{}; },
    .bytes =
        [](Ins in, std::span<const Meta> out, const PadAttr& a) {
          const int64_t read = shown(in[0].shape(), out[0].shape, a);
          return Bytes{read * info(in[0].dtype()).bytes, storage_bytes(out[0].shape, out[0].dtype)};
        },
    .kernels = {{"ref", pad_ref}},
    .backward = pad_backward,
    .samples = {{{{{3, 5}}}, {{1, 2}, "constant", 0.5}},
                {{{{1, 37}}}, {{-1, 2, 1, 0}}},
                {{{{2, 3, 4}}}, {{0, 0, -1, -1}}},
                {{{{2, 4, 5}}}, {{2, 1, 3, 0}, "reflect"}},
                {{{{2, 1, 5}}}, {{2, 1, 0, 3}, "replicate"}},
                {{{{2, 7}}}, {{-2, 1}, "replicate"}},
                {{{{2, 7}}}, {{-5, 4}, "reflect"}}},
}};

}  // namespace

Tensor pad(const Tensor& x, const Shape& amounts, const std::string& mode, double value) {
  return op.one({x}, {amounts, mode, value});
}

}  // namespace wattle
