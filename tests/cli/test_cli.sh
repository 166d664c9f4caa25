#!/bin/sh
# The program itself, as a user meets it: versions, pages, refusals, exit statuses, what is on stdout and what on stderr.
# $NEURON is the program.
set -u
: "${NEURON:?the program to test, such as build/release/neuron}"
[ -x "$NEURON" ] || { echo "no program at '$NEURON'"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME="$folder" XDG_CONFIG_HOME="$folder/config"
unset NEURON_KEY NEURON_CONFIG NEURON_JSON NEURON_QUIET NEURON_SOMA
failures=0

fail() {
    echo "FAILED: $*"
    sed 's/^/  stdout: /' "$folder/stdout"
    sed 's/^/  stderr: /' "$folder/stderr"
    failures=$((failures + 1))
}

# expect STATUS ARGUMENT...: runs the program and compares its exit status.
expect() {
    expected=$1
    shift
    "$NEURON" "$@" >"$folder/stdout" 2>"$folder/stderr" </dev/null
    status=$?
    asked="neuron $*"
    [ "$status" -eq "$expected" ] || fail "$asked: exit status $status, expected $expected"
}

# says FILE TEXT: FILE (stdout or stderr) of the last run has TEXT. silent FILE: it has nothing.
says() { grep -qF -e "$2" "$folder/$1" || fail "$asked: $1 lacks: $2"; }
silent() { [ ! -s "$folder/$1" ] || fail "$asked: $1 isn't empty"; }

expect 0 --version
grep -qxE 'neuron [0-9]+\.[0-9]+\.[0-9]+' "$folder/stdout" || fail "--version"
silent stderr
expect 0 key --version
says stdout 'neuron '

expect 2
says stderr 'usage: neuron COMMAND'
silent stdout

for page in --help -h help 'help help'; do
    # shellcheck disable=SC2086
    expect 0 $page
    says stdout 'SYNOPSIS'
    silent stderr
done
expect 0 help key
cp "$folder/stdout" "$folder/page"
expect 0 key --help
cmp -s "$folder/page" "$folder/stdout" || fail "'help key' and 'key --help' differ"
says stdout '--force'

expect 2 kei
says stderr "unknown command 'kei'; did you mean 'key'?"
silent stdout
expect 2 help kei
says stderr "did you mean 'key'?"
expect 2 completely-else
says stderr "unknown command 'completely-else', expected"
expect 2 --vresion
says stderr 'unknown option --vresion; did you mean --version?'
expect 2 key show --forse
says stderr 'unknown option --forse; did you mean --force?'
expect 2 key show --lr 1
says stderr '--lr is an option of'
expect 2 key
says stderr 'neuron key needs new | show'
expect 2 key show twice
says stderr "no place for 'twice'"
expect 2 key shwo
says stderr "did you mean 'show'?"
expect 2 key show --soma cat
says stderr "option soma is 'cat' (flag --soma), expected"
expect 2 key show --json --soma cat
says stdout '{"event":"error","message":"option soma is '
printf '{"frce": true}' >"$folder/config.json"
expect 2 key show --config "$folder/config.json"
says stderr "unknown key 'frce'; did you mean 'force'?"

expect 1 key show
says stderr "$folder/config/neuron/key"
expect 0 key new
says stdout 'neuron key   0x'
cp "$folder/stdout" "$folder/first"
expect 1 key new
says stderr '--force'
expect 0 key show
cmp -s "$folder/first" "$folder/stdout" || fail "'key show' and 'key new' differ"
expect 0 key new --force
cmp -s "$folder/first" "$folder/stdout" && fail "'key new --force' made the same key"
[ -e "$folder/config/neuron/key.old" ] || fail "'key new --force' lost the old key"
expect 0 key new --key "$folder/b.key" --json
grep -qxE '\{"event":"key","path":".*/b\.key","neuron_key":"0x[0-9a-f]{64}","soma":"mnist","synapse_key":"0x[0-9a-f]{64}"\}' \
    "$folder/stdout" || fail "the event of key"
silent stderr
NEURON_KEY="$folder/b.key" expect 0 key show --json
says stdout "$folder/b.key"
NEURON_FAILPOINTS= NEURON_NO_SUCH_OPTION=1 expect 0 key show

# Output that is lost is a failure.
if [ -w /dev/full ]; then
    "$NEURON" help >/dev/full 2>"$folder/stderr"
    status=$?
    [ "$status" -eq 1 ] || fail "help on a full disk: exit status $status, expected 1"
    asked="neuron help >/dev/full"
    says stderr "can't write to standard output"
fi

[ "$failures" -eq 0 ] || exit 1
echo "all as expected"
