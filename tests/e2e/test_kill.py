#!/usr/bin/env python3
"""Kills `neuron train` at any moment, and resumes it until it is done.

Whatever the moment: the run folder holds a whole checkpoint or none, --resume never fails once there is one, a fresh
start works while there is none, and the finished run equals, byte for byte, one that nobody disturbed.

NEURON is the program, KILLS the number of kill -9 (20), SEED chooses the moments.
"""
import array
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

NEURON = os.environ["NEURON"]
KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "1"))
STEPS, SAVE_EVERY, TRAIN_IMAGES, TEST_IMAGES = 60, 5, 210, 20
FILES = ("model.safetensors", "state.safetensors")
# The options of the run; a resumed one finds them in its own folder. 200 is no multiple of 16: epochs end in a partial batch.
OPTIONS = ["--batch", "16", "--train-range", "0:200", "--steps", str(STEPS), "--save-every", str(SAVE_EVERY),
           "--eval-every", "25", "--threads", "1", "--seed", "3", "--lr", "0.05"]
# Places that a save passes, and how often the first save and any later one do (file.write: at most).
FAILPOINTS = [("file.open", 3, 3), ("file.write", 48, 48), ("file.fsync", 6, 6), ("file.rename", 3, 3),
              ("checkpoint.link", 4, 1)]


def write_idx(path, dimensions, data):
    with open(path, "wb") as file:
        file.write(bytes((0, 0, 8, len(dimensions))) + struct.pack(f">{len(dimensions)}I", *dimensions) + data)


def make_data(folder):
    """Images of noise around one pattern a class: enough for losses to fall, and for every step to differ."""
    generator = random.Random(5)
    patterns = [generator.randbytes(28 * 28) for _ in range(10)]
    os.makedirs(os.path.join(folder, "mnist"))
    for name, count in (("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)):
        labels = bytes(generator.randrange(10) for _ in range(count))
        images = array.array("B")
        for label in labels:
            images.extend((a + b) // 2 for a, b in zip(patterns[label], generator.randbytes(28 * 28)))
        write_idx(os.path.join(folder, "mnist", name + "-images-idx3-ubyte"), (count, 28, 28), images.tobytes())
        write_idx(os.path.join(folder, "mnist", name + "-labels-idx1-ubyte"), (count,), labels)


def has_checkpoint(run):
    return os.path.islink(os.path.join(run, "current"))


def command(data, run):
    if has_checkpoint(run):
        return [NEURON, "train", "--quiet", "--out", run, "--resume"]
    return [NEURON, "train", "--quiet", "--out", run, "--data", data] + OPTIONS


def start(data, run, failpoint=None):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEURON_")}
    environment["XDG_CONFIG_HOME"] = run + ".config"
    if failpoint:
        environment["NEURON_FAILPOINTS"] = failpoint
    return subprocess.Popen(command(data, run), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def fail(text):
    sys.exit("FAILED: " + text)


def expect(process, status, what):
    output = process.communicate(timeout=300)[0].decode(errors="replace")
    if process.returncode != status:
        fail(f"{what}: exit status {process.returncode}, expected {status}\n{output}")
    return output


def read_safetensors(path):
    """Checks that the file is whole; returns its metadata."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    end = max(tensor["data_offsets"][1] for tensor in header.values())
    if os.path.getsize(path) != 8 + size + end:
        fail(f"{path} has {os.path.getsize(path)} bytes, its header says {8 + size + end}")
    return metadata


def saved_step(run):
    """Of the checkpoint, which must be whole; 0 where there is none."""
    if not has_checkpoint(run):
        return 0
    for name in FILES:
        metadata = read_safetensors(os.path.join(run, "current", name))
    with open(os.path.join(run, "current", "config.json"), encoding="utf-8") as file:
        json.load(file)
    return int(metadata["step"])


def compare(run, reference, what):
    for name in FILES:
        with open(os.path.join(run, name), "rb") as file:
            found = file.read()
        if found != reference[name]:
            fail(f"{name} of a run that was {what} differs from that of an undisturbed one")


def check_progress(run, before):
    step = saved_step(run)
    if step < before or (step != STEPS and step % SAVE_EVERY != 0):
        fail(f"the checkpoint is of step {step} after one of step {before}; expected multiples of {SAVE_EVERY}")
    return step


def wait_for_save(process, run, generator):
    """Returns a moment after a save has begun: a kill at any time would mostly fall between saves."""
    before = set(os.listdir(run)) if os.path.isdir(run) else set()
    while process.poll() is None:
        names = set(os.listdir(run)) if os.path.isdir(run) else set()
        if any(name.startswith("generation-") for name in names - before):
            break
        time.sleep(0.0002)
    time.sleep(generator.random() * 0.02)


def kill_somewhere(process, run, duration, generator):
    """True when the process was alive until then."""
    if generator.random() < 0.5:
        wait_for_save(process, run, generator)
    else:
        time.sleep(generator.random() * duration)
    process.kill()
    output = process.communicate()[0].decode(errors="replace")
    if process.returncode not in (0, -signal.SIGKILL):
        fail(f"before it was killed, the run ended with status {process.returncode}\n{output}")
    return process.returncode != 0


def test_kills(data, folder, reference, duration):
    generator = random.Random(SEED)
    kills = runs = 0
    while kills < KILLS:
        run, step, finished = os.path.join(folder, f"killed{runs}"), 0, False
        while not finished and kills < KILLS:
            alive = kill_somewhere(start(data, run), run, duration, generator)
            kills += alive
            finished = not alive
            step = check_progress(run, step)
        expect(start(data, run), 0, "resuming the killed run")
        compare(run, reference, "killed")
        runs += 1
    print(f"{kills} kills in {runs} runs, each run as if undisturbed")


def test_kills_inside_a_save(data, folder, reference):
    """Dies at each place of a save in turn: in the first one, and in a later one."""
    for name, first, later in FAILPOINTS:
        for hit in (1, 2, first, first + 1, first + later):
            run = os.path.join(folder, f"{name}{hit}")
            process = start(data, run, f"{name}=KILL@{hit}")
            process.communicate(timeout=300)
            if process.returncode not in (0, -signal.SIGKILL):
                fail(f"with {name}=KILL@{hit} the exit status is {process.returncode}")
            check_progress(run, 0)
            expect(start(data, run), 0, f"resuming after {name}=KILL@{hit}")
            compare(run, reference, f"killed at {name}, time {hit}")
    print("dying at each place of a save leaves the checkpoint before or after it")


def test_full_disk(data, folder, reference):
    """A save that fails ends the run with an error; what was saved before stays, and is resumed."""
    for name, first, later in FAILPOINTS:
        run, hit = os.path.join(folder, f"full-{name}"), first + later
        output = expect(start(data, run, f"{name}=ENOSPC@{hit}"), 1, f"a run with {name}=ENOSPC@{hit}")
        if "No space left" not in output:
            fail(f"{name}=ENOSPC: expected the reason, found: {output}")
        if check_progress(run, 0) == 0:
            fail(f"{name}=ENOSPC: the checkpoint before is gone")
        expect(start(data, run), 0, f"resuming after {name}=ENOSPC")
        compare(run, reference, f"out of space at {name}")
    print("a full disk is an error, and leaves the checkpoint before")


def test_stop_signals(data, folder, reference):
    """SIGTERM and SIGINT: saves where it is, exits with 0, and goes on from there."""
    for number in (signal.SIGTERM, signal.SIGINT):
        run = os.path.join(folder, f"stopped{int(number)}")
        process = start(data, run)
        while process.poll() is None and not has_checkpoint(run):
            time.sleep(0.001)
        process.send_signal(number)
        expect(process, 0, f"after {number.name}")
        step = saved_step(run)
        if not 0 < step < STEPS:
            fail(f"{number.name} stopped the run at step {step} of {STEPS}: expected one in between")
        expect(start(data, run), 0, f"resuming after {number.name}")
        compare(run, reference, f"stopped by {number.name}")
    print("SIGTERM and SIGINT save and exit, and the run goes on where it was")


def main():
    with tempfile.TemporaryDirectory() as folder:
        data, undisturbed = os.path.join(folder, "data"), os.path.join(folder, "undisturbed")
        make_data(data)
        begun = time.monotonic()
        expect(start(data, undisturbed), 0, "the undisturbed run")
        duration = time.monotonic() - begun
        reference = {}
        for name in FILES:
            with open(os.path.join(undisturbed, name), "rb") as file:
                reference[name] = file.read()
        if saved_step(undisturbed) != STEPS:
            fail(f"the undisturbed run ended at step {saved_step(undisturbed)}, expected {STEPS}")
        test_stop_signals(data, folder, reference)
        test_full_disk(data, folder, reference)
        test_kills_inside_a_save(data, folder, reference)
        test_kills(data, folder, reference, duration)


if __name__ == "__main__":
    main()
