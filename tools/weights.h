// Weights of a net from a file.
#pragma once
#include <string>

#include "core/error.h"
#include "data/safetensors.h"
#include "nn/module.h"

namespace wattle::cli {

/// Throws value_error naming the file and each entry that does not fit the net.
inline void load_weights(nn::Module& net, const std::string& path) {
  nn::StateDict state;
  for (auto& [name, tensor] : io::read_safetensors(path).tensors) state.push_back({name, tensor});
  try {
    net.load_state_dict(state);
  } catch (const value_error& e) { throw value_error(str(path, ": ", e.what())); }
}

}  // namespace wattle::cli
