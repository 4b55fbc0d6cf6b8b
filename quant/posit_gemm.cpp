#include "quant/posit_gemm.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <vector>

#include "core/codec.h"
#include "core/error.h"
#include "core/parallel.h"
#include "quant/dgemm.h"
#include "quant/lane_loops.h"
#include "quant/quire.h"

namespace wattle::quant {
namespace {

enum class Mode : uint8_t { certified, quire, per_op };

template <int N, int ES, class Code>
Code by_quire(const PositProduct<Code>& p, int64_t i, int64_t j) {
  using P = Posit<N, ES>;
  Quire<N, ES> q;
  for (int64_t k = 0; k < p.k; ++k)
    q.add_product(P::of(p.a[i * p.a_row + k * p.a_col]), P::of(p.b[k * p.b_row + j * p.b_col]));
  if (p.bias) q.add(P::of(p.bias[j]));
  return static_cast<Code>(q.to_posit().bits);
}

template <int N, int ES, class Code>
Code by_steps(const PositProduct<Code>& p, int64_t i, int64_t j) {
  using P = Posit<N, ES>;
  P sum = P::of(0);
  for (int64_t k = 0; k < p.k; ++k)
    sum = sum + P::of(p.a[i * p.a_row + k * p.a_col]) * P::of(p.b[k * p.b_row + j * p.b_col]);
  if (p.bias) sum = sum + P::of(p.bias[j]);
  return static_cast<Code>(sum.bits);
}

// Scratch memory that is not filled first and that the allocator keeps for the next call.
Tensor scratch(int64_t n) { return Tensor::empty({n}, DType::f64); }

// Rows [begin, end) of a matrix of codes as numbers, one after the other.
template <class Code>
void decode_rows(const Codec& codec, const Code* codes, int64_t begin, int64_t end, int64_t columns,
                 int64_t row, int64_t col, double* to) {
  std::vector<Code> side(static_cast<size_t>(col == 1 ? 0 : columns));
  std::vector<float> narrow(static_cast<size_t>(codec.wide ? 0 : columns));
  for (int64_t i = begin; i < end; ++i, to += columns) {
    const Code* from = codes + i * row;
    if (col != 1) {
      for (int64_t j = 0; j < columns; ++j) side[static_cast<size_t>(j)] = from[j * col];
      from = side.data();
    }
    if (codec.wide) {
      codec.decode_wide(from, to, columns);
      continue;
    }
    codec.decode(from, narrow.data(), columns);
    for (int64_t j = 0; j < columns; ++j) to[j] = double{narrow[static_cast<size_t>(j)]};
  }
}

constexpr double above = 1 + 0x1p-40;  // more than rounding can have taken from a norm

double norm(const double* x, int64_t n) {
  double s = 0;
  at_best_level([&]<int L>() WATTLE_INLINE_BODY {
    simd::f64<L> sums{};
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      simd::f64<L> v;
      std::memcpy(&v, x + i, sizeof v);
      sums += v * v;
    }
    for (; i < n; ++i) s += x[i] * x[i];
    for (int l = 0; l < L; ++l) s += sums[l];
  });
  return std::sqrt(s) * above;
}

// f64 to f32 rounded to odd: cut off after 24 bits, the last one set where something was lost. A
// posit of up to 22 bits then comes out as if rounded from the f64. Numbers far below minpos stay
// above 0, those far above maxpos below infinity.
WATTLE_FORCE_INLINE float to_odd_f32(double x) {
  constexpr uint64_t lost = (uint64_t{1} << 29) - 1, nan = uint64_t{0x7FF} << 52;
  constexpr uint64_t least = uint64_t{1023 - 110} << 52, most = uint64_t{1023 + 100} << 52;
  const auto u = std::bit_cast<uint64_t>(x);
  const uint64_t m = u & ~(uint64_t{1} << 63);
  uint64_t c = m < least ? least : m;
  c = c > most ? most : c;
  c = m == 0 || m >= nan ? m : c;
  const uint64_t odd = (c & ~lost) | (((c & lost) + lost) & (lost + 1));
  return static_cast<float>(std::bit_cast<double>(odd | (u ^ m)));
}

// One row: sums become codes where both ends of what they can be round to one; returns where not.
struct Row {
  std::vector<float> low, high;
  std::vector<double> low64, high64;  // of wide types
};
template <class Code>
void prove(const Codec& codec, const double* sums, const double* bias, const double* b_norm,
           double unit, double bias_unit, Row& row, Code* codes, std::vector<char>& open) {
  const auto n = static_cast<int64_t>(open.size());
  const auto ends = [&](auto* low, auto* high, auto&& convert) WATTLE_INLINE_BODY {
    for (int64_t j = 0; j < n; ++j) {
      const double s = sums[j] + bias[j];
      const double e = unit * b_norm[j] + bias_unit * std::fabs(bias[j]);
      low[j] = convert(s - e);
      high[j] = convert(s + e);
    }
  };
  if (codec.wide) {
    row.low64.resize(open.size());
    row.high64.resize(open.size());
    std::vector<Code> other(open.size());
    ends(row.low64.data(), row.high64.data(), [](double v) { return v; });
    codec.encode_wide(row.low64.data(), codes, n, {});
    codec.encode_wide(row.high64.data(), other.data(), n, {});
    for (size_t j = 0; j < open.size(); ++j) open[j] = codes[j] != other[j];
    return;
  }
  row.low.resize(open.size());
  row.high.resize(open.size());
  at_full_level([&]<int L>() WATTLE_INLINE_BODY {
    ends(row.low.data(), row.high.data(),
         [](double v) WATTLE_INLINE_BODY { return to_odd_f32(v); });
  });
  codec.encode(row.low.data(), codes, n, {});
  for (size_t j = 0; j < open.size(); ++j) {
    open[j] = 0;
    // Nearly always the ends are one float already, as far as f32 tells them apart.
    if (std::bit_cast<uint32_t>(row.low[j]) == std::bit_cast<uint32_t>(row.high[j])) continue;
    Code other = 0;
    codec.encode(&row.high[j], &other, 1, {});
    open[j] = other != codes[j];
  }
}

// B in panels of numbers, and the norms of its columns.
struct PanelsOfB {
  PanelsOfB(int64_t k, int64_t n)
      : width(dgemm_panel()),
        count((n + width - 1) / width),
        x(scratch(count * width * k)),
        norms(Tensor::zeros({count * width}, DType::f64)) {}
  int64_t width, count;
  Tensor x, norms;
};

// Panels [begin, end) of B: a row at a time, or a column where those lie together.
template <class Code>
void pack(const Codec& codec, const PositProduct<Code>& p, int64_t begin, int64_t end,
          const PanelsOfB& b) {
  const int64_t w = b.width, first = begin * w, columns = std::min(end * w, p.n) - first;
  double* const x = b.x.data<double>() + first * p.k;
  double* const norms = b.norms.data<double>() + first;
  const bool by_column = p.b_row == 1 && p.b_col != 1;
  std::vector<double> buffer(static_cast<size_t>(by_column ? p.k : (end - begin) * w));
  double* const line = buffer.data();
  for (int64_t i = 0; by_column && i < (end - begin) * w; ++i) {
    if (i < columns) decode_rows(codec, p.b, first + i, first + i + 1, p.k, p.b_col, 1, line);
    else std::fill_n(line, p.k, 0.0);
    double* const to = x + i / w * w * p.k + i % w;
    for (int64_t k = 0; k < p.k; ++k) to[k * w] = line[k];
    norms[i] = norm(line, p.k);
  }
  if (by_column) return;
  for (int64_t k = 0; k < p.k; ++k) {
    decode_rows(codec, p.b + first * p.b_col, k, k + 1, columns, p.b_row, p.b_col, line);
    at_full_level([&]<int L>() WATTLE_INLINE_BODY {
      for (int64_t j = 0; j < columns; ++j) norms[j] += line[j] * line[j];
    });
    for (int64_t i = 0; i < end - begin; ++i)
      std::memcpy(x + (i * p.k + k) * w, line + i * w, static_cast<size_t>(w) * sizeof(double));
  }
  for (int64_t j = 0; j < columns; ++j) norms[j] = std::sqrt(norms[j]) * above;
}

// Rows of results against a B in panels; returns how many sums went to the quire.
template <int N, int ES, class Code>
int64_t certify_rows(const Codec& codec, const PositProduct<Code>& p, const PanelsOfB& b,
                     const double* bias, int64_t begin, int64_t end) {
  const double roundings = 1.2e-16 * static_cast<double>(p.k + 2);
  const Tensor sums = scratch((end - begin) * p.n), a = scratch((end - begin) * p.k);
  decode_rows(codec, p.a, begin, end, p.k, p.a_row, p.a_col, a.data<double>());
  const auto n = static_cast<size_t>(p.n);
  std::vector<Code> codes(n);
  std::vector<char> open(n);
  Row row;
  int64_t fallbacks = 0;
  dgemm(end - begin, p.n, p.k, a.data<double>(), b.x.data<double>(), sums.data<double>());
  for (int64_t i = begin; i < end; ++i) {
    const double unit = roundings * norm(a.data<double>() + (i - begin) * p.k, p.k);
    prove(codec, sums.data<double>() + (i - begin) * p.n, bias, b.norms.data<double>(), unit,
          roundings, row, codes.data(), open);
    for (int64_t j = 0; j < p.n; ++j) {
      Code code = codes[static_cast<size_t>(j)];
      if (open[static_cast<size_t>(j)]) {
        code = by_quire<N, ES>(p, i, j);
        ++fallbacks;
      }
      p.c[i * p.c_row + j * p.c_col] = code;
    }
  }
  return fallbacks;
}

// Few threads make their own panels: fetching another core's takes longer.
int64_t decodings_of_b(int64_t m, int64_t n, int64_t k) {
  const int threads = num_threads();
  return threads <= 4 && m >= 64 * threads && k * n <= int64_t{1} << 18 ? threads : 1;
}

template <int N, int ES, class Code>
int64_t certified(const PositProduct<Code>& p, DType t) {
  const Codec& codec = wattle::codec(t);
  const Tensor bias = Tensor::zeros({p.n}, DType::f64);
  if (p.bias) decode_rows(codec, p.bias, 0, 1, p.n, 0, 1, bias.data<double>());
  std::atomic<int64_t> fallbacks{0};
  const auto rows = [&](const PanelsOfB& b, int64_t begin, int64_t end) {
    fallbacks += certify_rows<N, ES>(codec, p, b, bias.data<double>(), begin, end);
  };
  // Whole tiles of rows; a few pieces per thread.
  const int64_t piece = std::max<int64_t>(24, p.m / 8 / 24 * 24);
  if (const int64_t teams = decodings_of_b(p.m, p.n, p.k); teams > 1) {
    std::atomic<int64_t> next{0};
    parallel_chunks(teams, [&](int64_t) {
      const PanelsOfB own(p.k, p.n);
      pack(codec, p, 0, own.count, own);
      for (int64_t i; (i = next.fetch_add(piece)) < p.m;) rows(own, i, std::min(p.m, i + piece));
    });
    return fallbacks;
  }
  const PanelsOfB shared(p.k, p.n);
  const int64_t group = std::max<int64_t>(1, 16384 / (shared.width * (p.k + 1)));
  parallel_for(shared.count, group,
               [&](int64_t begin, int64_t end) { pack(codec, p, begin, end, shared); });
  parallel_for(p.m, piece, [&](int64_t begin, int64_t end) { rows(shared, begin, end); });
  return fallbacks;
}

template <int N, int ES, class Code>
int64_t run_typed(const PositProduct<Code>& p, Mode mode, DType t) {
  if (mode == Mode::certified) return certified<N, ES>(p, t);
  parallel_for(p.m, std::max<int64_t>(1, 4096 / (p.n * p.k + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < p.n; ++j)
        p.c[i * p.c_row + j * p.c_col] =
            mode == Mode::quire ? by_quire<N, ES>(p, i, j) : by_steps<N, ES>(p, i, j);
  });
  return 0;
}

template <int N, int ES, class Code>
int64_t run_as(const PositGemm& j, Mode mode, DType t) {
  return run_typed<N, ES, Code>(
      {j.m, j.n, j.k, static_cast<const Code*>(j.a), j.a_row, j.a_col,
       static_cast<const Code*>(j.b), j.b_row, j.b_col, static_cast<const Code*>(j.bias),
       static_cast<Code*>(j.c), j.c_row, j.c_col},
      mode, t);
}

}  // namespace

Cost posit_gemm_executes(int64_t m, int64_t n, int64_t k, const std::string& accumulate, DType t) {
  const int64_t words = info(t).bytes * 2, products = m * n * k;
  Cost cost;
  if (accumulate != "certified") {
    cost.iop = products * (accumulate == "quire" ? 60 + 4 * words : 160);
    return cost;
  }
  const Codec& c = codec(t);
  const int64_t decoded = m * k + decodings_of_b(m, n, k) * k * n;
  cost.mac = products + decoded + m * n;  // the sum; squares of the norms; e
  cost.add = 3 * m * n;                   // + bias, - e, + e
  cost.iop = decoded * c.decode_iops + 2 * m * n * c.encode_iops;
  return cost;
}

int64_t posit_gemm(const PositGemm& j, const std::string& accumulate, DType t) {
  const Mode mode = accumulate == "certified" ? Mode::certified
                    : accumulate == "quire"   ? Mode::quire
                                              : Mode::per_op;
  if (mode != Mode::per_op && j.k >= int64_t{1} << 31)
    throw value_error(str("posit product, accumulate=", accumulate, ": sums of ", j.k,
                          " products found, a quire is exact for fewer than 2^31"));
  switch (t) {
    case DType::posit8: return run_as<8, 2, uint8_t>(j, mode, t);
    case DType::posit8_es1: return run_as<8, 1, uint8_t>(j, mode, t);
    case DType::posit8_es0: return run_as<8, 0, uint8_t>(j, mode, t);
    case DType::posit16: return run_as<16, 2, uint16_t>(j, mode, t);
    case DType::posit16_es1: return run_as<16, 1, uint16_t>(j, mode, t);
    default: return run_as<32, 2, uint32_t>(j, mode, t);
  }
}

}  // namespace wattle::quant
