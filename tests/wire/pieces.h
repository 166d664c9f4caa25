/* A message cut into segments at random places, each in memory of exactly its size, so that AddressSanitizer sees a
 * read beyond any of them. */
#pragma once

#include "base/rng.h"
#include "wire/message.h"

enum { MAX_PIECES = 12 };

typedef struct Pieces {
    size_t count;
    Segment segments[MAX_PIECES];
} Pieces;

void pieces_cut(Pieces *out, const uint8_t *bytes, size_t size, Rng *rng);
void pieces_free(Pieces *pieces);
