#!/usr/bin/env bash
# Starts several neurons that ask each other, on this machine or on others by ssh, and tells how they are.
#
#   scripts/launch.sh start [N] [OPTION…] [-- RUN-OPTION…]    starts N neurons; returns when all of them listen
#   scripts/launch.sh status [--out FOLDER]                    a line for each; exit status 1 if one isn't running
#   scripts/launch.sh stop [--out FOLDER] [--patience S]       SIGTERM; waits until they have answered and saved
#   scripts/launch.sh logs [--out FOLDER] [--lines N]          the last lines that each has said
#
# start takes
#   --out FOLDER       where they live (runs/launch): FOLDER/1 … FOLDER/N hold each one's key, run, log and events
#   --program FILE     the program (build/release/neuron)
#   --port PORT        the first one's (8091); the others' follow
#   --cores 'SET SET…' one neuron for each set of cores, pinned to it (taskset): --cores '0-3 4-7'
#   --hosts FILE       lines 'HOST [SET]', one a neuron: these run there, listen on all addresses, and need ssh without a
#                      password. FOLDER and the program are then names on those hosts, below --repository
#   --repository PATH  this repository's folder on the hosts (default: as here)
#   RUN-OPTION…        options of 'neuron run' for all of them; {n} stands for each one's number, from 1
#
# Without --cores and --hosts, N defaults to the number of GPUs, one for each neuron, if the program can use them; else to
# 2, which share the machine's cores. Where a folder holds a run already, '-- --resume' continues it.
set -euo pipefail
invoked_from=$PWD
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

out=runs/launch program=build/release/neuron repository=$here first_port=8091
count='' hosts_file='' core_sets='' patience=60 lines=20
run_options=() ssh_command=(ssh -o BatchMode=yes -o ConnectTimeout=10)

# What is known of each neuron, by its number less 1. Host '-' is this machine, cores '-' all of them.
hosts=() ports=() cores=() states=()

fail() {
    echo "launch: $1" >&2
    exit "${2:-1}"
}

# The part that runs where a neuron runs, by sh: agent COMMAND FOLDER …. Its words are POSIX, since a host's sh may be any.
# A process is known by its number, the time when it started and the boot: a number alone may come again.
# shellcheck disable=SC2016
agent='
set -u
command=$1 folder=$2
shift 2
identity() {
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    set -- "$1" ${stat##*) }
    [ "$2" != Z ] && echo "$1 ${21} $(cat /proc/sys/kernel/random/boot_id)"
}
alive() {
    pid="" since="" boot=""
    read -r pid since boot 2>/dev/null <"$folder/pid" || return 1
    [ "$(identity "$pid")" = "$pid $since $boot" ]
}
last_event() { grep "\"event\": *\"$1\"" "$folder/events" 2>/dev/null | tail -n 1; }
value() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^,}\"]*\).*/\1/p"; }
excerpt() { tail -n "$1" "$folder/log" 2>/dev/null | sed "s/^/    /"; }

start() {
    cores=$1 program=$2
    shift 2
    if alive; then echo "runs already, as process $pid"; return 1; fi
    [ -x "$program" ] || { echo "no program at $program"; return 1; }
    if [ "$cores" != - ]; then set -- taskset -c "$cores" "$program" "$@"; else set -- "$program" "$@"; fi
    mkdir -p "$folder" && : >"$folder/events" && : >"$folder/log" || return 1
    setsid "$@" --json --key "$folder/key" --out "$folder/run" >"$folder/events" 2>"$folder/log" </dev/null 9>&- &
    identity $! >"$folder/pid"
    tries=600
    until [ -n "$(last_event ready)" ]; do
        tries=$((tries - 1))
        if ! alive || [ $tries = 0 ]; then
            if alive; then kill -KILL "$pid"; echo "did not listen within a minute; its last words:"
            else echo "ended at once; its last words:"; fi
            excerpt 5
            rm -f "$folder/pid"
            return 1
        fi
        sleep 0.1
    done
}

# STATE PID STEP LOSS ACCURACY HEALTH
status() {
    program=$1 state=stopped health=- shown=-
    if alive; then
        shown=$pid
        state=learning
        [ -z "$(last_event done)" ] || state=learnt
        port=$(last_event ready | value address)
        if peers=$("$program" peers "127.0.0.1:${port##*:}" --json --deadline 2s 2>/dev/null)
        then health=$(echo "$peers" | grep -c "\"state\": *\"well\"")/$(echo "$peers" | grep -c "\"event\": *\"peer\"")
        else health=silent; fi
    elif [ -e "$folder/pid" ]; then
        state=ended
    fi
    set -- "$(last_event step | value step)" "$(last_event step | value loss)" "$(last_event eval | value accuracy)"
    echo "$state $shown ${1:--} ${2:--} ${3:--} $health"
}

stop() {
    tries=$(($1 * 10))
    if ! alive; then
        if [ ! -e "$folder/pid" ]; then echo "was not running"; return 0; fi
        rm -f "$folder/pid"
        echo "had ended by itself; its last words:"
        excerpt 5
        return 1
    fi
    kill -TERM "$pid"
    while alive; do
        tries=$((tries - 1))
        if [ $tries -le 0 ]; then
            kill -KILL "$pid"
            rm -f "$folder/pid"
            echo "did not end within $1 s, and was killed"
            return 1
        fi
        sleep 0.1
    done
    rm -f "$folder/pid"
    if [ -n "$(last_event error)" ]; then echo "ended with an error: $(last_event error | value message)"; return 1; fi
    step=$(last_event step | value step)
    echo "stopped${step:+ after step $step}"
}

logs() { tail -n "$1" "$folder/log"; }

$command "$@"
'

# quote WORD…: each as one word of any shell.
quote() {
    local word quoted=()
    for word; do quoted+=("'${word//\'/\'\\\'\'}'"); done
    printf '%s' "${quoted[*]}"
}

# on INDEX COMMAND …: runs the agent for a neuron, where it lives.
on() {
    local index=$1 command=$2
    shift 2
    if [ "${hosts[index]}" = - ]; then
        sh -c "$agent" agent "$command" "$out/$((index + 1))" "$@"
    else
        "${ssh_command[@]}" -- "${hosts[index]}" \
            "cd $(quote "$repository") && sh -c $(quote "$agent" agent "$command" "$out/$((index + 1))" "$@")" </dev/null
    fi
}

name() {
    echo "neuron $(($1 + 1))$([ "${hosts[$1]}" = - ] || echo " on ${hosts[$1]}")"
}

# everywhere COMMAND …: for all neurons at once; what each says goes to $scratch/INDEX, its exit status to states.
everywhere() {
    local index jobs=()
    states=()
    for index in "${!hosts[@]}"; do
        on "$index" "$@" >"$scratch/$index" 2>&1 9>&- &
        jobs+=($!)
    done
    for index in "${!hosts[@]}"; do
        if wait "${jobs[index]}"; then states+=(0); else states+=($?); fi
    done
}

# --- what there is to start ---

# count_cores SET: of '0-3,6' 5.
count_cores() {
    local part total=0
    [[ $1 =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || fail "'$1' is no set of cores, expected such as 0-3,6" 2
    for part in ${1//,/ }; do total=$((total + ${part#*-} - ${part%-*} + 1)); done
    [ $total -gt 0 ] || fail "the set of cores '$1' is empty" 2
    echo $total
}

count_gpus() {
    if ! command -v nvidia-smi >/dev/null || "$program" eval --device cuda:0 2>&1 | grep -q 'no CUDA'; then
        echo 0
    else
        nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true
    fi
}

read_hosts() {
    local host set rest
    [ -r "$hosts_file" ] || fail "can't read the hosts file '$hosts_file'" 2
    while read -r host set rest || [ -n "$host" ]; do
        case $host in '' | '#'*) continue ;; esac
        [[ $host =~ ^[A-Za-z0-9_][A-Za-z0-9_.@-]*$ && -z $rest ]] ||
            fail "'$host${set:+ $set}${rest:+ $rest}' in $hosts_file is no 'HOST [CORES]'" 2
        hosts+=("$host") cores+=("${set:--}")
    done <"$hosts_file"
    [ ${#hosts[@]} -gt 0 ] || fail "the hosts file '$hosts_file' names no host" 2
}

plan() {
    local index gpus=0 set
    if [ -n "$hosts_file" ]; then
        read_hosts
    elif [ -n "$core_sets" ]; then
        for set in $core_sets; do hosts+=(-) cores+=("$set"); done
    else
        gpus=$(count_gpus)
        for ((index = 0; index < ${count:-$((gpus > 0 ? gpus : 2))}; index++)); do hosts+=(-) cores+=(-); done
    fi
    [ -z "$count" ] || [ "$count" = ${#hosts[@]} ] || fail "$count neurons for ${#hosts[@]} hosts or sets of cores" 2
    [ $((first_port + ${#hosts[@]} - 1)) -le 65535 ] || fail "ports from $first_port on are too few" 2
    for index in "${!hosts[@]}"; do
        ports+=($((first_port + index)))
        [ "${cores[index]}" = - ] || count_cores "${cores[index]}" >/dev/null
    done
    plan_gpus=$gpus
}

address() {
    if [ "${hosts[$1]}" = - ]; then echo "127.0.0.1:${ports[$1]}"; else echo "${hosts[$1]##*@}:${ports[$1]}"; fi
}

# The options of one neuron, into `arguments`.
arrange() {
    local index=$1 other peers='' option listen=127.0.0.1
    for other in "${!hosts[@]}"; do
        [ "$other" = "$index" ] || peers+=${peers:+,}$(address "$other")
    done
    [ "${hosts[index]}" = - ] || listen=0.0.0.0
    arguments=(run --listen "$listen:${ports[index]}")
    [ -z "$peers" ] || arguments+=(--peers "$peers")
    if [ "${cores[index]}" != - ]; then
        arguments+=(--threads "$(count_cores "${cores[index]}")")
    elif [ "$plan_gpus" -gt 0 ]; then
        arguments+=(--device "cuda:$((index % plan_gpus))")
    elif [ "${hosts[index]}" = - ]; then
        local threads=$(($(nproc) / ${#hosts[@]}))
        arguments+=(--threads $((threads > 0 ? threads : 1)))
    fi
    for option in "${run_options[@]}"; do arguments+=("${option//\{n\}/$((index + 1))}"); done
}

# --- the record of what was started: FOLDER/neurons, on this machine ---

write_record() {
    local index
    {
        printf '%s\n' "$program" "$repository" "$out"
        for index in "${!hosts[@]}"; do printf '%s %s %s\n' "${hosts[index]}" "${ports[index]}" "${cores[index]}"; done
    } >"$state/neurons"
}

read_record() {
    local host port set
    [ -r "$state/neurons" ] || fail "nothing was started in $state"
    {
        read -r program && read -r repository && read -r out
        while read -r host port set; do hosts+=("$host") ports+=("$port") cores+=("$set"); done
    } <"$state/neurons"
}

# Only one launch at a time works on a folder; neurons don't inherit the lock.
take_lock() {
    mkdir -p "$state"
    exec 9>"$state/lock"
    flock --nonblock 9 || fail "another launch is at work on $state"
}

# --- commands ---

refuse_second_start() {
    local index
    [ -e "$state/neurons" ] || return 0
    for index in $(
        read_record
        everywhere status "$program"
        grep -l -E '^(learning|learnt) ' "$scratch"/[0-9]* | sed 's|.*/||'
    ); do
        fail "neuron $((index + 1)) of $state is running already; 'launch.sh stop' ends it"
    done
}

start() {
    local index jobs=() started=() failed=no arguments
    take_lock
    refuse_second_start
    plan
    write_record
    for index in "${!hosts[@]}"; do
        arrange "$index"
        on "$index" start "${cores[index]}" "$program" "${arguments[@]}" >"$scratch/$index" 2>&1 &
        jobs+=($!)
    done
    for index in "${!hosts[@]}"; do
        if wait "${jobs[index]}"; then
            started+=("$index")
        else
            failed=yes
            echo "launch: $(name "$index") $(cat "$scratch/$index")" >&2
        fi
    done
    if [ $failed = yes ]; then
        for index in "${started[@]}"; do on "$index" stop "$patience" >/dev/null & done
        wait
        rm -f "$state/neurons"
        fail 'not all could be started, so the others were stopped'
    fi
    for index in "${!hosts[@]}"; do echo "$(name "$index") listens on $(address "$index")"; done
}

status() {
    local index bad=0 condition pid step loss accuracy health format='%-6s %-20s %8s %6s  %-11s %8s %12s %9s  %s\n'
    read_record
    everywhere status "$program"
    # shellcheck disable=SC2059
    printf "$format" neuron host pid port state step loss accuracy 'peers well'
    for index in "${!hosts[@]}"; do
        if [ "${states[index]}" = 0 ]; then
            read -r condition pid step loss accuracy health <"$scratch/$index"
        else
            condition=unreachable pid=- step=- loss=- accuracy=- health=$(tail -n 1 "$scratch/$index")
        fi
        case $condition in learning | learnt) ;; *) bad=1 ;; esac
        # shellcheck disable=SC2059
        printf "$format" $((index + 1)) "${hosts[index]}" "$pid" "${ports[index]}" "$condition" "$step" "$loss" \
            "$accuracy" "$health"
    done
    return $bad
}

stop() {
    local index bad=0
    take_lock
    read_record
    everywhere stop "$patience"
    for index in "${!hosts[@]}"; do
        echo "$(name "$index") $(cat "$scratch/$index")"
        [ "${states[index]}" = 0 ] || bad=1
    done
    return $bad
}

logs() {
    local index bad=0
    read_record
    everywhere logs "$lines"
    for index in "${!hosts[@]}"; do
        printf '== %s\n%s\n' "$(name "$index")" "$(cat "$scratch/$index")"
        [ "${states[index]}" = 0 ] || bad=1
    done
    return $bad
}

# --- the command line ---

number() {
    [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || fail "$1 is '$2', expected a number from 1 to 99999" 2
}

command=${1:-}
case $command in
start | status | stop | logs) shift ;;
-h | --help | help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
*) fail "expected start, status, stop, logs or --help, not '$command'" 2 ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
    --)
        [ "$command" = start ] || fail "options for 'neuron run' go with start" 2
        shift
        run_options=("$@")
        break
        ;;
    --out | --program | --port | --cores | --hosts | --repository | --patience | --lines)
        [ $# -ge 2 ] || fail "$1 needs a value" 2
        [[ $2 != *$'\n'* && -n $2 ]] || fail "$1 has an empty value, or one of several lines" 2
        case $1 in
        --out) out=$2 ;;
        --program) program=$2 ;;
        --port) number --port "$2" && first_port=$2 ;;
        --cores) core_sets=$2 ;;
        --hosts) hosts_file=$2 ;;
        --repository) repository=$2 ;;
        --patience) number --patience "$2" && patience=$2 ;;
        --lines) number --lines "$2" && lines=$2 ;;
        esac
        shift 2
        ;;
    -*) fail "unknown option $1; see --help" 2 ;;
    *)
        if [ "$command" != start ] || [ -n "$count" ]; then fail "unexpected '$1'; see --help" 2; fi
        number 'the number of neurons' "$1"
        count=$1
        shift
        ;;
    esac
done
[ -z "$hosts_file" ] || [ -z "$core_sets" ] || fail "with --hosts, the sets of cores stand in the hosts file" 2

# The record is always on this machine; with --hosts, folder and program are names over there.
case $out in /*) state=$out ;; *) state=$invoked_from/$out ;; esac
if [ -z "$hosts_file" ]; then
    out=$state
    if [ "$program" = build/release/neuron ]; then program=$here/$program; fi
    case $program in /*) ;; *) program=$invoked_from/$program ;; esac
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
$command
