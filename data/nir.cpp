#include "data/nir.h"

#include "core/error.h"

#if WATTLE_HDF5
#include <cstring>
#include <set>

#include "data/atomic_file.h"
#include "data/bytes.h"
#include "data/isolated.h"
#include "data/nir_hdf5.h"
#endif

namespace wattle::io {

#if WATTLE_HDF5
namespace {

// What a reader could not make sense of is not written either.
void check_graph(const std::string& path, const NirGraph& g) {
  std::set<std::string> names;
  for (const NirNode& n : g.nodes) {
    if (n.name.empty() || n.name.find('/') != std::string::npos)
      throw io_error(str(path, ": node '", n.name, "': found a name with '/' or none"));
    if (!names.insert(n.name).second) throw io_error(str(path, ": two nodes '", n.name, "'"));
  }
  for (const auto& [from, to] : g.edges)
    for (const std::string& end : {from, to})
      if (!names.count(end))
        throw io_error(str(path, ": edge ", from, " -> ", to, ": there is no node '", end, "'"));
}

// A graph as bytes and back, between the process that reads and the one that asked.
class Packer {
 public:
  void number(int64_t n) { bytes.append(reinterpret_cast<const char*>(&n), sizeof n); }
  void text(const std::string& s) { number(static_cast<int64_t>(s.size())), bytes += s; }
  void tensor(const Tensor& t) {
    number(static_cast<int64_t>(t.dtype())), number(t.rank());
    for (const int64_t d : t.shape()) number(d);
    bytes.append(static_cast<const char*>(t.raw()), static_cast<size_t>(t.nbytes()));
  }
  std::string bytes;
};

class Unpacker {
 public:
  explicit Unpacker(const std::string& bytes) : bytes_(bytes) {}
  int64_t number() {
    int64_t n;
    take(&n, sizeof n);
    return n;
  }
  std::string text() {
    std::string s(static_cast<size_t>(number()), '\0');
    take(s.data(), s.size());
    return s;
  }
  Tensor tensor() {
    const auto t = static_cast<DType>(number());
    Shape shape;
    for (int64_t rank = number(); rank > 0; --rank) shape.push_back(number());
    const Tensor out = Tensor::empty(shape, t);
    take(out.raw(), static_cast<size_t>(out.nbytes()));
    return out;
  }

 private:
  void take(void* to, size_t n) {
    if (n == 0) return;
    std::memcpy(to, bytes_.data() + at_, n);
    at_ += n;
  }
  const std::string& bytes_;
  size_t at_ = 0;
};

std::string packed(const NirGraph& g) {
  Packer p;
  p.text(g.version), p.number(static_cast<int64_t>(g.nodes.size()));
  for (const NirNode& n : g.nodes) {
    p.text(n.name), p.text(n.type), p.number(static_cast<int64_t>(n.arrays.size()));
    for (const auto& [name, t] : n.arrays) p.text(name), p.tensor(t);
    p.number(static_cast<int64_t>(n.text.size()));
    for (const auto& [name, s] : n.text) p.text(name), p.text(s);
  }
  p.number(static_cast<int64_t>(g.edges.size()));
  for (const auto& [from, to] : g.edges) p.text(from), p.text(to);
  return p.bytes;
}

NirGraph unpacked(const std::string& bytes) {
  Unpacker u(bytes);
  NirGraph g;
  g.version = u.text();
  for (int64_t i = u.number(); i > 0; --i) {
    NirNode n;
    n.name = u.text(), n.type = u.text();
    for (int64_t k = u.number(); k > 0; --k) {
      const std::string name = u.text();
      n.arrays[name] = u.tensor();
    }
    for (int64_t k = u.number(); k > 0; --k) {
      const std::string name = u.text();
      n.text[name] = u.text();
    }
    g.nodes.push_back(n);
  }
  for (int64_t i = u.number(); i > 0; --i) {
    const std::string from = u.text();
    g.edges.emplace_back(from, u.text());
  }
  return g;
}

}  // namespace

// Damaged files crash the library: it reads them in a process of its own.
NirGraph read_nir(const std::string& path) {
  const NirGraph g = unpacked(isolated(path, [&] { return packed(nir_from_hdf5(path)); }));
  check_graph(path, g);
  return g;
}

void write_nir(const std::string& path, const NirGraph& graph) {
  check_graph(path, graph);
  write_file(path, ByteSpan(nir_to_hdf5(graph)));
}

#else

namespace {
constexpr const char* missing =
    ": NIR files are HDF5, which this build lacks: apt-get install libhdf5-dev, then build again";
}
NirGraph read_nir(const std::string& path) { throw io_error(path + missing); }
void write_nir(const std::string& path, const NirGraph&) { throw io_error(path + missing); }

#endif

}  // namespace wattle::io
