#!/usr/bin/env bash
# The whole thing on a fresh machine: sets up, builds, and lets three neurons learn from each other on this machine (scripts/quickstart.py).
#
#   scripts/quickstart.sh [FOLDER]     the runs and logs go to FOLDER (default: runs/quickstart, replaced)
#
# NEURON_DATA names a data folder (with mnist/); else data/ is used, and filled when there is a way to.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release --target neuron

fashion=/usr/share/datasets/fashion-mnist
data=${NEURON_DATA:-data}
if [ ! -d "$data/mnist" ] && [ -z "${NEURON_DATA:-}" ]; then
    if ! scripts/get-data.sh data; then
        echo "MNIST can't be had here: Fashion-MNIST (Debian's dataset-fashion-mnist) takes its place."
        scripts/setup.sh dataset-fashion-mnist
        data=$fashion
    fi
fi
exec python3 scripts/quickstart.py --program build/release/neuron --data "$data" --out "${1:-runs/quickstart}"
