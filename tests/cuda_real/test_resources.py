#!/usr/bin/env python3
"""kernels/resources.txt is what ptxas says of the kernels, none of which spills; and scripts/cuda-resources.py reckons
occupancy as NVIDIA's own header does. Skipped where there is no nvcc."""
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "scripts", "cuda-resources.py")
specification = importlib.util.spec_from_file_location("cuda_resources", SCRIPT)
resources = importlib.util.module_from_spec(specification)
specification.loader.exec_module(resources)

# Of the A100, the H100 and the B200: compute capability; kilobytes of shared memory of a multiprocessor and a block.
DEVICES = {80: (8, 0, 164, 163), 90: (9, 0, 228, 227), 100: (10, 0, 228, 227)}
REGISTERS, SHARED, BLOCKS = range(16, 256), (0, 1, 1000, 4096, 20000, 49152), (32, 64, 96, 256, 512, 1024)

# Prints the blocks that a multiprocessor holds, for all of these in order.
REFERENCE = """
#include <cuda_occupancy.h>
#include <cstdio>
int main()
{
    const int devices[][4] = {%s}, shared[] = {%s}, blocks[] = {%s};
    for (auto &d : devices) {
        cudaOccDeviceProp device;
        device.computeMajor = d[0], device.computeMinor = d[1];
        device.maxThreadsPerBlock = 1024, device.maxThreadsPerMultiprocessor = 2048, device.warpSize = 32;
        device.numSms = 1;
        device.regsPerBlock = device.regsPerMultiprocessor = 65536;
        device.sharedMemPerBlock = 48 * 1024, device.sharedMemPerMultiprocessor = (size_t)d[2] * 1024;
        device.sharedMemPerBlockOptin = (size_t)d[3] * 1024, device.reservedSharedMemPerBlock = 1024;
        for (int registers = %d; registers < %d; registers++)
            for (int bytes : shared)
                for (int block : blocks) {
                    cudaOccFuncAttributes function;
                    function.maxThreadsPerBlock = 1024, function.numRegs = registers;
                    function.sharedSizeBytes = (size_t)bytes, function.numBlockBarriers = 1;
                    cudaOccDeviceState state;
                    cudaOccResult result;
                    const auto error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &function, &state, block, 0);
                    std::printf("%%d\\n", error == CUDA_OCC_SUCCESS ? result.activeBlocksPerMultiprocessor : -(int)error);
                }
    }
}
"""


@unittest.skipUnless(resources.find_nvcc(), "skipped: no nvcc")
class Resources(unittest.TestCase):
    def test_the_table_is_current_and_nothing_spills(self):
        done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        print(done.stdout, end="")

    def test_occupancy_is_nvidias(self):
        include = os.path.join(os.path.dirname(os.path.realpath(resources.find_nvcc())), "..", "include")
        if not os.path.exists(os.path.join(include, "cuda_occupancy.h")):
            self.skipTest(f"no cuda_occupancy.h in {include}")
        joined = lambda values: ", ".join(map(str, values))
        source = REFERENCE % (joined("{%s}" % joined(device) for device in DEVICES.values()), joined(SHARED),
                              joined(BLOCKS), REGISTERS.start, REGISTERS.stop)
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "occupancy")
            subprocess.run(["g++", "-w", "-I" + include, "-x", "c++", "-o", program, "-"], input=source, text=True, check=True)
            said = iter(map(int, subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()))
        for sm in DEVICES:
            for registers in REGISTERS:
                for shared in SHARED:
                    for block in BLOCKS:
                        self.assertEqual(resources.blocks_at_once(sm, registers, shared, block), next(said),
                                         f"sm_{sm}, {registers} registers, {shared} bytes, {block} threads")
        self.assertIsNone(next(said, None))

    def test_a_name_is_the_kernels_own(self):
        names = {"_Z10map_kernelIf6__half4ReluEvPKT_PT0_llT1_": "map_kernel<float, __half, Relu>",
                 "_Z11clip_kernelPKfPfdd": "clip_kernel"}
        self.assertEqual(resources.plain_names(list(names)), names)

    def test_shared_bytes_are_those_of_the_launch(self):
        source = ("LAUNCH((row_kernel<T, true>), f(n, 2), BLOCK, sizeof(Row), stream, x, y);\n"
                  "const size_t shared = WARPS * sizeof(float);\n"
                  "LAUNCH(sum_kernel, 1, threads, shared, stream);")
        self.assertEqual(resources.launches(source), [("row_kernel<.+, true>", "sizeof(Row)"),
                                                      ("sum_kernel", "WARPS * sizeof(float)")])
        ptx = "".join(f".global .align 1 .b8 _ZN6block{threads}7launch{index}E[{size}];\n" for threads, index, size in
                      ((0, 0, 385), (0, 1, 1), (1, 0, 385), (1, 1, 5)))
        shared_of = resources.read_probe(ptx, [("row_kernel<.+, true>", ""), ("sum_kernel", "")])
        self.assertEqual((shared_of("row_kernel<float, true>", 256), shared_of("sum_kernel", 256)), (384, 1024))

    def test_a_spill_is_seen(self):
        said = ("ptxas info    : Compiling entry function '_Z1kPf' for 'sm_90'\n"
                "ptxas info    : Function properties for _Z1kPf\n"
                "    24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
                "ptxas info    : Used 40 registers, used 1 barriers, 24 bytes cumulative stack size, 96 bytes smem\n")
        [kernel] = resources.parse("k.cu", said, {90: {"_Z1kPf": 512}}, lambda name, block: 4 * block)
        self.assertEqual(kernel, resources.Kernel("k.cu", "k", 90, 40, 96 + 2048, 24, 20, 512))
        self.assertEqual(resources.occupancy(kernel), 75)
        self.assertTrue(re.search(r"^k +90 +40 +2144 +24 +20 +512 +75 %$", resources.table([kernel], "13.0"), re.MULTILINE))


if __name__ == "__main__":
    unittest.main()
