#!/usr/bin/env bash
# Sets up what benches/peers/encoder.py needs, builds our side and runs it:
#
#   encoder.sh [--venv DIR] [--no-build] ARGUMENTS OF encoder.py...
#   encoder.sh --mode train --json train.json
#   encoder.sh --venv ~/peers --mode encode --model bert-base
#
# DIR is a virtual environment (target/peers-venv unless given), made if it is not there; the pinned requirements are
# installed into it from PyPI when they have changed since the last time. PYTHON names the Python to make it with
# (python3, 3.11 or later). --no-build takes the engine as it lies there; so does --engine PATH among the arguments.
# torch.compile needs a C++ compiler (g++); without one that system alone fails.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/peers-venv
build=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --venv)
      [ $# -ge 2 ] || { echo "encoder.sh: --venv needs a folder" >&2; exit 2; }
      venv=$2
      shift 2
      ;;
    --no-build) build=no; shift ;;
    *) break ;;
  esac
done
for argument in "$@"; do
  case "$argument" in --engine | --engine=* | --help | -h) build=no ;; esac
done

requirements=$here/requirements-encoder.txt
stamp=$venv/requirements-encoder.installed
if [ ! -x "$venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
fi
if ! cmp -s "$requirements" "$stamp"; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
  cp "$requirements" "$stamp"
fi

if [ "$build" = yes ]; then
  cargo build --release --manifest-path "$root/Cargo.toml" --workspace --example engine_bench
fi
exec "$venv/bin/python" "$here/encoder.py" "$@"
