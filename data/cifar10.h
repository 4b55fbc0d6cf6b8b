// CIFAR-10's binary version (www.cs.toronto.edu/~kriz/cifar.html): records of 1 label byte and 3072
// pixel bytes, which are the red, green and blue planes of 32 x 32, row-major.
#pragma once
#include <string>
#include <vector>

#include "data/bytes.h"

namespace wattle::io {

inline constexpr int64_t cifar10_record = 1 + 3 * 32 * 32;
inline constexpr int64_t cifar10_records_per_file = 10000;  ///< in each of the six official files

struct Cifar10 {
  Tensor images;  ///< u8 [N,3,32,32]
  Tensor labels;  ///< u8 [N], from 0 to 9
};

/// Records in memory. Throws io_error "WHAT: found ..., expected ..." when there is none, the last
/// one is not whole, or a label is above 9.
Cifar10 parse_cifar10(ByteSpan bytes, const std::string& what);

/// The records of several files, one after the other. The files have to hold equally many: one cut
/// between two records would go unnoticed otherwise.
Cifar10 read_cifar10(const std::vector<std::string>& paths);

}  // namespace wattle::io
