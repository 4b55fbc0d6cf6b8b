// NumPy's .npy files, versions 1.0 and 2.0 (numpy.lib.format).
#pragma once
#include <string>

#include "data/bytes.h"

namespace wattle::io {

/// Reads an array of a dtype of core/dtype.h. fortran_order=True is turned into row-major order.
/// Throws io_error "PATH: found ..., expected ..." for other versions, unknown or big-endian descr,
/// more than 8 dimensions, and data that is shorter or longer than the shape says.
Tensor read_npy(const std::string& path);
/// The same from memory; `what` stands for the path in messages.
Tensor parse_npy(ByteSpan bytes, const std::string& what);

/// Writes version 1.0, atomically; byte for byte what numpy.save writes for a C-ordered array.
/// Throws dtype_error for a dtype that NumPy does not have.
void write_npy(const std::string& path, const Tensor& t);
/// The bytes in front of the data.
std::string npy_header(const Tensor& t);

}  // namespace wattle::io
