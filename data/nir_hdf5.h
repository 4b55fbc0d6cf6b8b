// The HDF5 side of NIR files; data/nir.h has the rules.
#pragma once
#include <string>

#include "data/bytes.h"
#include "data/nir.h"

namespace wattle::io {

/// May crash on a damaged file: io::isolated.
NirGraph nir_from_hdf5(const std::string& path);
/// The bytes of a file.
ByteVector nir_to_hdf5(const NirGraph& graph);

}  // namespace wattle::io
