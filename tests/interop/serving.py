"""`neuron serve` as a child process, for the tests here that ask it by grpcio's clients."""
import json
import os
import subprocess

import bittensor_pb2 as pb
import bittensor_pb2_grpc as services
import grpc
import numpy as np

NEURON = os.environ["NEURON"]


class Neuron:
    def __init__(self, *options, device="cpu"):
        self.process = subprocess.Popen(
            [NEURON, "serve", "--device", device, "--listen", "127.0.0.1:0", "--json", *options],
            stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.process.stdout.readline())
        assert ready["event"] == "ready", ready
        self.address, self.synapse_key = ready["address"], ready["synapse_key"]
        self.channel = grpc.insecure_channel(self.address)
        self.stub = services.BittensorStub(self.channel)

    def end(self, timeout=60):
        """Its exit status, and its last event (None: it had none to tell)."""
        status = self.process.wait(timeout)
        lines = self.process.stdout.read().splitlines()
        self.process.stdout.close()
        self.channel.close()
        return status, json.loads(lines[-1]) if lines else None

    def images(self, rows):
        values = np.random.default_rng(1).random((rows, 1, 1, 28, 28), np.float32)
        tensor = pb.Tensor(version="0.0.0", buffer=values.tobytes(), shape=values.shape, dtype=pb.FLOAT32,
                           modality=pb.IMAGE)
        return pb.TensorMessage(version="0.0.0", neuron_key="0xcaller", synapse_key=self.synapse_key, tensors=[tensor])
