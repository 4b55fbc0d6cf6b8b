// gzip, tar, IDX, CIFAR-10, and finding, loading and thinning data sets.
#include <algorithm>
#include <cstdlib>
#include <set>

#include "core/counters.h"
#include "data/cifar10.h"
#include "data/dataset.h"
#include "data/gzip.h"
#include "data/idx.h"
#include "data_files.h"

namespace wattle {
namespace {

using namespace wattle::io;
using wattle::testing::be32;
using wattle::testing::cifar_records;
using wattle::testing::expect_error;
using wattle::testing::Folder;
using wattle::testing::gz;
using wattle::testing::idx_images;
using wattle::testing::idx_labels;
using wattle::testing::slurp;
using wattle::testing::tar_end;
using wattle::testing::tar_entry;

ByteSpan span_of(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
std::string text(const ByteVector& b) { return {b.begin(), b.end()}; }

// ---- gzip and tar ----

TEST(Gzip, Unpacks) {
  const std::string big(3'000'000, 'x');
  EXPECT_EQ(text(gunzip(span_of(gz(big)), "f")), big);
  EXPECT_EQ(text(gunzip(span_of(gz("one ") + gz("two") + std::string(9, '\0')), "f")), "one two");
  EXPECT_EQ(gunzip(span_of(gz("")), "f").size(), 0u);
  const Folder dir;
  EXPECT_EQ(text(read_maybe_gzip(dir.file("a.gz", gz("packed")))), "packed");
  EXPECT_EQ(text(read_maybe_gzip(dir.file("a", gz("packed")))), "packed");
  EXPECT_EQ(text(read_maybe_gzip(dir.file("b", "plain"))), "plain");
}

TEST(Gzip, RefusesWithAMessage) {
  const auto refuse = [](const std::string& bytes, const std::vector<std::string>& parts,
                         int64_t limit = default_size_limit) {
    expect_error<io_error>([&] { gunzip(span_of(bytes), "f.gz", limit); }, parts);
  };
  const std::string good = gz(std::string(1000, 'a') + "b");
  refuse("<html>", {"f.gz: found 3c 68 74 6d at the start, expected gzip data (1f 8b)"});
  refuse("", {"f.gz: found nothing at the start"});
  refuse(good.substr(0, 15), {"f.gz: truncated"});
  refuse(good.substr(0, good.size() - 3), {"f.gz: truncated", "after 1001 unpacked bytes"});
  refuse(good + "tail", {"found 4 bytes behind the end"});
  std::string bad = good;
  bad[bad.size() - 6] ^= 1;
  refuse(bad, {"damaged gzip data: incorrect data check"});
  refuse(good, {"unpacks to more than 1000 bytes"}, 1000);
  EXPECT_EQ(gunzip(span_of(good), "f", 1001).size(), 1001u);
  const Folder dir;
  expect_error<io_error>([&] { read_maybe_gzip(dir.file("p.gz", "plain")); },
                         {"p.gz: found 70 6c 61 69", "expected gzip"});
}

TEST(Tar, Unpacks) {
  const Folder dir;
  const std::string a(1500, 'a'), b(512, 'b');
  const std::string path = dir.file("t.tar.gz", gz(tar_entry("d/", "", '5') + tar_entry("d/a", a) +
                                                   tar_entry("b", b) + tar_end()));
  EXPECT_EQ(unpack_tar_gz(path, dir / "out"), (std::vector<std::string>{"d/a", "b"}));
  EXPECT_EQ(slurp(dir / "out/d/a"), a);
  EXPECT_EQ(slurp(dir / "out/b"), b);
}

TEST(Tar, RefusesWithAMessage) {
  const auto refuse = [](const std::string& packed, const std::vector<std::string>& parts,
                         int64_t limit = default_size_limit) {
    const Folder dir;
    const std::string path = dir.file("in/t.tar.gz", packed);
    expect_error<io_error>([&] { unpack_tar_gz(path, dir / "out", limit); }, parts);
    EXPECT_FALSE(std::filesystem::exists(dir / "evil"));
  };
  refuse(gz(tar_entry("../evil", "x") + tar_end()), {"'../evil'", "stays in the folder"});
  refuse(gz(tar_entry("a/../../evil", "x") + tar_end()), {"stays in the folder"});
  refuse(gz(tar_entry("/tmp/evil", "x") + tar_end()), {"'/tmp/evil'"});
  refuse(gz(tar_entry("", "x") + tar_end()), {"''", "stays in the folder"});
  refuse(gz(tar_entry("link", "", '2') + tar_end()), {"'link' is of type '2'"});
  refuse(gz("hello" + std::string(600, 'x')), {"not a tar archive"});
  refuse(gz(tar_entry("a", "abc")).substr(0, 60), {"truncated"});
  refuse(gz(tar_entry("a", "abc").substr(0, 600)), {"truncated"});
  refuse(gz(tar_entry("a", std::string(2000, 'x')) + tar_end()), {"more than 1000 bytes"}, 1000);
  std::string bad = gz(tar_entry("a", std::string(1000, 'x')) + tar_end());
  bad[bad.size() - 6] ^= 1;
  refuse(bad, {"damaged"});
  expect_error<io_error>([] { unpack_tar_gz("/nonexistent", "/tmp"); },
                         {"/nonexistent: cannot open"});
}

// ---- IDX ----

TEST(Idx, Reads) {
  const Folder dir;
  for (const char* name : {"images", "images.gz"}) {
    const std::string bytes = idx_images(3, 2, 4);
    const Tensor t =
        read_idx_images(dir.file(name, std::string(name).size() > 6 ? gz(bytes) : bytes));
    EXPECT_EQ(t.str(), "u8 [3, 1, 2, 4]");
    EXPECT_EQ(t.values<int>()[2 * 8 + 5], 7 * 2 + 5);
  }
  EXPECT_EQ(read_idx_labels(dir.file("labels", idx_labels(12)), 10).values<int>()[11], 1);
}

TEST(Idx, RefusesWithAMessage) {
  const auto refuse = [](const std::string& bytes, int rank, std::vector<std::string> parts) {
    parts.push_back("f.idx");
    expect_error<io_error>([&] { parse_idx(span_of(bytes), rank, "f.idx"); }, parts);
  };
  const std::string images = idx_images(3, 2, 4), labels = idx_labels(5);
  refuse("ab", 1, {"truncated: found 2 bytes, expected an IDX file"});
  refuse(images, 1,
         {"found magic number 00 00 08 03 (u8 of rank 3)", "00 00 08 01 (u8 of rank 1)"});
  refuse(be32(0xD03), 3, {"00 00 0d 03 (f32 of rank 3)", "expected 00 00 08 03"});
  refuse("<html>", 3, {"3c 68 74 6d (no IDX file)"});
  refuse(images.substr(0, 10), 3, {"truncated: found 10 bytes, expected 16 for the IDX header"});
  refuse(images.substr(0, 39), 3,
         {"truncated: found 23 bytes of data, expected 24 for shape [3, 2, 4]"});
  refuse(images + "x", 3, {"oversized: found 25 bytes of data, expected 24"});
  refuse(be32(0x803) + be32(0) + be32(28) + be32(28), 3, {"shape [0, 28, 28]", "no empty sizes"});
  refuse(be32(0x803) + std::string(12, '\xff'), 3, {"truncated", "expected more than 2^62"});
  const Folder dir;
  expect_error<io_error>([&] { read_idx_labels(dir.file("l", idx_labels(11)), 9); },
                         {"/l: found label 9 in row 9, expected one from 0 to 8"});
  expect_error<io_error>(
      [&] { data::idx_dataset("d", dir.file("i", images), dir.file("l", labels), 10); },
      {"/l: found 5 labels, expected 3, one for each image of", "/i"});
}

// ---- CIFAR-10 ----

TEST(Cifar10, Reads) {
  const Folder dir;
  const Cifar10 c =
      read_cifar10({dir.file("1", cifar_records(2)), dir.file("2", cifar_records(2, 9))});
  EXPECT_EQ(c.images.str(), "u8 [4, 3, 32, 32]");
  EXPECT_EQ(c.labels.values<int>(), (std::vector<int>{0, 1, 0, 1}));
  const std::vector<int> p = c.images.values<int>();
  EXPECT_EQ(p[3072 + 1024 + 7], (3 + 1031) % 256);      // record 1, green plane, row 0, column 7
  EXPECT_EQ(p[3 * 3072 + 3071], (3 + 3071 + 9) % 256);  // the last byte of all
}

TEST(Cifar10, RefusesWithAMessage) {
  const auto refuse = [](const std::string& bytes, const std::vector<std::string>& parts) {
    expect_error<io_error>([&] { parse_cifar10(span_of(bytes), "b.bin"); }, parts);
  };
  refuse("", {"b.bin: truncated or oversized: found 0 bytes, expected a multiple of 3073"});
  refuse(cifar_records(2).substr(1), {"b.bin: truncated or oversized: found 6145 bytes"});
  refuse(cifar_records(1) + "x", {"found 3074 bytes"});
  std::string bad = cifar_records(3);
  bad[3073] = 10;
  refuse(bad, {"b.bin: found label 10 in row 1, expected one from 0 to 9"});
  const Folder dir;
  const std::string one = dir.file("1", cifar_records(2)), two = dir.file("2", cifar_records(1));
  expect_error<io_error>(
      [&] {
        read_cifar10({one, two});
      },
      {"/2: found 1 records, expected 2 as in", "/1"});
}

// ---- finding and loading ----

class Environment : public ::testing::Test {
 protected:
  Environment() {
    ::unsetenv("WATTLE_DATA");
    ::setenv("XDG_CACHE_HOME", (dir / "cache").c_str(), 1);
  }
  void write_fashion(const std::string& folder, bool packed) const {
    for (const auto& [name, n] : {std::pair{"train", 20}, {"t10k", 10}}) {
      const std::string images = idx_images(static_cast<uint32_t>(n), 4, 5);
      const std::string labels = idx_labels(static_cast<uint32_t>(n));
      const std::string end = packed ? ".gz" : "", base = folder + "/" + name;
      dir.file(base + "-images-idx3-ubyte" + end, packed ? gz(images) : images);
      dir.file(base + "-labels-idx1-ubyte" + end, packed ? gz(labels) : labels);
    }
  }
  void write_cifar(const std::string& folder, int records) const {
    for (int i = 1; i <= 5; ++i)
      dir.file(folder + "/data_batch_" + std::to_string(i) + ".bin", cifar_records(records, i));
    dir.file(folder + "/test_batch.bin", cifar_records(3));
  }
  const Folder dir;
};

using DataSet = Environment;

TEST_F(DataSet, FoundInItsPlaces) {
  write_fashion("cache/wattle/fashion-mnist", true);
  write_fashion("shared/FashionMNIST/raw", false);
  write_fashion("mine", true);
  EXPECT_EQ(data::find_dataset("fashion-mnist", dir / "mine"), dir / "mine");
  ::setenv("WATTLE_DATA", (dir / "shared").c_str(), 1);
  EXPECT_EQ(data::find_dataset("fashion-mnist"), dir / "shared/FashionMNIST/raw");
  EXPECT_EQ(data::download_folder("cifar10"), dir / "shared/cifar10");
  const data::Split s = data::load("fashion-mnist");
  EXPECT_EQ(s.train.images.str(), "u8 [20, 1, 4, 5]");
  EXPECT_EQ(s.test.labels.str(), "u8 [10]");
  EXPECT_EQ(s.train.classes, 10);
  EXPECT_EQ(data::load("fashion-mnist", dir / "mine").test.rows(), 10);
  ::unsetenv("WATTLE_DATA");
  const std::string debian = "/usr/share/datasets/fashion-mnist";
  EXPECT_EQ(data::find_dataset("fashion-mnist"),
            std::filesystem::exists(debian) ? debian : dir / "cache/wattle/fashion-mnist");
  write_cifar("cache/wattle/cifar10/cifar-10-batches-bin", 4);
  const data::Split c = data::load("cifar10");
  EXPECT_EQ(c.train.images.str(), "u8 [20, 3, 32, 32]");
  EXPECT_EQ(c.test.rows(), 3);
  EXPECT_EQ(data::download_folder("cifar10"), dir / "cache/wattle/cifar10");
  EXPECT_EQ(data::download_folder("cifar10", "here"), "here");
}

TEST_F(DataSet, MissingNamesEveryPlace) {
  ::setenv("WATTLE_DATA", (dir / "shared").c_str(), 1);
  expect_error<io_error>(
      [] { data::load("cifar10"); },
      {"data set cifar10: not found in", dir / "shared\n", dir / "shared/cifar-10-batches-bin\n",
       "/usr/share/datasets/cifar10\n", dir / "cache/wattle/cifar10\n", "./wattle data cifar10"});
  expect_error<io_error>([&] { data::load("fashion-mnist", dir / "empty"); },
                         {dir / "empty\n", "./wattle data fashion-mnist --data-dir " + dir.path()});
  expect_error<value_error>([] { data::load("mnist"); },
                            {"found 'mnist', expected fashion-mnist or cifar10"});
  ::unsetenv("WATTLE_DATA");
  ::unsetenv("XDG_CACHE_HOME");
  const std::string home = std::getenv("HOME") ? std::getenv("HOME") : "";
  ::unsetenv("HOME");
  expect_error<io_error>([] { data::download_folder("cifar10"); }, {"no folder to keep it in"});
  ::setenv("HOME", home.c_str(), 1);
}

TEST_F(DataSet, DamagedFilesAreNamed) {
  write_fashion("d", true);
  const std::string labels = dir / "d/t10k-labels-idx1-ubyte.gz";
  const auto load = [&] { data::load("fashion-mnist", dir / "d"); };
  dir.file("d/t10k-labels-idx1-ubyte.gz", gz(idx_labels(9)));
  expect_error<io_error>(load, {labels, "found 9 labels, expected 10"});
  dir.file("d/t10k-labels-idx1-ubyte.gz", "no gzip");
  expect_error<io_error>(load, {labels, "expected gzip data"});
  std::filesystem::remove(labels);
  expect_error<io_error>(load, {"t10k-labels-idx1-ubyte: is missing beside the other files"});
  write_fashion("d", true);
  dir.file("d/t10k-images-idx3-ubyte.gz", gz(idx_images(10, 5, 4)));
  expect_error<io_error>(load, {"found images of 5 x 4, expected 4 x 5"});
  write_cifar("c", 2);
  dir.file("c/data_batch_4.bin", cifar_records(1));
  expect_error<io_error>([&] { data::load("cifar10", dir / "c"); },
                         {"c/data_batch_4.bin: found 1 records, expected 2"});
}

// ---- subsets ----

data::Dataset uneven() {
  std::vector<uint8_t> labels;
  for (int c = 0; c < 3; ++c) labels.insert(labels.end(), c == 0 ? 50 : c == 1 ? 30 : 20, c);
  std::vector<uint8_t> pixels;
  for (int i = 0; i < 100; ++i) pixels.insert(pixels.end(), 4, static_cast<uint8_t>(i));
  return {"uneven", Tensor::from(pixels, {100, 1, 2, 2}), Tensor::from(labels, {100}), 3};
}

TEST(Subset, KeepsTheProportions) {
  const data::Dataset d = uneven();
  for (const auto& [n, expected] :
       std::vector<std::pair<int, std::vector<int>>>{{10, {5, 3, 2}},
                                                     {3, {1, 1, 1}},
                                                     {11, {6, 3, 2}},
                                                     {99, {49, 30, 20}},
                                                     {100, {50, 30, 20}}}) {
    const data::Dataset s = data::subset(d, n, 7);
    std::vector<int> count(3);
    for (int label : s.labels.values<int>()) ++count[static_cast<size_t>(label)];
    EXPECT_EQ(count, expected) << n;
    EXPECT_EQ(s.images.size(0), n);
  }
}

TEST(Subset, DependsOnTheSeedOnly) {
  const data::Dataset d = uneven();
  const auto rows = data::stratified_rows(d, 30, 1);
  EXPECT_EQ(rows, data::stratified_rows(d, 30, 1));
  EXPECT_NE(rows, data::stratified_rows(d, 30, 2));
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(std::set<int64_t>(rows.begin(), rows.end()).size(), 30u);
  const std::vector<int> pixels = data::subset(d, 30, 1).images.values<int>();
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(pixels[4 * i], rows[i]);
}

TEST(Subset, IsCountedAsData) {
  counters().clear();
  (void)data::subset(uneven(), 30, 1);
  ASSERT_EQ(counters().rows().size(), 1u);  // images and labels are the same op, kernel and dtype
  const Row& r = counters().rows()[0];
  EXPECT_EQ(r.key.phase, Phase::data);
  EXPECT_EQ(counters().path(r.key.scope), "subset");
  EXPECT_EQ(r.calls, 2);
  EXPECT_EQ(r.cost.written, 30 * 4 + 30);
}

TEST(Subset, RefusesWithAMessage) {
  for (int64_t n : {-1, 0, 2, 101})
    expect_error<value_error>(
        [&] { data::subset(uneven(), n, 1); },
        {str("found n = ", n), "3 (the number of classes) to 100 (the number"});
  data::Dataset d = uneven();
  d.classes = 2;
  expect_error<value_error>([&] { data::subset(d, 10, 1); }, {"found label 2 in row 80"});
}

}  // namespace
}  // namespace wattle
