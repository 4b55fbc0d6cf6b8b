// Official addresses of the data sets, and getting one whole.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "data/atomic_file.h"
#include "data/download.h"
#include "data/gzip.h"

namespace wattle::data {
namespace {

// Addresses and MD5 of Fashion-MNIST: the data set's README
// (github.com/zalandoresearch/fashion-mnist, "Get the Data"), the same in
// torchvision/datasets/mnist.py. CIFAR-10: the table on www.cs.toronto.edu/~kriz/cifar.html,
// "binary version (suitable for C programs)".
const std::vector<Source>& sources() {
  static const std::vector<Source> all{
      {"fashion-mnist",
       "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
       "WATTLE_DATA_URL_FASHION_MNIST",
       {{"train-images-idx3-ubyte.gz", {"8d4fb7e6c68d591d4c3dfef9ec88bf0d", ""}},
        {"train-labels-idx1-ubyte.gz", {"25c81989df183df01b3e8a0aad5dffbe", ""}},
        {"t10k-images-idx3-ubyte.gz", {"bef4ecab320f06d8554ea6380940ec79", ""}},
        {"t10k-labels-idx1-ubyte.gz", {"bb300cfdad3c16e7a12a480ee83cd310", ""}}},
       {}},
      {"cifar10",
       "https://www.cs.toronto.edu/~kriz",
       "WATTLE_DATA_URL_CIFAR10",
       {{"cifar-10-binary.tar.gz", {"c32a1d4ab5d03f1284b67883e8d87530", ""}}},
       {"cifar-10-batches-bin/data_batch_1.bin", "cifar-10-batches-bin/data_batch_2.bin",
        "cifar-10-batches-bin/data_batch_3.bin", "cifar-10-batches-bin/data_batch_4.bin",
        "cifar-10-batches-bin/data_batch_5.bin", "cifar-10-batches-bin/test_batch.bin"}}};
  return all;
}

bool as_published(const std::string& path, const Checksum& c) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return false;
  return (c.md5.empty() || file_digest(path, "md5") == c.md5) &&
         (c.sha256.empty() || file_digest(path, "sha256") == c.sha256);
}

std::string base_url(const Source& s, const DownloadOptions& o) {
  const char* variable = std::getenv(s.url_variable.c_str());
  std::string url = !o.base_url.empty()     ? o.base_url
                    : variable && *variable ? variable
                                            : s.base_url;
  while (url.ends_with('/')) url.pop_back();
  return url;
}

}  // namespace

const Source& source_of(const std::string& name) {
  for (const Source& s : sources())
    if (s.name == name) return s;
  throw value_error(str("data: found '", name, "', expected fashion-mnist or cifar10"));
}

int download(const Source& source, const std::string& folder, const DownloadOptions& options) {
  const auto there = [&](const std::string& file) {
    std::error_code ignored;
    return std::filesystem::exists(folder + "/" + file, ignored);
  };
  const bool archive = !source.unpacked.empty();
  const auto unpacked = [&] {
    return std::all_of(source.unpacked.begin(), source.unpacked.end(), there);
  };
  // The archive is removed last, so as long as it is there the unpacking may be unfinished.
  if (archive && unpacked() && !there(source.files[0].name)) return 0;
  io::make_folders(folder);
  int count = 0;
  for (const RemoteFile& f : source.files) {
    const std::string path = folder + "/" + f.name;
    if (!as_published(path, f.checksum)) {
      download_file(base_url(source, options) + "/" + f.name, path, f.checksum, options);
      ++count;
    }
    if (!archive) continue;
    io::unpack_tar_gz(path, folder);
    if (!unpacked())
      throw io_error(
          str(path, ": unpacked, but ", source.unpacked[0], " or a file beside it is not in it"));
    ::unlink(path.c_str());
  }
  return count;
}

}  // namespace wattle::data
