// Libraries that may crash on hostile files read them in a child process.
#pragma once
#include <functional>
#include <string>

namespace wattle::io {

/// What `read` returns, run in a fork of this process; what it throws is thrown here as io_error
/// with the same text. When the child dies, or takes longer than `seconds`: io_error "WHAT: ...".
std::string isolated(const std::string& what, const std::function<std::string()>& read,
                     unsigned seconds = 10);

}  // namespace wattle::io
