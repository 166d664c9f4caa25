#!/usr/bin/env bash
# Installs what the build and the tests need, by apt, as root or with sudo. Does nothing where all of it is there already.
#
#   scripts/setup.sh                  what the build and the tests need
#   scripts/setup.sh --fuzz           what the fuzzers need besides
#   scripts/setup.sh --cuda [FOLDER]  what the CUDA plug-in is built with: where no complete toolkit is installed, NVIDIA's
#                                     packages from Python's package index, into FOLDER (build/cuda)
#   scripts/setup.sh PACKAGE…         these packages instead (the Dockerfile's final stage)
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
# One release of CUDA 13, as it was tested together; cuDNN compiles kernels with nvrtc while it runs. 2 GB.
cuda_packages=(
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 nvidia-nvtx==13.0.85
    nvidia-cublas==13.1.0.3 nvidia-cudnn-cu13==9.19.0.56 nvidia-nccl-cu13==2.28.9
)

can_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *b, unsigned long n) { return n && !b; }' |
        clang -fsanitize=fuzzer,address,undefined -x c -o /dev/null - 2>/dev/null
}

# find_missing PACKAGE…: those of them that aren't installed, into the array `missing`.
find_missing() {
    local package state
    missing=()
    for package in "$@"; do
        # ${db:Status-Status} is dpkg-query's, not the shell's.
        # shellcheck disable=SC2016
        state=$(dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1) || true
        [ "$state" = installed ] || missing+=("$package")
    done
}

# apt_install [--known] PACKAGE…: those of them that are missing; with --known only those that this system has.
apt_install() {
    local known=no package as_root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$1" = --known ]; then
        known=yes
        shift
    fi
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "setup: this system has no apt; install the equivalents of these Debian packages by hand: $*" >&2
        exit 1
    fi
    find_missing "$@"
    if [ ${#missing[@]} -eq 0 ]; then
        echo "setup: all $# packages are installed already"
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup: these packages are missing, and installing them needs root or sudo: ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo "${as_root[@]}")
    fi
    echo "setup: installing ${missing[*]}"
    "${as_root[@]}" apt-get update --quiet --quiet
    if [ $known = yes ]; then
        set -- "${missing[@]}"
        missing=()
        for package in "$@"; do
            if apt-cache show "$package" >/dev/null 2>&1; then missing+=("$package"); fi
        done
    fi
    "${as_root[@]}" apt-get install --quiet --quiet --yes --no-install-recommends "${missing[@]}"
    echo "setup: done"
}

# cuda_works FOLDER: its nvcc is of CUDA 13 or later, and compiles and links with everything that the plug-in needs.
cuda_works() {
    local scratch works=no
    [ -x "$1/bin/nvcc" ] || return 1
    scratch=$(mktemp -d)
    printf '#include <%s>\n' cuda_runtime.h cuda_bf16.h nvtx3/nvToolsExt.h cublasLt.h cudnn.h nccl.h >"$scratch/a.cu"
    printf '#if CUDART_VERSION < 13000 || CUDNN_MAJOR < 9\n#error too old\n#endif\n' >>"$scratch/a.cu"
    printf '__global__ void zero(float *x) { *x = 0; }\n' >>"$scratch/a.cu"
    if "$1/bin/nvcc" -shared -cudart shared -Xcompiler -fPIC -o "$scratch/a.so" "$scratch/a.cu" \
        -L"$1/lib" -lcublasLt -lcudnn -lnccl >/dev/null 2>&1; then works=yes; fi
    rm -rf "$scratch"
    [ $works = yes ]
}

# cuda_link FOLDER: makes of what pip installed there a toolkit as others look for it: bin, include, lib and nvvm; in lib
# all libraries (each looks for the others beside itself), with the links that a linker wants.
cuda_link() {
    local site nvidia path name
    site=$("$1/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    nvidia=$site/nvidia
    for path in "$nvidia"/{cudnn,nccl}/{include,lib}/*; do
        ln -sfn "../../${path#"$nvidia"/}" "$nvidia/cu13/${path#"$nvidia"/*/}"
    done
    for path in "$nvidia"/cu13/lib/lib*.so.*; do
        name=${path##*/}
        ln -sfn "$name" "$nvidia/cu13/lib/${name%%.so.*}.so"
    done
    ln -sfn lib "$nvidia/cu13/lib64"
    for name in bin include lib lib64 nvvm; do
        ln -sfn "venv/${nvidia#"$1"/venv/}/cu13/$name" "$1/$name"
    done
}

# cuda_install FOLDER: pip's own settings say where the packages come from.
cuda_install() {
    local start=$SECONDS
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install python3 python3-venv ca-certificates
    fi
    echo "setup: installing CUDA into $1"
    mkdir -p "$1"
    python3 -m venv "$1/venv"
    "$1/venv/bin/python" -m pip install --quiet --no-deps --no-cache-dir --disable-pip-version-check \
        "${cuda_packages[@]}"
    cuda_link "$(cd "$1" && pwd)"
    if ! cuda_works "$1"; then
        echo "setup: CUDA is in $1, but its nvcc cannot compile and link a kernel with it" >&2
        exit 1
    fi
    printf '%s\n' "${cuda_packages[@]}" >"$1/packages"
    echo "setup: done: $(du -sh "$1" | cut -f 1) in $((SECONDS - start)) s"
}

setup_cuda() {
    local folder=$1 nvcc found
    if ! command -v g++ >/dev/null; then apt_install g++; fi
    nvcc=$(readlink -f "$(command -v nvcc)" || true)
    for found in "${nvcc%/bin/nvcc}" /usr/local/cuda; do
        if [ -n "$found" ] && cuda_works "$found"; then
            echo "setup: a complete CUDA toolkit is installed already: $found"
            return
        fi
    done
    if printf '%s\n' "${cuda_packages[@]}" | cmp -s - "$folder/packages" && cuda_works "$folder"; then
        echo "setup: CUDA is in $folder already"
        return
    fi
    cuda_install "$folder"
}

case ${1:-} in
--cuda)
    setup_cuda "${2:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/cuda}"
    ;;
--fuzz)
    if can_fuzz; then
        echo 'setup: clang and libFuzzer are installed already'
        exit 0
    fi
    apt_install --known "${fuzz_packages[@]}"
    if ! can_fuzz; then
        echo 'setup: clang is installed, but libFuzzer is not: the fuzzers cannot be built' >&2
        exit 1
    fi
    ;;
-h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    ;;
-*)
    echo "setup: unknown option $1; expected --fuzz, --cuda or names of packages" >&2
    exit 2
    ;;
'') apt_install "${packages[@]}" ;;
*) apt_install "$@" ;;
esac
