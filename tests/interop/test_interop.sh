#!/usr/bin/env bash
# A client and a server that grpcio-tools makes from proto/bittensor.proto call the program, and are called by it; the
# stock health and reflection clients ask it; it drains under their load.
# $NEURON is the program (default build/release/neuron). grpcio's packages and numpy are installed once, in a virtual environment of
# their own: $NEURON_TEST_VENV, by default ~/.cache/neuron-tests/venv.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export NEURON=${NEURON:-$root/build/release/neuron}
venv=${NEURON_TEST_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/neuron-tests/venv}

if [ ! -x "$NEURON" ]; then
    echo "interop: there is no program $NEURON, expected a build or \$NEURON" >&2
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_CONFIG_HOME=$scratch/config # the neurons' keys

mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock" # two tests at once install once
flock 9
if ! "$venv/bin/python" -c 'import grpc, grpc_health, grpc_reflection, grpc_tools, numpy' 2>/dev/null; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'grpcio>=1.60,<2' 'grpcio-tools>=1.60,<2' \
        'grpcio-health-checking>=1.60,<2' 'grpcio-reflection>=1.60,<2' 'numpy>=1.24,<3'
fi
flock -u 9

"$venv/bin/python" -m grpc_tools.protoc -I"$root/proto" --python_out="$scratch" --grpc_python_out="$scratch" \
    "$root/proto/bittensor.proto"
export PYTHONPATH=$scratch
"$venv/bin/python" "$here/interop.py" "$scratch"
"$venv/bin/python" "$here/services.py"
"$venv/bin/python" "$here/drain.py"
