#!/usr/bin/env python3
"""`neuron plan`: plans that cuDNN makes ahead for a GPU that isn't there, the file they go into, and that backends read it;
and the search that fills it on a device (a simulated one).

NEURON is the program. Where it lacks a plug-in, the checks that need it say so and are left out.
"""
import json
import os
import subprocess
import tempfile

NEURON = os.environ["NEURON"]
FOLDER = tempfile.TemporaryDirectory()
ENVIRONMENT = {**os.environ, "XDG_CACHE_HOME": os.path.join(FOLDER.name, "cache"), "NEURON_PLANS": "", "NEURON_TUNE": ""}
USUAL = os.path.join(FOLDER.name, "cache", "neuron", "plans.json")
FEW = ("--batch", "1,3", "--dtype", "f32,bf16")


def path(name):
    return os.path.join(FOLDER.name, name)


def run(*arguments, status=0, **environment):
    done = subprocess.run([NEURON, *arguments], capture_output=True, text=True, timeout=600, env={**ENVIRONMENT, **environment})
    assert done.returncode == status, f"{arguments}: exit status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}"
    return done


def events(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def entries(name):
    with open(name, encoding="utf-8") as file:
        content = json.load(file)
    assert content["format"] == 1
    return content["entries"]


def one_sentence(done):
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("neuron: "), done.stderr
    return lines[0]


def check_usage():
    assert "--for GPU" in one_sentence(run("plan", status=2))
    assert "expected f32, tf32, bf16 or f16" in run("plan", "--for", "h100", "--dtype", "f32,f8", status=2).stderr
    for dtype in ("", ",", "f32,"):
        run("plan", "--for", "h100", "--dtype", dtype, status=2)
    assert "plug-in" in one_sentence(run("plan", "--for", "h100", status=1, NEURON_PLUGINS=path("nowhere")))
    page = run("help", "plan").stdout
    assert all(word in page for word in ("--for GPU", "--out FILE", "NEURON_PLANS", "NEURON_TUNE"))


def has_plugin(device):
    done = subprocess.run([NEURON, "bench", "layers", "--device", device, "--plan", "h100", "--batch", "1"], capture_output=True,
                          text=True, timeout=600, env=ENVIRONMENT)
    if "needs the plug-in" not in done.stderr:
        return True
    print(f"no plug-in for device {device}: its checks are left out")
    return False


def check_plans():
    out = path("plans.json")
    made = events(run("plan", "--for", "h100", *FEW, "--out", out, "--json"))
    convolutions = [e for e in made if e["event"] == "convolution"]
    assert {(e["batch"], e["dtype"]) for e in convolutions} == {(b, d) for b in (1, 3, 4) for d in ("f32", "bf16")}
    assert {e["what"] for e in convolutions} == {"train_step", "forward", "backward"}
    # The image's gradient is asked for by Backward calls alone.
    assert {e["what"] for e in convolutions if e["layer"] == "transform_conv1" and e["operation"] == "conv2d_grad_input"} == {"backward"}
    for event in convolutions:
        assert event["gpu"] == "h100" and event["engine"].startswith("cudnn:eng") and event["workspace_bytes"] >= 0
    assert made[-1]["event"] == "planned" and made[-1]["convolutions"] == len(convolutions) and made[-1]["products_left"] > 0
    kept = entries(out)
    # Forward, and gradients of data and filters: 6 for a batch of 1, 5 for training on 3, 4 for answers to 4; in two types.
    assert len(kept) == 30 and len({e["problem"] for e in kept}) == 30
    assert all(e["device"] == "NVIDIA H100 80GB HBM3" and "cuDNN" in e["versions"] for e in kept)
    assert all(e["problem"].startswith("convolution ") and json.loads(e["plan"]) for e in kept)

    # What is there stays; another GPU is added; a plan made ahead is what a backend takes.
    before = open(out, "rb").read()
    again = events(run("plan", "--for", "h100", *FEW, "--out", out, "--json"))
    assert open(out, "rb").read() == before and again == made
    run("plan", "--for", "l4", "--batch", "1", "--dtype", "f32", "--out", out)
    assert len(entries(out)) == 36 and entries(out)[:30] == kept
    check_taken(out, kept)
    assert not os.path.exists(USUAL), "only --out was written"
    run("plan", "--for", "h100", "--batch", "1", "--dtype", "f32")
    assert len(entries(USUAL)) == 6


def engines(plans):
    done = run("bench", "layers", "--device", "cuda", "--plan", "h100", "--batch", "3", "--json", NEURON_PLANS=plans)
    return {e["layer"] + " " + e["operation"]: e["implementation"] for e in events(done)
            if e["event"] == "layer" and e["what"] == "train_step" and e["implementation"].startswith("cudnn")}


def check_taken(out, kept):
    """A file with another engine's plan for one convolution: it is that engine that is planned with."""
    chosen = engines(out)
    assert chosen == engines(path("none.json"))
    problem = "convolution forward, f32 to f32, nchw, x 3x1x28x28, w 10x5x5"
    ahead = next(e for e in kept if e["problem"].startswith(problem))
    spoilt = path("spoilt.json")
    for plan in ("", "{}", "no plan", ahead["plan"].replace('"dim":[3,', '"dim":[4,'), ahead["plan"][:-9]):
        with open(spoilt, "w", encoding="utf-8") as file:
            json.dump({"format": 1, "entries": [{**ahead, "plan": plan}]}, file)
        assert engines(spoilt) == chosen, "a plan that doesn't fit counts as none"


def check_bad_files():
    broken, folder = path("broken.json"), path("folder")
    os.mkdir(folder)
    for content in ("no JSON", '{"format": 1}', '{"lr": 0.1}'):
        with open(broken, "w", encoding="utf-8") as file:
            file.write(content)
        done = run("plan", "--for", "h100", "--batch", "1", "--dtype", "f32", "--out", broken, status=1)
        assert broken in done.stderr and "expected a file of plans" in done.stderr, done.stderr
        assert open(broken, encoding="utf-8").read() == content, "what isn't a file of plans is left alone"
        run("bench", "layers", "--device", "cuda", "--plan", "h100", "--batch", "1", NEURON_PLANS=broken)
    assert "expected one of a100, h100, l4, b200" in run("plan", "--for", "v100", status=1).stderr
    run("plan", "--for", "h100", "--batch", "1", "--dtype", "f32", "--out", os.path.join(broken, "x.json"), status=1)
    run("plan", "--for", "h100", "--batch", "1", "--dtype", "f32", "--out", folder, status=1)


def check_search():
    """On a device that the file knows nothing about, a search; the next time none. Its results are right (bench checks)."""
    found = path("found/plans.json")
    step = ("bench", "step", "--device", "sim", "--batch", "3", "--repeat", "1", "--fold", "false", "--json")
    run(*step, NEURON_PLANS=found)
    assert not os.path.exists(found), "a simulated device doesn't search unless it is told to"
    searched = run(*step, NEURON_PLANS=found, NEURON_TUNE="1")
    kept, before = entries(found), open(found, "rb").read()
    kinds = {e["problem"].split(" ")[0] for e in kept}
    assert kinds == {"convolution", "product"} and {e["device"] for e in kept} == {"Simulated H100"}
    again = run(*step, NEURON_PLANS=found, NEURON_TUNE="1")
    assert open(found, "rb").read() == before, "nothing was searched for twice"
    for one, other in zip(events(searched), events(again)):
        assert one["difference"] < 1e-5 and other["difference"] < 1e-5
    run(*step, NEURON_PLANS=found, NEURON_TUNE="0")
    # What a search finds is kept where that is possible; a file that can't be written is no failure.
    run(*step, NEURON_PLANS="/proc/none/plans.json", NEURON_TUNE="1")


check_usage()
if has_plugin("cuda"):
    check_plans()
    check_bad_files()
if has_plugin("sim"):
    check_search()
print("all as expected")
