// npy, safetensors and atomic files: what is read, what is written, and what is refused with which
// words.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "data/atomic_file.h"
#include "data/npy.h"
#include "data/safetensors.h"
#include "data_files.h"
#include "ops/ops.h"

namespace wattle {
namespace {

TEST(Safetensors, CodesComeBackAsTheyWere) {
  io::SafetensorsFile f;
  std::vector<float> v(3 * 33);
  for (size_t i = 0; i < v.size(); ++i) v[i] = 0.37f * static_cast<float>(i) - 9;
  const Tensor x = Tensor::from(v, {3, 33});
  for (DType t : all_dtypes())
    if (is_coded(t) && t != DType::e8m0) f.add(std::string(name(t)), cast(x, t));
  f.add("i8", cast(x, DType::i8));
  const auto bytes = io::safetensors_bytes(f);
  const io::SafetensorsFile back = io::parse_safetensors(bytes, "codes");
  EXPECT_TRUE(back.metadata.empty());
  for (const auto& [key, t] : f.tensors) {
    const Tensor& b = back.at(key);
    ASSERT_EQ(b.dtype(), t.dtype()) << key;
    ASSERT_EQ(b.shape(), t.shape()) << key;
    EXPECT_EQ(b.values<double>(), t.values<double>()) << key;
  }
}

using namespace wattle::io;
using wattle::testing::expect_error;
using wattle::testing::Folder;
using wattle::testing::slurp;

ByteSpan span_of(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

std::string unhex(const std::string& h) {
  std::string s;
  for (size_t i = 0; i + 1 < h.size(); i += 2)
    s += static_cast<char>(std::stoi(h.substr(i, 2), nullptr, 16));
  return s;
}

std::string le(uint64_t v, int bytes) {
  std::string s;
  for (int i = 0; i < bytes; ++i) s += static_cast<char>(v >> (8 * i) & 255);
  return s;
}

std::vector<Tensor> one_of_each() {
  return {Tensor::from<float>({1, -2.5f, 3e38f, 0}, {2, 2}),
          Tensor::from<double>({1e-300, 2, 3}, {3}),
          Tensor::from<int64_t>({INT64_MIN, 5}, {1, 2, 1}),
          Tensor::from<int32_t>({-1}, {}),
          Tensor::from<uint8_t>({0, 255}, {2}),
          Tensor::from<bool>({true, false, true}, {3}),
          Tensor::empty({0, 4})};
}

void expect_same(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.str(), b.str());
  ByteVector x, y;
  const ByteSpan p = row_major_bytes(a, x), q = row_major_bytes(b, y);
  EXPECT_TRUE(std::equal(p.begin(), p.end(), q.begin(), q.end())) << a.str();
}

// ---- npy ----

std::string npy(const std::string& dict, const std::string& data, int major = 1) {
  return "\x93NUMPY" + le(static_cast<uint64_t>(major), 1) + le(0, 1) +
         le(dict.size(), major == 1 ? 2 : 4) + dict + data;
}
std::string dict(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}
Tensor parse(const std::string& s) { return parse_npy(span_of(s), "a.npy"); }

TEST(Npy, RoundTrip) {
  const Folder dir;
  for (const Tensor& t : one_of_each()) {
    write_npy(dir / "t.npy", t);
    expect_same(read_npy(dir / "t.npy"), t);
  }
  EXPECT_EQ(dir.count(), 1u);  // no temporary left
}

TEST(Npy, SameBytesAsNumpy) {
  // numpy.save of numpy.zeros((3, 4), '<f4'), numpy 2.4
  const std::string expected = "\x93NUMPY\x01" + std::string(1, '\0') + "v" + std::string(1, '\0') +
                               "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" +
                               std::string(58, ' ') + "\n";
  EXPECT_EQ(npy_header(Tensor::zeros({3, 4})), expected);
  EXPECT_EQ(npy_header(Tensor::zeros({}, DType::i32)).size(), 128u);
}

TEST(Npy, FortranOrderAndViews) {
  // numpy.asfortranarray(numpy.arange(6).reshape(2, 3)) holds 0 3 1 4 2 5.
  std::string data;
  for (int v : {0, 3, 1, 4, 2, 5}) data += le(static_cast<uint64_t>(v), 4);
  const Tensor t = parse(npy(dict("<i4", "True", "(2, 3)"), data));
  EXPECT_EQ(t.values<int>(), (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_TRUE(t.is_contiguous());
  const Folder dir;
  const Tensor transposed = t.alias({3, 2}, {1, 3}, 0);
  write_npy(dir / "v.npy", transposed);
  EXPECT_EQ(read_npy(dir / "v.npy").values<int>(), (std::vector<int>{0, 3, 1, 4, 2, 5}));
}

TEST(Npy, AcceptsVersion2AndOtherSpelling) {
  const std::string one = le(7, 8);
  EXPECT_EQ(parse(npy(dict("<i8", "False", "(1,)"), one, 2)).item(), 7);
  EXPECT_EQ(parse(npy("{\"shape\":(1),\"fortran_order\":False,\"descr\":\"<i8\"}", one)).item(), 7);
  EXPECT_EQ(parse(npy(dict("<u1", "False", "()"), "\x09")).item(), 9);
}

TEST(Npy, RefusesWithAMessage) {
  const auto refuse = [](const std::string& bytes, std::vector<std::string> parts) {
    parts.push_back("a.npy");
    expect_error<io_error>([&] { parse(bytes); }, parts);
  };
  const std::string four = "....";
  refuse("", {"found nothing", "expected an npy file"});
  refuse("PK\x03\x04 a zip file", {"found 50 4b 03 04", "93 4e 55 4d 50 59"});
  refuse("\x93NUMPY\x01", {"truncated: found 7 bytes"});
  refuse(npy(dict("<f4", "False", "(1,)"), four).substr(0, 9), {"truncated: found 9 bytes"});
  refuse(npy(dict("<f4", "False", "(1,)"), four).substr(0, 40), {"truncated: found 40 bytes"});
  refuse(npy(dict("<f4", "False", "(1,)"), four, 3), {"npy version 3.0", "expected 1.0 or 2.0"});
  refuse(npy(std::string(20000, ' '), "", 2), {"header of 20000 bytes", "at most 10000"});
  refuse(npy(dict(">f4", "False", "(1,)"), four), {"big-endian dtype '>f4'", "astype('<f4')"});
  refuse(npy(dict("<c8", "False", "(1,)"), four),
         {"dtype '<c8'", "<f4, <f8, <i8, <i4, |u1, |i1, |b1"});
  refuse(npy(dict("|O", "False", "(1,)"), four), {"dtype '|O'"});
  refuse(npy("{'descr': [('a', '<f4')], }", four), {"a structured dtype"});
  refuse(npy(dict("<f4", "Maybe", "(1,)"), four), {"found 'Maybe", "expected True or False"});
  refuse(npy(dict("<f4", "False", "(-1,)"), four), {"found '-1,)", "expected a size"});
  refuse(npy(dict("<f4", "False", "(99999999999999999999,)"), four), {"a size beyond 64 bits"});
  refuse(npy(dict("<f4", "False", "(1,1,1,1,1,1,1,1,1)"), four), {"9 dimensions", "at most 8"});
  refuse(npy("{'descr': '<f4', 'descr': '<f4', }", four), {"the key 'descr'", "each once"});
  refuse(npy("{'descr': '<f4', 'shape': (1,), }", four), {"a key too few"});
  refuse(npy("{'descr': '<f4", four), {"expected a quoted text"});
  refuse(npy(dict("<f4", "False", "(1,)") + "x", four), {"found 'x'", "nothing behind"});
  refuse(npy(dict("<f4", "False", "(2,)"), four),
         {"truncated: found 4 bytes of data, expected 8 for f32 [2]"});
  refuse(npy(dict("<f4", "False", "(1,)"), four + "."), {"oversized: found 5 bytes", "expected 4"});
  refuse(npy(dict("<f4", "False", "(4611686018427387904, 4)"), four), {"expected more than 2^62"});
  refuse(npy(dict("|b1", "False", "(2,)"), "\x01\x07"), {"found 7 as bool number 1"});
  expect_error<io_error>([] { read_npy("/nonexistent/a.npy"); },
                         {"/nonexistent/a.npy: cannot open: No such file"});
  expect_error<io_error>([] { read_npy("/tmp"); }, {"/tmp: found a folder"});
  const Folder dir;
  expect_error<dtype_error>([&] { write_npy(dir / "a", Tensor::zeros({1}, DType::counted)); },
                            {"write_npy", "counted [1]"});
  expect_error<device_error>([&] { write_npy(dir / "a", Tensor::empty({1}, DType::f32, meta)); },
                             {"f32 [1] on meta"});
  EXPECT_EQ(dir.count(), 0u);
}

// ---- safetensors ----

std::string st(const std::string& json, const std::string& data) {
  return le(json.size(), 8) + json + data;
}

// Made by the Python package safetensors 0.8.0 (numpy.save, metadata {'k': 'v "q"'}).
const char* const golden =
    "68010000000000007b225f5f6d657461646174615f5f223a7b226b223a2276205c22715c22227d2c2261223a7b2264"
    "74797065223a22493634222c227368617065223a5b315d2c22646174615f6f666673657473223a5b302c385d7d2c22"
    "64223a7b226474797065223a22463634222c227368617065223a5b302c325d2c22646174615f6f666673657473223a"
    "5b382c385d7d2c2262223a7b226474797065223a22463332222c227368617065223a5b322c335d2c22646174615f6f"
    "666673657473223a5b382c33325d7d2c2269223a7b226474797065223a22493332222c227368617065223a5b315d2c"
    "22646174615f6f666673657473223a5b33322c33365d7d2c2275223a7b226474797065223a225538222c2273686170"
    "65223a5b335d2c22646174615f6f666673657473223a5b33362c33395d7d2c227a223a7b226474797065223a22424f"
    "4f4c222c227368617065223a5b5d2c22646174615f6f666673657473223a5b33392c34305d7d7df9ffffffffffffff"
    "0000803f0000004000004040000080400000a0400000d040ffffff7f0102ff01";

TEST(Safetensors, ReadsAndWritesWhatPythonWrites) {
  const std::string bytes = unhex(golden);
  const SafetensorsFile f = parse_safetensors(span_of(bytes), "golden");
  EXPECT_EQ(f.text("k"), "v \"q\"");
  EXPECT_EQ(f.at("a").item(), -7);
  EXPECT_EQ(f.at("b").values<float>(), (std::vector<float>{1, 2, 3, 4, 5, 6.5f}));
  EXPECT_EQ(f.at("d").shape(), (Shape{0, 2}));
  EXPECT_EQ(f.at("i").item(), 2147483647);
  EXPECT_EQ(f.at("u").values<int>(), (std::vector<int>{1, 2, 255}));
  EXPECT_EQ(f.at("z").dtype(), DType::boolean);
  // Whatever the order in which tensors were added, the bytes are Python's.
  SafetensorsFile again;
  for (auto it = f.tensors.rbegin(); it != f.tensors.rend(); ++it) again.add(it->first, it->second);
  again.metadata = f.metadata;
  const Folder dir;
  write_safetensors(dir / "w", again);
  EXPECT_EQ(slurp(dir / "w"), bytes);
  EXPECT_EQ(safetensors_bytes(again), ByteVector(span_of(bytes).begin(), span_of(bytes).end()));
}

TEST(Safetensors, RoundTrip) {
  const Folder dir;
  SafetensorsFile f;
  int i = 0;
  for (const Tensor& t : one_of_each()) f.add(str("layer.", i++, ".\"weight\"\n\u00e9"), t);
  const Tensor b = f.tensors[0].second;
  f.add("transposed", b.alias({2, 2}, {1, 2}, 0));
  f.metadata = {{"", "empty"}, {"step", "17"}, {"rng", std::string("\0\x01", 2)}};
  write_safetensors(dir / "f", f);
  const SafetensorsFile g = read_safetensors(dir / "f");
  EXPECT_EQ(g.metadata, f.metadata);
  ASSERT_EQ(g.tensors.size(), f.tensors.size());
  for (const auto& [name, t] : f.tensors) expect_same(g.at(name), t);
  EXPECT_EQ(g.path, dir / "f");
  EXPECT_EQ(parse_safetensors(span_of(st("{}", "")), "none").tensors.size(), 0u);
}

TEST(Safetensors, RefusesWithAMessage) {
  const auto refuse = [](const std::string& bytes, std::vector<std::string> parts) {
    parts.push_back("w.st");
    const Folder dir;
    expect_error<io_error>([&] { parse_safetensors(span_of(bytes), "w.st"); }, parts);
    const std::string path = dir.file("w.st", bytes);
    expect_error<io_error>([&] { read_safetensors(path); }, parts);
  };
  const auto f32 = [](const std::string& name, const std::string& shape, const std::string& range) {
    return "\"" + name + "\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + range +
           "}";
  };
  const std::string four = "....", eight = "........";
  refuse("abc", {"truncated: found 3 bytes, expected at least 8"});
  refuse(le(100, 8) + "{}", {"truncated: found 10 bytes, expected at least 108"});
  refuse(le(200'000'000, 8), {"header of 200000000 bytes, expected at most 100000000"});
  refuse(std::string(8, '\xff'), {"header of 18446744073709551615 bytes"});
  refuse(st("{\"a\":", ""), {"the header is not JSON"});
  refuse(st("[]", ""), {"found array as the header"});
  refuse(st("{" + f32("a", "[1]", "[0,4]") + "," + f32("a", "[1]", "[4,8]") + "}", eight),
         {"the key 'a' stands there twice"});
  refuse(st("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", ""), {"the key 'dtype'", "twice"});
  refuse(st("{\"a\":[[[[[]]]]]}", ""), {"deeper than 3 levels"});
  refuse(st("{\"a\":3}", ""), {"'a' is number, expected an object"});
  refuse(st("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", ""), {"'a': data_offsets is missing"});
  refuse(st("{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", "........"),
         {"'a': found dtype C64, expected one of F64, F32, I64, I32, BF16, F16"});
  refuse(st("{\"__metadata__\":{\"wattle.codes.a\":\"posit8 3\"},\"a\":{\"dtype\":\"U8\","
            "\"shape\":[2],\"data_offsets\":[0,2]}}",
            ".."),
         {"wattle.codes.a", "posit8 3", "does not fit"});
  refuse(st("{\"__metadata__\":{\"wattle.codes.a\":\"posit9 2\"},\"a\":{\"dtype\":\"U8\","
            "\"shape\":[2],\"data_offsets\":[0,2]}}",
            ".."),
         {"wattle.codes.a", "posit9"});
  refuse(st("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,2]}}", ".."),
         {"found dtype number"});
  refuse(st("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":0}}", four),
         {"found 4 keys, expected dtype, shape and data_offsets"});
  refuse(st("{" + f32("a", "1", "[0,4]") + "}", four), {"shape is number, expected a list"});
  refuse(st("{" + f32("a", "[-1]", "[0,4]") + "}", four), {"found -1 in shape"});
  refuse(st("{" + f32("a", "[1.5]", "[0,4]") + "}", four), {"found 1.5 in shape"});
  refuse(st("{" + f32("a", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", four), {"found 9 dimensions"});
  refuse(st("{" + f32("a", "[1]", "[0,4,8]") + "}", eight), {"found 3 data_offsets, expected 2"});
  refuse(st("{" + f32("a", "[1]", "[4,0]") + "}", four), {"found data_offsets [4, 0]"});
  refuse(st("{" + f32("a", "[2]", "[0,8]") + "}", four), {"truncated", "[0, 8]", "4 bytes"});
  refuse(st("{" + f32("a", "[1]", "[0,4]") + "}", ""), {"[0, 4], expected", "the 0 bytes of data"});
  refuse(st("{" + f32("a", "[2]", "[0,4]") + "}", four), {"span 4 bytes, expected 8 for f32 [2]"});
  refuse(st("{" + f32("a", "[4611686018427387904,4]", "[0,4]") + "}", four), {"more than 2^62"});
  refuse(st("{" + f32("a", "[2]", "[0,8]") + "," + f32("b", "[2]", "[4,12]") + "}", four + eight),
         {"'b' starts at 4 and overlaps 'a', which ends at 8"});
  refuse(st("{" + f32("a", "[1]", "[0,4]") + "," + f32("b", "[1]", "[8,12]") + "}", four + eight),
         {"'b' starts at 8, expected 4: a hole"});
  refuse(st("{" + f32("a", "[1]", "[0,4]") + "}", eight),
         {"oversized: found 8 bytes of data, expected 4"});
  refuse(st("{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}", "\x02"),
         {"'a': found 2 as bool number 0"});
  refuse(st("{\"__metadata__\":[]}", ""), {"__metadata__ is array, expected an object"});
  refuse(st("{\"__metadata__\":{\"k\":1}}", ""), {"__metadata__ 'k' is number, expected a string"});
}

TEST(Safetensors, ContainerErrors) {
  SafetensorsFile f;
  f.path = "w.st";
  f.add("a", Tensor::zeros({1}));
  EXPECT_FALSE(f.find("b"));
  expect_error<io_error>([&] { (void)f.at("b"); }, {"w.st: found no tensor 'b'; it holds a"});
  expect_error<io_error>([&] { (void)f.text("step"); }, {"w.st: found no metadata 'step'"});
  expect_error<value_error>([&] { f.add("a", Tensor::zeros({1})); }, {"'a' is given twice"});
  expect_error<value_error>([&] { f.add("__metadata__", Tensor::zeros({1})); }, {"is reserved"});
  expect_error<value_error>([&] { f.add("u", Tensor{}); }, {"'u' is an undefined tensor"});
  expect_error<dtype_error>([&] { f.add("c", Tensor::zeros({1}, DType::counted)); }, {"counted"});
  f.metadata["k"] = "\xff";
  expect_error<value_error>([&] { (void)safetensors_bytes(f); }, {"not UTF-8"});
}

// ---- atomic files ----

TEST(AtomicFile, ReplacesOnlyOnCommit) {
  const Folder dir;
  const std::string path = dir.file("f", "old");
  ::chmod(path.c_str(), 0600);
  {
    AtomicFile f(path);
    f.write("never finished");
  }
  EXPECT_EQ(slurp(path), "old");
  AtomicFile f(path);
  f.write("new ");
  f.write("text");
  EXPECT_EQ(slurp(path), "old");
  f.commit();
  EXPECT_EQ(slurp(path), "new text");
  EXPECT_EQ(dir.count(), 1u);
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  expect_error<io_error>([&] { f.write("x"); }, {"after it was closed"});
  expect_error<io_error>([&] { f.commit(); }, {"after it was closed"});
}

TEST(AtomicFile, FollowsLinks) {
  const Folder dir;
  dir.file("real", "old");
  ASSERT_EQ(::symlink("real", (dir / "link").c_str()), 0);
  write_file(dir / "link", std::string_view("new"));
  EXPECT_EQ(slurp(dir / "real"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
}

TEST(AtomicFile, SurvivesAKill) {
  const Folder dir;
  const std::string path = dir.file("f", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile f(path);
    f.write(std::string(1 << 20, 'x'));
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(slurp(path), "old");
  write_file(path, std::string_view("new"));  // what the dead process left is in nobody's way
  EXPECT_EQ(slurp(path), "new");
  EXPECT_EQ(dir.count(), 2u);  // it could be a writer that has not locked it yet
  for (const auto& e : std::filesystem::directory_iterator(dir.path()))
    std::filesystem::last_write_time(
        e.path(), std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  AtomicFile slow(dir / "f.1-2.tmp.other");  // not a temporary of f
  {
    AtomicFile alive(path);  // removes what the killed one left
    EXPECT_EQ(dir.count(), 3u);
    for (const auto& e : std::filesystem::directory_iterator(dir.path()))
      std::filesystem::last_write_time(
          e.path(), std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
    write_file(path, std::string_view("third"));  // must leave `alive`, which is old and locked
    alive.write("last");
    alive.commit();
  }
  EXPECT_EQ(slurp(path), "last");
}

// RLIMIT_FSIZE makes write() fail as a full disk does, with EFBIG in the place of ENOSPC.
TEST(AtomicFile, FullDiskKeepsTheOldFile) {
  const Folder dir;
  const std::string path = dir.file("weights", "old");
  SafetensorsFile big;
  big.add("w", Tensor::zeros({1 << 18}));
  struct rlimit old {};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit tight { 1 << 16, old.rlim_max };
  ::setrlimit(RLIMIT_FSIZE, &tight);
  std::string message;
  try {
    write_safetensors(path, big);
  } catch (const io_error& e) { message = e.what(); }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, path + ": cannot write: File too large; the file was left as it was");
  EXPECT_EQ(slurp(path), "old");
  EXPECT_EQ(dir.count(), 1u);
}

TEST(AtomicFile, RefusesWithAMessage) {
  expect_error<io_error>([] { write_file("/nonexistent/x", std::string_view("a")); },
                         {"/nonexistent/x: cannot create: No such file or directory"});
  expect_error<io_error>([] { write_file("/tmp", std::string_view("a")); },
                         {"/tmp: found a folder"});
  expect_error<io_error>([] { write_file("/dev/full", std::string_view("a")); },
                         {"/dev/full: found a special file"});
  expect_error<io_error>([] { make_folders("/dev/null/x"); }, {"/dev/null/x: cannot make"});
  const Folder dir;
  expect_error<io_error>([&] { (void)read_file(dir.file("f", "12345"), 4); },
                         {"found 5 bytes, expected at most 4"});
  expect_error<io_error>([&] { commit_rename(dir / "none", dir / "b"); }, {"cannot open"});
}

}  // namespace
}  // namespace wattle
