#!/usr/bin/env python3
"""A served soma, and what callers get from it: right answers, right gradients, clear refusals, a clean end."""
import math
import random
import signal
import socket
import unittest

import soma
from harness import (Tensor, call, call_arguments, largest_difference, neuron, path, read_safetensors, serve,
                     some_images, succeed, write_data, write_safetensors)


def setUpModule():
    write_data("data")
    succeed("train", "--steps", "30", "--batch", "32", "--dropout", "0", "--threads", "1", "--out", path("run"))


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


def some_gradient(rows, seed=5):
    rng = random.Random(seed)
    return Tensor([rows, 1, 512], [rng.gauss(0, 1) for _ in range(rows * 512)])


class Answers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server, cls.peer = serve("--load", path("run"), "--serve-threads", "1")

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def test_is_the_hidden_representation_of_the_saved_weights(self):
        image = some_images(1, 1, 1, 28, 28)
        answer, event = call(self.peer, image)
        self.assertEqual(answer.shape, [1, 1, 512])
        expected = soma.hidden(list(image.values), read_safetensors("run/model.safetensors"))
        self.assertGreater(max(expected), 0.01)
        self.assertLess(largest_difference(answer.values, expected), 2e-5 * max(1, max(expected)))
        self.assertEqual((event["shape"], event["dtype"], event["finite"]), ([1, 1, 512], "f32", True))
        self.assertEqual(event["peer"], self.peer)
        self.assertGreater(event["latency_ms"], 0)

    def test_is_the_same_every_time(self):
        image = some_images(3, 1, 1, 28, 28)
        self.assertEqual(call(self.peer, image)[0].values, call(self.peer, image)[0].values)

    def test_of_a_sequence_is_that_of_its_parts(self):
        image = some_images(3, 2, 1, 28, 28)
        answer, _ = call(self.peer, image)
        self.assertEqual(answer.shape, [3, 2, 512])
        for s in range(2):
            rows = [image.values[784 * (2 * n + s) + i] for n in range(3) for i in range(784)]
            part, _ = call(self.peer, Tensor([3, 1, 1, 28, 28], rows))
            joined = [answer.values[512 * (2 * n + s) + i] for n in range(3) for i in range(512)]
            self.assertLess(largest_difference(joined, part.values), 1e-5)

    def test_of_more_rows_than_one_plan_takes(self):
        image = some_images(300, 1, 1, 28, 28)
        answer, _ = call(self.peer, image)
        last, _ = call(self.peer, Tensor([1, 1, 1, 28, 28], image.values[-784:]))
        self.assertEqual(answer.shape, [300, 1, 512])
        self.assertLess(largest_difference(answer.values[-512:], last.values), 1e-5)

    def test_of_larger_images(self):
        # Pooling leaves an image of one grey what it is, whatever its size.
        large, _ = call(self.peer, Tensor([2, 1, 1, 32, 32], [0.25] * 1024 + [0.75] * 1024))
        usual, _ = call(self.peer, Tensor([2, 1, 1, 28, 28], [0.25] * 784 + [0.75] * 784))
        self.assertEqual(large.shape, [2, 1, 512])
        self.assertLess(largest_difference(large.values, usual.values), 1e-5)

    def test_under_the_synapse_key(self):
        image, key = some_images(1, 1, 1, 28, 28), self.server.one("ready")["synapse_key"]
        self.assertEqual(call(f"{self.peer}/{key}", image)[0].values, call(self.peer, image)[0].values)
        self.assertRegex(key, "^0x[0-9a-f]{64}$")
        self.assertRegex(self.server.one("ready")["neuron_key"], "^0x[0-9a-f]{64}$")

    def check_gradient(self, rows, size):
        """The slope of hidden . gradient along a direction, by Backward and by differences of Forward."""
        image, gradient = some_images(rows, 1, 1, size, size), some_gradient(rows)
        slopes, _ = call(self.peer, image, gradient)
        self.assertEqual(slopes.shape, image.shape)
        steepness = math.sqrt(dot(slopes.values, slopes.values))
        self.assertGreater(steepness, 1e-3)
        rng, step = random.Random(7), 2e-3
        steepest = [x / steepness for x in slopes.values]
        length = math.sqrt(len(steepest))
        for direction in (steepest, [s + rng.gauss(0, 1) / length for s in steepest]):
            values = []
            for sign in (1, -1):
                moved = [x + sign * step * d for x, d in zip(image.values, direction)]
                values.append(dot(call(self.peer, Tensor(image.shape, moved))[0].values, gradient.values))
            measured, expected = (values[0] - values[1]) / (2 * step), dot(slopes.values, direction)
            self.assertLess(abs(measured - expected), 0.01 * steepness, (measured, expected))

    def test_backward_is_the_gradient_of_forward(self):
        self.check_gradient(1, 28)
        self.check_gradient(3, 28)

    def test_backward_is_the_gradient_of_forward_on_larger_images(self):
        self.check_gradient(2, 32)

    def test_backward_changes_nothing_without_learn(self):
        image = some_images(2, 1, 1, 28, 28)
        before, _ = call(self.peer, image)
        call(self.peer, image, some_gradient(2))
        self.assertEqual(call(self.peer, image)[0].values, before.values)


class Refusals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server, cls.peer = serve("--load", path("run"), "--max-message", "2000000")

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def refused(self, status, words, image, gradient=None, modality="image", peer=None):
        ended = neuron(*call_arguments(peer or self.peer, image, gradient, modality))
        self.assertEqual(ended.status, 1, str(ended))
        message = ended.one("error")["message"]
        self.assertTrue(message.startswith(f"{self.peer}: {status}: "), message)
        for word in words:
            self.assertIn(word, message)
        answer, _ = call(self.peer, some_images(1, 1, 1, 28, 28))  # the server goes on
        self.assertEqual(answer.shape, [1, 1, 512])

    def test_wrong_rank(self):
        self.refused("INVALID_ARGUMENT", ["4", "5"], some_images(1, 1, 28, 28))

    def test_wrong_channels(self):
        self.refused("INVALID_ARGUMENT", ["[1, 1, 3, 28, 28]", "[batch, seq, 1, rows, columns]"],
                     some_images(1, 1, 3, 28, 28))

    def test_images_that_are_too_large(self):
        self.refused("INVALID_ARGUMENT", ["257", "256"], some_images(1, 1, 1, 2, 257))

    def test_an_empty_batch(self):
        self.refused("INVALID_ARGUMENT", ["0"], Tensor([0, 1, 1, 28, 28], []))

    def test_images_of_integers(self):
        self.refused("INVALID_ARGUMENT", ["i64", "f32"], Tensor([1, 1, 1, 28, 28], [1] * 784, "I64"))

    def test_other_modalities(self):
        self.refused("INVALID_ARGUMENT", ["takes images", "tensor"], some_images(1, 1, 784), modality="tensor")
        self.refused("INVALID_ARGUMENT", ["takes images", "text"], Tensor([1, 4], [1, 2, 3, 4], "I64"), modality="text")

    def test_pixels_that_are_not_finite(self):
        for value in (math.nan, math.inf):
            image = some_images(1, 1, 1, 28, 28)
            image.values[17] = value
            self.refused("INVALID_ARGUMENT", ["17", str(value)], image)

    def test_gradients_of_another_shape(self):
        image = some_images(2, 1, 1, 28, 28)
        self.refused("INVALID_ARGUMENT", ["[1, 1, 512]", "[2, 1, 512]"], image, some_gradient(1))

    def test_gradients_that_are_not_finite(self):
        gradient = some_gradient(1)
        gradient.values[3] = math.nan
        self.refused("INVALID_ARGUMENT", ["3", "nan"], some_images(1, 1, 1, 28, 28), gradient)

    def test_an_unknown_synapse_key(self):
        self.refused("NOT_FOUND", ["nobody"], some_images(1, 1, 1, 28, 28), peer=self.peer + "/nobody")

    def test_messages_beyond_the_limit(self):
        self.refused("RESOURCE_EXHAUSTED", ["2000000"], some_images(700, 1, 1, 28, 28))

    def test_bytes_that_are_no_message(self):
        host, port = self.peer.rsplit(":", 1)
        rng = random.Random(11)
        for data in (rng.randbytes(4096), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(4096), b""):
            with socket.create_connection((host, int(port)), 10) as connection:
                try:
                    connection.sendall(data)
                except OSError:
                    pass  # it may hang up before it has read all
        self.assertEqual(call(self.peer, some_images(1, 1, 1, 28, 28))[0].shape, [1, 1, 512])


class Calls(unittest.TestCase):
    def failed(self, words, *arguments, status=1):
        ended = neuron("call", *arguments)
        self.assertEqual(ended.status, status, str(ended))
        for word in words:
            self.assertIn(word, ended.one("error")["message"])

    def test_a_peer_that_is_not_there(self):
        image = write_safetensors("image", input=some_images(1, 1, 1, 28, 28))
        self.failed(["127.0.0.1:1: UNAVAILABLE"], "127.0.0.1:1", "--input", image, "--modality", "image")

    def test_files(self):
        self.failed([path("none")], "127.0.0.1:1", "--input", path("none"))
        self.failed(["holds no tensor"], "127.0.0.1:1", "--input", write_safetensors("empty"))

    def test_usage(self):
        self.failed(["nowhere", "port"], "nowhere", "--input", "x", status=2)
        self.failed(["--input", "--text"], "127.0.0.1:1", status=2)
        self.failed(["--input", "--text"], "127.0.0.1:1", "--input", "x", "--text", "y", status=2)

    def test_texts_need_a_vocabulary(self):
        self.failed(["vocabulary"], "127.0.0.1:1", "--text", "hello")


class Serving(unittest.TestCase):
    def test_ends_on_a_signal(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server, peer = serve("--load", path("run"))
            with server:
                call(peer, some_images(1, 1, 1, 28, 28))
                call(peer, some_images(1, 1, 1, 28, 28), some_gradient(1))
                neuron(*call_arguments(peer, some_images(1, 1, 28)))
                self.assertEqual(server.stop(number), 0)
                done = server.one("done")
                self.assertEqual([done[k] for k in ("calls", "forwards", "backwards", "failures")], [3, 1, 1, 1])

    def test_begins_without_weights(self):
        server, peer = serve("--seed", "4")
        with server:
            self.assertEqual(call(peer, some_images(1, 1, 1, 28, 28))[0].shape, [1, 1, 512])
            self.assertIn("no --load", server.stderr())

    def test_folding_changes_no_answer(self):
        image, answers = some_images(5, 1, 1, 28, 28), []
        for fold in ("true", "false"):
            server, peer = serve("--load", path("run"), "--fold", fold)
            with server:
                answers.append(call(peer, image)[0].values)
        self.assertLess(largest_difference(*answers), 1e-5)

    def test_learns_from_peers_when_told_to(self):
        image, gradient = some_images(2, 1, 1, 28, 28), some_gradient(2)
        server, peer = serve("--load", path("run"), "--learn", "--lr", "0.01", "--momentum", "0", "--out", path("learnt"))
        with server:
            before = dot(call(peer, image)[0].values, gradient.values)
            for _ in range(3):
                call(peer, image, gradient)
            self.assertEqual(server.stop(), 0)
            done = server.one("done")
            self.assertEqual(done["gradients"], 3)
            self.assertTrue(1 <= done["updates"] <= 3, done)
        server, peer = serve("--load", path("learnt"))
        with server:
            after = dot(call(peer, image)[0].values, gradient.values)
        # SGD went down the slope: each update by lr * |gradient of the parameters|, clipped to norm 1.
        self.assertLess(after, before - 1e-3)
        moved, start = read_safetensors("learnt/model.safetensors"), read_safetensors("run/model.safetensors")
        self.assertEqual(set(moved), set(start))
        distance = math.sqrt(sum((x - y) ** 2 for k in start for x, y in zip(moved[k].values, start[k].values)))
        self.assertLess(distance, 0.01 * done["updates"] * 1.001)
        self.assertGreater(distance, 0.005)
        for name in ("target_layer1.weight", "target_layer2.bias"):  # no answer depends on them
            self.assertEqual(moved[name].values, start[name].values)

    def test_a_port_that_is_taken(self):
        server, peer = serve("--load", path("run"))
        with server:
            ended = neuron("serve", "--load", path("run"), "--listen", peer)
            self.assertEqual(ended.status, 1, str(ended))
            self.assertIn(peer, ended.one("error")["message"])
            self.assertEqual(call(peer, some_images(1, 1, 1, 28, 28))[0].shape, [1, 1, 512])


if __name__ == "__main__":
    unittest.main()
