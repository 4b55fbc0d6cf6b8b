// topk_gate: s = softmax or sigmoid of the logits; the K experts with the largest s + bias;
//   weight_k = s[expert_k], over their sum if asked, times route_scale.
// Backward: ds[expert_k] += dweight_k, through the sum if there is one, then through the score.
#include "moe/ops.h"
#include "moe/topk_gate_lanes.h"
#include "ops/order.h"

namespace wattle {
namespace {

// What is left of N experts for the final choice.
int64_t eligible(int64_t experts, const TopkGateAttr& a) {
  return a.groups > 1 ? a.topk_groups * (experts / a.groups) : experts;
}

Metas gate_shape(Ins in, const TopkGateAttr& a) {
  rules::arity("topk_gate", in, 1, 3);
  rules::floating("topk_gate", in, 0);
  rules::rank("topk_gate", in, 0, 2);
  const int64_t tokens = in[0].size(0), n = in[0].size(1);
  const bool given = in.size() > 2 && in[2];
  const auto fail = [&](const char* field, auto found, const std::string& expected) {
    throw value_error(
        str("topk_gate: attribute ", field, ": found ", found, ", expected ", expected));
  };
  if (a.score != "softmax" && a.score != "sigmoid") fail("score", a.score, "softmax or sigmoid");
  if (a.groups < 1 || n % a.groups != 0)
    fail("groups", a.groups, str("a divisor of ", n, ", the number of experts"));
  if (a.topk_groups < 1 || a.topk_groups > a.groups)
    fail("topk_groups", a.topk_groups, str("1 to ", a.groups));
  if (a.skip < 0) fail("skip", a.skip, ">= 0");
  const int64_t most = given ? n : eligible(n, a) - a.skip;
  if (a.k < 1 || a.k > most)
    fail("k", a.k, str("1 to ", most, ", the experts that are eligible out of ", n));
  if (in.size() > 1 && in[1]) {
    if (in[1].shape() != Shape{n} || in[1].dtype() != in[0].dtype())
      throw shape_error(
          str("topk_gate: bias ", in[1], ", expected ", name(in[0].dtype()), " ", Shape{n}));
  }
  const Shape chosen{tokens, a.k};
  if (given) {
    rules::index_dtype("topk_gate", in, 2);
    if (in[2].shape() != chosen)
      throw shape_error(str("topk_gate: expert ", in[2], ", expected shape ", chosen));
  }
  return {{chosen, in[0].dtype()}, {chosen, DType::i64}, {in[0].shape(), in[0].dtype()}};
}

bool has(Ins in, size_t i) { return in.size() > i && in[i].defined(); }

// The experts of one token by score s + bias, into list[0, skip + k); work is scratch.
template <class T>
void choose(const T* s, const T* bias, int64_t n, const TopkGateAttr& a, std::vector<T>& work,
            int64_t* list) {
  work.assign(s, s + n);
  for (int64_t i = 0; bias && i < n; ++i) work[static_cast<size_t>(i)] += bias[i];
  const int64_t want = a.skip + a.k;
  if (a.groups == 1) return order::insertion(work.data(), n, 1, want, true, list);
  const int64_t size = n / a.groups;
  std::vector<T> group(static_cast<size_t>(a.groups));
  for (int64_t g = 0; g < a.groups; ++g) {
    int64_t best[2];
    const T* const x = work.data() + g * size;
    const int64_t two = bias && size > 1 ? 2 : 1;
    order::insertion(x, size, 1, two, true, best);
    group[static_cast<size_t>(g)] = two == 2 ? x[best[0]] + x[best[1]] : x[best[0]];
  }
  std::vector<int64_t> kept(static_cast<size_t>(a.topk_groups));
  order::insertion(group.data(), a.groups, 1, a.topk_groups, true, kept.data());
  std::sort(kept.begin(), kept.end());  // experts stay in their order
  std::vector<T> rest;
  for (int64_t g : kept)
    rest.insert(rest.end(), work.begin() + g * size, work.begin() + (g + 1) * size);
  order::insertion(rest.data(), static_cast<int64_t>(rest.size()), 1, want, true, list);
  for (int64_t i = 0; i < want; ++i)
    list[i] = kept[static_cast<size_t>(list[i] / size)] * size + list[i] % size;
}

template <class T>
void score_row(const T* x, int64_t n, bool softmax, T* s) {
  if (!softmax) {
    for (int64_t i = 0; i < n; ++i) s[i] = T(1) / (T(1) + num::exp(-x[i]));
    return;
  }
  T m = x[0], total{};
  for (int64_t i = 1; i < n; ++i) m = x[i] > m ? x[i] : m;
  for (int64_t i = 0; i < n; ++i) {
    s[i] = num::exp(x[i] - m);
    total += s[i];
  }
  for (int64_t i = 0; i < n; ++i) s[i] /= total;
}

// Weights of the chosen experts of one token.
template <class T>
void weigh(const T* s, const int64_t* expert, const TopkGateAttr& a, T* weight) {
  T sum{};
  for (int64_t k = 0; k < a.k; ++k) {
    weight[k] = s[expert[k]];
    if (a.norm_topk) sum += weight[k];
  }
  for (int64_t k = 0; a.norm_topk && k < a.k; ++k) weight[k] /= sum;
  for (int64_t k = 0; a.route_scale != 1 && k < a.k; ++k) weight[k] *= T(a.route_scale);
}

void gate_ref(Ins in, Outs out, const TopkGateAttr& a) {
  const int64_t tokens = in[0].size(0), n = in[0].size(1);
  if (has(in, 2)) indexing::check_range("topk_gate", in[2], n);
  dispatch_floating("topk_gate", in[0].dtype(), [&]<class T>() {
    const T* const bias = has(in, 1) && !has(in, 2) ? in[1].data<T>() : nullptr;
    std::vector<T> work;
    std::vector<int64_t> list(static_cast<size_t>(a.skip + a.k));
    for (int64_t t = 0; t < tokens; ++t) {
      T* const s = out[2].data<T>() + t * n;
      int64_t* const expert = out[1].data<int64_t>() + t * a.k;
      score_row(in[0].data<T>() + t * n, n, a.score == "softmax", s);
      if (has(in, 2)) {
        for (int64_t k = 0; k < a.k; ++k) expert[k] = rules::index_at(in[2], t * a.k + k);
      } else {
        choose(s, bias, n, a, work, list.data());
        std::copy_n(list.data() + a.skip, a.k, expert);
      }
      weigh(s, expert, a, out[0].data<T>() + t * a.k);
    }
  });
}

// ---- vector kernel (moe/topk_gate_lanes.h) ----

// Experts of one token from column `lane` of the lists, or the given ones, or the scalar way.
struct Finish {
  Ins in;
  Outs out;
  const TopkGateAttr& a;
  const float* bias;
  int64_t n;
  std::vector<float> work = {};
  std::vector<int64_t> chosen = {};

  void token(int64_t t, const float* list, int lanes, int lane) {
    int64_t* const expert = out[1].data<int64_t>() + t * a.k;
    const float* const s = out[2].data<float>() + t * n;
    if (has(in, 2)) {
      for (int64_t k = 0; k < a.k; ++k) expert[k] = rules::index_at(in[2], t * a.k + k);
    } else if (list) {
      for (int64_t k = 0; k < a.k; ++k)
        expert[k] = static_cast<int64_t>(list[(a.skip + k) * lanes + lane]);
    } else {
      chosen.resize(static_cast<size_t>(a.skip + a.k));
      choose(s, bias, n, a, work, chosen.data());
      std::copy_n(chosen.data() + a.skip, a.k, expert);
    }
    weigh(s, expert, a, out[0].data<float>() + t * a.k);
  }
};

bool in_lanes(Ins in, const TopkGateAttr& a) {
  return a.groups == 1 && !has(in, 2) && a.skip + a.k <= gate::kChosen;
}

template <class Isa>
void gate_simd(Ins in, Outs out, const TopkGateAttr& a) {
  const int64_t tokens = in[0].size(0), n = in[0].size(1);
  if (has(in, 2)) indexing::check_range("topk_gate", in[2], n);
  const bool softmax = a.score == "softmax", lists = in_lanes(in, a);
  const float* const bias = has(in, 1) && !has(in, 2) ? in[1].data<float>() : nullptr;
  parallel_for(tokens, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> lanes(static_cast<size_t>(n * Isa::width)), list(gate::kChosen * Isa::width);
    Finish finish{in, out, a, bias, n};
    for (int64_t t = begin; t < end; t += Isa::width) {
      const int count = static_cast<int>(std::min<int64_t>(Isa::width, end - t));
      bool done = false;
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        float* const s = lanes.data();
        gemm::detail::pack_transposed<N>(in[0].data<float>() + t * n, n, count, n, s, N);
        gate::score_lanes<N>(s, n, softmax);
        gate::rows_of_lanes<N>(s, n, count, out[2].data<float>() + t * n);
        done = lists && gate::pick_lanes<N>(s, bias, n, a.skip + a.k, list.data());
      });
      for (int i = 0; i < count; ++i)
        finish.token(t + i, done ? list.data() : nullptr, Isa::width, i);
    }
  });
}

// ---- cost ----

int64_t choice_comparisons(int64_t n, bool biased, const TopkGateAttr& a) {
  int64_t c = order::insertion_comparisons(eligible(n, a), a.skip + a.k);
  if (a.groups == 1) return c;
  const int64_t size = n / a.groups;
  return c + order::insertion_comparisons(a.groups, a.topk_groups) +
         a.groups * order::insertion_comparisons(size, biased && size > 1 ? 2 : 1);
}

Cost gate_cost(Ins in, std::span<const Meta>, const TopkGateAttr& a) {
  const int64_t t = in[0].size(0), n = in[0].size(1), group = n / a.groups;
  const bool biased = has(in, 1);
  Cost c = a.score == "softmax" ? Cost{.add = 2 * n, .cmp = n - 1, .special = 2 * n}
                                : Cost{.add = n, .cmp = n, .special = 2 * n};
  if (!has(in, 2)) {
    c.cmp += choice_comparisons(n, biased, a);
    if (biased) c.add += n + (a.groups > 1 && group > 1 ? a.groups : 0);
  }
  if (a.norm_topk) c.add += a.k, c.special += a.k;
  if (a.route_scale != 1) c.mul += a.k;
  return c * t;
}

// The vector kernel compares every expert with every place of the list, of 1, 2, 4, 8 or 16.
Cost gate_executes(Ins in, const Cost& declared, const TopkGateAttr& a) {
  Cost c = declared;
  const int64_t n = in[0].size(1);
  if (in_lanes(in, a))
    c.cmp += in[0].size(0) *
             (n * static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(a.skip + a.k))) -
              choice_comparisons(n, has(in, 1), a));
  return c;
}

Bytes gate_bytes(Ins in, std::span<const Meta> out, const TopkGateAttr&) {
  // A bias has no part where the routing is given.
  return default_bytes(in, out, {}, has(in, 2) ? Bits{1} : Bits{});
}

// ---- topk_gate_grad: dweight [T,K], dscore [T,N], score, expert -> dlogits ----

template <class T>
void weigh_backward(const T* g, const T* s, const int64_t* expert, const TopkGateAttr& a, T* ds) {
  T sum{}, dot{};
  if (a.norm_topk) {
    for (int64_t k = 0; k < a.k; ++k) sum += s[expert[k]];
    for (int64_t k = 0; k < a.k; ++k) dot += g[k] * (s[expert[k]] / sum);
  }
  for (int64_t k = 0; k < a.k; ++k) {
    T d = a.norm_topk ? (g[k] - dot) / sum : g[k];
    if (a.route_scale != 1) d *= T(a.route_scale);
    ds[expert[k]] += d;
  }
}

void grad_ref(Ins in, Outs out, const TopkGateAttr& a) {
  const int64_t tokens = in[2].size(0), n = in[2].size(1);
  indexing::check_range("topk_gate_grad", in[3], n);
  dispatch_floating("topk_gate_grad", in[2].dtype(), [&]<class T>() {
    parallel_for(tokens, 1 + indexing::grain<T>(1 << 14) / (n + 1), [&](int64_t b, int64_t e) {
      std::vector<T> ds(static_cast<size_t>(n));
      for (int64_t t = b; t < e; ++t) {
        const T* const s = in[2].data<T>() + t * n;
        T* const dx = out[0].data<T>() + t * n;
        if (has(in, 1)) std::copy_n(in[1].data<T>() + t * n, n, ds.data());
        else std::fill(ds.begin(), ds.end(), T{});
        if (has(in, 0))
          weigh_backward(in[0].data<T>() + t * a.k, s, in[3].data<int64_t>() + t * a.k, a,
                         ds.data());
        T dot{};
        const bool softmax = a.score == "softmax";
        for (int64_t i = 0; softmax && i < n; ++i) dot += s[i] * ds[static_cast<size_t>(i)];
        for (int64_t i = 0; i < n; ++i) {
          const T& d = ds[static_cast<size_t>(i)];
          dx[i] = softmax ? s[i] * (d - dot) : d * (s[i] * (T(1) - s[i]));
        }
      }
    });
  });
}

Cost grad_cost(Ins in, std::span<const Meta>, const TopkGateAttr& a) {
  const int64_t n = in[2].size(1);
  Cost c = a.score == "softmax" ? Cost{.add = 2 * n, .mul = 2 * n} : Cost{.add = n, .mul = 2 * n};
  if (has(in, 0)) {
    c.add += a.k;
    if (a.norm_topk) c += Cost{.add = 3 * a.k, .mul = a.k, .special = 2 * a.k};
    if (a.route_scale != 1) c.mul += a.k;
  }
  return c * in[2].size(0);
}

using S = SampleIn;
SampleIn scores_sample(const Shape& s) { return {s, 0.1, 0.9, S::distinct}; }
SampleIn experts_sample(const Shape& s, std::vector<double> v) {
  return {s, 0, 1, S::integers, {}, DType::i64, std::move(v)};
}

const Op<TopkGateAttr> grad_op{{
    .name = "topk_gate_grad",
    .doc = "Gradient of topk_gate",
    .equation = "dlogits from dweight, dscore, score and expert",
    .shape =
        [](Ins in, const TopkGateAttr& a) {
          const char* const name = "topk_gate_grad";
          rules::arity(name, in, 4, 4);
          rules::same_dtype(name, in.first(3));
          rules::floating(name, in, 2);
          rules::rank(name, in, 2, 2);
          const Shape chosen{in[2].size(0), a.k};
          if (in[0].shape() != chosen || in[1].shape() != in[2].shape() ||
              in[3].shape() != chosen || in[3].dtype() != DType::i64)
            throw shape_error(str(name, ": found ", in[0], ", ", in[1], ", ", in[2], ", ", in[3],
                                  ", expected [T, ", a.k, "], [T, N], [T, N], i64 [T, ", a.k, "]"));
          return Metas{in[2].meta()};
        },
    .cost = grad_cost,
    .kernels = {{"ref", grad_ref}},
    .samples =
        {{{{{3, 2}}, {{3, 5}}, scores_sample({3, 5}), experts_sample({3, 2}, {0, 4, 2, 1, 3, 0})},
          {2}},
         {{{{1, 1}}, {{1, 1}}, scores_sample({1, 1}), experts_sample({1, 1}, {0})}, {1, "sigmoid"}},
         {{{{2, 3}},
           {{2, 37}},
           scores_sample({2, 37}),
           experts_sample({2, 3}, {36, 0, 7, 4, 4, 1})},
          {3, "softmax", true, 2.5}}},
}};

Tensors gate_backward(const Saved<TopkGateAttr>& s, Ins g) {
  const Tensor score = s.out(2);
  const Tensor dw =
      g[0] ? g[0] : Tensor::zeros({score.size(0), s.attr().k}, score.dtype(), score.device());
  const Tensor ds = g[2] ? g[2] : Tensor::zeros(score.shape(), score.dtype(), score.device());
  return {grad_op.one({dw, ds, score, s.out(1)}, s.attr()), {}, {}};
}

SampleIn logits(const Shape& s) { return {s, -2, 2, S::distinct}; }

const Op<TopkGateAttr> op{{
    .name = "topk_gate",
    .doc = "Scores of the experts, and the K experts and weights of every token",
    .equation = "score = softmax(logits), expert = top-K of score + bias, weight = score[expert]",
    .shape = gate_shape,
    .cost = gate_cost,
    .bytes = gate_bytes,
    .kernels = {simd_kernel<simd::Avx512>(gate_simd<simd::Avx512>, nullptr, gate_executes),
                simd_kernel<simd::Avx2>(gate_simd<simd::Avx2>, nullptr, gate_executes),
                simd_kernel<simd::Portable>(gate_simd<simd::Portable>, nullptr, gate_executes),
                {"ref", gate_ref}},
    .saves_out = {1, 2},
    .backward = gate_backward,
    .samples =
        {{{logits({3, 5})}, {2}},
         {{logits({1, 1})}, {1, "sigmoid"}},
         {{logits({4, 37}), {{37}, -0.2, 0.2, S::distinct}}, {6, "sigmoid", true, 2.5}},
         {{logits({5, 12}), {{12}, -0.2, 0.2, S::distinct}}, {3, "sigmoid", true, 2.5, 4, 2}},
         {{logits({5, 12})}, {3, "softmax", false, 16, 4, 2, 1}},
         {{logits({3, 6}), {{1}, 0, 1, S::absent}, experts_sample({3, 2}, {5, 0, 2, 2, 1, 3})},
          {2, "softmax", true}}},
}};

}  // namespace

Tensors topk_gate(const Tensor& logits, const Tensor& bias, const Tensor& expert,
                  const TopkGateAttr& attr) {
  return op({logits, bias, expert}, attr);
}

}  // namespace wattle
