// Recordings of event cameras, as N-MNIST and its like store them (Orchard et al., "Converting
// static image datasets to spiking neuromorphic datasets using saccades", 2015): 5 bytes an event,
//   x, y, polarity in the top bit and the time in the other 23, the most significant first, in us.
// An event at y = 240 is none: it says that the clock went round, and adds 2^13 us to all that
// follow.
#pragma once
#include <string>
#include <vector>

#include "data/bytes.h"

namespace wattle::io {

struct Event {
  int64_t t = 0;  ///< microseconds
  int16_t x = 0, y = 0;
  bool on = false;  ///< brighter
  friend bool operator==(const Event&, const Event&) = default;
};

/// Throws io_error "WHAT: found ..., expected ..." for bytes that are no whole events, for none at
/// all, for an event outside of width x height and for times that go back.
std::vector<Event> parse_events(ByteSpan bytes, int width, int height, const std::string& what);
/// The events of a file; N-MNIST's sensor has 34 x 34 pixels.
std::vector<Event> read_events(const std::string& path, int width = 34, int height = 34);

enum class Split : uint8_t {
  number,  ///< as many events in each frame; the last one takes the rest
  time     ///< as long a stretch of time; the last one takes the rest
};
/// How many events of each polarity fell on each pixel: f32 [frames, 2, height, width], off before
/// on. Frame i by number holds events [i n, (i + 1) n), n = events / frames; by time those with
/// t0 + i d <= t < t0 + (i + 1) d, d = (last - first) / frames, both rounded down, as SpikingJelly
/// does. Throws value_error for frames < 1, more frames than events (or microseconds), and an event
/// outside of width x height.
Tensor event_frames(const std::vector<Event>& events, int64_t frames, Split split, int width = 34,
                    int height = 34);

}  // namespace wattle::io
