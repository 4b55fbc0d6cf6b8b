#include "core/recorder.h"

#include <cstdlib>

namespace wattle {
namespace {

Device& device_slot() {
  thread_local Device d = cpu;
  return d;
}

}  // namespace

Recorder*& current_recorder() {
  thread_local Recorder* top = nullptr;
  return top;
}

Recorder::Recorder() : outer_(current_recorder()) { current_recorder() = this; }
Recorder::~Recorder() {
  if (current_recorder() == this) current_recorder() = outer_;
}

ForceKernel*& forced_kernel() {
  thread_local ForceKernel* top = nullptr;
  return top;
}

ForceKernel::ForceKernel(std::string o, std::string k)
    : op(std::move(o)), kernel(std::move(k)), outer_(forced_kernel()) {
  forced_kernel() = this;
}
ForceKernel::~ForceKernel() { forced_kernel() = outer_; }

Device default_device() { return device_slot(); }
DefaultDevice::DefaultDevice(Device d) : saved_(device_slot()) { device_slot() = d; }
DefaultDevice::~DefaultDevice() { device_slot() = saved_; }

}  // namespace wattle
