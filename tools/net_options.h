// Options that several commands share: which net, which data.
#pragma once
#include <memory>
#include <string>

#include "green/nets.h"
#include "tools/cli.h"

namespace wattle::cli {

struct NetOptions {
  std::string name = "cnn", dataset = "fashion-mnist";
  int linear = 3, conv = 1, relu = 1;
  green::NetSpec net() const { return {name, linear, conv, relu != 0}; }
  std::string title() const;
};

inline std::string NetOptions::title() const {
  if (name == "lenet5") return name + ", " + dataset;
  std::string t = name + " " + std::to_string(linear) + " linear";
  if (name == "cnn")
    t += ", " + std::to_string(conv) + " conv, " + (relu ? "with ReLU" : "without ReLU");
  return t + ", " + dataset;
}

inline std::shared_ptr<NetOptions> add_net_options(CLI::App& c) {
  auto o = std::make_shared<NetOptions>();
  c.add_option("--net", o->name, "cnn, densepoly, denselinear or lenet5")->capture_default_str();
  c.add_option("--linear", o->linear, "Linear layers")->capture_default_str();
  c.add_option("--conv", o->conv, "Convolution blocks (cnn)")->capture_default_str();
  c.add_option("--relu", o->relu, "1 = ReLU after every convolution, 0 = none (cnn)")
      ->capture_default_str()
      ->check(CLI::Range(0, 1));
  c.add_option("--dataset", o->dataset, "fashion-mnist or cifar10")->capture_default_str();
  return o;
}

}  // namespace wattle::cli
