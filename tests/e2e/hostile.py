"""Peers that don't keep to the rules: a small HTTP/2 and gRPC server in Python's standard library, which reads requests
as far as it must, and answers each as its manner says.

Answers' headers are HPACK literals that enter no table. The requests' headers aren't decoded: a Forward has one tensor, a
Backward two, and whatever has none (Hello) is answered UNIMPLEMENTED, as a neuron of the reference would. The protocol
is that of RFC 9113; the messages those of proto/bittensor.proto.
"""
import heapq
import itertools
import math
import random
import socket
import struct
import threading
import time

DATA, HEADERS, RESET, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FEATURES = 512
UNIMPLEMENTED, INTERNAL = 12, 13
FRAME = 16384  # the largest that a receiver takes without being asked


# --- messages ---


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, content):
    """Of bytes, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def read_fields(message):
    """(number, value) of a message's fields; of wire types 0 and 2, which are all that requests have."""
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        value, at = read_varint(message, at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        yield key >> 3, value


def read_shapes(message):
    """The shapes of a request's tensors: none for Hello, one for Forward, two for Backward."""
    shapes = []
    for number, tensor in read_fields(message):
        if number == 6:
            packed, at, shape = next(value for name, value in read_fields(tensor) if name == 3), 0, []
            while at < len(packed):
                dimension, at = read_varint(packed, at)
                shape.append(dimension)
            shapes.append(shape)
    return shapes


def answer_message(shape, value=0.0, size=None):
    """A TensorMessage with one f32 tensor of that value; `size`: bytes of its buffer, where they shan't fit the shape."""
    count = math.prod(shape)
    buffer = struct.pack("<f", value) * count
    packed = b"".join(varint(d) for d in shape)
    tensor = field(1, b"0.0.0") + field(2, buffer[:size]) + field(3, packed) + field(4, 1)
    return field(1, b"0.0.0") + field(2, b"hostile") + field(6, tensor)


def literal(name, value):
    """An HPACK field that is neither indexed nor compressed; names and values below 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


# --- one connection ---


class Connection:
    def __init__(self, server, connection):
        self.server, self.socket = server, connection
        self.lock = threading.RLock()
        self.requests, self.windows, self.waiting = {}, {}, []  # by stream: bytes so far; credit; frames that wait for it
        self.credit, self.initial = 65535, 65535

    def send(self, kind, flags, stream, payload=b""):
        with self.lock:
            self.socket.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def receive(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("closed by the caller")
            data += part
        return bytes(data)

    def run(self):
        try:
            if self.server.manner.greets:
                self.receive(len(PREFACE))
                self.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1))  # streams may send without limit,
                self.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30))  # and all of them together
                while True:
                    self.frame()
            else:
                self.server.manner.connected(self)
        except (OSError, ConnectionError):
            pass
        finally:
            self.close()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def frame(self):
        head = self.receive(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream, payload = int.from_bytes(head[5:], "big") & 2**31 - 1, self.receive(size)
        with self.lock:
            if kind == SETTINGS and not flags & ACK:
                self.read_settings(payload)
                self.send(SETTINGS, ACK, 0)
            elif kind == PING and not flags & ACK:
                self.send(PING, ACK, 0, payload)
            elif kind == WINDOW_UPDATE:
                self.read_window(stream, int.from_bytes(payload, "big"))
            elif kind == RESET:
                self.requests.pop(stream, None)
            elif kind in (HEADERS, DATA):
                request = self.requests.setdefault(stream, bytearray())
                if kind == DATA:
                    request += payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
                    if size:
                        self.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", size))
                if flags & END_STREAM:
                    del self.requests[stream]
                    self.request(stream, bytes(request[5:]))

    def read_settings(self, payload):
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == 4:
                for stream in self.windows:
                    self.windows[stream] += value - self.initial
                self.initial = value
        self.flush()

    def read_window(self, stream, more):
        if stream == 0:
            self.credit += more
        elif stream in self.windows:
            self.windows[stream] += more
        self.flush()

    def request(self, stream, message):
        shapes = read_shapes(message)
        self.windows[stream] = self.initial
        if not shapes:
            self.status(stream, UNIMPLEMENTED)
            return
        with self.server.lock:
            self.server.requests += 1
        method = self.server.manner.forward if len(shapes) == 1 else self.server.manner.backward
        method(self, stream, shapes[0])

    # What a manner does with a request.

    def headers(self, stream):
        self.send(HEADERS, END_HEADERS, stream, b"\x88" + literal("content-type", "application/grpc"))

    def body(self, stream, data):
        """Sends as much as the receiver gives credit for, and the rest when it gives more."""
        with self.lock:
            for at in range(0, len(data), FRAME):
                self.waiting.append((stream, data[at : at + FRAME]))
            self.flush()

    def flush(self):
        while self.waiting:
            stream, data = self.waiting[0]
            if data is not None and len(data) > min(self.credit, self.windows[stream]):
                return
            self.waiting.pop(0)
            if data is None:
                self.trailers(stream, 0)
                continue
            self.credit -= len(data)
            self.windows[stream] -= len(data)
            self.send(DATA, 0, stream, data)

    def trailers(self, stream, code):
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, literal("grpc-status", str(code)))

    def status(self, stream, code):
        with self.lock:
            self.send(HEADERS, END_HEADERS | END_STREAM, stream, b"\x88" + literal("content-type", "application/grpc")
                      + literal("grpc-status", str(code)))

    def answer(self, stream, message):
        with self.lock:
            self.headers(stream)
            self.body(stream, b"\x00" + struct.pack(">I", len(message)) + message)
            self.waiting.append((stream, None))
            self.flush()


# --- manners ---


class Manner:
    """A well-behaved one, whose answers are 0 and whose gradients are none."""

    greets = True  # speaks HTTP/2 at all

    def forward(self, connection, stream, shape):
        connection.answer(stream, answer_message([shape[0], shape[1], FEATURES]))

    def backward(self, connection, stream, shape):
        connection.answer(stream, answer_message(shape))


class Hangs(Manner):
    """Takes every request, and never says anything about it."""

    def forward(self, connection, stream, shape):
        pass

    backward = forward


class Mute(Manner):
    """Accepts connections, and doesn't even greet."""

    greets = False

    def connected(self, connection):
        while connection.socket.recv(65536):
            pass


class Babbles(Mute):
    """Says what no HTTP/2 server says."""

    def connected(self, connection):
        connection.socket.sendall(random.Random(1).randbytes(4096))
        super().connected(connection)


class ClosesHalfWay(Manner):
    """Ends the connection in the middle of an answer."""

    def forward(self, connection, stream, shape):
        message = answer_message([shape[0], shape[1], FEATURES])
        connection.headers(stream)
        connection.body(stream, (b"\x00" + struct.pack(">I", len(message)) + message)[: len(message) // 2])
        connection.close()


class Answers(Manner):
    """Answers Forward with what a function makes of the right shape."""

    def __init__(self, make):
        self.make = make

    def forward(self, connection, stream, shape):
        connection.answer(stream, self.make([shape[0], shape[1], FEATURES]))


def garbage():
    """Bytes that are no message: they begin with a field of a wire type that doesn't exist."""
    return Answers(lambda shape: b"\x07" + random.Random(2).randbytes(5000))


def short_buffer():
    return Answers(lambda shape: answer_message(shape, size=4 * math.prod(shape) - 8))


def not_a_number():
    return Answers(lambda shape: answer_message(shape, math.nan))


def wrong_shape():
    return Answers(lambda shape: answer_message([shape[0], shape[1], FEATURES - 1]))


def nothing():
    return Answers(lambda shape: field(1, b"0.0.0"))


class Refuses(Manner):
    def forward(self, connection, stream, shape):
        connection.status(stream, INTERNAL)


class Late(Manner):
    """Answers rightly, `delay` seconds later."""

    def __init__(self, delay):
        self.delay = delay

    def forward(self, connection, stream, shape):
        connection.server.later(self.delay, lambda: Manner.forward(self, connection, stream, shape))

    def backward(self, connection, stream, shape):
        connection.server.later(self.delay, lambda: Manner.backward(self, connection, stream, shape))


# --- servers ---


class Hostile:
    """Listens, in threads of its own, while the `with` block lasts. `manner` may be changed meanwhile."""

    def __init__(self, manner, port=0):
        self.manner, self.requests, self.connections = manner, 0, 0
        self.lock, self.alarm = threading.RLock(), threading.Condition()
        self.timers, self.number, self.over, self.open = [], itertools.count(), False, []
        self.listener = socket.create_server(("127.0.0.1", port))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.accept, self.keep_time)]
        for thread in self.threads:
            thread.start()

    def accept(self):
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, accepted)
            with self.lock:
                self.connections += 1
                self.open.append(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def later(self, delay, action):
        with self.alarm:
            heapq.heappush(self.timers, (time.monotonic() + delay, next(self.number), action))
            self.alarm.notify()

    def due(self):
        """The next action, when its time has come; None at the end."""
        with self.alarm:
            while not self.over:
                wait = self.timers[0][0] - time.monotonic() if self.timers else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self.timers)[2]
                self.alarm.wait(wait)
        return None

    def keep_time(self):
        while action := self.due():
            try:
                action()
            except OSError:
                pass  # the caller is gone

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.alarm:
            self.over = True
            self.alarm.notify()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.open:
                connection.close()
        for thread in self.threads:
            thread.join()


class NeverAccepts:
    """Listens, but its queue of connections is full: the system drops what else would connect, so that no answer comes,
    not even a refusal."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.fillers = []
        while self.fill():
            pass

    def fill(self):
        """One connection more; False once it isn't taken."""
        filler = socket.socket()
        self.fillers.append(filler)
        filler.settimeout(0.5)
        try:
            filler.connect(self.listener.getsockname())
        except TimeoutError:
            return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for each in (*self.fillers, self.listener):
            each.close()
