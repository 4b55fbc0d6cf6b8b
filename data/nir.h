// Neuromorphic Intermediate Representation: graphs of layers and neurons in continuous time, HDF5
// files that SpikingJelly, snnTorch, Norse and chips read (Pedersen et al., Nature Communications
// 2024; neuroir.org). This is the file; green/nir_net.h makes nets of it.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace wattle::io {

/// A node: its type ("Affine", "LIF", ...) and what it holds, by the names of the specification.
struct NirNode {
  std::string name, type;
  std::map<std::string, Tensor> arrays;     ///< f32, f64 or i64
  std::map<std::string, std::string> text;  ///< "padding": "same", ...
};

struct NirGraph {
  std::string version = "1.0.8";  ///< of the specification
  std::vector<NirNode> nodes;
  std::vector<std::pair<std::string, std::string>> edges;  ///< from, to
};

/// Throws io_error naming the file, the node and what is wrong; for graphs within graphs (recurrent
/// layers), too. Without HDF5 in the build every call throws and says which package is missing.
NirGraph read_nir(const std::string& path);
/// Written whole or not at all. Floating arrays are stored in their dtype.
void write_nir(const std::string& path, const NirGraph& graph);

}  // namespace wattle::io
