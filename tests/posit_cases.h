// Posit words for the arithmetic tests and sweeps, and their check through the ops.
#pragma once
#include <atomic>
#include <vector>

#include "core/parallel.h"
#include "core/rng.h"
#include "ops/ops.h"
#include "tests/posit_oracle.h"

namespace wattle::posit_cases {

using Arith = posit_oracle::Op;

struct Type {
  DType dtype;
  int n, es;
};
inline constexpr Type types[] = {{DType::posit8, 8, 2},       {DType::posit8_es1, 8, 1},
                                 {DType::posit8_es0, 8, 0},   {DType::posit16, 16, 2},
                                 {DType::posit16_es1, 16, 1}, {DType::posit32, 32, 2}};

inline uint64_t code_at(const Tensor& t, int64_t i) {
  switch (info(t.dtype()).bytes) {
    case 1: return static_cast<uint8_t*>(t.raw())[i];
    case 2: return static_cast<uint16_t*>(t.raw())[i];
    default: return static_cast<uint32_t*>(t.raw())[i];
  }
}
inline Tensor codes(DType t, const std::vector<uint64_t>& c) {
  const Tensor x = Tensor::empty({static_cast<int64_t>(c.size())}, t);
  for (size_t i = 0; i < c.size(); ++i) {
    if (info(t).bytes == 1) static_cast<uint8_t*>(x.raw())[i] = static_cast<uint8_t>(c[i]);
    if (info(t).bytes == 2) static_cast<uint16_t*>(x.raw())[i] = static_cast<uint16_t>(c[i]);
    if (info(t).bytes == 4) static_cast<uint32_t*>(x.raw())[i] = static_cast<uint32_t>(c[i]);
  }
  return x;
}

inline Tensor run(Arith op, const Tensor& a, const Tensor& b, const Tensor& c) {
  switch (op) {
    case Arith::add: return add(a, b);
    case Arith::sub: return sub(a, b);
    case Arith::mul: return mul(a, b);
    case Arith::div: return div(a, b);
    case Arith::sqrt: return sqrt(a);
    case Arith::fma: return fma(a, b, c);
  }
  return {};
}
inline constexpr Arith all_ops_of_posits[] = {Arith::add, Arith::sub,  Arith::mul,
                                              Arith::div, Arith::sqrt, Arith::fma};

inline int64_t wrong(Arith op, const Type& t, const Tensor& a, const Tensor& b, const Tensor& c,
                     const Tensor& y) {
  std::atomic<int64_t> count{0};
  parallel_for(y.numel(), 4096, [&](int64_t begin, int64_t end) {
    int64_t n = 0;
    for (int64_t i = begin; i < end; ++i)
      n += !posit_oracle::right(op, code_at(y, i), code_at(a, i), code_at(b, i), code_at(c, i), t.n,
                                t.es);
    count += n;
  });
  return count;
}

// Words of all sizes: the regime's length is drawn first, so that long ones are as frequent as
// short ones; a third of the pairs lie close together, where sums cancel.
struct Words {
  std::vector<uint64_t> a, b, c;
};
inline Words stratified(const Type& t, int64_t count, uint64_t seed) {
  Words w;
  const uint64_t mask = (uint64_t{2} << (t.n - 1)) - 1;
  const auto draw = [&](uint64_t i, uint64_t stream) {
    const auto r = philox(seed, i, stream);
    uint64_t word = r[0] & mask;
    const int run = static_cast<int>(r[1] % static_cast<unsigned>(t.n));
    const uint64_t body = (uint64_t{1} << (t.n - 1)) - 1;
    // `run` leading bits of the body become equal
    const uint64_t head = body & ~(body >> run);
    word = r[2] & 1 ? word | head : word & ~head;
    return r[3] % 257 == 0 ? r[3] >> 16 & mask & 1 : word;
  };
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) {
    const uint64_t a = draw(i, 0), b = draw(i, 1);
    w.a.push_back(a);
    w.b.push_back(i % 3 ? b : ((b & 1 ? ~a : a) + (b >> 1 & 7)) & mask);
    w.c.push_back(draw(i, 2));
  }
  return w;
}

}  // namespace wattle::posit_cases
