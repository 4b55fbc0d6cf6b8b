// Device code of counting_sort: rows are counted by parts, so that every row finds its slot alone.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// ---- counting_sort ----

constexpr int64_t part_rows = 256;

// Rows in the order in which they are admitted, or as they lie.
struct RowOrder {
  int64_t tokens, k;
  bool by_choice;
  WATTLE_HD int64_t row(int64_t i) const { return by_choice ? i % tokens * k + i / tokens : i; }
};
struct CountPart {
  RowOrder order;
  const int64_t* to;  // the expert of each row, -1 = none
  int64_t rows, experts;
  int64_t* count;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t part = i / experts, e = i - part * experts;
    int64_t n = 0;
    for (int64_t r = part * part_rows; r < (part + 1) * part_rows && r < rows; ++r)
      n += to[order.row(r)] == e;
    count[i] = n;
  }
};
// Counts of an expert's parts become how many rows come before each; total[e] how many there are.
struct SumParts {
  int64_t parts, experts;
  int64_t *count, *total;
  WATTLE_HD void operator()(int64_t e) const {
    int64_t sum = 0;
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t n = count[p * experts + e];
      count[p * experts + e] = sum;
      sum += n;
    }
    total[e] = sum;
  }
};
WATTLE_HD int64_t rank_in(const RowOrder& order, const int64_t* to, const int64_t* count,
                          int64_t experts, int64_t i, int64_t e) {
  const int64_t part = i / part_rows;
  int64_t n = count[part * experts + e];
  for (int64_t r = part * part_rows; r < i; ++r) n += to[order.row(r)] == e;
  return n;
}
struct Offsets {
  int64_t experts;
  const int64_t* total;
  int64_t* offsets;
  WATTLE_HD void operator()(int64_t) const {
    int64_t sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      offsets[e] = sum;
      sum += total[e];
    }
    offsets[experts] = sum;
  }
};
struct Widen {
  Index from;
  int64_t experts;
  int64_t* to;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t e = from(i);
    to[i] = e >= 0 && e < experts ? e : -1;  // of an expert that does not exist: dropped
  }
};
struct Admit {
  RowOrder order;
  const int64_t *to, *count;
  int64_t experts, capacity;
  int64_t* admitted;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t r = order.row(i), e = to[r];
    admitted[r] = e >= 0 && rank_in(order, to, count, experts, i, e) < capacity ? e : -1;
  }
};
struct Slots {
  RowOrder order;
  const int64_t *to, *count, *offsets;
  int64_t experts;
  int64_t *position, *slots;
  WATTLE_HD void operator()(int64_t r) const {
    const int64_t e = to[r];
    position[r] = e < 0 ? -1 : offsets[e] + rank_in(order, to, count, experts, r, e);
    if (e >= 0) slots[position[r]] = r;
  }
};
struct Put {
  int64_t* p;
  int64_t value;
  WATTLE_HD void operator()(int64_t i) const { p[i] = value; }
};

const char* counting_sort(const Launch& l) {
  const int64_t experts = integer(l, "experts"), capacity = integer(l, "capacity");
  const View& in = l.in[0];
  const int64_t tokens = in.size[0], k = in.size[1], rows = in.numel;
  const int64_t parts = (rows + part_rows - 1) / part_rows;
  const Scratch held((2 * rows + parts * experts + experts) * 8);
  if (!held) return fail("out of memory for %lld rows", static_cast<long long>(rows));
  int64_t *to = held.as<int64_t>(), *admitted = to + rows, *count = admitted + rows;
  int64_t* const total = count + parts * experts;
  int64_t *slots = out<int64_t>(l, 0), *position = out<int64_t>(l, 1),
          *offsets = out<int64_t>(l, 2);
  const RowOrder lying{tokens, k, false};
  if (const char* e = each(rows, Widen{Index(in), experts, to})) return e;
  if (capacity > 0) {
    const RowOrder order{tokens, k, says(l, "priority", "choice")};
    if (const char* e = each(parts * experts, CountPart{order, to, rows, experts, count})) return e;
    if (const char* e = each(experts, SumParts{parts, experts, count, total})) return e;
    if (const char* e = each(rows, Admit{order, to, count, experts, capacity, admitted})) return e;
    std::swap(to, admitted);
  }
  if (const char* e = each(parts * experts, CountPart{lying, to, rows, experts, count})) return e;
  if (const char* e = each(experts, SumParts{parts, experts, count, total})) return e;
  if (const char* e = each(1, Offsets{experts, total, offsets})) return e;
  if (const char* e = each(rows, Put{slots, -1})) return e;
  return each(rows, Slots{lying, to, count, offsets, experts, position, slots});
}

}  // namespace

WATTLE_DEVICE_OP(counting_sort) { return counting_sort(l); }
}  // namespace wattle::device
