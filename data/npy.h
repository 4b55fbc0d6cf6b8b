// NumPy's .npy files, versions 1.0 and 2.0 (numpy.lib.format).
#pragma once
#include <optional>
#include <string>

#include "data/bytes.h"

namespace wattle::io {

/// Reads an array of a dtype of core/dtype.h. fortran_order=True is turned into row-major order.
/// Throws io_error "PATH: found ..., expected ..." for other versions, unknown or big-endian descr,
/// more than 8 dimensions, and data that is shorter or longer than the shape says.
///
/// `codes` names a coded dtype (posit16, mxfp4, ...): the file then holds unsigned integers as wide
/// as a code, or the bytes of packed rows, as write_npy writes them.
Tensor read_npy(const std::string& path, std::optional<DType> codes = {});
/// The same from memory; `what` stands for the path in messages.
Tensor parse_npy(ByteSpan bytes, const std::string& what, std::optional<DType> codes = {});

/// Writes version 1.0, atomically; byte for byte what numpy.save writes for a C-ordered array.
/// A coded dtype is written as its codes: unsigned integers, or the bytes of packed rows.
void write_npy(const std::string& path, const Tensor& t);
/// The bytes in front of the data.
std::string npy_header(const Tensor& t);

}  // namespace wattle::io
