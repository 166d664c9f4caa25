#!/usr/bin/env bash
# Fetches MNIST's four files into FOLDER/mnist (FOLDER: the argument, else NEURON_DATA, else data), from the first mirror
# that has them, and checks the MD5 sum of what each one holds. All four are checked before any is put in place, each by
# one rename; files that are there and right are left alone. Exit status 1, and nothing changed, where it can't.
set -euo pipefail

mirrors=(
    https://ossci-datasets.s3.amazonaws.com/mnist/
    https://storage.googleapis.com/cvdf-datasets/mnist/
)
# The sums of the decompressed content, so that a mirror may compress as it likes.
sums=(
    "6bbc9ace898e44ae57da46a324031adb train-images-idx3-ubyte"
    "a25bea736e30d166cdddb491f175f624 train-labels-idx1-ubyte"
    "2646ac647ad5339dbf082846283269ea t10k-images-idx3-ubyte"
    "27ae3e4e09519cfbb04c329615203637 t10k-labels-idx1-ubyte"
)
largest=20000000 # bytes; the largest file is 9.9 MB

case ${1:-} in
-h | --help)
    sed -n '2,4s/^# //p' "$0"
    exit 0
    ;;
esac
folder=${1:-${NEURON_DATA:-data}}/mnist

# right SUM FILE: whether what the file holds, gzip'ed or plain, has this sum.
right() {
    [ "$(gzip --decompress --stdout --force "$2" 2>/dev/null | md5sum | cut -d ' ' -f 1)" = "$1" ]
}

# download MIRROR SUM NAME: the file into $partial, its sum checked.
download() {
    local mirror=$1 sum=$2 file=$3.gz
    if ! curl --fail --silent --show-error --location --connect-timeout 5 --speed-limit 1000 --speed-time 15 \
        --max-time 300 --max-filesize "$largest" --output "$partial/$file" "$mirror$file"; then
        echo "get-data: could not fetch $mirror$file" >&2
        return 1
    fi
    if ! right "$sum" "$partial/$file"; then
        echo "get-data: $mirror$file does not hold what it should (MD5 of its content is not $sum)" >&2
        return 1
    fi
}

wanted=()
for entry in "${sums[@]}"; do
    file=$folder/${entry#* }
    if [ ! -e "$file" ]; then
        right "${entry% *}" "$file.gz" || wanted+=("$entry")
    elif ! right "${entry% *}" "$file"; then
        # It would be read instead of the .gz beside it, and is not this script's to remove.
        echo "get-data: $file is not MNIST's (MD5 is not ${entry% *}); remove it first" >&2
        exit 1
    fi
done
if [ ${#wanted[@]} -eq 0 ]; then
    echo "get-data: MNIST is in $folder already"
    exit 0
fi
if ! command -v curl >/dev/null; then
    echo "get-data: curl is missing; scripts/setup.sh installs it" >&2
    exit 1
fi

mkdir -p "$folder"
partial=$(mktemp -d "$folder/partial.XXXXXX")
# What is left of a failure: no partial files, and no empty folder.
trap 'rm -rf "$partial"; rmdir "$folder" 2>/dev/null || true' EXIT

# From one mirror after the other, what the ones before did not give.
for mirror in "${mirrors[@]}"; do
    echo "get-data: fetching ${#wanted[@]} files from $mirror"
    missed=()
    for entry in "${wanted[@]}"; do
        # A mirror that fails once is left at once: the next file would wait as long.
        if [ ${#missed[@]} -gt 0 ] || ! download "$mirror" "${entry% *}" "${entry#* }"; then missed+=("$entry"); fi
    done
    wanted=("${missed[@]}")
    [ ${#wanted[@]} -gt 0 ] || break
done
if [ ${#wanted[@]} -gt 0 ]; then
    echo "get-data: could not get MNIST: none of ${mirrors[*]} gave ${wanted[*]#* }" >&2
    exit 1
fi
chmod 644 "$partial"/*.gz
mv -f "$partial"/*.gz "$folder/"
echo "get-data: MNIST is in $folder"
