// wattle: the command line.
#include <cstdio>
#include <exception>

#include "core/error.h"
#include "core/parallel.h"
#include "tools/cli.h"

namespace wattle::cli {

std::string si(double x) {
  static const char* const prefix[] = {"", " k", " M", " G", " T", " P", " E"};
  int p = 0;
  double v = x;
  while (std::abs(v) >= 999.5 && p < 6) v /= 1000, ++p;
  char buf[32];
  const int digits = p == 0 && v == static_cast<int64_t>(v) ? 0
                     : std::abs(v) >= 99.95                 ? 0
                     : std::abs(v) >= 9.995                 ? 1
                                                            : 2;
  std::snprintf(buf, sizeof buf, "%.*f%s", digits, v, prefix[p]);
  return buf;
}

namespace {
CLI::Validator number(bool zero, const char* what) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        double v = 0;
        const bool good = CLI::detail::lexical_cast(text, v) && (v > 0 || (zero && v == 0));
        return good ? "" : "found " + text + ", expected a number " + what;
      },
      std::string("NUMBER") + what);
}
}  // namespace

CLI::Validator not_negative() { return number(true, ">= 0"); }
CLI::Validator positive() { return number(false, "> 0"); }

void add_device_options(CLI::App& c, std::string& device, std::string& math) {
  c.add_option("--device", device, "cpu, cuda or cuda:N (\"wattle info\" lists them)")
      ->capture_default_str();
  c.add_option("--math", math, "On cuda, products of f32 numbers in f32, tf32, bf16 or fp8 operands")
      ->capture_default_str();
}
std::string cell(const std::string& text, int width) {
  const int n = static_cast<int>(text.size()), w = width < 0 ? -width : width;
  if (n >= w) return text;
  const std::string space(static_cast<size_t>(w - n), ' ');
  return width < 0 ? space + text : text + space;
}

// Names the command that does not exist, or the command whose options are wrong.
int usage_error(CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  if (e.get_exit_code() == 0) return app.exit(e);  // --help
  const auto given = app.get_subcommands();
  if (given.empty()) {
    std::string known;
    for (const CLI::App* c : app.get_subcommands({})) known += " " + c->get_name();
    const std::string found = argc > 1 ? str("found '", argv[1], "'") : "no command is given";
    std::fprintf(stderr, "wattle: %s, expected one of:%s\n", found.c_str(), known.c_str());
  } else {
    std::string path = "wattle";
    for (const CLI::App* c = given[0]; c;
         c = c->get_subcommands().empty() ? nullptr : c->get_subcommands()[0])
      path += " " + c->get_name();
    std::fprintf(stderr, "%s: %s (%s --help lists its options)\n", path.c_str(), e.what(),
                 path.c_str());
  }
  return 2;
}

}  // namespace wattle::cli

int main(int argc, char** argv) {
  using namespace wattle;
  CLI::App app{"Wattle: a deep-learning framework that counts every FLOP, byte and joule.",
               "wattle"};
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every command");
  int threads = 0;
  app.add_option("--threads", threads,
                 "Threads of parallel loops (default: OMP_NUM_THREADS, else the CPUs)")
      ->check(wattle::cli::positive());
  app.parse_complete_callback([&] {
    if (threads > 0) set_num_threads(threads);
  });
  app.fallthrough();
  cli::add_study(app);
  cli::add_cost(app);
  cli::add_train(app);
  cli::add_explain(app);
  cli::add_ops(app);
  cli::add_op(app);
  cli::add_data(app);
  cli::add_bench(app);
  cli::add_formats(app);
  cli::add_quantize(app);
  cli::add_advise(app);
  cli::add_info(app);
  cli::add_meter(app);
  cli::add_experiment(app);
  cli::add_carbon(app);
  cli::add_mlflow(app);
  cli::add_moe(app);
  cli::add_convert(app);
  cli::add_nir(app);
  cli::add_generate(app);
  cli::add_calibrate(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& e) {  // a command that ends with a code of its own
    return e.get_exit_code();
  } catch (const CLI::ParseError& e) {
    return cli::usage_error(app, e, argc, argv);
  } catch (const error& e) {
    std::fprintf(stderr, "wattle: %s\n", e.what());
    return 1;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "wattle: out of memory\n");
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "wattle: internal error: %s\n", e.what());
    return 3;
  }
  return 0;
}
