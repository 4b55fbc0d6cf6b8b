// Downloads over HTTP and HTTPS: resumed where they stopped, checked, and renamed only when whole.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/bytes.h"

namespace wattle::data {

struct Checksum {
  std::string md5, sha256;  ///< hexadecimal, lower case; empty = not published
};

/// One file of a data set.
struct RemoteFile {
  std::string name;
  Checksum checksum;
};

/// Where a data set comes from.
struct Source {
  std::string name;
  std::string base_url;      ///< the official address, without a '/' at the end
  std::string url_variable;  ///< environment variable that replaces base_url
  std::vector<RemoteFile> files;
  std::vector<std::string> unpacked;  ///< for archives: files that are there once it is unpacked
};

struct DownloadOptions {
  std::string base_url;  ///< replaces the source's and the environment's
  /// Called as data arrives, with `user`; total is -1 when the server does not say.
  void (*progress)(void* user, const std::string& file, int64_t done, int64_t total) = nullptr;
  void* user = nullptr;
  int attempts = 4;        ///< connections that may break before a file is given up
  int pause_ms = 500;      ///< before the second attempt; doubles each time
  int stall_seconds = 60;  ///< a connection that is silent for so long has broken
  int64_t max_bytes = int64_t{2} << 30;
};

/// The source of "fashion-mnist" or "cifar10"; throws value_error for other names.
const Source& source_of(const std::string& name);

/// Downloads url to `path` by way of path.part, which a later call continues after an error. A
/// wrong checksum removes the part. Throws io_error "URL: found ..., expected ...".
void download_file(const std::string& url, const std::string& path, const Checksum& expected,
                   const DownloadOptions& options = {});

/// Gets the files of a data set that are not yet in `folder` with the right checksum, and unpacks
/// archives. Returns the number of files downloaded.
int download(const Source& source, const std::string& folder, const DownloadOptions& options = {});

/// Hexadecimal digest of a file; kind is "md5" or "sha256".
std::string file_digest(const std::string& path, const char* kind);
/// The same of bytes in memory.
std::string digest_of(io::ByteSpan bytes, const char* kind);

}  // namespace wattle::data
