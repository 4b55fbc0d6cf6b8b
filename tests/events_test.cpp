// Recordings of event cameras: the layout, the frames, and what damaged files say.
#include "data/events.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace wattle::io {
namespace {

ByteVector event(int x, int y, bool on, int64_t t) {
  return {static_cast<uint8_t>(x), static_cast<uint8_t>(y),
          static_cast<uint8_t>((on ? 0x80 : 0) | (t >> 16 & 0x7f)),
          static_cast<uint8_t>(t >> 8 & 0xff), static_cast<uint8_t>(t & 0xff)};
}
ByteVector join(std::initializer_list<ByteVector> parts) {
  ByteVector all;
  for (const ByteVector& p : parts) all.insert(all.end(), p.begin(), p.end());
  return all;
}
std::string error_of(const ByteVector& bytes) {
  try {
    parse_events(bytes, 34, 34, "x.bin");
  } catch (const io_error& e) { return e.what(); }
  return "";
}

TEST(Events, BytesOfAnEvent) {
  // 0x85 = brighter, time 0x05_1234 = 332,340 us.
  const auto e = parse_events(ByteVector{7, 33, 0x85, 0x12, 0x34}, 34, 34, "x");
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0], (Event{0x51234, 7, 33, true}));
}

TEST(Events, TheClockGoesRound) {
  const auto e = parse_events(
      join({event(1, 2, false, 100), event(0, 240, false, 0), event(3, 4, true, 50)}), 34, 34, "x");
  ASSERT_EQ(e.size(), 2u);
  EXPECT_EQ(e[1], (Event{8192 + 50, 3, 4, true}));
}

TEST(Events, DamagedFilesSayWhat) {
  EXPECT_EQ(error_of({}),
            "x.bin: found 0 bytes, expected whole events of 5 bytes, and at least one");
  ByteVector cut = join({event(1, 1, true, 1), event(2, 2, true, 2)});
  cut.pop_back();
  EXPECT_EQ(error_of(cut),
            "x.bin: found 9 bytes, expected whole events of 5 bytes, and at least one");
  EXPECT_EQ(error_of(join({event(1, 1, true, 1), event(34, 2, true, 2)})),
            "x.bin: event 1: found pixel 34, 2, expected one of 34 x 34");
  EXPECT_EQ(error_of(join({event(1, 1, true, 9), event(1, 2, true, 2)})),
            "x.bin: event 1: found time 2 us after 9, expected times in order");
  EXPECT_EQ(error_of(event(0, 240, false, 0)),
            "x.bin: found overflows of the clock alone, expected events");
  EXPECT_THROW(read_events("/nowhere/x.bin"), io_error);
}

TEST(Events, FramesByNumberAndByTime) {
  // Times 0, 1, 2, 3, 90, 100, 101.
  const auto e =
      parse_events(join({event(0, 0, false, 0), event(1, 0, true, 1), event(1, 0, true, 2),
                         event(0, 1, false, 3), event(2, 2, true, 90), event(2, 2, false, 100),
                         event(2, 2, true, 101)}),
                   3, 3, "x");
  const auto at = [](const Tensor& f, int64_t frame, int on, int y, int x) {
    return f.data<float>()[((frame * 2 + on) * 3 + y) * 3 + x];
  };
  const Tensor n = event_frames(e, 3, Split::number, 3, 3);  // 2, 2 and the other 3
  EXPECT_EQ(n.shape(), (Shape{3, 2, 3, 3}));
  EXPECT_EQ(at(n, 0, 0, 0, 0), 1);
  EXPECT_EQ(at(n, 0, 1, 0, 1), 1);
  EXPECT_EQ(at(n, 1, 1, 0, 1), 1);
  EXPECT_EQ(at(n, 1, 0, 1, 0), 1);
  EXPECT_EQ(at(n, 2, 1, 2, 2), 2);
  EXPECT_EQ(at(n, 2, 0, 2, 2), 1);
  const Tensor t = event_frames(e, 3, Split::time, 3, 3);  // 33 us each; the last to 101
  EXPECT_EQ(at(t, 0, 1, 0, 1), 2);
  EXPECT_EQ(at(t, 2, 1, 2, 2), 2);
  double sum = 0, middle = 0;
  for (float v : t.values<float>()) sum += v;
  for (int i = 18; i < 36; ++i) middle += t.data<float>()[i];
  EXPECT_EQ(sum, 7);
  EXPECT_EQ(middle, 0);
}

TEST(Events, FramesThatCannotBe) {
  const auto e = parse_events(join({event(0, 0, true, 5), event(1, 1, true, 5)}), 34, 34, "x");
  EXPECT_THROW(event_frames(e, 0, Split::number), value_error);
  EXPECT_THROW(event_frames(e, 3, Split::number), value_error);
  EXPECT_THROW(event_frames(e, 1, Split::time), value_error);  // no time passes
  EXPECT_THROW(event_frames(e, 1, Split::number, 1, 1), value_error);
}

}  // namespace
}  // namespace wattle::io
