#!/usr/bin/env python3
"""Makes the golden files of the MNIST soma with PyTorch, which it installs when this Python has none.

mnist_train.json: the losses of training from material.py's weights on its data, in float, and sketches of the gradients
of step 1 (tests/e2e/test_golden.py). mnist_soma.safetensors: values and gradients of single batches in double, peers'
answers among them (tests/models/test_mnist.c). Run it again when the soma's definition changes.
"""
import argparse
import array
import json
import pathlib

import environment
import material
import replay

HERE = pathlib.Path(__file__).resolve().parent

# What a batch is made of; test_mnist.c has the same table. Rows after `labelled` have no label.
BATCHES = {
    "local": dict(size=28, batch=5, labelled=5, arrived=[], detach=False, targets=False),
    "pooled": dict(size=32, batch=4, labelled=4, arrived=[], detach=False, targets=False),
    "remote": dict(size=28, batch=8, labelled=5, arrived=[1, 0, 1], detach=False, targets=True),
    "detached": dict(size=28, batch=6, labelled=4, arrived=[1, 1], detach=True, targets=False),
}


def make_training(torch, soma):
    data, kinds = material.pictures("train", 100 * replay.BATCH)
    images = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    labels = torch.tensor(list(kinds))
    golden = {"made_by": f"PyTorch {torch.__version__}, float, 1 thread", "runs": []}
    torch.set_num_threads(1)
    for lr, steps in ((0.001, 100), (0.03, 20)):
        p = soma.tensors(material.parameters(material.LOCAL_WEIGHTS))
        losses, gradients = soma.train(p, images, labels, lr, steps, replay.MOMENTUM, replay.BATCH)
        golden["runs"].append({"lr": lr, "losses": losses})
    golden["gradients"] = {name: material.sketch(name, g.flatten().tolist()) for name, g in gradients.items()}
    (HERE / "mnist_train.json").write_text(json.dumps(golden, indent=1) + "\n")


def make_batch(torch, soma, name, size, batch, labelled, arrived, detach, targets):
    """{tensor: sketch} of the batch's values and gradients."""
    parameters = material.parameters(material.LOCAL_WEIGHTS | material.GATE)
    given = {}
    if arrived:
        keys, answers = (len(arrived), 100), (len(arrived), batch, 512)
        parameters["router.keys.weight"] = (keys, material.uniform("router.keys.weight", keys, 0.1))
        given = soma.tensors({"answers": (answers, material.uniform(name + " answers", answers, 1))}, torch.float64)
    p = soma.tensors(parameters, torch.float64)
    shape = (batch, 1, size, size)
    image = torch.tensor(material.fractions(name + " image", shape), dtype=torch.float64).reshape(shape)
    labels = torch.tensor(material.labels(name + " labels", batch, labelled))
    flags = torch.tensor(arrived, dtype=torch.bool)
    values = soma.forward(p, image, labels, given.get("answers"), flags, detach, targets)
    values["loss"].backward()
    whole = values | {f"gradient of {key}": t.grad for key, t in (p | given).items() if t.grad is not None}
    return {key: material.sketch(key, t.detach().flatten().tolist()) for key, t in whole.items()}


def make_batches(torch, soma):
    golden = {}
    for name, batch in BATCHES.items():
        for key, sketch in make_batch(torch, soma, name, **batch).items():
            golden[f"{name}: {key}"] = ((len(sketch),), array.array("d", sketch))
    metadata = {"made_by": f"PyTorch {torch.__version__}, double"}
    material.write_safetensors(HERE / "mnist_soma.safetensors", golden, metadata)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    environment.add_option(parser)
    environment.require_pytorch(parser.parse_args().venv)
    import torch

    import pytorch_soma

    make_training(torch, pytorch_soma)
    make_batches(torch, pytorch_soma)


if __name__ == "__main__":
    main()
