// wattle bench cuda: training steps, products and convolutions on a GPU. As a worker it takes
// orders on standard input, so that bench/cuda_against_pytorch.py can run a peer in turn with it
// and read the energy counter around both.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/cuda.h"
#include "core/rng.h"
#include "green/captured_step.h"
#include "green/trainer.h"
#include "moe/ops.h"
#include "snn/ops.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

// A net, its optimiser and a batch on the device; a captured step when it is asked for.
struct StepBench {
  std::shared_ptr<nn::Sequential> net;
  std::unique_ptr<nn::Optimizer> optimizer;
  Tensor images, labels;
  std::unique_ptr<green::CapturedStep> captured;

  StepBench(const green::NetSpec& spec, const green::ImageSpec& image, int64_t batch) {
    const Device d = cuda::device();
    manual_seed(0);
    net = green::make_net(spec, image);
    net->to(d);
    optimizer = nn::make_optimizer("adam", net->named_parameters(), 1e-3);
    Tensor x = Tensor::empty({batch, image.channels, image.height, image.height}, DType::u8);
    for (int64_t i = 0; i < x.numel(); ++i)
      x.data<uint8_t>()[i] = static_cast<uint8_t>(below_at(1, static_cast<uint64_t>(i), 256));
    Tensor y = Tensor::empty({batch}, DType::i64);
    for (int64_t i = 0; i < batch; ++i)
      y.data<int64_t>()[i] = static_cast<int64_t>(below_at(2, static_cast<uint64_t>(i), 10));
    images = x.to(d);
    labels = y.to(d);
  }
  void eager() { green::train_step(*net, *optimizer, images, labels); }
  void graphed(bool count = true) {
    if (!captured) {
      eager();
      captured = std::make_unique<green::CapturedStep>(
          cuda::device(), *optimizer, images, labels, [this](const Tensor& a, const Tensor& b) {
            return green::train_step(*net, *optimizer, a, b);
          });
      captured->run(images, labels);
    }
    captured->run_again(count);
  }
};

// Runs fn for about `seconds`, waiting every `chunk` calls; prints calls and seconds.
template <class F>
void run_for(double seconds, F&& fn) {
  for (int i = 0; i < 5; ++i) fn();
  cuda::synchronize();
  int64_t calls = 0;
  const auto start = Clock::now();
  do {
    for (int i = 0; i < 50; ++i) fn();
    calls += 50;
    cuda::synchronize();
  } while (seconds_since(start) < seconds);
  std::printf("calls %lld seconds %.6f\n", static_cast<long long>(calls), seconds_since(start));
}

Tensor random(const Shape& s) {
  const DefaultDevice here(cuda::device());
  return normal(s);
}

struct Worker {
  std::map<std::string, std::unique_ptr<StepBench>> steps;

  // "step fashion-mnist cnn 3 1 1 batch 128 eager seconds 1"
  void step(std::istringstream& w) {
    std::string dataset, net, word, mode;
    int linear = 0, conv = 0, relu = 0;
    int64_t batch = 0;
    double seconds = 0;
    w >> dataset >> net >> linear >> conv >> relu >> word >> batch >> mode >> word >> seconds;
    if (!w) throw value_error("step: malformed order");
    auto& s = steps[str(dataset, net, linear, conv, relu, " ", batch)];
    if (!s)
      s = std::make_unique<StepBench>(green::NetSpec{net, linear, conv, relu != 0},
                                      green::image_spec(dataset), batch);
    if (mode == "graph") run_for(seconds, [&] { s->graphed(); });
    else if (mode == "uncounted") run_for(seconds, [&] { s->graphed(false); });
    else run_for(seconds, [&] { s->eager(); });
  }
  // "profile <as step>": every op of a step, timed one by one
  void profile(const std::string& rest) {
    std::istringstream w(rest);
    std::string dataset, net, word;
    int linear = 0, conv = 0, relu = 0;
    int64_t batch = 0;
    w >> dataset >> net >> linear >> conv >> relu >> word >> batch;
    if (!w) throw value_error("profile: malformed order");
    StepBench s(green::NetSpec{net, linear, conv, relu != 0}, green::image_spec(dataset), batch);
    for (int i = 0; i < 3; ++i) s.eager();
    s.graphed();
    cuda::set_timing(true);
    counters().clear();
    for (int i = 0; i < 20; ++i) s.eager();
    cuda::set_timing(false);
    std::vector<Row> rows = counters().rows();
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.ns > b.ns; });
    std::printf("%d launches in a captured step\n", s.captured->nodes());
    for (const Row& r : rows)
      std::printf("%9.2f us x%lld  %s %s %s %s\n", r.ns / 1e3 / double(r.calls),
                  static_cast<long long>(r.calls / 20), counters().path(r.key.scope).c_str(),
                  std::string(name(r.key.phase)).c_str(), r.key.op->name, r.key.kernel);
    counters().clear();
  }
  // "gemm M N K seconds S"; in mode bf16 the operands and the result are bf16 tensors
  void gemm(std::istringstream& w) {
    int64_t m = 0, n = 0, k = 0;
    std::string word;
    double seconds = 0;
    w >> m >> n >> k >> word >> seconds;
    Tensor a = random({m, k}), b = random({k, n});
    if (cuda::math() == cuda::Math::bf16) a = cast(a, DType::bf16), b = cast(b, DType::bf16);
    run_for(seconds, [&] { matmul(a, b); });
  }
  // "conv PASS N C H K R stride padding seconds S"; PASS is forward, input or weight
  void conv(std::istringstream& w) {
    std::string pass, word;
    int64_t n = 0, c = 0, h = 0, k = 0, r = 0, stride = 1, padding = 0;
    double seconds = 0;
    w >> pass >> n >> c >> h >> k >> r >> stride >> padding >> word >> seconds;
    const Tensor x = random({n, c, h, h}), weight = random({k, c, r, r});
    const Tensor y = conv2d(x, weight, {}, stride, padding);
    if (pass == "forward") return run_for(seconds, [&] { conv2d(x, weight, {}, stride, padding); });
    const OpBase& op = find_op(pass == "input" ? "conv2d_grad_input" : "conv2d_grad_weight");
    const std::shared_ptr<void> attr = op.make_attr();
    op.set_attr(attr.get(), "stride", std::to_string(stride));
    op.set_attr(attr.get(), "padding", std::to_string(padding));
    op.set_attr(attr.get(), "size", std::to_string(pass == "input" ? h : r));
    const Tensor gy = random(y.shape());
    const Tensors in{gy, pass == "input" ? weight : x};
    run_for(seconds, [&] { apply(op, in, attr.get()); });
  }
  // "copy N seconds S": N numbers of 4 bytes, read and written
  void copy(std::istringstream& w) {
    int64_t n = 0;
    std::string word;
    double seconds = 0;
    w >> n >> word >> seconds;
    const Tensor x = random({n});
    run_for(seconds, [&] { scale(x, 1.0); });
  }
  // "lif T N seconds S" forward, "lifgrad T N seconds S" forward and backward
  void lif(const std::string& what, std::istringstream& w) {
    int64_t t = 0, n = 0;
    std::string word;
    double seconds = 0;
    w >> t >> n >> word >> seconds;
    Tensor x = random({t, n});
    NeuronAttr a;
    if (what == "lif") return run_for(seconds, [&] { neuron(x, {}, {}, a); });
    x.set_requires_grad();
    run_for(seconds, [&] {
      x.zero_grad();
      Tape tape;
      tape.backward(sum(neuron(x, {}, {}, a)[0]));
    });
  }
  // "moe T D H E K seconds S": the two products of an expert layer, forward
  void moe(std::istringstream& w) {
    int64_t t = 0, d = 0, h = 0, e = 0, k = 0;
    std::string word;
    double seconds = 0;
    w >> t >> d >> h >> e >> k >> word >> seconds;
    const Tensor x = random({t, d}), w1 = random({e, d, h}), w2 = random({e, h, d});
    const Tensors g = topk_gate(random({t, e}), {}, {}, {.k = k});
    const Tensors s = counting_sort(g[1], {.experts = e});
    run_for(seconds, [&] {
      const Tensor hidden = grouped_gemm_relu(x, w1, s[2], s[0], s[1]);
      combine(grouped_gemm(hidden, w2, s[2]), g[0], s[1], s[0]);
    });
  }
  // "math tf32", "deterministic 0"
  void order(const std::string& line) {
    std::istringstream w(line);
    std::string what, value;
    w >> what;
    if (what == "step") return step(w);
    if (what == "profile") return profile(line.substr(8));
    if (what == "gemm") return gemm(w);
    if (what == "conv") return conv(w);
    if (what == "copy") return copy(w);
    if (what == "lif" || what == "lifgrad") return lif(what, w);
    if (what == "moe") return moe(w);
    w >> value;
    if (what == "math") cuda::set_math(cuda::math_from_name(value));
    else if (what == "deterministic") cuda::set_deterministic(value == "1");
    else
      throw value_error(
          str("found '", line, "', expected step, profile, gemm, conv, math or deterministic"));
    std::printf("ok\n");
  }
};

}  // namespace

void bench_cuda_worker() {
  const Device d = cuda::device();
  const cuda::DeviceInfo& i = cuda::status().devices[static_cast<size_t>(d.index)];
  std::printf(
      "ready {\"name\": \"wattle\", \"version\": \"0.1.0\", \"gpu\": \"%s\", \"uuid\": \"%s\"}\n",
      i.name.c_str(), i.uuid.c_str());
  std::fflush(stdout);
  Worker w;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    try {
      w.order(line);
    } catch (const std::exception& e) { std::printf("error %s\n", e.what()); }
    std::fflush(stdout);
  }
}

// A short table by itself.
void bench_cuda(int, bool) {
  Worker w;
  cuda::device();
  for (const char* line :
       {"step fashion-mnist cnn 3 1 1 batch 128 eager seconds 1",
        "step fashion-mnist cnn 3 1 1 batch 128 graph seconds 1", "gemm 4096 4096 4096 seconds 1",
        "conv forward 128 64 32 64 3 1 1 seconds 1"}) {
    std::printf("%s: ", line);
    w.order(line);
  }
}

}  // namespace wattle::cli
