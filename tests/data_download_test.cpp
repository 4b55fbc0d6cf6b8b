// Downloads against a server on this machine: whole, resumed, cut off, wrong, missing.
#include <cstdlib>

#include "data/dataset.h"
#include "data/download.h"
#include "data_files.h"
#include "loopback_http.h"

namespace wattle {
namespace {

using namespace wattle::data;
using wattle::testing::cifar_records;
using wattle::testing::expect_error;
using wattle::testing::Folder;
using wattle::testing::gz;
using wattle::testing::idx_images;
using wattle::testing::idx_labels;
using wattle::testing::LoopbackHttp;
using wattle::testing::slurp;
using wattle::testing::tar_end;
using wattle::testing::tar_entry;
using Requests = std::vector<std::string>;

class Download : public ::testing::Test {
 protected:
  Download() {
    for (const char* proxy : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(proxy);
    for (uint32_t i = 0; i < 300'000; ++i) body += static_cast<char>(i * i >> 5);
    right = checksum(body);
    server.set("/f", {.body = body});
  }
  Checksum checksum(const std::string& bytes) const {
    const std::string path = dir.file("digest", bytes);
    const Checksum c{file_digest(path, "md5"), file_digest(path, "sha256")};
    std::filesystem::remove(path);
    return c;
  }
  void get(const Checksum& c) { download_file(server.url() + "/f", dir / "f", c, options); }

  const Folder dir;
  LoopbackHttp server;
  std::string body;
  Checksum right;
  DownloadOptions options{.attempts = 2, .pause_ms = 1};
};

TEST_F(Download, Digests) {
  // RFC 1321 A.5 and FIPS 180-2 B.1: the digests of "abc".
  const Checksum c = checksum("abc");
  EXPECT_EQ(c.md5, "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(c.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect_error<io_error>([&] { file_digest(dir.file("x", ""), "md6"); }, {"no md6 checksums"});
}

TEST_F(Download, Whole) {
  struct Seen {
    int64_t done = 0, total = 0;
  } seen;
  options.user = &seen;
  options.progress = [](void* user, const std::string&, int64_t done, int64_t total) {
    EXPECT_GT(done, static_cast<Seen*>(user)->done);
    *static_cast<Seen*>(user) = {done, total};
  };
  get(right);
  EXPECT_EQ(slurp(dir / "f"), body);
  EXPECT_EQ(dir.count(), 1u);
  EXPECT_EQ(seen.done, 300'000);
  EXPECT_EQ(seen.total, 300'000);
}

TEST_F(Download, ContinuesAPart) {
  dir.file("f.part", body.substr(0, 100'000));
  get(right);
  EXPECT_EQ(slurp(dir / "f"), body);
  EXPECT_EQ(server.requests(), (Requests{"/f 100000-"}));
  EXPECT_EQ(dir.count(), 1u);
}

TEST_F(Download, ContinuesAfterACut) {
  server.set("/f", {.body = body, .cuts = 3, .cut_after = 70'000});
  get(right);  // each connection brings something, so two attempts suffice
  EXPECT_EQ(slurp(dir / "f"), body);
  EXPECT_EQ(server.requests(), (Requests{"/f", "/f 70000-", "/f 140000-", "/f 210000-"}));
}

TEST_F(Download, KeepsThePartOfABrokenConnection) {
  server.set("/f", {.body = body, .cuts = 1, .cut_after = 70'000});
  options.attempts = 1;
  expect_error<io_error>([&] { get(right); },
                         {server.url() + "/f: ", "after 70000 bytes of 300000",
                          "what arrived is kept, and the same command continues it"});
  EXPECT_EQ(slurp(dir / "f.part"), body.substr(0, 70'000));
  EXPECT_FALSE(std::filesystem::exists(dir / "f"));
  get(right);
  EXPECT_EQ(slurp(dir / "f"), body);
}

TEST_F(Download, ServerWithoutRanges) {
  server.set("/f", {.body = body, .ranges = false});
  dir.file("f.part", std::string(500'000, 'x'));
  get(right);
  EXPECT_EQ(slurp(dir / "f"), body);
}

TEST_F(Download, CompletePart) {
  dir.file("f.part", body);
  get(right);
  EXPECT_EQ(slurp(dir / "f"), body);
  EXPECT_EQ(server.requests(), (Requests{"/f 300000-"}));  // answered by 416
}

TEST_F(Download, PartOfAnotherFileIsGivenUp) {
  for (const std::string& other : {std::string(1000, 'x'), body + "tail"}) {
    dir.file("f.part", other);
    get(right);
    EXPECT_EQ(slurp(dir / "f"), body);
  }
}

TEST_F(Download, WrongChecksumKeepsNothing) {
  Checksum wrong = right;
  wrong.md5[0] = wrong.md5[0] == '0' ? '1' : '0';
  expect_error<io_error>([&] { get(wrong); },
                         {server.url() + "/f: found md5 " + right.md5 + ", expected " + wrong.md5,
                          "nothing was kept"});
  EXPECT_EQ(dir.count(), 0u);
  wrong = {"", std::string(64, '0')};
  expect_error<io_error>([&] { get(wrong); }, {"found sha256 " + right.sha256});
  EXPECT_EQ(dir.count(), 0u);
}

TEST_F(Download, RefusesWithAMessage) {
  const auto refuse = [&](const std::string& url, const std::vector<std::string>& parts) {
    expect_error<io_error>([&] { download_file(url, dir / "f", right, options); }, parts);
    EXPECT_EQ(dir.count(), 0u) << url;
  };
  refuse(server.url() + "/none", {server.url() + "/none: found HTTP status 404, expected 200"});
  server.set("/busy", {.status = 503});
  refuse(server.url() + "/busy", {"/busy: found HTTP status 503, expected 200"});
  EXPECT_EQ(server.requests(), (Requests{"/none", "/busy", "/busy"}));
  refuse("file:///etc/passwd", {"file:///etc/passwd: ", "expected an http or https address"});
  refuse("http://127.0.0.1:1/f", {"http://127.0.0.1:1/f: "});
  options.max_bytes = 1000;
  refuse(server.url() + "/f", {"found more than 1000 bytes"});
  expect_error<io_error>(
      [&] { download_file(server.url() + "/f", "/nonexistent/f", right, options); },
      {"/nonexistent/f.part: cannot create: No such file"});
}

// ---- whole data sets ----

Source fashion_source(LoopbackHttp& server, const Folder& dir) {
  Source s = source_of("fashion-mnist");
  for (RemoteFile& f : s.files) {
    const bool train = f.name.starts_with("train");
    const std::string bytes =
        gz(f.name.find("images") != f.name.npos ? idx_images(train ? 6 : 3, 2, 2)
                                                : idx_labels(train ? 6 : 3));
    server.set("/set/" + f.name, {.body = bytes});
    f.checksum.md5 = file_digest(dir.file("digest", bytes), "md5");
  }
  return s;
}

TEST_F(Download, FashionMnistFromTheAddressInTheEnvironment) {
  const Source s = fashion_source(server, dir);
  ::setenv("WATTLE_DATA_URL_FASHION_MNIST", (server.url() + "/set/").c_str(), 1);
  EXPECT_EQ(download(s, dir / "a/b", options), 4);
  EXPECT_EQ(load("fashion-mnist", dir / "a/b").train.rows(), 6);
  EXPECT_EQ(download(s, dir / "a/b", options), 0);  // all there
  dir.file("a/b/t10k-labels-idx1-ubyte.gz", "damaged");
  EXPECT_EQ(download(s, dir / "a/b", options), 1);
  // The published checksums refuse this miniature.
  expect_error<io_error>(
      [&] { download(source_of("fashion-mnist"), dir / "c", options); },
      {"train-images-idx3-ubyte.gz: found md5", "expected 8d4fb7e6c68d591d4c3dfef9ec88bf0d"});
  ::unsetenv("WATTLE_DATA_URL_FASHION_MNIST");
}

TEST_F(Download, Cifar10IsUnpacked) {
  std::string tar = tar_entry("cifar-10-batches-bin/", "", '5');
  for (const char* f : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                        "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"})
    tar += tar_entry(std::string("cifar-10-batches-bin/") + f, cifar_records(2));
  Source s = source_of("cifar10");
  s.files[0].checksum = checksum(gz(tar + tar_end()));
  server.set("/cifar-10-binary.tar.gz", {.body = gz(tar + tar_end())});
  options.base_url = server.url();
  EXPECT_EQ(download(s, dir / "c", options), 1);
  EXPECT_EQ(load("cifar10", dir / "c").train.rows(), 10);
  EXPECT_FALSE(std::filesystem::exists(dir / "c/cifar-10-binary.tar.gz"));
  EXPECT_EQ(download(s, dir / "c", options), 0);
  // An archive that is still there may be half unpacked.
  dir.file("c/cifar-10-binary.tar.gz", gz(tar + tar_end()));
  dir.file("c/cifar-10-batches-bin/test_batch.bin", "half");
  EXPECT_EQ(download(s, dir / "c", options), 0);
  EXPECT_EQ(load("cifar10", dir / "c").test.rows(), 2);
  EXPECT_EQ(server.requests().size(), 1u);
  const std::string other = gz(tar_entry("README", "x") + tar_end());
  s.files[0].checksum = checksum(other);
  server.set("/cifar-10-binary.tar.gz", {.body = other});
  expect_error<io_error>([&] { download(s, dir / "d", options); },
                         {"unpacked, but cifar-10-batches-bin/data_batch_1.bin"});
}

TEST(Sources, AreOfficial) {
  EXPECT_EQ(source_of("fashion-mnist").base_url,
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com");
  EXPECT_EQ(source_of("cifar10").files.at(0).checksum.md5, "c32a1d4ab5d03f1284b67883e8d87530");
  expect_error<value_error>([] { (void)source_of("mnist"); },
                            {"expected fashion-mnist or cifar10"});
}

}  // namespace
}  // namespace wattle
