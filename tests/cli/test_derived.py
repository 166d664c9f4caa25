#!/usr/bin/env python3
"""`neuron bench layers --plan GPU`: what a plan would launch and move, without a GPU; against a best plan made by hand
(best_plan.py), and against what the simulator sees a step call.

NEURON is the program. Where it has no plug-in of a device, that device's checks say so and are left out.
"""
import json
import math
import os
import subprocess
import tempfile

import best_plan

NEURON = os.environ["NEURON"]
GPUS = ("a100", "h100", "l4", "b200")
HOME = tempfile.TemporaryDirectory()
ENVIRONMENT = {**os.environ, "XDG_CACHE_HOME": HOME.name, "NEURON_PLANS": "", "NEURON_TUNE": ""}


def run(*arguments, status=0, **environment):
    done = subprocess.run([NEURON, *arguments], capture_output=True, text=True, timeout=600, env={**ENVIRONMENT, **environment})
    assert done.returncode == status, f"{arguments}: exit status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}"
    return done


def has_device(device):
    done = subprocess.run([NEURON, "bench", "layers", "--device", device, "--plan", "h100", "--batch", "1"], capture_output=True,
                          text=True, timeout=600, env=ENVIRONMENT)
    missing = "needs the plug-in" in done.stderr
    assert missing or done.returncode == 0, done.stderr
    if missing:
        print(f"no plug-in for device {device}: its checks are left out")
    return not missing


def derived(device, gpu, *arguments):
    done = run("bench", "layers", "--device", device, "--plan", gpu, "--json", *arguments)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events and all(e["event"] in ("layer", "total") and e["derived"] is True and e["gpu"] == gpu for e in events)
    assert not any(key in e for e in events for key in ("microseconds", "whole_ms", "seconds")), "nothing was measured"
    return events


def of(events, what, name):
    return [e for e in events if e["event"] == name and e["what"] == what]


def check_sums(events):
    """Totals are the sums of steps, by phase, by layer and of all."""
    for what in {e["what"] for e in events}:
        steps, totals = of(events, what, "layer"), of(events, what, "total")
        phases = {e["phase"]: e for e in totals if "layer" not in e}
        layers = {e["layer"]: e for e in totals if "layer" in e}
        assert set(phases) == {e["phase"] for e in steps} - {"copy"} | {"all"}
        assert {"transform_conv1", "hidden_layer1", "target_layer2"} <= set(layers)
        for key in ("launches", "flops", "bytes", "roofline_us"):
            for phase, total in phases.items():
                wanted = sum(e[key] for e in steps if phase in (e["phase"], "all"))
                assert math.isclose(total[key], wanted, rel_tol=1e-6), (what, phase, key)
            for layer, total in layers.items():
                wanted = sum(e[key] for e in steps if e["layer"].removesuffix(".weight").removesuffix(".bias") == layer)
                assert math.isclose(total[key], wanted, rel_tol=1e-6), (what, layer, key)
        for step in steps:
            assert step["limit"] in (("link",) if step["phase"] == "copy" else ("compute", "memory", "launch")), step
            assert step["roofline_us"] > 0 and step["workspace_bytes"] >= 0 and step["implementation"]
        assert phases["all"]["arena_bytes"] > 0


def check_best_plan(device):
    """At most the launches, bytes and operations of the plan made by hand; row by row where they mean the same."""
    events = derived(device, "h100", "--batch", str(best_plan.N))
    steps = of(events, "train_step", "layer")
    copies = {e["operation"]: e["bytes"] for e in steps if e["phase"] == "copy"}
    work = [e for e in steps if e["phase"] != "copy"]
    launches, moved, flops = (sum(e[key] for e in work) for key in ("launches", "bytes", "flops"))
    print(f"{device}: {launches} launches, {moved:,.0f} bytes, {1e-6 * flops:.3f} MFLOP; by hand {best_plan.LAUNCHES}, "
          f"{best_plan.BYTES:,.0f}, {1e-6 * best_plan.FLOPS:.3f}")
    assert launches <= best_plan.LAUNCHES, best_plan.table()
    assert moved <= best_plan.BYTES, best_plan.table()
    assert flops <= 1.0001 * best_plan.FLOPS, best_plan.table()  # a loss counts a few, and those not by hand
    assert copies["copy_from_host"] <= best_plan.COPIED_IN and copies["copy_to_host"] <= best_plan.COPIED_OUT, copies
    update = [e for e in work if e["phase"] == "update"]
    assert len(update) == 1 and update[0]["launches"] == 1
    # 64 images, 512 x 832 weights, a multiplication and an addition each; 4 bytes each way, and the relu's mask.
    hidden = next(e for e in work if e["layer"] == "hidden_layer1" and e["phase"] == "forward")
    assert hidden["shape"] == [64, 512] and hidden["flops"] == 2 * 64 * 512 * 832
    assert hidden["bytes"] == 4 * (64 * 832 + 512 * 832 + 512 + 64 * 512) + 64 * 512 // 8


def check_choices(device):
    f32 = derived(device, "h100", "--batch", "64")
    check_sums(f32)
    assert {e["what"] for e in f32} == {"train_step", "inference", "inference_folded"}
    bf16 = derived(device, "h100", "--batch", "64", "--dtype", "bf16")
    check_sums(bf16)
    of_hidden = [next(e for e in events if e.get("layer") == "hidden_layer1" and e.get("operation") == "linear")
                 for events in (f32, bf16)]
    assert [e["dtype"] for e in of_hidden] == ["f32", "bf16"]
    assert math.isclose(of_hidden[1]["bytes"], of_hidden[0]["bytes"] / 2, rel_tol=0.01)
    # No step converts weights: the update writes them in bf16 too. Filters' gradients are converted where cuDNN can't.
    training = of(bf16, "train_step", "layer")
    assert not [e for e in training if e["operation"] == "convert"]
    assert sum(e["launches"] for e in training) <= best_plan.LAUNCHES + 2
    backward = derived(device, "h100", "--batch", "2", "--backward")
    assert {e["phase"] for e in backward if "layer" not in e or e["event"] == "layer"} == {"backward"}
    slower = {gpu: [e for e in derived(device, gpu, "--batch", "64") if e["event"] == "total" and e["phase"] == "update"][0]
              for gpu in GPUS}
    assert slower["l4"]["roofline_us"] > slower["a100"]["roofline_us"] > slower["h100"]["roofline_us"] > slower["b200"]["roofline_us"]
    text = run("bench", "layers", "--device", device, "--plan", "h100", "--batch", "1").stdout
    assert text.count("derived, not measured") == 3 and "launch" in text


def calls(name, repeat):
    """How often a training benchmark calls it: one failing call more than there are fails nothing."""
    for n in range(1, 200):
        done = subprocess.run([NEURON, "bench", "step", "--device", "sim", "--backward", "--batch", "2", "--repeat", str(repeat)],
                              capture_output=True, text=True, timeout=600, env={**ENVIRONMENT, "SIM_FAIL": f"{name}:{n}"})
        if done.returncode == 0:
            return n - 1
        assert "CUDA" in done.stderr or "cuda" in done.stderr or "cu" in done.stderr, done.stderr
    raise AssertionError(f"{name} is called 200 times or more")


def check_one_graph():
    """--repeat n runs the plan 1 + 2 n times for n < 3. A run is one graph launch, and puts nothing else on a stream."""
    assert [calls("cudaGraphLaunch", n) for n in (1, 2)] == [3, 5]
    for name in ("cudaMemcpyAsync", "cublasLtMatmul"):
        assert calls(name, 1) == calls(name, 2), name


def check_refusals():
    for arguments, word in ((("layers", "--device", "cpu", "--plan", "h100"), "cuda or sim"),):
        assert word in run("bench", *arguments, status=1).stderr
    assert "layers --plan h100" in run("bench", "step", "--plan", "h100", status=2).stderr


check_refusals()
for name in ("cuda", "sim"):
    if has_device(name):
        check_best_plan(name)
        check_choices(name)
        assert "expected one of a100, h100, l4, b200" in run("bench", "layers", "--device", name, "--plan", "v100", status=1).stderr
        if name == "sim":
            check_one_graph()
print("all as expected")
