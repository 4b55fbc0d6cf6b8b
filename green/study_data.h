// What the layer-cost study produces: settings, one record per run, one per net, layer and phase.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/counters.h"
#include "energy/joules.h"

namespace wattle::green {

enum class LayerType : uint8_t {
  conv,
  linear,
  relu,
  batch_norm,
  pool,
  loss,
  optimizer,
  data,
  other
};
constexpr int layer_type_count = 9;
using wattle::Phase;
constexpr int phase_count = 4;

std::string_view name(LayerType t);                  ///< "conv", "batch_norm", ...
using wattle::name;                                  ///< of a phase: "forward", ...
LayerType layer_type_from_name(std::string_view s);  ///< throws value_error
Phase phase_from_name(std::string_view s);           ///< throws value_error

/// One network of the design.
struct NetKey {
  std::string net;  ///< "cnn", "densepoly" or "denselinear", as on the command line
  int linear = 0;   ///< linear layers
  int conv = 0;     ///< convolution blocks; 0 for the dense nets
  int relu = 0;     ///< 1: ReLU after every convolution block
  auto operator<=>(const NetKey&) const = default;
};
/// Name for people: "CNN 3,1 ReLU" (linear, conv), "DensePoly 7".
std::string label(const NetKey& k);

constexpr double not_known = std::numeric_limits<double>::quiet_NaN();

/// One training of one net with one seed. Unknown doubles are NaN.
struct StudyRun {
  std::string dataset;
  NetKey key;
  uint64_t seed = 0;
  int epochs = 0;               ///< epochs finished
  int64_t rows = 0;             ///< training images per epoch
  double accuracy = not_known;  ///< on the test set, 0..1
  int64_t flops_weighted = 0;   ///< 2 x MAC of contractions, whole run
  int64_t flops_all = 0;        ///< every floating-point operation
  int64_t bytes = 0;            ///< unique bytes read and written
  double seconds = not_known;   ///< wall time of training, measured
  Joules joules;                ///< all that the machine drew (gross), or modelled
  Joules idle, net;             ///< of a measured run with an idle baseline: gross = idle + net
  double kappa = not_known;     ///< measured over modelled
  int64_t params = 0;
  double train_loss = not_known, val_loss = not_known, val_accuracy = not_known;  ///< last epoch
  bool diverged = false;  ///< stopped because the loss was not finite; left out of means
};

/// Work of one layer of one net in one phase, **summed over all runs of that net** (so that a
/// continued study only adds). Sums over rows equal the sums over the net's runs exactly.
struct LayerRow {
  NetKey key;
  std::string layer;  ///< scope name, "conv1", "fc3", ...
  LayerType type = LayerType::other;
  Phase phase = Phase::forward;
  int64_t calls = 0;
  int64_t flops_weighted = 0, flops_all = 0;
  int64_t bytes_read = 0, bytes_written = 0;
  double ms = not_known;  ///< measured time
  Joules joules;
};

/// One point of a learning curve.
struct EpochPoint {
  NetKey key;
  uint64_t seed = 0;
  int epoch = 0;  ///< 1-based
  double train_loss = not_known, val_accuracy = not_known, accuracy = not_known;
  double seconds = not_known;  ///< since the start of the run
};

/// What was run, and where. The first block decides whether two studies may be joined.
struct StudySettings {
  std::string dataset, protocol;  ///< protocol: "fixed" or "as-published"
  int epochs = 0;
  int64_t batch = 0, rows = 0, test_rows = 0;
  std::string optimizer;
  double lr = not_known;
  std::string energy_source;    ///< table or meter behind the joules
  std::string energy_sentence;  ///< the same for people: first line of the report
  std::string region;           ///< of the electricity; empty = no grams
  std::string version;          ///< of wattle
  std::string cpu, simd;        ///< host CPU name; instruction set in use
  int threads = 0;
  std::string device = "cpu";  ///< or the GPU's name and how it computes products of f32 numbers

  std::string date;  ///< of the first run, ISO 8601
  std::vector<uint64_t> seeds;
  std::vector<NetKey> nets;           ///< asked for, in this order
  std::vector<std::string> oddities;  ///< of the published protocol, as reproduced here
  std::vector<std::string> notes;     ///< anything else a reader must know
};

struct StudyResult {
  StudySettings settings;
  std::vector<StudyRun> runs;
  std::vector<LayerRow> layers;
  std::vector<EpochPoint> curves;
};

/// Whether this net has been run with this seed (a diverged run counts: it is not repeated).
bool has_run(const StudyResult& s, const NetKey& key, uint64_t seed);

/// Adds `row` to the row of the same net, layer, type and phase, or appends it.
void add_layer_row(StudyResult& s, const LayerRow& row);

/// "" when runs made with `now` may join those made with `before`, else the first difference,
/// "lr: 0.0003 before, 0.001 now". Times of two hosts or thread counts do not mix.
std::string settings_difference(const StudySettings& before, const StudySettings& now);

/// Every net whose layer rows do not add up to its runs in FLOPs, bytes or microjoules, one line
/// each; empty when all do. Nets without layer rows are not checked.
std::vector<std::string> check_conservation(const StudyResult& s);

}  // namespace wattle::green
