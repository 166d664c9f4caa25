#!/usr/bin/env bash
# Builds and tests everything: the release build; the C tests under AddressSanitizer and UBSan; the threaded ones under
# ThreadSanitizer; the cpu backend once more without AVX-512; fuzzers for FUZZ_SECONDS (60) each; and the format of the
# code. Where there is a CUDA toolkit, also the CUDA backend, on simulated GPUs and with the real libraries; without one
# it is left out, and said so. About 25 minutes on 2 cores.
#
#   scripts/test.sh                  all of it
#   scripts/test.sh --quick          the release build and its tests alone
#   scripts/test.sh [--quick] REGEX  only the tests whose names match (ctest -R)
#
# NEURON_DATA names a data folder for the tests that read real data; without it they say so and pass.
# shellcheck disable=SC2317 # functions that only `phase` calls
set -euo pipefail
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

asan_excludes='^(e2e|interop|quickstart|launch)$' # scripts: they run the release program
tsan_labels='^(base|observe|net|neuron|e2e)$'
tsan_excludes='^e2e/(golden|kill)$' # minutes there, and about numbers and files
cpu_labels='^(ops|backend)$'

quick=no
select=()
launcher=(env) # what ctest is started by
for argument in "$@"; do
    case $argument in
    --quick) quick=yes ;;
    -h | --help)
        sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    -*)
        echo "test: unknown option $argument; expected --quick or a regular expression of test names" >&2
        exit 2
        ;;
    *) select=(-R "$argument") ;;
    esac
done
if [ -n "${NEURON_DATA:-}" ]; then
    if ! data=$(cd "$invoked_from" && cd "$NEURON_DATA" 2>/dev/null && pwd); then
        echo "test: NEURON_DATA is '$NEURON_DATA', expected a folder" >&2
        exit 2
    fi
    export NEURON_DATA=$data
fi

summary=()
failed=0

# phase NAME COMMAND…: runs it, and notes the time and the outcome; fails as the command does.
phase() {
    local name=$1 start=$SECONDS outcome=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || outcome=FAILED
    summary+=("$(printf '%-44s %5d s  %s' "$name" $((SECONDS - start)) "$outcome")")
    [ "$outcome" = ok ] || failed=1
    [ "$outcome" = ok ]
}

# Kernels for two architectures: what is particular to one is what ptxas makes of it, and cuda_real/resources looks at that.
build() {
    cmake --preset "$1" -DNEURON_CUDA_ARCHITECTURES="${NEURON_CUDA_ARCHITECTURES:-80;90}" | sed -n '/CUDA/p' &&
        cmake --build --preset "$1"
}

# run_tests PRESET [CTEST OPTION…]
run_tests() {
    local preset=$1
    shift
    "${launcher[@]}" ctest --preset "$preset" --parallel "$(nproc)" "$@" "${select[@]}"
}

address_tests() {
    ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
        run_tests asan --label-exclude "$asan_excludes"
}

# ThreadSanitizer of gcc before 14 ends at once on kernels that place memory with more than 28 random bits. Libraries that
# it didn't build are left out: it can't see how gRPC's threads order what they do, and to find and suppress a race for
# each word of each tensor that gRPC sends takes seconds.
thread_tests() {
    local launcher=(env)
    if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)" -gt 28 ]; then launcher=(setarch --addr-no-randomize); fi
    local options="suppressions=$PWD/tests/tsan.supp:ignore_noninstrumented_modules=1:atexit_sleep_ms=50"
    TSAN_OPTIONS="$options:second_deadlock_stack=1" run_tests tsan --label-regex "$tsan_labels" \
        --exclude-regex "$tsan_excludes"
}

cpu_without_avx512() {
    ONEDNN_MAX_CPU_ISA=AVX2 run_tests release --label-regex "$cpu_labels"
}

# fuzz_one PROGRAM: says executions and coverage (edges of the program's control flow); all of its output on a finding.
fuzz_one() {
    local name=${1##*/fuzz_} log=build/fuzz/log/${1##*/fuzz_} corpus=build/fuzz/corpus/${1##*/fuzz_}
    mkdir -p build/fuzz/log "$corpus"
    if ! "$1" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=512 -artifact_prefix="$log." "$corpus" >"$log" 2>&1; then
        cat "$log"
        return 1
    fi
    printf '%-12s %12s executions, coverage %s of %s\n' "$name" "$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")" \
        "$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log")" "$(sed -n 's/.*(\([0-9]*\) inline 8-bit counters).*/\1/p' "$log")"
}
export -f fuzz_one

fuzz() {
    # shellcheck disable=SC2016
    printf '%s\0' build/fuzz/fuzz_* | xargs -0 -n 1 -P "$(nproc)" bash -c 'fuzz_one "$0"'
}

# Other versions of clang-format lay out differently, so only version 14 judges.
check_format() {
    local formatter
    for formatter in clang-format-14 clang-format; do
        if "$formatter" --version 2>/dev/null | grep -q 'version 14\.'; then
            find . -path ./build -prune -o -type f -regex '.*\.\(c\|h\|cpp\|cu\|cuh\)' -print0 | xargs -0 "$formatter" --dry-run -Werror
            return
        fi
    done
    echo 'skipped: clang-format 14 is not installed'
}

phase 'set-up' scripts/setup.sh || exit 1
phase 'format' check_format || true
if phase 'build release' build release; then
    phase 'test release' run_tests release || true
    if [ $quick = no ]; then phase 'test cpu backend without AVX-512' cpu_without_avx512 || true; fi
fi
if [ $quick = no ]; then
    if phase 'build asan' build asan; then phase 'test asan, ubsan' address_tests || true; fi
    if phase 'build tsan' build tsan; then phase 'test tsan' thread_tests || true; fi
    if ! scripts/setup.sh --fuzz; then
        summary+=('fuzz: skipped, no clang with libFuzzer')
    elif phase 'build fuzz' build fuzz; then
        phase 'fuzz' fuzz || true
    fi
fi

printf '\n== summary, %d s\n' $SECONDS
printf '%s\n' "${summary[@]}"
[ -n "${NEURON_DATA:-}" ] || echo 'NEURON_DATA was not set: no test read real data'
exit $failed
