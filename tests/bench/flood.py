#!/usr/bin/env python3
"""What floods do to a serving neuron, and to a caller that means well: the attacks of tests/e2e/attacker.py, one after
the other. The attacker has one core, the neuron and the good caller (`neuron bench serve`) share another; each attack is
measured between two baselines on the same core.

    NEURON=build/release/neuron tests/bench/flood.py [--seconds 5] [--rounds 3] [ATTACK...]

Required, or the exit status is 1: no call of the good caller fails; its p99 (median of the rounds) is at most twice the
baseline's; the neuron never has more than MEMORY more than before, gives back what it took (but BACK, that allocators
keep), and has its descriptors of before again."""
import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
from attacker import ATTACKS  # noqa: E402
from harness import NEURON, environment, serve  # noqa: E402

MIB = 1 << 20
MEMORY = 1024 * MIB  # 512 of gRPC's buffers, 256 of requests that wait, 256 of answers that leave
BACK = 256 * MIB


@contextlib.contextmanager
def pinned(core):
    """Processes that are started inside run on this core."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Watch:
    """The most memory and descriptors that a process has meanwhile."""

    def __init__(self, pid):
        self.pid, self.memory, self.files, self.over = pid, 0, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(0.05):
            self.memory = max(self.memory, resident(self.pid))
            self.files = max(self.files, descriptors(self.pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def good_caller(address, seconds, core):
    """p50 and p99 in microseconds, calls a second, failures."""
    command = [NEURON, "bench", "serve", "--connect", address, "--batch", "1", "--concurrency", "4"]
    command += ["--duration", f"{seconds}s", "--deadline", "20s", "--json"]
    with pinned(core):
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    found = [event for event in events if "p99_us" in event]
    if done.returncode != 0 or not found:
        sys.exit(f"the good caller ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    event = found[-1]
    return event["p50_us"], event["p99_us"], event["calls_per_second"], event["failures"]


def attack_once(name, address, seconds, cores):
    """The good caller's figures during the attack."""
    command = [sys.executable, os.path.join(HERE, "..", "e2e", "attacker.py"), address, name]
    with pinned(cores[0]):
        attacker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if attacker.stdout.readline() != "ready\n":
            sys.exit(f"{name}: the attacker failed: {attacker.stderr.read()}")
        time.sleep(1)
        figures = good_caller(address, seconds, cores[1])
        if attacker.poll() is not None:
            sys.exit(f"{name}: the attacker ended: {attacker.stderr.read()}")
        return figures
    finally:
        attacker.kill()
        attacker.wait()


def settle(pid, files, patience=30):
    """Waits until the neuron has closed what the attacker left; how many descriptors it has too many."""
    until = time.monotonic() + patience
    while descriptors(pid) > files and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.5)
    return max(0, descriptors(pid) - files)


def measure(name, seconds, rounds, cores):
    with pinned(cores[1]):
        running, address = serve("--soma", "mnist", "--serve-threads", "1")
    with running:
        pid = running.process.pid
        good_caller(address, 1, cores[1])
        files, before, quiet, flooded = descriptors(pid), resident(pid), [], []
        with Watch(pid) as watch:
            for _ in range(rounds):
                quiet.append(good_caller(address, seconds, cores[1]))
                flooded.append(attack_once(name, address, seconds, cores))
                left = settle(pid, files)
        after = resident(pid)
    p50, p99 = ([statistics.median(run[i] for run in runs) for runs in (quiet, flooded)] for i in (0, 1))
    return {
        "attack": name,
        "p50_us": p50,
        "p99_us": p99,
        "p99_ratio": p99[1] / p99[0],
        "calls_per_second": [statistics.median(run[2] for run in runs) for runs in (quiet, flooded)],
        "failures": sum(run[3] for run in quiet + flooded),
        "mib": [size / MIB for size in (before, watch.memory, after)],
        "descriptors": [files, watch.files, files + left],
        "good": p99[1] <= 2 * p99[0]
        and not any(run[3] for run in quiet + flooded)
        and watch.memory - before <= MEMORY
        and after - before <= BACK
        and left == 0,
    }


def show(row):
    quiet, flooded = row["p99_us"]
    print(
        f"{row['attack']:<13} {row['p50_us'][0]:>6.0f} {row['p50_us'][1]:>6.0f} us  {quiet:>7.0f} {flooded:>7.0f} us"
        f"  {row['p99_ratio']:>5.2f}  {row['failures']:>8}  {row['mib'][0]:>5.0f} {row['mib'][1]:>5.0f} {row['mib'][2]:>5.0f}"
        f"  {row['descriptors'][0]:>4} {row['descriptors'][1]:>5} {row['descriptors'][2]:>4}  {'' if row['good'] else 'MISSED'}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS))
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the attacker, one for the neuron and the good caller")
    if not options.json:
        print("attack        p50: quiet, flooded   p99: quiet, flooded   ratio  failures  MiB before, most, after  descriptors")
    rows = []
    for name in options.attacks:
        rows.append(measure(name, options.seconds, options.rounds, cores))
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
        else:
            show(rows[-1])
    sys.exit(0 if all(row["good"] for row in rows) else 1)


if __name__ == "__main__":
    main()
