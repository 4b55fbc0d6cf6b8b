#!/bin/sh
# ./wattle test --oracle: every op against PyTorch on random shapes, then 200 steps of the same training.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
"$root/tests/oracle/setup_venv.sh"
python=${WATTLE_ORACLE_VENV:-$root/build/oracle-venv}/bin/python
status=0
"$python" "$root/tests/oracle/run_ops.py" --all-kernels "$@" || status=1
"$python" "$root/tests/oracle/train_200.py" || status=1
exit $status
