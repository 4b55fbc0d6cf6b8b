#include "ops/norm_rows.h"

namespace wattle::norm {

void check(const char* op, Ins in, size_t x, size_t first, const Shape& tail) {
  rules::floating(op, in, static_cast<int>(x));
  rules::same_dtype(op, in);
  const Shape& s = in[x].shape();
  bool fits = tail.rank() > 0 && tail.rank() <= s.rank();
  for (int i = 0; fits && i < tail.rank(); ++i) fits = s[s.rank() - tail.rank() + i] == tail[i];
  if (!fits)
    throw shape_error(str(op, ": normalized_shape ", tail, " found for ", in[x],
                          ", expected the last dims of its shape"));
  for (size_t i = first; i < in.size(); ++i)
    if (in[i] && in[i].shape() != tail)
      throw shape_error(str(op, ": operand ", i, " is ", in[i], ", expected shape ", tail));
}

// Per row: the mean D additions and a product; the squares 2D additions (one of them x - m) and D
// products; r: a product, an addition, sqrt and a division; y: x - m, times r, w and b.
Cost forward_cost(bool centered, Rows rows, bool weight, bool bias) {
  const int64_t d = rows.d, c = centered;
  return Cost{.add = (1 + 3 * c + bias) * d + 1, .mul = (2 + weight) * d + 1 + c, .special = 2} *
         rows.count;
}

// Per row: mean and r as above; the two sums; gx; and with params the sums over rows.
Cost grad_cost(bool centered, Rows rows, bool weight, bool params) {
  const int64_t d = rows.d, c = centered, p = params;
  return Cost{.add = (3 + 6 * c + p * (1 + c)) * d + 1,
              .mul = (6 + 2 * weight + p) * d + 2 + 2 * c,
              .special = 2} *
         rows.count;
}

}  // namespace wattle::norm
