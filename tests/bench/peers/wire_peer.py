"""Python's gRPC as an echo server and its client, with the messages of proto/bittensor.proto (PYTHONPATH: bittensor_pb2).

    wire_peer.py server sync|aio
    wire_peer.py client sync|aio ADDRESS BYTES OUTSTANDING SECONDS
"""
import asyncio
import json
import queue
import signal
import sys
import threading
import time
from concurrent import futures

import bittensor_pb2
import grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
METHOD = "/Bittensor/Forward"
ENCODE, DECODE = bittensor_pb2.TensorMessage.SerializeToString, bittensor_pb2.TensorMessage.FromString


def message(payload):
    tensor = bittensor_pb2.Tensor(version="0.0.0", buffer=payload, shape=[1, 1, len(payload) // 4], dtype=bittensor_pb2.FLOAT32)
    return bittensor_pb2.TensorMessage(version="0.0.0", neuron_key="neuron", synapse_key="echo", tensors=[tensor])


def answer(request, context):
    return message(request.tensors[0].buffer)


async def answer_aio(request, context):
    return message(request.tensors[0].buffer)


def handlers(function):
    method = grpc.unary_unary_rpc_method_handler(function, DECODE, ENCODE)
    return (grpc.method_handlers_generic_handler("Bittensor", {"Forward": method}),)


def say(port):
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)


def serve_sync(function=answer, workers=8):
    server = grpc.server(futures.ThreadPoolExecutor(workers), options=UNLIMITED)
    server.add_generic_rpc_handlers(handlers(function))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    say(port)
    over.wait()
    server.stop(0)


async def serve_aio(function=answer_aio):
    server = grpc.aio.server(options=UNLIMITED)
    server.add_generic_rpc_handlers(handlers(function))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    say(port)
    await over.wait()
    await server.stop(0)


class Watch:
    """Counts answers from the end of the first fifth on."""

    def __init__(self, size, seconds):
        self.size, self.begin = size, time.perf_counter()
        self.warm, self.end = self.begin + seconds / 5, self.begin + seconds * 6 / 5
        self.first = self.last = self.warm
        self.latencies = []

    def over(self):
        return time.perf_counter() >= self.end

    def count(self, sent, reply):
        now = time.perf_counter()
        assert len(reply.tensors[0].buffer) == self.size
        if now < self.warm:
            self.first = now
        elif now < self.end:
            self.last = now
            self.latencies.append(now - sent)

    def report(self):
        calls, seconds = len(self.latencies), self.last - self.first
        rate = calls / seconds if seconds > 0 else 0
        self.latencies.sort()
        return {"calls": calls, "calls_per_second": rate, "megabytes_per_second": 1e-6 * self.size * rate,
                "p50_us": 1e6 * self.latencies[calls // 2] if calls else 0,
                "p99_us": 1e6 * self.latencies[calls * 99 // 100] if calls else 0}


def ask_sync(address, payload, outstanding, watch):
    answered = queue.SimpleQueue()
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        forward = channel.unary_unary(METHOD, ENCODE, DECODE)

        def send():
            sent = time.perf_counter()
            forward.future(message(payload)).add_done_callback(lambda reply: answered.put((sent, reply)))

        for _ in range(outstanding):
            send()
        while outstanding:
            sent, reply = answered.get()
            watch.count(sent, reply.result())
            if watch.over():
                outstanding -= 1
            else:
                send()


async def ask_aio(address, payload, outstanding, watch):
    async with grpc.aio.insecure_channel(address, options=UNLIMITED) as channel:
        forward = channel.unary_unary(METHOD, ENCODE, DECODE)

        async def client():
            while not watch.over():
                sent = time.perf_counter()
                watch.count(sent, await forward(message(payload)))

        await asyncio.gather(*[client() for _ in range(outstanding)])


def main():
    role, kind = sys.argv[1:3]
    if role == "server":
        return serve_sync() if kind == "sync" else asyncio.run(serve_aio())
    address, size, outstanding, seconds = sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    watch = Watch(size, seconds)
    if kind == "sync":
        ask_sync(address, bytes(size), outstanding, watch)
    else:
        asyncio.run(ask_aio(address, bytes(size), outstanding, watch))
    print(json.dumps(watch.report()))


if __name__ == "__main__":
    main()
