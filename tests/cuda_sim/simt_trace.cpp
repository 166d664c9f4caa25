// Watches every access that kernels make. The kernels are compiled with clang++ -fsanitize=thread, which calls a
// function before each access; this file has these functions in place of ThreadSanitizer's own, and answers with what
// compute-sanitizer would say: races in shared and in global memory, also between kernels of two streams; reads of
// memory that nothing has set; accesses outside of an allocation or of a shared variable; misaligned accesses.
//
// The kernels want -O1 -g -fsanitize=thread and, after -mllvm each, -tsan-instrument-func-entry-exit=0,
// -tsan-instrument-atomics=0 and -tsan-instrument-read-before-write=1 (else "y += 1" of an unset y goes unseen).
//
// Link it into the program with the kernels, with -Wl,--wrap=memcpy,--wrap=memset,--wrap=memmove (what the compiler
// makes of a copied struct), and without -fsanitize=thread; everything else is compiled without it too.
//
// For each 4 bytes it keeps the last write and the last reads: by which thread, after how many barriers. Two accesses
// of one launch are ordered if one thread made both, a barrier (of the block, or of the warp) lies between them, or,
// from one block to the next, the first was followed by __threadfence() and an atomic, and the second comes after an
// atomic on the same address.
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "machine_internal.h"
#include "simt_engine.h"

namespace simt
{

struct Stamp {
    uint32_t run; // 0: none
    uint32_t block;
    uint32_t barriers;
    uint16_t warp_syncs, fences;
    uint16_t thread : 10, bytes : 4, atomic : 1, whole : 1; // `whole`: no kernel's but a copy's or a library call's
};

// What is known of 4 bytes: the last write; the last read, the last before it by another thread of that warp, and the
// last by another warp.
struct Cell {
    Stamp write, read, same_warp, other_warp;
};

constexpr size_t PAGE = 4096;
struct Page {
    const machine::Allocation *allocation; // null: shared memory
    Cell cells[PAGE / 4];
    uint8_t set[PAGE / 8]; // a bit a byte
};

static bool is_shared(const Page &page)
{
    return !page.allocation;
}

// --- where pages are kept ---

static Page *&slot_of(uintptr_t address)
{
    static std::unordered_map<uintptr_t, Page *> others; // of shared memory
    static Page **device = nullptr;
    const void *pointer = reinterpret_cast<const void *>(address);
    if (!machine::in_device_space(pointer)) return others[address / PAGE];
    if (!device) {
        void *all = mmap(nullptr, machine::device_space_size() / PAGE * sizeof(Page *), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (all == MAP_FAILED) abort();
        device = static_cast<Page **>(all);
    }
    return device[machine::device_offset(pointer) / PAGE];
}

static Page &page_of(uintptr_t address)
{
    Page *&slot = slot_of(address);
    if (!slot) {
        slot = static_cast<Page *>(calloc(1, sizeof(Page)));
        if (!slot) abort();
        slot->allocation = machine::find_allocation(reinterpret_cast<const void *>(address));
    }
    return *slot;
}

static void mark(uintptr_t address, size_t size, bool set)
{
    for (size_t i = 0; i < size;) {
        Page &page = page_of(address + i);
        for (size_t at = (address + i) % PAGE; at < PAGE && i < size; at++, i++)
            page.set[at / 8] =
                static_cast<uint8_t>(set ? page.set[at / 8] | 1u << at % 8 : page.set[at / 8] & ~(1u << at % 8));
    }
}

static bool is_set(uintptr_t address, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const size_t at = (address + i) % PAGE;
        if (!(page_of(address + i).set[at / 8] >> at % 8 & 1)) return false;
    }
    return true;
}

// --- messages ---

// "loss.cu:42", the line of a return address.
static std::string line_of(void *code)
{
    Dl_info module;
    char command[1024], text[512] = "";
    if (!dladdr(code, &module)) return "";
    snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%zx", module.dli_fname,
             static_cast<size_t>(static_cast<char *>(code) - static_cast<char *>(module.dli_fbase) - 1));
    FILE *pipe = popen(command, "r");
    if (!pipe) return "";
    if (!fgets(text, sizeof text, pipe)) text[0] = '\0';
    pclose(pipe);
    text[strcspn(text, " \n")] = '\0';
    return std::string(" at ") + text;
}

[[noreturn]] static void say(void *code, const char *format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] static void say(void *code, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    const std::string line = code ? line_of(code) : "";
    machine::violation(machine::run_name(machine::current_run()).c_str(), "%s%s%s%s%s", sentence, line.c_str(),
                       *where() ? " [" : "", where(), *where() ? "]" : "");
}

// "kernel b wrote", "block 0 thread 3 wrote"
static std::string who(const Stamp &stamp)
{
    if (stamp.run != machine::current_run()) return machine::run_name(stamp.run);
    return "thread " + std::to_string(stamp.thread) + " of block " + std::to_string(stamp.block);
}

// --- what orders two accesses ---

// An atomic after a fence: what of its block is visible to whoever sees the atomic's value.
struct Release {
    unsigned block, thread, barriers, fences, barriers_at_fence;
    std::vector<uint16_t> all_fences; // how many each thread of the block had made
};
using Releases = std::vector<Release>;
// An atomic that saw `count` of an address's releases.
struct Acquire {
    const Releases *releases;
    size_t count;
    unsigned thread, barriers;
};
static std::unordered_map<uintptr_t, Releases> releases; // of this launch
static std::vector<Acquire> acquires;                    // of this block

static bool covers(const Release &release, const Stamp &stamp)
{
    if (release.block != stamp.block) return false;
    if (release.thread == stamp.thread) return stamp.fences < release.fences;
    const bool fenced_here = release.fences > 0 && stamp.barriers < release.barriers_at_fence;
    const bool fenced_there = stamp.fences < release.all_fences[stamp.thread] && stamp.barriers < release.barriers;
    return fenced_here || fenced_there;
}

static bool acquired(const Stamp &stamp)
{
    for (const Acquire &acquire : acquires) {
        if (acquire.thread != engine.thread->id && acquire.barriers >= engine.thread->barriers) continue;
        for (size_t i = 0; i < acquire.count; i++)
            if (covers((*acquire.releases)[i], stamp)) return true;
    }
    return false;
}

static bool ran_before(uint32_t run)
{
    static uint32_t asked, asked_by;
    static bool answer;
    if (run != asked || asked_by != machine::current_run()) {
        asked = run;
        asked_by = machine::current_run();
        answer = machine::ran_before(run);
    }
    return answer;
}

static bool ordered(const Stamp &stamp, bool shared)
{
    if (stamp.run != machine::current_run()) return shared || ran_before(stamp.run);
    if (stamp.whole) return true;
    if (stamp.block != engine.block) return shared || acquired(stamp);
    const Thread &thread = *engine.thread;
    if (stamp.thread == thread.id || stamp.barriers < thread.barriers) return true;
    return stamp.thread / WARP_SIZE == thread.warp && stamp.warp_syncs < static_cast<uint16_t>(thread.warp_syncs);
}

static void note_atomic(uintptr_t address)
{
    const Thread &thread = *engine.thread;
    Releases &seen = releases[address];
    if (!seen.empty()) acquires.push_back({&seen, seen.size(), thread.id, thread.barriers});
    Release release{engine.block, thread.id, thread.barriers, thread.fences, thread.barriers_at_fence, {}};
    bool fenced = false;
    for (unsigned i = 0; i < engine.threads; i++) {
        release.all_fences.push_back(static_cast<uint16_t>(engine.all[i].fences));
        fenced = fenced || engine.all[i].fences > 0;
    }
    if (fenced) seen.push_back(std::move(release));
}

// --- one access ---

static void check_clash(const Stamp &stamp, const Stamp &now, bool write, bool shared, uintptr_t address, void *code,
                        const char *did)
{
    if (stamp.run == 0 || !(stamp.bytes & now.bytes) || (stamp.atomic && now.atomic) || ordered(stamp, shared)) return;
    say(code, "race: %s %p, which %s %s, and nothing puts one before the other", write ? "writes" : "reads",
        reinterpret_cast<void *>(address), who(stamp).c_str(), did);
}

static void note_read(Cell &cell, const Stamp &now)
{
    const Stamp &last = cell.read;
    const bool same_block = last.run == now.run && last.block == now.block;
    if (last.run && !(same_block && last.thread == now.thread)) {
        if (same_block && last.thread / WARP_SIZE == now.thread / WARP_SIZE)
            cell.same_warp = last;
        else
            cell.other_warp = last;
    }
    cell.read = now;
}

static void record(uintptr_t address, size_t size, bool write, Stamp now, void *code)
{
    for (uintptr_t word = address & ~uintptr_t{3}; word < address + size; word += 4) {
        Page &page = page_of(word);
        Cell &cell = page.cells[word % PAGE / 4];
        const bool shared = is_shared(page);
        unsigned bytes = 0;
        for (unsigned i = 0; i < 4; i++)
            if (word + i >= address && word + i < address + size) bytes |= 1u << i;
        now.bytes = bytes & 15;
        check_clash(cell.write, now, write, shared, word, code, "writes");
        if (!write) {
            note_read(cell, now);
            continue;
        }
        for (const Stamp *read : {&cell.read, &cell.same_warp, &cell.other_warp})
            check_clash(*read, now, write, shared, word, code, "reads");
        cell.write = now;
    }
}

// Constants, and the engine's own threadIdx and blockIdx: whatever a loaded file has in memory may be read.
static bool in_a_file(uintptr_t address)
{
    static uintptr_t wanted;
    wanted = address;
    return dl_iterate_phdr(
               [](dl_phdr_info *info, size_t, void *) {
                   for (int i = 0; i < info->dlpi_phnum; i++) {
                       const auto &segment = info->dlpi_phdr[i];
                       if (segment.p_type == PT_LOAD && wanted - info->dlpi_addr - segment.p_vaddr < segment.p_memsz)
                           return 1;
                   }
                   return 0;
               },
               nullptr) != 0;
}

// Whether the access is one to look at: to device or to shared memory. One to neither is a violation, or the compiler's
// own affair.
static bool is_watched(uintptr_t address, size_t size, bool write, void *code)
{
    const void *pointer = reinterpret_cast<const void *>(address);
    if (on_fibre_stack(pointer)) return false;
    if (machine::in_device_space(pointer)) {
        const machine::Allocation *allocation = page_of(address).allocation;
        const char *begin = static_cast<const char *>(pointer);
        if (allocation && allocation->live && begin >= allocation->begin &&
            begin + size <= allocation->begin + allocation->size)
            return true;
        say(code, "%s %zu bytes at %p, outside of device memory%s", write ? "writes" : "reads", size, pointer,
            machine::history(pointer).c_str());
    }
    if (in_shared(pointer)) {
        if (inside_shared_variable(pointer, size)) return true;
        say(code, "%s %zu bytes at %p, outside of its shared memory", write ? "writes" : "reads", size, pointer);
    }
    const uintptr_t arguments = reinterpret_cast<uintptr_t>(engine.launch.arguments.get());
    if (!write &&
        (address - arguments < engine.launch.arguments_size ||
         address - reinterpret_cast<uintptr_t>(engine.all) < MAX_THREADS * sizeof(Thread) || in_a_file(address)))
        return false;
    say(code, "%s %zu bytes at %p, which is not device memory", write ? "writes" : "reads", size, pointer);
}

static void touch(const void *pointer, size_t size, bool write, bool atomic, void *code)
{
    if (!in_kernel || !engine.thread || size == 0) return;
    const OutsideKernel outside; // what this file itself copies and sets doesn't count
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    if (!is_watched(address, size, write, code)) return;
    if (size <= 16 && (size & (size - 1)) == 0 && address % size != 0)
        say(code, "a misaligned access of %zu bytes at %p", size, pointer);
    if ((!write || atomic) && !is_set(address, size))
        say(code, "reads %zu bytes at %p that nothing has written", size, pointer);
    if (write) mark(address, size, true);
    const Thread &thread = *engine.thread;
    Stamp now{};
    now.run = machine::current_run();
    now.block = engine.block;
    now.barriers = thread.barriers;
    now.warp_syncs = static_cast<uint16_t>(thread.warp_syncs);
    now.fences = static_cast<uint16_t>(thread.fences);
    now.thread = thread.id & 1023;
    now.atomic = atomic;
    record(address, size, write, now, code);
    if (atomic) note_atomic(address);
}

// --- what the machine and the engine report ---

static void on_block()
{
    acquires.clear();
    for_each_shared([](const void *begin, size_t size) { mark(reinterpret_cast<uintptr_t>(begin), size, false); });
}

static void on_shared(const void *begin, size_t size)
{
    mark(reinterpret_cast<uintptr_t>(begin), size, false);
}

static void on_atomic(const void *pointer, size_t size, void *code)
{
    touch(pointer, size, true, true, code);
}

// A copy or a library's call: all that it writes is set from now on, and it must not race either.
static void on_work(const machine::Piece &piece)
{
    Stamp now{};
    now.run = machine::current_run();
    now.whole = 1;
    for (const machine::Access &access : piece.accesses) {
        if (!machine::in_device_space(access.begin)) continue;
        const uintptr_t address = reinterpret_cast<uintptr_t>(access.begin);
        if (access.write) mark(address, access.bytes, true);
        record(address, access.bytes, access.write, now, nullptr);
    }
}

static void on_release(const machine::Allocation &allocation)
{
    for (size_t at = 0; at < allocation.pages_size && allocation.where == machine::Where::DEVICE; at += PAGE) {
        Page *&page = slot_of(reinterpret_cast<uintptr_t>(allocation.pages) + at);
        free(page);
        page = nullptr;
    }
}

__attribute__((used)) static const bool linked = (tracer = {[] { releases.clear(); }, on_block, on_shared, on_atomic},
                                                  machine::memory_tracer = {on_release, on_work}, true);

} // namespace simt

// --- what the compiler calls ---

#define CODE __builtin_return_address(0)
#define ACCESSES(size)                                                                                                 \
    void __tsan_read##size(void *p)                                                                                    \
    {                                                                                                                  \
        simt::touch(p, size, false, false, CODE);                                                                      \
    }                                                                                                                  \
    void __tsan_write##size(void *p)                                                                                   \
    {                                                                                                                  \
        simt::touch(p, size, true, false, CODE);                                                                       \
    }                                                                                                                  \
    void __tsan_unaligned_read##size(void *p)                                                                          \
    {                                                                                                                  \
        simt::touch(p, size, false, false, CODE);                                                                      \
    }                                                                                                                  \
    void __tsan_unaligned_write##size(void *p)                                                                         \
    {                                                                                                                  \
        simt::touch(p, size, true, false, CODE);                                                                       \
    }

extern "C" {
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

void __tsan_read_range(void *p, size_t size)
{
    simt::touch(p, size, false, false, CODE);
}

void __tsan_write_range(void *p, size_t size)
{
    simt::touch(p, size, true, false, CODE);
}

void __tsan_init()
{
}

void __tsan_func_entry(void *)
{
}

void __tsan_func_exit()
{
}

void __tsan_vptr_update(void **, void *)
{
}

void __tsan_vptr_read(void **)
{
}

void *__real_memcpy(void *to, const void *from, size_t size);
void *__real_memmove(void *to, const void *from, size_t size);
void *__real_memset(void *to, int value, size_t size);

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
    simt::touch(from, size, false, false, CODE);
    simt::touch(to, size, true, false, CODE);
    return __real_memcpy(to, from, size);
}

void *__wrap_memmove(void *to, const void *from, size_t size)
{
    simt::touch(from, size, false, false, CODE);
    simt::touch(to, size, true, false, CODE);
    return __real_memmove(to, from, size);
}

void *__wrap_memset(void *to, int value, size_t size)
{
    simt::touch(to, size, true, false, CODE);
    return __real_memset(to, value, size);
}
}
