// The page of `wattle formats --plot`: precision by magnitude, noise by scale, and the table.
#pragma once
#include <string>

namespace wattle::green {

std::string format_page_html();

}  // namespace wattle::green
