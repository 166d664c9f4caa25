#!/usr/bin/env python3
"""What the distance between two neurons costs: they have a half of MNIST each and ask each other, both through a proxy
(tests/bench/delay_proxy.c, built beside the program) that holds every byte back by half a round trip.

    tests/bench/latency.py [--neuron build/release/neuron] [--data FOLDER] [--steps N] [--seeds N] [--round-trips MS,MS,…]

A round trip of 0 goes through the proxy as well. Seeds are the outer loop, round trips the inner one, so that a machine
that is slower for a while is so for all. Steps a second are those of both neurons together, from a fifth of the steps
(by then they know how far ahead to ask; "all of it" says what the beginning costs) until the first of them is done.
Accuracy is that of the local path on the test images, the mean of both neurons.

Exit status 1: with some round trip there are more than 10 % fewer steps a second than with none, or the accuracy is more
than 0.3 points away, as means over the seeds; or fewer than 90 % of the steps had an answer (a step without one is
faster).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST_SLOWER, MOST_POINTS, LEAST_ANSWERED = 0.10, 0.3, 0.9
KINDS = ("timeout", "unavailable", "backing off", "refused", "no room", "too large")
HEAD = "{:>10} {:>9} {:>10} {:>9} {:>10} {:>10} {:>9} {:>9}"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neuron", default=str(ROOT / "build/release/neuron"), help="the program (default %(default)s)")
    parser.add_argument("--data", default=os.environ.get("NEURON_DATA", "data"), help="the folder that has mnist/")
    parser.add_argument("--steps", type=int, default=3000, help="of each neuron (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--round-trips", default="0,50,200,800", metavar="MS,…", help="the first is what others compare to")
    parser.add_argument("--deadline", default="3s")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every run there")
    parser.add_argument("more", nargs="*", help="options for `neuron run`, after --")
    return parser.parse_args()


ARGUMENTS = parse_arguments()
os.environ["NEURON"] = ARGUMENTS.neuron
sys.path.insert(0, str(ROOT / "tests/e2e"))
from harness import Running, free_port, path  # noqa: E402 - it wants NEURON


class Proxy:
    def __init__(self, port, round_trip):
        program = os.path.join(os.path.dirname(ARGUMENTS.neuron), "delay_proxy")
        self.process = subprocess.Popen([program, str(port), str(round_trip)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def start(number, port, peer_port, seed):
    half = 30000 * number
    return Running("run", "--listen", f"127.0.0.1:{port}", "--peers", f"127.0.0.1:{peer_port}", "--deadline",
                   ARGUMENTS.deadline, "--data", os.path.abspath(ARGUMENTS.data), "--train-range",
                   f"{half}:{half + 30000}", "--steps", str(ARGUMENTS.steps), "--seed", str(10 * seed + number),
                   "--threads", "1", "--log-every", "10", "--eval-every", "1000000000", "--key",
                   path(f"key{number}"), *ARGUMENTS.more)


def step_of(neuron):
    steps = neuron.of("step")
    return steps[-1]["step"] if steps else 0


def watch(neurons):
    """(time, steps of both) as they learn, until the first is done."""
    seen = []
    while True:
        steps = [step_of(neuron) for neuron in neurons]
        seen.append((time.monotonic(), sum(steps)))
        if max(steps) >= ARGUMENTS.steps or any(neuron.of("end of output") for neuron in neurons):
            return seen
        time.sleep(0.05)


def rate(seen, first_step):
    begin = next(point for point in seen if point[1] >= first_step)
    return (seen[-1][1] - begin[1]) / (seen[-1][0] - begin[0])


def measure(round_trip, seed):
    ports = free_port(), free_port()
    with Proxy(ports[0], round_trip) as to_first, Proxy(ports[1], round_trip) as to_second:
        with start(0, ports[0], to_second.port, seed) as first, start(1, ports[1], to_first.port, seed) as second:
            neurons = first, second
            for neuron in neurons:
                neuron.wait_for("ready")
            seen = watch(neurons)
            ends = [neuron.wait_for("done") for neuron in neurons]
            for neuron in neurons:
                if neuron.stop() != 0:
                    sys.exit(f"latency: a neuron failed:\n{neuron.stderr()}")
    peers = [neuron.one("peer") for neuron in neurons]
    missing = {kind: sum(peer.get(kind, 0) for peer in peers) for kind in KINDS}
    return {"round_trip_ms": round_trip, "seed": seed, "steps_per_second": rate(seen, 0.4 * ARGUMENTS.steps),
            "all_steps_per_second": rate(seen, 0), "accuracy": 100 * statistics.mean(e["local_accuracy"] for e in ends),
            "remote_accuracy": 100 * statistics.mean(e["remote_accuracy"] for e in ends),
            "answered": sum(e["steps_answered"] for e in ends) / (2 * ARGUMENTS.steps),
            "missing": {kind: count for kind, count in missing.items() if count}}


def judge(runs, round_trips):
    figures = [key for key in runs[0] if key != "missing"]
    means = {r: {key: statistics.mean(run[key] for run in runs if run["round_trip_ms"] == r) for key in figures}
             for r in round_trips}
    near, fine = means[round_trips[0]], True
    print(f"\nmeans of {ARGUMENTS.seeds} seeds")
    print(HEAD.format("round trip", "steps/s", "", "all of it", "accuracy", "", "remote", "answered"))
    for round_trip in round_trips:
        mean = means[round_trip]
        change, points = mean["steps_per_second"] / near["steps_per_second"] - 1, mean["accuracy"] - near["accuracy"]
        missed = change < -MOST_SLOWER or abs(points) > MOST_POINTS or mean["answered"] < LEAST_ANSWERED
        fine = fine and not missed
        print(HEAD.format(f"{round_trip:g} ms", f"{mean['steps_per_second']:.1f}", f"{100 * change:+.1f} %",
                          f"{mean['all_steps_per_second']:.1f}", f"{mean['accuracy']:.2f} %", f"{points:+.2f}",
                          f"{mean['remote_accuracy']:.2f} %", f"{100 * mean['answered']:.1f} %"),
              "  MISSED" if missed else "")
    return fine


def main():
    round_trips, runs = [float(text) for text in ARGUMENTS.round_trips.split(",")], []
    for seed in range(1, ARGUMENTS.seeds + 1):
        for round_trip in round_trips:
            began = time.monotonic()
            runs.append(measure(round_trip, seed))
            run = runs[-1]
            print(f"seed {seed}, {round_trip:g} ms: {run['steps_per_second']:.1f} steps/s ({run['all_steps_per_second']:.1f} "
                  f"with the beginning), {run['accuracy']:.2f} %, {100 * run['answered']:.1f} % of the steps answered, "
                  f"answers missing: {run['missing'] or 'none'}; {time.monotonic() - began:.0f} s", flush=True)
    if ARGUMENTS.json:
        pathlib.Path(ARGUMENTS.json).write_text(json.dumps(runs, indent=1), encoding="utf-8")
    return 0 if judge(runs, round_trips) else 1


if __name__ == "__main__":
    sys.exit(main())
