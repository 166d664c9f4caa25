#!/usr/bin/env python3
"""Small floods (attacker.py), always: the neuron lives, a good caller's calls all succeed meanwhile, memory is bounded, and
what the attacker left is cleared away. tests/bench/flood.py makes large ones, and measures."""
import os
import resource
import subprocess
import sys
import time
import unittest

from attacker import Caller, ask
from harness import serve

MEMORY = 640 << 20  # bytes more than before, at most: the axon's 512 MiB, and a quarter for what gRPC doesn't count
if os.environ.get("NEURON_SANITIZE") == "thread":
    MEMORY *= 5  # ThreadSanitizer keeps four bytes beside each that was touched, and they count as the process's
SECONDS = 1  # of good calls under each flood
ATTACKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "attacker.py")


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Floods(unittest.TestCase):
    def setUp(self):
        self.server, self.address = serve("--seed", "4")
        self.pid = self.server.process.pid

    def tearDown(self):
        self.server.__exit__(None, None, None)

    def flood(self, name, scale):
        good = Caller(self.address)
        self.addCleanup(good.close)
        self.assertTrue(ask(good))
        memory, files, calls = resident(self.pid), descriptors(self.pid), 0
        attacker = subprocess.Popen([sys.executable, ATTACKER, self.address, name, str(scale)], stdout=subprocess.PIPE)
        try:
            self.assertEqual(attacker.stdout.readline(), b"ready\n")
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                self.assertTrue(ask(good, timeout=10), f"call {calls} under {name}")
                self.assertLess(resident(self.pid) - memory, MEMORY, name)
                calls += 1
            self.assertIsNone(attacker.poll(), "the attacker has ended")
        finally:
            attacker.kill()
            attacker.wait()
            attacker.stdout.close()
        until = time.monotonic() + 20
        while descriptors(self.pid) > files and time.monotonic() < until:
            time.sleep(0.05)
        self.assertLessEqual(descriptors(self.pid), files)
        self.assertTrue(ask(good))

    def test_connections_that_say_nothing(self):
        self.flood("silent", 300)

    def test_slow_readers(self):
        self.flood("slow-readers", 2)

    def test_slow_senders(self):
        self.flood("slow-senders", 20)

    def test_oversize_messages(self):
        self.flood("oversize", 2)

    def test_messages_that_unpack_to_more(self):
        self.flood("bombs", 1)

    def test_calls_that_are_taken_back(self):
        self.flood("resets", 1)

    def test_frames_without_calls(self):
        self.flood("frames", 1)


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 4096), limit))
    unittest.main()
