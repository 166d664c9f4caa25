"""The program and grpcio, each as the server of the other. Started by test_interop.sh, which makes bittensor_pb2."""
import json
import os
import re
import struct
import subprocess
import sys
import unittest
from concurrent import futures

import bittensor_pb2 as pb
import bittensor_pb2_grpc as services
import grpc
import numpy as np

NEURON = os.environ["NEURON"]
SCRATCH = sys.argv.pop(1)
KEY = re.compile(r"^0x[0-9a-f]{64}$")
DTYPES = {pb.FLOAT32: np.float32, pb.FLOAT64: np.float64, pb.INT32: np.int32, pb.INT64: np.int64}


def to_wire(array, modality=pb.TENSOR):
    dtype = next(number for number, kind in DTYPES.items() if kind == array.dtype)
    return pb.Tensor(version="0.0.0", buffer=array.tobytes(), shape=array.shape, dtype=dtype, modality=modality)


def from_wire(tensor):
    return np.frombuffer(tensor.buffer, DTYPES[tensor.dtype]).reshape(tuple(tensor.shape))


def write_safetensors(path, array):
    kind = {"float32": "F32", "int64": "I64"}[array.dtype.name]
    header = json.dumps({"x": {"dtype": kind, "shape": array.shape, "data_offsets": [0, array.nbytes]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + array.tobytes())


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    (about,) = header.values()
    begin, end = about["data_offsets"]
    assert about["dtype"] == "F32", about
    return np.frombuffer(data[8 + size + begin : 8 + size + end], np.float32).reshape(about["shape"])


def images(rows, seed=1):
    return np.random.default_rng(seed).random((rows, 1, 1, 28, 28), np.float32)


class ServedByNeuron(unittest.TestCase):
    """grpcio calls `neuron serve`."""

    @classmethod
    def setUpClass(cls):
        cls.process = subprocess.Popen(
            [NEURON, "serve", "--soma", "mnist", "--device", "cpu", "--listen", "127.0.0.1:0", "--json"],
            stdout=subprocess.PIPE, text=True)
        ready = json.loads(cls.process.stdout.readline())
        assert ready["event"] == "ready", ready
        cls.synapse_key = ready["synapse_key"]
        cls.channel = grpc.insecure_channel(ready["address"])
        cls.stub = services.BittensorStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.process.terminate()
        cls.process.stdout.read()
        cls.process.stdout.close()
        status = cls.process.wait(60)
        assert status == 0, f"neuron serve ended with {status}"

    def message(self, *tensors, key=None):
        return pb.TensorMessage(version="0.0.0", neuron_key="0xcaller",
                                synapse_key=self.synapse_key if key is None else key, tensors=tensors)

    def forward(self, array, modality=pb.IMAGE, key=None):
        return self.stub.Forward(self.message(to_wire(array, modality), key=key), timeout=30)

    def refused(self, call, message, *codes):
        with self.assertRaises(grpc.RpcError) as caught:
            call(message, timeout=30)
        self.assertIn(caught.exception.code(), codes)
        self.assertGreater(len(caught.exception.details()), 10)

    def test_forward_answers_as_the_protocol_says(self):
        answer = self.forward(images(3))
        self.assertEqual(answer.version, "0.0.0")
        self.assertRegex(answer.neuron_key, KEY)
        self.assertEqual(answer.synapse_key, self.synapse_key)
        self.assertEqual(len(answer.tensors), 1)
        self.assertEqual(answer.tensors[0].modality, pb.TENSOR)
        self.assertEqual(answer.tensors[0].dtype, pb.FLOAT32)
        values = from_wire(answer.tensors[0])
        self.assertEqual(values.shape, (3, 1, 512))
        self.assertTrue(np.isfinite(values).all())
        self.assertGreater(np.abs(values).max(), 0)

    def test_rows_are_answered_in_order_and_alone(self):
        batch = images(5)
        together = from_wire(self.forward(batch).tensors[0])
        for row in range(5):
            alone = from_wire(self.forward(batch[row : row + 1]).tensors[0])
            np.testing.assert_allclose(together[row], alone[0], rtol=1e-4, atol=1e-5)

    def test_a_message_without_a_key_means_the_only_soma(self):
        np.testing.assert_array_equal(from_wire(self.forward(images(1), key="").tensors[0]),
                                      from_wire(self.forward(images(1)).tensors[0]))

    def test_backward_is_the_gradient_by_finite_differences(self):
        rng = np.random.default_rng(3)
        x = images(2, seed=7)
        gradient = rng.standard_normal((2, 1, 512)).astype(np.float32)
        answer = self.stub.Backward(self.message(to_wire(x, pb.IMAGE), to_wire(gradient)), timeout=30)
        got = from_wire(answer.tensors[0])
        self.assertEqual(got.shape, x.shape)

        def loss(images_):
            values = from_wire(self.forward(images_).tensors[0]).astype(np.float64)
            return float((values * gradient).sum())

        # Along the gradient itself, where a wrong one can't hide; small, since pooling and ReLU have kinks.
        direction = got / np.linalg.norm(got)
        step = np.float32(2e-3)
        slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * float(step))
        self.assertAlmostEqual(slope / float((got * direction).sum()), 1, delta=0.05)

    def test_shape_may_come_unpacked(self):
        x = images(1)
        shape = b"".join(b"\x18" + bytes([d]) for d in x.shape)
        buffer = x.tobytes()
        tensor = b"\x12" + varint(len(buffer)) + buffer + shape + b"\x20\x01\x28\x01"
        raw = self.channel.unary_unary("/Bittensor/Forward", lambda b: b, pb.TensorMessage.FromString)
        answer = raw(b"\x32" + varint(len(tensor)) + tensor, timeout=30)
        np.testing.assert_array_equal(from_wire(answer.tensors[0]), from_wire(self.forward(x).tensors[0]))

    def test_bad_requests_get_a_status_and_the_neuron_goes_on(self):
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        good = to_wire(images(1), pb.IMAGE)
        forward, backward = self.stub.Forward, self.stub.Backward
        cut = pb.Tensor(buffer=good.buffer[:-4], shape=good.shape, dtype=pb.FLOAT32, modality=pb.IMAGE)
        for shape in ([-1, 1, 1, 28, 28], [2**62, 2**62, 1, 1, 1], [28, 28], [0, 1, 1, 28, 28]):
            self.refused(forward, self.message(pb.Tensor(buffer=good.buffer, shape=shape, dtype=1, modality=1)), invalid)
        for dtype in (pb.UNKNOWN, pb.UTF8, pb.INT64):
            self.refused(forward, self.message(pb.Tensor(buffer=good.buffer, shape=good.shape, dtype=dtype,
                                                         modality=1)), invalid)
        self.refused(forward, self.message(cut), invalid)
        self.refused(forward, self.message(), invalid)
        self.refused(backward, self.message(good), invalid)
        self.refused(backward, self.message(good, to_wire(np.full((1, 1, 512), np.nan, np.float32))), invalid)
        self.refused(backward, self.message(good, to_wire(np.zeros((1, 1, 7), np.float32))), invalid)
        self.refused(forward, self.message(good, key="0xnobody"), grpc.StatusCode.NOT_FOUND)
        self.refused(forward, self.message(to_wire(np.zeros((1, 2), np.int64), pb.TEXT)),
                     invalid, grpc.StatusCode.UNIMPLEMENTED)
        garbage = self.channel.unary_unary("/Bittensor/Forward", lambda b: b, lambda b: b)
        self.refused(garbage, b"\xff" * 100, invalid)
        nowhere = self.channel.unary_unary("/Bittensor/Nothing", lambda b: b, lambda b: b)
        self.refused(nowhere, b"", grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(from_wire(self.forward(images(2)).tensors[0]).shape, (2, 1, 512))


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


class Recorder(services.BittensorServicer):
    """Answers row r with r + 0, r + 1, ...; keeps what it was sent. Some keys make it fail as a reference neuron can."""

    def __init__(self):
        self.requests = []

    def Forward(self, request, context):
        self.requests.append(request)
        if request.synapse_key == "refuse":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the soma is asleep")
        if request.synapse_key == "null":
            return pb.TensorMessage(version="0.0.0", synapse_key="null")
        batch, seq = request.tensors[0].shape[:2]
        rows = np.arange(batch * seq, dtype=np.float32).reshape(batch, seq, 1)
        return pb.TensorMessage(tensors=[to_wire(rows + np.arange(512, dtype=np.float32))])

    def Backward(self, request, context):
        self.requests.append(request)
        return pb.TensorMessage(tensors=[to_wire(-from_wire(request.tensors[0]))])


class CalledByNeuron(unittest.TestCase):
    """`neuron call` calls a grpcio server."""

    def setUp(self):
        self.recorder = Recorder()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        services.add_BittensorServicer_to_server(self.recorder, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def tearDown(self):
        self.server.stop(0).wait()

    def call(self, key, array, *options, modality="image"):
        paths = [os.path.join(SCRATCH, name) for name in ("in.safetensors", "out.safetensors")]
        write_safetensors(paths[0], array)
        done = subprocess.run([NEURON, "call", f"127.0.0.1:{self.port}{key}", "--input", paths[0], "--modality", modality,
                               "--out", paths[1], "--json", *options], capture_output=True, text=True, timeout=60)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, events, paths[1]

    def test_forward_sends_what_the_protocol_says_and_returns_the_answer(self):
        x = images(3)
        status, events, out = self.call("/0xsynapse", x)
        self.assertEqual(status, 0, events)
        (request,) = self.recorder.requests
        self.assertEqual(request.version, "0.0.0")
        self.assertRegex(request.neuron_key, KEY)
        self.assertEqual(request.synapse_key, "0xsynapse")
        (tensor,) = request.tensors
        self.assertEqual((tensor.version, tensor.dtype, tensor.modality), ("0.0.0", pb.FLOAT32, pb.IMAGE))
        np.testing.assert_array_equal(from_wire(tensor), x)
        expected = np.arange(3, dtype=np.float32).reshape(3, 1, 1) + np.arange(512, dtype=np.float32)
        np.testing.assert_array_equal(read_safetensors(out), expected)
        self.assertTrue(any(event["event"] == "call" for event in events), events)

    def test_text_travels_as_int64(self):
        ids = np.arange(6, dtype=np.int64).reshape(2, 3)
        status, events, _ = self.call("", ids, modality="text")
        self.assertEqual(status, 0, events)
        (tensor,) = self.recorder.requests[0].tensors
        self.assertEqual((tensor.dtype, tensor.modality), (pb.INT64, pb.TEXT))
        np.testing.assert_array_equal(from_wire(tensor), ids)

    def test_backward_sends_input_and_gradient(self):
        x, gradient = images(2), np.full((2, 1, 512), 0.5, np.float32)
        path = os.path.join(SCRATCH, "gradient.safetensors")
        write_safetensors(path, gradient)
        status, events, out = self.call("/k", x, "--gradient", path)
        self.assertEqual(status, 0, events)
        request = self.recorder.requests[-1]
        np.testing.assert_array_equal(from_wire(request.tensors[0]), x)
        np.testing.assert_array_equal(from_wire(request.tensors[1]), gradient)
        np.testing.assert_array_equal(read_safetensors(out), -x)

    def test_failures_are_told(self):
        for key, part in (("/refuse", "the soma is asleep"), ("/null", "no tensor")):
            status, events, _ = self.call(key, images(1))
            self.assertEqual(status, 1)
            self.assertEqual(events[-1]["event"], "error")
            self.assertIn(part, events[-1]["message"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
