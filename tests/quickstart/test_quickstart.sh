#!/usr/bin/env bash
# The quickstart's run, with the program under test: on real MNIST the third neuron's error must fall to 0.30 (in the network) and 0.35 (peers off) of its error
# alone, which quickstart.py itself demands. Needs the data folder that NEURON_DATA names; without it there is nothing to learn from, and that is said.
set -euo pipefail
if [ ! -d "${NEURON_DATA:-}/mnist" ]; then
    echo "skipped: NEURON_DATA names no folder with mnist/"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$(dirname "$0")/../../scripts/quickstart.py" --program "$NEURON" --data "$NEURON_DATA" --out "$out/runs" | tee "$out/said"
for row in 'alone ' 'in the network ' 'peers switched off '; do grep -q "  $row" "$out/said"; done
for name in first second third alone; do test -s "$out/runs/$name/model.safetensors"; done
