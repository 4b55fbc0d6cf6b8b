#include "data/npy.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/codec.h"
#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::io {
namespace {

constexpr std::string_view magic = "\x93NUMPY";
// NumPy itself refuses to parse headers above 10,000 characters unless told that a file is trusted.
constexpr int64_t header_limit = 10000;

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// The header is a Python dict literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
// This reads that form and no other Python.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& what) : s_(text), what_(what) {}

  Header parse() {
    Header h;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !descr) descr = true, h.descr = descr_text();
      else if (key == "fortran_order" && !order) order = true, h.fortran_order = boolean();
      else if (key == "shape" && !shape) shape = true, h.shape = tuple();
      else fail(str("the key '", key, "'"), "descr, fortran_order and shape, each once");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != s_.size()) fail(rest(), "nothing behind the closing brace");
    if (!descr || !order || !shape) fail("a key too few", "descr, fortran_order and shape");
    return h;
  }

 private:
  [[noreturn]] void fail(const std::string& found, std::string_view expected) const {
    throw io_error(str(what_, ": npy header: found ", found, ", expected ", expected));
  }
  std::string rest() const {
    return at_ < s_.size() ? str("'", s_.substr(at_, 20), "'") : "the end of the header";
  }
  void skip_space() {
    while (at_ < s_.size() && (s_[at_] == ' ' || s_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ == s_.size() || s_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(rest(), str("'", c, "'"));
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (!s_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  std::string quoted() {
    skip_space();
    const char quote = at_ < s_.size() ? s_[at_] : ' ';
    const size_t end = quote == '\'' || quote == '"' ? s_.find(quote, at_ + 1) : s_.npos;
    if (end == s_.npos) fail(rest(), "a quoted text");
    const std::string text(s_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return text;
  }
  std::string descr_text() {
    skip_space();
    if (at_ < s_.size() && s_[at_] == '[') fail("a structured dtype", "a plain one such as '<f4'");
    return quoted();
  }
  bool boolean() {
    if (accept_word("True")) return true;
    if (!accept_word("False")) fail(rest(), "True or False");
    return false;
  }
  int64_t size() {
    skip_space();
    int64_t v = 0;
    const size_t begin = at_;
    for (; at_ < s_.size() && s_[at_] >= '0' && s_[at_] <= '9'; ++at_)
      if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s_[at_] - '0', &v))
        fail("a size beyond 64 bits", "a smaller one");
    if (at_ == begin) fail(rest(), "a size");
    return v;
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> v;
    expect('(');
    while (!accept(')')) {
      v.push_back(size());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return v;
  }

  std::string_view s_;
  const std::string& what_;
  size_t at_ = 0;
};

DType dtype_of_descr(const std::string& descr, const std::string& what) {
  if (!descr.empty() && descr[0] == '>')
    throw io_error(str(what, ": found the big-endian dtype '", descr,
                       "', expected little-endian data; convert it with a.astype('<",
                       descr.substr(1), "')"));
  std::string known;
  for (DType t :
       {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8, DType::i8, DType::boolean}) {
    const std::string_view npy = info(t).npy;
    // Single bytes have no order; NumPy writes '|', and reads any of these.
    const bool same = descr == npy ||
                      (npy[0] == '|' && descr.size() == 3 && (descr[0] == '<' || descr[0] == '=') &&
                       std::string_view(descr).substr(1) == npy.substr(1));
    if (same) return t;
    known += str(known.empty() ? "" : ", ", npy);
  }
  if (descr == "<u2" || descr == "<u4")
    throw io_error(str(what, ": found '", descr,
                       "', codes of a number format; say of which one (posit16, fp16, ...)"));
  throw io_error(str(what, ": found dtype '", descr, "', expected one of ", known));
}

// How NumPy sees codes: unsigned integers as wide as a code, or bytes where several share one.
std::string_view descr_of_codes(DType t) {
  const DTypeInfo& d = info(t);
  return d.block > 1 || d.bytes == 1 ? "|u1" : d.bytes == 2 ? "<u2" : "<u4";
}

// Shape of the numbers whose codes are an array of `shape`: whole blocks, where they are packed.
Shape shape_of_codes(Shape shape, DType t, const std::string& what) {
  const DTypeInfo& d = info(t);
  if (d.block == 1) return shape;
  if (shape.empty() || shape.back() % d.bytes != 0)
    throw io_error(str(what, ": found ", shape.empty() ? 0 : shape.back(), " bytes in a row of ",
                       d.name, ", expected a multiple of ", d.bytes, " (", d.block, " numbers)"));
  shape[shape.rank() - 1] = shape.back() / d.bytes * d.block;
  return shape;
}

// The header's text and where the data starts.
struct Preamble {
  std::string_view text;
  size_t data_at;
};

Preamble read_preamble(ByteSpan b, const std::string& what) {
  const std::string_view all(reinterpret_cast<const char*>(b.data()), b.size());
  if (!all.starts_with(magic))
    throw io_error(str(what, ": found ", hex(b.first(std::min<size_t>(b.size(), 6))),
                       " at the start, expected an npy file (93 4e 55 4d 50 59)"));
  const auto truncated = [&] {
    return io_error(str(what, ": truncated: found ", b.size(), " bytes, which end in the header"));
  };
  if (b.size() < 8) throw truncated();
  const int major = b[6], minor = b[7];
  if ((major != 1 && major != 2) || minor != 0)
    throw io_error(str(what, ": found npy version ", major, ".", minor, ", expected 1.0 or 2.0"));
  const size_t start = major == 1 ? 10 : 12;
  if (b.size() < start) throw truncated();
  int64_t length = b[8] | b[9] << 8;
  if (major == 2) length |= int64_t{b[10]} << 16 | int64_t{b[11]} << 24;
  if (length > header_limit)
    throw io_error(
        str(what, ": found an npy header of ", length, " bytes, expected at most ", header_limit));
  if (b.size() - start < static_cast<size_t>(length)) throw truncated();
  return {all.substr(start, static_cast<size_t>(length)), start + static_cast<size_t>(length)};
}

Header parse_header(std::string_view text, const std::string& what) {
  Header h = HeaderParser(text, what).parse();
  if (h.shape.size() > Shape::max_rank)
    throw io_error(
        str(what, ": found ", h.shape.size(), " dimensions, expected at most ", Shape::max_rank));
  return h;
}

// Column-major strides describe the data as it stands; packing it gives row-major order.
Tensor from_fortran(const Tensor& as_stored, const Shape& shape) {
  Shape strides = shape;
  int64_t step = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    strides[i] = step;
    step *= shape[i];
  }
  ByteVector scratch;
  const Tensor view = as_stored.alias(shape, strides, 0);
  const Tensor t = Tensor::empty(shape, as_stored.dtype());
  const ByteSpan packed = row_major_bytes(view, scratch);
  if (!packed.empty()) std::memcpy(t.raw(), packed.data(), packed.size());
  return t;
}

}  // namespace

Tensor parse_npy(ByteSpan bytes, const std::string& what, std::optional<DType> codes) {
  const Preamble p = read_preamble(bytes, what);
  const Header h = parse_header(p.text, what);
  if (codes && h.descr != descr_of_codes(*codes))
    throw io_error(str(what, ": found dtype '", h.descr, "', expected '", descr_of_codes(*codes),
                       "', codes of ", name(*codes)));
  if (codes && h.fortran_order && info(*codes).block > 1)
    throw io_error(str(what, ": found column-major order, expected rows of ", name(*codes)));
  const DType dtype = codes ? *codes : dtype_of_descr(h.descr, what);
  const ByteSpan data = bytes.subspan(p.data_at);
  const int64_t width = info(dtype).block > 1 ? 1 : info(dtype).bytes;
  const int64_t expected = checked_size(h.shape, width);
  if (expected != static_cast<int64_t>(data.size()))
    throw io_error(str(what,
                       expected < 0 || data.size() < static_cast<uint64_t>(expected)
                           ? ": truncated: found "
                           : ": oversized: found ",
                       data.size(), " bytes of data, expected ",
                       expected < 0 ? "more than 2^62" : std::to_string(expected), " for ",
                       name(dtype), " ", Shape(h.shape)));
  const Shape shape = codes ? shape_of_codes(h.shape, *codes, what) : Shape(h.shape);
  const Tensor t = tensor_from_bytes(data, shape, dtype, what);
  return h.fortran_order && shape.rank() > 1 ? from_fortran(t, shape) : t;
}

Tensor read_npy(const std::string& path, std::optional<DType> codes) {
  return parse_npy(read_file(path), path, codes);
}

std::string npy_header(const Tensor& t) {
  const DTypeInfo& d = info(t.dtype());
  if (d.npy.empty() && !d.coded)
    throw dtype_error(str("write_npy: found ", t, ", expected a dtype that NumPy has"));
  std::string shape;
  for (int i = 0; i < t.rank(); ++i)
    shape += str(i ? ", " : "",
                 d.block > 1 && i == t.rank() - 1 ? code_bytes(d.id, t.size(i)) : t.size(i));
  if (t.rank() == 0 && d.block > 1) shape = std::to_string(d.bytes) + ",";
  if (t.rank() == 1) shape += ",";
  std::string dict = str("{'descr': '", d.coded ? descr_of_codes(d.id) : d.npy,
                         "', 'fortran_order': False, 'shape': (", shape, "), }");
  // NumPy leaves room for the first size to grow to 21 digits without moving the data, then fills
  // up to a multiple of 64 bytes so that the data is aligned when the file is mapped.
  if (t.rank() > 0) dict.append(21 - std::to_string(t.size(0)).size(), ' ');
  dict.append(64 - (magic.size() + 4 + dict.size() + 1) % 64, ' ');
  dict += '\n';
  std::string out(magic);
  out +=
      {'\x01', '\x00', static_cast<char>(dict.size() & 255), static_cast<char>(dict.size() >> 8)};
  return out + dict;
}

void write_npy(const std::string& path, const Tensor& t) {
  const std::string header = npy_header(t);
  ByteVector scratch;
  const ByteSpan data = row_major_bytes(t, scratch);
  AtomicFile file(path);
  file.write(header);
  file.write(data);
  file.commit();
}

}  // namespace wattle::io
