// Rules of streams, events and capture: each is broken once. What the real runtime answers with a status is answered
// with that status.
#include <check.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <thread>
#include <vector>

extern "C" {
#include "support/suite.h"
}

#include "machine.h"
#include "on_device.h"
#include "rule_kernels.h"
#include "violation.h"

constexpr int COUNT = 64;
constexpr size_t BYTES = COUNT * sizeof(float);

static float *device()
{
    return device_zeros(COUNT);
}

// --- order ---

START_TEST(test_a_missing_event_between_two_streams)
{
    float *x = device(), *y = device(), *z = device();
    const cudaStream_t a = stream_make(), b = stream_make();
    for (const char *order : {"late", "eager", "random:1"}) {
        setenv("SIM_ORDER", order, 1);
        ASSERT_VIOLATION("kernel axpy: reads 4 bytes at P, which cudaMemsetAsync writes: no stream and no event puts "
                         "one before the other",
                         {
                             cudaMemsetAsync(x, 0, BYTES, a);
                             rule_axpy(1.0f, x, y, COUNT, b);
                         });
        ASSERT_VIOLATION("cudaMemcpyAsync: writes 256 bytes at P, which kernel axpy reads: no stream and no event puts "
                         "one before the other",
                         {
                             rule_axpy(1.0f, x, y, COUNT, a);
                             cudaMemcpyAsync(x, z, BYTES, cudaMemcpyDeviceToDevice, b);
                         });
    }
    // An event that was recorded too early.
    ASSERT_VIOLATION("kernel axpy: reads 4 bytes at P, which kernel axpy writes: no stream and no event puts one "
                     "before the other",
                     {
                         const cudaEvent_t early = event_make();
                         cudaEventRecord(early, a);
                         rule_axpy(1.0f, x, y, COUNT, a);
                         cudaStreamWaitEvent(b, early, 0);
                         rule_axpy(1.0f, y, z, COUNT, b);
                     });
    // Both only read: nothing to order. And a host that waits is as good as an event.
    OK(rule_axpy(1.0f, x, y, COUNT, a));
    OK(rule_axpy(1.0f, x, z, COUNT, b));
    OK(cudaStreamSynchronize(a));
    OK(rule_axpy(1.0f, y, z, COUNT, b));
}
END_TEST

START_TEST(test_non_blocking_streams_do_not_wait_for_the_default_stream)
{
    float *x = device(), *y = device();
    const cudaStream_t s = stream_make();
    ASSERT_VIOLATION("kernel axpy: reads 4 bytes at P, which cudaMemset writes: no stream and no event puts one before "
                     "the other",
                     {
                         cudaMemset(x, 0, BYTES);
                         rule_axpy(1.0f, x, y, COUNT, s);
                     });
}
END_TEST

START_TEST(test_what_was_destroyed_is_gone)
{
    const cudaStream_t s = stream_make();
    const cudaEvent_t e = event_make();
    OK(cudaStreamDestroy(s));
    OK(cudaEventDestroy(e));
    ASSERT_VIOLATION("cudaStreamSynchronize: P is no stream, or was destroyed", cudaStreamSynchronize(s));
    ASSERT_VIOLATION("cudaStreamDestroy: P is no stream, or was destroyed", cudaStreamDestroy(s));
    ASSERT_VIOLATION("cudaEventRecord: P is no event, or was destroyed", cudaEventRecord(e, nullptr));
    ASSERT_VIOLATION("cudaEventDestroy: P is no event, or was destroyed", cudaEventDestroy(e));
    ASSERT_VIOLATION("cudaStreamSynchronize: cudaStreamPerThread is not simulated",
                     cudaStreamSynchronize(cudaStreamPerThread));
}
END_TEST

// --- capture ---

// What `act` gets while `s` is captured, and what becomes of the capture.
static void assert_in_capture(cudaError_t expected, cudaError_t at_end,
                              const std::function<cudaError_t(cudaStream_t)> &act,
                              cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal)
{
    cudaGraph_t graph;
    const cudaStream_t s = stream_make();
    OK(cudaStreamBeginCapture(s, mode));
    ASSERT_CUDA(expected, act(s));
    ASSERT_CUDA(at_end, cudaStreamEndCapture(s, &graph));
    if (at_end == cudaSuccess)
        OK(cudaGraphDestroy(graph));
    else
        ck_assert_ptr_null(graph);
    OK(cudaStreamDestroy(s));
}

START_TEST(test_what_allocates_or_waits_loses_a_capture)
{
    float *x = device();
    void *memory;
    std::vector<float> host(COUNT);
    const cudaEvent_t e = event_make();
    const cudaError_t no = cudaErrorStreamCaptureUnsupported, lost = cudaErrorStreamCaptureInvalidated;
    assert_in_capture(no, lost, [&](cudaStream_t) { return cudaMalloc(&memory, 16); });
    assert_in_capture(no, lost, [&](cudaStream_t) { return cudaMallocHost(&memory, 16); });
    assert_in_capture(no, lost, [&](cudaStream_t) { return cudaFree(x); });
    assert_in_capture(no, lost, [&](cudaStream_t) { return cudaDeviceSynchronize(); });
    assert_in_capture(no, lost, [&](cudaStream_t s) { return cudaStreamSynchronize(s); });
    assert_in_capture(no, lost, [&](cudaStream_t s) { return cudaStreamQuery(s); });
    assert_in_capture(no, lost, [&](cudaStream_t) { return cudaEventSynchronize(e); });
    assert_in_capture(no, lost, [&](cudaStream_t) { return cudaEventQuery(e); });
    assert_in_capture(
        no, lost, [&](cudaStream_t s) { return cudaMemcpyAsync(x, host.data(), BYTES, cudaMemcpyHostToDevice, s); });
    assert_in_capture(lost, lost, [&](cudaStream_t s) {
        ASSERT_CUDA(no, cudaMalloc(&memory, 16));
        return cudaMemsetAsync(x, 0, BYTES, s);
    });
    assert_in_capture(cudaSuccess, cudaSuccess, [&](cudaStream_t s) { return cudaMemsetAsync(x, 0, BYTES, s); });
    // Relaxed: the caller knows what it does.
    assert_in_capture(
        cudaSuccess, cudaSuccess, [&](cudaStream_t) { return cudaMalloc(&memory, 16); }, cudaStreamCaptureModeRelaxed);
}
END_TEST

START_TEST(test_other_threads_lose_a_global_capture_only)
{
    const auto allocate_elsewhere = [](cudaStream_t) {
        cudaError_t status = cudaSuccess;
        std::thread([&] {
            void *memory;
            status = cudaMalloc(&memory, 16);
        }).join();
        return status;
    };
    assert_in_capture(cudaSuccess, cudaSuccess, allocate_elsewhere, cudaStreamCaptureModeThreadLocal);
    assert_in_capture(cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureInvalidated, allocate_elsewhere,
                      cudaStreamCaptureModeGlobal);
}
END_TEST

START_TEST(test_a_fork_has_to_come_back)
{
    float *x = device();
    const cudaStream_t other = stream_make();
    const cudaEvent_t e = event_make();
    assert_in_capture(cudaSuccess, cudaErrorStreamCaptureUnjoined, [&](cudaStream_t s) {
        OK(cudaEventRecord(e, s));
        OK(cudaStreamWaitEvent(other, e, 0));
        return cudaMemsetAsync(x, 0, BYTES, other);
    });
    cudaGraph_t graph;
    assert_in_capture(cudaErrorStreamCaptureUnmatched, cudaErrorStreamCaptureInvalidated, [&](cudaStream_t s) {
        OK(cudaEventRecord(e, s));
        OK(cudaStreamWaitEvent(other, e, 0));
        return cudaStreamEndCapture(other, &graph);
    });
    // The event is still a captured one.
    ASSERT_CUDA(cudaErrorCapturedEvent, cudaStreamWaitEvent(other, e, 0));
    ASSERT_CUDA(cudaErrorCapturedEvent, cudaEventSynchronize(e));
}
END_TEST

START_TEST(test_a_capture_knows_nothing_of_what_is_outside)
{
    const cudaStream_t other = stream_make();
    const cudaEvent_t e = event_make();
    OK(cudaEventRecord(e, other));
    assert_in_capture(cudaErrorStreamCaptureIsolation, cudaErrorStreamCaptureInvalidated,
                      [&](cudaStream_t s) { return cudaStreamWaitEvent(s, e, 0); });
    ASSERT_CUDA(cudaErrorStreamCaptureUnsupported, cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal));
    ASSERT_CUDA(cudaErrorIllegalState, [&] {
        cudaGraph_t graph;
        return cudaStreamEndCapture(other, &graph);
    }());

    float *x = device();
    cudaStream_t blocking;
    cudaGraph_t graph;
    OK(cudaStreamCreate(&blocking));
    OK(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed));
    ASSERT_CUDA(cudaErrorStreamCaptureImplicit, cudaMemsetAsync(x, 0, BYTES, nullptr));
    ASSERT_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(blocking, &graph));
}
END_TEST

START_TEST(test_a_missing_event_inside_a_graph)
{
    float *x = device(), *y = device();
    const cudaStream_t a = stream_make(), b = stream_make();
    const cudaEvent_t e = event_make();
    ASSERT_VIOLATION("kernel axpy: reads 4 bytes at P, which cudaMemsetAsync writes: no stream and no event puts one "
                     "before the other",
                     {
                         cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal);
                         cudaEventRecord(e, a);
                         cudaStreamWaitEvent(b, e, 0);
                         cudaMemsetAsync(x, 0, BYTES, a);
                         rule_axpy(1.0f, x, y, COUNT, b);
                     });
}
END_TEST

START_TEST(test_a_graph_that_outlives_its_memory)
{
    float *x = device();
    const cudaStream_t s = stream_make();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    OK(cudaMemsetAsync(x, 0, BYTES, s));
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphLaunch(exec, s));
    OK(cudaFree(x));
    ASSERT_VIOLATION("cudaMemsetAsync (in a graph): writes 256 bytes at P, which is not device memory (0 bytes into an "
                     "allocation of 256 bytes by cudaMalloc, which was freed)",
                     cudaGraphLaunch(exec, s));
    OK(cudaGraphExecDestroy(exec));
    ASSERT_VIOLATION("cudaGraphLaunch: P is no executable graph, or was destroyed", cudaGraphLaunch(exec, s));
    OK(cudaGraphDestroy(graph));
    ASSERT_VIOLATION("cudaGraphDestroy: P is no graph, or was destroyed", cudaGraphDestroy(graph));
}
END_TEST

SUITE_MAIN("rules of streams", test_a_missing_event_between_two_streams,
           test_non_blocking_streams_do_not_wait_for_the_default_stream, test_what_was_destroyed_is_gone,
           test_what_allocates_or_waits_loses_a_capture, test_other_threads_lose_a_global_capture_only,
           test_a_fork_has_to_come_back, test_a_capture_knows_nothing_of_what_is_outside,
           test_a_missing_event_inside_a_graph, test_a_graph_that_outlives_its_memory)
