// Bytes of several kinds of text, to train language models on: a stream that anybody can rebuild.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace wattle::green {

struct TextDomain {
  std::string name, origin;
  int64_t bytes = 0;
};

/// Every domain is cut into blocks of 4 KB; each 20th goes to validation, the others to training.
struct TextStream {
  std::vector<uint8_t> train, validation;
  std::vector<TextDomain> domains;
  std::string sha256;  ///< of both, training first: two studies with the same one saw the same text
};

/// Sources: kjv (the King James Bible, `bible -f gen1:1-rev22:21` of Debian's bible-kjv, from the
/// file kjv.txt in $WATTLE_TEXT_DIR), python (the standard library in /usr/lib/python3*), c++ (the
/// headers in /usr/include/c++), or a file or folder; folders are read in the order of their paths.
/// Each gives at most `limit` bytes. Throws io_error naming what is missing and the package that
/// has it, value_error for a stream that is too short to train on.
TextStream make_text_stream(const std::vector<std::string>& sources, int64_t limit = 4'400'000);

/// Tokens and the bytes that follow them, i64 [batch,length] each: window i of step s starts at a
/// place that (seed, s batch + i) alone decides.
struct TextBatch {
  Tensor tokens, targets;
};
TextBatch random_windows(const std::vector<uint8_t>& text, int64_t batch, int64_t length,
                         uint64_t seed, int64_t step);
/// Windows first, first + 1, ... of the text end to end. Throws value_error past its end.
TextBatch windows_in_order(const std::vector<uint8_t>& text, int64_t first, int64_t batch,
                           int64_t length);

}  // namespace wattle::green
