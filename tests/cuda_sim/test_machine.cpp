// The simulated machine does what a real one does: order by streams and events, late work, copies, captured graphs, two
// devices, errors; each in all three SIM_ORDERs where order matters.
#include <check.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

extern "C" {
#include "support/suite.h"
}

#include "machine.h"
#include "on_device.h"
#include "rule_kernels.h"
#include "violation.h"

constexpr int COUNT = 1000;
constexpr size_t BYTES = COUNT * sizeof(float);

static float *device()
{
    return static_cast<float *>(device_memory(nullptr, BYTES));
}

static float *device_filled(float value)
{
    return static_cast<float *>(device_memory(std::vector<float>(COUNT, value).data(), BYTES));
}

static float *pinned(float value)
{
    void *memory;
    OK(cudaMallocHost(&memory, BYTES));
    for (int i = 0; i < COUNT; i++)
        static_cast<float *>(memory)[i] = value;
    return static_cast<float *>(memory);
}

static void assert_all(const float *memory, float expected)
{
    std::vector<float> values(COUNT);
    read_device(values.data(), memory, BYTES);
    for (float value : values)
        ck_assert_float_eq(value, expected);
}

static void in_every_order(void (*act)())
{
    for (const char *order : {"late", "eager", "random:1", "random:2", "random:3"}) {
        setenv("SIM_ORDER", order, 1);
        act();
    }
}

static void order_streams_by_events()
{
    float *x = device_filled(1.0f), *y = device_filled(2.0f), *z = device_filled(3.0f);
    const cudaStream_t a = stream_make(), b = stream_make(), c = stream_make();
    for (int i = 0; i < 3; i++) {
        OK(rule_axpy(2.0f, x, y, COUNT, a)); // y += 2 x
        stream_follow(b, a);
        OK(rule_axpy(1.0f, y, z, COUNT, b)); // z += y
        stream_follow(c, b);
        OK(rule_axpy(1.0f, z, x, COUNT, c)); // x += z
        stream_follow(a, c);
    }
    OK(cudaDeviceSynchronize());
    float ex = 1.0f, ey = 2.0f, ez = 3.0f;
    for (int i = 0; i < 3; i++) {
        ey += 2.0f * ex;
        ez += ey;
        ex += ez;
    }
    assert_all(x, ex);
    assert_all(y, ey);
    assert_all(z, ez);
}

START_TEST(test_events_order_streams)
{
    in_every_order(order_streams_by_events);
}
END_TEST

START_TEST(test_work_is_late)
{
    unsetenv("SIM_ORDER");
    float *x = device_filled(1.0f), *result = pinned(0.0f);
    const cudaStream_t s = stream_make();
    OK(cudaMemcpyAsync(result, x, BYTES, cudaMemcpyDeviceToHost, s));
    ck_assert_float_eq(result[0], 0.0f);
    ASSERT_CUDA(cudaErrorNotReady, cudaStreamQuery(s));
    OK(cudaStreamQuery(s));
    ck_assert_float_eq(result[0], 1.0f);
}
END_TEST

START_TEST(test_a_copy_reads_pageable_memory_at_once_and_pinned_memory_when_it_runs)
{
    setenv("SIM_ORDER", "late", 1);
    float *x = device(), *y = device(), *locked = pinned(1.0f);
    std::vector<float> pageable(COUNT, 1.0f);
    const cudaStream_t s = stream_make();
    OK(cudaMemcpyAsync(x, locked, BYTES, cudaMemcpyHostToDevice, s));
    OK(cudaMemcpyAsync(y, pageable.data(), BYTES, cudaMemcpyHostToDevice, s));
    for (int i = 0; i < COUNT; i++)
        locked[i] = pageable[static_cast<size_t>(i)] = 2.0f;
    OK(cudaStreamSynchronize(s));
    assert_all(x, 2.0f);
    assert_all(y, 1.0f);
}
END_TEST

static void order_by_the_default_stream()
{
    float *x = device_filled(1.0f), *y = device_filled(0.0f);
    cudaStream_t blocking;
    OK(cudaStreamCreate(&blocking));
    OK(rule_axpy(1.0f, x, y, COUNT, blocking)); // y = 1
    OK(rule_axpy(1.0f, y, x, COUNT, nullptr));  // x = 2
    OK(rule_axpy(1.0f, x, y, COUNT, blocking)); // y = 3
    OK(cudaStreamSynchronize(blocking));
    assert_all(x, 2.0f);
    assert_all(y, 3.0f);
}

START_TEST(test_the_default_stream_waits_for_blocking_streams_and_they_for_it)
{
    in_every_order(order_by_the_default_stream);
}
END_TEST

// Fork and join over events; three launches of the same graph.
static void launch_a_graph_three_times()
{
    float *x = device_filled(1.0f), *y = device_filled(0.0f), *z = device_filled(0.0f);
    const cudaStream_t a = stream_make(), b = stream_make();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamCaptureStatus capturing;
    OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal));
    stream_follow(b, a);
    OK(cudaStreamIsCapturing(b, &capturing));
    ck_assert_int_eq(capturing, cudaStreamCaptureStatusActive);
    ck_assert(machine::capturing());
    OK(rule_axpy(1.0f, x, y, COUNT, a)); // y += x
    OK(rule_axpy(2.0f, x, z, COUNT, b)); // z += 2 x
    stream_follow(a, b);
    OK(rule_axpy(1.0f, z, x, COUNT, a)); // x += z
    OK(cudaStreamEndCapture(a, &graph));
    ck_assert(!machine::capturing());
    OK(cudaStreamIsCapturing(b, &capturing));
    ck_assert_int_eq(capturing, cudaStreamCaptureStatusNone);
    assert_all(y, 0.0f);

    size_t count = 0;
    OK(cudaGraphGetNodes(graph, nullptr, &count));
    ck_assert_uint_eq(count, 3);
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph)); // the executable graph is a copy
    const unsigned long long before = machine::launches(nullptr);
    for (int i = 0; i < 3; i++)
        OK(cudaGraphLaunch(exec, a));
    ck_assert_uint_eq(machine::launches(nullptr) - before, 3);
    OK(cudaStreamSynchronize(a));
    assert_all(x, 41.0f); // 1, 3, 11, 41
    assert_all(y, 15.0f);
    assert_all(z, 30.0f);
    OK(cudaGraphExecDestroy(exec));
}

START_TEST(test_a_captured_graph_runs_as_often_as_it_is_launched)
{
    in_every_order(launch_a_graph_three_times);
}
END_TEST

START_TEST(test_launches_are_counted_by_name)
{
    float *x = device_filled(1.0f), *y = device_filled(0.0f);
    const cudaStream_t s = stream_make();
    ck_assert_uint_eq(machine::launches("kernel axpy"), 0);
    for (int i = 0; i < 2; i++)
        OK(rule_axpy(1.0f, x, y, COUNT, s));
    OK(cudaMemsetAsync(x, 0, BYTES, s));
    ck_assert_uint_eq(machine::launches("kernel axpy"), 2);
    ck_assert_uint_eq(machine::launches("cudaMemsetAsync"), 1);
}
END_TEST

START_TEST(test_a_host_function_runs_in_its_place_and_may_not_call)
{
    struct Seen {
        const float *pinned;
        float value;
        cudaError_t status;
    };
    float *x = device_filled(5.0f), *result = pinned(0.0f);
    Seen seen = {result, 0.0f, cudaSuccess};
    const cudaStream_t s = stream_make();
    const auto look = [](void *data) {
        Seen *to = static_cast<Seen *>(data);
        to->value = to->pinned[0];
        to->status = cudaStreamSynchronize(nullptr);
    };
    OK(cudaMemcpyAsync(result, x, BYTES, cudaMemcpyDeviceToHost, s));
    OK(cudaLaunchHostFunc(s, look, &seen));
    OK(cudaStreamSynchronize(s));
    ck_assert_float_eq(seen.value, 5.0f);
    ASSERT_CUDA(cudaErrorNotPermitted, seen.status);
}
END_TEST

START_TEST(test_events_answer_and_measure)
{
    setenv("SIM_ORDER", "late", 1);
    float *x = device_filled(1.0f), *y = device_filled(0.0f), milliseconds = -1.0f;
    cudaEvent_t from, to;
    const cudaStream_t s = stream_make();
    OK(cudaEventCreate(&from));
    OK(cudaEventCreate(&to));
    OK(cudaEventQuery(to)); // never recorded
    OK(cudaEventRecord(from, s));
    OK(rule_axpy(1.0f, x, y, COUNT, s));
    OK(cudaEventRecord(to, s));
    ASSERT_CUDA(cudaErrorNotReady, cudaEventElapsedTime(&milliseconds, from, to));
    ASSERT_CUDA(cudaErrorNotReady, cudaEventQuery(to));
    OK(cudaEventSynchronize(to));
    OK(cudaEventQuery(to));
    OK(cudaEventElapsedTime(&milliseconds, from, to));
    ck_assert_float_ge(milliseconds, 0.0f);
}
END_TEST

START_TEST(test_two_devices)
{
    int count = 0;
    OK(cudaGetDeviceCount(&count));
    ck_assert_int_eq(count, 2);
    float *x = device_filled(3.0f);
    OK(cudaSetDevice(1));
    float *y = device();
    const cudaStream_t s = stream_make();
    ck_assert_int_eq(machine::device_of(x), 0);
    ck_assert_int_eq(machine::device_of(y), 1);
    ck_assert_int_eq(machine::device_of(&count), -1);
    ck_assert_int_eq(machine::device_of_stream(s), 1);
    ck_assert_uint_eq(machine::bytes_left(y + 10), BYTES - 40);
    OK(cudaMemcpyPeerAsync(y, 1, x, 0, BYTES, s));
    OK(cudaStreamSynchronize(s));
    assert_all(y, 3.0f);
    OK(cudaSetDevice(0));
    ASSERT_CUDA(cudaErrorInvalidResourceHandle, rule_axpy(1.0f, x, x, COUNT, s));
    ASSERT_CUDA(cudaErrorInvalidDevice, cudaSetDevice(2));
}
END_TEST

START_TEST(test_memory_has_a_limit)
{
    void *memory, *more;
    size_t free, total;
    setenv("SIM_MEMORY", "1048576", 1);
    OK(cudaMalloc(&memory, 1000000));
    ASSERT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&more, 100000));
    ASSERT_CUDA(cudaErrorMemoryAllocation, cudaGetLastError());
    OK(cudaGetLastError());
    OK(cudaMemGetInfo(&free, &total));
    ck_assert_uint_eq(free, 1048576 - 1000192);
    ck_assert_uint_eq(total, 1048576);
    OK(cudaFree(memory));
    OK(cudaMalloc(&memory, 1000000));
}
END_TEST

START_TEST(test_the_nth_call_fails)
{
    void *memory;
    cudaStream_t s;
    setenv("SIM_FAIL", "cudaMalloc:2", 1);
    OK(cudaMalloc(&memory, 16));
    ASSERT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&memory, 16));
    OK(cudaMalloc(&memory, 16));
    setenv("SIM_FAIL", "3", 1);
    OK(cudaMalloc(&memory, 16));
    OK(cudaMemsetAsync(memory, 0, 16, nullptr));
    ASSERT_CUDA(cudaErrorMemoryAllocation, cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
}
END_TEST

START_TEST(test_a_kernel_that_fails_takes_its_device_with_it)
{
    float *x = device_filled(1.0f), *y = device_filled(0.0f);
    void *memory;
    const cudaStream_t s = stream_make();
    setenv("SIM_ORDER", "late", 1);
    setenv("SIM_FAIL", "kernel:2", 1);
    OK(rule_axpy(1.0f, x, y, COUNT, s));
    OK(rule_axpy(1.0f, x, y, COUNT, s));
    OK(rule_axpy(1.0f, x, y, COUNT, s));
    ASSERT_CUDA(cudaErrorIllegalAddress, cudaStreamSynchronize(s));
    ASSERT_CUDA(cudaErrorIllegalAddress, cudaMalloc(&memory, 16));
    ASSERT_CUDA(cudaErrorIllegalAddress, cudaGetLastError());
    ASSERT_CUDA(cudaErrorIllegalAddress, cudaGetLastError());
    OK(cudaSetDevice(1)); // the other one lives
    OK(cudaMalloc(&memory, 16));
}
END_TEST

START_TEST(test_copies_of_rows)
{
    float *x = device_filled(0.0f);
    const float rows[2][3] = {{1, 2, 3}, {4, 5, 6}};
    float back[8] = {0};
    const cudaStream_t s = stream_make();
    OK(cudaMemcpy2DAsync(x + 1, 16, rows, 12, 12, 2, cudaMemcpyHostToDevice, s));
    OK(cudaMemcpyAsync(back, x, sizeof back, cudaMemcpyDefault, s));
    const float expected[8] = {0, 1, 2, 3, 0, 4, 5, 6};
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq(back[i], expected[i]);
    ASSERT_CUDA(cudaErrorInvalidValue, cudaMemcpyAsync(x, back, 4, cudaMemcpyDeviceToHost, s));
    ASSERT_CUDA(cudaErrorInvalidPitchValue, cudaMemcpy2DAsync(x, 8, rows, 12, 12, 2, cudaMemcpyHostToDevice, s));
}
END_TEST

START_TEST(test_threads_share_a_device)
{
    constexpr int THREADS = 4;
    float *x[THREADS], *y[THREADS];
    for (int t = 0; t < THREADS; t++) {
        x[t] = device_filled(static_cast<float>(t));
        y[t] = device_filled(0.0f);
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < THREADS; t++)
        threads.emplace_back([&, t] {
            const cudaStream_t s = stream_make();
            for (int i = 0; i < 20; i++) {
                OK(rule_axpy(1.0f, x[t], y[t], COUNT, s));
                OK(cudaLaunchHostFunc(
                    s, [](void *) { std::this_thread::yield(); }, nullptr));
                if (i % 5 == 0) OK(cudaStreamSynchronize(s));
            }
            OK(cudaStreamSynchronize(s));
            OK(cudaStreamDestroy(s));
        });
    for (std::thread &thread : threads)
        thread.join();
    for (int t = 0; t < THREADS; t++)
        assert_all(y[t], 20.0f * static_cast<float>(t));
}
END_TEST

START_TEST(test_what_is_left_is_reported)
{
    const std::string text = output_of([] {
        void *memory;
        cudaMalloc(&memory, 100);
        cudaMallocHost(&memory, 50);
        cudaFreeHost(memory);
        stream_make();
        event_make();
        fprintf(stderr, "%d", machine::report_leaks());
    });
    ck_assert_str_eq(text.c_str(), "sim: leak: 100 bytes at P by cudaMalloc on device 0\n"
                                   "sim: leak: stream P on device 0\n"
                                   "sim: leak: event P on device 0\n3");
    ck_assert_int_eq(machine::report_leaks(), 0);
    stream_make();
    OK(cudaDeviceReset());
    ck_assert_int_eq(machine::report_leaks(), 0);
}
END_TEST

SUITE_MAIN("machine", test_events_order_streams, test_work_is_late,
           test_a_copy_reads_pageable_memory_at_once_and_pinned_memory_when_it_runs,
           test_the_default_stream_waits_for_blocking_streams_and_they_for_it,
           test_a_captured_graph_runs_as_often_as_it_is_launched, test_launches_are_counted_by_name,
           test_a_host_function_runs_in_its_place_and_may_not_call, test_events_answer_and_measure, test_two_devices,
           test_memory_has_a_limit, test_the_nth_call_fails, test_a_kernel_that_fails_takes_its_device_with_it,
           test_copies_of_rows, test_threads_share_a_device, test_what_is_left_is_reported)
