// gzip (RFC 1952), and tar archives inside it.
#pragma once
#include <string>
#include <vector>

#include "data/bytes.h"

namespace wattle::io {

/// Unpacks gzip data held in memory. Throws io_error naming `what` when the data does not start
/// with 1f 8b, is damaged, ends early, goes on behind its end, or unpacks to more than `limit`
/// bytes.
ByteVector gunzip(ByteSpan data, const std::string& what, int64_t limit = default_size_limit);

/// Reads a whole file and unpacks it when it is named *.gz or starts like gzip data. A file named
/// *.gz that is not gzip data is an error.
ByteVector read_maybe_gzip(const std::string& path, int64_t limit = default_size_limit);

/// Unpacks the regular files of a .tar.gz (ustar, POSIX.1-1988) below `folder`, streaming. Names
/// that are absolute or contain "..", links and devices are refused before anything is written for
/// them. Each file is written atomically. Returns the names, as they stand in the archive.
std::vector<std::string> unpack_tar_gz(const std::string& path, const std::string& folder,
                                       int64_t limit = default_size_limit);

}  // namespace wattle::io
