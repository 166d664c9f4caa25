// The CUDA runtime's calls on the simulated machine (machine.h), under their real names: devices, streams, events,
// graphs and errors. Memory and copies are in cudart_memory.cpp. Each call answers with what the real one does; where
// that would be undefined, it is a violation.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "machine_internal.h"

using namespace machine;

extern "C" {

// --- versions and errors ---

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return last_error(true);
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error(false);
}

// --- devices ---

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    RUNTIME_CALL("cudaGetDeviceCount", *count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    // Also where the current device has failed: the others live.
    return end_call(fails("cudaSetDevice") ? cudaErrorUnknown : set_device(device));
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device();
    return end_call(device_count() > 0 ? cudaSuccess : cudaErrorNoDevice);
}

// An H100's figures.
static cudaError_t properties(cudaDeviceProp *out, int device)
{
    if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "Simulated H100");
    out->uuid.bytes[0] = static_cast<char>(device + 1);
    out->totalGlobalMem = size_t{80} << 30;
    out->sharedMemPerBlock = 48 << 10;
    out->sharedMemPerBlockOptin = 227 << 10;
    out->sharedMemPerMultiprocessor = 228 << 10;
    out->reservedSharedMemPerBlock = 1 << 10;
    out->regsPerBlock = out->regsPerMultiprocessor = 65536;
    out->warpSize = 32;
    out->maxThreadsPerBlock = 1024;
    out->maxThreadsPerMultiProcessor = 2048;
    out->maxBlocksPerMultiProcessor = 32;
    out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
    out->maxThreadsDim[2] = 64;
    out->maxGridSize[0] = INT32_MAX;
    out->maxGridSize[1] = out->maxGridSize[2] = 65535;
    out->totalConstMem = 64 << 10;
    out->major = 9;
    out->minor = 0;
    out->textureAlignment = 512;
    out->multiProcessorCount = 132;
    out->concurrentKernels = out->canMapHostMemory = out->unifiedAddressing = 1;
    out->asyncEngineCount = 3;
    out->memoryBusWidth = 5120;
    out->l2CacheSize = 50 << 20;
    out->streamPrioritiesSupported = 1;
    out->pciBusID = device + 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    RUNTIME_CALL("cudaGetDeviceProperties", properties(out, device));
}

static cudaError_t attribute(int *value, cudaDeviceAttr name, int device)
{
    cudaDeviceProp all;
    const cudaError_t status = properties(&all, device);
    if (status != cudaSuccess) return status;
    switch (name) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = all.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = all.minor;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = all.multiProcessorCount;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = all.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = all.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
        *value = all.maxBlocksPerMultiProcessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(all.sharedMemPerBlock);
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(all.sharedMemPerBlockOptin);
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = static_cast<int>(all.sharedMemPerMultiprocessor);
        break;
    case cudaDevAttrMaxRegistersPerBlock:
        *value = all.regsPerBlock;
        break;
    case cudaDevAttrWarpSize:
        *value = all.warpSize;
        break;
    case cudaDevAttrL2CacheSize:
        *value = all.l2CacheSize;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = all.memoryBusWidth;
        break;
    case cudaDevAttrClockRate:
        *value = 1980000;
        break; // kHz
    case cudaDevAttrMemoryClockRate:
        *value = 2619000;
        break; // kHz
    case cudaDevAttrAsyncEngineCount:
        *value = all.asyncEngineCount;
        break;
    case cudaDevAttrConcurrentKernels:
        *value = all.concurrentKernels;
        break;
    case cudaDevAttrUnifiedAddressing:
        *value = all.unifiedAddressing;
        break;
    case cudaDevAttrPciBusId:
        *value = all.pciBusID;
        break;
    case cudaDevAttrPciDeviceId:
        *value = all.pciDeviceID;
        break;
    case cudaDevAttrPciDomainId:
        *value = all.pciDomainID;
        break;
    case cudaDevAttrStreamPrioritiesSupported:
        *value = all.streamPrioritiesSupported;
        break;
    default:
        violation("cudaDeviceGetAttribute", "attribute %d is not simulated", static_cast<int>(name));
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr name, int device)
{
    RUNTIME_CALL("cudaDeviceGetAttribute", attribute(value, name, device));
}

cudaError_t cudaDeviceSynchronize(void)
{
    RUNTIME_CALL("cudaDeviceSynchronize", device_synchronize(current_device()));
}

cudaError_t cudaDeviceReset(void)
{
    const Lock lock;
    const cudaError_t before = begin_release();
    if (before != cudaSuccess) return end_call(before);
    reset_streams(current_device());
    reset_memory(current_device());
    fail_device(current_device(), cudaSuccess);
    last_error(true);
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    const bool known = device >= 0 && device < device_count() && peer >= 0 && peer < device_count();
    *can = known && device != peer;
    RUNTIME_CALL("cudaDeviceCanAccessPeer", known ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int flags)
{
    RUNTIME_CALL("cudaDeviceEnablePeerAccess", enable_peer(peer, flags));
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    RUNTIME_CALL("cudaDeviceGetStreamPriorityRange", cudaSuccess);
}

// --- streams ---

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned int flags)
{
    RUNTIME_CALL("cudaStreamCreateWithFlags", stream_create(flags, out));
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned int flags, int)
{
    RUNTIME_CALL("cudaStreamCreateWithPriority", stream_create(flags, out)); // a priority out of range is clamped
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    RUNTIME_CALL("cudaStreamCreate", stream_create(cudaStreamDefault, out));
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    RUNTIME_RELEASE(stream_destroy(stream));
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    RUNTIME_CALL("cudaStreamSynchronize", stream_synchronize(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    RUNTIME_CALL("cudaStreamQuery", stream_query(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    RUNTIME_CALL("cudaStreamWaitEvent", flags ? cudaErrorInvalidValue : stream_wait(stream, event));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    RUNTIME_CALL("cudaLaunchHostFunc",
                 submit(stream_of(stream, "cudaLaunchHostFunc"),
                        {"cudaLaunchHostFunc", Kind::HOST_FUNCTION, {}, [function, data] { function(data); }}));
}

// --- events ---

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned int flags)
{
    RUNTIME_CALL("cudaEventCreateWithFlags", event_create(flags, out));
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    RUNTIME_CALL("cudaEventCreate", event_create(cudaEventDefault, out));
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    RUNTIME_RELEASE(event_destroy(event));
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    RUNTIME_CALL("cudaEventRecord", event_record(event, stream));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    RUNTIME_CALL("cudaEventSynchronize", event_synchronize(event));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    RUNTIME_CALL("cudaEventQuery", event_query(event));
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    RUNTIME_CALL("cudaEventElapsedTime", event_elapsed(milliseconds, from, to));
}

// --- graphs ---

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    RUNTIME_CALL("cudaStreamBeginCapture", capture_begin(stream, mode));
}

static cudaError_t end_capture(cudaStream_t stream, cudaGraph_t *out)
{
    // A capture whose end fails is over all the same.
    if (fails("cudaStreamEndCapture")) lose_capture(stream_of(stream, "cudaStreamEndCapture"));
    return capture_end(stream, out);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    *out = nullptr;
    RUNTIME_RELEASE(end_capture(stream, out));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    RUNTIME_CALL("cudaStreamIsCapturing", capture_status(stream, status));
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    *out = nullptr;
    RUNTIME_CALL("cudaGraphInstantiate", flags ? cudaErrorInvalidValue : graph_instantiate(out, graph));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    RUNTIME_CALL("cudaGraphUpload", graph_upload(exec, stream));
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    RUNTIME_CALL("cudaGraphLaunch", graph_launch(exec, stream));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    RUNTIME_RELEASE(graph_exec_destroy(exec));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    RUNTIME_RELEASE(graph_destroy(graph));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    RUNTIME_CALL("cudaGraphGetNodes", graph_nodes(graph, nodes, count));
}
}
