/* What the fuzzers share. A fuzzer is one file, fuzz_x.c: LLVMFuzzerTestOneInput takes bytes as a peer may send them
 * and calls what reads them; REQUIRE states what must hold then, beyond not crashing. Built by clang with libFuzzer,
 * ASan and UBSan (cmake --preset fuzz), run by scripts/test.sh.
 *
 * Choices that aren't bytes of the peer (where a message is cut, which shape is expected) are taken from the end of the
 * input, so that messages stay whole at its beginning, where libFuzzer crosses and grows them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/message.h"

/* abort() is what libFuzzer, ASan and UBSan report with the input that led to it. */
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

typedef struct FuzzInput {
    const uint8_t *bytes;
    size_t size;
} FuzzInput;

/* Takes the last byte off; 0 when none is left. */
uint8_t fuzz_choice(FuzzInput *input);

/* A room of exactly `size` bytes at an address that is 0 modulo 16, with bytes around it that may not be touched: as
 * malloc would give it under AddressSanitizer, but without its price. Valid until fuzz_rooms_clear. `size` is at most
 * FUZZ_ROOM. */
enum { FUZZ_ROOM = 64 << 10 };
void *fuzz_room(size_t size);
void fuzz_rooms_clear(void);

/* A message in pieces, each in a room of its own, as gRPC may deliver it; the places are choices of `input`. */
enum { FUZZ_PIECES = 8 };
typedef struct FuzzPieces {
    size_t count;
    Segment segments[FUZZ_PIECES];
} FuzzPieces;
void fuzz_cut(FuzzInput *input, FuzzPieces *out);

/* A copy in a room; a terminated one. */
uint8_t *fuzz_copy(const void *bytes, size_t size);
char *fuzz_text(const FuzzInput *input);

/* Good examples of what the target reads, for the fuzzer to begin with: each is passed to `keep`. Every target has this
 * function. They are written into the corpus folder, the command line's last argument, as the fuzzer starts. */
typedef struct FuzzSeeds FuzzSeeds;
void fuzz_seeds(FuzzSeeds *seeds);
void fuzz_seed(FuzzSeeds *seeds, const void *bytes, size_t size);

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
