/* Greedy by size (Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020, algorithm 3):
 * large buffers are placed first, each at the lowest offset that no buffer alive at the same time occupies. */
#include "graph/memory_plan.h"

#include <stdlib.h>

#include "base/size.h"

typedef struct Entry {
    MemoryBuffer *buffer;
    int index;
    size_t size; /* rounded up to the alignment */
} Entry;

/* Largest first; buffers of one size in the order given, so that a plan is the same on every machine. */
static int compare_entries(const void *left, const void *right)
{
    const Entry *a = left, *b = right;
    if (a->size != b->size) return a->size < b->size ? 1 : -1;
    return (a->index > b->index) - (a->index < b->index);
}

static bool lives_overlap(const MemoryBuffer *a, const MemoryBuffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Finds the lowest free offset for `entry` among `placed`, which is in order of offsets, and inserts it there. False on
 * overflow. */
static bool place(Entry *placed, int count, Entry entry, size_t *end)
{
    size_t offset = 0, top = 0;
    for (int i = 0; i < count; i++) {
        const Entry *other = &placed[i];
        if (!lives_overlap(entry.buffer, other->buffer)) continue;
        if (other->buffer->offset >= offset && other->buffer->offset - offset >= entry.size) break;
        size_t other_end = other->buffer->offset + other->size;
        if (other_end > offset) offset = other_end;
    }
    if (!size_add(offset, entry.size, &top)) return false;
    entry.buffer->offset = offset;
    *end = top;

    int position = count;
    for (; position > 0 && placed[position - 1].buffer->offset > offset; position--)
        placed[position] = placed[position - 1];
    placed[position] = entry;
    return true;
}

Status memory_plan(MemoryBuffer *buffers, int count, size_t alignment, size_t limit, size_t *total, Error *error)
{
    *total = 0;
    if (count == 0) return STATUS_OK;
    Status status = STATUS_OK;
    Entry *entries = calloc((size_t)count, sizeof *entries);
    Entry *placed = calloc((size_t)count, sizeof *placed);
    if (!entries || !placed) {
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to plan %d buffers", count);
        goto done;
    }
    for (int i = 0; i < count; i++) {
        size_t padded;
        if (!size_add(buffers[i].size, alignment - 1, &padded)) {
            status =
                error_set(error, STATUS_OUT_OF_RANGE, "buffer %d has %zu bytes, which overflows", i, buffers[i].size);
            goto done;
        }
        buffers[i].offset = 0;
        entries[i] = (Entry){&buffers[i], i, size_align(buffers[i].size, alignment)};
    }
    qsort(entries, (size_t)count, sizeof *entries, compare_entries);

    size_t arena = 0;
    for (int i = 0; i < count && entries[i].size > 0; i++) {
        size_t end;
        if (!place(placed, i, entries[i], &end)) {
            status = error_set(error, STATUS_OUT_OF_RANGE, "%d buffers overflow: one of %zu bytes has no place", count,
                               entries[i].size);
            goto done;
        }
        if (end > arena) arena = end;
    }
    if (limit > 0 && arena > limit) {
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "the plan needs %zu bytes, more than the limit of %zu",
                           arena, limit);
        goto done;
    }
    *total = arena;

done:
    free(placed);
    free(entries);
    return status;
}
