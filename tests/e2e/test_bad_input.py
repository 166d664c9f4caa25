#!/usr/bin/env python3
"""Bad files, flags and places: each ends with a sentence that names the thing, and with exit status 1 (2 for usage);
nothing crashes, and nothing that was there is damaged."""
import gzip
import json
import os
import random
import shutil
import struct
import subprocess
import unittest

from harness import (PATIENCE, Running, Tensor, environment, idx, neuron, path, read_safetensors, succeed,
                     write_data, write_safetensors)

QUICK = ["--batch", "32", "--threads", "1"]


def setUpModule():
    write_data("data")
    succeed("train", *QUICK, "--steps", "5", "--out", path("run"))


def read(name):
    with open(name, "rb") as file:
        return file.read()


def write(name, content):
    with open(name, "wb") as file:
        file.write(content)
    return name


class BadInput(unittest.TestCase):
    def fails(self, words, *arguments, status=1, **variables):
        ended = neuron(*arguments, **variables)
        self.assertEqual(ended.status, status, str(ended))
        message = ended.one("error")["message"]
        for word in words:
            self.assertIn(word, message)
        self.assertNotIn("\n", message)
        self.assertIn(f"neuron: {message}", ended.stderr)
        return ended


class Data(BadInput):
    def setUp(self):
        self.folder = path("damaged-" + self.id().rsplit(".", 1)[1])
        shutil.copytree(path("data"), self.folder)
        self.images = os.path.join(self.folder, "mnist", "train-images-idx3-ubyte")
        self.labels = os.path.join(self.folder, "mnist", "train-labels-idx1-ubyte")
        self.packed = os.path.join(self.folder, "mnist", "t10k-images-idx3-ubyte.gz")

    def train_fails(self, *words):
        self.fails(words, "train", *QUICK, "--steps", "1", "--data", self.folder)

    def test_no_folder(self):
        self.fails(["nowhere", "train-images-idx3-ubyte"], "train", "--data", path("nowhere"))

    def test_no_labels(self):
        os.remove(self.labels)
        self.train_fails("train-labels-idx1-ubyte")

    def test_truncated(self):
        for size in (0, 3, 15, 16, 1000):
            write(self.images, read(path("data", "mnist", "train-images-idx3-ubyte"))[:size])
            self.train_fails(self.images)

    def test_too_long(self):
        write(self.images, read(self.images) + b"\0")
        self.train_fails(self.images)

    def test_wrong_kind(self):
        body = read(self.images)[16:]
        for header in (b"PNG\0", b"\0\0\x0d\3", b"\0\0\x08\2"):
            write(self.images, header + struct.pack(">3I", 600, 28, 28) + body)
            self.train_fails(self.images)

    def test_sizes_that_cannot_be(self):
        for dims in ((0xFFFFFFFF,) * 3, (0x80000000, 28, 28), (600, 0, 28), (0, 28, 28)):
            write(self.images, idx(dims, b""))
            self.train_fails(self.images)

    def test_labels_of_other_images(self):
        write(self.labels, idx([599], bytes(599)))
        self.train_fails("599", "600")

    def test_images_in_the_place_of_labels(self):
        shutil.copy(self.images, self.labels)
        self.train_fails("train-labels-idx1-ubyte", self.folder, "[600, 28, 28]")

    def test_labels_that_are_no_class(self):
        write(self.labels, idx([600], bytes([3] * 100 + [10] + [3] * 499)))
        self.train_fails("label 100 of train-labels-idx1-ubyte", self.folder, "is 10")

    def test_damaged_gzip(self):
        whole = read(self.packed)
        middle = len(whole) // 2
        damaged = [whole[:middle], whole[:-4], whole[:middle] + bytes(b ^ 0x55 for b in whole[middle : middle + 64])
                   + whole[middle + 64 :], whole[:10], b"\x1f\x8b"]
        for content in damaged:
            write(self.packed, content)
            self.train_fails(self.packed)

    def test_gzip_that_unpacks_to_too_much(self):
        write(self.packed, gzip.compress(idx([200, 28, 28], bytes(200 * 784 + 50_000_000)), 1))
        self.train_fails(self.packed)

    def test_eval_reads_the_test_images(self):
        write(self.packed, b"")
        self.fails([self.packed], "eval", "--load", path("run"), "--data", self.folder)

    def test_ranges_beyond_the_data(self):
        self.fails(["601", "600"], "train", "--train-range", "0:601")
        self.fails(["300", "200"], "train", "--train-range", "100:300", "--labelled", "300")


class Checkpoints(BadInput):
    def setUp(self):
        self.file = path("damaged-" + self.id().rsplit(".", 1)[1] + ".safetensors")
        self.whole = read(path("run", "model.safetensors"))

    def every_command_fails(self, *words):
        for command in (["eval"], ["serve", "--listen", "127.0.0.1:0"], ["train", "--steps", "1", *QUICK]):
            self.fails(words, *command, "--load", self.file)

    def test_nothing_there(self):
        self.every_command_fails(self.file)

    def test_truncated(self):
        for size in (0, 7, 8, 100, len(self.whole) // 2, len(self.whole) - 1):
            write(self.file, self.whole[:size])
            self.fails([self.file], "eval", "--load", self.file)
        self.every_command_fails(self.file)

    def test_headers_that_lie(self):
        (size,) = struct.unpack_from("<Q", self.whole)
        header = self.whole[8 : 8 + size]
        damaged = [struct.pack("<Q", 1 << 62) + self.whole[8:], struct.pack("<Q", size - 1) + self.whole[8:],
                   self.whole[:8] + header.replace(b"F32", b"F99", 1) + self.whole[8 + size :],
                   self.whole[:8] + b"[" + self.whole[9:], self.whole + b"more"]
        for content in damaged:
            write(self.file, content)
            self.fails([self.file], "eval", "--load", self.file)

    def test_any_byte_of_the_header(self):
        rng, (size,) = random.Random(17), struct.unpack_from("<Q", self.whole)
        for _ in range(12):
            content = bytearray(self.whole)
            content[rng.randrange(8 + size)] ^= 1 << rng.randrange(8)
            ended = neuron("eval", "--load", write(self.file, bytes(content)))
            self.assertIn(ended.status, (0, 1), str(ended))  # 0: a changed name that isn't looked for
            self.assertEqual(len(ended.of("error")), ended.status, str(ended))

    def test_another_shape(self):
        tensors = read_safetensors("run/model.safetensors")
        tensors["hidden_layer1.weight"] = Tensor([512, 831], [0] * 512 * 831)
        write_safetensors(self.file, **tensors)
        self.every_command_fails("'hidden_layer1.weight'", self.file, "[512, 831]", "[512, 832]")

    def test_another_dtype(self):
        tensors = read_safetensors("run/model.safetensors")
        tensors["target_layer2.bias"] = Tensor([10], [0] * 10, "F64")
        write_safetensors(self.file, **tensors)
        self.every_command_fails("'target_layer2.bias'", self.file, "f64", "f32")

    def test_missing_tensors(self):
        tensors = read_safetensors("run/model.safetensors")
        del tensors["target_layer2.bias"]
        write_safetensors(self.file, **tensors)
        ended = succeed("eval", "--load", self.file)
        self.assertIn("'target_layer2.bias'", ended.stderr)
        self.assertIn("warning", ended.stderr)
        self.fails(["'target_layer2.bias'", self.file], "eval", "--load", self.file, "--strict")
        self.fails(["'target_layer2.bias'", self.file], "serve", "--load", self.file, "--strict")

    def test_another_model(self):
        write_safetensors(self.file, other=Tensor([2], [1, 2]))
        self.every_command_fails(self.file, "none of the soma's")


class RunFolders(BadInput):
    def setUp(self):
        self.folder = path("folder-" + self.id().rsplit(".", 1)[1])

    def copy(self):
        shutil.copytree(path("run"), self.folder, symlinks=True)

    def test_resume_without_a_run(self):
        self.fails([self.folder, "no checkpoint"], "train", "--resume", "--out", self.folder)
        self.fails(["--out"], "train", "--resume", status=2)

    def test_a_run_that_is_there_is_not_overwritten(self):
        before = read(path("run", "model.safetensors"))
        self.fails([path("run"), "--resume"], "train", "--out", path("run"))
        self.fails([path("run")], "serve", "--learn", "--listen", "127.0.0.1:0", "--out", path("run"))
        self.assertEqual(read(path("run", "model.safetensors")), before)

    def test_two_processes_in_one_folder(self):
        with Running("train", *QUICK, "--steps", "100000", "--log-every", "1", "--out", self.folder) as first:
            first.wait_for("step")
            self.fails([self.folder], "train", "--steps", "1", "--out", self.folder)
            self.assertEqual(first.stop(), 0)

    def test_out_that_is_a_file(self):
        write(self.folder, b"")
        self.fails([self.folder], "train", *QUICK, "--steps", "1", "--out", self.folder)

    def test_damaged_state(self):
        for name in ("model.safetensors", "state.safetensors"):
            self.copy()
            inner = os.path.join(self.folder, "current", name)
            write(inner, read(inner)[:-1])
            self.fails([os.path.join("current", name)], "train", "--resume", "--out", self.folder)
            os.remove(inner)
            self.fails([os.path.join("current", name)], "train", "--resume", "--out", self.folder)
            shutil.rmtree(self.folder)

    def test_damaged_configuration(self):
        self.copy()
        config = os.path.join(self.folder, "current", "config.json")
        whole = json.loads(read(config))
        cases = [b"", b"{", read(config)[:-3], b"[]", b"{}", b"\xff\xfe", json.dumps({**whole, "lr": "fast"}).encode(),
                 json.dumps({**whole, "batch": -1}).encode(), json.dumps({**whole, "colour": 1}).encode()]
        for content in cases:
            write(config, content)
            self.fails(["config.json"], "train", "--resume", "--out", self.folder)

    def test_bad_config_files(self):
        name = path("config-" + self.id().rsplit(".", 1)[1])
        for content in (b"", b"{", b'{"lr": 1} more', b'{"lr": "fast"}', b'{"batch": 1.5}', b'{"bach": 2}', b"\0" * 9):
            self.fails([name], "train", "--config", write(name, content), status=2)
        self.fails([name + "x"], "train", "--config", name + "x", status=1)


class Flags(BadInput):
    def test_each_is_told(self):
        for words, arguments in [
            (["--bach", "did you mean --batch"], ["train", "--bach", "4"]),
            (["batch", "'0'"], ["train", "--batch", "0"]),
            (["batch", "'many'"], ["train", "--batch", "many"]),
            (["lr", "'-1'"], ["train", "--lr", "-1"]),
            (["lr", "'nan'"], ["train", "--lr", "nan"]),
            (["schedule", "'fast'"], ["train", "--schedule", "fast"]),
            (["listen", "'here'"], ["serve", "--listen", "here"]),
            (["listen", "65536"], ["serve", "--listen", "127.0.0.1:65536"]),
            (["peers", "b"], ["run", "--peers", "127.0.0.1:8092,b"]),
            (["device", "'tpu'"], ["train", "--device", "tpu"]),
            (["--learn"], ["train", "--learn"]),
            (["--out", "--learn"], ["serve", "--out", path("x")]),
            (["--steps"], ["train", "--steps"]),
            (["'extra'"], ["train", "extra"]),
        ]:
            with self.subTest(arguments):
                self.fails(words, *arguments, status=2)

    def test_environment(self):
        self.fails(["NEURON_BATCH", "'x'"], "train", status=2, NEURON_BATCH="x")

    def test_addresses_that_are_not_this_host(self):
        self.fails(["192.0.2.1:0"], "serve", "--listen", "192.0.2.1:0")


class FullDisk(BadInput):
    """The device is full while a run is saved: the program says so, and the save before stays whole."""

    def after_the_failure(self, ended, folder):
        message = ended.one("error")["message"]
        self.assertEqual(ended.status, 1, str(ended))
        self.assertIn(folder, message)
        self.assertIn("No space left on device", message)

    def test_no_byte_can_be_written(self):
        folder = path("full")
        arguments = ["train", *QUICK, "--steps", "2", "--out", folder]
        self.after_the_failure(neuron(*arguments, NEURON_FAILPOINTS="file.write=ENOSPC"), folder)
        succeed(*arguments)  # what the failure left doesn't stand in the way

    def test_the_second_save_fails(self):
        folder = path("half-full")
        arguments = ["train", *QUICK, "--steps", "4", "--save-every", "2", "--out", folder]
        spoilt = None
        for count in range(2, 100):  # a write for every part of a file: the first that a second save makes
            shutil.rmtree(folder, ignore_errors=True)
            spoilt = neuron(*arguments, NEURON_FAILPOINTS=f"file.write=ENOSPC@{count}")
            if os.path.exists(os.path.join(folder, "current")):
                break
        self.after_the_failure(spoilt, folder)
        self.assertEqual(succeed("eval", "--load", folder).one("eval")["samples"], 200)
        succeed("train", "--resume", "--out", folder)

    def test_a_small_file_system(self):
        folder = path("tmpfs")
        os.makedirs(folder)
        mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("a file system can't be mounted here; the other tests have write fail")
        try:
            run = os.path.join(folder, "run")
            self.after_the_failure(neuron("train", *QUICK, "--steps", "4", "--save-every", "2", "--out", run), run)
            self.assertEqual(succeed("eval", "--load", run).one("eval")["samples"], 200)
            self.assertEqual([n for n in os.listdir(run) if n.endswith(".new")], [])
        finally:
            subprocess.run(["umount", folder], check=True)

    def test_the_answer_of_a_call(self):
        with Running("serve", "--listen", "127.0.0.1:0") as server:
            peer = server.wait_for("ready")["address"]
            image = write_safetensors("image", input=Tensor([1, 1, 1, 28, 28], [0] * 784))
            out = path("answer")
            self.fails([out, "No space left on device"], "call", peer, "--input", image, "--modality", "image", "--out",
                       out, "--deadline", "60s", NEURON_FAILPOINTS="file.write=ENOSPC")
            self.assertFalse(os.path.exists(out))

    def test_standard_output(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([os.environ["NEURON"], "eval", "--load", path("run"), "--json"], stdout=full,
                                  stderr=subprocess.PIPE, text=True, env=environment(), timeout=PATIENCE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("can't write to standard output", done.stderr)


class Keys(BadInput):
    def test_a_key_file_that_holds_no_key(self):
        key = write(path("bad.key"), b"not a key\n")
        os.chmod(key, 0o600)
        self.fails([key], "serve", "--key", key)

    def test_a_key_file_that_others_can_read(self):
        succeed("key", "new", "--key", path("open.key"))
        os.chmod(path("open.key"), 0o644)
        self.fails([path("open.key")], "serve", "--key", path("open.key"))

    def test_synapse_keys(self):
        self.fails(["--synapse-key", "256"], "serve", "--synapse-key", "k" * 257)
        self.fails(["--synapse-key"], "serve", "--synapse-key", "a\nb")


if __name__ == "__main__":
    unittest.main()
