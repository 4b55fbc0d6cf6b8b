// libFuzzer target: recordings of event cameras, and their frames.
#include "core/error.h"
#include "data/events.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto events = io::parse_events({data, size}, 34, 34, "fuzz");
    for (const io::Split split : {io::Split::number, io::Split::time}) {
      try {
        io::event_frames(events, 1 + size % 7, split);
      } catch (const value_error&) {}
    }
  } catch (const io_error&) {}
  return 0;
}
