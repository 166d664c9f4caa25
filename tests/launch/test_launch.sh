#!/usr/bin/env bash
# scripts/launch.sh: neurons on this machine, and on hosts behind an ssh that runs its command right here. $NEURON is the
# program.
set -u
: "${NEURON:?the program to test, such as build/release/neuron}"
[ -x "$NEURON" ] || { echo "no program at '$NEURON'"; exit 1; }
tests=$(cd "$(dirname "$0")/.." && pwd)
launch=$tests/../scripts/launch.sh
folder=$(mktemp -d)
cd "$folder" || exit 1
for name in $(compgen -e NEURON_); do unset "$name"; done
export HOME=$folder XDG_CONFIG_HOME=$folder/config NEURON_DATA=$folder/data PYTHONPATH=$tests/e2e
failures=0

finish() {
    local record
    for record in */neurons; do
        [ ! -e "$record" ] || "$launch" stop --out "${record%/neurons}" >/dev/null 2>&1
    done
    rm -rf "$folder"
}
trap finish EXIT

fail() {
    echo "FAILED: $*"
    sed 's/^/  said: /' "$folder/said"
    failures=$((failures + 1))
}

# expect STATUS ARGUMENT…: runs launch.sh and compares its exit status.
expect() {
    local expected=$1 status
    shift
    "$launch" "$@" >"$folder/said" 2>&1 </dev/null
    status=$?
    asked="launch.sh $*"
    [ "$status" -eq "$expected" ] || fail "$asked: exit status $status, expected $expected"
}

says() { grep -qE -e "$1" "$folder/said" || fail "$asked: doesn't say: $1"; }

# process FOLDER NUMBER: the process of a neuron.
process() { cut -d' ' -f1 "$1/$2/pid"; }

gone() { ! grep -qs '^State:.[^Z]' "/proc/$1/status" || fail "process $1 is still there after: $asked"; }

# wait_for PATTERN ARGUMENT…: asks again until launch.sh says it.
wait_for() {
    local pattern=$1 tries=300
    shift
    until "$launch" "$@" >"$folder/said" 2>&1; grep -qE -e "$pattern" "$folder/said"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { fail "launch.sh $*: never says: $pattern"; return; }
        sleep 0.1
    done
}

# --- what all need: tiny data, three free ports in a row, a core that this process may use ---

PYTHONDONTWRITEBYTECODE=1 python3 -c 'import harness, shutil, sys; shutil.copytree(harness.write_data("data"), sys.argv[1])' \
    "$folder/data" || exit 1
free_ports() {
    python3 - <<'PYTHON'
import random, socket
while True:
    first, sockets = random.randrange(20000, 30000), []
    try:
        for port in range(first, first + 3):
            sockets.append(socket.create_server(("127.0.0.1", port)))
        print(first)
        break
    except OSError:
        pass
PYTHON
}
core=$(python3 -c 'import os; print(min(os.sched_getaffinity(0)))')
training=(--steps 1000000 --batch 16 --lr 0.002 --log-every 1 --eval-every 20 --train-range 0:200 --seed '{n}')

# --- usage ---

expect 0 --help
says 'launch.sh start \[N\]'
expect 2
expect 2 begin
says "not 'begin'"
expect 2 start --prot 1
says '--prot'
expect 2 start --program "$NEURON" --cores '0-x'
says "'0-x' is no set of cores"
expect 2 start 3 --program "$NEURON" --cores '0 0'
says '3 neurons for 2'
expect 1 status --out nothing
says 'nothing was started'
echo '-oProxyCommand=false' >bad-hosts
expect 2 start --hosts bad-hosts
says "is no 'HOST \[CORES\]'"

# --- two neurons here ---

port=$(free_ports)
local=(--out 'two here')
expect 0 start "${local[@]}" --program "$NEURON" --port "$port" --cores "$core $core" -- "${training[@]}"
says "neuron 2 listens on 127.0.0.1:$((port + 1))"
first=$(process 'two here' 1) second=$(process 'two here' 2)
[ "$(taskset -cp "$first" | sed 's/.*: //')" = "$core" ] || fail "neuron 1 isn't pinned to core $core"
cmp -s 'two here/1/key' 'two here/2/key' && fail 'both have the same key'
expect 1 start "${local[@]}" --program "$NEURON" --port "$(free_ports)"
says 'neuron 1 of .* is running already'
wait_for "^1 +- +$first +$port +learning +[0-9]+ +[0-9.]+ +[01][0-9.]* +1/1" status "${local[@]}"
wait_for '^2 .* 1/1' status "${local[@]}"
expect 0 logs "${local[@]}" --lines 3
says '^== neuron 2'
says 'step'

kill -KILL "$second"
wait_for '^2 +- +- .* ended' status "${local[@]}"
expect 1 status "${local[@]}"
expect 1 stop "${local[@]}"
says 'neuron 1 stopped after step [0-9]+'
says 'neuron 2 had ended by itself'
gone "$first"
[ -s 'two here/1/run/model.safetensors' ] || fail 'neuron 1 saved nothing'
expect 1 status "${local[@]}"
says '^1 .* stopped'
expect 0 stop "${local[@]}"
says 'neuron 1 was not running'

# --- a start that fails leaves nothing behind ---

expect 1 start 1 "${local[@]}" --program "$NEURON" --port "$port" -- "${training[@]}"
says 'neuron 1 ended at once'
says 'holds a run already'
expect 0 start 1 "${local[@]}" --program "$NEURON" --port "$port" -- --resume --steps 1000000
expect 0 stop "${local[@]}"
python3 -c 'import socket, sys, time; s = socket.create_server(("127.0.0.1", int(sys.argv[1]))); print(flush=True); time.sleep(600)' \
    $((port + 1)) >taken &
listener=$!
until [ -s taken ]; do sleep 0.05; done
expect 1 start 2 --out half --program "$NEURON" --port "$port" -- "${training[@]}"
says 'neuron 2 ended at once'
says "127.0.0.1:$((port + 1))"
grep -lsaF "$folder/half/" /proc/[0-9]*/cmdline >/dev/null && fail 'a neuron of a failed start is still there'
[ ! -e half/neurons ] || fail 'a failed start is on record'

# --- another process that has a dead neuron's number is left alone ---

echo "$listener 12345 $(cat /proc/sys/kernel/random/boot_id)" >'two here/1/pid'
expect 1 status "${local[@]}"
says '^1 +- +- .* ended'
expect 1 stop "${local[@]}"
kill -0 "$listener" || fail 'stop ended a process that is no neuron'
kill "$listener"
wait "$listener" 2>/dev/null

# --- hosts ---

far="far \$HOME 'n \"so\"" # words for no shell to take apart
mkdir bin "it's over there"
cat >bin/ssh <<'SSH'
#!/bin/sh
# What a host would do: the words after the host, joined, are the command of its shell.
printf '%s\n' "$*" | head -n 1 | cut -c1-60 >>"$SSH_CALLS"
while [ "$1" != -- ]; do shift; done
host=$2
shift 2
case $host in away) echo "ssh: could not resolve hostname $host" >&2; exit 255 ;; esac
cd / && exec sh -c "$*"
SSH
chmod +x bin/ssh
export PATH=$folder/bin:$PATH SSH_CALLS=$folder/ssh-calls
printf '# two hosts\nsomebody@127.0.0.1 %s\n\nlocalhost\n' "$core" >hosts
port=$(free_ports)
expect 0 start --hosts hosts --repository "$folder/it's over there" --out "$far" --program "$NEURON" --port "$port" -- \
    --data "$folder/data" "${training[@]}"
says "neuron 1 on somebody@127.0.0.1 listens on 127.0.0.1:$port"
grep -q 'BatchMode=yes' ssh-calls || fail 'ssh may ask for a password'
[ "$(wc -l <ssh-calls)" -eq 2 ] || fail "$(wc -l <ssh-calls) calls of ssh, expected one a host"
remote="$folder/it's over there/$far"
first=$(process "$remote" 1) second=$(process "$remote" 2)
wait_for "^2 +localhost +$second +$((port + 1)) +learning .* 1/1" status --out "$far"
expect 0 logs --out "$far"
says '^== neuron 1 on somebody@127.0.0.1'
expect 0 stop --out "$far"
says 'neuron 2 on localhost stopped'
gone "$first"
gone "$second"
echo 'away' >hosts
expect 1 start --hosts hosts --repository "$folder" --out away
says 'neuron 1 on away ssh: could not resolve'

[ $failures -eq 0 ] || { echo "$failures failures"; exit 1; }
echo 'launch.sh starts, shows, and ends neurons here and on hosts'
