#!/usr/bin/env python3
"""`neuron bench`: the events of both benchmarks, what the options leave out, and what is refused. Times themselves are not judged.

NEURON is the program.
"""
import json
import math
import os
import subprocess

NEURON = os.environ["NEURON"]


def neuron(*arguments, status=0):
    """The events of `neuron bench ARGUMENTS --json`, after checking its exit status."""
    done = subprocess.run([NEURON, "bench", *arguments, "--json", "--threads", "2"], capture_output=True, text=True, timeout=600)
    assert done.returncode == status, f"{arguments}: exit status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}"
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("event" in event for event in events)
    return events, done.stderr


def check_step():
    events, _ = neuron("step", "--repeat", "5", "--batch", "1,64")
    assert [(e["what"], e["batch"]) for e in events] == [
        (what, batch) for batch in (1, 64) for what in ("train_step", "inference", "inference_folded")]
    for event in events:
        assert event["event"] == "bench" and event["soma"] == "mnist"
        assert event["runs"] == 5 and event["threads"] == 2
        assert 0 < event["min_ms"] <= event["median_ms"]
        assert math.isclose(event["samples_per_second"], 1e3 * event["batch"] / event["median_ms"], rel_tol=1e-6)
        assert 0 <= event["difference"] <= (1e-5 if event["what"] == "inference_folded" else 1e-4)

    events, _ = neuron("step", "--repeat", "1", "--batch", "3", "--fold", "false")
    assert [e["what"] for e in events] == ["train_step", "inference"]
    events, _ = neuron("step", "--repeat", "1", "--batch", "3", "--backward")
    assert [e["what"] for e in events] == ["train_step"]


def check_layers():
    events, _ = neuron("layers", "--repeat", "9", "--batch", "64")
    peak = events[0]
    assert peak["event"] == "peak" and peak["threads"] == 2 and peak["gflops"] > 0 and peak["memory_gbps"] > 0
    for what in ("train_step", "inference", "inference_folded"):
        layers = [e for e in events if e["event"] == "layer" and e["what"] == what]
        totals = {e["phase"]: e for e in events if e["event"] == "total" and e["what"] == what}
        phases = ["forward", "backward", "update"] if what == "train_step" else ["forward"]
        assert list(totals) == [*phases, "all"]
        assert {e["phase"] for e in layers} == set(phases)
        names = {e["layer"].removesuffix(".weight").removesuffix(".bias") for e in layers}
        assert {"transform_conv1", "transform_conv2", "hidden_layer1", "hidden_layer2", "target_layer2"} <= names
        for event in layers:
            assert event["dtype"] == "f32" and event["implementation"] and event["operation"]
            assert all(isinstance(n, int) and n > 0 for n in event["shape"])
            assert event["microseconds"] >= 0 and event["gflops"] >= 0 and event["gbps"] >= 0
            assert event["bound"] in ("compute", "bandwidth", "-")
            larger = max(event["gflops"] / peak["gflops"], event["gbps"] / totals["all"]["peak_gbps"])
            assert math.isclose(event["peak_fraction"], larger, rel_tol=1e-5, abs_tol=1e-12)
        assert math.isclose(sum(e["share"] for e in layers), 1, rel_tol=1e-5)
        assert math.isclose(sum(e["microseconds"] for e in layers), totals["all"]["microseconds"], rel_tol=1e-5)
        assert totals["all"]["arena_bytes"] > 0 and totals["all"]["whole_ms"] > 0
        # 64 images, 512 x 832 weights, a multiplication and an addition each: known without the program.
        if what == "inference":
            hidden = next(e for e in layers if e["layer"] == "hidden_layer1" and e["operation"] == "linear")
            assert hidden["shape"] == [64, 512]
            assert math.isclose(hidden["gflops"] * hidden["microseconds"] * 1e3, 2 * 64 * 512 * 832, rel_tol=0.01)

    events, _ = neuron("layers", "--repeat", "9", "--batch", "2", "--backward")
    assert {e["phase"] for e in events if e["event"] in ("layer", "total")} == {"backward"}


def check_refusals():
    events, stderr = neuron("laeyrs", status=2)
    assert "unknown benchmark 'laeyrs'; did you mean 'layers'?" in stderr and events[0]["event"] == "error"
    neuron(status=2)
    neuron("step", "--batch", "0", status=2)


check_step()
check_layers()
check_refusals()
print("all as expected")
