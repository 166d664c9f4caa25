#!/usr/bin/env python3
"""Neurons that learn from each other: live, with a peer that is killed, with peers that were never there; and what
`eval` says of the result."""
import signal
import unittest

from harness import (Running, call, free_port, neuron, path, read_safetensors, serve, some_images, succeed,
                     write_data)

# The default rate is at the edge of divergence on images as bright as these.
SHORT = ["--batch", "32", "--threads", "1", "--log-every", "1", "--lr", "0.005"]


def setUpModule():
    write_data("data")


def run(port, peer_port, name, *more):
    return Running("run", "--listen", f"127.0.0.1:{port}", "--peers", f"127.0.0.1:{peer_port}", "--key", path(name),
                   "--out", path(name + ".run"), "--deadline", "30s", *SHORT, *more)


def losses(events):
    return [(event["step"], event["loss"], event["lr"]) for event in events]


class Network(unittest.TestCase):
    def test_two_learn_from_each_other_until_one_is_killed(self):
        ports = free_port(), free_port()
        with run(*ports, "a", "--steps", "150", "--seed", "1", "--unlabelled", "300:600", "--labelled", "300") as a, \
                run(*reversed(ports), "b", "--steps", "100000", "--seed", "2", "--eval-every", "100000") as b:
            ready = a.wait_for("ready")
            self.assertEqual(ready["address"], f"127.0.0.1:{ports[0]}")
            self.assertNotEqual(ready["neuron_key"], b.wait_for("ready")["neuron_key"])
            # Both ways: answers that join a step, and gradients of the other that do.
            together = a.wait_for("step", lambda e: e["answered"] == 1)
            self.assertIsNotNone(together["distillation_loss"])
            a.wait_for("step", lambda e: e.get("peer_gradients", 0) > 0)
            b.wait_for("step", lambda e: e.get("peer_gradients", 0) > 0)
            b.process.send_signal(signal.SIGKILL)
            self.assertEqual(b.process.wait(60), -signal.SIGKILL)

            done = a.wait_for("done")
            self.assertEqual((done["complete"], done["steps"]), (True, 150))
            self.assertTrue(0 < done["steps_answered"] < 150, done)
            self.assertGreater(done["peer_gradients"], 0)
            self.assertGreater(done["local_accuracy"], 0.5)
            peer = a.wait_for("peer")
            self.assertGreaterEqual(peer["forwards"], done["steps_answered"])
            self.assertGreater(peer["forward_failures"], 0)
            self.assertGreater(peer["backwards"], 0)

            # Learning is over, answering isn't.
            self.assertEqual(call(ready["address"], some_images(2, 1, 1, 28, 28))[0].shape, [2, 1, 512])
            self.assertEqual(a.stop(), 0)
            self.assertGreaterEqual(a.one("served")["forwards"], 1)
        self.assertEqual(succeed("eval", "--load", path("a.run")).one("eval")["accuracy"], done["local_accuracy"])

    def test_a_dead_peer_is_no_peer(self):
        with run(free_port(), free_port(), "alone", "--steps", "40", "--seed", "3") as lonely:
            self.assertTrue(lonely.wait_for("done")["complete"])
            self.assertEqual(lonely.stop(), 0)
        trained = succeed("train", *SHORT, "--steps", "40", "--seed", "3", "--out", path("trained"))
        self.assertEqual(losses(lonely.of("step")), losses(trained.of("step")))
        expected, found = read_safetensors("trained/model.safetensors"), read_safetensors("alone.run/model.safetensors")
        for name, tensor in expected.items():
            self.assertEqual(found[name].values, tensor.values, name)
        self.assertEqual(lonely.one("peer")["forwards"], 0)

    def test_a_signal_saves_and_ends(self):
        with run(free_port(), free_port(), "early", "--steps", "100000") as early:
            early.wait_for("step", lambda e: e["step"] >= 5)
            self.assertEqual(early.stop(), 0)
            done = early.one("done")
            self.assertFalse(done["complete"])
        resumed = Running("run", "--resume", "--out", path("early.run"), "--key", path("early"), "--steps",
                          str(done["steps"] + 5))
        with resumed:
            self.assertEqual(resumed.wait_for("step")["step"], done["steps"] + 1)
            self.assertTrue(resumed.wait_for("done")["complete"])
            self.assertEqual(resumed.stop(), 0)

    def test_without_peers_it_trains_and_serves(self):
        with Running("run", "--listen", "127.0.0.1:0", *SHORT, "--steps", "10", "--synapse-key", "mine") as alone:
            ready = alone.wait_for("ready")
            self.assertEqual(ready["synapse_key"], "mine")
            alone.wait_for("done")
            self.assertEqual(call(ready["address"] + "/mine", some_images(1, 1, 1, 28, 28))[0].shape, [1, 1, 512])
            self.assertEqual(alone.stop(signal.SIGINT), 0)
            self.assertEqual(alone.of("peer"), [])

    def test_a_port_that_is_taken(self):
        server, address = serve()
        with server:
            ended = neuron("run", "--listen", address, "--steps", "1")
            self.assertEqual(ended.status, 1, str(ended))
            self.assertIn(address, ended.one("error")["message"])


class Evaluation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """A neuron that learnt with one peer, which still serves."""
        cls.server, cls.peer = serve("--seed", "8")
        with Running("run", "--listen", "127.0.0.1:0", "--peers", cls.peer, "--deadline", "30s", *SHORT, "--steps",
                     "60", "--dropout", "0", "--out", path("pupil")) as pupil:
            cls.done = pupil.wait_for("done")
            pupil.stop()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def test_of_the_local_path(self):
        found = succeed("eval", "--load", path("pupil")).one("eval")
        self.assertEqual((found["path"], found["samples"]), ("local", 200))
        self.assertEqual(found["accuracy"], self.done["local_accuracy"])
        self.assertGreater(found["accuracy"], 0.5)
        plain = succeed("eval", "--load", path("pupil", "model.safetensors"), "--fold", "false", "--device",
                        "reference", "--batch", "7").one("eval")
        self.assertEqual(plain["accuracy"], found["accuracy"])
        self.assertAlmostEqual(plain["loss"], found["loss"], delta=1e-4 * found["loss"])

    def test_of_the_remote_path(self):
        found = succeed("eval", "--load", path("pupil"), "--path", "remote", "--peers", self.peer, "--deadline",
                        "30s").one("eval")
        self.assertEqual((found["path"], found["samples"], found["answered"]), ("remote", 200, 200))
        self.assertEqual(found["accuracy"], self.done["remote_accuracy"])

    def fails(self, words, *arguments, status=1):
        ended = neuron("eval", *arguments)
        self.assertEqual(ended.status, status, str(ended))
        for word in words:
            self.assertIn(word, ended.one("error")["message"])

    def test_needs_a_gate_of_as_many_peers(self):
        self.fails(["2 peers", "'router.keys.weight'", "[1, 100]", "[2, 100]"], "--load", path("pupil"), "--path",
                   "remote", "--peers", f"{self.peer},127.0.0.1:1")
        succeed("train", *SHORT, "--steps", "1", "--out", path("hermit"))
        self.fails(["1 peer:", "lacks the tensor 'router."], "--load", path("hermit"), "--path", "remote", "--peers",
                   self.peer)

    def test_needs_somebody_who_answers(self):
        self.fails(["no peer answered", "127.0.0.1:1"], "--load", path("pupil"), "--path", "remote",
                   "--peers", "127.0.0.1:1")

    def test_usage(self):
        self.fails(["--load"], status=2)
        self.fails(["--peers"], "--load", path("pupil"), "--path", "remote", status=2)
        self.fails(["--path remote"], "--load", path("pupil"), "--peers", self.peer, status=2)


if __name__ == "__main__":
    unittest.main()
