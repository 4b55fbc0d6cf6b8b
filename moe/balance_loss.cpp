// balance_loss: L = sum_i f_i P_i,  f_i = N / (K T) #rows of expert i,  P_i = mean_t score[t,i]
//   (Dai et al., DeepSeekMoE, 2024, equations 12 to 14); over D groups of experts f' is the mean
//   and P' the sum of the group's (equations 15 to 17). dscore[t,i] = f_i / T; f is a constant.
#include "moe/ops.h"
#include "ops/indexing.h"

namespace wattle {
namespace {

struct Sizes {
  int64_t sequences, tokens, experts, k, groups, group_size;  // tokens of one sequence
  int64_t routed;  // tokens of one sequence in `expert`: of all ranks, where there are several
};

Sizes sizes(const Tensor& expert, int64_t tokens, int64_t experts, const BalanceLossAttr& a) {
  const int64_t d = a.device_groups;
  return {a.sequences,
          tokens / a.sequences,
          experts,
          expert.size(1),
          d > 0 ? d : experts,
          d > 0 ? experts / d : 1,
          expert.size(0) / a.sequences};
}

void check(const char* op, const Tensor& expert, int64_t tokens, int64_t experts,
           const BalanceLossAttr& a) {
  const bool fits =
      expert.rank() == 2 && expert.size(1) >= 1 &&
      (expert.size(0) == tokens || (a.sequences == 1 && tokens > 0 && expert.size(0) >= tokens));
  if (!fits)
    throw shape_error(str(op, ": expert ", expert, ", expected [", tokens,
                          ", K], or the routing of more tokens "
                          "than these where sequences is 1"));
  if (a.device_groups < 0 || (a.device_groups > 0 && experts % a.device_groups != 0))
    throw value_error(str(op, ": attribute device_groups: found ", a.device_groups,
                          ", expected 0 or a divisor of ", experts, ", the number of experts"));
  if (a.sequences < 1 || tokens % a.sequences != 0)
    throw value_error(str(op, ": attribute sequences: found ", a.sequences,
                          ", expected a divisor of ", tokens, ", the number of tokens"));
}

// f of every group in sequence q. Integers make it, then one division and, for groups, none more:
// the mean over a group divides by a constant that joins the factor.
template <class T>
void fractions(const Tensor& expert, const Sizes& s, int64_t q, std::vector<T>& f) {
  std::vector<int64_t> rows(static_cast<size_t>(s.groups));
  for (int64_t r = q * s.routed * s.k; r < (q + 1) * s.routed * s.k; ++r)
    ++rows[static_cast<size_t>(rules::index_at(expert, r) / s.group_size)];
  const T factor = T(static_cast<double>(s.groups) / static_cast<double>(s.k * s.routed));
  for (size_t g = 0; g < f.size(); ++g) f[g] = T(static_cast<double>(rows[g])) * factor;
}

template <class T>
T loss_of(const T* score, const Tensor& expert, const Sizes& s) {
  std::vector<T> f(static_cast<size_t>(s.groups)), p(static_cast<size_t>(s.experts));
  T total = T(0);
  for (int64_t q = 0; q < s.sequences; ++q) {
    fractions(expert, s, q, f);
    for (T& x : p) x = T(0);
    for (int64_t t = q * s.tokens; t < (q + 1) * s.tokens; ++t)
      for (int64_t i = 0; i < s.experts; ++i) p[static_cast<size_t>(i)] += score[t * s.experts + i];
    for (int64_t i = 0; i < s.experts; ++i)
      total += f[static_cast<size_t>(i / s.group_size)] * p[static_cast<size_t>(i)];
  }
  return total;
}

void loss_ref(Ins in, Outs out, const BalanceLossAttr& a) {
  const int64_t n = in[0].size(1), tokens = in[0].size(0);
  indexing::check_range("balance_loss", in[1], n);
  const Sizes s = sizes(in[1], in[0].size(0), n, a);
  dispatch_floating("balance_loss", in[0].dtype(), [&]<class T>() {
    T* const y = out[0].data<T>();
    if (tokens == 0) y[0] = T(0);
    else y[0] = loss_of(in[0].data<T>(), in[1], s) / T(static_cast<double>(tokens));
  });
}

// ---- balance_loss_grad: g [], expert [T,K] -> dscore [T,N] ----

struct GradAttr : BalanceLossAttr {
  int64_t experts = 1, tokens = 1;
  template <class V>
  void visit(V&& v) {
    BalanceLossAttr::visit(v);
    v("experts", experts), v("tokens", tokens);
  }
};

void grad_ref(Ins in, Outs out, const GradAttr& a) {
  indexing::check_range("balance_loss_grad", in[1], a.experts);
  const Sizes s = sizes(in[1], a.tokens, a.experts, a);
  dispatch_floating("balance_loss_grad", in[0].dtype(), [&]<class T>() {
    std::vector<T> f(static_cast<size_t>(s.groups));
    for (int64_t q = 0; s.tokens > 0 && q < s.sequences; ++q) {
      fractions(in[1], s, q, f);
      for (T& x : f) x = in[0].data<T>()[0] * x / T(static_cast<double>(s.tokens * s.sequences));
      T* const first = out[0].data<T>() + q * s.tokens * a.experts;
      for (int64_t i = 0; i < a.experts; ++i) first[i] = f[static_cast<size_t>(i / s.group_size)];
      for (int64_t t = 1; t < s.tokens; ++t) std::copy_n(first, a.experts, first + t * a.experts);
    }
  });
}

using S = SampleIn;
SampleIn experts(const Shape& s, double n, DType t = DType::i64) {
  return {s, 0, n, S::integers, {}, t};
}

const Op<GradAttr> grad_op{{
    .name = "balance_loss_grad",
    .doc = "Gradient of balance_loss with respect to the scores",
    .equation = "dscore[t,i] = g f_i / T",
    .shape =
        [](Ins in, const GradAttr& a) {
          rules::arity("balance_loss_grad", in, 2, 2);
          rules::floating("balance_loss_grad", in, 0);
          rules::rank("balance_loss_grad", in, 0, 0);
          rules::index_dtype("balance_loss_grad", in, 1);
          if (in[1].rank() != 2)
            throw shape_error(str("balance_loss_grad: expert ", in[1], ", expected [T, K]"));
          check("balance_loss_grad", in[1], a.tokens, a.experts, a);
          return Metas{{{a.tokens, a.experts}, in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const GradAttr& a) {
          const Sizes s = sizes(in[1], a.tokens, a.experts, a);
          const int64_t n = s.tokens > 0 ? s.sequences * s.groups : 0;
          return Cost{.mul = 2 * n, .special = n};
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const GradAttr&) {
          return in[1].numel() == 0 ? Bytes{} : default_bytes(in, out, {});
        },
    .kernels = {{"ref", grad_ref}},
    .samples = {{{{{}}, experts({4, 2}, 5)}, {{0, 1}, 5, 4}},
                {{{{}}, experts({1, 1}, 1)}, {{0, 1}, 1, 1}},
                {{{{}}, experts({6, 3}, 37)}, {{0, 2}, 37, 6}},
                {{{{}}, experts({4, 2}, 6)}, {{3, 2}, 6, 4}}},
}};

const Op<BalanceLossAttr> op{{
    .name = "balance_loss",
    .doc = "Load-balance loss of a router, over experts or over device groups",
    .equation = "L = sum_i f_i P_i, f_i = N/(K T) rows of expert i, P_i = mean score of expert i",
    .shape =
        [](Ins in, const BalanceLossAttr& a) {
          rules::arity("balance_loss", in, 2, 2);
          rules::floating("balance_loss", in, 0);
          rules::rank("balance_loss", in, 0, 2);
          rules::index_dtype("balance_loss", in, 1);
          check("balance_loss", in[1], in[0].size(0), in[0].size(1), a);
          return Metas{{{}, in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const BalanceLossAttr& a) {
          if (in[0].size(0) == 0) return Cost{};
          const Sizes s = sizes(in[1], in[0].size(0), in[0].size(1), a);
          const int64_t n = s.sequences * s.experts;
          return Cost{.add = in[0].numel() + n, .mul = n + s.sequences * s.groups, .special = 1};
        },
    .kernels = {{"ref", loss_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<BalanceLossAttr>& s, Ins g) {
          return Tensors{grad_op.one({g[0], s.in(1)}, {s.attr(), s.shape(0)[1], s.shape(0)[0]}),
                         {}};
        },
    .samples = {{{{{4, 5}}, experts({4, 2}, 5)}},
                {{{{1, 1}}, experts({1, 1}, 1)}},
                {{{{6, 37}}, experts({6, 3}, 37)}, {0, 2}},
                {{{{2, 5}}, experts({6, 2}, 5)}},
                {{{{4, 6}}, experts({4, 2}, 6, DType::i32)}, {3, 2}}},
}};

}  // namespace

Tensor balance_loss(const Tensor& score, const Tensor& expert, const BalanceLossAttr& attr) {
  return op.one({score, expert}, attr);
}

}  // namespace wattle
