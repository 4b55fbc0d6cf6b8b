// sum_to(g, shape): the transpose of broadcasting. Sums g over the dims that were added in front
// or stretched from size 1. Made of sum and reshape.
#include "ops/ops.h"

namespace wattle {

Tensor sum_to(const Tensor& g, const Shape& shape) {
  if (g.shape() == shape) return g;
  const int added = g.rank() - shape.rank();
  if (added < 0)
    throw shape_error(str("sum_to: gradient ", g.shape(), " has fewer dims than ", shape));
  Shape dims;
  bool stretched = false;
  for (int i = 0; i < g.rank(); ++i) {
    const int64_t want = i < added ? 1 : shape[i - added];
    if (i < added) dims.push_back(i);
    else if (want == 1 && g.shape()[i] != 1) {
      dims.push_back(i);
      stretched = true;
    } else if (want != g.shape()[i])
      throw shape_error(str("sum_to: gradient ", g.shape(), " does not sum to ", shape, ": sizes ",
                            g.shape()[i], " and ", want, " at dimension ", i));
  }
  if (!stretched) return sum(g, dims);
  const Tensor s = sum(g, dims, true);
  return added == 0 ? s : reshape(s, shape);
}

}  // namespace wattle
