// wattle bench moe: a routed layer against the dense layer of equal active FLOPs, and against the
// plain ways to write it: token by token, every expert on every token, expert by expert.
#include <sstream>

#include "autograd/tape.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "moe/layer.h"
#include "ops/gemm.h"
#include "tools/paired_bench.h"

namespace wattle::cli {
namespace {

using moe::MoE;
using moe::MoEConfig;

struct Dense {
  Tensor up, down;
  Dense(int64_t d, int64_t h) : up(normal({d, h}, 0, 0.05)), down(normal({h, d}, 0, 0.05)) {}
  Tensor operator()(const Tensor& x) const { return matmul(relu(matmul(x, up)), down); }
};

// N standard experts of hidden size 4 d in m segments, of which 2 m are active.
MoEConfig config(int64_t d, int64_t m, int64_t n = 16) {
  return {.d_model = d, .d_ff = 4 * d, .experts = n, .top_k = 2, .segments = m};
}

// Gradients of the step before are dropped, as an optimiser does.
template <class Layer>
void step(const Layer& layer, Tensor x, std::vector<Tensor> weights) {
  x.zero_grad();
  for (Tensor& w : weights) w.zero_grad();
  Tape tape;
  tape.watch(x);
  for (const Tensor& w : weights) tape.watch(w);
  const Tensor y = layer(x);
  tape.backward(sum(y));
}

std::vector<Tensor> weights_of(MoE& layer) {
  std::vector<Tensor> out;
  for (const nn::Named& p : layer.named_parameters()) out.push_back(p.tensor);
  return out;
}

void against_dense(Bench& b, int64_t tokens, int64_t d, double forward, double both) {
  MoE layer(config(d, 4));
  layer.eval();
  const Dense dense(d, 8 * d);
  const Tensor x = normal({tokens, d});
  const std::string size = str(" T=", tokens, " d=", d);
  b.compare(
      "forward" + size, [&] { layer(x); }, "dense", [&] { dense(x); }, forward, true);
  const std::vector<Tensor> own = weights_of(layer);
  b.compare(
      "forward+backward" + size, [&] { step([&](const Tensor& t) { return layer(t); }, x, own); },
      "dense",
      [&] {
        step(dense, x, {dense.up, dense.down});
      },
      both, true);
}

void twice_the_experts(Bench& b) {
  MoE once(config(256, 4)), twice(config(256, 4, 32));
  once.eval(), twice.eval();
  const Tensor x = normal({4096, 256});
  b.compare(
      "128 experts, top 8, T=4096", [&] { twice(x); }, "64 experts", [&] { once(x); }, 1.15, true);
}

// ---- the plain ways, written on the same matrix product ----

template <class Isa>
class Plain {
 public:
  Plain(MoE& layer, const Tensor& x) : layer_(layer), x_(x) {
    const NoRecord off;
    layer(x);
    expert_ = layer.experts_of_tokens();
    const MoEConfig& c = layer.config();
    d_ = c.d_model, h_ = c.d_expert(), n_ = c.routed(), k_ = c.active(), tokens_ = x.size(0);
  }
  Tensor gate() const {
    const Tensor s = softmax(linear(x_, layer_.gate), 1);
    return gather(s, 1, topk(s, k_, 1)[1]);
  }
  void token_by_token() const {
    const Tensor w = gate(), y = Tensor::zeros(x_.shape());
    std::vector<float> h(static_cast<size_t>(h_)), o(static_cast<size_t>(d_));
    for (int64_t r = 0; r < tokens_ * k_; ++r) {
      ffn(x_.data<float>() + r / k_ * d_, 1, expert_.data<int64_t>()[r], h.data(), o.data());
      add_row(y, r, w.data<float>()[r], o.data());
    }
  }
  void expert_by_expert() const {
    const Tensor w = gate(), y = Tensor::zeros(x_.shape());
    std::vector<float> in, h, o;
    std::vector<int64_t> rows;
    for (int64_t e = 0; e < n_; ++e) {
      rows.clear();
      for (int64_t r = 0; r < tokens_ * k_; ++r)
        if (expert_.data<int64_t>()[r] == e) rows.push_back(r);
      const int64_t m = static_cast<int64_t>(rows.size());
      in.resize(rows.size() * static_cast<size_t>(d_)),
          h.resize(rows.size() * static_cast<size_t>(h_));
      o.resize(in.size());
      for (int64_t i = 0; i < m; ++i)
        std::copy_n(x_.data<float>() + rows[static_cast<size_t>(i)] / k_ * d_, d_,
                    in.data() + i * d_);
      ffn(in.data(), m, e, h.data(), o.data());
      for (int64_t i = 0; i < m; ++i)
        add_row(y, rows[static_cast<size_t>(i)], w.data<float>()[rows[static_cast<size_t>(i)]],
                o.data() + i * d_);
    }
  }
  void every_expert() const {
    const Tensor w = gate(), y = Tensor::zeros(x_.shape());
    std::vector<float> h(static_cast<size_t>(tokens_ * h_)), o(static_cast<size_t>(tokens_ * d_));
    for (int64_t e = 0; e < n_; ++e) {
      ffn(x_.data<float>(), tokens_, e, h.data(), o.data());
      for (int64_t r = 0; r < tokens_ * k_; ++r)
        if (expert_.data<int64_t>()[r] == e)
          add_row(y, r, w.data<float>()[r], o.data() + r / k_ * d_);
    }
  }

 private:
  void ffn(const float* x, int64_t rows, int64_t e, float* h, float* y) const {
    gemm::sgemm<Isa>(rows, h_, d_, {x, d_, 1}, {layer_.up.data<float>() + e * d_ * h_, h_, 1}, h,
                     h_);
    for (int64_t i = 0; i < rows * h_; ++i) h[i] = h[i] > 0 ? h[i] : 0;
    gemm::sgemm<Isa>(rows, d_, h_, {h, h_, 1}, {layer_.down.data<float>() + e * d_ * h_, d_, 1}, y,
                     d_);
  }
  void add_row(const Tensor& y, int64_t row, float weight, const float* o) const {
    float* const to = y.data<float>() + row / k_ * d_;
    for (int64_t j = 0; j < d_; ++j) to[j] += weight * o[j];
  }
  MoE& layer_;
  Tensor x_, expert_;
  int64_t d_, h_, n_, k_, tokens_;
};

template <class Isa>
void against_loops(Bench& b) {
  MoE layer(config(256, 4));
  layer.eval();
  const Tensor x = normal({1024, 256});
  const Plain<Isa> plain(layer, x);
  const Work ours = [&] { layer(x); };
  b.compare(
      "forward T=1024 d=256", ours, "token by token", [&] { plain.token_by_token(); }, 5, false);
  b.compare(
      "forward T=1024 d=256", ours, "every expert", [&] { plain.every_expert(); }, 4, false);
  b.compare(
      "forward T=1024 d=256", ours, "expert by expert", [&] { plain.expert_by_expert(); }, 0.95,
      false);
}

}  // namespace

// One side of bench/moe_against_pytorch.py.
void bench_moe_worker() {
  manual_seed(1);
  serve_orders("layer T D M forward|both steps S", [](std::istringstream& words) -> Timed {
    std::string order, mode, steps;
    int64_t tokens = 0, d = 0, m = 0;
    int runs = 0;
    words >> order >> tokens >> d >> m >> mode >> steps >> runs;
    if (!words || order != "layer" || (mode != "forward" && mode != "both")) return {};
    const auto layer = std::make_shared<MoE>(config(d, m));
    layer->eval();
    const Tensor x = normal({tokens, d});
    if (mode == "forward") return {runs, [=] { (*layer)(x); }};
    const std::vector<Tensor> own = weights_of(*layer);
    return {runs, [=] { step([&](const Tensor& t) { return (*layer)(t); }, x, own); }};
  });
}

void bench_moe(int repeats, bool as_json) {
  manual_seed(1);
  Bench b(repeats);
  against_dense(b, 1024, 256, 1.25, 1.5);
  against_dense(b, 4096, 256, 1.15, 1.5);
  against_dense(b, 1024, 128, 1.6, 1.5);
  twice_the_experts(b);
#if defined(__x86_64__)
  if (simd::level() == simd::Level::avx512) against_loops<simd::Avx512>(b);
  else if (simd::level() == simd::Level::avx2) against_loops<simd::Avx2>(b);
  else
#endif
    against_loops<simd::Portable>(b);
  b.print(as_json);
}

}  // namespace wattle::cli
