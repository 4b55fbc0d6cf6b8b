#include "data/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/attr.h"
#include "core/codec.h"
#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::io {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t header_limit = 100'000'000;  // the format's own limit
constexpr const char* metadata_key = "__metadata__";

// Widest first: the order in which the Python package lays tensors out.
struct TypeName {
  DType dtype;
  const char* name;
};
constexpr TypeName type_names[] = {{DType::i64, "I64"},
                                   {DType::f64, "F64"},
                                   {DType::f32, "F32"},
                                   {DType::i32, "I32"},
                                   {DType::bf16, "BF16"},
                                   {DType::fp16, "F16"},
                                   {DType::fp8_e4m3, "F8_E4M3"},
                                   {DType::fp8_e5m2, "F8_E5M2"},
                                   {DType::i8, "I8"},
                                   {DType::u8, "U8"},
                                   {DType::boolean, "BOOL"}};
constexpr const char* known_names = "F64, F32, I64, I32, BF16, F16, F8_E4M3, F8_E5M2, I8, U8, BOOL";

// Codes of a type that the format has no name for (posits, MX, ...) are bytes in it, rows of bytes
// where they are packed, and the metadata say of which type and shape: "posit8 3,5".
constexpr std::string_view codes_key = "wattle.codes.";
bool has_name(DType t) {
  for (const TypeName& n : type_names)
    if (n.dtype == t) return true;
  return false;
}

int rank_of(DType t) {
  if (!has_name(t) && is_coded(t)) t = DType::u8;
  int i = 0;
  for (const TypeName& n : type_names) {
    if (n.dtype == t) return i;
    ++i;
  }
  throw dtype_error(str("safetensors: found dtype ", name(t), ", expected one of ", known_names));
}

// How a tensor stands in the header.
std::vector<int64_t> stored_shape(const Tensor& t) {
  std::vector<int64_t> shape(t.shape().begin(), t.shape().end());
  if (has_name(t.dtype())) return shape;
  if (shape.empty()) return {t.nbytes()};
  shape.back() = code_bytes(t.dtype(), shape.back());
  return shape;
}

// Turns bytes back into the codes that they are; what the metadata say has to fit them.
void restore_codes(SafetensorsFile& f) {
  for (auto it = f.metadata.begin(); it != f.metadata.end();) {
    if (!it->first.starts_with(codes_key)) {
      ++it;
      continue;
    }
    const std::string tensor = it->first.substr(codes_key.size()), text = it->second;
    const size_t space = text.find(' ');
    const auto fail = [&](const std::string& what) {
      throw io_error(str(f.path, ": metadata '", it->first, "' is '", text, "': ", what));
    };
    if (space == text.npos) fail("expected a dtype and a shape");
    DType dtype = DType::u8;
    Shape shape;
    try {
      dtype = dtype_from_name(text.substr(0, space));
      attr::parse({"safetensors", "shape"}, text.substr(space + 1), shape);
    } catch (const error& e) { fail(e.what()); }
    if (!is_coded(dtype)) fail("expected a type of codes");
    for (auto& [name, t] : f.tensors) {
      if (name != tensor) continue;
      if (t.dtype() != DType::u8 || checked_size({shape.begin(), shape.end()}, 1) < 0 ||
          storage_bytes(shape, dtype) != t.nbytes())
        fail(str("does not fit the tensor ", t));
      const Tensor codes = Tensor::empty(shape, dtype);
      if (t.nbytes() > 0) std::memcpy(codes.raw(), t.raw(), static_cast<size_t>(t.nbytes()));
      t = codes;
    }
    it = f.metadata.erase(it);
  }
}

struct Entry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  int64_t begin = 0, end = 0;
};

struct Header {
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
};

// Turns the JSON text into entries. `bytes_of_data` is what follows the header.
class HeaderParser {
 public:
  HeaderParser(const std::string& what, int64_t bytes_of_data)
      : what_(what), data_(bytes_of_data) {}

  Header parse(std::string_view text) {
    const json j = parse_json(text);
    if (!j.is_object()) fail(str("found ", j.type_name(), " as the header, expected an object"));
    Header h;
    for (const auto& [key, value] : j.items()) {
      if (key == metadata_key) h.metadata = metadata(value);
      else h.entries.push_back(entry(key, value));
    }
    check_layout(h.entries);
    return h;
  }

 private:
  [[noreturn]] void fail(const std::string& text) const { throw io_error(str(what_, ": ", text)); }

  // JSON lets later keys replace earlier ones, so doubled keys are looked for while parsing. Deeper
  // nesting than the format has is refused at once: it would only cost memory.
  json parse_json(std::string_view text) const {
    std::vector<std::set<std::string>> open;
    const auto watch = [&](int depth, json::parse_event_t event, json& value) {
      if (depth > 3) fail("found JSON nested deeper than 3 levels in the header");
      if (event == json::parse_event_t::object_start) open.emplace_back();
      if (event == json::parse_event_t::object_end) open.pop_back();
      if (event == json::parse_event_t::key) {
        const std::string& key = value.get_ref<const std::string&>();
        if (!open.back().insert(key).second) fail(str("the key '", key, "' stands there twice"));
      }
      return true;
    };
    try {
      return json::parse(text.begin(), text.end(), watch);
    } catch (const json::exception& e) { fail(str("the header is not JSON: ", e.what())); }
  }

  std::map<std::string, std::string> metadata(const json& j) const {
    std::map<std::string, std::string> m;
    if (!j.is_object()) fail(str("__metadata__ is ", j.type_name(), ", expected an object"));
    for (const auto& [key, value] : j.items()) {
      if (!value.is_string())
        fail(str("__metadata__ '", key, "' is ", value.type_name(), ", expected a string"));
      m[key] = value.get<std::string>();
    }
    return m;
  }

  std::vector<int64_t> integers(const std::string& name, const char* key, const json& j) const {
    if (!j.is_array()) fail(str("'", name, "': ", key, " is ", j.type_name(), ", expected a list"));
    std::vector<int64_t> v;
    for (const json& e : j) {
      if (!e.is_number_unsigned() || e.get<uint64_t>() > uint64_t{1} << 62)
        fail(str("'", name, "': found ", e.dump(-1, ' ', false, json::error_handler_t::replace),
                 " in ", key, ", expected an integer from 0 to 2^62"));
      v.push_back(static_cast<int64_t>(e.get<uint64_t>()));
    }
    return v;
  }

  DType dtype(const std::string& name, const json& j) const {
    const std::string found = j.is_string() ? j.get<std::string>() : j.type_name();
    for (const TypeName& t : type_names)
      if (found == t.name) return t.dtype;
    fail(str("'", name, "': found dtype ", found, ", expected one of ", known_names));
  }

  Entry entry(const std::string& name, const json& j) const {
    if (!j.is_object()) fail(str("'", name, "' is ", j.type_name(), ", expected an object"));
    for (const char* key : {"dtype", "shape", "data_offsets"})
      if (!j.contains(key)) fail(str("'", name, "': ", key, " is missing"));
    if (j.size() != 3)
      fail(str("'", name, "': found ", j.size(), " keys, expected dtype, shape and data_offsets"));
    const DType type = dtype(name, j["dtype"]);
    const std::vector<int64_t> sizes = integers(name, "shape", j["shape"]);
    const std::vector<int64_t> range = integers(name, "data_offsets", j["data_offsets"]);
    if (sizes.size() > Shape::max_rank)
      fail(str("'", name, "': found ", sizes.size(), " dimensions, expected at most ",
               Shape::max_rank));
    if (range.size() != 2)
      fail(str("'", name, "': found ", range.size(), " data_offsets, expected 2"));
    const Entry e{name, type, Shape(sizes), range[0], range[1]};
    if (e.begin > e.end || e.end > data_)
      // offsets in order that end beyond the file: its tail is missing, or they are made up
      fail(str(e.begin <= e.end && e.begin <= data_ ? "truncated, or wrong offsets: " : "") +
           str("'", name, "': found data_offsets [", e.begin, ", ", e.end,
               "], expected them in order and within the ", data_, " bytes of data"));
    const int64_t expected = checked_size(sizes, info(type).bytes);
    if (expected != e.end - e.begin)
      fail(str("'", name, "': data_offsets span ", e.end - e.begin, " bytes, expected ",
               expected < 0 ? "more than 2^62" : std::to_string(expected), " for ",
               Meta{e.shape, type}));
    return e;
  }

  void check_layout(std::vector<Entry>& entries) const {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    int64_t at = 0;
    const Entry* before = nullptr;
    for (const Entry& e : entries) {
      if (e.begin < at)
        fail(str("'", e.name, "' starts at ", e.begin, " and overlaps '", before->name,
                 "', which ends at ", at));
      if (e.begin > at)
        fail(str("'", e.name, "' starts at ", e.begin, ", expected ", at, ": a hole in the data"));
      at = e.end;
      before = &e;
    }
    if (at != data_)
      fail(str("oversized: found ", data_, " bytes of data, expected ", at, " by the header"));
  }

  const std::string& what_;
  int64_t data_;
};

// Length of the JSON text, checked against the size of the whole file.
int64_t header_length(const uint8_t* first8, int64_t file_size, const std::string& what) {
  uint64_t n = 0;
  for (int i = 7; i >= 0; --i) n = n << 8 | first8[i];
  if (n > static_cast<uint64_t>(header_limit))
    throw io_error(str(what, ": found a header of ", n, " bytes, expected at most ", header_limit));
  if (static_cast<int64_t>(n) > file_size - 8)
    throw io_error(str(what, ": truncated: found ", file_size, " bytes, expected at least ", n + 8,
                       " for the header"));
  return static_cast<int64_t>(n);
}

void check_first8(int64_t file_size, const std::string& what) {
  if (file_size < 8)
    throw io_error(str(what, ": truncated: found ", file_size,
                       " bytes, expected at least 8 for the header's length"));
}

// Tensors in the order of the file, without their data_offsets.
std::vector<const std::pair<std::string, Tensor>*> layout(const SafetensorsFile& f) {
  std::vector<const std::pair<std::string, Tensor>*> order;
  for (const auto& t : f.tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const int x = rank_of(a->second.dtype()), y = rank_of(b->second.dtype());
    return x != y ? x < y : a->first < b->first;
  });
  return order;
}

// Length and JSON text; padded with spaces so that the data starts at a multiple of 8.
std::string header_bytes(const SafetensorsFile& f) {
  ordered_json j = ordered_json::object();
  std::map<std::string, std::string> metadata = f.metadata;
  for (const auto& [name, t] : f.tensors)
    if (!has_name(t.dtype()))
      metadata[std::string(codes_key) + name] =
          str(wattle::name(t.dtype()), " ", attr::text(t.shape()));
  if (!metadata.empty()) j[metadata_key] = metadata;
  int64_t at = 0;
  for (const auto* entry : layout(f)) {
    const Tensor& t = entry->second;
    const std::vector<int64_t> shape = stored_shape(t);
    const int64_t end = at + t.nbytes();
    j[entry->first] = ordered_json{{"dtype", type_names[rank_of(t.dtype())].name},
                                   {"shape", shape},
                                   {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text;
  try {
    text = j.dump();
  } catch (const json::exception& e) {
    throw value_error(str("safetensors: a name or metadata text is not UTF-8: ", e.what()));
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  if (static_cast<int64_t>(text.size()) > header_limit)
    throw value_error(str("safetensors: the header takes ", text.size(),
                          " bytes, expected at most ", header_limit));
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(text.size() >> (8 * i) & 255);
  return out + text;
}

template <class Sink>
void serialize(const SafetensorsFile& f, Sink&& sink) {
  const std::string header = header_bytes(f);
  sink(ByteSpan(reinterpret_cast<const uint8_t*>(header.data()), header.size()));
  for (const auto* entry : layout(f)) {
    ByteVector scratch;
    sink(row_major_bytes(entry->second, scratch));
  }
}

std::string tensor_what(const std::string& what, const Entry& e) {
  return str(what, ": '", e.name, "'");
}

}  // namespace

Tensor SafetensorsFile::find(const std::string& name) const {
  for (const auto& [n, t] : tensors)
    if (n == name) return t;
  return {};
}

const Tensor& SafetensorsFile::at(const std::string& name) const {
  std::string known;
  for (const auto& [n, t] : tensors) {
    if (n == name) return t;
    if (known.size() < 300) known += str(known.empty() ? "" : ", ", n);
    else if (!known.ends_with("...")) known += ", ...";
  }
  throw io_error(
      str(path, ": found no tensor '", name, "'; it holds ", known.empty() ? "none" : known));
}

const std::string& SafetensorsFile::text(const std::string& key) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) throw io_error(str(path, ": found no metadata '", key, "'"));
  return it->second;
}

void SafetensorsFile::add(const std::string& name, const Tensor& t) {
  if (name == metadata_key)
    throw value_error(str("safetensors: the name '", name, "' is reserved"));
  if (!t) throw value_error(str("safetensors: '", name, "' is an undefined tensor"));
  if (find(name)) throw value_error(str("safetensors: the name '", name, "' is given twice"));
  rank_of(t.dtype());
  tensors.emplace_back(name, t.to(cpu));
}

SafetensorsFile parse_safetensors(ByteSpan bytes, const std::string& what) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  check_first8(size, what);
  const int64_t n = header_length(bytes.data(), size, what);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8,
                              static_cast<size_t>(n));
  Header h = HeaderParser(what, size - 8 - n).parse(text);
  SafetensorsFile f{what, {}, std::move(h.metadata)};
  for (const Entry& e : h.entries) {
    const ByteSpan data =
        bytes.subspan(static_cast<size_t>(8 + n + e.begin), static_cast<size_t>(e.end - e.begin));
    f.tensors.emplace_back(e.name, tensor_from_bytes(data, e.shape, e.dtype, tensor_what(what, e)));
  }
  restore_codes(f);
  return f;
}

SafetensorsFile read_safetensors(const std::string& path) {
  const InputFile in(path);
  check_first8(in.size(), path);
  uint8_t first8[8];
  in.read(first8, 8, 0);
  const int64_t n = header_length(first8, in.size(), path);
  std::string text(static_cast<size_t>(n), '\0');
  in.read(text.data(), n, 8);
  Header h = HeaderParser(path, in.size() - 8 - n).parse(text);
  SafetensorsFile f{path, {}, std::move(h.metadata)};
  for (const Entry& e : h.entries) {
    const Tensor t = Tensor::empty(e.shape, e.dtype);
    in.read(t.raw(), e.end - e.begin, 8 + n + e.begin);
    check_bools(t, tensor_what(path, e));
    f.tensors.emplace_back(e.name, t);
  }
  restore_codes(f);
  return f;
}

void write_safetensors(const std::string& path, const SafetensorsFile& file) {
  AtomicFile out(path);
  serialize(file, [&](ByteSpan bytes) { out.write(bytes); });
  out.commit();
}

ByteVector safetensors_bytes(const SafetensorsFile& file) {
  ByteVector out;
  serialize(file, [&](ByteSpan bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); });
  return out;
}

}  // namespace wattle::io
