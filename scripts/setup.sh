#!/usr/bin/env bash
# Installs what the build and the tests need, by apt, as root or with sudo. Does nothing where all of it is there already.
#
#   scripts/setup.sh              what the build and the tests need
#   scripts/setup.sh PACKAGE…     these packages instead (the Dockerfile's final stage)
set -euo pipefail

# libdnnl-dev (oneDNN) has no pkg-config file: CMakeLists.txt looks for its header and library.
packages=(
    gcc libc6-dev cmake ninja-build pkgconf
    libdnnl-dev libgrpc-dev libprotobuf-c-dev protobuf-c-compiler libsodium-dev libjansson-dev zlib1g-dev
    check
    python3 python3-venv ca-certificates curl git
)
[ $# -eq 0 ] || packages=("$@")

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "setup: this system has no apt; install the equivalents of these Debian packages by hand: ${packages[*]}" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    # ${db:Status-Status} is dpkg-query's, not the shell's.
    # shellcheck disable=SC2016
    state=$(dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1) || true
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: all ${#packages[@]} packages are installed already"
    exit 0
fi

as_root=(env DEBIAN_FRONTEND=noninteractive)
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: these packages are missing, and installing them needs root or sudo: ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo "${as_root[@]}")
fi

echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet --quiet
"${as_root[@]}" apt-get install --quiet --quiet --yes --no-install-recommends "${missing[@]}"
echo "setup: done"
