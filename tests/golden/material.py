"""What both sides of a golden comparison start from, made by arithmetic alone, so that nothing large is stored: weights,
inputs and a small data set; and the sketch of a tensor, which stands for the whole one in a golden file.

Python's standard library only. tests/models/golden.c makes the same numbers in C, and make_mnist.py gives them to
PyTorch.
"""
import array
import json
import math
import os
import struct

# Of the reference network's parameters: [out, in, rows, columns] and [out, in]. A bias has the weight's first dimension.
LOCAL_WEIGHTS = {
    "transform_conv1": (10, 1, 5, 5),
    "transform_conv2": (20, 10, 5, 5),
    "context_layer1": (256, 320),
    "context_layer2": (512, 256),
    "hidden_layer1": (512, 832),
    "hidden_layer2": (512, 512),
    "target_layer1": (256, 512),
    "target_layer2": (10, 256),
}
GATE = {"router.gate.projection": (100, 320)}
PROJECTIONS = 16


def draws(name, count):
    """`count` numbers below 2^32 that the name alone decides: the upper halves of Knuth's linear congruential generator
    (MMIX), started at the name's FNV-1a hash."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    for _ in range(count):
        state = state * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF
        yield state >> 32


def uniform(name, shape, bound):
    """Floats in +-bound. The fraction has 24 bits, so the product in double and its rounding are the same everywhere."""
    return array.array("f", ((2 * (draw >> 8) + 1 - 2**24) / 2**24 * bound for draw in draws(name, math.prod(shape))))


def fractions(name, shape):
    """Floats in 0 .. 1, exact."""
    return array.array("f", ((draw >> 8) / 2**24 for draw in draws(name, math.prod(shape))))


def labels(name, count, labelled):
    """Classes of the first `labelled` rows, -1 for the others."""
    return [(draw >> 16) % 10 if row < labelled else -1 for row, draw in enumerate(draws(name, count))]


def parameters(weights):
    """{name: (shape, floats)}: uniform in +-sqrt(1.5 / fan_in). With PyTorch's initial sqrt(1 / fan_in) the loss hardly
    moves in a hundred steps at a small rate; with more, the rounding of a single ReLU shows in later losses."""
    made = {}
    for layer, shape in weights.items():
        bound = math.sqrt(1.5 / math.prod(shape[1:]))
        for name, dims in ((layer + ".weight", shape), (layer + ".bias", shape[:1])):
            made[name] = (dims, uniform(name, dims, bound))
    return made


def sketch(name, values):
    """The norm of a tensor and its products with PROJECTIONS vectors of random signs.

    The products' mean square is an estimate of the squared norm without bias (Johnson-Lindenstrauss), so the sketch of a
    difference tells how large the difference is, though only sketches are kept; one wrong element is seen exactly."""
    halves = [0.0] * 256, [0.0] * 256  # sums of the values that share a byte of signs
    for value, draw in zip(values, draws("signs of " + name, len(values))):
        halves[0][draw >> 16 & 255] += value
        halves[1][draw >> 24] += value
    products = [
        math.fsum(-total if byte >> bit & 1 else total for byte, total in enumerate(half))
        for half in halves
        for bit in range(PROJECTIONS // 2)
    ]
    return [math.sqrt(math.fsum(value * value for value in values))] + products


def sketch_difference(found, expected):
    """By how much of its norm a tensor differs from the expected one, judged by their sketches."""
    products = math.sqrt(sum((a - b) ** 2 for a, b in zip(found[1:], expected[1:])) / PROJECTIONS)
    return max(abs(found[0] - expected[0]), products) / expected[0]


def pictures(name, count):
    """Bytes of `count` images of 28x28, and their labels: each class has a pattern of brighter squares, under noise."""
    patterns = []
    for kind in range(10):
        coarse = [96 if draw >> 30 == 0 else 0 for draw in draws(f"pattern {kind}", 49)]
        fine = bytes(coarse[row // 4 * 7 + column // 4] for row in range(28) for column in range(28))
        patterns.append(int.from_bytes(fine, "little"))
    below_128 = int.from_bytes(b"\x7f" * 784, "little")  # so that no sum with a pattern carries into the next byte
    noise = array.array("I", draws(name + " noise", count * 196)).tobytes()
    kinds = labels(name + " labels", count, count)
    images = bytearray()
    for i, kind in enumerate(kinds):
        speckle = int.from_bytes(noise[784 * i : 784 * (i + 1)], "little") & below_128
        images += (patterns[kind] + speckle).to_bytes(784, "little")
    return bytes(images), bytes(kinds)


def write_data(folder, train, test):
    """The four IDX files of a data folder, with that many images."""
    os.makedirs(os.path.join(folder, "mnist"), exist_ok=True)
    for split, count in (("train", train), ("t10k", test)):
        images, kinds = pictures(split, count)
        path = os.path.join(folder, "mnist", split)
        with open(path + "-images-idx3-ubyte", "wb") as file:
            file.write(struct.pack(">IIII", 0x803, count, 28, 28) + images)
        with open(path + "-labels-idx1-ubyte", "wb") as file:
            file.write(struct.pack(">II", 0x801, count) + kinds)


def write_safetensors(path, tensors, metadata=None):
    """{name: (shape, array of "f" or "d")} as a safetensors file."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (shape, values) in tensors.items():
        content = values.tobytes()
        header[name] = {
            "dtype": {"f": "F32", "d": "F64"}[values.typecode],
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    """{name: (shape, array)} of a safetensors file of F32 and F64 tensors."""
    with open(path, "rb") as file:
        content = file.read()
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        values = array.array({"F32": "f", "F64": "d"}[entry["dtype"]])
        values.frombytes(content[begin:end])
        tensors[name] = (tuple(entry["shape"]), values)
    return tensors
