#!/usr/bin/env python3
"""What each kernel takes of a multiprocessor: registers, shared memory, stack, spills, and the occupancy that follows.

  scripts/cuda-resources.py           compiles kernels/*.cu and writes kernels/resources.txt
  scripts/cuda-resources.py --check   compiles them and compares

Either way a spill is a failure: registers that don't fit go to memory, which no kernel here needs. Numbers are ptxas'
own, so a table is compared only where nvcc is of the version that it was made with; elsewhere only spills are looked
for. Needs no GPU."""
import argparse
import collections
import concurrent.futures
import difflib
import glob
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "kernels", "resources.txt")

# A multiprocessor's limits (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"). Of shared
# memory the driver takes 1 KiB a block for itself. Registers are given to warps, from the quarter of the file that
# belongs to the warp's scheduler.
Limits = collections.namedtuple("Limits", "shared_bytes")
ARCHITECTURES = {80: Limits(164 * 1024), 90: Limits(228 * 1024), 100: Limits(228 * 1024)}
WARP, WARPS, BLOCKS, REGISTERS, SCHEDULERS, LARGEST_BLOCK = 32, 64, 32, 65536, 4, 1024
REGISTER_UNIT, SHARED_UNIT, SHARED_RESERVED = 256, 128, 1024

Kernel = collections.namedtuple("Kernel", "file name sm registers shared stack spill block")


def round_up(value, unit):
    return -(-value // unit) * unit


def blocks_at_once(sm, registers, shared, block):
    """Blocks of so many threads that a multiprocessor holds at once; `registers` of a thread, `shared` bytes of a block."""
    warps = -(-block // WARP)
    of_a_warp = round_up(registers * WARP, REGISTER_UNIT)
    return min(BLOCKS, WARPS // warps, REGISTERS // SCHEDULERS // of_a_warp * SCHEDULERS // warps,
               ARCHITECTURES[sm].shared_bytes // round_up(shared + SHARED_RESERVED, SHARED_UNIT))


def occupancy(kernel):
    """Percent of the warps that a multiprocessor could hold."""
    blocks = blocks_at_once(kernel.sm, kernel.registers, kernel.shared, kernel.block)
    return 100 * blocks * -(-kernel.block // WARP) / WARPS


# --- what nvcc says ---


def find_nvcc():
    for nvcc in (os.environ.get("NEURON_NVCC"), shutil.which("nvcc"), os.path.join(ROOT, "build/cuda/bin/nvcc"),
                 "/usr/local/cuda/bin/nvcc"):
        if nvcc and os.access(nvcc, os.X_OK):
            return nvcc
    return None


def version_of(nvcc):
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release (\d+\.\d+)", said)[1]


def plain_names(mangled):
    """Without the result and the parameters: reduce_kernel<float, 4>."""
    said = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    names = {}
    for symbol, name in zip(mangled, said.splitlines()):
        depth, name = 0, name.replace("(anonymous namespace)::", "")
        for at, letter in enumerate(name):
            depth += (letter == "<") - (letter == ">")
            if letter == "(" and depth == 0:
                name = name[:at]
                break
        names[symbol] = name.removeprefix("void ").replace("> >", ">>")
    return names


def block_sizes(ptx):
    """Of each kernel in this text, by mangled name: the threads of __launch_bounds__; where it has none any block may
    come, which is what ptxas reckons with too."""
    sizes = {}
    for name, directives in re.findall(r"\.entry (\w+)\([^)]*\)([^{]*)\{", ptx):
        bound = re.search(r"\.maxntid ([\d, ]+)", directives)
        sizes[name] = math.prod(map(int, bound[1].split(","))) if bound else LARGEST_BLOCK
    return sizes


def parse(file, said, sizes, shared_of):
    """Kernels out of ptxas' report; `sizes` of blocks by architecture and mangled name; shared_of(name, block) is what a
    launch adds."""
    found = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
        said, re.DOTALL)
    names = plain_names(sorted({entry[0] for entry in found}))
    kernels = []
    for symbol, sm, stack, stores, loads, registers, rest in found:
        static = re.search(r"(\d+) bytes smem", rest)
        name, block = names[symbol], sizes[int(sm)][symbol]
        shared = (int(static[1]) if static else 0) + shared_of(name, block)
        kernels.append(Kernel(file, name, int(sm), int(registers), shared, int(stack), int(stores) + int(loads), block))
    return kernels


# --- dynamic shared memory, which only the launches know ---


def arguments(text, at):
    """The arguments of a call, from behind its opening bracket."""
    found, depth, start = [], 0, at
    while True:
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth < 0 or (depth == 0 and text[at] == ","):
            found.append(text[start:at].strip())
            start = at + 1
        if depth < 0:
            return found
        at += 1


def launches(source):
    """Of each LAUNCH: a pattern for the names of the kernels, and the expression that is its shared bytes. That is made of
    constants, and `threads` of a block; or it is a variable that is."""
    found = []
    for call in re.finditer(r"\bLAUNCH\(", source):
        kernel, _, _, shared = arguments(source, call.end())[:4]
        while kernel.startswith("("):
            kernel = kernel[1:-1]
        name, _, template = kernel.partition("<")
        parts = [re.escape(part) if re.fullmatch(r"true|false|\d+", part) else ".+"
                 for part in re.split(r",\s*", template.rstrip(">")) if part]
        meanings = re.findall(rf"\bsize_t {re.escape(shared)} = ([^;]+);", source[:call.start()])
        found.append((name.strip() + ("<" + ", ".join(parts) + ">" if parts else ""), meanings[-1] if meanings else shared))
    return found


def write_probe(path, kernels, found):
    """A source file with all of another, and for each launch two variables whose sizes tell its shared bytes, one more than
    they are: for a block of no thread and of one, between which they grow evenly."""
    with open(path, "w") as file:
        file.write(f'#include "{kernels}"\n')
        for threads in (0, 1):
            file.write(f"namespace block{threads} {{ constexpr int threads = {threads};\n")
            for index, (_, shared) in enumerate(found):
                file.write(f"__device__ char launch{index}[1 + ({shared})];\n")
            file.write("}\n")


def read_probe(ptx, found):
    """shared_of(name, block) of the launches that the probe was written for."""
    def size(threads, index):
        variable = f"launch{index}"
        return int(re.search(rf"_ZN6block{threads}{len(variable)}{variable}E\[(\d+)\]", ptx)[1]) - 1

    sizes = [(pattern, size(0, index), size(1, index)) for index, (pattern, _) in enumerate(found)]

    def shared_of(name, block):
        fitting = [none + (one - none) * block for pattern, none, one in sizes if re.fullmatch(pattern, name)]
        if not fitting:
            sys.exit(f"no LAUNCH of {name} is in its file")
        return max(fitting)

    return shared_of


def measure(nvcc, path):
    """The kernels of one file. What nvcc refuses ends the program, with what it said."""
    with open(path) as file:
        found = launches(file.read())
    with tempfile.TemporaryDirectory() as folder:
        probe = os.path.join(folder, os.path.basename(path))
        write_probe(probe, path, found)
        code = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in ARCHITECTURES]
        done = subprocess.run(
            [nvcc, "-std=c++17", "-O3", "-lineinfo", "-fatbin", *code, "-Xptxas", "-v", "-I" + os.path.join(ROOT, "src"),
             "-I" + ROOT, "--keep", "--keep-dir", folder, "-o", os.path.join(folder, "kernels.fatbin"), probe],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"nvcc cannot compile {path}, or not what its launches have for shared bytes:\n{done.stdout}")
        sizes = {}
        for sm in ARCHITECTURES:
            [ptx] = glob.glob(os.path.join(folder, f"*.compute_{sm}.ptx"))
            with open(ptx) as file:
                text = file.read()
            sizes[sm] = block_sizes(text)
        kernels = parse(os.path.basename(path), done.stdout, sizes, read_probe(text, found))
        if len(kernels) != sum(len(of_one) for of_one in sizes.values()):
            sys.exit(f"{path} has kernels that ptxas says nothing of; does this program still read its report?")
        return kernels


# --- the table ---


def table(kernels, version):
    heads = ("kernel", "sm", "registers", "shared", "stack", "spill", "block", "occupancy")
    rows = [(kernel.name, str(kernel.sm), str(kernel.registers), str(kernel.shared), str(kernel.stack),
             str(kernel.spill), str(kernel.block), f"{occupancy(kernel):.0f} %") for kernel in kernels]
    # One width for all names, so that a new kernel changes no other line; a longer one stands out.
    widths = [64] + [max(len(row[i]) for row in [heads, *rows]) for i in range(1, len(heads))]
    lines = [f"# nvcc {version}: registers of a thread; bytes of shared memory of a block, and of stack and spills of a "
             "thread;",
             "# threads of the largest block; occupancy with it. By scripts/cuda-resources.py."]
    file = None
    for kernel, row in [(None, heads), *zip(kernels, rows)]:
        if kernel and kernel.file != file:
            file = kernel.file
            lines += ["", file]
        lines.append("  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]))
    return "\n".join(lines) + "\n"


def compare(made, version):
    """Says how the kept table differs. True where it doesn't, or where it was made by another nvcc."""
    if not os.path.exists(TABLE):
        print(f"{TABLE} is missing; scripts/cuda-resources.py makes it")
        return False
    with open(TABLE) as file:
        kept = file.read()
    by = re.match(r"# nvcc (\d+\.\d+):", kept)
    if by and by[1] != version:
        print(f"skipped the comparison: the table was made with nvcc {by[1]}, and this is {version}")
        return True
    difference = list(difflib.unified_diff(kept.splitlines(), made.splitlines(), "kept", "now", n=0, lineterm=""))
    if difference:
        print("kernels/resources.txt isn't what ptxas says; scripts/cuda-resources.py writes it anew", *difference, sep="\n")
    return not difference


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with kernels/resources.txt and leave it as it is")
    options = parser.parse_args()
    nvcc = find_nvcc()
    if not nvcc:
        sys.exit("no nvcc: scripts/setup.sh --cuda installs one")
    version = version_of(nvcc)
    paths = sorted(glob.glob(os.path.join(ROOT, "kernels", "*.cu")))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        kernels = [kernel for found in pool.map(lambda path: measure(nvcc, path), paths) for kernel in found]
    kernels.sort(key=lambda kernel: (kernel.file, kernel.name, kernel.sm))
    made = table(kernels, version)
    spilled = [kernel for kernel in kernels if kernel.spill]
    for kernel in spilled:
        print(f"{kernel.name} in {kernel.file} spills {kernel.spill} bytes on sm_{kernel.sm}, expected none")
    if spilled:
        print("(ptxas spills for the sake of occupancy: __launch_bounds__(threads, 1) lets a kernel have more registers)")
    if options.check:
        well = compare(made, version)
    else:
        with open(TABLE, "w") as file:
            file.write(made)
        well = True
        print(f"{len(kernels) // len(ARCHITECTURES)} kernels of {len(paths)} files, for sm_"
              + ", sm_".join(str(sm) for sm in ARCHITECTURES))
    sys.exit(0 if well and not spilled else 1)


if __name__ == "__main__":
    main()
