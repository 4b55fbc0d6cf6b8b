// counting_sort: the rows (token, choice) grouped by expert, stable, so that the order in which
// sums are taken is that of the tokens whatever the number of threads.
#include <utility>

#include "core/parallel.h"
#include "moe/ops.h"
#include "ops/indexing.h"

namespace wattle {
namespace {

Metas sort_shape(Ins in, const CountingSortAttr& a) {
  rules::arity("counting_sort", in, 1, 1);
  rules::index_dtype("counting_sort", in, 0);
  rules::rank("counting_sort", in, 0, 2);
  const auto fail = [&](const char* field, auto found, const char* expected) {
    throw value_error(
        str("counting_sort: attribute ", field, ": found ", found, ", expected ", expected));
  };
  if (a.experts < 1) fail("experts", a.experts, ">= 1");
  if (a.capacity < 0) fail("capacity", a.capacity, ">= 0, 0 for no limit");
  if (a.priority != "choice" && a.priority != "token")
    fail("priority", a.priority, "choice or token");
  return {
      {{in[0].numel()}, DType::i64}, {in[0].shape(), DType::i64}, {{a.experts + 1}, DType::i64}};
}

// The expert of each row, or -1 where it finds its expert full; counts[e] = rows that e takes.
template <class I>
void admit(const I* expert, int64_t tokens, int64_t k, const CountingSortAttr& a, int64_t* to,
           int64_t* counts) {
  const auto row = [&](int64_t r) {
    int64_t& n = counts[expert[r]];
    to[r] = n >= a.capacity ? -1 : (++n, expert[r]);
  };
  if (a.capacity == 0) {
    for (int64_t r = 0; r < tokens * k; ++r) ++counts[to[r] = expert[r]];
  } else if (a.priority == "choice") {
    for (int64_t c = 0; c < k; ++c)
      for (int64_t t = 0; t < tokens; ++t) row(t * k + c);
  } else {
    for (int64_t r = 0; r < tokens * k; ++r) row(r);
  }
}

constexpr int64_t kPart = 4096;  // rows

// Without a capacity, parts of the rows are counted and then placed side by side: the slots of a
// part start after those of the parts before it.
template <class I>
void sort_parts(const I* expert, int64_t rows, int64_t experts, Outs out) {
  int64_t* const order = out[0].data<int64_t>();
  int64_t* const position = out[1].data<int64_t>();
  int64_t* const offsets = out[2].data<int64_t>();
  const int64_t parts = (rows + kPart - 1) / kPart;
  std::vector<int64_t> slot(static_cast<size_t>(parts * experts));
  parallel_for(rows, kPart, [&](int64_t begin, int64_t end) {
    int64_t* const n = slot.data() + begin / kPart * experts;
    for (int64_t r = begin; r < end; ++r) ++n[expert[r]];
  });
  int64_t sum = 0;
  for (int64_t e = 0; e < experts; ++e) {
    offsets[e] = sum;
    for (int64_t i = 0; i < parts; ++i) {
      int64_t& n = slot[static_cast<size_t>(i * experts + e)];
      sum += std::exchange(n, sum);
    }
  }
  offsets[experts] = sum;
  parallel_for(rows, kPart, [&](int64_t begin, int64_t end) {
    int64_t* const next = slot.data() + begin / kPart * experts;
    for (int64_t r = begin; r < end; ++r) order[position[r] = next[expert[r]]++] = r;
  });
}

void sort_fast(Ins in, Outs out, const CountingSortAttr& a) {
  indexing::check_range("counting_sort", in[0], a.experts);
  if (in[0].dtype() == DType::i64) sort_parts(in[0].data<int64_t>(), in[0].numel(), a.experts, out);
  else sort_parts(in[0].data<int32_t>(), in[0].numel(), a.experts, out);
}

void sort_ref(Ins in, Outs out, const CountingSortAttr& a) {
  indexing::check_range("counting_sort", in[0], a.experts);
  const int64_t tokens = in[0].size(0), k = in[0].size(1), rows = tokens * k;
  int64_t* const order = out[0].data<int64_t>();
  int64_t* const position = out[1].data<int64_t>();  // the expert of each row for now
  int64_t* const offsets = out[2].data<int64_t>();
  std::fill(offsets, offsets + a.experts + 1, 0);
  if (in[0].dtype() == DType::i64)
    admit(in[0].data<int64_t>(), tokens, k, a, position, offsets + 1);
  else admit(in[0].data<int32_t>(), tokens, k, a, position, offsets + 1);
  for (int64_t e = 0; e < a.experts; ++e) offsets[e + 1] += offsets[e];
  std::vector<int64_t> next(offsets, offsets + a.experts);
  for (int64_t r = 0; r < rows; ++r) {
    if (position[r] < 0) continue;
    const int64_t slot = next[static_cast<size_t>(position[r])]++;
    order[slot] = r;
    position[r] = slot;
  }
  std::fill(order + offsets[a.experts], order + rows, int64_t{-1});
}

SampleIn experts(const Shape& s, double n, DType t = DType::i64) {
  return {s, 0, n, SampleIn::integers, {}, t};
}

// Integer work, per row: one comparison with the capacity, three additions (taken, counted,
// placed).
const Op<CountingSortAttr> op{{
    .name = "counting_sort",
    .doc = "Rows grouped by expert",
    .equation = "order: rows by expert; position: its inverse; offsets: sums of rows per expert",
    .shape = sort_shape,
    .cost =
        [](Ins in, std::span<const Meta>, const CountingSortAttr& a) {
          return Cost{.add = 3 * in[0].numel() + a.experts, .cmp = in[0].numel()};
        },
    .kernels = {{"parts", sort_fast,
                 [](Ins, const CountingSortAttr& c) {
                   return c.capacity > 0 ? Refusal{"a capacity fills in the order of the rows"}
                                         : Refusal{};
                 }},
                {"ref", sort_ref}},
    .samples = {{{experts({5, 2}, 4)}, {4}},
                {{experts({1, 1}, 1)}, {1}},
                {{experts({7, 3}, 5, DType::i32)}, {5, 3}},
                {{experts({7, 3}, 37)}, {37, 1, "token"}},
                {{experts({1500, 3}, 6)}, {6}}},
}};

}  // namespace

Tensors counting_sort(const Tensor& expert, const CountingSortAttr& attr) {
  return op({expert}, attr);
}

}  // namespace wattle
