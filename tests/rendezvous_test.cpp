// How ranks find each other.
#include "green/rendezvous.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::green {
namespace {

std::string id_text() {
  std::string id(device::ranks_id_bytes, 'x');
  id[3] = '\0', id[90] = '\n';  // ids are bytes, not text
  return id;
}

void expect_all_meet(const std::string& place, int ranks) {
  std::vector<std::string> got(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = ranks - 1; r >= 0; --r)  // the last ones come first
    threads.emplace_back([&, r] {
      got[static_cast<size_t>(r)] = exchange_id({r, ranks, place, 20}, r == 0 ? id_text() : "");
    });
  for (std::thread& t : threads) t.join();
  for (const std::string& g : got) EXPECT_EQ(g, id_text());
}

std::string fresh_place(const char* name) {
  const std::string path = testing::TempDir() + "/" + name;
  std::filesystem::remove(path);
  return path;
}

TEST(Rendezvous, OverAFileThatIsGoneAfterwards) {
  const std::string place = fresh_place("wattle_meet_file");
  for (int ranks : {2, 5}) {
    expect_all_meet(place, ranks);
    EXPECT_FALSE(std::filesystem::exists(place));
    EXPECT_FALSE(std::filesystem::exists(place + ".1"));
  }
}

TEST(Rendezvous, OverTcp) {
  expect_all_meet("127.0.0.1:27611", 2);
  expect_all_meet("localhost:27612", 5);
}

TEST(Rendezvous, OneRankMeetsNobody) {
  EXPECT_EQ(exchange_id({0, 1, "nowhere", 1}, id_text()), id_text());
}

std::string error_of(const Meeting& m) {
  try {
    exchange_id(m, id_text());
  } catch (const error& e) { return e.what(); }
  return "nothing";
}
void expect_says(const std::string& found, const char* wanted) {
  EXPECT_NE(found.find(wanted), std::string::npos) << found;
}

TEST(Rendezvous, NobodyThereIsAnErrorThatNamesThePlace) {
  const std::string place = fresh_place("wattle_meet_nobody");
  expect_says(error_of({1, 2, place, 0.1}), "wattle_meet_nobody: rank 1 of 2 waited 0.1 s");
  expect_says(error_of({0, 2, place, 0.1}), "wattle_meet_nobody: rank 0 of 2 waited");
  EXPECT_FALSE(std::filesystem::exists(place)) << "the next run would read the id of this one";
  expect_says(error_of({0, 2, "127.0.0.1:27613", 0.1}), "127.0.0.1:27613: rank 0 of 2 waited");
  expect_says(error_of({1, 2, "127.0.0.1:27614", 0.1}), "127.0.0.1:27614: rank 1 of 2 waited");
}

TEST(Rendezvous, AFileOfAnotherRunIsRefused) {
  const std::string place = fresh_place("wattle_meet_old");
  io::write_file(place, "an id of yesterday");
  expect_says(error_of({0, 2, place, 1}), "is there already");
  expect_says(error_of({1, 2, place, 1}), "found an id of 18 bytes, expected 128");
  std::filesystem::remove(place);
  std::filesystem::remove(place + ".1");
}

TEST(Rendezvous, EnvironmentIsChecked) {
  const auto with = [](const char* ranks, const char* rank, const char* place) -> std::string {
    setenv("WATTLE_RANKS", ranks, 1), setenv("WATTLE_RANK", rank, 1);
    setenv("WATTLE_MEET", place, 1);
    std::string said;
    try {
      const std::optional<Meeting> m = meeting_from_environment();
      said = m ? str(m->rank, " of ", m->ranks, " at ", m->place) : "none";
    } catch (const value_error& e) { said = e.what(); }
    for (const char* v : {"WATTLE_RANKS", "WATTLE_RANK", "WATTLE_MEET"}) unsetenv(v);
    return said;
  };
  EXPECT_FALSE(meeting_from_environment());
  EXPECT_EQ(with("", "", ""), "none");
  EXPECT_EQ(with("4", "3", "/tmp/x"), "3 of 4 at /tmp/x");
  expect_says(with("4", "4", "/tmp/x"), "WATTLE_RANK: found '4', expected 0 to 3");
  expect_says(with("two", "0", "/tmp/x"), "WATTLE_RANKS: found 'two', expected 1 to 4096");
  expect_says(with("2", "0", ""), "WATTLE_MEET: found nothing");
}

TEST(Rendezvous, GpuRanksDoNotRunOnTheCpu) {
  setenv("WATTLE_RANKS", "2", 1), setenv("WATTLE_RANK", "0", 1), setenv("WATTLE_MEET", "x", 1);
  std::string device = "cpu";
  EXPECT_THROW(join_ranks(device), value_error);
  for (const char* v : {"WATTLE_RANKS", "WATTLE_RANK", "WATTLE_MEET"}) unsetenv(v);
}

}  // namespace
}  // namespace wattle::green
