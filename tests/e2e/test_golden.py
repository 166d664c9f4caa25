#!/usr/bin/env python3
"""`neuron train` against PyTorch's figures in golden/mnist_train.json (made by golden/make_mnist.py): from the same
weights and data, the loss of every step, and the gradients of step 1, tensor by tensor.

Python's standard library only; NEURON is the program.
"""
import json
import os
import pathlib
import sys
import tempfile
import unittest

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
sys.dont_write_bytecode = True

import material  # noqa: E402
import replay  # noqa: E402

NEURON = os.environ["NEURON"]
TOLERANCE = 1e-4  # of a loss, and of a gradient's norm


class Golden(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.golden = json.loads((GOLDEN / "mnist_train.json").read_text())
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.weights = os.path.join(cls.temporary.name, "weights.safetensors")
        material.write_safetensors(cls.weights, material.parameters(material.LOCAL_WEIGHTS))
        steps = max(len(run["losses"]) for run in cls.golden["runs"])
        material.write_data(cls.temporary.name, train=steps * replay.BATCH, test=replay.BATCH)

    def check_losses(self, run, **options):
        found = replay.train(NEURON, self.temporary.name, self.weights, run["lr"], len(run["losses"]), **options)
        difference, step = replay.largest_difference(found, run["losses"])
        print(f"lr {run['lr']}, {options}: losses differ by at most {difference:.1e} (step {step})")
        self.assertLessEqual(difference, TOLERANCE, f"loss of step {step} at lr {run['lr']} with {options}")

    def check_gradients(self, **options):
        path = os.path.join(self.temporary.name, "gradients.safetensors")
        replay.train(NEURON, self.temporary.name, self.weights, 0.001, 1, gradients=path, **options)
        found = material.read_safetensors(path)
        self.assertEqual(sorted(found), sorted(self.golden["gradients"]))
        for name, expected in self.golden["gradients"].items():
            difference = material.sketch_difference(material.sketch(name, found[name][1]), expected)
            with self.subTest(name, **options):
                self.assertLessEqual(difference, TOLERANCE, f"gradient of {name}, as a part of its norm")

    def test_cpu_trains_as_pytorch_does(self):
        for threads in (1, 2):
            for run in self.golden["runs"]:
                with self.subTest(lr=run["lr"], threads=threads):
                    self.check_losses(run, device="cpu", threads=threads)

    def test_cpu_gradients_are_pytorchs(self):
        for threads in (1, 2):
            self.check_gradients(device="cpu", threads=threads)

    def test_reference_trains_as_pytorch_does(self):
        run = min(self.golden["runs"], key=lambda run: len(run["losses"]))
        if os.environ.get("NEURON_SANITIZE"):  # plain loops, ten times slower
            run = run | {"losses": run["losses"][:3]}
        self.check_losses(run, device="reference")

    def test_reference_gradients_are_pytorchs(self):
        self.check_gradients(device="reference")


if __name__ == "__main__":
    unittest.main()
