#!/usr/bin/env python3
"""Three neurons on this machine. Two have 25,000 labelled images each. The third has 300 labelled images and 10,000 without labels, and asks the other two.
A copy of the third learns alone, for comparison. Shows them learn, then what the third gained: in the network, and afterwards with its peers switched off.

Every neuron is the same program (`neuron run`, `neuron train`, `neuron eval`) with --json; this script starts them, reads their events, and draws."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

STEPS = 1500
COMMON = ["--soma", "mnist", "--batch", "64", "--steps", str(STEPS), "--lr", "0.02", "--threads", "1",
          "--eval-every", "500", "--save-every", "500", "--log-every", "10", "--json"]
POOR = ["--train-range", "50000:60000", "--labelled", "300"]


class Neuron:
    """A child process, and what its events said last."""

    def __init__(self, name, program, arguments, out, data):
        self.name, self.step, self.steps = name, 0, STEPS
        self.loss = self.answered = self.joined = None
        self.accuracy, self.errors = {}, []
        self.ready, self.done = threading.Event(), threading.Event()
        environment = dict(os.environ, NEURON_DATA=data)
        self.log = open(os.path.join(out, name + ".log"), "w")
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=self.log,
                                        env=environment, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.log.write(line)
            event = json.loads(line)
            kind = event["event"]
            if kind == "ready":
                self.address, self.key = event["address"], event["synapse_key"]
                self.ready.set()
            elif kind == "step":
                self.step, self.loss, self.answered = event["step"], event["loss"], event.get("answered")
            elif kind == "eval":
                self.accuracy[event["path"]] = event["accuracy"]
            elif kind == "done" and "steps" in event:
                self.step, self.joined = self.steps, event.get("peer_gradients")
                self.done.set()
            elif kind == "error":
                self.errors.append(event["message"])
        self.ready.set()
        self.done.set()

    def line(self):
        text = f"{self.name:<9}"
        if self.step == 0 and self.loss is None:
            return text + " starting"
        bar = int(20 * self.step / self.steps)
        text += f" [{'=' * bar}{' ' * (20 - bar)}] step {self.step:>4}/{self.steps}"
        text += f"  loss {self.loss:.3f}" if self.loss is not None else ""
        if self.accuracy:
            text += "  test " + ", ".join(f"{100 * a:.1f} % {path}" for path, a in sorted(self.accuracy.items()))
        return text + (f"  peers answering {self.answered}" if self.answered is not None else "")

    def failed(self):
        code = self.process.poll()
        return code is not None and code != 0

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.thread.join(5)
        self.log.close()


def give_up(neurons, sentence):
    for n in neurons:
        n.stop()
        for message in n.errors:
            print(f"{n.name}: {message}", file=sys.stderr)
    sys.exit(f"quickstart: {sentence}")


def watch(neurons, until, out):
    """Redraws one line a neuron on a terminal; elsewhere prints them every few seconds."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    drawn, last = 0, 0.0
    while True:
        finished = all(n.done.is_set() for n in until)
        for n in neurons:
            if n.failed():
                give_up(neurons, f"{n.name} ended early; see {out}/{n.name}.log")
        if terminal:
            if drawn:
                print(f"\033[{drawn}A", end="")
            for n in neurons:
                print("\033[K" + n.line()[:width])
            drawn = len(neurons)
        elif finished or time.monotonic() - last > 5:
            last = time.monotonic()
            for n in neurons:
                print(n.line())
        sys.stdout.flush()
        if finished:
            return
        time.sleep(0.2)


def evaluate(program, folder, data):
    result = subprocess.run([program, "eval", "--load", folder, "--threads", "2", "--json"], capture_output=True,
                            text=True, env=dict(os.environ, NEURON_DATA=data))
    if result.returncode != 0:
        sys.exit(f"quickstart: eval of {folder} failed: {result.stderr.strip()}")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return next(e for e in events if e["event"] == "eval")["accuracy"]


def learn(program, out, data):
    """Runs all neurons; returns the test accuracies (alone, in the network, peers off) and what travelled."""
    run, neurons = lambda name: os.path.join(out, name), []
    start = lambda name, *arguments: neurons.append(
        Neuron(name, program, [*arguments, "--out", run(name), "--key", run(name + ".key")], out, data)) or neurons[-1]
    try:
        serving = ["--listen", "127.0.0.1:0", "--serve-threads", "1"]
        first = start("first", "run", *COMMON, *serving, "--train-range", "0:25000", "--seed", "1")
        second = start("second", "run", *COMMON, *serving, "--train-range", "25000:50000", "--seed", "2")
        for n in (first, second):
            if not n.ready.wait(60) or n.failed():
                give_up(neurons, f"{n.name} doesn't listen; see {out}/{n.name}.log")
        peers = ",".join(f"{n.address}/{n.key}" for n in (first, second))
        third = start("third", "run", *COMMON, *serving, *POOR, "--unlabelled", "50000:60000", "--peers", peers,
                      "--seed", "3")
        watch(neurons, [third], out)
        for n in (first, second):
            if not n.done.wait(120):
                give_up(neurons, f"{n.name} didn't finish; see {out}/{n.name}.log")
        network = third.accuracy.get("remote")
        joined = [first.joined or 0, second.joined or 0]
        for n in neurons:
            n.stop()
        if network is None:
            give_up(neurons, f"third never evaluated its path through the network; see {out}/third.log")
        off = evaluate(program, run("third"), data)
        alone = Neuron("alone", program, ["train", *COMMON, *POOR, "--seed", "3", "--out", run("alone")], out, data)
        neurons.append(alone)
        watch([alone], [alone], out)
        return alone.accuracy["local"], network, off, joined
    finally:
        for n in neurons:
            n.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    os.makedirs(options.out)
    fashion = "fashion" in os.path.abspath(options.data).lower()
    name = "Fashion-MNIST" if fashion else "MNIST"
    print(f"\nThree neurons learn {name} from each other. first, second: 25,000 labelled images each. third: 300 labelled\n"
          "images and 10,000 without labels; it asks the other two, and they learn from the gradients it sends back.\n")
    began = time.monotonic()
    alone, network, off, joined = learn(options.program, options.out, options.data)
    rows = [("alone", alone), ("in the network", network), ("peers switched off", off)]
    print(f"\n{name}, 10,000 test images: the third neuron\n\n  {'':<20} {'accuracy':>9} {'error':>8} {'of the error alone':>19}")
    for label, accuracy in rows:
        ratio = (1 - accuracy) / (1 - alone) if alone < 1 else float("nan")
        print(f"  {label:<20} {100 * accuracy:>7.2f} % {100 * (1 - accuracy):>6.2f} % {ratio:>19.2f}")
    print(f"\n{time.monotonic() - began:.0f} s; first and second learnt from {joined[0]} and {joined[1]} gradients of the third."
          f"\nRuns and logs are in {options.out}. Next: `neuron help`, README.md.")
    if not fashion and ((1 - network) > 0.3 * (1 - alone) or (1 - off) > 0.35 * (1 - alone)):
        sys.exit("quickstart: the network helped less than expected (0.30 and 0.35 of the error alone)")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
