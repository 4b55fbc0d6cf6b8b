#!/bin/sh
# Fuzzes the file readers from memory buffers, under the address and undefined-behaviour sanitizers.
#
# usage: tests/fuzz/run.sh [SECONDS [READER...]]     default: 60 seconds each, all readers
#
# Needs clang with libFuzzer (Debian: clang, libfuzzer-14-dev or libclang-rt-dev) and python3. Ends with
# a status other than 0 at the first finding; its input is kept below build/fuzz/READER.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-60}
[ $# -gt 0 ] && shift
readers=${*:-idx cifar10 npy safetensors calibration samples forecast events}
cxx=${FUZZ_CXX:-$(command -v clang++ || command -v clang++-14 || true)}
[ -n "$cxx" ] || { echo "run.sh: found no clang++; install clang, or name one in FUZZ_CXX" >&2; exit 1; }
out=${FUZZ_OUT:-$root/build/fuzz}
flags="-std=c++20 -O1 -g -Wno-psabi -fsanitize=address,undefined -fno-sanitize-recover=all -I$root"
sources="core/allocator core/dtype core/error core/shape core/tensor data/bytes data/atomic_file
  core/attr core/codec core/parallel tests/fuzz/no_cuda data/cifar10 data/events data/gzip data/idx data/npy data/safetensors
  energy/joules energy/host_model energy/carbon_schedule green/csv green/experiment_csv green/experiment
  green/experiment_analysis green/experiment_conclusion green/hypothesis green/shapiro_wilk core/rng
  green/report_text green/study_data core/counters
  green/stats green/stats_linear green/stats_special"

mkdir -p "$out/objects"
python3 "$root/tests/fuzz/make_corpus.py" "$out/seeds"
objects=
for s in $sources; do
  o=$out/objects/$(basename "$s").o
  # shellcheck disable=SC2086
  if [ ! -e "$o" ] || [ -n "$(find "$root/core" "$root/data" "$root/energy" "$root/green" -newer "$o" -name '*.[hc]*' | head -n 1)" ]; then
    $cxx $flags -fsanitize=fuzzer-no-link -c "$root/$s.cpp" -o "$o"
  fi
  objects="$objects $o"
done
for r in $readers; do
  mkdir -p "$out/$r"
  # shellcheck disable=SC2086
  $cxx $flags -fsanitize=fuzzer "$root/tests/fuzz/${r}_fuzz.cpp" $objects -lz -ldl -o "$out/${r}_fuzz"
  echo "== $r: $seconds s"
  "$out/${r}_fuzz" -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=1024 -print_final_stats=1 \
    -verbosity=1 -artifact_prefix="$out/$r/" "$out/$r" "$out/seeds/$r" \
    >"$out/$r.log" 2>&1 || { tail -n 40 "$out/$r.log"; echo "run.sh: $r: a finding, see $out/$r.log" >&2; exit 1; }
  grep -E "stat::number_of_executed_units|cov:" "$out/$r.log" | tail -n 2
done
echo "no findings"
