#!/usr/bin/env python3
"""CUDA from outside: what links against it, what is said where there is none, and builds without it.
    cli_cuda_test.py BUILD/wattle"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WATTLE = Path(sys.argv[1]).resolve()
BUILD, ROOT = WATTLE.parent, Path(__file__).resolve().parent.parent
PLUGIN = BUILD / "libwattle_cuda13.so"
FOREIGN = re.compile(r"lib(cuda|cudart|cublas|cublasLt|cudnn\w*|cufft|cupti|curand|cusolver|cusparse|nccl|nvrtc|nvJitLink|nvidia-ml)\.so")
checks = 0


def run(command, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("WATTLE_CUDA") and k != "WATTLE_BACKEND_PATH"}
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**env, **environment})
    return r.returncode, r.stdout, r.stderr


def check(what, holds, found=""):
    global checks
    checks += 1
    if not holds:
        raise SystemExit(f"FAILED {what}\n{found}")


def info(**environment):
    code, out, err = run([WATTLE, "info", "--json"], **environment)
    check("info ends with 0", code == 0, err)
    return json.loads(out)["cuda"]


def needed(path):
    _, out, _ = run(["readelf", "-d", path])
    return re.findall(r"NEEDED.*\[(.*)\]", out)


def links():
    for program in [WATTLE, *sorted((BUILD / "tests").glob("*_test"))]:
        wrong = [n for n in needed(program) if FOREIGN.match(n)]
        check(f"{program.name} needs no CUDA library", not wrong, wrong)
    if PLUGIN.exists():
        libraries = needed(PLUGIN)
        check("the plugin needs cuBLASLt and cuDNN", sum("cublasLt" in n or "cudnn" in n for n in libraries) == 2, libraries)
        check("the plugin does not need the driver", not any(n.startswith("libcuda.so") for n in libraries), libraries)


def reasons(folder):
    c = info(WATTLE_CUDA="OFF")
    check("switched off", (c["available"], c["reason"]) == (False, "switched_off"), c)
    code, _, err = run([WATTLE, "train", "--device", "cuda"], WATTLE_CUDA="OFF")
    check("an error that says so", code == 1 and "WATTLE_CUDA=OFF is set" in err, err)
    code, _, err = run([WATTLE, "train", "--device", "gpu"])
    check("an unknown device", code == 1 and "found 'gpu', expected cpu, cuda or cuda:N" in err, err)
    code, _, err = run([WATTLE, "train", "--math", "tf32"])
    check("math without cuda", code == 1 and "--math: found tf32 with --device cpu" in err, err)
    # A plugin of another interface is refused, one that is cut off says what the loader found.
    source = folder / "other.c"
    source.write_text("struct probe { unsigned abi; }; "
                      "const void* wattle_backend_query(unsigned a, struct probe* p) { p->abi = 999; return 0; }")
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", folder / PLUGIN.name, source], check=True)
    c = info(WATTLE_BACKEND_PATH=str(folder))
    check("another interface", c["reason"] == "wrong_plugin" and "has interface 999" in c["message"], c)
    (folder / PLUGIN.name).write_bytes(b"\x7fELF")
    # A broken file at the place that was asked for is not passed over for the one beside the program.
    c = info(WATTLE_BACKEND_PATH=str(folder))
    check("a broken plugin", c["reason"] == "failed" and "cannot be loaded: " + str(folder) in c["message"], c)


def without_a_gpu():
    c = info()
    check("the plugin is found beside the program", c["plugin"] == str(PLUGIN), c)
    check("it has code for the ops", c["ops"] > 100, c)
    tests = [BUILD / "tests" / n for n in ("cuda_test", "cuda_device_test")]
    if c["available"]:
        for test in tests:
            code, out, _ = run([test], WATTLE_BACKEND_PATH=str(BUILD), WATTLE_REQUIRE_GPU="1")
            check("nothing is skipped on a GPU", code == 0 and "SKIPPED" not in out, out[-2000:])
        return
    check("and says why there is no device", c["reason"] == "no_driver" and "driver" in c["message"], c)
    for test in tests:
        code, out, _ = run([test], WATTLE_BACKEND_PATH=str(BUILD))
        check("device tests are skipped with the reason", code == 0 and "no_driver: no NVIDIA driver" in out, out[-2000:])
        code, out, _ = run([test], WATTLE_BACKEND_PATH=str(BUILD), WATTLE_REQUIRE_GPU="1")
        check("and fail where a GPU is required", code == 1 and "a GPU is required (WATTLE_REQUIRE_GPU=1)" in out, out[-2000:])
    code, _, err = run([WATTLE, "bench", "closure"])
    check("a bench that needs one says so", code == 1 and "no NVIDIA driver" in err, err)


def emulated(folder):
    c = info(WATTLE_CUDA_EMULATE="1")
    check("emulation says what it is", c["emulated"] and "emulated" in c["devices"][0]["name"], c)
    result = {}
    for device in ("cpu", "cuda"):
        code, out, err = run([WATTLE, "train", "--device", device, "--rows", "200", "--batch", "50", "--json", "--quiet",
                              "--save", folder / f"{device}.safetensors"], WATTLE_CUDA_EMULATE="1")
        check(f"training on {device}", code == 0, err)
        result[device] = json.loads(out)
    cpu, cuda = result["cpu"], result["cuda"]
    check("the same work is counted", all(cpu[k] == cuda[k] for k in ("flops_all", "flops_weighted", "bytes", "steps")), result)
    check("to the same loss", abs(cpu["train_loss"] - cuda["train_loss"]) < 1e-3 * cpu["train_loss"], result)
    check("which is recorded", (cuda["device"], cuda["math"]) == ("cuda", "f32"), cuda)


def builds(folder):
    """Configures alone: without CUDA, and where it is asked for and not there."""
    def configure(name, *options, **environment):
        return run(["cmake", "-S", ROOT, "-B", folder / name, "-G", "Ninja", "-DWATTLE_TESTS=OFF", "-DWATTLE_EXAMPLES=OFF", *options],
                   **environment)

    code, out, err = configure("off", "-DWATTLE_CUDA=OFF")
    check("WATTLE_CUDA=OFF configures", code == 0 and "CUDA plugin: not built (switched off)" in out, out + err)
    # A PATH of what the build needs, without nvcc.
    tools = folder / "bin"
    tools.mkdir()
    for name in ("cmake", "ninja", "g++", "c++", "gcc", "cc", "as", "ld", "ar", "ranlib", "readelf", "nm", "sh", "uname"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    bare = {"PATH": str(tools), "CUDACXX": "", "CUDA_PATH": "", "CUDA_HOME": ""}
    code, out, err = configure("auto", **bare)
    check("AUTO without nvcc configures", code == 0 and "CUDA plugin: not built (no nvcc)" in out, out + err)
    code, out, err = configure("on", "-DWATTLE_CUDA=ON", **bare)
    check("ON without nvcc is an error that says so", code != 0 and "WATTLE_CUDA=ON: no nvcc" in err, out + err)


with tempfile.TemporaryDirectory() as temporary:
    links()
    reasons(Path(temporary))
    if PLUGIN.exists():
        without_a_gpu()
        emulated(Path(temporary))
    builds(Path(temporary))
print(f"{checks} checks" + ("" if PLUGIN.exists() else "; the plugin is not built here"))
