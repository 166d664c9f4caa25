#include "wire/pieces.h"

#include <stdlib.h>
#include <string.h>

static void add(Pieces *out, const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size);
    if (size) memcpy(copy, bytes, size);
    out->segments[out->count++] = (Segment){copy, size};
}

void pieces_cut(Pieces *out, const uint8_t *bytes, size_t size, Rng *rng)
{
    out->count = 0;
    size_t wanted = 1 + rng_below(rng, MAX_PIECES - 1);
    while (out->count + 1 < wanted) {
        size_t here = rng_below(rng, size + 1); /* empty pieces too */
        add(out, bytes, here);
        bytes += here;
        size -= here;
    }
    add(out, bytes, size);
}

void pieces_free(Pieces *pieces)
{
    for (size_t i = 0; i < pieces->count; i++)
        free((void *)(uintptr_t)pieces->segments[i].data);
}
