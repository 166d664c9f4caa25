#!/usr/bin/env python3
"""Deletes each __syncthreads of the kernels in turn: some test must fail, else the barrier is needless or untested.

The kernels are compiled for the CPU, with every access traced (simt_trace.cpp). A mutant is one file compiled again and
one test linked again, so a barrier costs seconds. Where a header has the barrier, the first kernel file whose code it
changes is enough. Prints one line a barrier; exit status 1 when one survives.

  mutate.py --kernels kernels --work /tmp/mutants --compile 'clang++ -O1 -fsanitize=thread ... -c' \\
            --link 'clang++ {objects} simt.o ... libbackend.a' test_kernels_loss.o test_kernels_update.o ...

--compile: a command that takes '-x c++ FILE -o OBJECT' behind it; --link: one with {objects} in it, which takes
'-o PROGRAM' behind it. The tests are objects with a main; each runs with the kernels whose launchers it calls.
"""
import argparse
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

BARRIER = re.compile(r"\b__syncthreads(?:_\w+)?\s*\(")
LAUNCHER = re.compile(r"^cudaError_t (kernel_\w+)\(", re.MULTILINE)
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"', re.MULTILINE)


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = pathlib.Path(options.work)
        self.sources = sorted(pathlib.Path(options.kernels).glob("*.cu"))
        self.headers = sorted(pathlib.Path(options.kernels).glob("*.cuh"))
        self.objects = {}  # of the kernels as they are

    def compile(self, source, target):
        command = shlex.split(self.options.compile) + ["-x", "c++", str(source), "-o", str(target)]
        subprocess.run(command, check=True)

    def prepare(self):
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / "mutant").mkdir(parents=True)
        for file in self.copies():
            shutil.copy(file, self.work / "mutant" / file.name)
        for source in self.sources:
            self.objects[source.name] = self.work / (source.name + ".o")
            # Compiled in the mutants' place, so that objects differ by what was deleted alone.
            self.compile(self.work / "mutant" / source.name, self.objects[source.name])

    def copies(self):
        return self.sources + self.headers + sorted(pathlib.Path(self.options.kernels).glob("*.h"))

    def tests_of(self, source):
        launchers = [name.encode() for name in LAUNCHER.findall(source.read_text())]
        return [test for test in self.options.tests
                if any(re.search(name + rb"\0", pathlib.Path(test).read_bytes()) for name in launchers)]

    def run(self, test, objects):
        """Whether the test passes with these kernels."""
        program = self.work / "test"
        link = self.options.link.replace("{objects}", shlex.join([test] + [str(one) for one in objects.values()]))
        subprocess.run(shlex.split(link) + ["-o", str(program)], check=True)
        try:
            done = subprocess.run([str(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        except subprocess.TimeoutExpired:
            return False, "no end after 600 s"
        return done.returncode == 0, (done.stdout.decode(errors="replace").strip().splitlines() or [""])[-1]

    def includes(self, file):
        """The headers that a file includes, directly or not."""
        found = set()
        todo = [file]
        while todo:
            for name in INCLUDE.findall(todo.pop().read_text()):
                if name not in found:
                    found.add(name)
                    todo.append(pathlib.Path(self.options.kernels) / name)
        return found

    def affected(self, file):
        if file.suffix == ".cu":
            return [file]
        users = [source for source in self.sources if file.name in self.includes(source)]
        return sorted(users, key=lambda source: source.stat().st_size)

    def kill(self, file, number):
        """The sentence of a test that fails without the barrier in line `number`; None: all pass."""
        lines = file.read_text().splitlines(keepends=True)
        lines[number] = re.sub(BARRIER.pattern + r"[^;]*;", ";", lines[number])
        copy = self.work / "mutant" / file.name
        copy.write_text("".join(lines))
        try:
            for source in self.affected(file):
                mutant = self.work / "mutant.o"
                self.compile(self.work / "mutant" / source.name, mutant)
                if mutant.read_bytes() == self.objects[source.name].read_bytes():
                    continue
                for test in self.tests_of(source):
                    passes, sentence = self.run(test, {**self.objects, source.name: mutant})
                    if not passes:
                        return f"{source.name}: {sentence}"
            return None
        finally:
            shutil.copy(file, copy)


def barriers(file):
    return [number for number, line in enumerate(file.read_text().splitlines())
            if BARRIER.search(line.split("//")[0].split("/*")[0])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", required=True, help="folder with .cu and .cuh files")
    parser.add_argument("--work", required=True, help="folder for mutants; emptied first")
    parser.add_argument("--compile", required=True)
    parser.add_argument("--link", required=True)
    parser.add_argument("tests", nargs="+", help="objects of tests")
    bench = Bench(parser.parse_args())
    bench.prepare()
    sites = [(file, number) for file in bench.sources + bench.headers for number in barriers(file)]
    if not sites:
        sys.exit(f"mutate: no __syncthreads in {bench.options.kernels}")
    users = {source for file, _ in sites for source in bench.affected(file)}
    for test in sorted({test for source in users for test in bench.tests_of(source)}):
        passes, sentence = bench.run(test, bench.objects)
        if not passes:
            sys.exit(f"mutate: {test} fails as it is: {sentence}")
    survivors = 0
    for file, number in sites:
        sentence = bench.kill(file, number)
        survivors += sentence is None
        print(f"{file.name}:{number + 1}: " + (f"caught ({sentence})" if sentence else "SURVIVES"), flush=True)
    print(f"{len(sites)} barriers, {survivors} needless or untested")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
