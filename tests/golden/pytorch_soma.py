"""The MNIST soma in PyTorch, with the losses of models/mnist.c: the independent truth of the golden files.

Parameters are a dictionary by name. Written from the network's description, with PyTorch's own operations throughout.
"""
import torch
import torch.nn.functional as F


def _linear(p, layer, x):
    return F.linear(x, p[layer + ".weight"], p[layer + ".bias"])


def _transform(p, image):
    x = (F.adaptive_avg_pool2d(image, 28) - 0.1307) / 0.3081
    x = F.relu(F.max_pool2d(F.conv2d(x, p["transform_conv1.weight"], p["transform_conv1.bias"]), 2))
    x = F.relu(F.max_pool2d(F.conv2d(x, p["transform_conv2.weight"], p["transform_conv2.bias"]), 2))
    return x.flatten(1)


def _hidden(p, x, context):
    x = F.relu(_linear(p, "hidden_layer1", torch.cat([x, context], 1)))
    return F.relu(_linear(p, "hidden_layer2", x))


def _target(p, x):
    return _linear(p, "target_layer2", _linear(p, "target_layer1", x))


def _cross_entropy(logits, labels):
    """The mean over the rows that have a label."""
    return F.cross_entropy(logits, labels, ignore_index=-1)


def forward(p, image, labels, answers=None, arrived=None, detach=False, targets=False):
    """A dictionary of the values by the names of SomaValues. `answers` [peers, batch, 512]; `arrived`: a boolean each;
    `detach`: the distillation stops at the transform; `targets`: imitation on the rows without a label (-1)."""
    x = _transform(p, image)
    context = _linear(p, "context_layer2", _linear(p, "context_layer1", x.detach() if detach else x))
    v = {"local_hidden": _hidden(p, x, context.detach())}
    v["local_target"] = _target(p, v["local_hidden"])
    v["local_target_loss"] = v["loss"] = _cross_entropy(v["local_target"], labels)
    if answers is None:
        return v
    scores = _linear(p, "router.gate.projection", x) @ p["router.keys.weight"].T
    gates = scores.masked_fill(~arrived, -torch.inf).softmax(1)
    remote = torch.einsum("nm,mnd->nd", gates, answers)
    v["remote_target"] = _target(p, _hidden(p, x, remote))
    v["remote_target_loss"] = _cross_entropy(v["remote_target"], labels)
    v["distillation_loss"] = F.mse_loss(context, remote.detach())
    v["loss"] = v["loss"] + v["remote_target_loss"] + v["distillation_loss"]
    if targets:
        free = labels < 0
        wanted = v["remote_target"][free].detach().softmax(1)
        v["imitation_loss"] = F.cross_entropy(v["local_target"][free], wanted)
        v["loss"] = v["loss"] + v["imitation_loss"]
    return v


def tensors(parameters, dtype=torch.float32):
    """{name: (shape, floats)} as leaves of PyTorch's."""
    return {
        name: torch.tensor(values, dtype=dtype).reshape(shape).requires_grad_()
        for name, (shape, values) in parameters.items()
    }


def train(p, images, labels, lr, steps, momentum, batch):
    """Steps of SGD on the local loss, in the order of the data. Changes `p`. Images are bytes [N, 1, rows, columns]. The
    losses before each update, and the first step's gradients by name (those that the loss reaches)."""
    optimizer = torch.optim.SGD(p.values(), lr=lr, momentum=momentum)
    dtype = next(iter(p.values())).dtype
    losses, gradients = [], None
    for step in range(steps):
        rows = slice(step * batch, (step + 1) * batch)
        optimizer.zero_grad()
        loss = forward(p, images[rows].to(torch.float32).div(255).to(dtype), labels[rows])["loss"]
        loss.backward()
        losses.append(loss.item())
        if gradients is None:
            gradients = {name: t.grad.clone() for name, t in p.items() if t.grad is not None}
        optimizer.step()
    return losses, gradients
