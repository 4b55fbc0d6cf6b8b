#!/bin/sh
# ./wattle test --oracle: every op against PyTorch on random shapes, then 200 steps of the same training.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
"$root/tests/oracle/setup_venv.sh"
python=${WATTLE_ORACLE_VENV:-$root/build/oracle-venv}/bin/python
status=0
"$python" "$root/tests/oracle/run_ops.py" --all-kernels "$@" || status=1
"$python" "$root/tests/oracle/run_formats.py" || status=1
"$python" "$root/tests/oracle/run_moe.py" || status=1
"$python" "$root/tests/oracle/run_snn.py" --require || status=1
"$python" "$root/tests/oracle/run_nir.py" --require || status=1
"$python" "$root/tests/oracle/run_neurobench.py" --require || status=1
"$python" "$root/tests/oracle/train_200.py" --dtype f64 --lr 1e-3 || status=1
"$python" "$root/tests/oracle/train_200.py" --dtype f32 --lr 1e-4 || status=1
# For the reader, not for the verdict: in f32 at lr 1e-3 rounding alone moves PyTorch against itself by more than 1e-3.
echo "f32, lr 1e-3, ours against PyTorch:"
"$python" "$root/tests/oracle/train_200.py" --lr 1e-3 || true
echo "f32, lr 1e-3, PyTorch against PyTorch in another layout:"
"$python" "$root/tests/oracle/train_200.py" --lr 1e-3 --self || true
exit $status
