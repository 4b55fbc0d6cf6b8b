// Labelled images in memory, and where the named data sets are found.
#pragma once
#include <string>
#include <vector>

#include "core/tensor.h"

namespace wattle::data {

/// Images stay u8, as they are stored; the first op of a net converts them.
struct Dataset {
  std::string name;
  Tensor images;  ///< u8 [N,C,H,W]
  Tensor labels;  ///< u8 or i64 [N]
  int classes = 0;
  bool evaluation = false;  ///< a test set: nothing may be fitted to it
  int64_t rows() const { return images.defined() ? images.size(0) : 0; }
};

struct Split {
  Dataset train, test;
};

/// "fashion-mnist", "cifar10".
const std::vector<std::string>& dataset_names();

/// Loads a data set. It is looked for in `data_dir` alone where that is given; otherwise in
/// $WATTLE_DATA, Debian's /usr/share/datasets, and $XDG_CACHE_HOME/wattle or ~/.cache/wattle.
/// Throws value_error for an unknown name and io_error naming every place that was looked at when
/// there is none, or the file that is damaged.
Split load(const std::string& name, const std::string& data_dir = {});

/// The folder that holds the data set, by the same search; empty when there is none. `looked`, when
/// given, receives every folder that was looked at.
std::string find_dataset(const std::string& name, const std::string& data_dir = {},
                         std::vector<std::string>* looked = nullptr);

/// Where a download of `name` goes: data_dir, $WATTLE_DATA/name or the cache folder's name.
std::string download_folder(const std::string& name, const std::string& data_dir = {});

/// Pairs images with labels; throws io_error naming both files when their numbers differ.
Dataset idx_dataset(const std::string& name, const std::string& images, const std::string& labels,
                    int classes);

/// n rows with the classes in the same proportion (largest remainder; ties go to the lower class),
/// chosen by Philox from the seed, in file order. The row gather is counted as phase `data`.
/// Throws value_error unless classes <= n <= rows.
Dataset subset(const Dataset& d, int64_t n, uint64_t seed);
/// The row numbers that subset() takes.
std::vector<int64_t> stratified_rows(const Dataset& d, int64_t n, uint64_t seed);

/// A random order of 0 .. n-1 that depends on (n, seed, stream) only.
std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t stream);

}  // namespace wattle::data
