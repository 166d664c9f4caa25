/* The codec against protobuf-c, both ways. */
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"
#include "wire/message.h"
#include "wire/pieces.h"
#include "wire/truth.h"

static const char key[] = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static uint8_t *joined(const EncodedMessage *message)
{
    uint8_t *bytes = malloc(message->size + 1), *at = bytes;
    for (size_t i = 0; i < message->count; i++) {
        memcpy(at, message->parts[i].data, message->parts[i].size);
        at += message->parts[i].size;
    }
    ck_assert_uint_eq((size_t)(at - bytes), message->size);
    return bytes;
}

static Tensor random_tensor(Rng *rng)
{
    static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_I64};
    Shape shape = {.rank = (int)rng_below(rng, SHAPE_MAX_RANK + 1)};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = (int64_t)rng_below(rng, 5);
    Tensor tensor;
    ck_assert_int_eq(tensor_create(dtypes[rng_below(rng, 4)], shape, &tensor, NULL), STATUS_OK);
    for (size_t i = 0; i < tensor.size; i++)
        ((uint8_t *)tensor.data)[i] = (uint8_t)rng_u32(rng);
    return tensor;
}

static int number_of(DType dtype)
{
    return dtype == DTYPE_F32 ? 1 : dtype == DTYPE_F64 ? 2 : dtype == DTYPE_I32 ? 3 : 4;
}

static TruthTensor truth_of(const Tensor *tensor, Modality modality)
{
    TruthTensor truth = {.buffer = tensor->data,
                         .size = tensor->size,
                         .rank = (size_t)tensor->shape.rank,
                         .dtype = number_of(tensor->dtype),
                         .modality = (int)modality};
    for (int i = 0; i < tensor->shape.rank; i++)
        truth.dims[i] = tensor->shape.dims[i];
    return truth;
}

START_TEST(encoding_gives_the_bytes_of_protobuf)
{
    Rng rng = rng_make(1, RNG_STREAM_TEST);
    for (int round = 0; round < 500; round++) {
        size_t count = rng_below(&rng, 3);
        Tensor tensors[2];
        MessageTensor items[2];
        Truth truth = {.version = "0.0.0", .neuron_key = key, .synapse_key = round % 3 ? key : "", .count = count};
        for (size_t i = 0; i < count; i++) {
            tensors[i] = random_tensor(&rng);
            items[i] = (MessageTensor){&tensors[i], (Modality)rng_below(&rng, 3)};
            truth.tensors[i] = truth_of(&tensors[i], items[i].modality);
        }
        size_t size;
        uint8_t *expected = truth_pack(&truth, &size);
        EncodedMessage encoded;
        ck_assert_int_eq(message_encode(key, truth.synapse_key, items, count, 1 << 20, &encoded, NULL), STATUS_OK);
        uint8_t *bytes = joined(&encoded);
        ck_assert_uint_eq(encoded.size, size);
        ck_assert_mem_eq(bytes, expected, size);
        free(bytes);
        free(expected);
        for (size_t i = 0; i < count; i++)
            tensor_destroy(&tensors[i]);
    }
}
END_TEST

START_TEST(payloads_stand_by_reference)
{
    Tensor a, b;
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(2, 3), &a, NULL), STATUS_OK);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(1, 1), &b, NULL), STATUS_OK);
    MessageTensor items[] = {{&a, MODALITY_TENSOR}, {&b, MODALITY_TENSOR}};
    EncodedMessage encoded;
    ck_assert_int_eq(message_encode(key, key, items, 2, 1000, &encoded, NULL), STATUS_OK);
    ck_assert_uint_eq(encoded.count, 5);
    ck_assert_ptr_eq(encoded.parts[1].data, a.data);
    ck_assert_ptr_eq(encoded.parts[3].data, b.data);
    ck_assert_int_eq(encoded.payload_of[1], 0);
    ck_assert_int_eq(encoded.payload_of[3], 1);
    ck_assert_int_eq(encoded.payload_of[0], -1);
    tensor_destroy(&a);
    tensor_destroy(&b);
}
END_TEST

START_TEST(the_longest_header_fits)
{
    char longest[KEY_SIZE];
    memset(longest, 'k', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    int64_t elements[1 << 6] = {0};
    Tensor tensor = tensor_view(DTYPE_I64, shape_of(2, 2, 2, 2, 2, 2), elements);
    MessageTensor items[] = {{&tensor, MODALITY_TEXT}, {&tensor, MODALITY_TEXT}};
    EncodedMessage encoded;
    ck_assert_int_eq(message_encode(longest, longest, items, 2, 1 << 20, &encoded, NULL), STATUS_OK);
    ck_assert_uint_le(encoded.size - 2 * sizeof elements, MESSAGE_HEADER_SIZE);
}
END_TEST

START_TEST(what_cannot_be_sent_is_refused)
{
    float values[64] = {0};
    Tensor half = tensor_view(DTYPE_F16, shape_of(2, 2), values);
    Tensor floats = tensor_view(DTYPE_F32, shape_of(8, 8), values);
    MessageTensor item = {&half, MODALITY_TENSOR};
    EncodedMessage encoded;
    Error error;
    ck_assert_int_eq(message_encode(key, key, &item, 1, 1000, &encoded, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "f16"));
    item.tensor = &floats;
    ck_assert_int_eq(message_encode(key, key, &item, 1, 255, &encoded, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_int_eq(message_encode(key, key, &item, 1, 300, &encoded, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_int_eq(message_encode(key, key, &item, 1, 1000, &encoded, &error), STATUS_OK);
    ck_assert_int_eq(message_encode("a\nb", key, &item, 1, 1000, &encoded, &error), STATUS_INVALID_ARGUMENT);
}
END_TEST

/* --- reading --- */

static void compare_tensor(const WireTensor *ours, const TruthTensor *truth)
{
    ck_assert_int_eq(ours->dtype, truth->dtype);
    ck_assert_int_eq(ours->modality, truth->modality);
    ck_assert_int_eq(ours->requires_grad, truth->requires_grad);
    ck_assert_uint_eq(ours->rank, truth->rank);
    for (size_t d = 0; d < ours->rank && d < SHAPE_MAX_RANK; d++)
        ck_assert_int_eq(ours->dims[d], truth->dims[d]);
    ck_assert_uint_eq(ours->buffer.left, truth->size);
    DType dtype;
    Shape shape;
    if (message_tensor_check(ours, "x", &dtype, &shape, NULL) != STATUS_OK) return;
    uint8_t *bytes = malloc(truth->size + 1);
    ck_assert_int_eq(message_tensor_read(ours, dtype, dtype, shape, bytes, NULL), STATUS_OK);
    ck_assert_int_eq(truth->size ? memcmp(bytes, truth->buffer, truth->size) : 0, 0);
    free(bytes);
}

static void compare(const Message *ours, const Truth *truth)
{
    ck_assert_str_eq(ours->neuron_key, truth->neuron_key);
    ck_assert_str_eq(ours->synapse_key, truth->synapse_key);
    ck_assert_int_eq(ours->nonce, truth->nonce);
    ck_assert_uint_eq(ours->tensor_count, truth->count);
    for (size_t i = 0; i < truth->count && i < MESSAGE_TENSORS; i++)
        compare_tensor(&ours->tensors[i], &truth->tensors[i]);
}

static Truth random_truth(Rng *rng, Tensor tensors[TRUTH_TENSORS])
{
    Truth truth = {.version = "0.0.0",
                   .neuron_key = rng_below(rng, 4) ? key : "",
                   .synapse_key = rng_below(rng, 4) ? "synapse" : "",
                   .nonce = rng_below(rng, 2) ? (int64_t)rng_u64(rng) : 0,
                   .signature = key,
                   .signature_size = rng_below(rng, 64),
                   .count = rng_below(rng, TRUTH_TENSORS + 1)};
    for (size_t i = 0; i < truth.count; i++) {
        tensors[i] = random_tensor(rng);
        truth.tensors[i] = truth_of(&tensors[i], (Modality)rng_below(rng, 3));
        truth.tensors[i].requires_grad = rng_below(rng, 2);
    }
    return truth;
}

START_TEST(decoding_reads_what_protobuf_packed)
{
    Rng rng = rng_make(2, RNG_STREAM_TEST);
    for (int round = 0; round < 500; round++) {
        Tensor tensors[TRUTH_TENSORS];
        Truth truth = random_truth(&rng, tensors);
        size_t size;
        uint8_t *bytes = truth_pack(&truth, &size);
        Pieces pieces;
        pieces_cut(&pieces, bytes, size, &rng);
        Message message;
        Error error = {0};
        ck_assert_msg(message_parse(pieces.segments, pieces.count, &message, &error) == STATUS_OK, "%s", error.message);
        compare(&message, &truth);
        pieces_free(&pieces);
        free(bytes);
        for (size_t i = 0; i < truth.count; i++)
            tensor_destroy(&tensors[i]);
    }
}
END_TEST

/* Damage of the kinds that find parsers out: bytes changed, inserted, removed, cut off, doubled. */
static size_t mutate(uint8_t *bytes, size_t size, size_t capacity, Rng *rng)
{
    for (uint64_t left = 1 + rng_below(rng, 4); left && size; left--) {
        size_t at = rng_below(rng, size), span = 1 + rng_below(rng, 8);
        switch (rng_below(rng, 6)) {
        case 0:
            bytes[at] = (uint8_t)rng_u32(rng);
            break;
        case 1:
            bytes[at] ^= (uint8_t)(1u << rng_below(rng, 8));
            break;
        case 2:
            size = at;
            break;
        case 3:
            if (at + span > size) span = size - at;
            memmove(bytes + at, bytes + at + span, size - at - span);
            size -= span;
            break;
        case 4:
            if (size + span > capacity) break;
            memmove(bytes + at + span, bytes + at, size - at);
            for (size_t i = 0; i < span; i++)
                bytes[at + i] = rng_below(rng, 2) ? 0xff : (uint8_t)rng_u32(rng);
            size += span;
            break;
        default:
            if (2 * size - at > capacity) break;
            memcpy(bytes + size, bytes + at, size - at);
            size += size - at;
        }
    }
    return size;
}

/* Where we refuse what protobuf-c takes, on purpose. */
static bool is_our_strictness(const char *sentence)
{
    return strstr(sentence, "_key") || strstr(sentence, "number has more than") || strstr(sentence, "field number") ||
           strstr(sentence, "wire type");
}

enum { MUTATIONS = 100000, MUTANT_SIZE = 1 << 16 };

START_TEST(mutated_messages_are_read_as_protobuf_reads_them_or_refused)
{
    Rng rng = rng_make(3, RNG_STREAM_TEST);
    uint8_t *mutant = malloc(MUTANT_SIZE);
    int good = 0, refused = 0;
    for (int round = 0; round < MUTATIONS; round++) {
        Tensor tensors[TRUTH_TENSORS];
        Truth made = random_truth(&rng, tensors), truth = {0};
        size_t size;
        uint8_t *bytes = truth_pack(&made, &size);
        ck_assert_uint_lt(size, MUTANT_SIZE);
        memcpy(mutant, bytes, size);
        size = mutate(mutant, size, MUTANT_SIZE, &rng);
        Pieces pieces;
        pieces_cut(&pieces, mutant, size, &rng);
        Message message;
        Error error = {0};
        bool theirs = truth_unpack(mutant, size, &truth);
        if (message_parse(pieces.segments, pieces.count, &message, &error) == STATUS_OK) {
            ck_assert(theirs);
            compare(&message, &truth);
            good++;
        } else {
            ck_assert_int_eq(error.status, STATUS_INVALID_ARGUMENT);
            ck_assert_msg(!theirs || is_our_strictness(error.message), "%s", error.message);
            refused++;
        }
        truth_free(&truth);
        pieces_free(&pieces);
        free(bytes);
        for (size_t i = 0; i < made.count; i++)
            tensor_destroy(&tensors[i]);
    }
    free(mutant);
    ck_assert_int_gt(good, MUTATIONS / 20);
    ck_assert_int_gt(refused, MUTATIONS / 20);
}
END_TEST

START_TEST(random_bytes_never_run_past_the_end)
{
    Rng rng = rng_make(4, RNG_STREAM_TEST);
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t size = rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)rng_u32(&rng);
        Pieces pieces;
        pieces_cut(&pieces, bytes, size, &rng);
        Message message;
        Truth truth = {0};
        if (message_parse(pieces.segments, pieces.count, &message, NULL) == STATUS_OK) {
            ck_assert(truth_unpack(bytes, size, &truth));
            compare(&message, &truth);
            truth_free(&truth);
        }
        pieces_free(&pieces);
    }
}
END_TEST

SUITE_MAIN("message", encoding_gives_the_bytes_of_protobuf, payloads_stand_by_reference, the_longest_header_fits,
           what_cannot_be_sent_is_refused, decoding_reads_what_protobuf_packed,
           mutated_messages_are_read_as_protobuf_reads_them_or_refused, random_bytes_never_run_past_the_end)
