// The ops of this folder: what a routed layer needs. A row is one token sent to one expert; token t
// makes the rows t K .. t K + K - 1. Slots hold the rows grouped by expert.
#pragma once
#include "ops/ops.h"

namespace wattle {

struct TopkGateAttr {
  int64_t k = 1;
  std::string score = "softmax";  ///< softmax | sigmoid, of the logits
  bool norm_topk = false;         ///< the weights of a token are divided by their sum
  double route_scale = 1;         ///< factor on every weight
  /// Only experts of a token's best `topk_groups` groups out of `groups` are eligible. A group is
  /// as good as its best score, or as the sum of its two best where a bias is given.
  int64_t groups = 1, topk_groups = 1;
  int64_t skip = 0;  ///< passes over the `skip` best experts of every token: a probe
  template <class V>
  void visit(V&& v) {
    v("k", k), v("score", score), v("norm_topk", norm_topk), v("route_scale", route_scale);
    v("groups", groups), v("topk_groups", topk_groups), v("skip", skip);
  }
};
/// logits [T,N] -> {weight [T,K], expert [T,K] i64, score [T,N]}. The K experts of a token are
/// those with the largest score + bias [N]; the bias has no part in the weights and no gradient.
/// Equal ones: the lower number first; not-a-number is the largest. With `expert` [T,K] given
/// nothing is chosen: a frozen or a hashed routing, in which an expert may come twice. Throws
/// value_error where fewer than K experts are eligible.
Tensors topk_gate(const Tensor& logits, const Tensor& bias, const Tensor& expert,
                  const TopkGateAttr& attr);

struct CountingSortAttr {
  int64_t experts = 1;
  int64_t capacity = 0;  ///< rows that an expert takes at most; 0 = all
  /// Who comes first where capacity is short: choice = all first choices, then all second ones;
  /// token = in the order of the tokens.
  std::string priority = "choice";
  template <class V>
  void visit(V&& v) {
    v("experts", experts), v("capacity", capacity), v("priority", priority);
  }
};
/// expert [T,K] -> {order [T K]: the row in each slot, grouped by expert, in the order of the rows;
/// position [T,K]: the slot of each row; offsets [N+1]: expert e has the slots offsets[e] ..
/// offsets[e+1]}. Rows over the capacity have position -1, slots without a row order -1.
Tensors counting_sort(const Tensor& expert, const CountingSortAttr& attr);

/// y[p] = x[row of slot p] W[e] for every expert e and each of its slots p; 0 in slots without a
/// row. weight [N,k,n], or [N,n,k] with transpose_weight. x [T,k] is read through `order` and
/// `position` (of counting_sort); without them x [P,k] lies in slots already.
struct GroupedGemmAttr {
  bool transpose_weight = false;
  template <class V>
  void visit(V&& v) {
    v("transpose_weight", transpose_weight);
  }
};
Tensor grouped_gemm(const Tensor& x, const Tensor& weight, const Tensor& offsets,
                    const Tensor& order = {}, const Tensor& position = {},
                    const GroupedGemmAttr& attr = {});
/// relu of the same, without a second pass over memory.
Tensor grouped_gemm_relu(const Tensor& x, const Tensor& weight, const Tensor& offsets,
                         const Tensor& order = {}, const Tensor& position = {},
                         const GroupedGemmAttr& attr = {});

/// out[t] = sum over k of weight[t,k] y[position[t,k]]: y [P,d], weight [T,K] (none = ones). Rows
/// that were dropped add nothing.
Tensor combine(const Tensor& y, const Tensor& weight, const Tensor& position, const Tensor& order);
/// y[p] = weight[t,k] x[t] where order[p] = t K + k; 0 in slots without a row.
Tensor dispatch_rows(const Tensor& x, const Tensor& weight, const Tensor& order,
                     const Tensor& position);

struct BalanceLossAttr {
  int64_t device_groups = 0;  ///< 0: over experts; D: over D groups of neighbouring experts
  int64_t sequences = 1;      ///< f and P of each of so many equal runs of tokens, then the mean
  template <class V>
  void visit(V&& v) {
    v("device_groups", device_groups), v("sequences", sequences);
  }
};
/// sum over experts of f_i P_i, where f_i = N / (K T) times the rows that expert i got and P_i the
/// mean score: 1 when balanced. Over device groups f is the mean and P the sum of the group's.
/// score [T,N], expert [T,K] -> scalar; no gradient flows through f. 0 for no tokens. `expert` may
/// hold more tokens than `score`, such as those of all ranks: f is theirs, P that of the scores
/// given.
Tensor balance_loss(const Tensor& score, const Tensor& expert, const BalanceLossAttr& attr = {});
/// mean over tokens of (log sum exp logits)^2; 0 for no tokens.
Tensor router_z_loss(const Tensor& logits);

}  // namespace wattle
