/* What the data tests share: the bytes of made-up IDX files. Failures end the test. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Bytes of an IDX file being made. */
typedef struct Bytes {
    uint8_t data[4096];
    size_t size;
} Bytes;

/* A header of unsigned bytes with these dimensions, and `count` elements 0, 1, 2, ... (modulo `modulus`). */
Bytes files_idx(int rank, const uint32_t *dims, size_t count, int modulus);

/* The same bytes as one gzip member. */
Bytes files_gzip(const Bytes *bytes);
