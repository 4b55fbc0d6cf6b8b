// Where a training runs, as --device and --math say it.
#pragma once
#include <string>

#include "core/device.h"

namespace wattle::green {

/// cpu, cuda or cuda:N; on cuda, products of f32 numbers are computed in `math` (f32, tf32, bf16,
/// fp8) from now on. Throws value_error for other names and for another math than f32 on cpu,
/// device_error where there is no such GPU.
Device open_device(const std::string& device, const std::string& math);
/// For reports: "cpu", or the GPU's name and how it computes products of f32 numbers.
std::string device_text(const std::string& device, const std::string& math);
/// What it adds to the settings by which a study is continued; nothing for cpu.
std::string device_setting(const std::string& device, const std::string& math);
/// The host of a report, and the device beside it unless that is the host.
std::string host_text(const std::string& cpu, const std::string& isa, const std::string& device);
/// Throws value_error for several jobs on a GPU: launches of all threads go to one stream.
void check_jobs(int jobs, Device device);

}  // namespace wattle::green
