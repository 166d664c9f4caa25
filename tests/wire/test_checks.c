/* What a message may claim of a tensor: one wrong thing a test, and the sentence that names it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"
#include "wire/message.h"
#include "wire/truth.h"

static uint8_t zeros[4096];

static TruthTensor image(void)
{
    return (TruthTensor){zeros, 16, 5, {1, 1, 1, 2, 2}, 1, MODALITY_IMAGE, false};
}

static TruthTensor text(int dtype)
{
    return (TruthTensor){zeros, dtype == 4 ? 48 : 24, 2, {2, 3}, dtype, MODALITY_TEXT, false};
}

static TruthTensor floats(int dtype)
{
    return (TruthTensor){zeros, dtype == 2 ? 96 : 48, 3, {2, 2, 3}, dtype, MODALITY_TENSOR, false};
}

/* The status and sentence of message_input_check on a message with this tensor. */
static Status check_input(TruthTensor tensor, Error *error)
{
    Truth truth = {.count = 1, .tensors = {tensor}};
    size_t size;
    uint8_t *bytes = truth_pack(&truth, &size);
    Segment segment = {bytes, size};
    Message message;
    Modality modality;
    DType dtype;
    Shape shape;
    *error = (Error){0};
    Status status = message_parse(&segment, 1, &message, error);
    if (status == STATUS_OK) status = message_input_check(&message.tensors[0], &modality, &dtype, &shape, error);
    free(bytes);
    return status;
}

static void expect_refused(TruthTensor tensor, const char *part)
{
    Error error;
    ck_assert_int_eq(check_input(tensor, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' lacks '%s'", error.message, part);
}

static void expect_taken(TruthTensor tensor)
{
    Error error;
    ck_assert_msg(check_input(tensor, &error) == STATUS_OK, "%s", error.message);
}

START_TEST(good_inputs_pass)
{
    expect_taken(image());
    expect_taken(text(4));
    expect_taken(text(3));
    expect_taken(floats(1));
    expect_taken(floats(2));
}
END_TEST

START_TEST(wrong_dtypes_are_refused)
{
    TruthTensor tensor = image();
    tensor.dtype = 0;
    expect_refused(tensor, "UNKNOWN");
    tensor.dtype = 5;
    expect_refused(tensor, "UTF8");
    tensor.dtype = 77;
    expect_refused(tensor, "77");
    tensor.dtype = -3;
    expect_refused(tensor, "-3");
    tensor.dtype = 3; /* as many bytes, but the label says integers */
    expect_refused(tensor, "dtype of input of modality image is i32, expected f32");
    tensor = text(4);
    tensor.dtype = 2;
    expect_refused(tensor, "expected i64 or i32");
    tensor = floats(1);
    tensor.dtype = 3;
    expect_refused(tensor, "expected f32 or f64");
}
END_TEST

START_TEST(wrong_ranks_are_refused)
{
    TruthTensor tensor = image();
    tensor.rank = 4;
    tensor.size = 8;
    expect_refused(tensor, "expected 5");
    tensor = text(4);
    tensor.modality = MODALITY_TENSOR;
    tensor.dtype = 2;
    expect_refused(tensor, "expected 3");
    tensor = floats(1);
    tensor.rank = 0;
    tensor.size = 4;
    expect_refused(tensor, "expected 3");
    tensor.rank = 7;
    for (int i = 0; i < 7; i++)
        tensor.dims[i] = 1;
    expect_refused(tensor, "7 dimensions, expected at most 6");
}
END_TEST

START_TEST(negative_dimensions_are_refused)
{
    TruthTensor tensor = floats(1);
    tensor.dims[1] = -1;
    expect_refused(tensor, "not inferred");
    tensor.dims[1] = -2;
    expect_refused(tensor, "dimension 1 of input is -2");
    tensor.dims[1] = INT64_MIN;
    expect_refused(tensor, "-9223372036854775808");
    tensor.dims[0] = -2, tensor.dims[1] = -2; /* a product that is right */
    expect_refused(tensor, "dimension 0 of input is -2");
}
END_TEST

START_TEST(huge_dimensions_are_refused)
{
    TruthTensor tensor = floats(1);
    tensor.dims[0] = tensor.dims[1] = tensor.dims[2] = INT64_MAX;
    expect_refused(tensor, "more elements than memory can have");
    tensor.dims[0] = tensor.dims[1] = INT64_C(1) << 31, tensor.dims[2] = 4; /* 2^64 elements: wraps to 0 */
    expect_refused(tensor, "more elements than memory can have");
    tensor.dims[0] = INT64_C(1) << 40, tensor.dims[1] = tensor.dims[2] = 1;
    expect_refused(tensor, "buffer of input has 48 bytes");
    tensor.dims[0] = 0, tensor.dims[1] = INT64_MAX, tensor.dims[2] = INT64_MAX;
    expect_refused(tensor, "input");
}
END_TEST

START_TEST(a_buffer_of_another_size_is_refused)
{
    for (int difference = -48; difference <= 4; difference++) {
        if (difference == 0) continue;
        TruthTensor tensor = floats(1);
        tensor.size = (size_t)(48 + difference);
        expect_refused(tensor, "but its shape [2, 2, 3] of f32 takes 48");
    }
}
END_TEST

START_TEST(empty_inputs_are_refused)
{
    TruthTensor tensor = floats(1);
    tensor.dims[0] = 0;
    tensor.size = 0;
    expect_refused(tensor, "below 1");
    expect_refused((TruthTensor){.dtype = 1}, "buffer of input has 0 bytes");
    expect_refused((TruthTensor){.dtype = 0}, "UNKNOWN");
}
END_TEST

START_TEST(an_unknown_modality_is_refused)
{
    TruthTensor tensor = image();
    tensor.modality = 3;
    expect_refused(tensor, "modality of input is 3");
    tensor.modality = -1;
    expect_refused(tensor, "modality of input is -1");
}
END_TEST

/* --- the form, by hand-made bytes --- */

static Status parse(const void *bytes, size_t size, Message *out, Error *error)
{
    Segment segment = {bytes, size};
    *error = (Error){0};
    return message_parse(&segment, 1, out, error);
}

#define PARSE(bytes, message, error) parse(bytes, sizeof(bytes) - 1, message, error)

START_TEST(malformed_bytes_are_refused)
{
    Message message;
    Error error;
    ck_assert_int_eq(PARSE("\x32", &message, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "ends inside a number"));
    ck_assert_int_eq(PARSE("\x32\x05\x10", &message, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "claims 5 bytes, and 1 are left"));
    ck_assert_int_eq(PARSE("\x32\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &message, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(PARSE("\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", &message, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(PARSE("\x10\x01", &message, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "wire type of 'neuron_key' is 0"));
    ck_assert_int_eq(PARSE("\x33\x34", &message, &error), STATUS_INVALID_ARGUMENT); /* a group */
    ck_assert_int_eq(PARSE("\x02\x00", &message, &error), STATUS_INVALID_ARGUMENT); /* field 0 */
    ck_assert_int_eq(PARSE("\x32\x02\x20\x80", &message, &error),
                     STATUS_INVALID_ARGUMENT); /* a number cut by its tensor */
    ck_assert_int_eq(PARSE("\x1a\x02\xc0\x80", &message, &error), STATUS_INVALID_ARGUMENT); /* not UTF-8 */
    ck_assert_int_eq(PARSE("\x1a\x01\x1b", &message, &error), STATUS_INVALID_ARGUMENT);     /* an escape sequence */
}
END_TEST

START_TEST(the_empty_message_has_no_tensor)
{
    Message message;
    Error error;
    ck_assert_int_eq(parse("", 0, &message, &error), STATUS_OK);
    ck_assert_uint_eq(message.tensor_count, 0);
    ck_assert_int_eq(message_parse(NULL, 0, &message, &error), STATUS_OK);
}
END_TEST

START_TEST(unknown_fields_are_skipped)
{
    Message message;
    Error error;
    /* field 15: varint, fixed64, bytes, fixed32; then synapse_key "k" */
    ck_assert_int_eq(PARSE("\x78\x96\x01\x79"
                           "12345678"
                           "\x7a\x02"
                           "xy"
                           "\x7d"
                           "1234"
                           "\x1a\x01k",
                           &message, &error),
                     STATUS_OK);
    ck_assert_str_eq(message.synapse_key, "k");
}
END_TEST

START_TEST(the_last_of_a_singular_field_counts)
{
    Message message;
    Error error;
    ck_assert_int_eq(PARSE("\x1a\x01"
                           "a\x1a\x01"
                           "b\x32\x06\x12\x01x\x20\x01\x20",
                           &message, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(PARSE("\x1a\x01"
                           "a\x1a\x01"
                           "b\x32\x0b\x12\x01x\x20\x01\x12\x02yz\x20\x03",
                           &message, &error),
                     STATUS_OK);
    ck_assert_str_eq(message.synapse_key, "b");
    ck_assert_uint_eq(message.tensors[0].buffer.left, 2);
    ck_assert_int_eq(message.tensors[0].dtype, 3);
}
END_TEST

START_TEST(shape_may_be_packed_or_not_or_both)
{
    Message message;
    Error error;
    ck_assert_int_eq(PARSE("\x32\x0a\x18\x02\x1a\x02\x03\x04\x18\x05\x1a\x00", &message, &error), STATUS_OK);
    ck_assert_uint_eq(message.tensors[0].rank, 4);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(message.tensors[0].dims[i], i + 2);
}
END_TEST

/* --- conversions and values --- */

START_TEST(f64_is_narrowed_and_i32_widened_across_segments)
{
    enum { COUNT = 1300 };
    double *doubles = malloc(COUNT * sizeof *doubles);
    int32_t *ints = malloc(COUNT * sizeof *ints);
    for (int i = 0; i < COUNT; i++) {
        doubles[i] = i * 0.1;
        ints[i] = i - 650;
    }
    Truth truth = {
        .count = 2,
        .tensors = {{doubles, COUNT * 8, 1, {COUNT}, 2, 0, false}, {ints, COUNT * 4, 1, {COUNT}, 3, 0, false}}};
    size_t size;
    uint8_t *bytes = truth_pack(&truth, &size);
    Segment segments[] = {{bytes, 1001}, {bytes + 1001, 0}, {bytes + 1001, size - 1001}}; /* cuts an element */
    Message message;
    ck_assert_int_eq(message_parse(segments, 3, &message, NULL), STATUS_OK);
    float *narrow = malloc(COUNT * sizeof *narrow);
    int64_t *wide = malloc(COUNT * sizeof *wide);
    Shape shape = shape_of(COUNT);
    ck_assert_int_eq(message_tensor_read(&message.tensors[0], DTYPE_F64, DTYPE_F32, shape, narrow, NULL), STATUS_OK);
    ck_assert_int_eq(message_tensor_read(&message.tensors[1], DTYPE_I32, DTYPE_I64, shape, wide, NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_float_eq(narrow[i], (float)(i * 0.1));
        ck_assert_int_eq(wide[i], i - 650);
    }
    ck_assert_int_eq(message_tensor_read(&message.tensors[1], DTYPE_I32, DTYPE_F32, shape, narrow, NULL),
                     STATUS_INVALID_ARGUMENT);
    free(wide);
    free(narrow);
    free(bytes);
    free(ints);
    free(doubles);
}
END_TEST

START_TEST(nan_and_infinity_are_found_wherever_they_are)
{
    float values[37];
    Tensor tensor = tensor_view(DTYPE_F32, shape_of(37), values);
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 37; i++)
        values[i] = i % 2 ? 3.4e38f : -1e-45f;
    ck_assert_int_eq(tensor_check_finite(&tensor, "answer", NULL), STATUS_OK);
    for (int i = 0; i < 37 * 4; i++) {
        float kept = values[i % 37];
        Error error;
        char place[32];
        values[i % 37] = bad[i / 37];
        ck_assert_int_eq(tensor_check_finite(&tensor, "answer", &error), STATUS_INVALID_ARGUMENT);
        snprintf(place, sizeof place, "element %d of answer", i % 37);
        ck_assert_ptr_nonnull(strstr(error.message, place));
        values[i % 37] = kept;
    }
}
END_TEST

SUITE_MAIN("checks", good_inputs_pass, wrong_dtypes_are_refused, wrong_ranks_are_refused,
           negative_dimensions_are_refused, huge_dimensions_are_refused, a_buffer_of_another_size_is_refused,
           empty_inputs_are_refused, an_unknown_modality_is_refused, malformed_bytes_are_refused,
           the_empty_message_has_no_tensor, unknown_fields_are_skipped, the_last_of_a_singular_field_counts,
           shape_may_be_packed_or_not_or_both, f64_is_narrowed_and_i32_widened_across_segments,
           nan_and_infinity_are_found_wherever_they_are)
