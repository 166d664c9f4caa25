/* Memory for things that live and die together: many small allocations, freed at once. Zero-initialise; not
 * thread-safe. */
#pragma once

#include <stddef.h>

typedef struct ArenaBlock ArenaBlock;

typedef struct Arena {
    ArenaBlock *blocks;
    size_t used, capacity; /* of the newest block */
} Arena;

/* Zeroed and aligned for any type; NULL when memory is short. */
void *arena_allocate(Arena *arena, size_t size);
/* A copy of `text`; NULL when memory is short. */
const char *arena_string(Arena *arena, const char *text);
void arena_free(Arena *arena);
