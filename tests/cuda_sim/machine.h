// The simulated GPUs behind the stand-ins: memory, streams, events, graphs, and the rules between them. cudart.cpp
// gives it the CUDA runtime's names; the stand-ins of cuBLASLt, cuDNN and NCCL, and simt.h's launches, put their work
// on its streams.
//
// Work is late: nothing that is put on a stream runs before somebody waits for it (a stream, an event or a device is
// synchronised), and then in any order that streams and events allow: SIM_ORDER=late (the default: one stream after the
// other, as late as possible), eager (at once), or random:SEED. Device memory is not readable by host code: it is
// protected except while work runs, and whoever touches it gets a message and ends the process. SIM_LOG=1 prints each
// piece of work on stderr as it runs.
//
// SIM_DEVICES=n devices (2), each with SIM_MEMORY=bytes of memory (4 GiB); fresh memory is full of NaN (0xff), freed
// memory is never handed out again.
//
// SIM_END=1 tells on stderr, when the process ends, what has been left alive, and how many calls SIM_FAIL has counted.
//
// A rule of the real libraries that is broken is a violation: one line on stderr that names the call, and abort().
// What the real libraries report by a status is reported by the same status.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace machine
{

// Bytes of device memory that work reads or writes.
struct Access {
    const void *begin;
    size_t bytes;
    bool write;
    bool anywhere = false; // it may lie on another device, or in pinned host memory (copies, collectives)
};

// Puts work on a stream (of the device that the stream belongs to; in a stream that is being captured: into the graph).
// `call` names it in messages ("cublasLtMatmul", "kernel affine"). Every access must lie inside one live allocation of
// that device when the work is put there and when it runs; two pieces of work that touch the same bytes, one of them
// writing, must be ordered by a stream or an event: otherwise a violation. Returns cudaSuccess, or what the real call
// would return. `work` runs later, on any thread, with device memory readable.
cudaError_t enqueue(cudaStream_t stream, const std::string &call, std::vector<Access> accesses,
                    std::function<void()> work);

// The device whose memory holds `pointer`; -1: no device memory.
int device_of(const void *pointer);
// Bytes from `pointer` to the end of its allocation; 0: no device memory.
size_t bytes_left(const void *pointer);
int device_of_stream(cudaStream_t stream);
int current_device();
// Whether a stream of any kind is being captured by this thread (calls that synchronise or allocate are refused then).
bool capturing();

// SIM_FAIL=NAME:n or SIM_FAIL=n makes the n-th call (of that name; of all that can fail) fail, counted from 1. Every
// stand-in asks this at the start of each call that the real library lets fail.
bool fails(const char *call);

// Violation unless `pointer` is a multiple of `bytes`: "sim: CALL: WHAT is at 0x7f0000000104, expected a multiple of
// 16".
void check_aligned(const char *call, const char *what, const void *pointer, size_t bytes);

// How much work of this name has been put on streams (kernels by their name, a graph as "cudaGraphLaunch" and not its
// nodes again); null: all work. Waiting and recording events doesn't count.
unsigned long long launches(const char *call);

// One line on stderr for each device or pinned allocation, stream, event, graph and executable graph that lives; their
// number.
int report_leaks();

// A broken rule: "sim: CALL: SENTENCE" on stderr, then abort().
[[noreturn]] void violation(const char *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

} // namespace machine
