#include "ops/pool2d.h"

namespace wattle::pool2d {

Tally tally(const Axis& a) {
  Tally t;
  std::vector<char> hit(static_cast<size_t>(a.in), 0);
  for (int64_t o = 0; o < a.out; ++o) {
    const int64_t first = a.first(o), last = a.last(o);
    t.taps += last - first;
    t.nonempty += last > first;
    for (int64_t k = first; k < last; ++k)
      hit[static_cast<size_t>(a.start(o) + k * a.dilation)] = 1;
  }
  for (char h : hit) t.covered += h;
  return t;
}

int64_t out_size(int64_t in, const Axis& a, bool ceil_mode) {
  const int64_t room = in + 2 * a.pad - a.dilation * (a.kernel - 1) - 1;
  if (room < 0 && !(ceil_mode && room + a.stride > 0)) return 0;
  int64_t out = (room + (ceil_mode ? a.stride - 1 : 0)) / a.stride + 1;
  if (ceil_mode && (out - 1) * a.stride >= in + a.pad) --out;
  return out;
}

namespace {

Axis axis(const char* op, const char* name, const Shape& x, int64_t in, int64_t kernel,
          int64_t stride, int64_t pad, int64_t dilation, bool ceil_mode) {
  Axis a{in, 0, kernel, stride, pad, dilation};
  if (kernel < 1 || stride < 1 || dilation < 1)
    throw value_error(str(op, ": ", name, ": kernel_size ", kernel, ", stride ", stride,
                          ", dilation ", dilation, ", expected at least 1 each"));
  if (pad < 0 || pad > kernel / 2)
    throw value_error(str(op, ": ", name, ": padding ", pad, ", expected 0 to ", kernel / 2,
                          " (half of kernel_size ", kernel, ")"));
  a.out = out_size(in, a, ceil_mode);
  if (a.out < 1)
    throw shape_error(str(op, ": input ", x, ": ", name, " ", in, " gives output size ", a.out,
                          " with kernel_size ", kernel, ", padding ", pad, ", dilation ", dilation,
                          ", expected at least 1"));
  return a;
}

}  // namespace

Geometry geometry(const char* op, const Shape& x, Pair kernel, const std::optional<Pair>& stride,
                  Pair pad, Pair dilation, bool ceil_mode) {
  const int rank = x.rank();
  if (rank != 3 && rank != 4)
    throw shape_error(str(op, ": input is ", x, ", expected [N, C, H, W] or [C, H, W]"));
  if (x.numel(rank - 3, rank) == 0)
    throw shape_error(str(op, ": input is ", x, ", expected C, H and W of at least 1"));
  const Pair s = stride ? *stride : kernel;
  return {x.numel(0, rank - 2),
          axis(op, "height", x, x[rank - 2], kernel.h, s.h, pad.h, dilation.h, ceil_mode),
          axis(op, "width", x, x[rank - 1], kernel.w, s.w, pad.w, dilation.w, ceil_mode)};
}

Shape with_planes(const Shape& x, int64_t h, int64_t w) {
  Shape s = x;
  s[x.rank() - 2] = h;
  s[x.rank() - 1] = w;
  return s;
}

int64_t planes_per_task(const Geometry& g) {
  return std::max<int64_t>(1, 16384 / std::max(g.in_plane(), g.out_plane()));
}

}  // namespace wattle::pool2d
