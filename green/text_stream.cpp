#include "green/text_stream.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "data/bytes.h"
#include "data/download.h"

namespace wattle::green {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kBlock = 4096, kHeldOut = 20;

// Regular files below a folder (or the file itself) that end in one of `endings` (none = all).
std::vector<std::string> files_below(const std::string& root,
                                     const std::vector<std::string>& endings) {
  std::vector<std::string> out;
  if (fs::is_regular_file(root)) return {root};
  for (const auto& e :
       fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied)) {
    const std::string path = e.path().string();
    const bool wanted =
        endings.empty() || std::any_of(endings.begin(), endings.end(),
                                       [&](const std::string& x) { return path.ends_with(x); });
    if (wanted && e.is_regular_file()) out.push_back(path);
  }
  std::sort(out.begin(), out.end());
  return out;
}

void append(const std::string& path, int64_t limit, std::vector<uint8_t>& to) {
  const auto bytes = io::read_file(path);
  const int64_t room = limit - static_cast<int64_t>(to.size());
  const int64_t n = std::min<int64_t>(room, static_cast<int64_t>(bytes.size()));
  const auto* const p = reinterpret_cast<const uint8_t*>(bytes.data());
  if (n > 0) to.insert(to.end(), p, p + n);
}

// The newest folder `parent`/`prefix`*.
std::string newest(const std::string& parent, const std::string& prefix) {
  std::string best;
  if (!fs::is_directory(parent)) return best;
  for (const auto& e : fs::directory_iterator(parent)) {
    const std::string name = e.path().filename().string();
    if (name.starts_with(prefix) && e.is_directory() && name.size() > prefix.size() &&
        (best.empty() ||
         std::pair(name.size(), name) > std::pair(fs::path(best).filename().string().size(),
                                                  fs::path(best).filename().string())))
      best = e.path().string();
  }
  return best;
}

struct Source {
  std::string root, origin;
  std::vector<std::string> endings;
};

Source resolve(const std::string& name) {
  if (name == "kjv") {
    const char* const dir = std::getenv("WATTLE_TEXT_DIR");
    const std::string path = std::string(dir ? dir : ".") + "/kjv.txt";
    if (!fs::is_regular_file(path))
      throw io_error(str("text kjv: ", path,
                         " is not there; make it with: bible -f gen1:1-rev22:21 > ", path,
                         " (Debian package bible-kjv)"));
    return {path, "King James Bible, Debian's bible-kjv", {}};
  }
  if (name == "python") {
    const std::string root = newest("/usr/lib", "python3.");
    if (root.empty())
      throw io_error("text python: no /usr/lib/python3.* (Debian package libpython3-stdlib)");
    return {root, root + ", *.py", {".py"}};
  }
  if (name == "c++") {
    const std::string root = newest("/usr/include/c++", "");
    if (root.empty())
      throw io_error("text c++: no /usr/include/c++/* (Debian package libstdc++-12-dev)");
    return {root, root, {}};
  }
  if (!fs::exists(name))
    throw io_error(str("text: found '", name, "', expected kjv, python, c++, a file or a folder"));
  return {name, name, {}};
}

}  // namespace

TextStream make_text_stream(const std::vector<std::string>& sources, int64_t limit) {
  TextStream s;
  for (const std::string& name : sources) {
    const Source source = resolve(name);
    std::vector<uint8_t> text;
    for (const std::string& file : files_below(source.root, source.endings)) {
      if (static_cast<int64_t>(text.size()) >= limit) break;
      append(file, limit, text);
    }
    s.domains.push_back({name, source.origin, static_cast<int64_t>(text.size())});
    for (size_t block = 0; block * kBlock < text.size(); ++block) {
      const auto begin = text.begin() + static_cast<int64_t>(block) * kBlock;
      const auto end = std::min(begin + kBlock, text.end());
      std::vector<uint8_t>& to = block % kHeldOut == kHeldOut - 1 ? s.validation : s.train;
      to.insert(to.end(), begin, end);
    }
  }
  if (s.train.size() < 10 * kBlock || s.validation.size() < kBlock / 2)
    throw value_error(str("text: found ", static_cast<int64_t>(s.train.size()),
                          " bytes to train on and ", static_cast<int64_t>(s.validation.size()),
                          " to validate, expected at least ", 10 * kBlock, " and ", kBlock / 2));
  std::vector<uint8_t> all = s.train;
  all.insert(all.end(), s.validation.begin(), s.validation.end());
  s.sha256 = data::digest_of(io::ByteSpan(all.data(), all.size()), "sha256");
  return s;
}

namespace {
TextBatch windows(const std::vector<uint8_t>& text, int64_t batch, int64_t length, auto&& start) {
  TextBatch b{Tensor::empty({batch, length}, DType::i64),
              Tensor::empty({batch, length}, DType::i64)};
  for (int64_t i = 0; i < batch; ++i) {
    const uint8_t* const p = text.data() + start(i);
    for (int64_t t = 0; t < length; ++t) {
      b.tokens.data<int64_t>()[i * length + t] = p[t];
      b.targets.data<int64_t>()[i * length + t] = p[t + 1];
    }
  }
  return b;
}
}  // namespace

TextBatch random_windows(const std::vector<uint8_t>& text, int64_t batch, int64_t length,
                         uint64_t seed, int64_t step) {
  const int64_t places = static_cast<int64_t>(text.size()) - length;
  if (places < 1)
    throw value_error(str("text: found ", static_cast<int64_t>(text.size()),
                          " bytes, expected more than ", length));
  return windows(text, batch, length, [&](int64_t i) {
    return below_at(seed, static_cast<uint64_t>(step * batch + i), static_cast<uint64_t>(places));
  });
}

TextBatch windows_in_order(const std::vector<uint8_t>& text, int64_t first, int64_t batch,
                           int64_t length) {
  if ((first + batch) * length + 1 > static_cast<int64_t>(text.size()))
    throw value_error(str("text: window ", first + batch - 1, " ends past the text"));
  return windows(text, batch, length, [&](int64_t i) { return (first + i) * length; });
}

}  // namespace wattle::green
