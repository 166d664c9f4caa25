#!/usr/bin/env python3
"""Peers that fail, one way a test: beside two good peers the neuron learns exactly, bit for bit, what it learns without
the bad one; what failed is counted under its kind; and what it costs in speed is said in a table at the end."""
import math
import os
import signal
import unittest

import hostile
from harness import Running, free_port, path, serve, write_data

# Good peers must keep the deadline (seconds) on a busy machine too; steps are twenty times slower under a sanitizer.
DEADLINE, STEPS = (4.0, 70) if os.environ.get("NEURON_SANITIZE") else (1.0, 100)
ROWS = 32
TRAINING = ["--batch", str(ROWS), "--threads", "1", "--log-every", "1", "--shuffle", "none", "--seed", "3",
            "--lr", "0.01",
            "--schedule", "constant", "--eval-every", "1000000", "--deadline", f"{DEADLINE}s"]
KINDS = ("timeout", "unavailable", "backing off", "refused", "empty answer", "malformed answer", "wrong shape",
         "not finite", "too large", "no room")
COLUMNS = "{:<34} {:>10} {:>10} {:>9} {:>12}  {}"


class Good:
    """What all tests share: two good peers, what is learnt from these two alone, and the table."""

    servers, addresses, table = [], [], []  # the table's rows


def setUpModule():
    write_data("data")
    # Requests are answered each alone: a batch of another size may round differently.
    for seed in "8", "9":
        server, address = serve("--seed", seed, "--batch-rows", "1")
        Good.servers.append(server)
        Good.addresses.append(address)
    Good.alone = learn("the two good peers alone", [])


def tearDownModule():
    for server in Good.servers:
        server.__exit__(None, None, None)
    print("\n" + COLUMNS.format("third peer", "first loss", "last loss", "steps/s", "at the end", "missing answers"))
    for row in Good.table:
        print(COLUMNS.format(*row))


def run(name, *more):
    return Running("run", "--listen", "127.0.0.1:0", "--key", path("key"), *TRAINING, *more)


def failures(peer):
    """By kind."""
    return {kind: peer[kind] for kind in KINDS if peer.get(kind, 0) > 0}


def note(name, steps, seconds, peers):
    losses = [event["loss"] for event in steps]
    missing = "; ".join(", ".join(f"{count} {kind}" for kind, count in failures(peer).items()) for peer in peers)
    Good.table.append((name, f"{losses[0]:.4f}", f"{losses[-1]:.4f}", f"{len(steps) / seconds:.0f}",
                       f"{steps[-1]['samples_per_second'] / ROWS:.0f}", missing or "none"))


def learn(name, bad):
    """A whole run with the good peers and then these: its steps, the bad peers, the good ones, and its end. Each peer's
    part of the gate is drawn in their order, so that the good ones' don't depend on who follows."""
    with run(name, "--peers", ",".join([*Good.addresses, *bad]), "--steps", str(STEPS)) as neuron:
        done = neuron.wait_for("done")
        status = neuron.stop()
    assert status == 0, f"{name}: exit status {status}; stderr:\n{neuron.stderr()}"
    steps, peers, good = neuron.of("step"), neuron.of("peer"), len(Good.addresses)
    note(name, steps, done["seconds"], peers[good:])
    return steps, peers[good:], peers[:good], done


def losses(steps):
    return [{key: value for key, value in step.items() if key.endswith("loss")} for step in steps]


class Failures(unittest.TestCase):
    def check(self, name, *bad, kinds, seconds=6 * DEADLINE):
        """`kinds`: for each bad peer, a set with the kinds that its failures must have had, and one with those that
        they may have had."""
        steps, peers, good, done = learn(name, [peer.address for peer in bad])
        self.assertTrue(done["complete"])
        self.assertEqual(len(steps), STEPS)
        self.assertTrue(all(step["answered"] == 2 for step in steps), "a good peer was late: the machine is too busy")
        self.assertEqual(losses(steps), losses(Good.alone[0]))
        self.assertTrue(all(math.isfinite(step["loss"]) for step in steps))
        self.assertLess(steps[-1]["loss"], 0.5 * steps[0]["loss"])
        self.assertGreater(done["local_accuracy"], 0.9)
        for peer, (must, may) in zip(peers, kinds):
            found = failures(peer)
            self.assertTrue(must <= set(found) <= must | may, (name, found))
            self.assertEqual(sum(found.values()), peer["forward_failures"])
            self.assertEqual((peer["forwards"], peer["backwards"]), (0, 0))
        for peer in good:
            self.assertEqual(peer["forward_failures"], 0, peer)
            self.assertGreaterEqual(peer["forwards"], STEPS)
        self.assertLess(done["seconds"], 3 * Good.alone[-1]["seconds"] + seconds)
        return peers

    def check_manner(self, name, manner, must, may=frozenset(), **more):
        with hostile.Hostile(manner) as bad:
            (peer,) = self.check(name, bad, kinds=[(must, may)], **more)
            self.assertGreater(bad.connections, 0)
        return peer

    # --- it isn't there, or says nothing ---

    def test_nobody_listens(self):
        class Nobody:
            address = f"127.0.0.1:{free_port()}"

        self.check("not there", Nobody, kinds=[({"unavailable"}, {"backing off"})])

    def test_never_accepts(self):
        with hostile.NeverAccepts() as bad:
            self.check("never accepts", bad, kinds=[({"timeout"}, {"unavailable", "backing off"})])

    def test_accepts_and_says_nothing(self):
        self.check_manner("accepts, says nothing", hostile.Mute(), {"timeout"}, {"unavailable", "backing off"})

    def test_hangs(self):
        self.check_manner("hangs", hostile.Hangs(), {"timeout"}, {"backing off"})

    def test_too_late(self):
        self.check_manner("answers too late", hostile.Late(1.5 * DEADLINE), {"timeout"}, {"backing off"})

    # --- it breaks off ---

    def test_closes_half_way(self):
        peer = self.check_manner("closes half way", hostile.ClosesHalfWay(), {"unavailable"}, {"backing off"})
        self.assertGreater(peer["retries"], 0)  # a Forward whose connection broke is sent once more

    def test_speaks_no_http(self):
        self.check_manner("speaks no HTTP/2", hostile.Babbles(), {"unavailable"}, {"backing off", "timeout"})

    # --- it answers nonsense: it is there, so that it is asked every time ---

    def test_refuses(self):
        self.check_manner("refuses", hostile.Refuses(), {"refused"})

    def test_no_tensor(self):
        self.check_manner("answers without a tensor", hostile.nothing(), {"empty answer"})

    def test_garbage(self):
        self.check_manner("answers garbage", hostile.garbage(), {"malformed answer"})

    def test_buffer_shorter_than_its_shape(self):
        self.check_manner("answers with a short buffer", hostile.short_buffer(), {"malformed answer"})

    def test_wrong_shape(self):
        self.check_manner("answers a wrong shape", hostile.wrong_shape(), {"wrong shape"})

    def test_not_a_number(self):
        self.check_manner("answers NaN", hostile.not_a_number(), {"not finite"})

    # --- several at once ---

    def test_three_of_five(self):
        with hostile.Hostile(hostile.Hangs()) as hangs, hostile.Hostile(hostile.not_a_number()) as nan, \
                hostile.Hostile(hostile.ClosesHalfWay()) as closes:
            self.check("hangs; answers NaN; closes half way", hangs, nan, closes,
                       kinds=[({"timeout"}, {"backing off"}), ({"not finite"}, set()),
                              ({"unavailable"}, {"backing off"})])


class Returning(unittest.TestCase):
    """A peer that goes away and is asked again when it is back."""

    def setUp(self):
        self.peer, self.address = serve("--seed", "10", "--batch-rows", "1")

    def tearDown(self):
        self.peer.__exit__(None, None, None)

    def die(self):
        self.peer.stop(signal.SIGKILL)
        self.peer.__exit__(None, None, None)

    def come_back(self, address):
        self.peer = Running("serve", "--listen", address, "--seed", "10", "--batch-rows", "1")
        return self.peer.wait_for("ready")["address"]

    def wait_for_answers(self, neuron, count):
        """Waits for a step, after those seen so far, that so many peers have answered."""
        after = max((event["step"] for event in neuron.of("step")), default=0)
        return neuron.wait_for("step", lambda e: e["step"] > after and e["answered"] == count)["step"]

    def finish(self, name, neuron):
        neuron.wait_for("step", lambda e: e["step"] >= STEPS)
        self.assertEqual(neuron.stop(), 0)
        steps, peer = neuron.of("step"), neuron.of("peer")[0]
        self.assertTrue(all(math.isfinite(step["loss"]) for step in steps))
        self.assertLess(steps[-1]["loss"], 0.5 * steps[0]["loss"])
        self.assertTrue(all(step["answered"] >= 2 for step in steps), "a good peer was late: the machine is too busy")
        note(name, steps, neuron.one("done")["seconds"], [peer])
        return peer

    def test_dies_and_comes_back(self):
        peers = ",".join([self.address, *Good.addresses])
        with run("mortal", "--peers", peers, "--steps", "1000000") as neuron:
            self.wait_for_answers(neuron, 3)
            self.die()
            self.wait_for_answers(neuron, 2)
            self.come_back(self.address)
            back = self.wait_for_answers(neuron, 3)
            neuron.wait_for("step", lambda e: e["step"] > back + 20)
            peer = self.finish("dies and comes back", neuron)
        self.assertTrue({"unavailable"} <= set(failures(peer)) <= {"unavailable", "backing off", "timeout"}, peer)
        self.assertGreater(peer["backwards"], 0)
        served = self.peer
        self.assertEqual(served.stop(), 0)
        self.assertGreater(served.one("done")["forwards"], 0)

    def write_peers(self, first):
        with open(path("peers.new"), "w", encoding="utf-8") as file:
            file.write("".join(address + "\n" for address in [first, *Good.addresses]))
        os.replace(path("peers.new"), path("peers"))

    def test_changes_address(self):
        self.write_peers(self.address)
        with run("mover", "--peers-file", path("peers"), "--steps", "1000000") as neuron:
            self.wait_for_answers(neuron, 3)
            self.die()
            self.wait_for_answers(neuron, 2)
            moved = self.come_back("127.0.0.1:0")
            self.write_peers(moved)
            self.wait_for_answers(neuron, 3)
            peer = self.finish("changes address", neuron)
        self.assertNotEqual(moved, self.address)
        self.assertEqual(peer["address"], moved)


if __name__ == "__main__":
    unittest.main()
