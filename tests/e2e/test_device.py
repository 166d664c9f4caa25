#!/usr/bin/env python3
"""Devices as users meet them: one that isn't there, one of several, one that fails. The CUDA backend runs on the simulated
GPU here (--device sim), where any call can be made to fail (SIM_FAIL)."""
import os
import re
import unittest

from harness import (NEURON, PATIENCE, Running, call, call_arguments, largest_difference, neuron, path,
                     read_safetensors, serve, some_images, succeed, write_data)

SIMULATED = os.path.exists(os.path.join(os.path.dirname(NEURON), "neuron-sim.so"))
DRIVER = any(os.path.exists(os.path.join(folder, "libcuda.so.1")) for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64"))
SANITIZED = bool(os.environ.get("NEURON_SANITIZE"))
SHORT = ["--batch", "16", "--threads", "1", "--lr", "0.005", "--schedule", "constant", "--shuffle", "none"]
EVERY_CALL = 40 if SANITIZED else 12  # of the calls of a short run, each n-th is made to fail


def setUpModule():
    write_data("data", train=160, test=40)


def train(*more, **variables):
    return neuron("train", *SHORT, "--log-every", "1", *more, **variables)


@unittest.skipUnless(not DRIVER, "this host has a driver")
class WithoutDriver(unittest.TestCase):
    def test_auto_is_the_cpu(self):
        ended = train("--device", "auto", "--steps", "2")
        self.assertEqual(ended.status, 0, str(ended))
        self.assertIn("cpu: oneDNN", ended.stderr)

    def test_cuda_says_in_one_sentence_what_is_missing(self):
        ended = train("--device", "cuda", "--steps", "2")
        self.assertEqual(ended.status, 1, str(ended))
        self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
        self.assertRegex(ended.stderr, "device 'cuda' needs (an NVIDIA GPU and its driver|the plug-in)")

    def test_names_that_are_none(self):
        for device, text in (("tpu", "device 'tpu' is unknown"), ("cpu:0", "device 'cpu:0', expected 'cpu'")):
            ended = train("--device", device, "--steps", "2")
            self.assertNotEqual(ended.status, 0)
            self.assertIn(text, ended.stderr)


@unittest.skipUnless(SIMULATED, "no neuron-sim.so: built without the CUDA headers")
class Simulated(unittest.TestCase):
    def test_devices_that_are_not_there(self):
        for device, text in (("sim:7", "device number 7, but this host has 2"), ("sim:0,0", "name 0 twice"),
                             ("sim:", "no device number"), ("sim:one", "device numbers 'one'")):
            ended = train("--device", device, "--steps", "2")
            self.assertEqual(ended.status, 1, str(ended))
            self.assertIn(text, ended.stderr)

    def test_two_devices_are_one_with_the_double_batch(self):
        """In f32, dropout included: the weights agree to 1e-5."""
        weights = {}
        for device in ("sim", "sim:0,1"):
            out = path("weights-" + device.replace(":", "-"))
            succeed("train", *SHORT, "--device", device, "--steps", "6", "--out", out)
            weights[device] = read_safetensors(os.path.join(out, "model.safetensors"))
        for name, one in weights["sim"].items():
            two = weights["sim:0,1"][name]
            scale = max(abs(value) for value in one.values)
            self.assertLess(largest_difference(one.values, two.values), 1e-5 * scale, name)

    def test_it_takes_part_in_a_network(self):
        """Two neurons, one on each kind of device, ask each other and learn from each other's gradients."""
        more = ["--listen", "127.0.0.1:0", "--deadline", "60s", *SHORT, "--log-every", "1", "--eval-every", "1000000"]
        server, address = serve("--learn", "--device", "cpu")
        with server, Running("run", "--device", "sim", "--peers", address, "--steps", "8", *more) as simulated:
            own = simulated.wait_for("ready")["address"]
            with Running("run", "--device", "cpu", "--peers", own, "--steps", "8", *more) as pupil:
                self.assertGreater(pupil.wait_for("done")["steps_answered"], 0)
                self.assertEqual(pupil.stop(), 0)
            done = simulated.wait_for("done")
            self.assertGreater(done["steps_answered"], 0)
            answer, _ = call(own, some_images(2, 1, 1, 28, 28))
            self.assertEqual(answer.shape, [2, 1, 512])
            self.assertEqual(simulated.stop(), 0)
            self.assertGreater(simulated.one("served")["backwards"], 0)

    def test_a_device_that_is_lost_costs_little(self):
        """The run is saved with what the host has, and goes on from there as if nothing had been."""
        whole = train("--device", "sim", "--steps", "24", "--out", path("whole"))
        self.assertEqual(whole.status, 0, str(whole))
        lost = train("--device", "sim", "--steps", "24", "--out", path("lost"), SIM_FAIL="kernel:120")
        self.assertEqual(lost.status, 1, str(lost))
        self.assertIn("cudaErrorIllegalAddress", lost.stderr)
        saved = int(re.search(r"holds step (\d+) of (\d+)", lost.stderr)[1])
        self.assertGreater(saved, 0)
        resumed = train("--device", "sim", "--steps", "24", "--out", path("lost"), "--resume")
        self.assertEqual(resumed.status, 0, str(resumed))
        losses = {event["step"]: event["loss"] for event in whole.of("step")}
        again = {event["step"]: event["loss"] for event in resumed.of("step")}
        self.assertEqual(min(again), saved + 1)
        self.assertEqual(again, {step: losses[step] for step in again})

    def test_a_server_that_loses_its_device_ends(self):
        server, address = serve("--device", "sim", SIM_FAIL="kernel:40")
        with server:
            for _ in range(40):
                ended = neuron(*call_arguments(address, some_images(4, 1, 1, 28, 28)))
                if ended.status != 0:
                    break
            self.assertIn("DATA_LOSS", ended.stderr)
            self.assertEqual(server.process.wait(PATIENCE), 1)
            self.assertIn("the device is lost", server.stderr())

    def test_any_call_may_fail(self):
        """Each n-th call of CUDA, cuDNN and cuBLASLt in a short run: it ends with a sentence that names a call."""
        n, failed = 1, 0
        while True:
            ended = train("--device", "sim", "--steps", "2", SIM_FAIL=str(n))
            if ended.status == 0:
                break
            self.assertEqual(ended.status, 1, str(ended))
            self.assertRegex(ended.stderr.splitlines()[-1], r"neuron: .*(cuda|cublas|cudnn|nccl|kernel|device)", ended.stderr)
            failed += 1
            n += EVERY_CALL
        self.assertGreater(failed, 20)


if __name__ == "__main__":
    unittest.main()
