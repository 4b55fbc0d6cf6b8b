#include "data/dataset.h"

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "data/cifar10.h"
#include "data/idx.h"

namespace wattle::data {
namespace {

namespace fs = std::filesystem;

constexpr int official_classes = 10;  // of both data sets

// File names of a data set, and the sub-folders in which others unpack them.
struct Layout {
  std::string name;
  std::vector<std::string> files;
  std::vector<std::string> subfolders;
};

const Layout& layout_of(const std::string& name) {
  static const std::vector<Layout> layouts{
      {"fashion-mnist",
       {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte"},
       {"fashion-mnist", "FashionMNIST/raw"}},
      {"cifar10",
       {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
        "data_batch_5.bin", "test_batch.bin"},
       {"cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"}}};
  for (const Layout& l : layouts)
    if (l.name == name) return l;
  throw value_error(str("dataset: found '", name, "', expected fashion-mnist or cifar10"));
}

std::string environment(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

std::string cache_folder() {
  const std::string xdg = environment("XDG_CACHE_HOME"), home = environment("HOME");
  if (!xdg.empty()) return xdg + "/wattle";
  return home.empty() ? "" : home + "/.cache/wattle";
}

// The file as it is or packed; empty when there is neither.
std::string existing(const std::string& folder, const std::string& file) {
  std::error_code ignored;
  for (const char* suffix : {"", ".gz"}) {
    const std::string path = folder + "/" + file + suffix;
    if (fs::exists(path, ignored)) return path;
  }
  return {};
}

std::string existing_or_throw(const std::string& folder, const std::string& file) {
  const std::string path = existing(folder, file);
  if (path.empty())
    throw io_error(str(folder, "/", file, ": is missing beside the other files of the data set"));
  return path;
}

// An explicit folder is the only place to look at: finding other data elsewhere would surprise.
std::vector<std::string> search_roots(const std::string& data_dir) {
  if (!data_dir.empty()) return {data_dir};
  std::vector<std::string> roots;
  for (std::string root :
       {environment("WATTLE_DATA"), std::string("/usr/share/datasets"), cache_folder()})
    if (!root.empty()) roots.push_back(std::move(root));
  return roots;
}

Split load_cifar10(const std::string& folder) {
  std::vector<std::string> paths;
  for (const std::string& f : layout_of("cifar10").files)
    paths.push_back(existing_or_throw(folder, f));
  const std::string test_path = paths.back();
  paths.pop_back();
  const io::Cifar10 train = io::read_cifar10(paths), test = io::read_cifar10({test_path});
  // A test file cut between two records shows only against the official size.
  const int64_t official = io::cifar10_records_per_file;
  if (train.labels.numel() == 5 * official && test.labels.numel() != official)
    throw io_error(str(test_path, ": found ", test.labels.numel(), " records, expected ", official,
                       " as in ", paths[0]));
  return {{"cifar10", train.images, train.labels, official_classes},
          {"cifar10", test.images, test.labels, official_classes}};
}

Split load_fashion_mnist(const std::string& folder) {
  const auto& files = layout_of("fashion-mnist").files;
  std::vector<std::string> paths;
  for (const std::string& f : files) paths.push_back(existing_or_throw(folder, f));
  Split s{idx_dataset("fashion-mnist", paths[0], paths[1], official_classes),
          idx_dataset("fashion-mnist", paths[2], paths[3], official_classes)};
  const Shape &a = s.train.images.shape(), &b = s.test.images.shape();
  if (a[2] != b[2] || a[3] != b[3])
    throw io_error(str(paths[2], ": found images of ", b[2], " x ", b[3], ", expected ", a[2],
                       " x ", a[3], " as in ", paths[0]));
  return s;
}

}  // namespace

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names{"fashion-mnist", "cifar10"};
  return names;
}

Dataset idx_dataset(const std::string& name, const std::string& images, const std::string& labels,
                    int classes) {
  Dataset d{name, io::read_idx_images(images), io::read_idx_labels(labels, classes), classes};
  if (d.labels.numel() != d.rows())
    throw io_error(str(labels, ": found ", d.labels.numel(), " labels, expected ", d.rows(),
                       ", one for each image of ", images));
  return d;
}

std::string find_dataset(const std::string& name, const std::string& data_dir,
                         std::vector<std::string>* looked) {
  const Layout& layout = layout_of(name);
  for (const std::string& root : search_roots(data_dir)) {
    std::vector<std::string> folders{root};
    for (const std::string& sub : layout.subfolders) folders.push_back(root + "/" + sub);
    for (const std::string& folder : folders) {
      if (looked) looked->push_back(folder);
      for (const std::string& file : layout.files)
        if (!existing(folder, file).empty()) return folder;
    }
  }
  return {};
}

std::string download_folder(const std::string& name, const std::string& data_dir) {
  layout_of(name);
  if (!data_dir.empty()) return data_dir;
  const std::string shared = environment("WATTLE_DATA");
  if (!shared.empty()) return shared + "/" + name;
  const std::string cache = cache_folder();
  if (cache.empty())
    throw io_error(str("data ", name,
                       ": no folder to keep it in: found neither $HOME nor "
                       "$XDG_CACHE_HOME; give one with --data-dir"));
  return cache + "/" + name;
}

Split load(const std::string& name, const std::string& data_dir) {
  std::vector<std::string> looked;
  const std::string folder = find_dataset(name, data_dir, &looked);
  if (!folder.empty()) {
    Split split = name == "cifar10" ? load_cifar10(folder) : load_fashion_mnist(folder);
    split.test.evaluation = true;
    return split;
  }
  std::string places;
  for (const std::string& p : looked) places += "\n  " + p;
  throw io_error(str("data set ", name, ": not found in", places, "\nget it with: ./wattle data ",
                     name, data_dir.empty() ? "" : " --data-dir " + data_dir));
}

}  // namespace wattle::data
