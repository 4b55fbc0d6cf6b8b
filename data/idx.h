// IDX files, the layout of MNIST and its descendants (yann.lecun.com/exdb/mnist, "File formats"):
// two zero bytes, the element type (0x08 = u8), the rank, the sizes as 32-bit big-endian numbers,
// then the elements in row-major order.
#pragma once
#include <string>

#include "data/bytes.h"

namespace wattle::io {

/// A u8 tensor of `rank` dimensions (3 = images, 1 = labels). Throws io_error "WHAT: found ...,
/// expected ..." for a wrong magic number, no elements, and too few or too many bytes.
Tensor parse_idx(ByteSpan bytes, int rank, const std::string& what);

/// Images of an IDX file, packed by gzip or not: u8 [N,1,H,W].
Tensor read_idx_images(const std::string& path);
/// Labels of an IDX file, packed by gzip or not: u8 [N], each below `classes`.
Tensor read_idx_labels(const std::string& path, int classes);

/// Throws io_error naming `what`, the first label that is not below `classes`, and its row.
void check_labels(const Tensor& labels, int classes, const std::string& what);

}  // namespace wattle::io
