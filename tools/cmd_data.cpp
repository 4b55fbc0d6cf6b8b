// wattle data NAME: finds a data set, or downloads it from its official address.
#include <unistd.h>

#include <cstdio>

#include "core/error.h"
#include "data/dataset.h"
#include "data/download.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

void show(void*, const std::string& file, int64_t done, int64_t total) {
  if (!isatty(2)) return;
  std::fprintf(stderr, "\r\033[K%s  %s of %s bytes", file.c_str(), si(double(done)).c_str(),
               total < 0 ? "?" : si(double(total)).c_str());
}

void describe(const data::Dataset& d, const char* part) {
  std::printf("  %s: %lld images of %lld x %lld x %lld, %d classes\n", part,
              static_cast<long long>(d.rows()), static_cast<long long>(d.images.size(1)),
              static_cast<long long>(d.images.size(2)), static_cast<long long>(d.images.size(3)),
              d.classes);
}

}  // namespace

void add_data(CLI::App& app) {
  auto* c = app.add_subcommand("data", "Finds or downloads a data set");
  auto name = std::make_shared<std::string>();
  auto dir = std::make_shared<std::string>();
  c->add_option("NAME", *name, "fashion-mnist or cifar10")->required();
  c->add_option("--data-dir", *dir, "Look here, and download to here");
  c->callback([=] {
    const data::Source& source = data::source_of(*name);
    std::string folder = data::find_dataset(*name, *dir);
    if (folder.empty()) {
      folder = data::download_folder(*name, *dir);
      std::fprintf(stderr, "%s is not on this machine; it is downloaded to %s from %s\n",
                   name->c_str(), folder.c_str(), source.base_url.c_str());
      data::DownloadOptions options;
      options.progress = show;
      data::download(source, folder, options);
      if (isatty(2)) std::fprintf(stderr, "\n");
    }
    const data::Split s = data::load(*name, folder);
    std::printf("%s in %s\n", name->c_str(), folder.c_str());
    describe(s.train, "training");
    describe(s.test, "test");
  });
}

}  // namespace wattle::cli
