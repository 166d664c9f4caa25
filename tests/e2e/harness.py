"""What the end-to-end tests share: the program as a child process, safetensors and IDX files written by hand (so that
they don't depend on what they test), and a tiny data set. Python's standard library only."""
import array
import atexit
import gzip
import json
import math
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

NEURON = os.environ.get("NEURON", "")
if not os.access(NEURON, os.X_OK):
    sys.exit(f"no program at '{NEURON}', expected NEURON=build/release/neuron or another")

PATIENCE = 120  # seconds that anything may take; sanitizers are slow
FOLDER = tempfile.mkdtemp(prefix="neuron-e2e-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
TYPES = {"F32": "f", "F64": "d", "I32": "i", "I64": "q", "U8": "B"}


def path(*names):
    return os.path.join(FOLDER, *names)


def environment(**more):
    """The caller's, without options of the program, and with a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NEURON_")}
    return {**kept, "HOME": FOLDER, "XDG_CONFIG_HOME": path("config"), "NEURON_DATA": path("data"), **more}


# --- files ---


class Tensor:
    def __init__(self, shape, values, dtype="F32"):
        self.shape, self.dtype = list(shape), dtype
        self.values = array.array(TYPES[dtype], values)
        assert len(self.values) == math.prod(self.shape), (self.shape, len(self.values))


def write_safetensors(name, **tensors):
    header, data = {}, b""
    for key, tensor in tensors.items():
        part = tensor.values.tobytes()
        header[key] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path(name), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    return path(name)


def read_safetensors(name):
    with open(path(name), "rb") as file:
        data = file.read()
    (size,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    tensors = {}
    for key, about in header.items():
        if key != "__metadata__":
            begin, end = about["data_offsets"]
            values = array.array(TYPES[about["dtype"]])
            values.frombytes(body[begin:end])
            tensors[key] = Tensor(about["shape"], values, about["dtype"])
    return tensors


def idx(dims, data, kind=8):
    return struct.pack(">HBB", 0, kind, len(dims)) + struct.pack(f">{len(dims)}I", *dims) + data


def digits(count, seed):
    """Images that a soma learns in a few steps: each class lights a block of its own, under noise."""
    rng, images, labels = random.Random(seed), bytearray(), bytearray()
    for n in range(count):
        label = n % 10
        image = bytearray(rng.randbytes(784).translate(bytes(i // 4 for i in range(256))))
        row, column = 3 + 11 * (label // 5), 2 + 5 * (label % 5)
        for y in range(row, row + 10):
            image[28 * y + column : 28 * y + column + 5] = bytes([255 - 4 * (y - row)]) * 5
        images += image
        labels.append(label)
    return bytes(images), bytes(labels)


def write_data(folder, train=600, test=200):
    """A data folder with an mnist/ of that many images; the test set is gzip'ed, to read both forms."""
    os.makedirs(path(folder, "mnist"))
    for name, count, seed in (("train", train, 1), ("t10k", test, 2)):
        images, labels = digits(count, seed)
        for kind, content in (("images-idx3", idx([count, 28, 28], images)), ("labels-idx1", idx([count], labels))):
            packed = name == "t10k"
            with open(path(folder, "mnist", f"{name}-{kind}-ubyte" + (".gz" if packed else "")), "wb") as file:
                file.write(gzip.compress(content, 1) if packed else content)
    return path(folder)


# --- the program ---


class Ended:
    def __init__(self, arguments, status, stdout, stderr):
        self.arguments, self.status, self.stderr = arguments, status, stderr
        self.events = [json.loads(line) for line in stdout.splitlines()]

    def of(self, kind):
        return [event for event in self.events if event["event"] == kind]

    def one(self, kind):
        (event,) = self.of(kind)
        return event

    def __str__(self):
        return f"neuron {' '.join(self.arguments)}: status {self.status}, events {self.events[-3:]}, stderr:\n{self.stderr}"


def neuron(*arguments, **variables):
    """Runs the program to its end, with --json."""
    command = [NEURON, *arguments, "--json"]
    done = subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    return Ended(arguments, done.returncode, done.stdout, done.stderr)


def succeed(*arguments, **variables):
    ended = neuron(*arguments, **variables)
    assert ended.status == 0, str(ended)
    return ended


class Running:
    """The program in the background, with its events as they come. Leaving the `with` block ends it."""

    def __init__(self, *arguments, **variables):
        self.arguments, self.events, self.changed = arguments, [], threading.Condition()
        self.errors = tempfile.TemporaryFile(mode="w+", dir=FOLDER)
        self.process = subprocess.Popen(
            [NEURON, *arguments, "--json"], env=environment(**variables), stdout=subprocess.PIPE, stderr=self.errors,
            text=True, stdin=subprocess.DEVNULL,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "end of output"})
            self.changed.notify_all()

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read()

    def of(self, kind):
        with self.changed:
            return [event for event in self.events if event["event"] == kind]

    def one(self, kind):
        (event,) = self.of(kind)
        return event

    def wait_for(self, kind, test=lambda event: True):
        def found():
            return next((e for e in self.events if e["event"] == kind and test(e)), None)

        with self.changed:
            over = lambda: found() or any(e["event"] == "end of output" for e in self.events)
            self.changed.wait_for(over, PATIENCE)
            assert found(), f"neuron {' '.join(self.arguments)}: no event '{kind}'; stderr:\n{self.stderr()}"
            return found()

    def stop(self, number=signal.SIGTERM):
        """Its exit status after the signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if error[0] is not None:
            print(f"neuron {' '.join(self.arguments)} said:\n{self.stderr()}", file=sys.stderr)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.errors.close()


def serve(*arguments, **variables):
    """A serving neuron on a free port, and where it listens."""
    running = Running("serve", "--listen", "127.0.0.1:0", *arguments, **variables)
    return running, running.wait_for("ready")["address"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


calls = iter(range(1, 1 << 30))


def call_arguments(peer, image, gradient=None, modality="image"):
    number = next(calls)
    arguments = ["call", peer, "--input", write_safetensors(f"input{number}", input=image), "--modality", modality]
    arguments += ["--out", path(f"output{number}"), "--deadline", "60s"]
    if gradient is not None:
        arguments += ["--gradient", write_safetensors(f"gradient{number}", gradient=gradient)]
    return arguments


def call(peer, image, gradient=None, modality="image", more=()):
    """The answer, as a Tensor, and the event."""
    arguments = call_arguments(peer, image, gradient, modality)
    ended = succeed(*arguments, *more)
    return read_safetensors(arguments[arguments.index("--out") + 1])["output"], ended.one("call")


def some_images(*shape, seed=3):
    rng = random.Random(seed)
    return Tensor(shape, [rng.random() for _ in range(math.prod(shape))])


def largest_difference(a, b):
    assert len(a) == len(b), (len(a), len(b))
    return max(abs(x - y) for x, y in zip(a, b))
