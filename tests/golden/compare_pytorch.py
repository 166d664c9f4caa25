#!/usr/bin/env python3
"""`neuron train` against PyTorch on real MNIST, number by number: from the same weights, with no shuffling and no dropout,
the losses of 100 steps at lr 0.001 and of 20 at lr 0.03, and the whole gradients of step 1.

Installs PyTorch when this Python has none. Exit status 1 when anything differs by more than 1e-4.
"""
import argparse
import array
import gzip
import math
import os
import pathlib
import sys
import tempfile

import environment
import material
import replay

TOLERANCE = 1e-4
RUNS = ((0.001, 100), (0.03, 20))


def idx_bytes(folder, name, count, offset):
    """The first `count` bytes after the header, from FOLDER/mnist or FOLDER, plain or gzip'ed."""
    for path in (folder / "mnist" / name, folder / name):
        for whole, opened in ((path, open), (path.with_name(name + ".gz"), gzip.open)):
            if whole.exists():
                with opened(whole, "rb") as file:
                    return bytearray(file.read(offset + count)[offset:])
    sys.exit(f"found no {name} in {folder}/mnist or {folder}, plain or with .gz")


def load(torch, folder, count):
    images = idx_bytes(folder, "train-images-idx3-ubyte", count * 784, 16)
    labels = idx_bytes(folder, "train-labels-idx1-ubyte", count, 8)
    return torch.frombuffer(images, dtype=torch.uint8).reshape(count, 1, 28, 28), torch.tensor(list(labels))


def initial(torch, seed, gain):
    """Uniform in +-gain/sqrt(fan_in); PyTorch's own initial weights have a gain of 1."""
    torch.manual_seed(seed)
    made = {}
    for layer, shape in material.LOCAL_WEIGHTS.items():
        bound = gain / math.sqrt(math.prod(shape[1:]))
        for name, dims in ((layer + ".weight", shape), (layer + ".bias", shape[:1])):
            values = torch.empty(dims).uniform_(-bound, bound)
            made[name] = (dims, array.array("f", values.flatten().tolist()))
    return made


class Comparison:
    def __init__(self, torch, soma, arguments):
        self.torch, self.soma, self.arguments = torch, soma, arguments
        self.images, self.labels = load(torch, arguments.data, max(steps for _, steps in RUNS) * replay.BATCH)
        self.parameters = initial(torch, arguments.seed, arguments.gain)
        self.worst = 0

    def pytorch(self, lr, steps, threads=1, double=False):
        self.torch.set_num_threads(threads)
        p = self.soma.tensors(self.parameters, self.torch.float64 if double else self.torch.float32)
        return self.soma.train(p, self.images, self.labels, lr, steps, replay.MOMENTUM, replay.BATCH)

    def losses(self, weights, lr, steps):
        expected, _ = self.pytorch(lr, steps)
        print(f"lr {lr}: {steps} losses, {expected[0]:.4f} to {expected[-1]:.4f}; largest relative differences")
        others = {"PyTorch, 2 threads": dict(threads=2), "PyTorch, double": dict(double=True)}
        for name, options in others.items():
            difference, step = replay.largest_difference(self.pytorch(lr, steps, **options)[0], expected)
            print(f"  {name + ':':32} {difference:.1e} (step {step})")
        for threads in (1, 2):
            found = replay.train(
                self.arguments.neuron, self.arguments.data, weights, lr, steps, self.arguments.device, threads
            )
            difference, step = replay.largest_difference(found, expected)
            self.worst = max(self.worst, difference)
            print(f"  {f'neuron, {self.arguments.device}, {threads} threads:':32} {difference:.1e} (step {step})")

    def gradients(self, weights, path):
        options = dict(device=self.arguments.device, gradients=path)
        replay.train(self.arguments.neuron, self.arguments.data, weights, RUNS[0][0], 1, **options)
        found = material.read_safetensors(path)
        _, expected = self.pytorch(RUNS[0][0], 1)
        if found.keys() != expected.keys():
            sys.exit(f"gradients are of {sorted(found)}, expected {sorted(expected)}")
        print("gradients of step 1: norm, difference as a part of it")
        for name, gradient in expected.items():
            values = self.torch.tensor(found[name][1], dtype=self.torch.float64).reshape(found[name][0])
            difference = float((values - gradient).norm() / gradient.double().norm())
            self.worst = max(self.worst, difference)
            print(f"  {name:32} {float(gradient.norm()):9.3e}  {difference:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neuron", default=os.environ.get("NEURON", "build/release/neuron"), help="the program")
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("NEURON_DATA", "data"), help="has mnist/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--gain", type=float, default=1.0, help="of the initial weights: with 1.5 the loss moves more")
    environment.add_option(parser)
    arguments = parser.parse_args()
    environment.require_pytorch(arguments.venv)
    import torch

    import pytorch_soma

    print(f"PyTorch {torch.__version__}, float, 1 thread; {arguments.neuron}; weights of seed {arguments.seed}")
    comparison = Comparison(torch, pytorch_soma, arguments)
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.safetensors")
        material.write_safetensors(weights, comparison.parameters)
        for lr, steps in RUNS:
            comparison.losses(weights, lr, steps)
        comparison.gradients(weights, os.path.join(folder, "gradients.safetensors"))
    print(f"the largest difference is {comparison.worst:.1e}, allowed is {TOLERANCE:.0e}")
    sys.exit(0 if comparison.worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
