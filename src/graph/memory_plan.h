/* Where each buffer of a run lies in one arena: buffers whose lives don't overlap share bytes. Greedy by size (largest
 * first, lowest offset that is free for the buffer's whole life), which is within a few percent of the peak of live
 * bytes on the graphs here. Pure: sizes and lives in, offsets out. */
#pragma once

#include <stddef.h>

#include "base/status.h"

typedef struct MemoryBuffer {
    size_t size;     /* bytes; 0 is allowed */
    int first, last; /* the steps that write it first and read it last, inclusive */
    size_t offset;   /* out: a multiple of the alignment */
} MemoryBuffer;

/* Sets every offset and *total. `alignment` is a power of two. OUT_OF_RANGE when sizes overflow, RESOURCE_EXHAUSTED
 * above `limit` (0: none), naming both. */
Status memory_plan(MemoryBuffer *buffers, int count, size_t alignment, size_t limit, size_t *total, Error *error);
