// all_to_all_rows: rows of one rank become rows of others.   dx: the same, the other way round
#include <algorithm>

#include "moe/exchange.h"
#include "ops/indexing.h"

namespace wattle {
namespace moe {
int64_t first_expert(int64_t experts, int64_t rank) { return rank * experts / world().size(); }
}  // namespace moe

namespace {

struct Attr {
  int64_t rows = 0;
  template <class V>
  void visit(V&& v) {
    v("rows", rows);
  }
};

int64_t total(const Tensor& rows) {
  int64_t n = 0;
  for (int64_t i = 0; i < rows.numel(); ++i) n += rows.data<int64_t>()[i];
  return n;
}

void run(Ins in, Outs out, const Attr& a) {
  const char* const name = "all_to_all_rows";
  const Tensor &x = in[0], &send = in[1], &recv = in[2];
  for (const Tensor* t : {&send, &recv})
    for (int64_t i = 0; i < t->numel(); ++i)
      if (t->data<int64_t>()[i] < 0)
        throw value_error(str(name, ": found ", t->data<int64_t>()[i], " rows, expected >= 0"));
  const int64_t sent = total(send), came = total(recv), width = x.size(1);
  if (sent > x.size(0) || came > a.rows)
    throw value_error(str(name, ": found ", sent, " rows to send and ", came,
                          " to come, expected at most ", x.size(0), " and ", a.rows));
  moe::Group& g = moe::world();
  if (g.size() == 1 && sent != came)
    throw value_error(str(name, ": one rank sends ", sent, " rows to itself and awaits ", came));
  const int64_t bytes = info(x.dtype()).bytes;
  dispatch_floating(name, x.dtype(), [&]<class T>() {
    if constexpr (std::is_same_v<T, Counted>) {
      std::copy_n(x.data<T>(), sent * width, out[0].data<T>());
    } else {
      g.all_to_all(x.raw(), send.data<int64_t>(), out[0].raw(), recv.data<int64_t>(), width, bytes);
    }
    std::fill(out[0].data<T>() + came * width, out[0].data<T>() + out[0].numel(), T(0));
  });
  report_executed(
      {.read = sent * width * bytes + send.nbytes() + recv.nbytes(), .written = out[0].nbytes()});
}

using S = SampleIn;
SampleIn rows(double n) { return {{1}, 0, 1, S::integers, {}, DType::i64, {n}}; }

const Op<Attr> op{{
    .name = "all_to_all_rows",
    .doc = "Rows to the ranks that hold their experts, and back",
    .equation = "y = rows of all ranks that are for this one, then zeros",
    .shape =
        [](Ins in, const Attr& a) {
          const char* const name = "all_to_all_rows";
          rules::arity(name, in, 3, 3);
          rules::floating(name, in, 0);
          rules::rank(name, in, 0, 2);
          const Shape ranks{moe::world().size()};
          for (size_t i = 1; i < 3; ++i)
            if (in[i].shape() != ranks || in[i].dtype() != DType::i64)
              throw shape_error(str(name, ": found ", in[i], ", expected i64 ", ranks,
                                    ", a number for each rank"));
          if (a.rows < 0)
            throw value_error(str(name, ": attribute rows: found ", a.rows, ", expected >= 0"));
          return Metas{{{a.rows, in[0].size(1)}, in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const Attr&) { return Cost{}; },
    .kernels = {{"ref", run}},
    .saves_in = {1, 2},
    .data_dependent = true,
    .backward =
        [](const Saved<Attr>& s, Ins g) {
          return Tensors{moe::all_to_all_rows(g[0], s.in(2), s.in(1), s.shape(0)[0]), {}, {}};
        },
    .samples = {{{{{5, 3}}, rows(4), rows(4)}, {6}},
                {{{{1, 1}}, rows(1), rows(1)}, {1}},
                {{{{2, 37}}, rows(2), rows(2)}, {2}}},
}};

}  // namespace

namespace moe {
Tensor all_to_all_rows(const Tensor& x, const Tensor& send_rows, const Tensor& recv_rows,
                       int64_t rows) {
  return op.one({x, send_rows, recv_rows}, {rows});
}
}  // namespace moe
}  // namespace wattle
