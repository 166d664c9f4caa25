#!/usr/bin/env python3
"""Compares what `neuron` gets over the wire with Python's gRPC (sync and aio) and the C++ library (callback API).

    tests/bench/compare_wire.py

Each has a server that sends a tensor back and a client of its own, on loopback, with the messages of proto/bittensor.proto:
4 KiB with 8 calls outstanding, and 16 MiB with 4. Ours (`neuron serve --soma echo --raw`, `neuron bench wire`) doubles and
checks every number besides; the peers send the bytes back as they came and look at their length only.

Rounds alternate between all of them; a figure is the median over the rounds. Exit status 1: a ratio is below the one required.
It needs python3 with venv (grpcio and grpcio-tools are installed into an environment of its own), and for the C++ peer g++,
libgrpc++-dev and protobuf-compiler-grpc: without them it is left out, and said so.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import support

PACKAGES = {"grpcio": "grpc", "grpcio-tools": "grpc_tools"}
CASES = ((4096, 8, "calls_per_second", {"Python": 10, "C++": 1.2}), (16 << 20, 4, "megabytes_per_second", {"Python": 8, "C++": 2.5}))


def build_cpp(folder):
    """The C++ peer's program; None when this machine can't build it."""
    plugin = shutil.which("grpc_cpp_plugin")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "grpc++", "protobuf"], capture_output=True, text=True)
    if not plugin or not shutil.which("protoc") or not shutil.which("g++") or flags.returncode != 0:
        print("the C++ peer is left out: it needs g++, libgrpc++-dev, protobuf-compiler and protobuf-compiler-grpc", file=sys.stderr)
        return None
    print("building the C++ peer", file=sys.stderr)
    subprocess.run(["protoc", f"-I{support.ROOT / 'proto'}", f"--cpp_out={folder}", f"--grpc_out={folder}",
                    f"--plugin=protoc-gen-grpc={plugin}", "bittensor.proto"], check=True)
    program = os.path.join(folder, "wire_peer")
    subprocess.run(["g++", "-O2", "-std=c++17", f"-I{folder}", str(support.PEERS / "wire_peer.cc"), f"{folder}/bittensor.pb.cc",
                    f"{folder}/bittensor.grpc.pb.cc", "-o", program, *flags.stdout.split()], check=True)
    return program


def start(arguments, folder):
    """{name: (server, run(bytes, outstanding))}."""
    support.compile_messages(folder)
    environment = {**os.environ, "PYTHONPATH": folder}
    script = [sys.executable, support.PEERS / "wire_peer.py"]
    seconds = str(arguments.seconds)
    contenders = {}

    def add(name, server, run):
        contenders[name] = (server, lambda size, outstanding: run(server.address, str(size), str(outstanding)))

    add("neuron", support.neuron_server(arguments, folder, "--soma", "echo", "--raw"),
        lambda address, size, outstanding: support.neuron_bench(arguments, "wire", address, "--size", size, "--concurrency", outstanding))
    for kind in ("sync", "aio"):
        add(f"Python {kind}", support.Server([*script, "server", kind], environment),
            lambda address, size, outstanding, kind=kind: support.run_json([*script, "client", kind, address, size, outstanding, seconds],
                                                                           environment))
    program = build_cpp(folder)
    if program:
        add("C++", support.Server([program, "server"]),
            lambda address, size, outstanding: support.run_json([program, "client", address, size, outstanding, seconds]))
    return contenders


def measure(arguments, contenders):
    """{(bytes, outstanding): {name: medians}}."""
    figures = {}
    for size, outstanding, _, _ in CASES:
        rounds = {name: [] for name in contenders}
        for number in range(arguments.rounds):
            print(f"\r{size} bytes, round {number + 1} of {arguments.rounds}", end="", file=sys.stderr, flush=True)
            for name, (_, run) in contenders.items():
                rounds[name].append(run(size, outstanding))
        print(file=sys.stderr)
        figures[size, outstanding] = {name: support.medians(r) for name, r in rounds.items()}
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    support.add_options(parser)
    arguments = parser.parse_args()
    support.enter_python(arguments, PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        contenders = start(arguments, folder)
        try:
            figures = measure(arguments, contenders)
        finally:
            for server, _ in contenders.values():
                server.stop()
    rows = []
    for size, outstanding, key, required in CASES:
        case = figures[size, outstanding]
        for name, medians in case.items():
            print(f"{size} bytes, {outstanding} outstanding, {name}: {medians['calls_per_second']:.1f} calls/s, "
                  f"{medians['megabytes_per_second']:.1f} MB/s, p50 {medians['p50_us']:.0f} us, p99 {medians['p99_us']:.0f} us")
        for language, ratio in required.items():
            peers = [name for name in case if name.startswith(language)]
            if not peers:
                continue
            best = max(peers, key=lambda name: case[name][key])
            ours, theirs = case["neuron"][key], case[best][key]
            if theirs == 0:
                sys.exit(f"{best} answered nothing within --seconds {arguments.seconds} at {size} bytes, expected longer ones")
            rows.append({"what": f"{size} bytes, {outstanding} outstanding, {best}", "figure": key, "ours": ours, "theirs": theirs,
                         "ratio": ours / theirs, "required": ratio})
    record = {"figures": [{"bytes": size, "outstanding": n, **case} for (size, n), case in figures.items()]}
    sys.exit(support.verdict(rows, record, arguments))


if __name__ == "__main__":
    main()
