"""The MNIST soma behind Python's gRPC: the answer to Forward is its hidden representation, computed by PyTorch or ONNX Runtime.

    serve_peer.py WEIGHTS.safetensors torch|onnxruntime sync|aio        (PYTHONPATH: bittensor_pb2)

compare_serve.py imports the model and makes the weights with it.
"""
import asyncio
import json
import struct
import sys
import tempfile
import warnings

import numpy
import torch
import torch.nn.functional as F

LAYERS = {"transform_conv1": (10, 1, 5, 5), "transform_conv2": (20, 10, 5, 5), "context_layer1": (256, 320),
          "context_layer2": (512, 256), "hidden_layer1": (512, 832), "hidden_layer2": (512, 512), "target_layer1": (256, 512),
          "target_layer2": (10, 256)}


class Hidden(torch.nn.Module):
    """[batch, 1, 28, 28] in 0..1 -> [batch, 512]."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def layer(self, name):
        return self.weights[name + ".weight"], self.weights[name + ".bias"]

    def forward(self, image):
        x = (image - 0.1307) / 0.3081
        x = F.relu(F.max_pool2d(F.conv2d(x, *self.layer("transform_conv1")), 2))
        x = F.relu(F.max_pool2d(F.conv2d(x, *self.layer("transform_conv2")), 2)).flatten(1)
        context = F.linear(F.linear(x, *self.layer("context_layer1")), *self.layer("context_layer2"))
        x = F.relu(F.linear(torch.cat([x, context], 1), *self.layer("hidden_layer1")))
        return F.relu(F.linear(x, *self.layer("hidden_layer2")))


def make_weights(seed=0):
    generator, weights = torch.Generator().manual_seed(seed), {}
    for name, shape in LAYERS.items():
        bound = numpy.prod(shape[1:]) ** -0.5
        weights[name + ".weight"] = (2 * torch.rand(shape, generator=generator) - 1) * bound
        weights[name + ".bias"] = (2 * torch.rand(shape[:1], generator=generator) - 1) * bound
    return weights


def write_weights(path, weights):
    header, data = {}, b""
    for name, tensor in weights.items():
        part = tensor.numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read_weights(path):
    with open(path, "rb") as file:
        data = file.read()
    (size,) = struct.unpack_from("<Q", data)
    body, weights = data[8 + size:], {}
    for name, about in json.loads(data[8:8 + size]).items():
        begin, end = about["data_offsets"]
        weights[name] = torch.from_numpy(numpy.frombuffer(body[begin:end], numpy.float32).copy().reshape(about["shape"]))
    return weights


def torch_soma(weights):
    """From an array to an array, as fast as PyTorch does it at batch 1: frozen TorchScript, one thread."""
    torch.set_num_threads(1)
    frozen = torch.jit.freeze(torch.jit.trace(Hidden(weights).eval(), torch.rand(1, 1, 28, 28)))

    def run(image):
        with torch.inference_mode():
            return frozen(torch.from_numpy(image)).numpy()
    return run


def onnxruntime_soma(weights):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/soma.onnx"
        torch.onnx.export(Hidden(weights).eval(), (torch.rand(1, 1, 28, 28),), path, input_names=["x"], output_names=["y"],
                          dynamo=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"x": image})[0]


def main():
    import bittensor_pb2
    import wire_peer
    path, library, kind = sys.argv[1:4]
    run = {"torch": torch_soma, "onnxruntime": onnxruntime_soma}[library](read_weights(path))

    def answer(request, context=None):
        tensor = request.tensors[0]
        image = numpy.frombuffer(bytearray(tensor.buffer), numpy.float32).reshape(tuple(tensor.shape)[1:])  # of [1, 1, 1, 28, 28]
        hidden = bittensor_pb2.Tensor(version="0.0.0", buffer=run(image).tobytes(), shape=[1, 1, 512], dtype=bittensor_pb2.FLOAT32)
        return bittensor_pb2.TensorMessage(version="0.0.0", neuron_key="peer", tensors=[hidden])

    async def answer_aio(request, context):
        return answer(request)

    answer(bittensor_pb2.TensorMessage(tensors=[bittensor_pb2.Tensor(buffer=bytes(4 * 784), shape=[1, 1, 1, 28, 28])]))  # warm
    if kind == "sync":
        wire_peer.serve_sync(answer)
    else:
        asyncio.run(wire_peer.serve_aio(answer_aio))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # PyTorch announces the end of what its older exporter and TorchScript do
    main()
