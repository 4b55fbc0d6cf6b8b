#!/bin/sh
# Creates build/oracle-venv with the PyTorch that `./wattle test --oracle` and `./wattle bench --against pytorch`
# compare with. About 5 GB on disk (PyPI's wheel carries CUDA), a few minutes of download. Nothing else uses it;
# delete the folder to undo. A second run finds it complete and leaves at once.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
venv=${WATTLE_ORACLE_VENV:-$root/build/oracle-venv}
pins="torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 ml-dtypes==0.6.0 softposit==0.3.4.4 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 nir==1.0.8 nirtorch==2.6"
# Its own requirements are data sets that nothing here reads; what its metrics need is there.
alone="neurobench==2.3.0"

if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/pins" 2>/dev/null)" = "$pins $alone" ]; then
  echo "$venv is ready"
  exit 0
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "setup_venv: needs Python >= 3.11 with venv: apt-get install python3-venv, or PYTHON=/path/to/python3" >&2
  exit 1
fi
mkdir -p "$(dirname -- "$venv")"
free_kb=$(df -Pk "$(dirname -- "$venv")" | awk 'NR == 2 { print $4 }')
if [ "$free_kb" -lt 7000000 ]; then
  echo "setup_venv: $((free_kb / 1000000)) GB free beside $venv, 7 GB needed (5 GB stay)" >&2
  exit 1
fi
echo "creating $venv with $pins from PyPI: about 5 GB on disk"
"$python" -m venv "$venv"
# shellcheck disable=SC2086  # the pins are separate arguments
"$venv/bin/pip" install --disable-pip-version-check --no-cache-dir $pins
"$venv/bin/pip" install --disable-pip-version-check --no-cache-dir --no-deps "$alone"
"$venv/bin/python" -c 'import torch, numpy, safetensors; print("torch", torch.__version__, "numpy", numpy.__version__)'
printf '%s\n' "$pins $alone" > "$venv/pins"
echo "$venv is ready"
