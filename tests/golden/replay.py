"""Runs `neuron train` from given weights over the data in the order of the file, and reads what it reports.

Python's standard library only.
"""
import json
import subprocess

MOMENTUM = 0.9
BATCH = 64


def train(neuron, data, weights, lr, steps, device="cpu", threads=1, gradients=None):
    """The losses of the steps. With `gradients`, those of step 1 are saved in that file."""
    command = [neuron, "train", "--data", data, "--load", weights, "--shuffle", "none", "--dropout", "0"]
    command += ["--schedule", "constant", "--lr", str(lr), "--momentum", str(MOMENTUM), "--batch", str(BATCH)]
    command += ["--steps", str(steps), "--log-every", "1", "--json"]
    command += ["--device", device, "--threads", str(threads)]
    if gradients:
        command += ["--gradients", gradients]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    reported = [event for event in events if event["event"] == "step"]
    if [event["step"] for event in reported] != list(range(1, steps + 1)):
        raise RuntimeError(f"steps reported are {[event['step'] for event in reported]}, expected 1 to {steps}")
    return [event["loss"] for event in reported]


def largest_difference(found, expected):
    """Of two lists of losses: the largest relative difference, and the step where it is."""
    return max((abs(a - b) / abs(b), step) for step, (a, b) in enumerate(zip(found, expected, strict=True), 1))
