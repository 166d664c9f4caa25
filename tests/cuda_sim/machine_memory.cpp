// Device and pinned memory. Each allocation has pages of its own, ends where they end (to the 256 bytes that
// allocations are multiples of), and has a page around it that nobody may touch; addresses are never used again. Pages
// of device memory can be touched only while work runs (Opened).
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "machine_internal.h"
#include "sanitizers.h"
#include "simt_engine.h"

namespace machine
{

MemoryTracer memory_tracer;

// --- where addresses come from ---

constexpr size_t PAGE = 4096, HUGE_PAGE = 2 << 20, ALIGNMENT = 256;
#if defined(__SANITIZE_THREAD__)
constexpr size_t SPACE = size_t{1} << 38; // it leaves less to programs
#else
constexpr size_t SPACE = size_t{1} << 42;
#endif

// Addresses of one kind of memory, handed out once each.
struct Space {
    std::atomic<char *> begin;
    size_t used = PAGE;
};
static Space device_space, pinned_space;

static char *take(Space &space, size_t pages_size)
{
    if (!space.begin) {
        // Far from where the process has its own memory, so that what a struct's padding holds isn't taken for a device
        // pointer (simt_launch.cpp).
        void *const far = reinterpret_cast<void *>(&space == &device_space ? 0x300000000000 : 0);
        void *all = mmap(far, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (all == MAP_FAILED) violation("mmap", "no address space left for the simulated memory");
        space.begin = static_cast<char *>(all);
    }
    // Large memory ends where a huge page does: protecting it is then quick (8.8 ms for 100 MB by small pages).
    const size_t unit = pages_size >= HUGE_PAGE ? HUGE_PAGE : PAGE;
    if (pages_size > SPACE - space.used - 2 * HUGE_PAGE) return nullptr;
    const size_t end = (space.used + pages_size + unit - 1) / unit * unit;
    space.used = end + PAGE;
    return space.begin + end - pages_size;
}

static bool inside(const Space &space, const void *pointer)
{
    const char *begin = space.begin;
    return begin && static_cast<size_t>(static_cast<const char *>(pointer) - begin) < SPACE;
}

bool in_device_space(const void *pointer)
{
    return inside(device_space, pointer);
}

size_t device_space_size()
{
    return SPACE;
}

size_t device_offset(const void *pointer)
{
    return static_cast<size_t>(static_cast<const char *>(pointer) - device_space.begin);
}

// --- allocations ---

// By the address of their pages.
static std::map<const char *, Allocation> &table()
{
    static auto *one = new std::map<const char *, Allocation>;
    return *one;
}
static size_t used[MAX_DEVICES];
static int opened; // how many Opened live

static size_t limit()
{
    const char *text = getenv("SIM_MEMORY");
    return text ? strtoull(text, nullptr, 10) : size_t{4} << 30;
}

const Allocation *find_allocation(const void *pointer)
{
    auto found = table().upper_bound(static_cast<const char *>(pointer));
    if (found == table().begin()) return nullptr;
    const Allocation &allocation = (--found)->second;
    // The guard page behind belongs to it: that is where who overruns it is caught.
    return pointer < allocation.pages + allocation.pages_size + PAGE ? &allocation : nullptr;
}

const Allocation *find_live(const void *pointer)
{
    const Allocation *found = find_allocation(pointer);
    return found && found->live && pointer >= found->begin && pointer < found->begin + found->size ? found : nullptr;
}

static void catch_faults();

void *allocate(Where where, int device, size_t size, const char *call)
{
    catch_faults();
    const size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
                 pages_size = (rounded + PAGE - 1) / PAGE * PAGE;
    if (size > SPACE / 2 || (where == Where::DEVICE && rounded > limit() - std::min(used[device], limit())))
        return nullptr;
    char *pages = take(where == Where::DEVICE ? device_space : pinned_space, pages_size);
    if (!pages) return nullptr;
    if (mprotect(pages, pages_size, PROT_READ | PROT_WRITE) != 0) return nullptr;
    if (pages_size >= HUGE_PAGE) madvise(pages, pages_size, MADV_HUGEPAGE); // as good without, but slower
    char *begin = pages + pages_size - rounded;
    unpoison(pages, pages_size);
    memset(begin, 0xff, size);
    poison(pages, static_cast<size_t>(begin - pages));
    poison(begin + size, rounded - size);
    if (where == Where::DEVICE) {
        used[device] += rounded;
        if (opened == 0) mprotect(pages, pages_size, PROT_NONE);
    }
    table()[pages] = {begin, size, pages, pages_size, where, device, call, true};
    return begin;
}

void release(const void *begin)
{
    Allocation &allocation = table().at(find_live(begin)->pages);
    allocation.live = false;
    if (memory_tracer.released) memory_tracer.released(allocation);
    unpoison(allocation.pages, allocation.pages_size);
    // Fresh pages in the same place: the old ones go back to the system.
    mmap(allocation.pages, allocation.pages_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
         -1, 0);
    if (allocation.where == Where::DEVICE)
        used[allocation.device] -= (allocation.size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void memory_info(int device, size_t *free, size_t *total)
{
    *total = limit();
    *free = limit() - std::min(used[device], limit());
}

void reset_memory(int device)
{
    for (const auto &[pages, allocation] : table())
        if (allocation.live && allocation.device == device) release(allocation.begin);
}

int report_memory()
{
    int live = 0;
    for (const auto &[pages, allocation] : table()) {
        if (!allocation.live) continue;
        live++;
        fprintf(stderr, "sim: leak: %zu bytes at %p by %s on device %d\n", allocation.size,
                static_cast<void *>(allocation.begin), allocation.call, allocation.device);
    }
    return live;
}

int device_of(const void *pointer)
{
    Lock lock;
    const Allocation *found = find_live(pointer);
    return found && found->where == Where::DEVICE ? found->device : -1;
}

size_t bytes_left(const void *pointer)
{
    Lock lock;
    const Allocation *found = find_live(pointer);
    if (!found || found->where != Where::DEVICE) return 0;
    return static_cast<size_t>(found->begin + found->size - static_cast<const char *>(pointer));
}

// --- what is wrong with an address ---

// Written into `out`, by the signal handler too.
static void describe(const void *pointer, const Allocation &allocation, char *out, size_t size)
{
    const char *p = static_cast<const char *>(pointer), *end = allocation.begin + allocation.size;
    const char *state = allocation.live ? "" : ", which was freed";
    if (p < allocation.begin)
        snprintf(out, size, "%zu bytes before an allocation of %zu bytes by %s%s",
                 static_cast<size_t>(allocation.begin - p), allocation.size, allocation.call, state);
    else if (p >= end)
        snprintf(out, size, "%zu bytes past the end of an allocation of %zu bytes by %s%s",
                 static_cast<size_t>(p - end), allocation.size, allocation.call, state);
    else
        snprintf(out, size, "%zu bytes into an allocation of %zu bytes by %s%s",
                 static_cast<size_t>(p - allocation.begin), allocation.size, allocation.call, state);
}

std::string history(const void *pointer)
{
    Lock lock;
    const Allocation *found = find_allocation(pointer);
    if (!found) return "";
    char text[256];
    describe(pointer, *found, text, sizeof text);
    return std::string(" (") + text + (found->where == Where::PINNED ? ", pinned)" : ")");
}

void check_access(const std::string &call, int device, const Access &access)
{
    const char *verb = access.write ? "writes" : "reads";
    if (access.bytes == 0) return;
    const Allocation *found = find_live(access.begin);
    if (!found || (found->where == Where::PINNED && !access.anywhere))
        violation(call.c_str(), "%s %zu bytes at %p, which is not device memory%s", verb, access.bytes, access.begin,
                  history(access.begin).c_str());
    const size_t left = static_cast<size_t>(found->begin + found->size - static_cast<const char *>(access.begin));
    if (access.bytes > left)
        violation(call.c_str(), "%s %zu bytes at %p, %zu past the end of an allocation of %zu bytes by %s", verb,
                  access.bytes, access.begin, access.bytes - left, found->size, found->call);
    if (found->device != device && !access.anywhere)
        violation(call.c_str(), "%s %zu bytes at %p on device %d, on a stream of device %d", verb, access.bytes,
                  access.begin, found->device, device);
}

// --- protection ---

static void protect(int protection)
{
    for (const auto &[pages, allocation] : table())
        if (allocation.live && allocation.where == Where::DEVICE)
            mprotect(allocation.pages, allocation.pages_size, protection);
}

Opened::Opened()
{
    if (opened++ == 0) protect(PROT_READ | PROT_WRITE);
}

Opened::~Opened()
{
    if (--opened == 0) protect(PROT_NONE);
}

Closed::Closed()
{
    if (--opened == 0) protect(PROT_NONE);
}

Closed::~Closed()
{
    if (opened++ == 0) protect(PROT_READ | PROT_WRITE);
}

static thread_local const char *running_call = "";

void set_running(const char *call)
{
    running_call = call;
    // A stack for the handler: a kernel that overruns its own has none left.
    static thread_local struct Alternative {
        stack_t old = {};
        char *stack = nullptr;
        Alternative()
        {
            if (sigaltstack(nullptr, &old) != 0 || !(old.ss_flags & SS_DISABLE)) return;
            stack = static_cast<char *>(malloc(64 << 10));
            stack_t ours = {};
            ours.ss_sp = stack;
            ours.ss_size = 64 << 10;
            sigaltstack(&ours, nullptr);
        }
        ~Alternative()
        {
            if (stack) sigaltstack(&old, nullptr);
            free(stack);
        }
    } alternative;
    (void)alternative;
}

// --- the signal ---

static struct sigaction previous_segv, previous_bus;

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) abort();
}

[[noreturn]] static void report_fault(const void *at)
{
    char place[256] = "no allocation", line[512];

    const bool pinned = inside(pinned_space, at);
    Lock lock;
    if (const Allocation *found = find_allocation(at)) describe(at, *found, place, sizeof place);
    if (*running_call)
        snprintf(line, sizeof line, "sim: %s: touched memory at %p (%s)%s%s%s\n", running_call, at, place,
                 *simt::where() ? " [" : "", simt::where(), *simt::where() ? "]" : "");
    else
        snprintf(line, sizeof line, "sim: host code touched %s memory at %p (%s)\n", pinned ? "pinned" : "device", at,
                 place);
    say(line);
    abort();
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const void *at = info->si_addr;
    if (in_device_space(at) || inside(pinned_space, at)) report_fault(at);
    if (*running_call && simt::on_fibre_stack(at)) {
        char line[256];
        snprintf(line, sizeof line, "sim: %s: a thread needs more than %zu bytes of stack [%s]\n", running_call,
                 simt::STACK_SIZE, simt::where());
        say(line);
        abort();
    }
    if (*running_call && simt::in_shared(at)) {
        char line[256];
        snprintf(line, sizeof line, "sim: %s: touched memory beyond its dynamic shared memory [%s]\n", running_call,
                 simt::where());
        say(line);
        abort();
    }
    const struct sigaction &before = number == SIGSEGV ? previous_segv : previous_bus;
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        signal(number, SIG_DFL); // the instruction runs again, and ends the process
    } else {
        before.sa_handler(number);
    }
}

static void catch_faults()
{
    static const bool done = [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        return sigaction(SIGSEGV, &action, &previous_segv) == 0 && sigaction(SIGBUS, &action, &previous_bus) == 0;
    }();
    if (!done) violation("sigaction", "can't catch faults");
}

} // namespace machine
