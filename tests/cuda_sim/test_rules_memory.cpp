// Rules of memory: each is broken once, and the message is the one that helps.
#include <check.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <vector>

extern "C" {
#include "support/suite.h"
}

#include "machine.h"
#include "on_device.h"
#include "rule_kernels.h"
#include "violation.h"

constexpr size_t BYTES = 64 * sizeof(float);

static float *device(size_t bytes = BYTES)
{
    return static_cast<float *>(device_memory(nullptr, bytes));
}

START_TEST(test_host_code_must_not_touch_device_memory)
{
    float *x = device();
    ASSERT_VIOLATION("host code touched device memory at P (12 bytes into an allocation of 256 bytes by cudaMalloc)",
                     x[3] = 1.0f);
    ASSERT_VIOLATION("host code touched device memory at P (0 bytes into an allocation of 256 bytes by cudaMalloc)",
                     exit(static_cast<int>(*x)));
    // Nor while a host function runs.
    ASSERT_VIOLATION("host code touched device memory at P (0 bytes into an allocation of 256 bytes by cudaMalloc)", {
        cudaLaunchHostFunc(
            nullptr, [](void *p) { *static_cast<float *>(p) = 1.0f; }, x);
        cudaDeviceSynchronize();
    });
}
END_TEST

START_TEST(test_freed_memory)
{
    float *x = device(), *y = device();
    OK(cudaFree(x));
    ASSERT_VIOLATION("host code touched device memory at P (0 bytes into an allocation of 256 bytes by cudaMalloc, "
                     "which was freed)",
                     x[0] = 1.0f);
    ASSERT_VIOLATION("kernel axpy: argument 2, P, is not device memory (0 bytes into an allocation of 256 bytes by "
                     "cudaMalloc, which was freed)",
                     rule_axpy(1.0f, x, y, 64, nullptr));
    ASSERT_VIOLATION("kernel by_table: argument 1 holds P, which is not device memory (0 bytes into an allocation of "
                     "256 bytes by cudaMalloc, which was freed)",
                     rule_kernel("by_table", x, nullptr));
    ASSERT_VIOLATION("cudaMemsetAsync: P is neither device nor host memory (0 bytes into an allocation of 256 bytes by "
                     "cudaMalloc, which was freed)",
                     cudaMemsetAsync(x, 0, 4, nullptr));
    ASSERT_VIOLATION("cudaFree: P was freed before (0 bytes into an allocation of 256 bytes by cudaMalloc, which was "
                     "freed)",
                     cudaFree(x));
    ASSERT_VIOLATION("a library's call: reads 4 bytes at P, which is not device memory (8 bytes into an allocation of "
                     "256 bytes by cudaMalloc, which was freed)",
                     machine::enqueue(nullptr, "a library's call", {{x + 2, 4, false}}, [] {}));
}
END_TEST

START_TEST(test_free_takes_the_start_of_what_was_allocated)
{
    float *x = device(), local = 0.0f;
    void *pinned;
    OK(cudaMallocHost(&pinned, 64));
    ASSERT_VIOLATION("cudaFree: P is not the start of device memory (4 bytes into an allocation of 256 bytes by "
                     "cudaMalloc)",
                     cudaFree(x + 1));
    ASSERT_VIOLATION("cudaFree: P is not the start of device memory", cudaFree(&local));
    ASSERT_VIOLATION("cudaFree: P is not the start of device memory (0 bytes into an allocation of 64 bytes by "
                     "cudaMallocHost, pinned)",
                     cudaFree(pinned));
    ASSERT_VIOLATION("cudaFreeHost: P is not the start of pinned memory (0 bytes into an allocation of 256 bytes by "
                     "cudaMalloc)",
                     cudaFreeHost(x));
    OK(cudaFree(nullptr));
    OK(cudaFreeHost(nullptr));
}
END_TEST

START_TEST(test_pinned_memory_outlives_its_copies)
{
    setenv("SIM_ORDER", "late", 1);
    float *x = device();
    void *pinned;
    OK(cudaMallocHost(&pinned, BYTES));
    ASSERT_VIOLATION("cudaFreeHost: P is still used by cudaMemcpyAsync, which hasn't run", {
        cudaMemcpyAsync(x, pinned, BYTES, cudaMemcpyHostToDevice, nullptr);
        cudaFreeHost(pinned);
    });
    OK(cudaFreeHost(pinned));
    ASSERT_VIOLATION("host code touched pinned memory at P (0 bytes into an allocation of 256 bytes by "
                     "cudaMallocHost, which was freed)",
                     *static_cast<float *>(pinned) = 1.0f);
}
END_TEST

START_TEST(test_what_a_kernel_is_given)
{
    float *x = device(), host[64];
    void *pinned;
    OK(cudaMallocHost(&pinned, BYTES));
    ASSERT_VIOLATION("kernel axpy: argument 2, P, is not device memory", rule_axpy(1.0f, host, x, 64, nullptr));
    ASSERT_VIOLATION("kernel axpy: argument 3, P, is not device memory (0 bytes into an allocation of 256 bytes by "
                     "cudaMallocHost, pinned)",
                     rule_axpy(1.0f, x, static_cast<float *>(pinned), 64, nullptr));
    ASSERT_VIOLATION("kernel by_vector: argument 1, P, is misaligned: its type wants 16 bytes",
                     rule_kernel("by_vector", x + 1, nullptr));
    ASSERT_VIOLATION("kernel by_vector: writes 16 bytes at P, 8 past the end of an allocation of 24 bytes by "
                     "cudaMalloc",
                     rule_kernel("by_vector", device(24) + 4, nullptr));
    ASSERT_VIOLATION("a library's call: matrix A is at P, expected a multiple of 16",
                     machine::check_aligned("a library's call", "matrix A", x + 1, 16));
    machine::check_aligned("a library's call", "matrix A", x, 256);
    ASSERT_CUDA(cudaErrorInvalidConfiguration, rule_axpy(1.0f, nullptr, x, 0, nullptr)); // NULL is none: no violation
}
END_TEST

START_TEST(test_a_copy_stays_inside)
{
    float *x = device();
    const std::vector<float> host(128, 1.0f);
    ASSERT_VIOLATION("cudaMemcpyAsync: writes 260 bytes at P, 4 past the end of an allocation of 256 bytes by "
                     "cudaMalloc",
                     cudaMemcpyAsync(x, host.data(), BYTES + 4, cudaMemcpyHostToDevice, nullptr));
    ASSERT_VIOLATION("cudaMemsetAsync: writes 256 bytes at P, 4 past the end of an allocation of 256 bytes by "
                     "cudaMalloc",
                     cudaMemsetAsync(x + 1, 0, BYTES, nullptr));
    ASSERT_CUDA(cudaErrorInvalidValue, cudaMemcpy(x, host.data(), BYTES, cudaMemcpyDeviceToDevice));
}
END_TEST

START_TEST(test_a_kernel_stays_on_its_device)
{
    float *x = device();
    OK(cudaSetDevice(1));
    float *y = device();
    ASSERT_VIOLATION("kernel axpy: reads 4 bytes at P on device 0, on a stream of device 1",
                     rule_axpy(1.0f, x, y, 64, nullptr));
}
END_TEST

SUITE_MAIN("rules of memory", test_host_code_must_not_touch_device_memory, test_freed_memory,
           test_free_takes_the_start_of_what_was_allocated, test_pinned_memory_outlives_its_copies,
           test_what_a_kernel_is_given, test_a_copy_stays_inside, test_a_kernel_stays_on_its_device)
