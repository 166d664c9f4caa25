// What simt.cpp, which runs kernels, shares with simt_trace.cpp, which watches their accesses.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt.h"

namespace simt
{

constexpr size_t STACK_SIZE = 64 << 10;
constexpr unsigned WARP_SIZE = 32, MAX_THREADS = 1024;
constexpr size_t SHARED_SIZE = 48 << 10; // of a block, static and dynamic

struct Fibre;

struct Thread {
    uint3 index; // first: thread_index points here
    unsigned id, lane, warp;
    enum { NEW, READY, AT_BARRIER, IN_WARP, DONE } state;
    Fibre *fibre; // where it runs once it has begun
    Site at;      // the barrier or warp operation that it waits in
    // The warp operation.
    Warp operation;
    unsigned mask;
    int argument, width;
    uint64_t in, out;
    // How often the thread has been ordered with its block and its warp, and its fences: what the tracer goes by.
    unsigned barriers, warp_syncs, fences, barriers_at_fence;
};

struct Engine {
    Launch launch;
    const char *call = "";         // "kernel NAME"; "" while none runs
    unsigned long long serial = 0; // of the launch
    unsigned threads = 0, block = 0;
    Thread *thread = nullptr; // that runs
    Thread *all = nullptr;    // [threads]
    char *dynamic = nullptr;  // the dynamic shared memory
    char *shared = nullptr;   // SHARED variables, `shared_used` bytes of them
    size_t shared_used = 0;
};
extern Engine engine;
extern thread_local bool in_kernel; // whether this thread of the host's runs one's own code
// What the engine does for a kernel isn't the kernel's doing.
struct OutsideKernel {
    bool before = in_kernel;
    OutsideKernel()
    {
        in_kernel = false;
    }
    ~OutsideKernel()
    {
        in_kernel = before;
    }
};

// What a tracer wants to know; all null where none is linked.
struct Tracer {
    void (*launched)();
    void (*block)();
    void (*shared)(const void *begin, size_t size); // a SHARED variable has its place, and nothing in it is set
    void (*atomic)(const void *pointer, size_t size, void *code);
};
extern Tracer tracer;

// simt.cpp: runs all blocks.
void run_kernel(const char *call, const Launch &launch);
bool on_fibre_stack(const void *pointer);

// simt_launch.cpp: the shared memory of a launch, and of a block (full of NaN).
void prepare_shared(size_t dynamic);
void fill_shared();
void for_each_shared(void (*act)(const void *begin, size_t size)); // SHARED variables and the dynamic memory
// Whether the bytes lie in one SHARED variable, or in the dynamic shared memory of the launch.
bool in_shared(const void *pointer);
bool inside_shared_variable(const void *pointer, size_t size);

// "block 1,0,0 thread 31,0,0"; "" outside a kernel. For messages.
const char *where();

} // namespace simt
