// cross_entropy: logits x [N,C,...], target t [N,...] of class numbers. Per element, along C:
//   m = max x, l = log sum e^(x - m), nll = l - (x_t - m), u = l - (sum (x - m)) / C
//   loss = (1 - e) nll + e u     (e = label_smoothing), 0 where t = ignore_index
// mean divides by the number of targets that are not ignored. The second result keeps the
// probabilities p, so that backward needs no exponential:
//   dx = (p - q) gy, q = (1 - e) [c = t] + e / C
#include "ops/softmax_kernels.h"

namespace wattle {
namespace {

struct LossAttr {
  std::string reduction = "mean";
  int64_t ignore_index = -100;
  double label_smoothing = 0;
  template <class V>
  void visit(V&& v) {
    v("reduction", reduction), v("ignore_index", ignore_index);
    v("label_smoothing", label_smoothing);
  }
};

along::Dims dims(const Shape& x) { return along::dims_of(x, x.rank() == 1 ? 0 : 1); }

Shape target_shape(const char* op, Ins in, int logits, int target) {
  const Shape& x = in[static_cast<size_t>(logits)].shape();
  if (x.rank() == 0) throw shape_error(str(op, ": logits ", x, ", expected [C] or [N, C, ...]"));
  Shape want = x;
  want.erase(x.rank() == 1 ? 0 : 1);
  const Shape& t = in[static_cast<size_t>(target)].shape();
  if (t != want)
    throw shape_error(str(op, ": logits ", x, " and target ", t, ", expected target ", want));
  return want;
}

void check_attr(const char* op, const Shape& x, const LossAttr& a) {
  if (a.reduction != "mean" && a.reduction != "sum" && a.reduction != "none")
    throw value_error(str(op, ": reduction is '", a.reduction, "', expected none, mean or sum"));
  if (!(a.label_smoothing >= 0 && a.label_smoothing <= 1))
    throw value_error(
        str(op, ": label_smoothing is ", a.label_smoothing, ", expected a number in [0, 1]"));
  if (dims(x).d == 0) throw shape_error(str(op, ": logits ", x, " have no classes"));
}

// Number of targets that count; throws for one that is no class.
int64_t check_targets(const char* op, const Tensor& target, int64_t classes, const LossAttr& a) {
  int64_t counted = 0;
  for (int64_t i = 0; i < target.numel(); ++i) {
    const int64_t t = rules::index_at(target, i);
    if (t == a.ignore_index) continue;
    if (t < 0 || t >= classes)
      throw value_error(str(op, ": target ", t, " at position ", i, ", expected a class in [0, ",
                            classes - 1, "] as the logits have ", classes, " classes"));
    ++counted;
  }
  return counted;
}

// Position of column c of class 0.
int64_t base_of(const along::Dims& s, int64_t c) {
  return c / s.inner * s.d * s.inner + c % s.inner;
}

// ---- forward ----

// Loss of one column. Ignored ones are computed all the same (as class 0), so that the cost does
// not depend on the data.
template <class T>
T column_ref(const T* x, T* p, const along::Dims& s, int64_t target, const LossAttr& a) {
  T m = x[0], total{}, shifted{};
  for (int64_t i = 1; i < s.d; ++i) m = x[i * s.inner] > m ? x[i * s.inner] : m;
  for (int64_t i = 0; i < s.d; ++i) {
    p[i * s.inner] = num::exp(x[i * s.inner] - m);
    total += p[i * s.inner];
  }
  for (int64_t i = 0; i < s.d; ++i) p[i * s.inner] /= total;
  const T l = num::log(total), nll = l - (x[target * s.inner] - m);
  if (a.label_smoothing == 0) return nll;
  for (int64_t i = 0; i < s.d; ++i) shifted += x[i * s.inner] - m;
  const T u = l - shifted / T(static_cast<double>(s.d));
  return T(1 - a.label_smoothing) * nll + T(a.label_smoothing) * u;
}

void loss_ref(Ins in, Outs out, const LossAttr& a) {
  const along::Dims s = dims(in[0].shape());
  const int64_t counted = check_targets("cross_entropy", in[1], s.d, a);
  dispatch_floating("cross_entropy", in[0].dtype(), [&]<class T>() {
    T total{};
    for (int64_t c = 0; c < in[1].numel(); ++c) {
      const int64_t t = rules::index_at(in[1], c), base = base_of(s, c);
      const bool ignored = t == a.ignore_index;
      const T one =
          column_ref(in[0].data<T>() + base, out[1].data<T>() + base, s, ignored ? 0 : t, a);
      const T loss = ignored ? T(0) : one;
      if (a.reduction == "none") out[0].data<T>()[c] = loss;
      else total += loss;
    }
    if (a.reduction == "sum") *out[0].data<T>() = total;
    if (a.reduction == "mean") *out[0].data<T>() = total / T(static_cast<double>(counted));
  });
}

// Probabilities, and per column m, l and (when smoothing) sum (x - m).
struct LossBody {
  float *max, *log_sum, *shifted;
  template <class W>
  WATTLE_FORCE_INLINE void operator()(const W& w) const {
    constexpr int N = W::lanes;
    const simd::f32<N> m = along::max_pass<N>(w), s = along::exp_pass<N>(w, m);
    for (int64_t v = 0; v < w.count; ++v) w.store(v, w.load_out(v) / s);
    w.stat(max, m);
    w.stat(log_sum, simd::log<N>(s));
    if (!shifted) return;
    simd::f32<N> t{};
    for (int64_t v = 0; v < w.count; ++v) t += w.load(0, v, m) - m;
    w.stat(shifted, w.sum(t));
  }
};

template <class Isa>
void loss_simd(Ins in, Outs out, const LossAttr& a) {
  const along::Dims s = dims(in[0].shape());
  const int64_t counted = check_targets("cross_entropy", in[1], s.d, a), n = in[1].numel();
  const float* x = in[0].data<float>();
  const bool smooth = a.label_smoothing != 0, each = a.reduction == "none";
  const Tensor stats = Tensor::empty({smooth ? 3 : 2, n});
  float *m = stats.data<float>(), *l = m + n, *shifted = smooth ? l + n : nullptr;
  along::run<Isa, 1>({s, {x}, out[1].data<float>()}, LossBody{m, l, shifted});
  const auto e = static_cast<float>(a.label_smoothing);
  double total = 0;
  for (int64_t c = 0; c < n; ++c) {
    const int64_t t = rules::index_at(in[1], c);
    float loss = 0;
    if (t != a.ignore_index) {
      loss = l[c] - (x[base_of(s, c) + t * s.inner] - m[c]);
      if (smooth) loss = (1 - e) * loss + e * (l[c] - shifted[c] / static_cast<float>(s.d));
    }
    if (each) out[0].data<float>()[c] = loss;
    else total += loss;
  }
  if (!each)
    *out[0].data<float>() =
        static_cast<float>(a.reduction == "mean" ? total / static_cast<double>(counted) : total);
}

// The statistics of the columns pass through memory once.
Cost loss_executes(Ins in, const Cost& declared, const LossAttr& a) {
  Cost c = declared;
  const int64_t bytes = in[1].numel() * (a.label_smoothing != 0 ? 3 : 2) * 4;
  c.read += bytes;
  c.written += bytes;
  return c;
}

Cost loss_cost(Ins in, std::span<const Meta>, const LossAttr& a) {
  const int64_t n = in[0].numel(), r = in[1].numel();
  Cost c{.add = 2 * n + 2 * r, .cmp = n - r, .special = 2 * n + r};
  if (a.label_smoothing != 0) c += Cost{.add = 2 * n + 2 * r, .mul = 2 * r, .special = r};
  if (a.reduction != "none") c.add += r;
  if (a.reduction == "mean") c.special += 1;
  return c;
}

// ---- cross_entropy_grad: gy, p, target ----

void grad_ref(Ins in, Outs out, const LossAttr& a) {
  const along::Dims s = dims(in[1].shape());
  const int64_t counted = check_targets("cross_entropy_grad", in[2], s.d, a);
  const double spread = a.label_smoothing / static_cast<double>(s.d);
  dispatch_floating("cross_entropy_grad", in[1].dtype(), [&]<class T>() {
    const T* gy = in[0].data<T>();
    T share{};
    if (a.reduction == "mean") share = gy[0] / T(static_cast<double>(counted));
    if (a.reduction == "sum") share = gy[0];
    for (int64_t c = 0; c < in[2].numel(); ++c) {
      const int64_t t = rules::index_at(in[2], c), base = base_of(s, c);
      const T w = a.reduction == "none" ? gy[c] : share;
      for (int64_t i = 0; i < s.d; ++i) {
        const double q = spread + (i == t ? 1 - a.label_smoothing : 0);
        const T g = (in[1].data<T>()[base + i * s.inner] - T(q)) * w;
        out[0].data<T>()[base + i * s.inner] = t == a.ignore_index ? T(0) : g;
      }
    }
  });
}

// gx = (p - q) w over n neighbouring elements; w_step is 0 where they share one weight.
template <int N>
WATTLE_FORCE_INLINE void grad_run(const float* p, const float* w, int64_t w_step, float q,
                                  float* gx, int64_t n) {
  int64_t i = 0;
  for (; i + N <= n; i += N) {
    const simd::f32<N> weight = w_step ? simd::load<N>(w + i) : simd::set1<N>(*w);
    simd::store<N>(gx + i, (simd::load<N>(p + i) - q) * weight);
  }
  if constexpr (N > 1)
    if (i < n) grad_run<N / 2>(p + i, w + i * w_step, w_step, q, gx + i, n - i);
}

// What only the target's class gets, and zeros where the target is ignored.
void grad_targets(Ins in, Outs out, const float* w, int64_t c, const LossAttr& a) {
  const along::Dims s = dims(in[1].shape());
  const int64_t t = rules::index_at(in[2], c), base = base_of(s, c);
  float* gx = out[0].data<float>();
  if (t == a.ignore_index) {
    for (int64_t i = 0; i < s.d; ++i) gx[base + i * s.inner] = 0;
    return;
  }
  const double q = a.label_smoothing / static_cast<double>(s.d) + 1 - a.label_smoothing;
  const int64_t at = base + t * s.inner;
  gx[at] = (in[1].data<float>()[at] - static_cast<float>(q)) * w[c];
}

template <class Isa>
void grad_simd(Ins in, Outs out, const LossAttr& a) {
  const along::Dims s = dims(in[1].shape());
  const int64_t counted = check_targets("cross_entropy_grad", in[2], s.d, a), n = in[2].numel();
  const bool each = a.reduction == "none";
  const float *gy = in[0].data<float>(), *p = in[1].data<float>();
  float share = each ? 0 : gy[0];
  if (a.reduction == "mean") share /= static_cast<float>(counted);
  const Tensor weights = each ? in[0] : Tensor::full({n}, share);
  const float* w = weights.data<float>();
  float* gx = out[0].data<float>();
  const auto q = static_cast<float>(a.label_smoothing / static_cast<double>(s.d));
  const int64_t block = s.d * s.inner;  // elements of one outer index
  if (block == 0) return;
  const int64_t at_once = block < (1 << 14) ? (1 << 14) / block : 1;
  parallel_for(s.outer, at_once, [&](int64_t first, int64_t last) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t o = first; o < last; ++o)
        if (s.inner == 1) grad_run<N>(p + o * block, w + o, 0, q, gx + o * block, s.d);
        else
          for (int64_t i = 0; i < s.d; ++i) {
            const int64_t at = o * block + i * s.inner;
            grad_run<N>(p + at, w + o * s.inner, 1, q, gx + at, s.inner);
          }
    });
    for (int64_t c = first * s.inner; c < last * s.inner; ++c) grad_targets(in, out, w, c, a);
  });
}

const Op<LossAttr> grad_op{{
    .name = "cross_entropy_grad",
    .doc = "Gradient of cross_entropy",
    .equation = "gx = (p - q) gy, divided by the number of targets (mean)",
    .shape =
        [](Ins in, const LossAttr& a) {
          rules::arity("cross_entropy_grad", in, 3, 3);
          rules::floating("cross_entropy_grad", in, 0);
          rules::same_dtype("cross_entropy_grad", in.first(2));
          rules::index_dtype("cross_entropy_grad", in, 2);
          const Shape t = target_shape("cross_entropy_grad", in, 1, 2);
          check_attr("cross_entropy_grad", in[1].shape(), a);
          if (const Shape want = a.reduction == "none" ? t : Shape{}; in[0].shape() != want)
            throw shape_error(
                str("cross_entropy_grad: gradient ", in[0].shape(), ", expected ", want));
          return Metas{in[1].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const LossAttr& a) {
          const int64_t n = in[1].numel();
          return Cost{.add = n, .mul = n, .special = a.reduction == "mean" ? 1 : 0};
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref", grad_ref}},
    .samples = {{{{{}}, {{3, 5}}, {{3}, 0, 5, SampleIn::integers}}},
                {{{{}}, {{1, 2}}, {{1}, 0, 2, SampleIn::integers}}, {"sum", 1}},
                {{{{3, 2}}, {{3, 7, 2}}, {{3, 2}, 0, 7, SampleIn::integers}}, {"none", 3, 0.2}},
                {{{{}}, {{4, 37}}, {{4}, 0, 37, SampleIn::integers}}, {"mean", -100, 0.1}}},
}};

const Op<LossAttr> op{{
    .name = "cross_entropy",
    .doc = "Cross entropy of logits and class numbers",
    .equation = "loss = -log softmax(x)_t",
    .shape =
        [](Ins in, const LossAttr& a) {
          rules::arity("cross_entropy", in, 2, 2);
          rules::floating("cross_entropy", in, 0);
          rules::index_dtype("cross_entropy", in, 1);
          const Shape t = target_shape("cross_entropy", in, 0, 1);
          check_attr("cross_entropy", in[0].shape(), a);
          return Metas{{a.reduction == "none" ? t : Shape{}, in[0].dtype()}, in[0].meta()};
        },
    .cost = loss_cost,
    .kernels = {simd_kernel<simd::Avx512>(loss_simd<simd::Avx512>, nullptr, loss_executes),
                simd_kernel<simd::Avx2>(loss_simd<simd::Avx2>, nullptr, loss_executes),
                simd_kernel<simd::Portable>(loss_simd<simd::Portable>, nullptr, loss_executes),
                {"ref", loss_ref}},
    .saves_in = {1},
    .saves_out = {1},
    .aux_outs = {1},
    .backward =
        [](const Saved<LossAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.out(1), s.in(1)}, s.attr()), {}};
        },
    .samples = {{{{{3, 5}, -2, 2}, {{3}, 0, 5, SampleIn::integers}}},
                {{{{1, 2}}, {{1}, 0, 1, SampleIn::integers}}, {"sum", 1}},
                {{{{5, 4}}, {{5}, 0, 4, SampleIn::integers}}, {"mean", 2}},
                {{{{3, 7, 2}}, {{3, 2}, 0, 7, SampleIn::integers}}, {"none", 3, 0.2}},
                {{{{4, 67}, -9, 9}, {{4}, 0, 67, SampleIn::integers}}, {"mean", -100, 0.1}},
                {{{{2, 3, 37}}, {{2, 37}, 0, 3, SampleIn::integers}}, {"sum", -100, 0}},
                {{{{6}}, {{}, 0, 6, SampleIn::integers, {}, DType::i32}}}},
}};

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const std::string& reduction,
                     int64_t ignore_index, double label_smoothing) {
  return op.one({logits, target}, {reduction, ignore_index, label_smoothing});
}

}  // namespace wattle
