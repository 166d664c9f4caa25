// What the tracing build sees in kernels (simt_trace.cpp): races, unset memory, exact bounds; and that it doesn't
// complain about kernels that keep the rules. Linked with rule_kernels.cu compiled by clang++ -fsanitize=thread.
#include <check.h>
#include <cuda_runtime_api.h>

#include <cstdlib>

extern "C" {
#include "support/suite.h"
}

#include "on_device.h"
#include "rule_kernels.h"
#include "violation.h"

constexpr int COUNT = 64;
constexpr size_t BYTES = COUNT * sizeof(float);

static void run(const char *kernel)
{
    float *x = device_zeros(COUNT);
    OK(rule_kernel(kernel, x, nullptr));
    OK(cudaDeviceSynchronize());
}

static void sum(bool fenced)
{
    constexpr int N = 1000, BLOCKS = 16;
    float *x = device_zeros(N), *parts = device_zeros(BLOCKS), *counter = device_zeros(1), *total = device_zeros(1);
    for (int i = 0; i < 2; i++)
        OK(rule_sum(x, parts, reinterpret_cast<unsigned *>(counter), total, N, fenced, nullptr));
    OK(cudaDeviceSynchronize());
}

START_TEST(test_what_keeps_the_rules_is_left_alone)
{
    for (const char *order : {"fwd", "rev", "rand:1", "rand:2"}) {
        setenv("SIM_THREADS", order, 1);
        for (const char *kernel :
             {"reversed", "reversed_dynamic", "reversed_by_warp", "all_counts", "copied", "by_table", "by_vector"})
            run(kernel);
        sum(true);
    }
}
END_TEST

START_TEST(test_races_in_shared_memory)
{
    setenv("SIM_THREADS", "rev", 1);
    ASSERT_VIOLATION("kernel no_second_barrier: race: reads P, which thread 32 of block 0 writes, and nothing puts "
                     "one before the other at rule_kernels.cu:L [block 0,0,0 thread 31,0,0]",
                     run("no_second_barrier"));
    setenv("SIM_THREADS", "fwd", 1);
    ASSERT_VIOLATION("kernel no_barrier: reads 4 bytes at P that nothing has written at rule_kernels.cu:L "
                     "[block 0,0,0 thread 0,0,0]",
                     run("no_barrier"));
    ASSERT_VIOLATION("kernel no_warp_barrier: reads 4 bytes at P that nothing has written at rule_kernels.cu:L "
                     "[block 0,0,0 thread 0,0,0]",
                     run("no_warp_barrier"));
}
END_TEST

START_TEST(test_races_in_global_memory)
{
    ASSERT_VIOLATION("kernel all_write_one: race: writes P, which thread 0 of block 0 writes, and nothing puts one "
                     "before the other at rule_kernels.cu:L [block 0,0,0 thread 1,0,0]",
                     run("all_write_one"));
    ASSERT_VIOLATION("kernel sum_blocks<false>: race: reads P, which thread 0 of block 0 writes, and nothing puts one "
                     "before the other at rule_kernels.cu:L [block 15,0,0 thread 63,0,0]",
                     sum(false));
}
END_TEST

// The launches alone don't show it: their pointers differ, and how far they reach is known when they run.
START_TEST(test_races_between_streams)
{
    float *x = device_zeros(COUNT), *y = device_zeros(2 * COUNT);
    const cudaStream_t a = stream_make(), b = stream_make();
    const auto two_launches = [&](bool ordered) {
        OK(rule_axpy(1.0f, x, y, COUNT, a));
        if (ordered) stream_follow(b, a);
        OK(rule_axpy(1.0f, x, y + COUNT / 2, COUNT, b));
        OK(cudaDeviceSynchronize());
    };
    two_launches(true);
    ASSERT_VIOLATION("kernel axpy: race: reads P, which kernel axpy writes, and nothing puts one before the other at "
                     "rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     two_launches(false));
}
END_TEST

// The same in a graph: two branches of it.
START_TEST(test_races_inside_a_graph)
{
    float *x = device_zeros(COUNT), *y = device_zeros(2 * COUNT);
    const cudaStream_t a = stream_make(), b = stream_make();
    const auto two_branches = [&](int overlap) {
        OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal));
        stream_follow(b, a);
        OK(rule_axpy(1.0f, x, y, COUNT, a));
        OK(rule_axpy(1.0f, x, y + COUNT - overlap, COUNT, b));
        stream_follow(a, b);
        OK(rule_axpy(1.0f, y, x, COUNT, a));
        const cudaGraphExec_t exec = capture_end(a);
        OK(cudaGraphLaunch(exec, a));
        OK(cudaGraphLaunch(exec, a));
        OK(cudaStreamSynchronize(a));
    };
    two_branches(0);
    ASSERT_VIOLATION("kernel axpy: race: reads P, which kernel axpy writes, and nothing puts one before the other at "
                     "rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     two_branches(1));
}
END_TEST

START_TEST(test_unset_memory)
{
    float *x = static_cast<float *>(device_memory(nullptr, BYTES)), *y = device_zeros(COUNT);
    ASSERT_VIOLATION("kernel axpy: reads 4 bytes at P that nothing has written at rule_kernels.cu:L [block 0,0,0 "
                     "thread 0,0,0]",
                     {
                         rule_axpy(1.0f, x, y, COUNT, nullptr);
                         cudaDeviceSynchronize();
                     });
    ASSERT_VIOLATION("kernel unset_shared: reads 4 bytes at P that nothing has written at rule_kernels.cu:L [block "
                     "0,0,0 thread 0,0,0]",
                     run("unset_shared"));
}
END_TEST

START_TEST(test_exact_bounds)
{
    ASSERT_VIOLATION("kernel past_the_end: writes 4 bytes at P, outside of device memory (0 bytes past the end of an "
                     "allocation of 256 bytes by cudaMalloc) at rule_kernels.cu:L [block 0,0,0 thread 63,0,0]",
                     run("past_the_end"));
    ASSERT_VIOLATION("kernel before_the_start: writes 4 bytes at P, outside of device memory (4 bytes before an "
                     "allocation of 256 bytes by cudaMalloc) at rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     run("before_the_start"));
    ASSERT_VIOLATION("kernel past_shared: reads 4 bytes at P, outside of its shared memory at rule_kernels.cu:L "
                     "[block 0,0,0 thread 63,0,0]",
                     run("past_shared"));
    ASSERT_VIOLATION("kernel past_dynamic: reads 4 bytes at P, outside of its shared memory at rule_kernels.cu:L "
                     "[block 0,0,0 thread 63,0,0]",
                     run("past_dynamic"));
    ASSERT_VIOLATION("kernel misaligned_vector: a misaligned access of 8 bytes at P at rule_kernels.cu:L [block 0,0,0 "
                     "thread 0,0,0]",
                     run("misaligned_vector"));
}
END_TEST

SUITE_MAIN("trace", test_what_keeps_the_rules_is_left_alone, test_races_in_shared_memory, test_races_in_global_memory,
           test_races_between_streams, test_races_inside_a_graph, test_unset_memory, test_exact_bounds)
