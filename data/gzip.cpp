#include "data/gzip.h"

#include <zlib.h>

#include <algorithm>

#include "core/error.h"

namespace wattle::io {
namespace {

struct Inflater {
  z_stream z{};
  explicit Inflater(const std::string& what) {
    // 15 bits of window; + 16 expects a gzip header and checks CRC-32 and length.
    if (inflateInit2(&z, 15 + 16) != Z_OK) throw io_error(str(what, ": zlib cannot start"));
  }
  ~Inflater() { inflateEnd(&z); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

bool starts_like_gzip(ByteSpan data) {
  return data.size() >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

[[noreturn]] void not_gzip(ByteSpan data, const std::string& what) {
  throw io_error(str(what, ": found ", hex(data.first(std::min<size_t>(data.size(), 4))),
                     " at the start, expected gzip data (1f 8b)"));
}

// Inflates up to the end of the member that z stands in. zlib counts in 32 bits, so input and
// output are handed over in pieces.
void inflate_member(z_stream& z, ByteSpan& data, ByteVector& out, const std::string& what,
                    int64_t limit) {
  constexpr size_t piece = size_t{1} << 16;
  ByteVector buffer(piece);
  for (int state = Z_OK; state != Z_STREAM_END;) {
    const size_t given = std::min(data.size(), piece);
    z.next_in = const_cast<Bytef*>(data.data());
    z.avail_in = static_cast<uInt>(given);
    z.next_out = buffer.data();
    z.avail_out = static_cast<uInt>(buffer.size());
    state = inflate(&z, Z_NO_FLUSH);
    data = data.subspan(given - z.avail_in);
    const size_t got = buffer.size() - z.avail_out;
    if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
      throw io_error(str(what, ": damaged gzip data: ", z.msg ? z.msg : zError(state)));
    if (static_cast<int64_t>(out.size() + got) > limit)
      throw io_error(str(what, ": unpacks to more than ", limit, " bytes"));
    out.insert(out.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(got));
    if (state != Z_STREAM_END && got == 0 && data.empty())
      throw io_error(str(what, ": truncated: the gzip data ends after ",
                         static_cast<int64_t>(out.size()), " unpacked bytes"));
  }
}

}  // namespace

ByteVector gunzip(ByteSpan data, const std::string& what, int64_t limit) {
  if (!starts_like_gzip(data)) not_gzip(data, what);
  Inflater inflater(what);
  ByteVector out;
  while (starts_like_gzip(data)) {
    inflate_member(inflater.z, data, out, what, limit);
    inflateReset(&inflater.z);
  }
  // Tape blocks are padded with zeros; anything else does not belong there.
  if (std::any_of(data.begin(), data.end(), [](uint8_t b) { return b != 0; }))
    throw io_error(str(what, ": found ", static_cast<int64_t>(data.size()),
                       " bytes behind the end of the gzip data, expected none"));
  return out;
}

ByteVector read_maybe_gzip(const std::string& path, int64_t limit) {
  ByteVector bytes = read_file(path, limit);
  if (path.ends_with(".gz") || starts_like_gzip(bytes)) return gunzip(bytes, path, limit);
  return bytes;
}

}  // namespace wattle::io
