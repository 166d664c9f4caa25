// What a launch refuses and checks before it goes on its stream, and the shared memory of a block.
#include <sys/mman.h>

#include <cstdlib>

#include "machine_internal.h"
#include "sanitizers.h"
#include "simt_engine.h"

namespace simt
{

Tracer tracer;

// --- arguments ---

// "kernel affine<float, 4>" from "(affine<float, 4>)"
static std::string name_of(const char *kernel)
{
    std::string name = kernel;
    if (name.size() > 2 && name.front() == '(' && name.back() == ')') name = name.substr(1, name.size() - 2);
    return "kernel " + name;
}

Arguments::Arguments(const char *kernel) : call(name_of(kernel))
{
}

void Arguments::pointer(const void *pointer, size_t size, size_t alignment, bool write)
{
    if (!pointer) return;
    if (machine::bytes_left(pointer) == 0)
        machine::violation(call.c_str(), "argument %d, %p, is not device memory%s", number_, pointer,
                           machine::history(pointer).c_str());
    if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0)
        machine::violation(call.c_str(), "argument %d, %p, is misaligned: its type wants %zu bytes", number_, pointer,
                           alignment);
    accesses.push_back({pointer, size, write});
}

void Arguments::bytes(const void *begin, size_t size)
{
    for (size_t at = 0; at + sizeof(void *) <= size; at += sizeof(void *)) {
        const void *pointer;
        std::memcpy(&pointer, static_cast<const char *>(begin) + at, sizeof pointer);
        if (machine::in_device_space(pointer) && machine::bytes_left(pointer) == 0)
            machine::violation(call.c_str(), "argument %d holds %p, which is not device memory%s", number_, pointer,
                               machine::history(pointer).c_str());
    }
}

// --- launching ---

static cudaError_t check_configuration(const Launch &launch)
{
    const dim3 &grid = launch.grid, &block = launch.block;
    const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    if (threads == 0 || block.x > MAX_THREADS || block.y > MAX_THREADS || block.z > 64 || threads > MAX_THREADS)
        return cudaErrorInvalidConfiguration;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (launch.shared > SHARED_SIZE) return cudaErrorInvalidValue;
    return cudaSuccess;
}

void launch(Launch launch, cudaStream_t stream, Arguments &&arguments)
{
    cudaError_t status = machine::begin_call("cudaLaunchKernel");
    if (status == cudaSuccess) status = check_configuration(launch);
    if (status == cudaSuccess) {
        const std::string call = arguments.call;
        status = machine::enqueue_kernel(stream, call, std::move(arguments.accesses),
                                         [call, launch] { run_kernel(call.c_str(), launch); });
    }
    machine::end_call(status);
}

// --- shared memory ---

constexpr size_t GAP = 64; // between variables, so that an index that is out of bounds meets nothing

static char *map(size_t size)
{
    void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    return static_cast<char *>(memory);
}

static char *dynamic_region; // [2 * SHARED_SIZE], the launch's part at the end of the first half
static std::vector<std::pair<char *, size_t>> variables;

void prepare_shared(size_t dynamic)
{
    if (!engine.shared) {
        engine.shared = map(2 * SHARED_SIZE);
        dynamic_region = map(2 * SHARED_SIZE);
        // What runs past the dynamic shared memory meets pages that nobody may touch.
        if (mprotect(dynamic_region + SHARED_SIZE, SHARED_SIZE, PROT_NONE) != 0) abort();
    }
    engine.shared_used = 0;
    variables.clear();
    poison(engine.shared, 2 * SHARED_SIZE);
    engine.dynamic = dynamic_region + SHARED_SIZE - (dynamic + 15) / 16 * 16;
    poison(dynamic_region, SHARED_SIZE);
    unpoison(engine.dynamic, dynamic);
}

void fill_shared()
{
    std::memset(engine.dynamic, 0xff, engine.launch.shared);
    for (const auto &[begin, size] : variables)
        std::memset(begin, 0xff, size);
}

void for_each_shared(void (*act)(const void *begin, size_t size))
{
    act(engine.dynamic, engine.launch.shared);
    for (const auto &[begin, size] : variables)
        act(begin, size);
}

void *shared_variable(SharedPlace &place, size_t size, size_t alignment, const char *name)
{
    if (place.launch == engine.serial) return place.begin;
    const OutsideKernel outside;
    const size_t align = std::max<size_t>(alignment, 16), at = (engine.shared_used + align - 1) / align * align;
    size_t total = engine.launch.shared + size;
    for (const auto &variable : variables)
        total += variable.second;
    if (total > SHARED_SIZE)
        machine::violation(engine.call, "%zu bytes of shared memory with '%s', expected at most %zu", total, name,
                           SHARED_SIZE);
    place.launch = engine.serial;
    place.begin = engine.shared + at;
    engine.shared_used = at + size + GAP;
    if (engine.shared_used > 2 * SHARED_SIZE) machine::violation(engine.call, "too many SHARED variables");
    variables.emplace_back(place.begin, size);
    unpoison(place.begin, size);
    std::memset(place.begin, 0xff, size);
    if (tracer.shared) tracer.shared(place.begin, size);
    return place.begin;
}

void *dynamic_shared()
{
    return engine.dynamic;
}

bool in_shared(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    return (p >= engine.shared && p < engine.shared + 2 * SHARED_SIZE) ||
           (p >= dynamic_region && p < dynamic_region + 2 * SHARED_SIZE);
}

bool inside_shared_variable(const void *pointer, size_t size)
{
    const char *p = static_cast<const char *>(pointer);
    if (p >= engine.dynamic && p + size <= engine.dynamic + engine.launch.shared) return true;
    for (const auto &[begin, bytes] : variables)
        if (p >= begin && p + size <= begin + bytes) return true;
    return false;
}

void atomic_access(void *pointer, size_t size)
{
    if (reinterpret_cast<uintptr_t>(pointer) % size != 0)
        machine::violation(engine.call, "an atomic at %p, which is misaligned [%s]", pointer, where());
    if (tracer.atomic) tracer.atomic(pointer, size, __builtin_return_address(0));
}

} // namespace simt
