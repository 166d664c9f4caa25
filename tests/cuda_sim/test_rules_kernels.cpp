// Rules of kernels that every build sees, whatever the compiler puts in: barriers, warp operations, shared memory,
// launches. What only the tracing build sees is in test_trace.cpp.
#include <check.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdlib>
#include <string>

extern "C" {
#include "support/suite.h"
}

#include "rule_kernels.h"
#include "violation.h"

constexpr int COUNT = 64;
constexpr size_t BYTES = COUNT * sizeof(float);

// x = 0, 1, ..., 63 before; `after` what the kernel has made of it.
static void run(const char *kernel, float after[COUNT])
{
    void *x;
    float values[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = static_cast<float>(i);
    OK(cudaMalloc(&x, BYTES));
    OK(cudaMemcpy(x, values, BYTES, cudaMemcpyHostToDevice));
    OK(rule_kernel(kernel, static_cast<float *>(x), nullptr));
    OK(cudaMemcpy(after, x, BYTES, cudaMemcpyDeviceToHost));
    OK(cudaFree(x));
}

static void run(const char *kernel)
{
    float after[COUNT];
    run(kernel, after);
}

static const char *const ORDERS[] = {"fwd", "rev", "rand:1", "rand:2", "rand:3"};

START_TEST(test_what_keeps_the_rules_runs_in_any_order)
{
    for (const char *order : ORDERS) {
        float x[COUNT];
        setenv("SIM_THREADS", order, 1);
        for (const char *kernel : {"reversed", "reversed_dynamic"}) {
            run(kernel, x);
            for (int i = 0; i < COUNT; i++)
                ck_assert_float_eq(x[i], static_cast<float>(COUNT - 1 - i));
        }
        run("reversed_by_warp", x);
        for (int i = 0; i < COUNT; i++)
            ck_assert_float_eq(x[i], static_cast<float>(i ^ 31));
        run("all_counts", x);
        for (float value : x)
            ck_assert_float_eq(value, 136.0f);
        run("copied", x);
        for (int i = 0; i < COUNT; i++)
            ck_assert_float_eq(x[i], static_cast<float>(i % (COUNT / 2)));
    }
}
END_TEST

START_TEST(test_blocks_that_finish_each_others_work)
{
    constexpr int N = 1000, BLOCKS = 16;
    float values[N], sum = 0.0f;
    void *x, *parts, *counter, *total;
    for (int i = 0; i < N; i++)
        values[i] = static_cast<float>(i % 10);
    OK(cudaMalloc(&x, sizeof values));
    OK(cudaMalloc(&parts, BLOCKS * sizeof(float)));
    OK(cudaMalloc(&counter, sizeof(unsigned)));
    OK(cudaMalloc(&total, sizeof(float)));
    OK(cudaMemcpy(x, values, sizeof values, cudaMemcpyHostToDevice));
    OK(cudaMemset(counter, 0, sizeof(unsigned)));
    for (const char *order : ORDERS) {
        setenv("SIM_THREADS", order, 1);
        OK(rule_sum(static_cast<float *>(x), static_cast<float *>(parts), static_cast<unsigned *>(counter),
                    static_cast<float *>(total), N, true, nullptr));
        OK(cudaMemcpy(&sum, total, sizeof sum, cudaMemcpyDeviceToHost));
        ck_assert_float_eq(sum, 4500.0f);
    }
}
END_TEST

// Shared memory is full of NaN at first, so what is read too early or never set shows in the result, in some order.
START_TEST(test_a_missing_barrier_shows_in_some_order)
{
    for (const char *kernel : {"no_barrier", "unset_shared"}) {
        bool shows = false;
        for (const char *order : ORDERS) {
            float x[COUNT];
            setenv("SIM_THREADS", order, 1);
            run(kernel, x);
            for (float value : x)
                shows = shows || std::isnan(value);
        }
        ck_assert_msg(shows, "%s", kernel);
    }
}
END_TEST

START_TEST(test_barriers)
{
    ASSERT_VIOLATION("kernel barrier_in_a_branch: divergent barrier (44 threads of the block have returned) at "
                     "rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     run("barrier_in_a_branch"));
    ASSERT_VIOLATION("kernel two_barriers: divergent barrier (thread 0 waits at rule_kernels.cu:L) at "
                     "rule_kernels.cu:L [block 0,0,0 thread 32,0,0]",
                     run("two_barriers"));
}
END_TEST

START_TEST(test_warp_operations)
{
    setenv("SIM_THREADS", "rev", 1); // lanes that aren't there have returned when the others come
    ASSERT_VIOLATION("kernel shuffle_without_lanes: a warp operation waits for lane 16, which has returned or never "
                     "was at rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     run("shuffle_without_lanes"));
    setenv("SIM_THREADS", "fwd", 1);
    ASSERT_VIOLATION("kernel shuffle_without_lanes: deadlock: a warp operation waits for lanes that are elsewhere "
                     "(another mask, another call, a barrier) at rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     run("shuffle_without_lanes"));
    ASSERT_VIOLATION("kernel shuffle_against_barrier: deadlock: a warp operation waits for lanes that are elsewhere "
                     "(another mask, another call, a barrier) at rule_kernels.cu:L [block 0,0,0 thread 0,0,0]",
                     run("shuffle_against_barrier"));
    ASSERT_VIOLATION("kernel shuffle_out_of_mask: a shuffle reads lane 16, which isn't in its mask at "
                     "rule_kernels.cu:L [block 0,0,0 thread 8,0,0]",
                     run("shuffle_out_of_mask"));
}
END_TEST

START_TEST(test_what_a_block_has)
{
    ASSERT_VIOLATION("kernel too_much_shared: 49156 bytes of shared memory with 's', expected at most 49152",
                     run("too_much_shared"));
    ASSERT_VIOLATION("kernel too_deep: a thread needs more than 65536 bytes of stack [block 0,0,0 thread 0,0,0]",
                     run("too_deep"));
    ASSERT_VIOLATION("kernel trapped: __trap() [block 0,0,0 thread 5,0,0]", run("trapped"));
    ASSERT_VIOLATION("kernel past_the_end: touched memory at P (0 bytes past the end of an allocation of 256 bytes by "
                     "cudaMalloc) [block 0,0,0 thread 63,0,0]",
                     run("past_the_end"));
}
END_TEST

// AddressSanitizer sees bounds to the byte: of device memory, of a SHARED variable, of the dynamic shared memory.
START_TEST(test_exact_bounds)
{
#if defined(__SANITIZE_ADDRESS__)
    for (const char *kernel : {"before_the_start", "past_shared", "past_dynamic"}) {
        const std::string said = output_of([&] { run(kernel); });
        ck_assert_msg(said.find(std::string("sim: kernel ") + kernel + ": [block 0,0,0 thread ") != std::string::npos ||
                          said.find(std::string("sim: kernel ") + kernel + ": touched memory beyond its dynamic") == 0,
                      "%s", said.c_str());
    }
#endif
}
END_TEST

START_TEST(test_launches_that_are_refused)
{
    void *x;
    OK(cudaMalloc(&x, BYTES));
    float *p = static_cast<float *>(x);
    ASSERT_CUDA(cudaErrorInvalidConfiguration, rule_kernel("too_many_threads", p, nullptr));
    ASSERT_CUDA(cudaErrorInvalidConfiguration, rule_kernel("no_blocks", p, nullptr));
    ASSERT_CUDA(cudaErrorInvalidValue, rule_kernel("too_much_dynamic", p, nullptr));
    setenv("SIM_FAIL", "cudaLaunchKernel:1", 1);
    ASSERT_CUDA(cudaErrorLaunchOutOfResources, rule_kernel("reversed", p, nullptr));
    OK(cudaGetLastError());
}
END_TEST

SUITE_MAIN("rules of kernels", test_what_keeps_the_rules_runs_in_any_order, test_blocks_that_finish_each_others_work,
           test_a_missing_barrier_shows_in_some_order, test_barriers, test_warp_operations, test_what_a_block_has,
           test_exact_bounds, test_launches_that_are_refused)
