// What devices there are, and why there is none.
#include <cstdio>

#include "core/cuda/each.cuh"
#include "core/cuda/state.h"

namespace wattle::device {

const char* properties(int32_t device, Properties* out) {
  if (state().emulated) {
    std::snprintf(out->name, sizeof out->name, "host (device code emulated)");
    return nullptr;
  }
  cudaDeviceProp p;
  if (const char* e = text(cudaGetDeviceProperties(&p, device))) return e;
  std::snprintf(out->name, sizeof out->name, "%s", p.name);
  char* to = out->uuid + std::snprintf(out->uuid, sizeof out->uuid, "GPU-");
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *to++ = '-';
    to += std::snprintf(to, 3, "%02x", static_cast<unsigned char>(p.uuid.bytes[i]));
  }
  out->major = p.major;
  out->minor = p.minor;
  out->multiprocessors = p.multiProcessorCount;
  out->memory = static_cast<int64_t>(p.totalGlobalMem);
  return nullptr;
}

const char* use_device(int32_t device) {
  State& s = state();
  if (s.emulated || (s.stream && s.device == device)) return nullptr;
  if (s.stream && s.device != device)
    return fail("device %d is in use by this process; one device a process", s.device);
  if (const char* e = text(cudaSetDevice(device))) return e;
  s.device = device;
  if (const char* e = text(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking))) return e;
  if (const char* e = text(cudaEventCreate(&s.start))) return e;
  return text(cudaEventCreate(&s.stop));
}

static void describe(Probe* p, cudaError_t e) {
  const char* const error = cudaGetErrorString(e);
  if (e == cudaErrorInsufficientDriver && p->driver == 0) {
    p->reason = no_driver;
    std::snprintf(p->message, sizeof p->message,
                  "no NVIDIA driver is installed (the CUDA %d.%d runtime found none)",
                  p->runtime / 1000, p->runtime % 1000 / 10);
  } else if (e == cudaErrorInsufficientDriver) {
    p->reason = driver_too_old;
    std::snprintf(p->message, sizeof p->message,
                  "the NVIDIA driver supports CUDA %d.%d, this plugin needs %d.%d",
                  p->driver / 1000, p->driver % 1000 / 10, p->runtime / 1000,
                  p->runtime % 1000 / 10);
  } else if (e == cudaErrorNoDevice) {
    p->reason = no_device;
    std::snprintf(p->message, sizeof p->message,
                  "the driver shows no GPU (CUDA_VISIBLE_DEVICES is '%s')",
                  std::getenv("CUDA_VISIBLE_DEVICES") ? std::getenv("CUDA_VISIBLE_DEVICES") : "");
  } else if (e == cudaErrorStubLibrary) {
    p->reason = stub_library;
    std::snprintf(p->message, sizeof p->message,
                  "libcuda.so.1 is a stub for linking, not a driver");
  } else if (e == cudaErrorNoKernelImageForDevice) {
    p->reason = no_kernel_image;
    std::snprintf(p->message, sizeof p->message, "this GPU is of no architecture among %s",
                  p->architectures);
  } else {
    p->reason = failed;
    std::snprintf(p->message, sizeof p->message, "%s", error);
  }
}

static __global__ void nothing_kernel() {}

void probe(Probe* p) {
  p->abi_found = abi;
  std::snprintf(p->architectures, sizeof p->architectures, "%s", WATTLE_CUDA_ARCHITECTURES);
  cudaRuntimeGetVersion(&p->runtime);
  cudaDriverGetVersion(&p->driver);
  const char* const emulate = std::getenv("WATTLE_CUDA_EMULATE");
  if (emulate && *emulate == '1') {
    state().emulated = p->emulated = true;
    p->devices = 1;
    p->reason = ready;
    std::snprintf(p->message, sizeof p->message, "device code runs on the host, for tests");
    return;
  }
  int n = 0;
  cudaError_t e = cudaGetDeviceCount(&n);
  if (e == cudaSuccess && n == 0) e = cudaErrorNoDevice;
  if (e == cudaSuccess) {
    nothing_kernel<<<1, 1>>>();
    e = cudaGetLastError();
  }
  p->devices = n;
  if (e != cudaSuccess) return describe(p, e);
  p->reason = ready;
  std::snprintf(p->message, sizeof p->message, "%d device%s", n, n == 1 ? "" : "s");
}

}  // namespace wattle::device
