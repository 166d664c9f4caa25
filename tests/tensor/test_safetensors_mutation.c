/* 20,000 random mutations of the golden file, each parsed in memory of exactly its size, so that the address sanitizer
 * sees any read beyond it. What is accepted must keep every promise of the header file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "support/suite.h"
#include "tensor/safetensors.h"

enum { MUTATIONS = 20000, SIZE_LIMIT = 4096 };

typedef struct Subject {
    uint8_t bytes[SIZE_LIMIT];
    size_t size;
} Subject;

/* Pieces that a random byte would hardly ever hit upon. */
static const char *const tokens[] = {
    "-1",
    "0",
    "1",
    "9223372036854775807",
    "9223372036854775808",
    "1e999",
    "0.5",
    "null",
    "[]",
    "{}",
    "[",
    "]",
    "{",
    "}",
    "\"",
    ",",
    ":",
    "\\u0000",
    "\\ud800",
    "\"F32\"",
    "\"U8\"",
    "\"F8_E4M3\"",
    "\"__metadata__\":",
    "\"shape\":[",
    "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},",
};

/* Replaces `removed` bytes at `at` by `added` others. */
static void splice(Subject *subject, size_t at, size_t removed, const void *bytes, size_t added)
{
    if (removed > subject->size - at) removed = subject->size - at;
    if (subject->size - removed + added > SIZE_LIMIT) return;
    memmove(subject->bytes + at + added, subject->bytes + at + removed, subject->size - at - removed);
    memcpy(subject->bytes + at, bytes, added);
    subject->size = subject->size - removed + added;
}

/* The length in front follows the header's change, so that mutants get past the first check. */
static void splice_header(Subject *subject, Rng *rng)
{
    uint64_t length;
    memcpy(&length, subject->bytes, 8);
    if (length > subject->size - 8 || length == 0) return;
    size_t at = 8 + (size_t)rng_below(rng, length), before = subject->size;
    const char *token = tokens[rng_below(rng, sizeof tokens / sizeof tokens[0])];
    size_t removed = (size_t)rng_below(rng, 4);
    splice(subject, at, removed < 8 + length - at ? removed : 8 + length - at, token, strlen(token));
    length += subject->size - before; /* modulo 2^64 */
    memcpy(subject->bytes, &length, 8);
}

static void mutate(Subject *subject, Rng *rng)
{
    if (subject->size < 9) return;
    size_t at = (size_t)rng_below(rng, subject->size), from = (size_t)rng_below(rng, subject->size);
    uint8_t copied[16];
    size_t length = 1 + (size_t)rng_below(rng, sizeof copied);
    switch (rng_below(rng, 8)) {
    case 0:
        subject->bytes[at] ^= (uint8_t)(1u << rng_below(rng, 8));
        break;
    case 1:
        subject->bytes[at] = (uint8_t)rng_u32(rng);
        break;
    case 2:
        subject->bytes[at] = (uint8_t)('0' + rng_below(rng, 10));
        break;
    case 3:
        subject->size = at;
        break;
    case 4:
        splice(subject, at, length, "", 0);
        break;
    case 5:
        if (length > subject->size - from) length = subject->size - from;
        memcpy(copied, subject->bytes + from, length);
        splice(subject, at, 0, copied, length);
        break;
    case 6:
        subject->bytes[rng_below(rng, 8)] = (uint8_t)rng_u32(rng);
        break;
    default:
        splice_header(subject, rng);
    }
}

static void check_promises(const Safetensors *file, const Subject *subject)
{
    uint64_t length;
    memcpy(&length, subject->bytes, 8);
    size_t total = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const Tensor *tensor = safetensors_at(file, i);
        size_t size;
        ck_assert(shape_bytes(tensor->shape, dtype_size(tensor->dtype), &size));
        ck_assert_uint_eq(tensor->size, size);
        ck_assert_uint_eq((uintptr_t)tensor->data % dtype_size(tensor->dtype), 0);
        ck_assert_ptr_eq(safetensors_find(file, safetensors_name(file, i)), tensor);
        if (size) ck_assert_int_eq(memcmp(tensor->data, subject->bytes + 8 + length + total, size), 0);
        total += size;
    }
    ck_assert_uint_eq(8 + length + total, subject->size);
}

/* True when it was accepted. */
static bool try(const Subject *subject)
{
    uint8_t *exact = malloc(subject->size + !subject->size);
    memcpy(exact, subject->bytes, subject->size);
    Safetensors *file = NULL;
    Error error = {0};
    Status status = safetensors_parse(exact, subject->size, "mutant", &file, &error);
    if (status == STATUS_OK)
        check_promises(file, subject);
    else
        ck_assert_msg(status == STATUS_INVALID_ARGUMENT && strncmp(error.message, "mutant: ", 8) == 0, "%s",
                      error.message);
    safetensors_close(file);
    free(exact);
    return status == STATUS_OK;
}

START_TEST(test_mutants_are_read_or_refused)
{
    Subject golden = {0};
    FileMap map = {0};
    ck_assert_int_eq(file_map(TEST_SOURCE_DIR "/tensor/golden.safetensors", &map, NULL), STATUS_OK);
    ck_assert_uint_le(map.size, SIZE_LIMIT / 2);
    memcpy(golden.bytes, map.data, map.size);
    golden.size = map.size;
    file_unmap(&map);
    ck_assert(try(&golden));

    Rng rng = rng_make(20, RNG_STREAM_TEST);
    int accepted = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        Subject mutant = golden;
        for (uint64_t left = 1 + rng_below(&rng, 4); left > 0; left--)
            mutate(&mutant, &rng);
        accepted += try(&mutant);
    }
    /* Both sides were exercised: flipped data is accepted, a broken header isn't. */
    ck_assert_int_gt(accepted, MUTATIONS / 100);
    ck_assert_int_lt(accepted, MUTATIONS / 2);
}
END_TEST

SUITE_MAIN("safetensors_mutation", test_mutants_are_read_or_refused)
