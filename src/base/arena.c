#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { BLOCK_SIZE = 16384 };

struct ArenaBlock {
    ArenaBlock *next;
    alignas(max_align_t) unsigned char bytes[];
};

void *arena_allocate(Arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size = size_align(size > 0 ? size : 1, alignof(max_align_t));
    if (arena->blocks == NULL || size > arena->capacity - arena->used) {
        size_t capacity = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        ArenaBlock *block = calloc(1, sizeof(ArenaBlock) + capacity);
        if (block == NULL) return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        arena->used = 0;
        arena->capacity = capacity;
    }
    void *result = arena->blocks->bytes + arena->used;
    arena->used += size;
    return result;
}

const char *arena_string(Arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_allocate(arena, size);
    if (copy != NULL) memcpy(copy, text, size);
    return copy;
}

void arena_free(Arena *arena)
{
    while (arena->blocks != NULL) {
        ArenaBlock *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
    *arena = (Arena){0};
}
