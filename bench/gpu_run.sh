#!/bin/bash
# Everything that needs an NVIDIA GPU, in under ten minutes: correctness, sanitizers, determinism, the
# meter, ratios against PyTorch, the layer-cost study. Writes results.json, with what was found of
# the device, into OUT. Each part has a time limit of its own; what fails is recorded and the rest goes on.
#   bench/gpu_run.sh OUT [FASHION_MNIST_DIR] [CIFAR10_DIR]
# WATTLE: the command line (default build/release/wattle); CUDA_TEST: the test program beside it;
# SEEDS, PAIRS: repeats of the study and of the ratios of steps.
# COMMIT: what was built, where this is no git checkout. PyTorch is taken from `python3`.
set -u
out=${1:?usage: bench/gpu_run.sh OUT [FASHION_MNIST_DIR] [CIFAR10_DIR]}
fashion=${2:-} cifar=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)
wattle=${WATTLE:-$root/build/release/wattle}
test=${CUDA_TEST:-$root/build/release/tests/cuda_test}
commit=${COMMIT:-$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1
begin=$(date +%s)
lap() { echo "== $1: rc $2, $(($(date +%s) - begin)) s since the start" | tee -a "$out/laps.txt"; }
part() {  # NAME SECONDS COMMAND...
  local name=$1 limit=$2
  shift 2
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1
  lap "$name" $?
}
: >"$out/laps.txt"
nvidia-smi --query-gpu=name,driver_version,uuid,clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv >"$out/gpu.txt"
"$wattle" info --json >"$out/info.json" || exit 1

# Correctness: nothing may be skipped, every output is poisoned first.
export WATTLE_REQUIRE_GPU=1
WATTLE_CUDA_POISON=1 part test 90 "$test"
WATTLE_CUDA_POISON=1 part device 90 "$(dirname "$test")/cuda_device_test"
for tool in memcheck racecheck initcheck; do
  part $tool 60 compute-sanitizer --tool $tool --error-exitcode 9 "$test" --gtest_filter='OpOnCuda.*'
done
# Two processes, the same bits.
for i in 1 2; do
  part weights$i 30 "$wattle" train --device cuda ${fashion:+--data-dir "$fashion"} --stop-after 100 --idle 0 --quiet --save "/tmp/wattle_weights$i.safetensors"
done
sha256sum /tmp/wattle_weights[12].safetensors >"$out/weights.sha256"
# Energy: the counter against power beside the first ratios, then the ops against their step.
"$wattle" bench nvml --seconds 60 --json >"$out/nvml.json" 2>"$out/nvml.err" &
meter=$!
part steps 150 python3 "$root/bench/cuda_against_pytorch.py" --wattle "$wattle" --rows steps --modes eager-eager,graph-eager,graph-graph --pairs "${PAIRS:-3}" --seconds 0.4 --json "$out/steps.json"
wait $meter
part compiled 60 python3 "$root/bench/cuda_against_pytorch.py" --wattle "$wattle" --rows small --modes graph-compiled,uncounted-none --pairs 3 --seconds 0.4 --json "$out/compiled.json"
part kernels 100 python3 "$root/bench/cuda_against_pytorch.py" --wattle "$wattle" --rows gemm,conv,kernels --pairs 2 --seconds 0.2 --json "$out/kernels.json"
part closure 60 "$wattle" bench closure --batch 128 --seconds 0.5 --json
# The study, on both data sets.
[ -n "$fashion" ] && part fashion 110 "$wattle" study layers --device cuda --data-dir "$fashion" --seeds "${SEEDS:-2}" --epochs 3 --replay 1.5 --out "$out/fashion"
[ -n "$cifar" ] && part cifar 110 "$wattle" study layers --device cuda --dataset cifar10 --data-dir "$cifar" --nets cnn --rows 20000 --seeds "${SEEDS:-2}" --epochs 2 --replay 1.5 --out "$out/cifar"
# The other studies, small: that they run there, and where their joules come from.
if [ -n "$fashion" ]; then
  part formats 40 "$wattle" study formats --device cuda --data-dir "$fashion" --nets cnn31 --rows 6000 --epochs 1 --seeds 1 --precisions f32,bf16,fp16,posit16,int8_qat --out "$out/formats"
  part snn 40 "$wattle" study snn --device cuda --data-dir "$fashion" --rows 6000 --epochs 1 --seeds 1 --steps 2 --rate-weight 0 --lrs 3e-3 --sample 50 --out "$out/snn"
fi
part moe 40 "$wattle" study moe --device cuda --arms dense2,switch,auxfree --text python --seeds 1 --tokens 200000 --validation-tokens 20000 --out "$out/moe"
python3 "$root/bench/gpu_results.py" "$out" "$commit"
lap all $?
