// How apply tells a tape what happened, without the core knowing what a tape is.
#pragma once
#include <string_view>

#include "core/op.h"

namespace wattle {

/// One call, as apply saw it.
struct Call {
  const OpBase* op;
  const void* attr;
  Ins in;
  Outs out;
  const char* kernel;
  Cost cost, executed;
  double ns;
};

/// Receives every call made on its thread while it is on the stack of recorders.
class Recorder {
 public:
  Recorder();
  virtual ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  virtual void record(const Call& call) = 0;
  Recorder* outer() const { return outer_; }

 private:
  Recorder* outer_;
};

/// Innermost recorder of this thread; null when nothing is recorded.
Recorder*& current_recorder();

/// Stops all recording on this thread for a block.
class NoRecord {
 public:
  NoRecord() : saved_(current_recorder()) { current_recorder() = nullptr; }
  ~NoRecord() { current_recorder() = saved_; }
  NoRecord(const NoRecord&) = delete;
  NoRecord& operator=(const NoRecord&) = delete;

 private:
  Recorder* saved_;
};

/// Runs kernel `kernel` of op `op` ("*" = of every op that has it) on this thread for a block; a
/// call that this kernel refuses is an error.
class ForceKernel {
 public:
  ForceKernel(std::string op, std::string kernel);
  ~ForceKernel();
  ForceKernel(const ForceKernel&) = delete;
  ForceKernel& operator=(const ForceKernel&) = delete;

  std::string op, kernel;

 private:
  ForceKernel* outer_;
};
ForceKernel*& forced_kernel();

/// Device of ops without operands and of new parameters, on this thread.
Device default_device();
class DefaultDevice {
 public:
  explicit DefaultDevice(Device d);
  ~DefaultDevice();
  DefaultDevice(const DefaultDevice&) = delete;
  DefaultDevice& operator=(const DefaultDevice&) = delete;

 private:
  Device saved_;
};

}  // namespace wattle
