#include "green/study_files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::green {
namespace {

[[noreturn]] void fail(const std::string& path, const char* doing) {
  throw io_error(str(path, ": ", doing, ": ", std::strerror(errno)));
}

CsvWriter& key(CsvWriter& w, const NetKey& k) {
  return w.field(k.net).field(int64_t{k.linear}).field(int64_t{k.conv}).field(int64_t{k.relu});
}

}  // namespace

std::string runs_csv(const StudyResult& s) {
  CsvWriter w(
      "dataset,net,linear,conv,relu,seed,epochs,rows,accuracy,flops,seconds,joules,joules_sd,"
      "joules_kind,flops_all,bytes,params,train_loss,val_loss,val_accuracy,diverged,"
      "joules_source,joules_idle,joules_net,kappa");
  for (const StudyRun& r : s.runs) {
    key(w.field(r.dataset), r.key).field(std::to_string(r.seed)).field(int64_t{r.epochs});
    w.field(r.rows).field(r.accuracy).field(r.flops_weighted).field(r.seconds).field(r.joules);
    w.field(r.flops_all).field(r.bytes).field(r.params).field(r.train_loss).field(r.val_loss);
    w.field(r.val_accuracy).field(int64_t{r.diverged}).field(r.joules.source);
    w.field(r.idle.joules()).field(r.net.joules()).field(r.kappa).end_row();
  }
  return w.take();
}

std::string layers_csv(const StudyResult& s) {
  CsvWriter w(
      "net,linear,conv,relu,layer,type,phase,calls,flops_weighted,flops_all,bytes_read,"
      "bytes_written,ms,joules,joules_sd,joules_kind,joules_source");
  for (const LayerRow& r : s.layers) {
    key(w, r.key).field(r.layer).field(name(r.type)).field(name(r.phase)).field(r.calls);
    w.field(r.flops_weighted).field(r.flops_all).field(r.bytes_read).field(r.bytes_written);
    w.field(r.ms).field(r.joules).field(r.joules.source).end_row();
  }
  return w.take();
}

void write_study(const std::string& dir, const StudyResult& s) {
  std::error_code bad;
  std::filesystem::create_directories(dir, bad);
  if (bad) throw io_error(str(dir, ": cannot create the folder: ", bad.message()));
  io::write_file(dir + "/runs.csv", runs_csv(s));
  io::write_file(dir + "/layers.csv", layers_csv(s));
  io::write_file(dir + "/study.json", study_json(s));
}

bool read_study(const std::string& dir, StudyResult& out) {
  const std::string path = dir + "/study.json";
  std::FILE* f = std::fopen(path.c_str(), "rb");
  if (!f) {
    if (errno == ENOENT) return false;
    fail(path, "cannot open");
  }
  std::string text;
  char buf[1 << 16];
  for (size_t n; (n = std::fread(buf, 1, sizeof buf, f)) > 0;) text.append(buf, n);
  const bool bad = std::ferror(f) != 0;
  std::fclose(f);
  if (bad) fail(path, "cannot read");
  out = study_from_json(text, path);
  return true;
}

}  // namespace wattle::green
