#include "data/loader.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "ops/ops.h"

namespace wattle::data {
namespace {

// Calls make(first), make(first + 1), ... make(end - 1) on a thread, at most `ahead` results before
// they are taken. An exception takes its place in the row and ends it.
class Prefetcher {
 public:
  Prefetcher(std::function<Batch(int64_t)> make, int64_t first, int64_t end, int ahead)
      : make_(std::move(make)),
        ahead_(static_cast<size_t>(ahead)),
        thread_([this, first, end] { run(first, end); }) {}

  ~Prefetcher() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // To be called at most once per item that was asked for, and not after it threw.
  Batch take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty(); });
    Item item = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    if (item.error) std::rethrow_exception(item.error);
    return std::move(item.batch);
  }

 private:
  struct Item {
    Batch batch;
    std::exception_ptr error;
  };

  void run(int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stop_ || ready_.size() < ahead_; });
        if (stop_) return;
      }
      Item item;
      try {
        item.batch = make_(i);
      } catch (...) {
        item.error = std::current_exception();
        end = i;
      }
      {
        std::lock_guard lock(mutex_);
        ready_.push_back(std::move(item));
      }
      changed_.notify_all();
    }
  }

  std::function<Batch(int64_t)> make_;
  size_t ahead_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> ready_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses all of the above
};

// Puts fresh counters in the place of this thread's, so that a piece of work is counted apart.
class CountApart {
 public:
  CountApart() { std::swap(kept_, counters()); }
  ~CountApart() { std::swap(kept_, counters()); }
  CountApart(const CountApart&) = delete;
  CountApart& operator=(const CountApart&) = delete;

 private:
  Counters kept_;
};

void check(const Dataset& d, const LoaderOptions& o) {
  if (!d.images || d.images.rank() != 4 || d.images.dtype() != DType::u8)
    throw shape_error(str("loader: found images ", d.images, ", expected u8 [N, C, H, W]"));
  if (!d.labels || d.labels.shape() != Shape{d.rows()})
    throw shape_error(str("loader: found labels ", d.labels, " for images ", d.images,
                          ", expected [", d.rows(), "]"));
  if (o.batch < 1)
    throw value_error(str("loader: found batch = ", o.batch, ", expected at least 1"));
  if (o.prefetch < 0)
    throw value_error(str("loader: found prefetch = ", o.prefetch, ", expected at least 0"));
  const int64_t least = o.drop_last ? o.batch : 1;
  if (d.rows() < least)
    throw value_error(str("loader: found ", d.rows(), " rows, expected at least ", least,
                          o.drop_last ? " for one full batch" : ""));
}

}  // namespace

struct DataLoader::Impl {
  Dataset data;
  LoaderOptions options;
  Tensor labels;  // i64 [N]
  int64_t batches;
  LoaderState at;
  std::vector<int64_t> order;  // of the epoch that `ahead` or `at` is in; empty in file order
  std::unique_ptr<Prefetcher> ahead;

  Impl(Dataset d, const LoaderOptions& o) : data(std::move(d)), options(o) {
    check(data, o);
    labels = Tensor::from(data.labels.values<int64_t>(), {data.rows()});
    batches = o.drop_last ? data.rows() / o.batch : (data.rows() + o.batch - 1) / o.batch;
  }

  // The thread, if there is one, has to be gone.
  void draw_order() {
    if (options.shuffle)
      order = permutation(data.rows(), options.seed, static_cast<uint64_t>(at.epoch));
  }

  // Batch number i of the epoch whose order is drawn. Reads only.
  Batch gather(int64_t i) const {
    const int64_t begin = i * options.batch;
    const int64_t end = std::min(begin + options.batch, data.rows());
    const CountApart apart;
    Batch b;
    {
      const PhaseScope phase(Phase::data);
      const Scope scope("loader");
      if (options.shuffle) {
        const Tensor rows = Tensor::from(
            std::vector<int64_t>(order.begin() + begin, order.begin() + end), {end - begin});
        b.images = index_select(data.images, 0, rows);
        b.labels = index_select(labels, 0, rows);
      } else {
        b.images = slice(data.images, 0, begin, end);
        b.labels = slice(labels, 0, begin, end);
      }
    }
    b.cost = std::move(counters());
    return b;
  }
};

DataLoader::DataLoader(Dataset d, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(std::move(d), options)) {}
DataLoader::~DataLoader() = default;

std::optional<Batch> DataLoader::next() {
  Impl& m = *impl_;
  if (m.at.position == m.batches) {
    m.ahead.reset();
    m.at = {m.at.epoch + 1, 0};
    m.order.clear();
    return {};
  }
  if (m.order.empty() && !m.ahead) m.draw_order();
  if (m.options.prefetch > 0 && !m.ahead)
    m.ahead = std::make_unique<Prefetcher>([&m](int64_t i) { return m.gather(i); }, m.at.position,
                                           m.batches, m.options.prefetch);
  std::optional<Batch> b;
  try {
    b = m.ahead ? m.ahead->take() : m.gather(m.at.position);
  } catch (...) {
    m.ahead.reset();
    throw;
  }
  ++m.at.position;
  counters().merge(b->cost);
  return b;
}

int64_t DataLoader::batches() const { return impl_->batches; }
const Dataset& DataLoader::dataset() const { return impl_->data; }
LoaderState DataLoader::state() const { return impl_->at; }

void DataLoader::set_state(const LoaderState& s) {
  if (s.epoch < 0 || s.position < 0 || s.position > impl_->batches)
    throw value_error(str("loader: found state epoch ", s.epoch, ", position ", s.position,
                          ", expected an epoch from 0 and a position from 0 to ", impl_->batches));
  impl_->ahead.reset();
  impl_->order.clear();
  impl_->at = s;
}

}  // namespace wattle::data
