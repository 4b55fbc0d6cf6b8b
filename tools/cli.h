// The command line: one file per command, each adding itself to the application.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace wattle::cli {

void add_bench(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_carbon(CLI::App& app);
void add_convert(CLI::App& app);
void add_cost(CLI::App& app);
void add_data(CLI::App& app);
void add_experiment(CLI::App& app);
void add_explain(CLI::App& app);
void add_formats(CLI::App& app);
void add_info(CLI::App& app);
void add_quantize(CLI::App& app);
void add_advise(CLI::App& app);
void add_meter(CLI::App& app);
void add_mlflow(CLI::App& app);
void add_moe(CLI::App& app);
void add_nir(CLI::App& app);
void add_generate(CLI::App& app);
void add_op(CLI::App& app);
void add_ops(CLI::App& app);
void add_study(CLI::App& app);
void add_train(CLI::App& app);

/// "1.28 M", "927 k": three significant digits with a decimal prefix.
std::string si(double x);
/// Check of an option: a number >= 0. CLI11's own prints the largest double in its message.
CLI::Validator not_negative();
/// The same for a number > 0.
CLI::Validator positive();
/// --device and --math of what trains.
void add_device_options(CLI::App& c, std::string& device, std::string& math);
/// Text padded with spaces to a width; negative widths pad on the left.
std::string cell(const std::string& text, int width);

}  // namespace wattle::cli
