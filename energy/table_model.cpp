#include "energy/table_model.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace wattle::energy {
namespace {

constexpr int128 fj_per_uj = 1'000'000'000;
const double sqrt12 = std::sqrt(12.0);  // sd of a uniform range = width / sqrt(12)

void check_counts(const Cost& c) {
  for (const int64_t n : {c.mac, c.add, c.mul, c.cmp, c.special, c.iop, c.read, c.written}) {
    if (n < 0) throw value_error(str("joules_of: found a count of ", n, ", expected >= 0"));
  }
}

}  // namespace

const TableRow* Table::find(std::string_view dtype) const {
  for (const TableRow& r : rows) {
    if (r.dtype == dtype) return &r;
  }
  return nullptr;
}

const Table& horowitz45() {
  // dtype, add, mul, cmp, published; fJ
  static const Table t{"horowitz45",
                       "Horowitz, ISSCC 2014, 45 nm; DRAM 1.3-2.6 nJ per 64 bits",
                       {{"f64", 2051, 12681, 183, false},
                        {"f32", 900, 3700, 100, true},
                        {"f16", 400, 1100, 55, true},
                        {"bf16", 287, 670, 55, false},
                        {"fp8_e4m3", 140, 228, 30, false},
                        {"fp8_e5m2", 104, 146, 30, false},
                        {"i64", 183, 12205, 183, false},
                        {"i32", 100, 3100, 100, true},
                        {"i16", 55, 787, 55, false},
                        {"i8", 30, 200, 30, true},
                        {"u8", 30, 200, 30, true},
                        {"i4", 16, 51, 16, false},
                        {"bool", 30, 200, 30, true}},
                       1'300'000,
                       2'600'000};
  return t;
}

const Table& tpu7() {
  static const Table t{"tpu7",
                       "Jouppi et al., ISCA 2021, 7 nm; DDR4 1.3 nJ per 64 bits",
                       {{"f64", 915, 5154, 62, false},
                        {"f32", 380, 1310, 30, true},
                        {"f16", 160, 340, 14, true},
                        {"bf16", 110, 210, 14, true},
                        {"fp8_e4m3", 52, 59, 7, false},
                        {"fp8_e5m2", 38, 36, 7, false},
                        {"i64", 62, 6805, 62, false},
                        {"i32", 30, 1480, 30, true},
                        {"i16", 14, 322, 14, false},
                        {"i8", 7, 70, 7, true},
                        {"u8", 7, 70, 7, true},
                        {"i4", 3, 15, 3, false},
                        {"bool", 7, 70, 7, true}},
                       866'667,
                       1'733'333};
  return t;
}

const Table& table_from_name(std::string_view name) {
  for (const Table* t : {&horowitz45(), &tpu7()}) {
    if (t->name == name) return *t;
  }
  throw value_error(str("energy table: found '", name, "', expected horowitz45 or tpu7"));
}

Femtojoules femtojoules_of(const Cost& c, std::string_view dtype, const Table& t) {
  check_counts(c);
  const bool arithmetic = c.mac || c.add || c.mul || c.cmp || c.special || c.iop;
  const TableRow* r = t.find(dtype);
  if (arithmetic && !r) return {};
  const TableRow e = r ? *r : TableRow{};

  // int128 throughout: 2^63 operations of 2^24 fJ need 87 bits
  const int128 pair = e.add_fj + e.mul_fj;
  const int128 plain = c.mac * pair + static_cast<int128>(c.add) * e.add_fj +
                       static_cast<int128>(c.mul) * e.mul_fj +
                       static_cast<int128>(c.cmp) * e.cmp_fj;
  const int128 special = c.special * special_macs * pair;
  // Cost does not say which integer operations these are: half additions, half multiplications
  // keeps an integer MAC, counted as two, at add + mul. Per operation in whole fJ, so that the
  // energies of parts add up to the energy of their sum.
  const int128 integer = c.iop * ((pair + 1) / 2);
  const int128 byte_fj = (t.dram64_lo_fj + t.dram64_hi_fj) / 16;

  Femtojoules f;
  f.available = true;
  f.fj = plain + special + integer + c.bytes() * byte_fj;
  const double arith = arithmetic_rel_sd * static_cast<double>(plain + special + integer);
  const double spread = static_cast<double>(c.special) * static_cast<double>(pair) *
                        static_cast<double>(special_macs_hi - special_macs_lo) / sqrt12;
  const double mix = static_cast<double>(c.iop) * static_cast<double>(e.mul_fj - e.add_fj) / sqrt12;
  const double memory = static_cast<double>(c.bytes()) / 8 *
                        static_cast<double>(t.dram64_hi_fj - t.dram64_lo_fj) / sqrt12;
  f.sd_fj = std::sqrt(arith * arith + spread * spread + mix * mix + memory * memory);
  return f;
}

int64_t microjoules(int128 fj) {
  int128 q = fj / fj_per_uj, r = fj % fj_per_uj;
  if (r < 0) q -= 1, r += fj_per_uj;
  if (2 * r > fj_per_uj || (2 * r == fj_per_uj && q % 2 != 0)) q += 1;
  if (q > std::numeric_limits<int64_t>::max() || q < std::numeric_limits<int64_t>::min()) {
    throw value_error("microjoules: the energy leaves 64 bits (9.2e12 J)");
  }
  return static_cast<int64_t>(q);
}

Joules joules_of(const Cost& cost, std::string_view dtype, const Table& table) {
  const Femtojoules f = femtojoules_of(cost, dtype, table);
  if (!f.available) return {0, 0, JouleKind::unavailable, table.name};
  return {microjoules(f.fj), f.sd_fj * 1e-9, JouleKind::modelled_table, table.name};
}

}  // namespace wattle::energy
