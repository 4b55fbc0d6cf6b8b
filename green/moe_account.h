// What one routed layer costs beside the dense layer of equal active FLOPs: a training step of
// both, run and counted, and what stays resident whatever was active.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "green/energy_session.h"
#include "moe/layer.h"

namespace wattle::green {

/// A step of one side: forward, backward and AdamW on the same rows.
struct MoeSide {
  int64_t params_total = 0, params_active = 0;
  double flops = 0, gate_flops = 0;  ///< of the forward, the gate's apart
  int64_t weight_bytes_touched = 0;  ///< in the forward: experts that got a row, shared, gate
  int64_t activation_bytes = 0;      ///< moved in the forward beside weights and indices
  int64_t index_bytes = 0;           ///< of the routing: sort, gather and scatter
  int64_t optimizer_bytes = 0;       ///< moved by AdamW: the whole pool, whatever was active
  int64_t resident_bytes = 0;        ///< weights; training holds gradients and two moments, too
  int64_t training_bytes() const { return 4 * resident_bytes; }
  Ledger ledger;
};

struct MoeAccount {
  moe::MoEConfig config;
  int64_t tokens = 0, dense_hidden = 0;
  moe::RouterStats router;  ///< of the batch that ran
  MoeSide routed, dense;
};

/// Runs a step on tokens normal rows. The dense layer has `dense_hidden` hidden units, 0: as many
/// as a token's experts have together. Throws value_error for no tokens.
MoeAccount moe_account(const moe::MoEConfig& c, int64_t tokens, int64_t dense_hidden, uint64_t seed,
                       EnergySession& energy);

/// A forward at another batch size, by shapes and a table: uniform routing, unique bytes.
struct MoePoint {
  int64_t tokens = 0;
  double distinct = 0;  ///< experts touched, expected
  double routed_bytes = 0, dense_bytes = 0;
  double routed_uj = 0, dense_uj = 0;
};
MoePoint moe_point(const MoeAccount& a, int64_t tokens, const energy::Table& table);
/// Batches up to 2^20 tokens of which the routed layer's forward takes fewer joules: first and
/// last; none where it never does.
std::optional<std::pair<int64_t, int64_t>> break_even(const MoeAccount& a,
                                                      const energy::Table& table);

}  // namespace wattle::green
