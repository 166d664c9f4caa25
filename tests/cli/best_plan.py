"""The best plan of one MNIST training step that we can think of, by hand: what tests/cli/test_derived.py holds the CUDA
backend's own plan against.

Batch 64, float32, alone (no peers), dropout 0.5, SGD with momentum: what `neuron help bench` calls the training step. The
means are cuDNN and cuBLASLt for products, and kernels of our own for what lies between them. A row is a launch: what it
reads and writes, each once, in numbers of 4 bytes unless it says so, and why it is there at all. What passes through the
caches between two launches counts like everything else: a plan is better where it has less to pass on.

What can't be fused, and why:

  product and product   A library call is a kernel of its own; two that depend on each other can't share a launch. Two that
                        don't (a layer's two gradients) have different shapes and epilogues, which cuBLASLt's batches can't.
  convolution and pool  cuDNN fuses bias and relu to a convolution, but a pool with indices only in engines that it compiles
                        at run time, and none that drops channels by our generator. So the convolution's result goes
                        through memory once, to one kernel that does all the rest.
  normalisation         x s + t would fold into the first convolution's weights going forward, but its filter gradient needs
                        the normalised image: to fold there means two more passes over small tensors, to save one over the
                        image. One launch now, two then.
  pool gradient and     The filter and the data gradient both read the result; a library call can't take it from another
  convolution gradient  kernel's registers. The bias gradient can: the kernel that writes the gradient also sums it.
  loss and product      The last layer's product ends in the library; its loss and the loss's gradient are one pass after it.
  update and gradients  All updates are one launch at the end: each tensor's gradient is complete only then, and one launch
                        for all is less than an epilogue for each (which cuBLASLt doesn't have).

The context layers have no gradient: alone, nothing trains them (models/mnist.c), but the hidden layer reads them.
"""
from collections import namedtuple

Row = namedtuple("Row", "launch reads writes flops why")

N = 64
IMAGE = N * 28 * 28
CONV1, POOL1 = N * 10 * 24 * 24, N * 10 * 12 * 12
CONV2, POOL2 = N * 20 * 8 * 8, N * 20 * 4 * 4  # POOL2 = N * 320: what the linear layers begin with
W1, W2 = 10 * 25, 20 * 10 * 25
RANDOM = 4  # two int64: seed and step
BYTE = 0.25  # of an index, in numbers of 4 bytes
BIT = 1 / 32  # of a relu's mask


def product(rows, inner, columns):
    return 2 * rows * inner * columns


def forward(layer, inputs, outputs, mask, why):
    return Row(layer, N * inputs + outputs * inputs + outputs, N * outputs + (N * outputs * BIT if mask else 0),
               product(N, inputs, outputs), why)


def input_gradient(layer, inputs, outputs, mask, why):
    return Row(layer + " input gradient", N * outputs + outputs * inputs + (N * inputs * BIT if mask else 0), N * inputs,
               product(N, inputs, outputs), why)


def weight_gradient(layer, inputs, outputs):
    return Row(layer + " weight and bias gradient", N * outputs + N * inputs, outputs * inputs + outputs,
               product(N, inputs, outputs), "an epilogue sums the bias gradient")


def conv_flops(places, inner):
    return 2 * N * places * inner


TRAINED = W1 + 10 + W2 + 20 + 512 * 832 + 512 + 512 * 512 + 512 + 256 * 512 + 256 + 10 * 256 + 10

ROWS = [
    Row("normalize", IMAGE, IMAGE, IMAGE, "two library calls read the result, forward and backward"),
    Row("conv1", IMAGE + W1, CONV1, conv_flops(10 * 24 * 24, 25), ""),
    Row("conv1 bias, pool, relu", CONV1 + 10, POOL1 + POOL1 * BYTE, 0, "one pass, with the maximum's place for the way back"),
    Row("conv2", POOL1 + W2, CONV2, conv_flops(20 * 8 * 8, 250), ""),
    Row("conv2 bias, dropout, pool, relu", CONV2 + 20 + RANDOM, POOL2 + POOL2 * BYTE, 0,
        "masks are computed, not kept; written into the hidden layer's input, so that nothing is concatenated"),
    forward("context1", 320, 256, False, ""),
    forward("context2", 256, 512, False, "written into the hidden layer's input"),
    forward("hidden1", 832, 512, True, "bias, relu and its mask in the epilogue"),
    forward("hidden2", 512, 512, True, ""),
    forward("target1", 512, 256, False, ""),
    forward("target2", 256, 10, False, ""),
    Row("loss", N * 10 + N, 1 + N * 10, 0, "the loss and its gradient in one pass"),
    input_gradient("target2", 256, 10, False, "no relu before it"),
    weight_gradient("target2", 256, 10),
    input_gradient("target1", 512, 256, True, "hidden2's relu is undone in the epilogue"),
    weight_gradient("target1", 512, 256),
    input_gradient("hidden2", 512, 512, True, "hidden1's relu likewise"),
    weight_gradient("hidden2", 512, 512),
    input_gradient("hidden1", 320, 512, False, "for the transform alone: those columns of the weights"),
    weight_gradient("hidden1", 832, 512),
    Row("conv2 relu, pool and dropout gradient", 2 * POOL2 + POOL2 * BYTE + RANDOM, CONV2 + 20, 0,
        "and the bias gradient: its sum"),
    Row("conv2 input gradient", CONV2 + W2, POOL1, conv_flops(20 * 8 * 8, 250), ""),
    Row("conv2 filter gradient", CONV2 + POOL1, W2, conv_flops(20 * 8 * 8, 250), ""),
    Row("conv1 relu and pool gradient", 2 * POOL1 + POOL1 * BYTE, CONV1 + 10, 0, "and the bias gradient"),
    Row("conv1 filter gradient", CONV1 + IMAGE, W1, conv_flops(10 * 24 * 24, 25), "of the image nobody wants a gradient"),
    Row("update", 3 * TRAINED + 1, 2 * TRAINED, 4 * TRAINED, "reads parameter, momentum and gradient; all in one launch"),
]

LAUNCHES = len(ROWS)
BYTES = 4 * sum(row.reads + row.writes for row in ROWS)
FLOPS = sum(row.flops for row in ROWS)

# One copy each way. Image, labels, random and learning rate lie at multiples of 256 bytes, so that one copy takes them all.
COPIED_IN = 4 * IMAGE + 256 + 256 + 4
COPIED_OUT = 4


def table():
    lines = [f"{'launch':38} {'bytes read':>11} {'written':>11} {'MFLOP':>8}  why"]
    lines += [f"{r.launch:38} {4 * r.reads:11,.0f} {4 * r.writes:11,.0f} {1e-6 * r.flops:8.3f}  {r.why}" for r in ROWS]
    return "\n".join(lines + [f"{LAUNCHES} launches, {BYTES:,.0f} bytes, {1e-6 * FLOPS:.3f} MFLOP"])


if __name__ == "__main__":
    print(table())
