#!/usr/bin/env python3
"""Writes golden.safetensors: the small cases of cases.c, computed by PyTorch in double.

For a case "conv2d/groups" the file has "conv2d/groups.input0" and so on, ".output0", ".seed" and ".gradient0": the
gradient of (output0 * seed).sum(), by autograd. test_reference.c runs every case that it finds in the file. Run this
again when an operation gets a case that PyTorch can check; it needs torch and safetensors.
"""
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(20)
DOUBLE = torch.float64
tensors = {}


def real(*shape):
    return (2 * torch.rand(*shape, dtype=DOUBLE) - 1).requires_grad_()


def constant(*shape):
    return real(*shape).detach()


def wide(*shape):
    return (16 * torch.rand(*shape, dtype=DOUBLE) - 8).requires_grad_()


def distinct(*shape):
    count = int(torch.tensor(shape).prod())
    values = (torch.randperm(count).to(DOUBLE) * 2 + 1) / count - 1 + 0.25 / count
    return values.reshape(shape).requires_grad_()


def labels(classes, *shape):
    return torch.randint(-1, classes, shape, dtype=torch.int32)


def case(name, function, *inputs):
    """`function` of the inputs (None: absent) gives output0, or a tuple of outputs of which the first has gradients."""
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for i, tensor in enumerate(inputs):
        if tensor is not None:
            tensors[f"{name}.input{i}"] = tensor.detach().clone()
    for i, tensor in enumerate(outputs):
        tensors[f"{name}.output{i}"] = tensor.detach().clone().contiguous()
    if not outputs[0].requires_grad:
        return
    seed = constant(*outputs[0].shape) if outputs[0].dim() else torch.tensor(0.7, dtype=DOUBLE)
    tensors[f"{name}.seed"] = seed.clone()
    (outputs[0] * seed).sum().backward()
    for i, tensor in enumerate(inputs):
        if tensor is not None and tensor.requires_grad:
            tensors[f"{name}.gradient{i}"] = tensor.grad.contiguous()


def max_pool(kernel, stride):
    """The place of the maximum in its window, from PyTorch's place in the plane."""

    def run(x):
        y, flat = F.max_pool2d(x, kernel, stride, return_indices=True)
        rows = torch.arange(y.shape[2]).reshape(-1, 1) * stride
        columns = torch.arange(y.shape[3]) * stride
        row, column = flat // x.shape[3] - rows, flat % x.shape[3] - columns
        return y, (row * kernel + column).to(torch.uint8)

    return run


def masked_softmax(x, mask):
    return torch.softmax(x.masked_fill(mask == 0, float("-inf")), 1)


def cross_entropy(x, label):
    loss = F.cross_entropy(x, label.long(), ignore_index=-1)
    return loss, torch.softmax(x, 1)


def soft_cross_entropy(x, targets, label):
    rows = label < 0
    loss = F.cross_entropy(x[rows], torch.softmax(targets[rows], 1))
    return loss, torch.softmax(x, 1), torch.softmax(targets, 1)


def conv2d(**options):
    return lambda x, w, b: F.conv2d(x, w, b, **options)


def conv2d_pool(x, w, b):
    return torch.relu(F.max_pool2d(F.conv2d(x, w, b), 2))


def sgd(momentum, weight_decay, nesterov):
    """A step of torch.optim.SGD whose momentum buffer holds v."""

    def run(w, v, g, lr):
        parameter = torch.nn.Parameter(w.detach().clone())
        parameter.grad = g.detach().clone()
        optimizer = torch.optim.SGD([parameter], lr=float(lr), momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        optimizer.state[parameter]["momentum_buffer"] = v.detach().clone()
        optimizer.step()
        return parameter.detach(), optimizer.state[parameter]["momentum_buffer"]

    return run


case("affine/small", lambda x: -0.5 * x + 0.25, real(3, 5))
case("add/small", torch.add, real(2, 3, 5), real(2, 3, 5))
case("add_scaled/small", lambda a, b, s: a + s * b, real(3, 7), constant(3, 7), torch.tensor(0.3, dtype=DOUBLE))
case("relu/small", torch.relu, distinct(3, 7))
case("reshape/flat", lambda x: x.reshape(2, 15), real(2, 3, 5))
case("concat/rows", lambda *x: torch.cat(x, 0), real(2, 3), real(1, 3), real(4, 3))
case("concat/channels", lambda *x: torch.cat(x, 1), real(2, 3, 2, 2), real(2, 1, 2, 2))
case("slice/rows", lambda x: x[2:5], real(7, 3))
case("slice/inner", lambda x: x[:, 1:3], real(2, 5, 3))
case("adaptive_avg_pool2d/overlapping", lambda x: F.adaptive_avg_pool2d(x, (3, 2)), real(2, 3, 7, 5))
case("adaptive_avg_pool2d/larger", lambda x: F.adaptive_avg_pool2d(x, (5, 6)), real(1, 2, 3, 4))
case("max_pool2d/even", max_pool(2, 2), distinct(2, 3, 4, 6))
case("max_pool2d/odd", max_pool(2, 2), distinct(1, 2, 7, 5))
case("max_pool2d/overlapping", max_pool(3, 2), distinct(2, 2, 7, 7))
case("conv2d/small", conv2d(), real(2, 3, 5, 5), real(4, 3, 3, 3), real(4))
case("conv2d/no bias", conv2d(), real(2, 3, 5, 4), real(2, 3, 2, 2), None)
case("conv2d/stride and padding", conv2d(stride=2, padding=1), real(2, 3, 7, 5), real(5, 3, 3, 3), real(5))
case("conv2d/groups", conv2d(padding=1, groups=2), real(2, 4, 5, 5), real(6, 2, 3, 3), real(6))
case("conv2d/depthwise", conv2d(padding=1, groups=3), real(1, 3, 5, 5), real(3, 1, 3, 3), real(3))
case("conv2d/relu", lambda x, w, b: torch.relu(F.conv2d(x, w, b)), constant(3, 2, 6, 7), constant(5, 2, 3, 3), constant(5))
case("conv2d_pool/small", conv2d_pool, constant(2, 3, 6, 6), constant(4, 3, 3, 3), constant(4))
case("conv2d_pool/odd", conv2d_pool, constant(3, 2, 7, 9), constant(5, 2, 3, 3), None)
case("linear/small", F.linear, real(3, 5), real(7, 5), real(7))
case("linear/no bias", F.linear, real(2, 7), real(3, 7), None)
case("linear/relu", lambda x, w, b: torch.relu(F.linear(x, w, b)), constant(5, 13), constant(11, 13), constant(11))
case("matmul/plain", torch.matmul, real(3, 5), real(5, 7))
case("matmul/left", lambda a, b: a.T @ b, real(5, 3), real(5, 7))
case("matmul/right", lambda a, b: a @ b.T, real(3, 5), real(7, 5))
case("matmul/both", lambda a, b: a.T @ b.T, real(5, 3), real(7, 5))
case("softmax/small", lambda x: torch.softmax(x, 1), real(3, 7))
case("softmax/masked", masked_softmax, real(5, 7), torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.uint8))
case("weighted_sum/small", lambda g, v: torch.einsum("nm,mnd->nd", g, v), real(3, 2), real(2, 3, 5))
case("cross_entropy/small", cross_entropy, real(7, 5), torch.tensor([0, -1, 4, 2, -1, 1, 0], dtype=torch.int32))
case("soft_cross_entropy/small", soft_cross_entropy, real(11, 5), constant(11, 5), labels(2, 11))
case("mean_squared_error/small", F.mse_loss, real(3, 7), real(3, 7))
several = (constant(3, 5), torch.tensor(-0.4, dtype=DOUBLE), constant(2, 2, 7), constant(13))
case("global_norm/several", lambda *x: torch.nn.utils.get_total_norm(x), *several)
rate = torch.tensor(0.3, dtype=DOUBLE)
case("sgd/momentum", sgd(0.9, 0.01, False), constant(3, 5), constant(3, 5), constant(3, 5), rate)
case("sgd/nesterov", sgd(0.9, 0.01, True), constant(3, 5), constant(3, 5), constant(3, 5), rate)
case("gelu/small", F.gelu, real(3, 7))
case("gelu/wide", F.gelu, wide(5, 29))
case("gelu/tanh", lambda x: F.gelu(x, approximate="tanh"), real(3, 7))
case("gelu/wide tanh", lambda x: F.gelu(x, approximate="tanh"), wide(5, 29))

save_file(tensors, pathlib.Path(__file__).with_name("golden.safetensors"), {"torch": torch.__version__})
