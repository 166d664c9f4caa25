#!/usr/bin/env python3
"""Compares `neuron serve` with a Python gRPC server around PyTorch, and one around ONNX Runtime: the MNIST soma, batch 1.

    tests/bench/compare_serve.py

All have the same weights, and are loaded by the same client, `neuron bench serve --connect`, with 1 and with 64 clients on
loopback. The answers are compared before anything is timed. Of each Python server there are two, sync and aio; the better one
counts. Rounds alternate between all of them; a figure is the median over the rounds.

Required of ours: with 64 clients at least 3 times the calls a second of one client, and p99 at most 5 times p50; at least 10
times the calls a second of PyTorch's server and 5 times of ONNX Runtime's. Exit status 1: one of them isn't met. It needs
python3 with venv: what the peers need is installed into an environment of its own.
"""
import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import support

PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "onnx": "onnx", "numpy": "numpy", "grpcio": "grpc", "grpcio-tools": "grpc_tools"}
CLIENTS = (1, 64)
LIBRARIES = {"PyTorch": ("torch", 10), "ONNX Runtime": ("onnxruntime", 5)}


def start(arguments, folder, weights):
    support.compile_messages(folder)
    environment = {**os.environ, "PYTHONPATH": folder}
    servers = {"neuron": support.neuron_server(arguments, folder, "--soma", "mnist", "--load", weights)}
    for name, (library, _) in LIBRARIES.items():
        for kind in ("sync", "aio"):
            command = [sys.executable, support.PEERS / "serve_peer.py", weights, library, kind]
            servers[f"{name} {kind}"] = support.Server(command, environment)
    return servers


def compare_answers(servers, model, folder):
    """Ends the comparison when a server's answer isn't what eager PyTorch makes of the same image."""
    import grpc
    import numpy
    import torch
    sys.path.insert(0, folder)
    import bittensor_pb2
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(image).numpy()
    request = bittensor_pb2.TensorMessage(version="0.0.0", neuron_key="check", tensors=[bittensor_pb2.Tensor(
        version="0.0.0", buffer=image.numpy().tobytes(), shape=[1, 1, 1, 28, 28], dtype=bittensor_pb2.FLOAT32, modality=bittensor_pb2.IMAGE)])
    for name, server in servers.items():
        with grpc.insecure_channel(server.address) as channel:
            ask = channel.unary_unary("/Bittensor/Forward", bittensor_pb2.TensorMessage.SerializeToString,
                                      bittensor_pb2.TensorMessage.FromString)
            answer = numpy.frombuffer(ask(request, timeout=60).tensors[0].buffer, numpy.float32)
        difference = numpy.linalg.norm(answer - expected) / numpy.linalg.norm(expected)
        if not difference < 1e-5:
            sys.exit(f"the answer of {name} is off by {difference:.2g} of its norm")


def measure(arguments, servers):
    """{clients: {name: medians}}."""
    rounds = {clients: {name: [] for name in servers} for clients in CLIENTS}
    for number in range(arguments.rounds):
        print(f"\rround {number + 1} of {arguments.rounds}", end="", file=sys.stderr, flush=True)
        for clients in CLIENTS:
            for name, server in servers.items():
                event = support.neuron_bench(arguments, "serve", server.address, "--batch", "1", "--concurrency", str(clients))
                rounds[clients][name].append(event)
    print(file=sys.stderr)
    return {clients: {name: support.medians(r) for name, r in named.items()} for clients, named in rounds.items()}


def judge(figures):
    one, many = (figures[clients]["neuron"] for clients in CLIENTS)
    rows = [{"what": f"calls/s: {CLIENTS[1]} clients, one client", "ours": many["calls_per_second"], "theirs": one["calls_per_second"],
             "ratio": many["calls_per_second"] / one["calls_per_second"], "required": 3},
            {"what": f"5 x p50 and p99 in us: {CLIENTS[1]} clients", "ours": 5 * many["p50_us"], "theirs": many["p99_us"],
             "ratio": 5 * many["p50_us"] / many["p99_us"], "required": 1}]
    for name, (_, required) in LIBRARIES.items():
        case = {peer: m for peer, m in figures[CLIENTS[1]].items() if peer.startswith(name)}
        best = max(case, key=lambda peer: case[peer]["calls_per_second"])
        theirs = case[best]["calls_per_second"]
        rows.append({"what": f"calls/s: {CLIENTS[1]} clients, {best}", "ours": many["calls_per_second"], "theirs": theirs,
                     "ratio": many["calls_per_second"] / theirs, "required": required})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    support.add_options(parser)
    arguments = parser.parse_args()
    support.enter_python(arguments, PACKAGES)
    import serve_peer
    weights = serve_peer.make_weights()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.safetensors")
        serve_peer.write_weights(path, weights)
        servers = start(arguments, folder, path)
        try:
            compare_answers(servers, serve_peer.Hidden(weights), folder)
            figures = measure(arguments, servers)
        finally:
            for server in servers.values():
                server.stop()
    for clients, named in figures.items():
        for name, m in named.items():
            print(f"{clients} clients, {name}: {m['calls_per_second']:.1f} calls/s, p50 {m['p50_us']:.0f} us, p99 {m['p99_us']:.0f} us, "
                  f"p99.9 {m['p999_us']:.0f} us")
    sys.exit(support.verdict(judge(figures), {"figures": [{"clients": c, **named} for c, named in figures.items()]}, arguments))


if __name__ == "__main__":
    main()
