"""The stock health client and the stock reflection client against `neuron serve`."""
import unittest

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serving import Neuron

SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Services(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.neuron = Neuron("--soma", "mnist")
        cls.health = health_pb2_grpc.HealthStub(cls.neuron.channel)

    @classmethod
    def tearDownClass(cls):
        cls.neuron.process.terminate()
        status, _ = cls.neuron.end()
        assert status == 0, status

    def check(self, service):
        return self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status

    def test_check(self):
        for service in ("", "Bittensor", self.neuron.synapse_key):
            self.assertEqual(self.check(service), SERVING)
        with self.assertRaises(grpc.RpcError) as caught:
            self.check("nobody")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_watch(self):
        for service, state in (("", SERVING), ("nobody", SERVICE_UNKNOWN)):
            watch = self.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=10)
            self.assertEqual(next(watch).status, state)
            watch.cancel()

    def test_reflection(self):
        database = ProtoReflectionDescriptorDatabase(self.neuron.channel)
        names = {"Bittensor", "neuron.Neuron", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                 "grpc.reflection.v1alpha.ServerReflection"}
        self.assertEqual(set(database.get_services()), names)
        pool = descriptor_pool.DescriptorPool(database)
        for name in names:
            self.assertEqual(pool.FindServiceByName(name).full_name, name)
        forward = pool.FindServiceByName("Bittensor").methods_by_name["Forward"]
        self.assertEqual(forward.input_type.fields_by_name["synapse_key"].number, 3)
        self.assertEqual(pool.FindMessageTypeByName("neuron.HelloRequest").fields_by_name["neuron_key"].number, 2)
        with self.assertRaises(KeyError):
            pool.FindServiceByName("Nothing")


if __name__ == "__main__":
    unittest.main()
