#!/usr/bin/env python3
"""The soma echo as a program serves it: every modality, its gradient, its limits, its counters."""
import unittest

from harness import Tensor, call, call_arguments, neuron, serve, some_images


def features(answer, row, count=512):
    return list(answer.values[512 * row : 512 * row + count])


class Echo(unittest.TestCase):
    def test_answers_every_modality(self):
        server, peer = serve("--soma", "echo")
        with server:
            answer, _ = call(peer, Tensor([1, 2, 3], [1, 2, 3, 4, 5, 6]), modality="tensor")
            self.assertEqual(answer.shape, [1, 2, 512])
            self.assertEqual(features(answer, 0), [2, 4, 6] + 509 * [0])
            self.assertEqual(features(answer, 1), [8, 10, 12] + 509 * [0])
            answer, _ = call(peer, Tensor([1, 2], [7, 8], "I64"), modality="text")
            self.assertEqual((features(answer, 0, 2), features(answer, 1, 2)), ([14, 0], [16, 0]))
            image = some_images(1, 1, 1, 28, 28)
            answer, _ = call(peer, image)
            self.assertEqual(features(answer, 0), [2 * x for x in image.values[:512]])
            slope, _ = call(peer, image, Tensor([1, 1, 512], range(512)))
            self.assertEqual(slope.shape, image.shape)
            self.assertEqual(list(slope.values), [2 * i for i in range(512)] + 272 * [0])
            self.assertEqual(server.stop(), 0)
            done = server.one("done")
            self.assertEqual([done[k] for k in ("calls", "forwards", "backwards", "failures")], [4, 3, 1, 0])

    def test_keeps_the_shape_when_raw(self):
        server, peer = serve("--soma", "echo", "--raw", "--max-message", "4000")
        with server:
            image = some_images(1, 1, 1, 28, 28)
            answer, _ = call(peer, image)
            self.assertEqual(answer.shape, image.shape)
            self.assertEqual(list(answer.values), [2 * x for x in image.values])
            image.values[3] = float("nan")
            ended = neuron(*call_arguments(peer, image))
            self.assertEqual((ended.status, "INVALID_ARGUMENT" in ended.stderr), (1, True), str(ended))
            ended = neuron(*call_arguments(peer, some_images(2, 1, 1, 28, 28)))
            self.assertEqual((ended.status, "RESOURCE_EXHAUSTED" in ended.stderr), (1, True), str(ended))
            self.assertEqual(server.stop(), 0)
            done = server.one("done")
            self.assertEqual([done[k] for k in ("forwards", "failures", "failed_invalid_argument")], [1, done["failures"], 1])

    def test_has_no_weights(self):
        for flags, words in ((("--load", "run"), "no weights"), (("--learn",), "learns nothing")):
            ended = neuron("serve", "--soma", "echo", *flags)
            self.assertEqual(ended.status, 2, str(ended))
            self.assertIn(words, ended.one("error")["message"])
        ended = neuron("serve", "--raw")
        self.assertEqual(ended.status, 2, str(ended))
        self.assertIn("--soma echo", ended.one("error")["message"])


if __name__ == "__main__":
    unittest.main()
