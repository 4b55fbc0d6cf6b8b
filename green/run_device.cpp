#include "green/run_device.h"

#include "core/cuda.h"
#include "core/error.h"

namespace wattle::green {

Device open_device(const std::string& device, const std::string& math) {
  const Device d = cuda::device_from_name(device);
  if (d.kind == DeviceKind::meta) throw value_error("--device: found meta, expected cpu or cuda");
  if (d.kind == DeviceKind::cuda) {
    cuda::set_math(cuda::math_from_name(math));
  } else if (math != "f32") {
    throw value_error(str("--math: found ", math, " with --device cpu, expected f32"));
  }
  return d;
}

std::string device_text(const std::string& device, const std::string& math) {
  const Device d = cuda::device_from_name(device);
  if (d.kind != DeviceKind::cuda) return device;
  const auto& gpu = cuda::status().devices[static_cast<size_t>(d.index)];
  return str(gpu.name, " (", d, "), products of f32 numbers in ", math);
}

std::string device_setting(const std::string& device, const std::string& math) {
  return device == "cpu" ? "" : str(", on ", device, ", products in ", math);
}

std::string host_text(const std::string& cpu, const std::string& isa, const std::string& device) {
  return (device == "cpu" ? "" : device + "; host: ") + cpu + ", " + isa;
}

void check_jobs(int jobs, Device device) {
  if (jobs > 1 && device.kind == DeviceKind::cuda)
    throw value_error(str("--jobs: found ", jobs,
                          ", expected 1 on cuda: trainings side by side would wait for each "
                          "other in the GPU's one stream"));
}

}  // namespace wattle::green
