// libFuzzer target: records of CIFAR-10's binary version.
#include <cstdlib>

#include "core/error.h"
#include "data/cifar10.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const io::Cifar10 c = io::parse_cifar10({data, size}, "fuzz");
    if (c.labels.numel() * io::cifar10_record != static_cast<int64_t>(size)) std::abort();
  } catch (const io_error&) {}
  return 0;
}
