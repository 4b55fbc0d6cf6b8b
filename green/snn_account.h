// Operations and bytes of an inference, layer by layer, for nets of numbers and nets of spikes
// under the same rules: zeros are skipped on both sides, weights are read once where they can be
// kept.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "energy/table_model.h"
#include "green/snn_nets.h"

namespace wattle::green {

/// Picojoules of one access of 64 bits to a memory of `bytes`: a line through (0, 0), (8 kB, 10),
/// (32 kB, 20), (1 MB, 100) as in Lemaire et al. 2022 (SRAM figures of Horowitz 2014); 100 above.
double sram_access_pj(double bytes);

/// One layer with weights, per image; figures are means over the images of the sample.
struct SnnLayer {
  std::string name;
  bool is_conv = false;
  int64_t inputs = 0, outputs = 0, weights = 0;
  int64_t steps = 1;       ///< times it is computed: 1 for numbers and for a constant current
  bool of_spikes = false;  ///< its inputs are spikes by their type: additions, no products
  double dense_ops = 0;    ///< of one step, all inputs on; taps in the padding are none
  double ops = 0;          ///< of all steps together, zero inputs skipped, counted by brute events
  double rate = 0;         ///< share of inputs that are not zero, mean of the steps
  double any = 0;          ///< share of inputs that are not zero in any step
  /// Of the neurons, or of the activation after the layer; none after the last.
  double neuron_add = 0, neuron_mul = 0, neuron_cmp = 0;
  int64_t neurons = 0, neuron_steps = 1;
  bool fires = false;  ///< what follows it are neurons with a state
  double silent = 0;   ///< share of its neurons (or outputs) that were zero for every image
};

/// Runs `images` (numbers in 0..1) through the net. The net is left as it was.
std::vector<SnnLayer> snn_layers(SnnNet& net, const Tensor& images);

/// What an arm computes with.
struct SnnWidths {
  int weight_bits = 32, activation_bits = 32;  ///< of numbers; spikes have one bit
  bool integers() const { return weight_bits == 8; }
};

/// How bytes are priced.
enum class SnnTier : uint8_t {
  compute,  ///< E0: operations alone
  buffers,  ///< E1: and bytes, from a memory as large as what it holds
  dram,     ///< E1 with weights from DRAM
};
const char* name(SnnTier t);
constexpr SnnTier snn_tiers[] = {SnnTier::compute, SnnTier::buffers, SnnTier::dram};

/// Factors on the constants, to see what a verdict hangs on.
struct SnnFactors {
  double mac = 1, ac = 1, bytes = 1;
};

/// Bytes that a layer moves for one image out of a batch.
struct SnnBytes {
  double weights = 0, in = 0, out = 0, state = 0, index = 0;
  double sum() const { return weights + in + out + state + index; }
};
SnnBytes snn_bytes(const SnnLayer& l, const SnnWidths& w, int64_t batch);

/// Picojoules per image, modelled.
double snn_layer_pj(const SnnLayer& l, const SnnWidths& w, SnnTier tier, int64_t batch,
                    const SnnFactors& f = {});
double snn_pj(const std::vector<SnnLayer>& net, const SnnWidths& w, SnnTier tier, int64_t batch,
              const SnnFactors& f = {});
/// E3: bits of weights times bits of inputs, over all operations.
double snn_bit_budget(const std::vector<SnnLayer>& net, const SnnWidths& w);

/// The rate below which a layer of spikes takes less than `numbers` does, its spikes spread over
/// inputs and steps as they are; none where it never does, above 1: always.
std::optional<double> break_even_rate(const SnnLayer& spikes, const SnnWidths& ws,
                                      const SnnLayer& numbers, const SnnWidths& wn, SnnTier tier,
                                      int64_t batch);

}  // namespace wattle::green
