/* A tensor read in pieces of any length is the tensor read at once, however the message was cut when it came. */
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"
#include "wire/message.h"
#include "wire/pieces.h"

enum { ELEMENTS = 1500, ROUNDS = 300 }; /* several blocks of a conversion */

static const struct Pair {
    DType sent, wanted;
} pairs[] = {{DTYPE_F32, DTYPE_F32}, {DTYPE_F64, DTYPE_F64}, {DTYPE_I64, DTYPE_I64},
             {DTYPE_I32, DTYPE_I32}, {DTYPE_F64, DTYPE_F32}, {DTYPE_I32, DTYPE_I64}};

static void fill(Tensor *tensor, Rng *rng)
{
    for (size_t i = 0; i < ELEMENTS; i++) {
        int32_t value = (int32_t)rng_u32(rng);
        if (tensor->dtype == DTYPE_F32) ((float *)tensor->data)[i] = (float)value * 0.37f;
        if (tensor->dtype == DTYPE_F64) ((double *)tensor->data)[i] = (double)value * 0.37;
        if (tensor->dtype == DTYPE_I32) ((int32_t *)tensor->data)[i] = value;
        if (tensor->dtype == DTYPE_I64) ((int64_t *)tensor->data)[i] = (int64_t)value * (1 << 20);
    }
}

static uint8_t *pack(const Tensor *tensor, size_t *size)
{
    EncodedMessage encoded;
    MessageTensor item = {tensor, MODALITY_TENSOR};
    ck_assert_int_eq(message_encode("sender", "soma", &item, 1, SIZE_MAX, &encoded, NULL), STATUS_OK);
    uint8_t *bytes = malloc(encoded.size), *at = bytes;
    for (size_t i = 0; i < encoded.count; at += encoded.parts[i].size, i++)
        memcpy(at, encoded.parts[i].data, encoded.parts[i].size);
    *size = encoded.size;
    return bytes;
}

/* One range into memory of exactly its size, where the address sanitizer sees a write beyond. */
static void expect_range(const WireTensor *tensor, struct Pair pair, size_t first, size_t count, const uint8_t *whole)
{
    size_t width = dtype_size(pair.wanted);
    void *part = malloc(count ? count * width : 1);
    ck_assert_int_eq(message_tensor_read_range(tensor, pair.sent, pair.wanted, first, count, part, NULL), STATUS_OK);
    ck_assert_msg(memcmp(part, whole + first * width, count * width) == 0, "%s as %s, %zu elements from %zu on",
                  dtype_name(pair.sent), dtype_name(pair.wanted), count, first);
    free(part);
}

static void expect_ranges(struct Pair pair, const uint8_t *bytes, size_t size, Rng *rng)
{
    static uint8_t whole[ELEMENTS * 8];
    Pieces pieces;
    Message message;
    pieces_cut(&pieces, bytes, size, rng);
    ck_assert_int_eq(message_parse(pieces.segments, pieces.count, &message, NULL), STATUS_OK);
    const WireTensor *tensor = &message.tensors[0];
    ck_assert_int_eq(message_tensor_read(tensor, pair.sent, pair.wanted, shape_of(3, ELEMENTS / 3), whole, NULL),
                     STATUS_OK);
    size_t first = rng_below(rng, ELEMENTS + 1);
    expect_range(tensor, pair, first, rng_below(rng, ELEMENTS - first + 1), whole);
    expect_range(tensor, pair, 0, ELEMENTS, whole);
    expect_range(tensor, pair, ELEMENTS, 0, whole);
    expect_range(tensor, pair, ELEMENTS - 1, 1, whole);
    pieces_free(&pieces);
}

START_TEST(any_range_of_any_dtype_is_that_part_of_the_whole)
{
    Rng rng = rng_make(11, RNG_STREAM_TEST);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        Tensor tensor;
        size_t size;
        ck_assert_int_eq(tensor_create(pairs[i].sent, shape_of(3, ELEMENTS / 3), &tensor, NULL), STATUS_OK);
        fill(&tensor, &rng);
        uint8_t *bytes = pack(&tensor, &size);
        for (int round = 0; round < ROUNDS; round++)
            expect_ranges(pairs[i], bytes, size, &rng);
        free(bytes);
        tensor_destroy(&tensor);
    }
}
END_TEST

START_TEST(the_whole_is_what_was_sent)
{
    Rng rng = rng_make(12, RNG_STREAM_TEST);
    static float floats[ELEMENTS];
    Tensor tensor;
    Message message;
    size_t size;
    ck_assert_int_eq(tensor_create(DTYPE_F64, shape_of(ELEMENTS), &tensor, NULL), STATUS_OK);
    fill(&tensor, &rng);
    uint8_t *bytes = pack(&tensor, &size);
    Segment segment = {bytes, size};
    ck_assert_int_eq(message_parse(&segment, 1, &message, NULL), STATUS_OK);
    for (size_t first = 0; first < ELEMENTS; first += 300)
        ck_assert_int_eq(
            message_tensor_read_range(&message.tensors[0], DTYPE_F64, DTYPE_F32, first, 300, floats + first, NULL),
            STATUS_OK);
    for (size_t i = 0; i < ELEMENTS; i++)
        ck_assert(floats[i] == (float)((double *)tensor.data)[i]);
    free(bytes);
    tensor_destroy(&tensor);
}
END_TEST

START_TEST(what_cannot_be_converted_is_refused)
{
    const DType all[] = {DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_I64};
    WireTensor tensor = {0};
    Error error;
    for (size_t s = 0; s < 4; s++)
        for (size_t w = 0; w < 4; w++) {
            bool allowed = false;
            for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
                allowed = allowed || (pairs[i].sent == all[s] && pairs[i].wanted == all[w]);
            Status status = message_tensor_read_range(&tensor, all[s], all[w], 0, 0, NULL, &error);
            ck_assert_int_eq(status, allowed ? STATUS_OK : STATUS_INVALID_ARGUMENT);
        }
}
END_TEST

SUITE_MAIN("ranges", any_range_of_any_dtype_is_that_part_of_the_whole, the_whole_is_what_was_sent,
           what_cannot_be_converted_is_refused)
