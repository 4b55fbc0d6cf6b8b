#include "data/nir_hdf5.h"

#if WATTLE_HDF5
#include <hdf5.h>

#include <algorithm>
#include <mutex>

#include "core/error.h"

namespace wattle::io {
namespace {

constexpr int64_t size_limit = int64_t{1} << 31;

// The library keeps one state for the process, and prints its errors unless told not to.
class Library {
 public:
  Library() : lock_(mutex()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

 private:
  static std::mutex& mutex() {
    static std::mutex m;
    return m;
  }
  std::lock_guard<std::mutex> lock_;
};

// A handle and how it is closed. Negative: the call failed.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
    if (id < 0) throw io_error(what);
  }
  ~Handle() { close_(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void check(herr_t status, const std::string& what) {
  if (status < 0) throw io_error(what);
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  NirGraph read() {
    ByteVector bytes = read_file(path_, size_limit);
    const Library library;
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, fail("cannot be opened"));
    check(H5Pset_fapl_core(access, 1 << 16, 0), fail("cannot be opened"));
    check(H5Pset_file_image(access, bytes.data(), bytes.size()), fail("cannot be opened"));
    const Handle file(H5Fopen("nir", H5F_ACC_RDONLY, access), H5Fclose,
                      fail("is not an HDF5 file, or a damaged one"));
    NirGraph g;
    if (H5Lexists(file, "version", H5P_DEFAULT) > 0) g.version = text(file, "version");
    const Handle node = group(file, "node");
    const std::string type = text(node, "type");
    if (type != "NIRGraph")
      throw io_error(fail(str("node: found type '", type, "', expected NIRGraph")));
    const Handle nodes = group(node, "nodes");
    for (const std::string& name : names(nodes)) g.nodes.push_back(read_node(nodes, name));
    g.edges = edges(node);
    return g;
  }

 private:
  std::string fail(const std::string& what) const { return path_ + ": " + what; }

  Handle group(hid_t at, const std::string& name) const {
    if (H5Lexists(at, name.c_str(), H5P_DEFAULT) <= 0)
      throw io_error(fail(str("found no group '", name, "', expected one")));
    return {H5Gopen2(at, name.c_str(), H5P_DEFAULT), H5Gclose,
            fail(str("'", name, "' cannot be read as a group"))};
  }

  Handle dataset(hid_t at, const std::string& name) const {
    if (H5Lexists(at, name.c_str(), H5P_DEFAULT) <= 0)
      throw io_error(fail(str("found no '", name, "', expected one")));
    return {H5Dopen2(at, name.c_str(), H5P_DEFAULT), H5Dclose,
            fail(str("'", name, "' cannot be read as a data set"))};
  }

  std::vector<std::string> names(hid_t group) const {
    H5G_info_t info;
    check(H5Gget_info(group, &info), fail("a group cannot be read"));
    if (info.nlinks > 100000)
      throw io_error(fail(str("found ", info.nlinks, " members of a group")));
    std::vector<std::string> out;
    for (hsize_t i = 0; i < info.nlinks; ++i) {
      char buffer[1024];
      const ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, buffer,
                                           sizeof buffer, H5P_DEFAULT);
      if (n < 0 || n >= static_cast<ssize_t>(sizeof buffer))
        throw io_error(fail("the name of a member cannot be read"));
      out.emplace_back(buffer);
    }
    return out;
  }

  Shape shape_of(hid_t data, const std::string& name) const {
    const Handle space(H5Dget_space(data), H5Sclose, fail(name + ": has no extent"));
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0 || rank > Shape::max_rank)
      throw io_error(fail(str(name, ": found ", rank, " dimensions, expected at most ",
                              static_cast<int>(Shape::max_rank))));
    hsize_t dims[Shape::max_rank] = {};
    if (rank > 0) H5Sget_simple_extent_dims(space, dims, nullptr);
    Shape s;
    hsize_t count = 1;
    for (int d = 0; d < rank; ++d) {
      if (dims[d] > static_cast<hsize_t>(size_limit) / 8 / std::max<hsize_t>(1, count))
        throw io_error(fail(name + ": is larger than 2 GB"));
      count *= dims[d];
      s.push_back(static_cast<int64_t>(dims[d]));
    }
    return s;
  }

  // Strings of a data set, of fixed or variable length.
  std::vector<std::string> strings(hid_t data, const std::string& name) const {
    const Handle type(H5Dget_type(data), H5Tclose, fail(name + ": has no type"));
    const auto count = static_cast<size_t>(shape_of(data, name).numel());
    std::vector<std::string> out;
    if (H5Tget_class(type) != H5T_STRING) throw io_error(fail(name + ": expected text"));
    if (H5Tis_variable_str(type) > 0) {
      std::vector<char*> all(count, nullptr);
      check(H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()),
            fail(name + ": cannot be read"));
      for (char* s : all) out.emplace_back(s ? s : "");
      const Handle space(H5Dget_space(data), H5Sclose, fail(name));
      H5Dvlen_reclaim(type, space, H5P_DEFAULT, all.data());
      return out;
    }
    const size_t width = H5Tget_size(type);
    if (width == 0 || width > 4096) throw io_error(fail(name + ": expected shorter text"));
    std::string all(width * count, '\0');
    check(H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()),
          fail(name + ": cannot be read"));
    for (size_t i = 0; i < count; ++i) out.emplace_back(all.substr(i * width, width).c_str());
    return out;
  }

  std::string text(hid_t at, const std::string& name) const {
    const Handle data = dataset(at, name);
    const std::vector<std::string> s = strings(data, name);
    if (s.size() != 1) throw io_error(fail(str(name, ": found ", s.size(), " texts, expected 1")));
    return s[0];
  }

  Tensor array(hid_t data, const std::string& name) const {
    const Handle type(H5Dget_type(data), H5Tclose, fail(name + ": has no type"));
    const H5T_class_t kind = H5Tget_class(type);
    const Shape shape = shape_of(data, name);
    const bool wide = H5Tget_size(type) > 4;
    const DType t = kind == H5T_FLOAT ? wide ? DType::f64 : DType::f32 : DType::i64;
    const hid_t memory =
        kind == H5T_FLOAT ? wide ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT : H5T_NATIVE_INT64;
    if (kind != H5T_FLOAT && kind != H5T_INTEGER)
      throw io_error(fail(name + ": expected numbers or text"));
    const Tensor out = Tensor::empty(shape, t);
    check(H5Dread(data, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.raw()),
          fail(name + ": cannot be read"));
    return out;
  }

  NirNode read_node(hid_t nodes, const std::string& name) const {
    NirNode n;
    n.name = name;
    const Handle at = group(nodes, name);
    n.type = text(at, "type");
    if (n.type == "NIRGraph")
      throw io_error(fail(str("node '", name,
                              "': a graph within the graph (a recurrent layer) is "
                              "not supported")));
    for (const std::string& field : names(at)) {
      if (field == "type" || field == "metadata") continue;
      const std::string what = str("node '", name, "': ", field);
      const Handle data = dataset(at, field);
      const Handle type(H5Dget_type(data), H5Tclose, fail(what));
      if (H5Tget_class(type) == H5T_STRING) n.text[field] = strings(data, what).at(0);
      else n.arrays[field] = array(data, what);
    }
    return n;
  }

  std::vector<std::pair<std::string, std::string>> edges(hid_t node) const {
    const Handle data = dataset(node, "edges");
    const Shape shape = shape_of(data, "edges");
    std::vector<std::pair<std::string, std::string>> out;
    if (shape.numel() == 0) return out;
    if (shape.rank() != 2 || shape[1] != 2)
      throw io_error(fail(str("edges: found ", shape, ", expected [edges, 2]")));
    const std::vector<std::string> s = strings(data, "edges");
    for (size_t i = 0; i + 1 < s.size(); i += 2) out.emplace_back(s[i], s[i + 1]);
    return out;
  }

  std::string path_;
};

class Writer {
 public:
  ByteVector image(const NirGraph& g) {
    const Library library;
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, what);
    check(H5Pset_fapl_core(access, 1 << 16, 0), what);
    const Handle file(H5Fcreate("nir", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose, what);
    text(file, "version", {}, {g.version});
    {
      const Handle node = group(file, "node");
      text(node, "type", {}, {"NIRGraph"});
      const Handle nodes = group(node, "nodes");
      for (const NirNode& n : g.nodes) {
        const Handle at = group(nodes, n.name);
        text(at, "type", {}, {n.type});
        for (const auto& [name, s] : n.text) text(at, name, {}, {s});
        for (const auto& [name, t] : n.arrays) array(at, name, t);
      }
      std::vector<std::string> flat;
      for (const auto& [from, to] : g.edges) flat.push_back(from), flat.push_back(to);
      text(node, "edges", {static_cast<int64_t>(g.edges.size()), 2}, flat);
    }
    check(H5Fflush(file, H5F_SCOPE_GLOBAL), what);
    const ssize_t size = H5Fget_file_image(file, nullptr, 0);
    if (size <= 0) throw io_error(what);
    ByteVector out(static_cast<size_t>(size));
    if (H5Fget_file_image(file, out.data(), out.size()) < 0) throw io_error(what);
    return out;
  }

 private:
  Handle group(hid_t at, const std::string& name) {
    return {H5Gcreate2(at, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, what};
  }
  Handle space(const Shape& s) {
    hsize_t dims[Shape::max_rank] = {};
    for (int d = 0; d < s.rank(); ++d) dims[d] = static_cast<hsize_t>(s[d]);
    return {s.rank() == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(s.rank(), dims, nullptr),
            H5Sclose, what};
  }
  void text(hid_t at, const std::string& name, const Shape& shape,
            const std::vector<std::string>& s) {
    const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, what);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    const Handle extent = space(shape);
    const Handle data(
        H5Dcreate2(at, name.c_str(), type, extent, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
        what);
    std::vector<const char*> all;
    for (const std::string& one : s) all.push_back(one.c_str());
    if (!all.empty()) check(H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()), what);
  }
  void array(hid_t at, const std::string& name, const Tensor& t) {
    const bool whole = t.dtype() == DType::i64, wide = t.dtype() == DType::f64;
    if (!whole && !wide && t.dtype() != DType::f32)
      throw io_error(str("nir: ", name, " is ", t, ", expected f32, f64 or i64"));
    const hid_t type = whole ? H5T_STD_I64LE : wide ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
    const hid_t memory = whole ? H5T_NATIVE_INT64 : wide ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
    const Handle extent = space(t.shape());
    const Handle data(
        H5Dcreate2(at, name.c_str(), type, extent, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
        what);
    if (t.numel() > 0) check(H5Dwrite(data, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, t.raw()), what);
  }
  const std::string what = "nir: the file cannot be put together";
};

}  // namespace

NirGraph nir_from_hdf5(const std::string& path) { return Reader(path).read(); }
ByteVector nir_to_hdf5(const NirGraph& graph) { return Writer().image(graph); }

}  // namespace wattle::io
#endif
