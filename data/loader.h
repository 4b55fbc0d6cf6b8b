// Batches of a data set in a random or fixed order, gathered ahead on a thread.
#pragma once
#include <memory>
#include <optional>

#include "core/counters.h"
#include "data/dataset.h"

namespace wattle::data {

struct Batch {
  Tensor images;  ///< u8 [B,C,H,W]
  Tensor labels;  ///< i64 [B]
  /// What gathering this batch cost, phase `data`, scope "loader". next() has merged it into the
  /// counters of the calling thread already.
  Counters cost;
};

struct LoaderOptions {
  int64_t batch = 64;
  bool shuffle = true;
  uint64_t seed = 0;
  bool drop_last = false;  ///< leaves out the last batch of an epoch when it is not full
  int prefetch = 2;        ///< batches held ready by the thread; 0 gathers on the calling thread
};

/// Where a loader stands. With the same data set and options it determines all batches to come.
struct LoaderState {
  int64_t epoch = 0;
  int64_t position = 0;  ///< batches of this epoch that were handed over
  friend bool operator==(const LoaderState&, const LoaderState&) = default;
};

/// One loader belongs to one consumer thread. Epoch e comes in the order permutation(rows, seed,
/// e), or in file order without a copy when shuffle is off. The thread works ahead within an epoch
/// only and decides nothing, so prefetch changes no bit of any batch.
///
///     for (data::Batch& b : loader) step(b.images, b.labels);   // one epoch
class DataLoader {
 public:
  /// Throws value_error or shape_error for data or options that cannot give a batch.
  explicit DataLoader(Dataset d, const LoaderOptions& options = {});
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  /// The next batch; nothing at the end of an epoch, after which the next one begins. What the
  /// gather threw on its thread is thrown here.
  std::optional<Batch> next();
  /// Batches per epoch.
  int64_t batches() const;
  const Dataset& dataset() const;

  LoaderState state() const;
  /// Continues from a state of a loader with the same data and options, also in the middle of an
  /// epoch. Throws value_error for a position that this loader does not have.
  void set_state(const LoaderState& s);

  struct End {};
  class Iterator {
   public:
    explicit Iterator(DataLoader& l) : loader_(&l), batch_(l.next()) {}
    Batch& operator*() { return *batch_; }
    Batch* operator->() { return &*batch_; }
    Iterator& operator++() {
      batch_.reset();  // before the next one is made: at most one batch is held here
      batch_ = loader_->next();
      return *this;
    }
    friend bool operator==(const Iterator& i, End) { return !i.batch_; }

   private:
    DataLoader* loader_;
    std::optional<Batch> batch_;
  };
  Iterator begin() { return Iterator(*this); }
  End end() const { return {}; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wattle::data
