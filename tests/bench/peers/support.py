"""What the comparisons over the network share: the peers' Python, servers in the background, our own program, and reports."""
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
PEERS = pathlib.Path(__file__).resolve().parent


def add_options(parser):
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser.add_argument("--neuron", default=str(ROOT / "build/release/neuron"), help="the program (default %(default)s)")
    parser.add_argument("--venv", default=os.path.join(cache, "neuron-bench/venv"),
                        help="the virtual environment of the peers, made if it isn't there (default %(default)s)")
    parser.add_argument("--python", help="an interpreter that has the peers' packages, in place of --venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement, after a fifth of it for warmth")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")


def has(python, modules):
    probe = "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(m) is None for m in sys.argv[1:]))"
    return subprocess.run([python, "-c", probe, *modules]).returncode == 0


def enter_python(arguments, packages):
    """Goes on with an interpreter that has these packages ({name to install: module}), made if need be."""
    if not os.access(arguments.neuron, os.X_OK):
        sys.exit(f"no program at {arguments.neuron}, expected --neuron PROGRAM")
    if all(importlib.util.find_spec(module) for module in packages.values()):
        return
    if os.environ.get("NEURON_BENCH_INSIDE") == "1":
        sys.exit(f"{sys.executable} lacks one of {', '.join(packages)}")
    python = arguments.python or str(pathlib.Path(arguments.venv) / "bin/python")
    if not arguments.python:
        if not os.path.exists(python):
            print(f"making {arguments.venv}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", arguments.venv], check=True)
        if not has(python, packages.values()):
            print(f"installing {', '.join(packages)} into {arguments.venv}", file=sys.stderr)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    os.execve(python, [python, *sys.argv], {**os.environ, "NEURON_BENCH_INSIDE": "1"})


def compile_messages(folder):
    """bittensor_pb2.py in a folder, for PYTHONPATH."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", "bittensor.proto"]
    subprocess.run(command, check=True)


class Server:
    """A process that says {"address": ...} in its first line when it is ready."""

    def __init__(self, command, environment=None):
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=environment)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(map(str, command))} didn't start: {self.process.communicate()[1]}")
        self.address = json.loads(line)["address"]

    def stop(self):
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def neuron_server(arguments, folder, *options):
    home = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return Server([arguments.neuron, "serve", "--listen", "127.0.0.1:0", "--json", *options], home)


def run_json(command, environment=None):
    """The JSON object of the last line that a command prints."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed: {done.stderr or done.stdout}")
    return json.loads(done.stdout.splitlines()[-1])


def neuron_bench(arguments, what, address, *options):
    event = run_json([arguments.neuron, "bench", what, "--connect", address, "--duration", f"{arguments.seconds}s", "--deadline", "60s",
                      "--json", "--quiet", *options])
    if event["failures"]:
        sys.exit(f"neuron bench {what}: {event['failures']} of the calls to {address} failed")
    return event


def medians(rounds):
    """Of the rounds' events, figure by figure."""
    return {key: statistics.median(r[key] for r in rounds) for key, value in rounds[0].items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and all(key in r for r in rounds)}


def verdict(rows, record, arguments):
    """Prints the ratios and the JSON line; the exit status."""
    print(f"{'what':<44}{'ours':>12}{'theirs':>12}{'ratio':>8}{'required':>10}")
    for row in rows:
        row["met"] = row["ratio"] >= row["required"]
        print(f"{row['what']:<44}{row['ours']:>12.1f}{row['theirs']:>12.1f}{row['ratio']:>8.2f}{row['required']:>10.2f}"
              f"{'' if row['met'] else '  BELOW'}")
    record = {"results": rows, **record}
    print(json.dumps(record))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")
    return 0 if all(row["met"] for row in rows) else 1
