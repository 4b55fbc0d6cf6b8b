#!/bin/sh
# Creates build/mlflow-venv with the MLflow server that `./wattle test --mlflow` talks to: about 1 GB on disk. Nothing
# else uses it; delete the folder to undo. A second run finds it complete and leaves at once.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
venv=${WATTLE_MLFLOW_VENV:-$root/build/mlflow-venv}
pins="mlflow==3.17.2"

if [ -x "$venv/bin/mlflow" ] && [ "$(cat "$venv/pins" 2>/dev/null)" = "$pins" ]; then
  echo "$venv is ready"
  exit 0
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  echo "setup_venv: needs Python >= 3.10 with venv: apt-get install python3-venv, or PYTHON=/path/to/python3" >&2
  exit 1
fi
mkdir -p "$(dirname -- "$venv")"
echo "creating $venv with $pins from PyPI: about 1 GB on disk"
"$python" -m venv "$venv"
"$venv/bin/pip" install --disable-pip-version-check --no-cache-dir $pins
printf '%s\n' "$pins" > "$venv/pins"
echo "$venv is ready"
