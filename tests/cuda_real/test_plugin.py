#!/usr/bin/env python3
"""neuron-cuda.so as it was built: it shows one function, finds all that it needs in the libraries beside the toolkit,
opens where no GPU is, and has code for every architecture that was asked for. $NEURON is the program beside which it
lies. Skipped where the build has no CUDA."""
import ctypes
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

NEURON = os.environ.get("NEURON", "")
if not os.access(NEURON, os.X_OK):
    sys.exit(f"no program at '{NEURON}', expected NEURON=build/release/neuron or another")
BUILD = os.path.dirname(os.path.abspath(NEURON))
PLUGIN = os.path.join(BUILD, "neuron-cuda.so")
EVERY_ARCHITECTURE = "75;80;86;89;90;100;120"
PTX, ELF = 1, 2


def built_with(name):
    """A variable of the build, "" where it has none."""
    with open(os.path.join(BUILD, "CMakeCache.txt")) as file:
        found = re.search(rf"^{name}:\w+=(.*)$", file.read(), re.MULTILINE)
    return found[1] if found else ""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return done.stdout + done.stderr


def fat_binaries():
    """What nvcc put into the plug-in, for each object file a list of (kind, architecture). The container isn't documented:
    a header of 16 bytes (magic, version, its own size, that of the rest), and before each code a header with its kind,
    its own size, the code's size and, at byte 28, the architecture."""
    with tempfile.TemporaryDirectory() as folder:
        section = os.path.join(folder, "fatbin")
        run("objcopy", "-O", "binary", "--only-section=.nv_fatbin", PLUGIN, section)
        with open(section, "rb") as file:
            data = file.read()
    found, at = [], 0
    while at < len(data):
        magic, _, header, size = struct.unpack_from("<IHHQ", data, at)
        if magic != 0xBA55ED50:
            raise ValueError(f"byte {at} of .nv_fatbin begins with {magic:#x}, expected the magic number of a fat binary")
        entry, end = at + header, at + header + size
        codes = []
        while entry < end:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, entry)
            codes.append((kind, struct.unpack_from("<I", data, entry + 28)[0]))
            entry += header + size
        found.append(codes)
        at = -(-end // 8) * 8
    return found


@unittest.skipIf(os.environ.get("NEURON_SANITIZE"), "skipped: builds with sanitizers have no CUDA plug-in")
@unittest.skipUnless(built_with("NEURON_NVCC"), "skipped: this build has no CUDA")
class Plugin(unittest.TestCase):
    def test_it_shows_one_function(self):
        names = [line.split()[-1] for line in run("nm", "--dynamic", "--defined-only", PLUGIN).splitlines()]
        self.assertEqual(names, ["neuron_backend_plugin"])

    def test_it_finds_all_that_it_needs(self):
        said = run("ldd", "-r", PLUGIN)
        self.assertNotRegex(said, "undefined symbol|not found")
        for library in ("libcudart", "libcublasLt", "libcudnn", "libnccl"):
            self.assertRegex(said, rf"{library}\.so\.\d+ => /")

    def test_it_opens_without_a_gpu(self):
        self.assertTrue(ctypes.CDLL(PLUGIN, os.RTLD_NOW | os.RTLD_LOCAL).neuron_backend_plugin)

    def test_it_has_code_for_every_architecture(self):
        wanted = built_with("NEURON_CUDA_ARCHITECTURES")
        wanted = sorted(map(int, (EVERY_ARCHITECTURE if wanted == "all" else wanted).split(";")))
        kernels = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "kernels")
        binaries = fat_binaries()
        self.assertEqual(len(binaries), len([name for name in os.listdir(kernels) if name.endswith(".cu")]))
        for codes in binaries:
            self.assertEqual(sorted(sm for kind, sm in codes if kind == ELF), wanted)
            self.assertEqual([sm for kind, sm in codes if kind == PTX], wanted[-1:])


if __name__ == "__main__":
    unittest.main()
