"""What a signal does to `neuron serve` while calls are in flight."""
import signal
import threading
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import Neuron

CALLERS = 16
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ROWS_OF_SECONDS = 128  # a call of so many takes the reference device about half a second: all callers' several


class Load:
    """Callers that ask one after the other until somebody refuses; each ends of itself."""

    def __init__(self, neuron, rows):
        self.message = neuron.images(rows)
        self.neuron = neuron
        self.answers = []  # the times of good answers
        self.refusals = []  # the status codes of others
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def call(self):
        try:
            while True:
                answer = self.neuron.stub.Forward(self.message, timeout=60)
                assert answer.tensors[0].shape[1:] == [1, 512]
                self.answers.append(time.monotonic())
        except grpc.RpcError as error:
            self.refusals.append(error.code())

    def wait_for(self, count):
        until = time.monotonic() + 30
        while len(self.answers) < count:
            assert time.monotonic() < until, f"{len(self.answers)} answers in 30 s; refused: {self.refusals}"
            time.sleep(0.001)

    def join(self):
        for thread in self.threads:
            thread.join()


class Drain(unittest.TestCase):
    def start(self, *options, rows, device="cpu"):
        neuron = Neuron("--soma", "mnist", *options, device=device)
        self.addCleanup(neuron.process.kill)
        health = health_pb2_grpc.HealthStub(neuron.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=neuron.synapse_key), timeout=60)
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        return neuron, watch, Load(neuron, rows)

    def test_every_accepted_call_is_answered(self):
        neuron, watch, load = self.start("--drain", "20s", rows=64)
        load.wait_for(100)
        begun = time.monotonic()
        neuron.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, NOT_SERVING)
        load.join()
        status, done = neuron.end(20)
        self.assertEqual(status, 0)
        self.assertEqual(load.refusals, [grpc.StatusCode.UNAVAILABLE] * CALLERS)
        self.assertGreater(max(load.answers), begun)
        self.assertEqual(done["forwards"], len(load.answers))
        self.assertEqual(done["calls"], done["forwards"] + done["failures"])
        self.assertEqual(done["failures"], done.get("failed_unavailable", 0))

    def test_the_time_to_drain_is_bounded(self):
        neuron, watch, load = self.start("--drain", "1s", rows=ROWS_OF_SECONDS, device="reference")
        load.wait_for(1)
        begun = time.monotonic()
        neuron.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, NOT_SERVING)
        status, _ = neuron.end(20)
        self.assertEqual(status, 0)
        self.assertLess(time.monotonic() - begun, 5)
        load.join()
        self.assertEqual(len(load.refusals), CALLERS)

    def test_a_second_signal_ends_at_once(self):
        neuron, watch, load = self.start("--drain", "60s", rows=ROWS_OF_SECONDS, device="reference")
        load.wait_for(1)
        neuron.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, NOT_SERVING)
        begun = time.monotonic()
        neuron.process.send_signal(signal.SIGTERM)
        status, _ = neuron.end(20)
        self.assertEqual(status, -signal.SIGTERM)
        self.assertLess(time.monotonic() - begun, 2)
        load.join()


if __name__ == "__main__":
    unittest.main()
