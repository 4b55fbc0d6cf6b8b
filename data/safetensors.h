// safetensors files (github.com/huggingface/safetensors, README "Format"): 8 bytes little-endian
// header length N, N bytes of JSON, then the tensors without a gap. The JSON maps each name to
// {"dtype", "shape", "data_offsets": [begin, end)} and "__metadata__" to a map of strings.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/bytes.h"

namespace wattle::io {

/// The contents of a file: tensors in the order of their data, and strings.
struct SafetensorsFile {
  std::string path;  ///< for messages; empty for one that is being made
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::map<std::string, std::string> metadata;

  /// Undefined when there is none of that name.
  Tensor find(const std::string& name) const;
  /// Throws io_error naming the file, the missing tensor and what the file holds.
  const Tensor& at(const std::string& name) const;
  /// Throws io_error naming the file and the missing key.
  const std::string& text(const std::string& key) const;
  /// Throws value_error when the name is taken or reserved ("__metadata__").
  void add(const std::string& name, const Tensor& t);
};

/// Reads a file, each tensor straight into its own memory. Every element type but F64, F32, I64,
/// I32, BF16, F16, F8_E4M3, F8_E5M2, I8, U8 and BOOL is refused by name, as are headers above 100
/// MB, doubled keys, and offsets that are out of range, overlap, leave a hole or do not fit the
/// shape: io_error "PATH: ...".
SafetensorsFile read_safetensors(const std::string& path);
/// The same from memory; `what` stands for the path in messages.
SafetensorsFile parse_safetensors(ByteSpan bytes, const std::string& what);

/// Writes atomically. Codes of other types (posits, MX, ...) are written as U8, and metadata
/// "wattle.codes.NAME" hold their type and shape; reading turns them back. Tensors are laid out as
/// the Python package does it: wide types first, then by name; the same tensors and metadata (of at
/// most one key: it writes them in no fixed order) give the same bytes.
void write_safetensors(const std::string& path, const SafetensorsFile& file);
/// Header and data in one block of memory.
ByteVector safetensors_bytes(const SafetensorsFile& file);

}  // namespace wattle::io
