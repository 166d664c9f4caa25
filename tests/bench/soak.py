#!/usr/bin/env python3
"""Many calls from many clients while the neuron trains: none may be lost, memory and descriptors must be where they were
afterwards, and training must keep its share of the cores.

    tests/bench/soak.py [--neuron build/release/neuron] [--data FOLDER] [--calls 100000] [--clients 32] [--serve-share 0.5]

The neuron (`neuron run`, alone in the world) is pinned to one core, the clients (`neuron bench serve --connect`, every
client with its next call as soon as the last one was answered, Forward and Backward in turns) to another, so that what
training loses it loses to answering. Some rounds before the counted ones bring every buffer to its size.

Exit status 1:
  - a call failed, at the client or the server, or they don't agree on how many were answered;
  - the resident memory grew by more than 5 % and 4 MiB, or a descriptor is open that wasn't;
  - the thread that trains got less than 0.9 * (1 - share) of the core's time. (Steps a second fall by more, since those
    that learn from peers' gradients are longer; that's why they are only told.)
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEMORY_RATIO, MEMORY_BYTES, SHARE_TOLERANCE = 1.05, 4 << 20, 0.9
WARM_UP = 3  # rounds of each kind before the counted ones
QUESTIONS = 8  # that `bench serve` asks once, to check the answers, before it begins
PATIENCE = 30  # seconds for connections to close


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neuron", default=str(ROOT / "build/release/neuron"), help="the program (default %(default)s)")
    parser.add_argument("--data", default=os.environ.get("NEURON_DATA", "data"), help="the folder that has mnist/")
    parser.add_argument("--calls", type=int, default=100000, help="Forward and Backward together (default %(default)s)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--serve-share", type=float, default=0.5)
    parser.add_argument("--round", type=float, default=3, metavar="SECONDS", help="of one measurement (default %(default)s)")
    parser.add_argument("more", nargs="*", help="options for `neuron run`, after --")
    return parser.parse_args()


ARGUMENTS = parse_arguments()
os.environ["NEURON"] = ARGUMENTS.neuron
sys.path.insert(0, str(ROOT / "tests/e2e"))
from harness import Running, environment, path  # noqa: E402 - it wants NEURON

CORES = sorted(os.sched_getaffinity(0))


def core_time(process):
    """Seconds that the process's first thread, which trains, has computed."""
    with open(f"/proc/{process}/task/{process}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


class pinned:
    """What is started inside runs on this core."""

    def __init__(self, core):
        self.core = core

    def __enter__(self):
        os.sched_setaffinity(0, {self.core})

    def __exit__(self, *error):
        os.sched_setaffinity(0, CORES)


def memory(process):
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def descriptors(process):
    return len(os.listdir(f"/proc/{process}/fd"))


def ask(*arguments):
    """The events of a run of the program on the clients' core."""
    with pinned(CORES[1]):
        done = subprocess.run([ARGUMENTS.neuron, *arguments, "--json"], env=environment(), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"soak: neuron {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


class Soak:
    def __init__(self, neuron):
        self.neuron, self.process = neuron, neuron.process.pid
        self.address = neuron.wait_for("ready")["address"]
        self.calls = {"forward": 0, "backward": 0}
        self.failures = self.loaded_steps = 0
        self.loaded_seconds = self.trained_seconds = 0.0

    def step(self):
        return max((event["step"] for event in self.neuron.of("step")), default=0)

    def serving(self):
        (event,) = [e for e in ask("peers", self.address) if e["event"] == "serving"]
        return event

    def load(self, method):
        """One round of calls; training's steps meanwhile are noted."""
        began, before, trained = time.monotonic(), self.step(), core_time(self.process)
        events = ask("bench", "serve", "--connect", self.address, "--concurrency", str(ARGUMENTS.clients), "--channels",
                     str(ARGUMENTS.clients), "--batch", "1", "--duration", f"{ARGUMENTS.round}s", "--deadline", "30s",
                     *(["--backward"] if method == "backward" else []))
        self.loaded_seconds += time.monotonic() - began
        self.loaded_steps += self.step() - before
        self.trained_seconds += core_time(self.process) - trained
        for event in events:
            if event["event"] == "bench":
                self.calls[method] += event["answered"] + QUESTIONS
                self.failures += event["failures"]

    def alone(self, seconds):
        """Steps a second while nobody asks."""
        began, before = time.monotonic(), self.step()
        time.sleep(seconds)
        return (self.step() - before) / (time.monotonic() - began)


def settle(process, limit):
    """Descriptors, once connections have had time to close."""
    end = time.monotonic() + PATIENCE
    while descriptors(process) > limit and time.monotonic() < end:
        time.sleep(0.1)
    return descriptors(process)


def check(fine, sentence):
    print(("ok      " if fine else "MISSED  ") + sentence)
    return fine


def soak(neuron):
    run = Soak(neuron)
    neuron.wait_for("step", lambda event: event["step"] >= 100)
    idle = descriptors(run.process)
    for method in ("forward", "backward") * WARM_UP:
        run.load(method)
    settle(run.process, idle)
    run.calls = {"forward": 0, "backward": 0}
    run.loaded_steps, run.loaded_seconds, run.trained_seconds = 0, 0.0, 0.0
    alone_before, memory_before, served_before = run.alone(5), memory(run.process), run.serving()
    memory_half = 0
    while sum(run.calls.values()) < ARGUMENTS.calls:
        run.load("backward" if run.calls["backward"] < run.calls["forward"] else "forward")
        if memory_half == 0 and sum(run.calls.values()) >= ARGUMENTS.calls / 2:
            memory_half = memory(run.process)
    served, alone_after = run.serving(), run.alone(5)
    open_now, memory_now = settle(run.process, idle), memory(run.process)

    answered = {m: served[m + "s"] - served_before[m + "s"] for m in run.calls}
    loaded, alone = run.loaded_steps / run.loaded_seconds, (alone_before + alone_after) / 2
    share = 1.0 if ARGUMENTS.serve_share in (0, 1) else 1 - ARGUMENTS.serve_share
    print(f"{ARGUMENTS.clients} clients, {run.loaded_seconds:.0f} s, {sum(run.calls.values()) / run.loaded_seconds:.0f} "
          f"calls/s; gradients learnt from: {served['gradients_learnt']}, refused: {served['gradients_refused']}")
    fine = check(run.failures == 0 and served["failures"] == 0, f"failures: {run.failures} at the clients, "
                 f"{served['failures']} at the server")
    fine &= check(answered == run.calls, f"Forward and Backward calls: {run.calls['forward']} and "
                  f"{run.calls['backward']} asked, {answered['forward']} and {answered['backward']} answered")
    fine &= check(memory_now <= max(memory_before * MEMORY_RATIO, memory_before + MEMORY_BYTES),
                  f"resident memory: {memory_before / 1e6:.1f} MB before, {memory_half / 1e6:.1f} MB after half of the "
                  f"calls, {memory_now / 1e6:.1f} MB at the end")
    fine &= check(open_now <= idle, f"descriptors: {idle} before, {open_now} after")
    wanted = SHARE_TOLERANCE * share
    kept = run.trained_seconds / run.loaded_seconds
    fine &= check(ARGUMENTS.serve_share in (0, 1) or kept >= wanted,
                  f"training: {kept:.2f} of the core, at least {wanted:.2f} with --serve-share {ARGUMENTS.serve_share:g}; {loaded:.1f} "
                  f"steps/s under load, {alone:.1f} alone ({alone_before:.1f} before, {alone_after:.1f} after)")
    return fine


def main():
    if len(CORES) < 2:
        sys.exit("soak: two cores are needed, one for the neuron and one for the clients")
    with pinned(CORES[0]):
        neuron = Running("run", "--listen", "127.0.0.1:0", "--data", os.path.abspath(ARGUMENTS.data), "--epochs", "1000000",
                         "--schedule", "constant", "--lr", "0.001", "--threads", "1", "--log-every", "1", "--eval-every",
                         "1000000000", "--serve-share", str(ARGUMENTS.serve_share), "--key", path("key"), *ARGUMENTS.more)
    with neuron:
        fine = soak(neuron)
        fine &= check(neuron.stop() == 0, "the neuron ended with success")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
