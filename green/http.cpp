#include "green/http.h"

#include <curl/curl.h>

#include <memory>
#include <mutex>

namespace wattle::green {
namespace {

constexpr size_t body_limit = 64 << 20;

size_t append(const char* p, size_t one, size_t n, void* to) {
  std::string& body = *static_cast<std::string*>(to);
  if (body.size() + one * n > body_limit) return 0;
  body.append(p, one * n);
  return one * n;
}

}  // namespace

HttpAnswer http_json(const std::string& url, const std::string& body, double timeout_s) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  HttpAnswer out;
  const std::unique_ptr<CURL, void (*)(CURL*)> c(curl_easy_init(), curl_easy_cleanup);
  if (!c) {
    out.error = "libcurl cannot start";
    return out;
  }
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  list = curl_slist_append(list, "Expect:");
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(list, curl_slist_free_all);
  const long ms = static_cast<long>(timeout_s * 1000);
  char text[CURL_ERROR_SIZE] = {};
  curl_easy_setopt(c.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(c.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(c.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c.get(), CURLOPT_TIMEOUT_MS, ms);
  curl_easy_setopt(c.get(), CURLOPT_CONNECTTIMEOUT_MS, ms);
  curl_easy_setopt(c.get(), CURLOPT_ERRORBUFFER, text);
  curl_easy_setopt(c.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(c.get(), CURLOPT_WRITEDATA, &out.body);
  if (!body.empty()) {
    curl_easy_setopt(c.get(), CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(c.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  }
  const CURLcode code = curl_easy_perform(c.get());
  if (code != CURLE_OK) {
    out.error = text[0] ? text : curl_easy_strerror(code);
    return out;
  }
  long status = 0;
  curl_easy_getinfo(c.get(), CURLINFO_RESPONSE_CODE, &status);
  out.status = static_cast<int>(status);
  return out;
}

std::string url_encoded(const std::string& text) {
  constexpr char hex[] = "0123456789ABCDEF";
  std::string out;
  for (const char ch : text) {
    const auto u = static_cast<unsigned char>(ch);
    const bool plain = (u >= '0' && u <= '9') || (u >= 'A' && u <= 'Z') || (u >= 'a' && u <= 'z') ||
                       ch == '-' || ch == '.' || ch == '_' || ch == '~';
    if (plain) out += ch;
    else out += '%', out += hex[u >> 4], out += hex[u & 15];
  }
  return out;
}

}  // namespace wattle::green
