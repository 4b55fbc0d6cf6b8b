// JSON over HTTP for services that may be away.
#pragma once
#include <string>

namespace wattle::green {

struct HttpAnswer {
  int status = 0;     ///< 0: no answer came
  std::string body;   ///< at most 64 MiB
  std::string error;  ///< why no answer came
  bool ok() const { return status >= 200 && status < 300; }
};

/// GET when `body` is empty, else POST of that JSON. Blocks for at most `timeout_s`; an unreachable
/// server is an answer with status 0, not an exception.
HttpAnswer http_json(const std::string& url, const std::string& body, double timeout_s);
/// Percent-encodes everything but letters, digits and -._~
std::string url_encoded(const std::string& text);

}  // namespace wattle::green
