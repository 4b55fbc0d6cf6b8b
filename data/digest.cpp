// file_digest, by OpenSSL's libcrypto.
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "data/bytes.h"
#include "data/download.h"

namespace wattle::data {
namespace {

using Context = std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)>;

Context start(const std::string& what, const char* kind) {
  Context ctx(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const EVP_MD* md = EVP_get_digestbyname(kind);
  if (!ctx || !md || EVP_DigestInit_ex(ctx.get(), md, nullptr) != 1)
    throw io_error(str(what, ": this OpenSSL computes no ", kind, " checksums"));
  return ctx;
}

std::string finish(const Context& ctx) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  EVP_DigestFinal_ex(ctx.get(), out, &n);
  std::string s = io::hex(io::ByteSpan(out, n));
  std::erase(s, ' ');
  return s;
}

}  // namespace

std::string digest_of(io::ByteSpan bytes, const char* kind) {
  const Context ctx = start("digest", kind);
  EVP_DigestUpdate(ctx.get(), bytes.data(), bytes.size());
  return finish(ctx);
}

std::string file_digest(const std::string& path, const char* kind) {
  const Context ctx = start(path, kind);
  const io::InputFile in(path);
  io::ByteVector buffer(1 << 20);
  for (int64_t at = 0; at < in.size();) {
    const int64_t n = std::min<int64_t>(in.size() - at, static_cast<int64_t>(buffer.size()));
    in.read(buffer.data(), n, at);
    EVP_DigestUpdate(ctx.get(), buffer.data(), static_cast<size_t>(n));
    at += n;
  }
  return finish(ctx);
}

}  // namespace wattle::data
