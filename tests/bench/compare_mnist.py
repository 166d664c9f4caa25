#!/usr/bin/env python3
"""Compares `neuron` with PyTorch and ONNX Runtime on the MNIST soma, all in one run and with the same number of threads.

    tests/bench/compare_mnist.py                                    speed: training step, inference, folded inference
    tests/bench/compare_mnist.py --time-to-accuracy --data FOLDER   time to 98.5 % test accuracy, without evaluation

It needs nothing but python3 (with venv) and a C++ compiler (for torch.compile): PyTorch, ONNX Runtime, onnx and numpy are
installed into a virtual environment of its own (--venv) the first time. The everyday tests don't run it.

What is compared. A training step is forward, loss, gradients and SGD with momentum on a batch that is there already. An
inference goes from the image to the logits. PyTorch runs eager, compiled, and for inference as frozen TorchScript; ONNX
Runtime runs the graph that PyTorch exports, and the same graph after the linear layers that follow each other without an
activation were multiplied out ("folded", which `neuron` can do when serving). The best peer counts.

How. Rounds alternate: `neuron bench step` once (it checks its results before it times them), then a short burst of every
peer; a figure is the median over the rounds of each burst's median. The ratio of the least times ever seen stands beside it:
on a machine that does something else at the same time only that one means anything. Exit status 1: a ratio of medians is below
the one required.
"""
import argparse
import gzip
import importlib.util
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "onnxruntime", "onnx", "numpy")
LR, MOMENTUM, BATCH, EPOCHS, GOAL = 0.02, 0.9, 64, 10, 0.985
PATIENCE = 0.4  # seconds that a burst may take
GAP = 0.05  # seconds between two bursts: ONNX Runtime's threads spin for a while after a run


def parse_arguments():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neuron", default=str(ROOT / "build/release/neuron"), help="the program (default %(default)s)")
    parser.add_argument("--venv", default=os.path.join(cache, "neuron-bench/venv"),
                        help="the virtual environment of the peers, made if it isn't there (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--time-to-accuracy", action="store_true")
    parser.add_argument("--data", default=os.environ.get("NEURON_DATA", "data"), help="the folder that has mnist/")
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def enter_venv(arguments):
    """Runs this script again with the environment's interpreter, and with thread counts set before any library starts."""
    python = pathlib.Path(arguments.venv) / "bin/python"
    if not python.exists():
        print(f"making {arguments.venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", arguments.venv], check=True)
    probe = "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(p) is None for p in sys.argv[1:]))"
    if subprocess.run([python, "-c", probe, *PACKAGES]).returncode != 0:
        print(f"installing {', '.join(PACKAGES)} into {arguments.venv}", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    threads = str(arguments.threads)
    environment = {**os.environ, "NEURON_BENCH_INSIDE": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    os.execve(python, [str(python), *sys.argv], environment)


# --- the peers ---

def make_models():
    """The soma's local path in PyTorch, and a folded copy of one."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    class Soma(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.drop = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5), nn.Dropout2d()
            self.context1, self.context2 = nn.Linear(320, 256), nn.Linear(256, 512)
            self.hidden1, self.hidden2 = nn.Linear(320 + 512, 512), nn.Linear(512, 512)
            self.target1, self.target2 = nn.Linear(512, 256), nn.Linear(256, 10)

        def transform(self, x):
            x = F.relu(F.max_pool2d(self.conv1(x), 2))
            return F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2)).flatten(1)

        def forward(self, x):
            x = self.transform(x)
            context = self.context2(self.context1(x.detach())).detach()
            x = F.relu(self.hidden2(F.relu(self.hidden1(torch.cat([x, context], 1)))))
            return self.target2(self.target1(x))

    def linear(weight, bias):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight, layer.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        return layer

    class Folded(nn.Module):
        def __init__(self, soma):
            super().__init__()
            self.soma = soma
            w = {name: p.detach().double() for name, p in soma.named_parameters()}
            direct, through = w["hidden1.weight"][:, :320], w["hidden1.weight"][:, 320:]
            context_weight = w["context2.weight"] @ w["context1.weight"]
            context_bias = w["context2.weight"] @ w["context1.bias"] + w["context2.bias"]
            self.hidden1 = linear(direct + through @ context_weight, through @ context_bias + w["hidden1.bias"])
            self.target = linear(w["target2.weight"] @ w["target1.weight"],
                                 w["target2.weight"] @ w["target1.bias"] + w["target2.bias"])

        def forward(self, x):
            x = F.relu(self.hidden1(self.soma.transform(x)))
            return self.target(F.relu(self.soma.hidden2(x)))

    return Soma, Folded


def make_step(model, batch):
    import torch
    import torch.nn.functional as F
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    x, labels = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss
    return step


def onnx_session(model, x, path, threads):
    import onnxruntime
    import torch
    torch.onnx.export(model, (x,), path, input_names=["x"], output_names=["y"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session, array = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), x.numpy()
    return lambda: session.run(None, {"x": array})[0]


def inference_peers(batch, folder, arguments):
    """{name: callable} on the exported graph, and the one on the folded graph; all checked against eager."""
    import numpy
    import torch
    Soma, Folded = make_models()
    model, x = Soma().eval(), torch.randn(batch, 1, 28, 28)

    def under(context, function):
        def call():
            with context():
                return function(x)
        return call

    peers = {"PyTorch eager": under(torch.inference_mode, model),
             "PyTorch jit": under(torch.inference_mode, torch.jit.freeze(torch.jit.trace(model, x)))}
    if not arguments.no_compile:
        import torch._inductor.config
        torch._inductor.config.freezing = True
        peers["PyTorch compiled"] = under(torch.no_grad, torch.compile(model))
    peers["ONNX Runtime"] = onnx_session(model, x, f"{folder}/soma_{batch}.onnx", arguments.threads)
    folded = {"ONNX Runtime, folded graph": onnx_session(Folded(model).eval(), x, f"{folder}/folded_{batch}.onnx", arguments.threads)}
    expected = peers["PyTorch eager"]().numpy()
    for name, call in {**peers, **folded}.items():
        difference = numpy.linalg.norm(numpy.asarray(call()) - expected) / numpy.linalg.norm(expected)
        if not difference < 1e-5:
            sys.exit(f"compare_mnist: {name} at batch {batch} is wrong by {difference:.2g} of the norm")
    return {**peers, **folded}


def burst(function, count):
    """Median and minimum of `count` calls after two for warmth, in milliseconds; fewer calls where they don't fit in PATIENCE."""
    time.sleep(GAP)
    function(), function()
    times, end = [], time.perf_counter() + PATIENCE
    while len(times) < count and time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times), 1e3 * min(times)


# --- speed ---

def our_round(arguments):
    time.sleep(GAP)
    done = subprocess.run([arguments.neuron, "bench", "step", "--json", "--quiet", "--repeat", "100", "--batch", f"1,{BATCH}",
                           "--threads", str(arguments.threads)], capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        sys.exit(f"compare_mnist: neuron bench failed: {done.stderr or done.stdout}")
    return {(e["what"], e["batch"]): (e["median_ms"], e["min_ms"]) for e in events}


def summary(rounds):
    """Of the rounds' (median, least): the median of the medians, the least of all."""
    return statistics.median(median for median, _ in rounds), min(least for _, least in rounds)


def measure_speed(arguments):
    """{(what, batch): (median, least)} of ours in ms, {(what, batch): {peer: (median, least)}} of the peers."""
    import torch
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    Soma, _ = make_models()
    with tempfile.TemporaryDirectory() as folder:
        train = {"PyTorch eager": make_step(Soma().train(), BATCH)}
        if not arguments.no_compile:
            train["PyTorch compiled"] = make_step(torch.compile(Soma().train()), BATCH)
        print("compiling the peers' models", file=sys.stderr)
        cases = {("train_step", BATCH): (train, 50),
                 ("inference", BATCH): (inference_peers(BATCH, folder, arguments), 200),
                 ("inference", 1): (inference_peers(1, folder, arguments), 1000)}
        for functions, _ in cases.values():
            for function in functions.values():
                for _ in range(10):
                    function()
        ours, peers = {}, {case: {name: [] for name in functions} for case, (functions, _) in cases.items()}
        for round_number in range(arguments.rounds):
            print(f"\rround {round_number + 1} of {arguments.rounds}", end="", file=sys.stderr, flush=True)
            for case, times in our_round(arguments).items():
                ours.setdefault(case, []).append(times)
            for case, (functions, count) in cases.items():
                for name, function in functions.items():
                    peers[case][name].append(burst(function, count))
        print(file=sys.stderr)
    return ({case: summary(rounds) for case, rounds in ours.items()},
            {case: {name: summary(rounds) for name, rounds in named.items()} for case, named in peers.items()})


def compare_speed(arguments):
    ours, peers = measure_speed(arguments)
    folded_graph = "ONNX Runtime, folded graph"

    def best(case):
        usable = {name: times for name, times in peers[case].items() if name != folded_graph}
        return min(usable, key=usable.get)

    required = [
        ("train_step", BATCH, best(("train_step", BATCH)), 2.5),
        ("inference", BATCH, best(("inference", BATCH)), 1.4),
        ("inference", 1, best(("inference", 1)), 1.1),
        ("inference_folded", BATCH, "ONNX Runtime", 2.0),
        ("inference_folded", 1, "ONNX Runtime", 1.5),
        ("inference_folded", BATCH, folded_graph, 1.0),
        ("inference_folded", 1, folded_graph, 1.0)]
    print(f"\nmedians (minima) in ms, {arguments.threads} threads, {arguments.rounds} rounds")
    for case, named in peers.items():
        print(f"  {case[0]}, batch {case[1]}: " + ", ".join(f"{name} {m:.4f} ({least:.4f})" for name, (m, least) in named.items()))
    rows = []
    for what, batch, peer, ratio in required:
        median, least = ours[what, batch]
        peer_median, peer_least = peers[what.removesuffix("_folded"), batch][peer]
        rows.append({"what": what, "batch": batch, "ours_ms": median, "peer": peer, "peer_ms": peer_median, "ratio": peer_median / median,
                     "ratio_of_minima": peer_least / least, "required": ratio, "met": peer_median / median >= ratio})
    return print_rows(rows, {"peers_ms": [{"what": c[0], "batch": c[1], **named} for c, named in peers.items()]}, arguments)


# --- time to accuracy ---

def our_time(arguments, seed):
    """Seconds of training and steps until an evaluation, one every 100 steps, reaches the goal.

    A clock beside stdout tells training from evaluation: training is what passes from the line of an evaluation (of the 10th
    step, at the start) to the line of the last step before the next one.
    """
    command = [arguments.neuron, "train", "--data", arguments.data, "--epochs", str(EPOCHS), "--batch", str(BATCH), "--lr", str(LR),
               "--momentum", str(MOMENTUM), "--schedule", "linear", "--eval-every", "100", "--log-every", "10",
               "--seed", str(seed), "--threads", str(arguments.threads), "--json", "--quiet"]
    seconds, since, stepped = 0.0, None, 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            now, event = time.perf_counter(), json.loads(line)
            if event["event"] == "error":
                sys.exit(f"compare_mnist: neuron train: {event['message']}")
            if event["event"] == "step":
                stepped = now
                since = since or (now, 100 / 90)  # the first 10 steps, unseen, take as long as the next 90 do
            if event["event"] == "eval":
                seconds += (stepped - since[0]) * since[1]
                since = (time.perf_counter(), 1)
                if event["accuracy"] >= GOAL:
                    process.send_signal(signal.SIGTERM)
                    process.stdout.read()
                    return seconds, event["step"]
    sys.exit(f"compare_mnist: neuron didn't reach {GOAL} with seed {seed}")


def read_idx(folder, name):
    import numpy
    import torch
    path = pathlib.Path(folder) / "mnist" / name
    data = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(name + ".gz").read_bytes())
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(data[3])]
    return torch.from_numpy(numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * len(shape)).copy().reshape(shape))


def read_mnist(folder):
    images = [read_idx(folder, f"{part}-images-idx3-ubyte").float().div(255).sub(0.1307).div(0.3081).unsqueeze(1)
              for part in ("train", "t10k")]
    labels = [read_idx(folder, f"{part}-labels-idx1-ubyte").long() for part in ("train", "t10k")]
    return images[0], labels[0], images[1], labels[1]


def peer_accuracy(model, images, labels):
    import torch
    model.eval()
    with torch.inference_mode():
        right = sum((model(images[k:k + 1000]).argmax(1) == labels[k:k + 1000]).sum().item() for k in range(0, len(images), 1000))
    model.train()
    return right / len(images)


def peer_time(data, seed, compiled):
    """The same of PyTorch, with the same recipe. Compiling is not counted: it is done on a copy before."""
    import torch
    import torch.nn.functional as F
    images, labels, test_images, test_labels = data
    Soma, _ = make_models()
    torch.manual_seed(seed)
    model = Soma().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    forward = torch.compile(model) if compiled else model
    if compiled:
        F.cross_entropy(forward(images[:BATCH]), labels[:BATCH]).backward()
    seconds, step, total = 0.0, 0, EPOCHS * (len(images) // BATCH)
    while step < total:
        order = torch.randperm(len(images))
        for first in range(0, len(images) - BATCH + 1, BATCH):
            start = time.perf_counter()
            chosen = order[first:first + BATCH]
            for group in optimizer.param_groups:
                group["lr"] = LR * (1 - step / total)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(forward(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            seconds += time.perf_counter() - start
            step += 1
            if step % 100 == 0 and peer_accuracy(model, test_images, test_labels) >= GOAL:
                return seconds, step
    sys.exit(f"compare_mnist: PyTorch didn't reach {GOAL} with seed {seed}")


def compare_time_to_accuracy(arguments):
    import torch
    torch.set_num_threads(arguments.threads)
    data = read_mnist(arguments.data)
    runs = {"ours": [], "PyTorch eager": []}
    if not arguments.no_compile:
        runs["PyTorch compiled"] = []
    for seed in range(arguments.seeds):
        for name, times in runs.items():
            result = our_time(arguments, seed) if name == "ours" else peer_time(data, seed, name == "PyTorch compiled")
            times.append(result)
            print(f"seed {seed}, {name}: {result[0]:.2f} s, {result[1]} steps", file=sys.stderr)
    medians = {name: statistics.median(seconds for seconds, _ in times) for name, times in runs.items()}
    peer = min((name for name in medians if name != "ours"), key=medians.get)
    ratio = medians[peer] / medians["ours"]
    least = {name: min(seconds for seconds, _ in times) for name, times in runs.items()}
    row = {"what": "time_to_98.5", "batch": BATCH, "ours_ms": 1e3 * medians["ours"], "peer": peer, "peer_ms": 1e3 * medians[peer],
           "ratio": ratio, "ratio_of_minima": least[peer] / least["ours"], "required": 3.0, "met": ratio >= 3.0}
    return print_rows([row], {"runs": runs}, arguments)


# --- reports ---

def print_rows(rows, more, arguments):
    import onnxruntime
    import torch
    print(f"{'what':<18}{'batch':>6}{'ours ms':>12}{'peer ms':>12}{'ratio':>8}{'of minima':>11}{'required':>10}  peer")
    for row in rows:
        print(f"{row['what']:<18}{row['batch']:>6}{row['ours_ms']:>12.4f}{row['peer_ms']:>12.4f}{row['ratio']:>8.2f}"
              f"{row['ratio_of_minima']:>11.2f}{row['required']:>10.1f}  {row['peer']}{'' if row['met'] else '  BELOW'}")
    record = {"threads": arguments.threads, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "results": rows, **more}
    print(json.dumps(record))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")
    return 0 if all(row["met"] for row in rows) else 1


def main():
    arguments = parse_arguments()
    if not os.access(arguments.neuron, os.X_OK):
        sys.exit(f"compare_mnist: no program at {arguments.neuron}, expected --neuron PROGRAM")
    if os.environ.get("NEURON_BENCH_INSIDE") != "1":
        enter_venv(arguments)
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        sys.exit(f"compare_mnist: {arguments.venv} lacks {', '.join(missing)}")
    warnings.simplefilter("ignore")  # PyTorch announces the end of what its older exporter and TorchScript do
    sys.exit(compare_time_to_accuracy(arguments) if arguments.time_to_accuracy else compare_speed(arguments))


if __name__ == "__main__":
    main()
