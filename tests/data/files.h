/* What the data tests share: a folder of their own, and IDX files, whole or damaged, in it. Failures end the test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILES_PATH_SIZE = 256 };

/* Bytes of an IDX file being made. */
typedef struct Bytes {
    uint8_t data[4096];
    size_t size;
} Bytes;

/* A header of unsigned bytes with these dimensions, and `count` elements 0, 1, 2, ... (modulo `modulus`). */
Bytes files_idx(int rank, const uint32_t *dims, size_t count, int modulus);

/* The same bytes as one gzip member. */
Bytes files_gzip(const Bytes *bytes);

/* Makes an empty folder; files_remove takes it away with what is in it. */
void files_folder(char folder[FILES_PATH_SIZE]);
void files_remove(const char *folder);

/* Writes <folder>/<name> and returns its path in `path`; a '/' in the name makes the folder before it. */
void files_write(const char *folder, const char *name, const Bytes *bytes, char path[FILES_PATH_SIZE]);
