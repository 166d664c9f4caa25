#include "on_device.h"

void *device_memory(const void *content, size_t bytes)
{
    void *device = NULL;
    CHECK_CUDA(cudaMalloc(&device, bytes));
    if (content) CHECK_CUDA(cudaMemcpy(device, content, bytes, cudaMemcpyHostToDevice));
    return device;
}

float *device_zeros(size_t count)
{
    void *device = device_memory(NULL, count * sizeof(float));
    CHECK_CUDA(cudaMemset(device, 0, count * sizeof(float)));
    CHECK_CUDA(cudaDeviceSynchronize());
    return device;
}

void read_device(void *host, const void *device, size_t bytes)
{
    CHECK_CUDA(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}

cudaStream_t stream_make(void)
{
    cudaStream_t stream;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

void stream_follow(cudaStream_t second, cudaStream_t first)
{
    const cudaEvent_t passed = event_make();
    CHECK_CUDA(cudaEventRecord(passed, first));
    CHECK_CUDA(cudaStreamWaitEvent(second, passed, 0));
    CHECK_CUDA(cudaEventDestroy(passed));
}

cudaEvent_t event_make(void)
{
    cudaEvent_t event;
    CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

cudaStream_t capture_begin(void)
{
    const cudaStream_t stream = stream_make();
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    return stream;
}

cudaGraphExec_t capture_end(cudaStream_t stream)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CHECK_CUDA(cudaGraphDestroy(graph));
    return exec;
}
