#include "data/events.h"

#include "core/error.h"

namespace wattle::io {
namespace {

constexpr int event_bytes = 5, overflow_row = 240;
constexpr int64_t overflow_us = int64_t{1} << 13;

}  // namespace

std::vector<Event> parse_events(ByteSpan bytes, int width, int height, const std::string& what) {
  if (bytes.empty() || bytes.size() % event_bytes != 0)
    throw io_error(str(what, ": found ", static_cast<int64_t>(bytes.size()),
                       " bytes, expected whole events of 5 bytes, and at least one"));
  std::vector<Event> events;
  events.reserve(bytes.size() / event_bytes);
  int64_t overflow = 0;
  for (size_t i = 0; i < bytes.size(); i += event_bytes) {
    const uint8_t* const b = bytes.data() + i;
    if (b[1] == overflow_row) {
      overflow += overflow_us;
      continue;
    }
    const int64_t t = (int64_t{b[2] & 0x7f} << 16) + (int64_t{b[3]} << 8) + b[4] + overflow;
    const auto number = static_cast<int64_t>(i / event_bytes);
    if (b[0] >= width || b[1] >= height)
      throw io_error(str(what, ": event ", number, ": found pixel ", int64_t{b[0]}, ", ",
                         int64_t{b[1]}, ", expected one of ", int64_t{width}, " x ",
                         int64_t{height}));
    if (!events.empty() && t < events.back().t)
      throw io_error(str(what, ": event ", number, ": found time ", t, " us after ",
                         events.back().t, ", expected times in order"));
    events.push_back({t, int16_t{b[0]}, int16_t{b[1]}, (b[2] & 0x80) != 0});
  }
  if (events.empty())
    throw io_error(what + ": found overflows of the clock alone, expected events");
  return events;
}

std::vector<Event> read_events(const std::string& path, int width, int height) {
  return parse_events(read_file(path), width, height, path);
}

Tensor event_frames(const std::vector<Event>& events, int64_t frames, Split split, int width,
                    int height) {
  const auto n = static_cast<int64_t>(events.size());
  const int64_t span = n > 0 ? events.back().t - events.front().t : 0;
  const int64_t whole = split == Split::number ? n : span;
  if (frames < 1 || frames > whole)
    throw value_error(str(
        "event_frames: frames: found ", frames, ", expected 1 to ", whole,
        split == Split::number ? ", the number of events" : ", the microseconds of the recording"));
  const int64_t each = whole / frames;
  const Tensor out = Tensor::zeros({frames, 2, height, width});
  float* const p = out.data<float>();
  for (int64_t i = 0; i < n; ++i) {
    const Event& e = events[static_cast<size_t>(i)];
    if (e.x < 0 || e.x >= width || e.y < 0 || e.y >= height)
      throw value_error(str("event_frames: event ", i, ": found pixel ", int64_t{e.x}, ", ",
                            int64_t{e.y}, ", expected one of ", int64_t{width}, " x ",
                            int64_t{height}));
    const int64_t at = split == Split::number ? i : e.t - events.front().t;
    const int64_t frame = std::min(at / each, frames - 1);
    p[((frame * 2 + e.on) * height + e.y) * width + e.x] += 1;
  }
  return out;
}

}  // namespace wattle::io
