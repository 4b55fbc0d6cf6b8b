// How ranks of several processes find each other: rank 0 hands out an id that all then join with.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "core/cuda.h"

namespace wattle::green {

struct Meeting {
  int rank = 0, ranks = 1;
  /// A file that does not exist yet and that all ranks can read, or HOST:PORT, where rank 0
  /// listens.
  std::string place;
  double timeout_s = 60;
};
/// Of WATTLE_RANKS, WATTLE_RANK and WATTLE_MEET (`wattle gpus N ...` sets them); nothing where the
/// first is not set. Throws value_error naming the variable.
std::optional<Meeting> meeting_from_environment();

/// Rank 0 gives `id` and returns when everyone has it; the others return what it gave. Throws
/// io_error naming the place: a file that is there already, or nobody there in time.
std::string exchange_id(const Meeting& m, const std::string& id);

/// This process as one of the ranks that its environment speaks of; null where it speaks of none:
/// WATTLE_RANKS, each with a GPU of its own (`device` = "cuda" becomes the one of this rank's
/// number on its host), or an mpirun. Throws value_error where ranks with GPUs are to run on cpu.
std::shared_ptr<Group> join_ranks(std::string& device);
/// The same for as long as the object lives: it sets world().
class JoinedRanks {
 public:
  explicit JoinedRanks(std::string& device) { set_world(join_ranks(device)); }
  ~JoinedRanks() { set_world(nullptr); }
  JoinedRanks(const JoinedRanks&) = delete;
  JoinedRanks& operator=(const JoinedRanks&) = delete;
};

}  // namespace wattle::green
