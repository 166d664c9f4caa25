#!/usr/bin/env python3
"""`neuron bench`: the events of all benchmarks, what the options leave out, and what is refused. Times themselves are not judged.

NEURON is the program.
"""
import json
import math
import os
import signal
import subprocess
import tempfile
import xml.etree.ElementTree

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


def check_load(events, what, counted, combinations):
    """Of serve and wire: an event a combination, that says the same in all its figures, and no failure."""
    assert [(e[counted], e["concurrency"]) for e in events] == combinations
    for event in events:
        assert event["event"] == "bench" and event["what"] == what and event["failures"] == 0 and event["calls"] > 0
        assert math.isclose(event["calls_per_second"], event["calls"] / event["seconds"], rel_tol=1e-6)
        assert 0 < event["p50_us"] <= event["p99_us"] <= event["p999_us"] <= event["max_us"]


def check_wire():
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "wire.svg")
        events, _ = neuron("wire", "--raw", "--size", "4096,64", "--concurrency", "1,3", "--duration", "0.3s", "--svg", picture)
        texts = [e.text for e in xml.etree.ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    check_load(events, "wire", "bytes", [(4096, 1), (4096, 3), (64, 1), (64, 3)])
    for event in events:
        assert math.isclose(event["megabytes_per_second"], 1e-6 * event["bytes"] * event["calls_per_second"], rel_tol=1e-6)
        assert math.isclose(event["megabytes_per_second_received"], event["megabytes_per_second"], rel_tol=1e-6)
    assert {"Throughput, bytes 4096", "Latency, bytes 64", "calls/s", "p99.9"} <= set(texts)

    # Without --raw every answer has 512 features; Backward's has the input's.
    events, _ = neuron("wire", "--size", "64", "--concurrency", "2", "--duration", "0.3s", "--channels", "2")
    check_load(events, "wire", "bytes", [(64, 2)])
    assert math.isclose(events[0]["megabytes_per_second_received"], 32 * events[0]["megabytes_per_second"], rel_tol=1e-6)
    events, _ = neuron("wire", "--size", "4096", "--concurrency", "2", "--duration", "0.3s", "--backward")
    check_load(events, "wire", "bytes", [(4096, 2)])
    assert events[0]["method"] == "backward"


def check_serve():
    events, _ = neuron("serve", "--batch", "1,3", "--concurrency", "2", "--duration", "0.3s")
    check_load(events, "serve", "batch", [(1, 2), (3, 2)])
    assert math.isclose(events[1]["samples_per_second"], 3 * events[1]["calls_per_second"], rel_tol=1e-6)
    events, _ = neuron("serve", "--batch", "2", "--concurrency", "2", "--duration", "0.3s", "--backward")
    check_load(events, "serve", "batch", [(2, 2)])
    events, _ = neuron("serve", "--batch", "1", "--concurrency", "64", "--duration", "0.5s", "--rate", "100", "--deadline", "10s")
    assert events[0]["failures"] == 0 and events[0]["rate"] == 100
    assert 20 <= events[0]["calls"] <= 90  # 50 are due, with a deviation of 7


def check_connect():
    """A neuron somewhere else: found by --connect, and its kind of echo found out. One that isn't echo is no echo."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home}
        for soma in (("echo", "--raw"), ("echo",), ("mnist",)):
            with subprocess.Popen([NEURON, "serve", "--listen", "127.0.0.1:0", "--json", "--soma", *soma], env=environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
                try:
                    address = json.loads(server.stdout.readline())["address"]
                    fast = ("--connect", address, "--concurrency", "2", "--duration", "0.3s", "--deadline", "30s")
                    if soma[0] == "echo":
                        events, _ = neuron("wire", "--size", "8192", *fast)
                        check_load(events, "wire", "bytes", [(8192, 2)])
                        received = 8192 if "--raw" in soma else 2048
                        assert math.isclose(events[0]["megabytes_per_second_received"] * 8192,
                                            events[0]["megabytes_per_second"] * received, rel_tol=1e-6)
                    else:
                        check_load(neuron("serve", "--batch", "2", *fast)[0], "serve", "batch", [(2, 2)])
                        events, _ = neuron("wire", *fast, status=1)
                        assert events[-1]["event"] == "error" and "expected soma 'echo'" in events[-1]["message"], events
                finally:
                    server.send_signal(signal.SIGTERM)


def check_refusals():
    for arguments, word in ((("wire", "--size", "6"), "multiple of 4"), (("wire", "--connect", "127.0.0.1:1"), "UNAVAILABLE"),
                            (("wire", "--size", "4096", "--max-message", "2048"), "2048")):
        events, stderr = neuron(*arguments, "--duration", "0.3s", "--concurrency", "1", status=1)
        assert word in stderr, stderr
    neuron("step", "--soma", "echo", status=2)
    events, stderr = neuron("laeyrs", status=2)
    assert "unknown benchmark 'laeyrs'; did you mean 'layers'?" in stderr and events[0]["event"] == "error"
    neuron(status=2)
    neuron("step", "--batch", "0", status=2)


check_step()
check_layers()
check_wire()
check_serve()
check_connect()
check_refusals()
print("all as expected")
