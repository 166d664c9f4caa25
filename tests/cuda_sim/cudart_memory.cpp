// The CUDA runtime's calls on the simulated machine that concern memory: allocation, copies, sets.
//
// A copy from pageable host memory takes its bytes at once, and one to it waits for its stream, as the real ones do;
// pinned memory is read and written when the copy runs.
#include <cuda_runtime_api.h>

#include <cstring>

#include "machine_internal.h"

using namespace machine;

// --- allocation ---

static cudaError_t device_allocate(void **out, size_t size)
{
    *out = nullptr;
    const cudaError_t status = forbidden_in_capture();
    if (status != cudaSuccess || size == 0) return status;
    *out = allocate(Where::DEVICE, current_device(), size, "cudaMalloc");
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t pinned_allocate(void **out, size_t size, const char *call)
{
    *out = nullptr;
    const cudaError_t status = forbidden_in_capture();
    if (status != cudaSuccess || size == 0) return status;
    *out = allocate(Where::PINNED, current_device(), size, call);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

static void check_release(const char *call, void *pointer, Where where, const char *kind)
{
    const Allocation *found = find_allocation(pointer);
    if (!found || found->where != where || found->begin != pointer)
        violation(call, "%p is not the start of %s memory%s", pointer, kind, history(pointer).c_str());
    if (!found->live) violation(call, "%p was freed before%s", pointer, history(pointer).c_str());
}

static cudaError_t device_release(void *pointer)
{
    if (!pointer) return cudaSuccess;
    check_release("cudaFree", pointer, Where::DEVICE, "device");
    const cudaError_t status = forbidden_in_capture();
    if (status != cudaSuccess) return status;
    const cudaError_t result = device_synchronize(find_live(pointer)->device); // cudaFree waits for the device
    release(pointer);
    return result;
}

static cudaError_t pinned_release(void *pointer)
{
    if (!pointer) return cudaSuccess;
    check_release("cudaFreeHost", pointer, Where::PINNED, "pinned");
    const cudaError_t status = forbidden_in_capture();
    if (status != cudaSuccess) return status;
    if (const char *use = pending_use(pointer, find_live(pointer)->size))
        violation("cudaFreeHost", "%p is still used by %s, which hasn't run", pointer, use);
    release(pointer);
    return cudaSuccess;
}

// --- copies ---

enum class Side { DEVICE, PINNED, PAGEABLE };

static Side side_of(const void *pointer, const char *call)
{
    const Allocation *found = find_allocation(pointer);
    if (!found) return Side::PAGEABLE;
    if (!find_live(pointer))
        violation(call, "%p is neither device nor host memory%s", pointer, history(pointer).c_str());
    return found->where == Where::DEVICE ? Side::DEVICE : Side::PINNED;
}

// What the kind of a copy says about its ends, against what they are.
static bool kind_fits(cudaMemcpyKind kind, Side to, Side from)
{
    const bool to_device = to == Side::DEVICE, from_device = from == Side::DEVICE;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    case cudaMemcpyDefault:
        return true;
    }
    return false;
}

struct Copy {
    void *to;
    size_t to_pitch;
    const void *from;
    size_t from_pitch, width, rows;
};

static void copy_rows(const Copy &copy)
{
    for (size_t row = 0; row < copy.rows; row++)
        memcpy(static_cast<char *>(copy.to) + row * copy.to_pitch,
               static_cast<const char *>(copy.from) + row * copy.from_pitch, copy.width);
}

static void add_rows(std::vector<Access> &accesses, const void *begin, size_t pitch, const Copy &copy, bool write)
{
    if (pitch == copy.width)
        accesses.push_back({begin, copy.width * copy.rows, write, true});
    else
        for (size_t row = 0; row < copy.rows; row++)
            accesses.push_back({static_cast<const char *>(begin) + row * pitch, copy.width, write, true});
}

static cudaError_t copy(const char *call, Copy copy, cudaMemcpyKind kind, cudaStream_t handle, bool wait)
{
    CUstream_st *stream = stream_of(handle, call);
    if (copy.width == 0 || copy.rows == 0) return cudaSuccess;
    if (copy.to_pitch < copy.width || copy.from_pitch < copy.width) return cudaErrorInvalidPitchValue;
    const Side to = side_of(copy.to, call), from = side_of(copy.from, call);
    if (!kind_fits(kind, to, from)) return cudaErrorInvalidValue;
    const bool pageable = to == Side::PAGEABLE || from == Side::PAGEABLE;
    if (stream->capture && (pageable || wait)) {
        lose_capture(stream);
        return cudaErrorStreamCaptureUnsupported;
    }
    if (wait)
        if (const cudaError_t status = forbidden_in_capture()) return status;
    std::vector<Access> accesses;
    if (from != Side::PAGEABLE) add_rows(accesses, copy.from, copy.from_pitch, copy, false);
    if (to != Side::PAGEABLE) add_rows(accesses, copy.to, copy.to_pitch, copy, true);
    std::shared_ptr<std::vector<char>> staged;
    if (from == Side::PAGEABLE && to != Side::PAGEABLE) {
        staged = std::make_shared<std::vector<char>>(copy.width * copy.rows);
        copy_rows({staged->data(), copy.width, copy.from, copy.from_pitch, copy.width, copy.rows});
        copy.from = staged->data();
        copy.from_pitch = copy.width;
    }
    const cudaError_t status =
        submit(stream, {call, Kind::WORK, std::move(accesses), [copy, staged] { copy_rows(copy); }});
    if (status != cudaSuccess) return status;
    if (wait || to == Side::PAGEABLE) finish(stream);
    return device_error(stream->device);
}

static cudaError_t set(const char *call, void *to, int value, size_t size, cudaStream_t handle)
{
    CUstream_st *stream = stream_of(handle, call);
    if (size == 0) return cudaSuccess;
    if (side_of(to, call) != Side::DEVICE) return cudaErrorInvalidValue;
    return submit(stream, {call, Kind::WORK, {{to, size, true, true}}, [=] { memset(to, value, size); }});
}

static cudaError_t attributes(cudaPointerAttributes *out, const void *pointer)
{
    memset(out, 0, sizeof *out);
    const Allocation *found = find_live(pointer);
    out->type = !found                          ? cudaMemoryTypeUnregistered
                : found->where == Where::DEVICE ? cudaMemoryTypeDevice
                                                : cudaMemoryTypeHost;
    out->device = found ? found->device : cudaInvalidDeviceId;
    out->devicePointer = found ? const_cast<void *>(pointer) : nullptr;
    out->hostPointer = found && found->where == Where::DEVICE ? nullptr : const_cast<void *>(pointer);
    return cudaSuccess;
}

// --- the calls ---

extern "C" {

cudaError_t cudaMalloc(void **out, size_t size)
{
    RUNTIME_CALL("cudaMalloc", device_allocate(out, size));
}

cudaError_t cudaFree(void *pointer)
{
    RUNTIME_RELEASE(device_release(pointer));
}

cudaError_t cudaMallocHost(void **out, size_t size)
{
    RUNTIME_CALL("cudaMallocHost", pinned_allocate(out, size, "cudaMallocHost"));
}

cudaError_t cudaHostAlloc(void **out, size_t size, unsigned int)
{
    RUNTIME_CALL("cudaHostAlloc", pinned_allocate(out, size, "cudaHostAlloc"));
}

cudaError_t cudaFreeHost(void *pointer)
{
    RUNTIME_RELEASE(pinned_release(pointer));
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    memory_info(current_device(), free, total);
    RUNTIME_CALL("cudaMemGetInfo", cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    RUNTIME_CALL("cudaMemcpyAsync", copy("cudaMemcpyAsync", {to, size, from, size, size, 1}, kind, stream, false));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind)
{
    RUNTIME_CALL("cudaMemcpy", copy("cudaMemcpy", {to, size, from, size, size, 1}, kind, nullptr, true));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    RUNTIME_CALL("cudaMemcpy2DAsync",
                 copy("cudaMemcpy2DAsync", {to, to_pitch, from, from_pitch, width, height}, kind, stream, false));
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size,
                                cudaStream_t stream)
{
    const bool fits = device_of(to) == to_device && device_of(from) == from_device;
    RUNTIME_CALL("cudaMemcpyPeerAsync", fits ? copy("cudaMemcpyPeerAsync", {to, size, from, size, size, 1},
                                                    cudaMemcpyDeviceToDevice, stream, false)
                                             : cudaErrorInvalidValue);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream)
{
    RUNTIME_CALL("cudaMemsetAsync", set("cudaMemsetAsync", to, value, size, stream));
}

cudaError_t cudaMemset(void *to, int value, size_t size)
{
    RUNTIME_CALL("cudaMemset", set("cudaMemset", to, value, size, nullptr));
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *pointer)
{
    RUNTIME_CALL("cudaPointerGetAttributes", attributes(out, pointer));
}
}
