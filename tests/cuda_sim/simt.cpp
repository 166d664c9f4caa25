// Runs a kernel's blocks one after another, each thread of a block as a fibre. Threads that are ready stand in a queue;
// a fibre runs one thread after another, and stays with a thread that has to wait: a kernel without barriers needs one
// fibre and no switch. Only the thread that holds the machine's lock gets here.
#include "simt_engine.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "machine_internal.h"
#include "sanitizers.h"

namespace simt
{

const uint3 *thread_index;
uint3 block_index;
dim3 block_size, grid_size;
Engine engine;
thread_local bool in_kernel;

// --- fibres ---

struct Fibre {
    void *stack_pointer;
    const void *stack;
    size_t stack_size;
    void *fake_stack, *tsan; // the sanitizers' own
    Thread *next;            // what it is to run when it is switched to, idle
};

// `host` stands for the stack that run_kernel was called on.
static Fibre host, *running = &host, *previous;
static Fibre fibres[MAX_THREADS + 1]; // one more: whoever has run the last thread is idle when the first goes on
static Fibre *idle[MAX_THREADS + 1];
static unsigned idle_count;
static char *stacks;
// Between two stacks nothing can be touched: a frame of up to a MiB that is too much is seen as that.
constexpr size_t GUARD = 1 << 20, STACKS_SIZE = (MAX_THREADS + 1) * (STACK_SIZE + GUARD);

extern "C" void simt_switch(void **from, void *to);
asm(".text\n.globl simt_switch\n.hidden simt_switch\n.type simt_switch,@function\nsimt_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n.size simt_switch,.-simt_switch\n");

static void arrive()
{
    const void *stack;
    size_t size;
    fibre_arrived(running->fake_stack, &stack, &size);
    if (previous == &host) {
        host.stack = stack;
        host.stack_size = size;
    }
}

static void switch_to(Fibre *to)
{
    previous = running;
    running = to;
    fibre_leaves(&previous->fake_stack, to->stack, to->stack_size, to->tsan);
    simt_switch(&previous->stack_pointer, to->stack_pointer);
    arrive();
}

static void fibre_main();

static Fibre *take_fibre(Thread *next)
{
    static unsigned made;
    if (idle_count == 0) {
        if (!stacks) {
            void *all = mmap(nullptr, STACKS_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (all == MAP_FAILED) abort();
            stacks = static_cast<char *>(all);
        }
        char *stack = stacks + made * (STACK_SIZE + GUARD) + GUARD;
        if (mprotect(stack, STACK_SIZE, PROT_READ | PROT_WRITE) != 0) abort();
        // The first frames are staggered: 64 KiB apart, all of them would share a few cache sets.
        void **top = reinterpret_cast<void **>(stack + STACK_SIZE - 64 - (made * 64) % 4096);
        *--top = nullptr;
        *--top = reinterpret_cast<void *>(fibre_main);
        top -= 6; // the registers that simt_switch pops
        fibres[made] = {top, stack, STACK_SIZE, nullptr, fibre_create(), nullptr};
        idle[idle_count++] = &fibres[made++];
    }
    Fibre *fibre = idle[--idle_count];
    fibre->next = next;
    return fibre;
}

bool on_fibre_stack(const void *pointer)
{
    return stacks && static_cast<size_t>(static_cast<const char *>(pointer) - stacks) < STACKS_SIZE;
}

// --- the queue of threads that can go on ---

enum class Order { FORWARD, REVERSE, RANDOM };
static Order order;
static uint64_t random_state;
static Thread *queue[MAX_THREADS];
static unsigned queue_head, queue_count, returned, at_barrier;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>((random_state >> 32) * n >> 32);
}

static void read_order()
{
    const char *text = getenv("SIM_THREADS");
    order = Order::FORWARD;
    if (!text || std::strcmp(text, "fwd") == 0) return;
    if (std::strcmp(text, "rev") == 0) {
        order = Order::REVERSE;
    } else if (std::strncmp(text, "rand:", 5) == 0) {
        order = Order::RANDOM;
        random_state = (strtoull(text + 5, nullptr, 10) + engine.serial) * 0x9E3779B97F4A7C15u | 1;
    } else {
        machine::violation("SIM_THREADS", "'%s' is neither fwd, rev nor rand:SEED", text);
    }
}

static void push(Thread *thread)
{
    queue[(queue_head + queue_count++) % MAX_THREADS] = thread;
}

static Thread *pop()
{
    if (queue_count == 0) return nullptr;
    if (order == Order::RANDOM)
        std::swap(queue[queue_head], queue[(queue_head + random_below(queue_count)) % MAX_THREADS]);
    Thread *thread = queue[queue_head];
    queue_head = (queue_head + 1) % MAX_THREADS;
    queue_count--;
    return thread;
}

template <class F> static void in_order(unsigned count, F act)
{
    for (unsigned i = 0; i < count; i++)
        act(order == Order::REVERSE ? count - 1 - i : i);
}

static void set_thread(Thread *thread)
{
    engine.thread = thread;
    thread_index = &thread->index;
}

// Leaves `self`, which waits, for whoever is ready; to the host where nobody is.
static void suspend(Thread *self)
{
    Thread *next = pop();
    if (next != self) switch_to(!next ? &host : next->fibre ? next->fibre : take_fibre(next));
    set_thread(self);
}

static void fibre_main()
{
    Fibre *self = running;
    arrive();
    for (Thread *thread = self->next;;) {
        set_thread(thread);
        thread->fibre = self;
        engine.launch.call(engine.launch.arguments.get());
        thread->state = Thread::DONE;
        returned++;
        thread = pop();
        if (thread && !thread->fibre) continue;
        idle[idle_count++] = self;
        switch_to(thread ? thread->fibre : &host);
        thread = self->next;
    }
}

// --- messages ---

const char *where()
{
    static char text[96];
    text[0] = '\0';
    if (*engine.call && engine.thread) {
        const uint3 &t = engine.thread->index;
        snprintf(text, sizeof text, "block %u,%u,%u thread %u,%u,%u", block_index.x, block_index.y, block_index.z, t.x,
                 t.y, t.z);
    }
    return text;
}

[[noreturn]] static void fail(const Thread *thread, Site at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
[[noreturn]] static void fail(const Thread *thread, Site at, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    in_kernel = false;
    engine.thread = const_cast<Thread *>(thread);
    machine::violation(engine.call, "%s at %s:%d [%s]", sentence, at.file, at.line, where());
}

static bool same(Site a, Site b)
{
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

#if defined(__SANITIZE_ADDRESS__)
// AddressSanitizer's own report follows.
extern "C" void __asan_on_error()
{
    if (in_kernel) fprintf(stderr, "sim: %s: [%s]\n", engine.call, where());
}
#endif

// --- what threads do together ---

static unsigned predicates; // of the barrier that threads are arriving at
static int barrier_answer;

static void release_barrier()
{
    const Site first = engine.all[0].at;
    for (unsigned i = 1; i < engine.threads; i++)
        if (!same(engine.all[i].at, first))
            fail(&engine.all[i], engine.all[i].at, "divergent barrier (thread 0 waits at %s:%d)", first.file,
                 first.line);
    barrier_answer = static_cast<int>(predicates);
    predicates = at_barrier = 0;
    in_order(engine.threads, [](unsigned i) {
        Thread *thread = &engine.all[i];
        thread->state = Thread::READY;
        thread->barriers++;
        push(thread);
    });
}

int barrier_count(bool predicate, Site at)
{
    Thread *self = engine.thread;
    self->state = Thread::AT_BARRIER;
    self->at = at;
    predicates += predicate;
    if (++at_barrier == engine.threads) release_barrier();
    suspend(self);
    return barrier_answer;
}

void barrier(Site at)
{
    barrier_count(false, at);
}

void fence()
{
    engine.thread->fences++;
    engine.thread->barriers_at_fence = engine.thread->barriers;
}

void trap()
{
    machine::violation(engine.call, "__trap() [%s]", where());
}

static unsigned source_lane(const Thread &thread)
{
    const unsigned lane = thread.lane, width = static_cast<unsigned>(thread.width);
    const unsigned first = lane & ~(width - 1), by = static_cast<unsigned>(thread.argument);
    switch (thread.operation) {
    case Warp::INDEX:
        return first + (by & (width - 1));
    case Warp::UP:
        return lane >= first + by ? lane - by : lane;
    case Warp::DOWN:
        return lane + by < first + width ? lane + by : lane;
    case Warp::XOR:
        return (lane ^ by) < first + width ? lane ^ by : lane;
    case Warp::SYNC:
    case Warp::BALLOT:
        break;
    }
    return lane;
}

// Every lane of the mask is here: each gets its answer, and all but `self` become ready.
static void finish_warp(Thread *lanes, unsigned mask, Thread *self)
{
    uint64_t ballot = 0;
    for (unsigned l = 0; l < WARP_SIZE; l++)
        if (mask >> l & 1 && lanes[l].in) ballot |= 1u << l;
    for (unsigned l = 0; l < WARP_SIZE; l++) {
        if (!(mask >> l & 1)) continue;
        Thread &thread = lanes[l];
        if (thread.operation == Warp::BALLOT) {
            thread.out = ballot;
        } else if (thread.operation == Warp::SYNC) {
            thread.warp_syncs++;
        } else {
            const unsigned source = source_lane(thread);
            if (!(mask >> source & 1))
                fail(&thread, thread.at, "a shuffle reads lane %u, which isn't in its mask", source);
            thread.out = lanes[source].in;
        }
        thread.state = Thread::READY;
    }
    in_order(WARP_SIZE, [&](unsigned l) {
        if (mask >> l & 1 && &lanes[l] != self) push(&lanes[l]);
    });
}

// Whether all lanes of the mask wait in this same operation; a lane that never can is a violation.
static bool warp_complete(const Thread *self, const Thread *lanes)
{
    for (unsigned rest = self->mask; rest; rest &= rest - 1) {
        const unsigned l = static_cast<unsigned>(__builtin_ctz(rest));
        if (self->warp * WARP_SIZE + l >= engine.threads || lanes[l].state == Thread::DONE)
            fail(self, self->at, "a warp operation waits for lane %u, which has returned or never was", l);
        const Thread &other = lanes[l];
        if (other.state != Thread::IN_WARP || other.operation != self->operation || other.mask != self->mask ||
            !same(other.at, self->at))
            return false;
    }
    return true;
}

uint64_t warp(Warp operation, unsigned mask, uint64_t value, int argument, int width, Site at)
{
    Thread *self = engine.thread, *lanes = self - self->lane;
    if (!(mask >> self->lane & 1)) fail(self, at, "a warp operation by a lane that isn't in its mask");
    if (width <= 0 || width > 32 || (width & (width - 1)) != 0)
        fail(self, at, "a shuffle of width %d, expected a power of two up to 32", width);
    self->operation = operation;
    self->mask = mask;
    self->in = value;
    self->argument = argument;
    self->width = width;
    self->at = at;
    self->state = Thread::IN_WARP;
    if (warp_complete(self, lanes))
        finish_warp(lanes, mask, self);
    else
        suspend(self);
    return self->out;
}

// Nobody is ready, and not all have returned: what do they wait for?
[[noreturn]] static void stuck()
{
    for (unsigned i = 0; i < engine.threads; i++)
        if (engine.all[i].state == Thread::IN_WARP)
            fail(&engine.all[i], engine.all[i].at,
                 "deadlock: a warp operation waits for lanes that are elsewhere (another mask, another call, a "
                 "barrier)");
    for (unsigned i = 0; i < engine.threads; i++)
        if (engine.all[i].state == Thread::AT_BARRIER)
            fail(&engine.all[i], engine.all[i].at, "divergent barrier (%u threads of the block have returned)",
                 returned);
    abort();
}

// --- blocks ---

static void run_block(unsigned number)
{
    const dim3 &grid = engine.launch.grid;
    engine.block = number;
    block_index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    fill_shared();
    if (tracer.block) tracer.block();
    queue_head = queue_count = returned = at_barrier = predicates = 0;
    in_order(engine.threads, [](unsigned i) {
        Thread &thread = engine.all[i];
        thread.state = Thread::NEW;
        thread.fibre = nullptr;
        thread.barriers = thread.warp_syncs = thread.fences = thread.barriers_at_fence = 0;
        push(&thread);
    });
    in_kernel = true;
    switch_to(take_fibre(pop()));
    in_kernel = false;
    if (returned != engine.threads) stuck();
}

static void prepare_threads(dim3 block)
{
    static Thread threads[MAX_THREADS];
    engine.threads = block.x * block.y * block.z;
    engine.all = threads;
    for (unsigned i = 0; i < engine.threads; i++) {
        threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        threads[i].id = i;
        threads[i].lane = i % WARP_SIZE;
        threads[i].warp = i / WARP_SIZE;
    }
}

void run_kernel(const char *call, const Launch &launch)
{
    engine.launch = launch;
    engine.call = call;
    engine.serial++;
    host.tsan = fibre_current();
    block_size = launch.block;
    grid_size = launch.grid;
    read_order();
    prepare_threads(launch.block);
    prepare_shared(launch.shared);
    if (tracer.launched) tracer.launched();
    const unsigned blocks = launch.grid.x * launch.grid.y * launch.grid.z;
    if (order == Order::RANDOM) {
        std::vector<unsigned> numbers(blocks);
        for (unsigned i = 0; i < blocks; i++) {
            const unsigned j = random_below(i + 1);
            numbers[i] = numbers[j];
            numbers[j] = i;
        }
        for (unsigned number : numbers)
            run_block(number);
    } else {
        in_order(blocks, run_block);
    }
    engine.call = "";
    engine.thread = nullptr;
    engine.launch.arguments.reset();
}

} // namespace simt
