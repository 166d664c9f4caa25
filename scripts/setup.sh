#!/usr/bin/env bash
# Installs what the build and the tests need, by apt, as root or with sudo. Does nothing where all of it is there already.
#
#   scripts/setup.sh              what the build and the tests need
#   scripts/setup.sh --fuzz       what the fuzzers need besides
#   scripts/setup.sh PACKAGE…     these packages instead (the Dockerfile's final stage)
set -euo pipefail

# libdnnl-dev (oneDNN) has no pkg-config file: CMakeLists.txt looks for its header and library.
packages=(
    gcc libc6-dev cmake ninja-build pkgconf
    libdnnl-dev libgrpc-dev libprotobuf-c-dev protobuf-c-compiler libsodium-dev libjansson-dev zlib1g-dev
    check
    python3 python3-venv ca-certificates curl git
)
# Where libFuzzer isn't part of clang's own packages it is in this one (Debian from 12 on, Ubuntu from 24.04 on).
fuzz_packages=(clang libclang-rt-dev)

can_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *b, unsigned long n) { return n && !b; }' |
        clang -fsanitize=fuzzer,address,undefined -x c -o /dev/null - 2>/dev/null
}

fuzz=no
if [ "${1:-}" = --fuzz ]; then
    fuzz=yes
    packages=("${fuzz_packages[@]}")
    if can_fuzz; then
        echo 'setup: clang and libFuzzer are installed already'
        exit 0
    fi
elif [ $# -gt 0 ]; then
    packages=("$@")
fi

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
if [ $fuzz = yes ]; then
    known=()
    for package in "${missing[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then known+=("$package"); fi
    done
    missing=("${known[@]}")
fi
"${as_root[@]}" apt-get install --quiet --quiet --yes --no-install-recommends "${missing[@]}"
if [ $fuzz = yes ] && ! can_fuzz; then
    echo 'setup: clang is installed, but libFuzzer is not: the fuzzers cannot be built' >&2
    exit 1
fi
echo "setup: done"
