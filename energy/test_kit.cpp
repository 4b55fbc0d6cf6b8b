#include "energy/test_kit.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/error.h"

namespace wattle::energy {
namespace {

std::string event_key(uint32_t type, uint64_t config, int cpu) {
  return str(static_cast<int64_t>(type), ":", static_cast<int64_t>(config), ":", cpu);
}

}  // namespace

double FakeHost::value(const Ramp& r) const {
  const double seconds = static_cast<double>(ns_ - r.born_ns) * 1e-9;
  const double v = (r.start_uj + r.watts * seconds * 1e6) / r.unit_uj;
  return std::floor(r.modulus > 0 ? std::fmod(v, r.modulus) : v);
}

void FakeHost::file(const std::string& path, std::vector<std::string> texts) {
  const std::lock_guard hold(lock_);
  files_[path] = File{std::move(texts)};
}
void FakeHost::fails(const std::string& path, int error) {
  const std::lock_guard hold(lock_);
  files_[path].error = error;
}
void FakeHost::counter(const std::string& path, double watts, double start, double modulus) {
  const std::lock_guard hold(lock_);
  File f;
  f.is_counter = true;
  f.ramp = {watts, start, modulus, 1, ns_};
  files_[path] = f;
}
void FakeHost::perf(uint32_t type, uint64_t config, int cpu, double watts, double unit_j) {
  const std::lock_guard hold(lock_);
  events_[event_key(type, config, cpu)] = {watts, 0, 0, unit_j * 1e6, ns_};
}
void FakeHost::msr(int cpu, uint64_t address, uint64_t value) {
  const std::lock_guard hold(lock_);
  registers_[{cpu, address}].texts = {std::to_string(value)};
}
void FakeHost::msr_counter(int cpu, uint64_t address, double watts, double unit_j) {
  const std::lock_guard hold(lock_);
  File f;
  f.is_counter = true;
  f.ramp = {watts, 0, 4294967296.0, unit_j * 1e6, ns_};
  registers_[{cpu, address}] = f;
}

void FakeHost::advance(double seconds) {
  const std::lock_guard hold(lock_);
  ns_ += static_cast<int64_t>(std::llround(seconds * 1e9));
}
void FakeHost::spend(const std::string& path, double uj) {
  const std::lock_guard hold(lock_);
  files_.at(path).ramp.start_uj += uj;
}

std::string FakeHost::text_of(File& f) {
  if (f.is_counter) return str(static_cast<int64_t>(value(f.ramp)), "\n");
  if (f.texts.empty()) return {};
  const std::string& t = f.texts[f.next];
  if (f.next + 1 < f.texts.size()) ++f.next;
  return t;
}

FileText FakeHost::read_file(const std::string& path) {
  const std::lock_guard hold(lock_);
  const auto f = files_.find(path);
  if (f == files_.end()) return {{}, ENOENT};
  if (f->second.error != 0) return {{}, f->second.error};
  return {text_of(f->second), 0};
}

std::vector<std::string> FakeHost::list(const std::string& path, int* error) {
  const std::lock_guard hold(lock_);
  std::set<std::string> names;
  const std::string prefix = path.ends_with('/') ? path : path + "/";
  for (const auto& [name, f] : files_) {
    if (!name.starts_with(prefix)) continue;
    const std::string rest = name.substr(prefix.size());
    names.insert(rest.substr(0, rest.find('/')));
  }
  if (error) *error = names.empty() ? ENOENT : 0;
  return {names.begin(), names.end()};
}

int FakeHost::read_at(const std::string& path, uint64_t offset, void* to, size_t bytes) {
  const std::lock_guard hold(lock_);
  int cpu = -1;
  if (std::sscanf(path.c_str(), "/dev/cpu/%d/msr", &cpu) != 1 || bytes != 8) return ENOENT;
  const auto r = registers_.find({cpu, offset});
  if (r == registers_.end()) return EIO;
  if (r->second.error != 0) return r->second.error;
  // The upper half is reserved and may hold anything.
  const uint64_t v = r->second.is_counter
                         ? static_cast<uint64_t>(value(r->second.ramp)) | 0xABCDull << 48
                         : std::stoull(text_of(r->second));
  std::memcpy(to, &v, 8);
  return 0;
}

int FakeHost::perf_open(uint32_t type, uint64_t config, int cpu) {
  const std::lock_guard hold(lock_);
  if (perf_error_ != 0) return -perf_error_;
  const auto e = events_.find(event_key(type, config, cpu));
  if (e == events_.end()) return -ENOENT;
  open_.push_back(e->second);
  return static_cast<int>(open_.size()) - 1;
}
int FakeHost::perf_read(int fd, uint64_t* v) {
  const std::lock_guard hold(lock_);
  if (fd < 0 || static_cast<size_t>(fd) >= open_.size()) return EBADF;
  *v = static_cast<uint64_t>(value(open_[static_cast<size_t>(fd)]));
  return 0;
}
void FakeHost::perf_close(int) {}

FileText FakeHost::run(const std::string& command, double) {
  return read_file("command:" + command);
}
int64_t FakeHost::now_ns() {
  const std::lock_guard hold(lock_);
  return ns_;
}

void FakeHost::write_to(const std::string& folder) {
  const std::lock_guard hold(lock_);
  for (auto& [path, f] : files_) {
    if (!path.starts_with('/') || f.error != 0) continue;
    const std::filesystem::path to = folder + path;
    std::filesystem::create_directories(to.parent_path());
    std::ofstream out(to);
    File copy = f;
    out << text_of(copy);
    if (!out.flush()) throw io_error(str(to.string(), ": cannot be written"));
  }
}

void add_zone(FakeHost& h, const std::string& zone, const std::string& name, double watts,
              double start_uj, double modulus) {
  const std::string folder = "/sys/class/powercap/" + zone;
  h.file(folder + "/name", {name + "\n"});
  h.file(folder + "/max_energy_range_uj", {str(static_cast<int64_t>(modulus), "\n")});
  h.counter(folder + "/energy_uj", watts, start_uj, modulus);
}

std::shared_ptr<FakeHost> fake_laptop() {
  auto h = std::make_shared<FakeHost>();
  h->file("/sys/class/powercap/intel-rapl/enabled", {"1\n"});
  add_zone(*h, "intel-rapl:0", "package-0", 15);
  add_zone(*h, "intel-rapl:0:0", "core", 11);
  add_zone(*h, "intel-rapl:0:1", "uncore", 0.1);
  add_zone(*h, "intel-rapl:0:2", "dram", 1.5);
  add_zone(*h, "intel-rapl:1", "psys", 30);
  add_zone(*h, "intel-rapl-mmio:0", "package-0", 15);
  return h;
}

std::shared_ptr<FakeHost> fake_two_sockets() {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 100);
  add_zone(*h, "intel-rapl:0:0", "dram", 10, 0, 65712999613);
  add_zone(*h, "intel-rapl:1", "package-1", 90);
  add_zone(*h, "intel-rapl:1:0", "dram", 9, 0, 65712999613);
  return h;
}

std::shared_ptr<FakeHost> fake_cloud() {
  auto h = std::make_shared<FakeHost>();
  h->file("/sys/bus/event_source/devices/software/type", {"1\n"});
  h->file("/proc/cpuinfo", {"vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"});
  return h;
}

}  // namespace wattle::energy
