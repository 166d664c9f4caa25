#!/usr/bin/env python3
"""`neuron peers`: what a neuron says of its peers and of its serving; and --peers-file, with a peer that moves."""
import os
import subprocess
import unittest

from harness import NEURON, Running, call, environment, free_port, neuron, path, serve, some_images, succeed, write_data

# The default rate is at the edge of divergence on images as bright as these.
SHORT = ["--batch", "32", "--threads", "1", "--log-every", "1", "--lr", "0.005"]
MANY = ["--steps", "1000000", "--eval-every", "1000000"]


def setUpModule():
    write_data("data")


def write(name, text):
    """At once, as an editor or a script would that is careful."""
    with open(path(name + ".new"), "w") as file:
        file.write(text)
    os.rename(path(name + ".new"), path(name))
    return path(name)


def run(*more, **variables):
    return Running("run", "--listen", "127.0.0.1:0", "--deadline", "30s", *SHORT, *more, **variables)


class Peers(unittest.TestCase):
    def test_it_tells_what_happened(self):
        server, address = serve("--key", path("server"))
        with server, run("--peers", f"{address},127.0.0.1:{free_port()}", "--steps", "30") as pupil:
            own = pupil.wait_for("ready")
            done = pupil.wait_for("done")
            pupil.wait_for("peer", lambda e: e["address"] != address)  # the report at the end: nothing is in flight

            call(own["address"], some_images(2, 1, 1, 28, 28))
            told = succeed("peers", own["address"])
            alive, dead = told.of("peer")
            self.assertEqual((alive["address"], alive["state"]), (address, "well"))
            self.assertEqual(alive["neuron_key"], server.one("ready")["neuron_key"])
            self.assertGreaterEqual(alive["forwards"], done["steps_answered"])
            self.assertEqual(alive["backwards"], done["steps_answered"])
            self.assertTrue(0 < alive["p50_ms"] <= alive["p99_ms"], alive)
            self.assertGreater(alive["bytes_out"], 30 * 32 * 784 * 4)
            self.assertGreater(alive["bytes_in"], 30 * 32 * 512 * 4)
            self.assertEqual((dead["forwards"], dead["backwards"], dead["p99_ms"]), (0, 0, 0))
            self.assertEqual(dead["state"], "left alone")
            self.assertGreater(dead["unavailable"], 0)
            self.assertEqual(dead["forward_failures"], dead["unavailable"] + dead.get("backing off", 0))
            self.assertIn("last_failure", dead)
            self.assertEqual([dict(peer) for peer in pupil.of("peer")], [alive, dead])  # `run` says the same of itself

            # The other side of the same calls, and of one more.
            call(address, some_images(2, 1, 1, 28, 28))
            served = succeed("peers", address).one("serving")
            self.assertEqual(served["forwards"], alive["forwards"] + 1)
            self.assertEqual(served["backwards"], alive["backwards"])
            self.assertEqual(served["address"], address)
            self.assertEqual((told.one("serving")["weights_version"], told.one("serving")["forwards"]), (30, 1))
            self.assertEqual(pupil.stop(), 0)

    def test_people_get_a_table(self):
        server, address = serve()
        with server:
            call(address, some_images(1, 1, 1, 28, 28))
            shown = subprocess.run([NEURON, "peers", address], env=environment(), capture_output=True, text=True)
            self.assertEqual((shown.returncode, shown.stderr), (0, ""))
            self.assertIn("1 Forward", shown.stdout)

    def test_nobody_there(self):
        ended = neuron("peers", f"127.0.0.1:{free_port()}", "--deadline", "5s")
        self.assertEqual(ended.status, 1)
        self.assertIn("UNAVAILABLE", ended.one("error")["message"])
        self.assertEqual(neuron("peers", "nowhere").status, 2)


class PeersFile(unittest.TestCase):
    def test_a_peer_moves(self):
        before, old = serve("--seed", "1")
        after, new = serve("--seed", "1")  # the same neuron elsewhere
        file = write("peers", f"# the neighbours\n\n{old}  # until it moves\n")
        with before, after, run("--peers-file", file, *MANY) as pupil:
            pupil.wait_for("step", lambda e: e["answered"] == 1)
            before.stop()
            write("peers", f"{new}\n")
            moved = pupil.wait_for("moved")
            self.assertEqual((moved["from"], moved["to"]), (old, new))
            # Not the next answered step: what was asked ahead may still have been answered at the old address.
            last = pupil.of("step")[-1]
            pupil.wait_for("step", lambda e: e["step"] > last["step"] + last["ahead"] + 2 and e["answered"] == 1)
            (peer,) = succeed("peers", pupil.one("ready")["address"]).of("peer")
            self.assertEqual((peer["address"], peer["state"]), (new, "well"))
            self.assertEqual(pupil.stop(), 0)

    def test_a_file_that_is_wrong_changes_nothing(self):
        server, address = serve()
        file = write("wrong", address + "\n")
        with server, run("--peers-file", file, *MANY) as pupil:
            for text, words in (("127.0.0.1:1\n127.0.0.1:2\n", "names 2"), ("\nno port\n", "line 2")):
                pupil.wait_for("step", lambda e: e["answered"] == 1)
                write("wrong", text)
                while words not in pupil.stderr():
                    self.assertIsNone(pupil.process.poll())
                    os.sched_yield()
            (peer,) = succeed("peers", pupil.one("ready")["address"]).of("peer")
            self.assertEqual((peer["address"], peer["state"]), (address, "well"))
            self.assertEqual(pupil.of("moved"), [])
            pupil.stop()

    def test_usage(self):
        file = write("usage", "127.0.0.1:1\n")
        self.assertEqual(neuron("run", "--peers-file", file, "--peers", "127.0.0.1:1").status, 2)
        ended = neuron("run", "--peers-file", write("bad", "127.0.0.1:1\n127.0.0.1\n"))
        self.assertEqual(ended.status, 1)
        self.assertIn("line 2", ended.one("error")["message"])


if __name__ == "__main__":
    unittest.main()
