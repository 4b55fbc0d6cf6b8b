// The documents agree with the code. WATTLE_UPDATE_DOCS=1 rewrites docs/OPS.md and the program and
// output of README.md instead of comparing them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "core/recorder.h"

namespace wattle {
namespace {

namespace fs = std::filesystem;
const fs::path root = WATTLE_SOURCE_DIR;

bool updating() { return std::getenv("WATTLE_UPDATE_DOCS") != nullptr; }

std::string read(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path << " cannot be read";
  std::stringstream s;
  s << file.rdbuf();
  return s.str();
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

// The fenced block that follows a marker: its position in the page and its length.
struct Block {
  size_t begin = 0, length = 0;
};
Block block_after(const std::string& page, const std::string& marker) {
  const size_t at = page.find(marker);
  if (at == page.npos) throw value_error("README.md: found no " + marker);
  const size_t begin = page.find('\n', page.find("```", at)) + 1;
  const size_t end = page.find("```", begin);
  if (begin == 0 || end == page.npos) throw value_error("README.md: no block after " + marker);
  return {begin, end - begin};
}

// The block equals `text` (after `comparable` has been applied to both), or becomes it.
void expect_block(const std::string& marker, const std::string& text,
                  std::string (*comparable)(const std::string&)) {
  const fs::path path = root / "README.md";
  std::string page = read(path);
  const Block b = block_after(page, marker);
  const std::string shown = comparable(page.substr(b.begin, b.length)), now = comparable(text);
  if (!updating()) EXPECT_EQ(shown, now) << marker << " (WATTLE_UPDATE_DOCS=1 rewrites it)";
  else if (shown != now) write(path, page.replace(b.begin, b.length, text));
}

// Times and, with them, what a kernel repeats or skips belong to a machine; the counts do not.
std::string counts_only(const std::string& table) {
  return std::regex_replace(table, std::regex("[ 0-9.]+ ms  [^\n]*"), "");
}

// One test, because both parts rewrite the same page.
TEST(Docs, ReadmeShowsTheExampleAndItsOutput) {
  const std::string program = read(root / "examples/readme.cpp");
  expect_block("<!-- program: examples/readme.cpp -->", program,
               [](const std::string& s) { return s; });
  const std::string body = program.substr(program.find("int main"));
  EXPECT_LE(std::count(body.begin(), body.end(), '\n'), 15);
#ifdef WATTLE_README_PROGRAM
  std::FILE* pipe = popen("OMP_NUM_THREADS=1 " WATTLE_README_PROGRAM, "r");
  ASSERT_NE(pipe, nullptr);
  std::string out;
  char buf[4096];
  while (const size_t n = std::fread(buf, 1, sizeof buf, pipe)) out.append(buf, n);
  ASSERT_EQ(pclose(pipe), 0) << out;
  expect_block("<!-- output of examples/readme.cpp -->", out, counts_only);
#endif
}

struct LastCost final : Recorder {
  Cost cost;
  void record(const Call& c) override { cost = c.cost; }
};

// "[3, 5] -> mul 15, cmp 15, read 60, written 60": the first sample on meta, f32.
std::string first_sample(const OpBase& op) {
  const DefaultDevice on_meta(meta);
  Tensors in;
  std::string shapes;
  for (const SampleIn& s : op.sample_in(0)) {
    const DType t = s.fill == SampleIn::integers   ? s.int_dtype
                    : s.fill == SampleIn::booleans ? DType::boolean
                                                   : DType::f32;
    in.push_back(s.fill == SampleIn::absent ? Tensor{} : Tensor::empty(s.shape, t, meta));
    shapes += (shapes.empty() ? "" : " ") + (in.back() ? in.back().shape().str() : "-");
  }
  LastCost last;
  apply(op, in, op.sample_attr(0));
  const Cost& c = last.cost;
  std::string counts;
  const auto add = [&](const char* column, int64_t n) {
    if (n != 0) counts += str(counts.empty() ? "" : ", ", column, " ", n);
  };
  add("mac", c.mac), add("add", c.add), add("mul", c.mul), add("cmp", c.cmp);
  add("special", c.special), add("iop", c.iop), add("read", c.read), add("written", c.written);
  return str(shapes.empty() ? "none" : shapes, ": ", counts.empty() ? "nothing" : counts);
}

std::string cell(std::string s) {
  for (size_t i = 0; (i = s.find('|', i)) != s.npos; i += 2) s.insert(i, "\\");
  return s;
}

std::string row(const OpBase& op) {
  std::string attrs, kernels;
  const auto attr = op.make_attr();
  for (const AttrText& a : op.attr_texts(attr.get()))
    attrs += str(attrs.empty() ? "" : ", ", a.name, " = ", a.text.empty() ? "()" : a.text);
  for (int k = 0; k < op.kernel_count(); ++k)
    kernels += str(kernels.empty() ? "" : ", ", op.kernel_name(k));
  if (op.is_view) kernels = "none: a view";
  const std::string file = op.file;
  return str("| [`", op.name, "`](../", file, ") | ", cell(op.doc), " | `", cell(op.equation),
             "` | ", attrs.empty() ? "" : "`" + cell(attrs) + "`", " | ",
             op.differentiable ? "yes" : "no", " | ", kernels, " | ", cell(first_sample(op)),
             " |\n");
}

std::string ops_page() {
  std::string general, gradients;
  int count = 0;
  for (const OpBase* op : all_ops()) {
    const bool grad = std::string_view(op->name).find("_grad") != std::string_view::npos;
    (grad ? gradients : general) += row(*op);
    ++count;
  }
  const std::string head =
      "| op | what | equation | attributes and defaults | gradient | kernels, fastest first | cost "
      "of the first sample |\n|---|---|---|---|---|---|---|\n";
  return str(
      "# The ops\n\nMade from the registry by `WATTLE_UPDATE_DOCS=1 ./wattle test -R '^Docs\\.'`; "
      "a "
      "test compares.\n`wattle ops NAME` shows one op with its source line and says which kernels "
      "run on this machine.\nThe last column is the declared cost of the op's first sample in f32 "
      "(shapes of the operands: operations and\nunique bytes); what the columns mean is in "
      "[COST_RULES.md](COST_RULES.md).\n\n",
      count, " ops.\n\n## Called by users\n\n", head, general, "\n## Called by backward rules\n\n",
      head, gradients);
}

TEST(Docs, OpsPageIsTheRegistry) {
  const std::string page = ops_page();
  if (updating()) return write(root / "docs/OPS.md", page);
  EXPECT_EQ(read(root / "docs/OPS.md"), page) << "WATTLE_UPDATE_DOCS=1 rewrites it";
}

TEST(Docs, EveryCommandIsInTheReadme) {
  const std::string page = read(root / "README.md");
  int commands = 0;
  for (const auto& file : fs::directory_iterator(root / "tools")) {
    const std::string stem = file.path().stem();
    if (!stem.starts_with("cmd_") || file.path().extension() != ".cpp") continue;
    ++commands;
    EXPECT_NE(page.find("`./wattle " + stem.substr(4)), page.npos) << stem.substr(4);
  }
  EXPECT_GT(commands, 0);
}

// Targets of [text](target) outside of code.
std::vector<std::string> links(const std::string& page) {
  std::vector<std::string> out;
  const std::string text = std::regex_replace(page, std::regex("```[^`]*```|`[^`\n]*`"), "code");
  const std::regex link("\\]\\(([^)#\\s]+)[^)]*\\)");
  for (std::sregex_iterator i(text.begin(), text.end(), link), end; i != end; ++i)
    if (!(*i)[1].str().starts_with("http")) out.push_back((*i)[1]);
  return out;
}

TEST(Docs, LinksLeadSomewhere) {
  int checked = 0;
  for (const char* folder : {".", "docs", "moe", "snn", "quant", "bench", "tests/oracle"})
    for (const auto& file : fs::directory_iterator(root / folder)) {
      if (file.path().extension() != ".md") continue;
      for (const std::string& target : links(read(file.path()))) {
        EXPECT_TRUE(fs::exists(file.path().parent_path() / target))
            << file.path() << " links to " << target;
        ++checked;
      }
    }
  EXPECT_GT(checked, 20);
}

}  // namespace
}  // namespace wattle
