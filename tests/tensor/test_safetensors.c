/* Reading: the golden file of the format's own library (make_golden.py), and what must be refused. */
#include "tensor/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/text.h"
#include "support/folder.h"
#include "support/suite.h"

/* A file of that header and `data_size` bytes 0, 1, 2, ...; in memory of exactly its size, `offset` bytes after an
 * aligned address. */
typedef struct Bytes {
    uint8_t *start, *data;
    size_t size;
} Bytes;

static Bytes make_bytes(const char *header, size_t length, size_t data_size, size_t offset)
{
    Bytes bytes = {.size = 8 + length + data_size};
    bytes.start = malloc(bytes.size + offset);
    bytes.data = bytes.start + offset;
    const uint64_t stated = length;
    memcpy(bytes.data, &stated, 8);
    memcpy(bytes.data + 8, header, length);
    for (size_t i = 0; i < data_size; i++)
        bytes.data[8 + length + i] = (uint8_t)i;
    return bytes;
}

/* The same with spaces after the header, so that the data begins at a multiple of 8. */
static Bytes make_padded(const char *header, size_t data_size, size_t offset)
{
    char padded[512];
    size_t length = (strlen(header) + 7) / 8 * 8;
    ck_assert_uint_lt(length, sizeof padded);
    snprintf(padded, sizeof padded, "%-*s", (int)length, header);
    return make_bytes(padded, length, data_size, offset);
}

static Status parse(const char *header, size_t data_size, Safetensors **out, Error *error)
{
    Bytes bytes = make_bytes(header, strlen(header), data_size, 0);
    Status status = safetensors_parse(bytes.data, bytes.size, "t", out, error);
    free(bytes.start);
    return status;
}

static void check_refused(const char *header, size_t data_size, const char *reason)
{
    Safetensors *file = NULL;
    Error error = {0};
    ck_assert_msg(parse(header, data_size, &file, &error) == STATUS_INVALID_ARGUMENT, "accepted: %.200s", header);
    ck_assert_msg(strncmp(error.message, "t: ", 3) == 0 && strstr(error.message, reason), "'%s' lacks '%s'",
                  error.message, reason);
    ck_assert_ptr_null(file);
}

#define ENTRY(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* --- what must be read --- */

static void check_tensor(const Safetensors *file, const char *name, DType dtype, Shape shape, const void *expected)
{
    const Tensor *tensor = safetensors_find(file, name);
    ck_assert_msg(tensor, "no tensor '%s'", name);
    ck_assert_int_eq(tensor->dtype, dtype);
    ck_assert(shape_equal(tensor->shape, shape));
    ck_assert_uint_eq(tensor->size, (size_t)shape_count(shape) * dtype_size(dtype));
    ck_assert_int_eq(memcmp(tensor->data, expected, tensor->size), 0);
    ck_assert_uint_eq((uintptr_t)tensor->data % dtype_size(dtype), 0);
}

START_TEST(test_golden_file)
{
    Safetensors *file = NULL;
    Error error = {0};
    Status status = safetensors_open(TEST_SOURCE_DIR "/tensor/golden.safetensors", &file, &error);
    ck_assert_msg(status == STATUS_OK, "%s", error.message);
    ck_assert_uint_eq(safetensors_count(file), 9);
    check_tensor(file, "conv1.weight", DTYPE_F32, shape_of(2, 1, 3),
                 (float[]){0.5f, -1.25f, 3.0f, 1e-8f, -0.0f, 65504.0f});
    check_tensor(file, "step", DTYPE_I64, shape_scalar(), (int64_t[]){-(INT64_C(1) << 40)});
    check_tensor(file, "half", DTYPE_F16, shape_of(2), (uint16_t[]){0x3E00, 0xC000});
    check_tensor(file, "brain", DTYPE_BF16, shape_of(2), (uint16_t[]){0x3F80, 0xC000});
    check_tensor(file, "double", DTYPE_F64, shape_of(1), (double[]){0.1});
    check_tensor(file, "labels", DTYPE_I32, shape_of(3), (int32_t[]){7, -1, INT32_MAX});
    check_tensor(file, "pixels", DTYPE_U8, shape_of(1, 5), (uint8_t[]){0, 1, 127, 128, 255});
    check_tensor(file, "empty", DTYPE_F32, shape_of(0, 4), "");
    check_tensor(file,
                 "gr\xc3\xb6\xc3\x9f"
                 "e",
                 DTYPE_U8, shape_of(1), (uint8_t[]){42});
    ck_assert_str_eq(safetensors_metadata(file, "format"), "pt");
    ck_assert_str_eq(safetensors_metadata(file, "note"), "a \"quoted\" line\n");
    ck_assert_ptr_null(safetensors_metadata(file, "absent"));
    ck_assert_ptr_null(safetensors_find(file, "absent"));
    ck_assert_ptr_null(safetensors_find(file, "__metadata__"));
    safetensors_close(file);
}
END_TEST

START_TEST(test_file_order_is_that_of_the_data)
{
    Safetensors *file = NULL;
    ck_assert_int_eq(parse("{\"late\":" ENTRY("U8", "[2]", "[1,3]") ",\"none\":" ENTRY(
                               "U8", "[0]", "[1,1]") ",\"early\":" ENTRY("U8", "[1]", "[0,1]") "}",
                           3, &file, NULL),
                     STATUS_OK);
    ck_assert_uint_eq(safetensors_count(file), 3);
    ck_assert_str_eq(safetensors_name(file, 0), "early");
    ck_assert_str_eq(safetensors_name(file, 1), "none");
    ck_assert_str_eq(safetensors_name(file, 2), "late");
    ck_assert_ptr_eq(safetensors_at(file, 2), safetensors_find(file, "late"));
    ck_assert_ptr_null(safetensors_name(file, 3));
    ck_assert_ptr_null(safetensors_at(file, 3));
    safetensors_close(file);
}
END_TEST

START_TEST(test_padding_and_no_tensors)
{
    Safetensors *file = NULL;
    ck_assert_int_eq(parse("{}   \n\t ", 0, &file, NULL), STATUS_OK);
    ck_assert_uint_eq(safetensors_count(file), 0);
    ck_assert_ptr_null(safetensors_metadata(file, "format"));
    safetensors_close(file);
    ck_assert_int_eq(parse("{\"__metadata__\":{}}", 0, &file, NULL), STATUS_OK);
    ck_assert_uint_eq(safetensors_count(file), 0);
    safetensors_close(file);
}
END_TEST

/* Wherever the file lies, and whatever stands before a tensor, its elements are aligned. */
START_TEST(test_unaligned_data_is_copied)
{
    const char header[] = "{\"a\":" ENTRY("U8", "[3]", "[0,3]") ",\"b\":" ENTRY("I32", "[2]", "[3,11]") "}";
    for (size_t offset = 0; offset < 8; offset++) {
        Safetensors *file = NULL;
        Bytes bytes = make_padded(header, 11, offset);
        ck_assert_int_eq(safetensors_parse(bytes.data, bytes.size, "t", &file, NULL), STATUS_OK);
        check_tensor(file, "a", DTYPE_U8, shape_of(3), (uint8_t[]){0, 1, 2});
        check_tensor(file, "b", DTYPE_I32, shape_of(2), (int32_t[]){0x06050403, 0x0a090807});
        bool aligned = (offset + 3) % 4 == 0;
        ck_assert_int_eq(safetensors_find(file, "b")->owned == NULL, aligned);
        safetensors_close(file);
        free(bytes.start);
    }
}
END_TEST

START_TEST(test_aligned_data_is_not_copied)
{
    Safetensors *file = NULL;
    Bytes bytes = make_padded("{\"a\":" ENTRY("I64", "[1]", "[0,8]") "}", 8, 0);
    ck_assert_int_eq(safetensors_parse(bytes.data, bytes.size, "t", &file, NULL), STATUS_OK);
    ck_assert_ptr_eq(safetensors_at(file, 0)->data, bytes.data + bytes.size - 8);
    safetensors_close(file);
    free(bytes.start);
}
END_TEST

/* 50,000 tensors: a search that walks them all would take minutes here. */
START_TEST(test_thousands_of_tensors)
{
    enum { COUNT = 50000 };
    Text header = {0};
    for (int i = 0; i < COUNT; i++)
        text_append(&header, "%c\"layer.%d.weight\":" ENTRY("U8", "[1]", "[%d,%d]"), i ? ',' : '{', i, i, i + 1);
    text_append(&header, "}");
    Bytes bytes = make_bytes(header.data, header.length, COUNT, 0);
    Safetensors *file = NULL;
    uint64_t begin = clock_now(clock_monotonic());
    ck_assert_int_eq(safetensors_parse(bytes.data, bytes.size, "t", &file, NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer.%d.weight", i);
        const Tensor *tensor = safetensors_find(file, name);
        ck_assert_ptr_eq(tensor, safetensors_at(file, (size_t)i));
    }
    ck_assert_double_lt(clock_seconds(clock_now(clock_monotonic()) - begin), 20);
    safetensors_close(file);
    free(bytes.start);
    text_free(&header);
}
END_TEST

/* --- what must be refused --- */

START_TEST(test_every_truncation_is_refused)
{
    const char header[] = "{\"a\":" ENTRY("U8", "[3]", "[0,3]") "}";
    Bytes bytes = make_bytes(header, strlen(header), 3, 0);
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *cut = malloc(size + !size);
        memcpy(cut, bytes.data, size);
        Safetensors *file = NULL;
        Error error = {0};
        ck_assert_int_eq(safetensors_parse(cut, size, "t", &file, &error), STATUS_INVALID_ARGUMENT);
        ck_assert_uint_gt(strlen(error.message), 10);
        free(cut);
    }
    free(bytes.start);
}
END_TEST

START_TEST(test_header_length)
{
    static const struct {
        uint64_t length;
        const char *reason;
    } cases[] = {
        {0, "does not begin with '{'"},
        {3, "header has 3 bytes, expected at most the 2 left"},
        {100 << 20, "at most the 2 left"},
        {(100 << 20) + 1, "header has 104857601 bytes, expected at most 104857600"},
        {UINT64_MAX, "at most 104857600"},
        {UINT64_MAX - 7, "at most 104857600"},
        {UINT64_C(1) << 63, "at most 1048"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Bytes bytes = make_bytes("{}", 2, 0, 0);
        Safetensors *file = NULL;
        Error error = {0};
        memcpy(bytes.data, &cases[i].length, 8);
        ck_assert_int_eq(safetensors_parse(bytes.data, bytes.size, "t", &file, &error), STATUS_INVALID_ARGUMENT);
        ck_assert_msg(strstr(error.message, cases[i].reason), "%s", error.message);
        free(bytes.start);
    }
}
END_TEST

START_TEST(test_header_is_not_an_object)
{
    check_refused("[]", 0, "does not begin with '{'");
    check_refused(" {}", 0, "does not begin with '{'");
    check_refused("{", 0, "not valid JSON");
    check_refused("{} x", 0, "not valid JSON");
    check_refused("{}{}", 0, "not valid JSON");
    check_refused("{\"a\":}", 0, "not valid JSON");
    check_refused("{\"\xff\":{}}", 0, "not valid JSON");
    check_refused("{\"a\\u0000b\":{}}", 0, "not valid JSON");
    check_refused("{\"a\":1}", 0, "tensor 'a' is not an object");
    check_refused("{\"a\":null}", 0, "tensor 'a' is not an object");
    check_refused("{\"a\":[]}", 0, "tensor 'a' is not an object");
}
END_TEST

START_TEST(test_duplicate_names)
{
    check_refused("{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"a\":" ENTRY("U8", "[1]", "[1,2]") "}", 2, "duplicate");
    check_refused("{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"\\u0061\":" ENTRY("U8", "[1]", "[1,2]") "}", 2,
                  "duplicate");
    check_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate");
    check_refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "duplicate");
}
END_TEST

START_TEST(test_dtype)
{
    check_refused("{\"w\":" ENTRY("F8_E4M3", "[1]", "[0,1]") "}", 1, "dtype of tensor 'w' is 'F8_E4M3', expected F32");
    check_refused("{\"w\":" ENTRY("f32", "[1]", "[0,4]") "}", 4, "'f32'");
    check_refused("{\"w\":" ENTRY("", "[1]", "[0,4]") "}", 4, "is ''");
    check_refused("{\"w\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "has no dtype");
    check_refused("{\"w\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "has no dtype");
}
END_TEST

START_TEST(test_shape)
{
    check_refused("{\"w\":" ENTRY("U8", "[-1]", "[0,1]") "}", 1, "dimension 0 of tensor 'w'");
    check_refused("{\"w\":" ENTRY("U8", "[1,1.0]", "[0,1]") "}", 1, "dimension 1 of tensor 'w'");
    check_refused("{\"w\":" ENTRY("U8", "[1e0]", "[0,1]") "}", 1, "dimension 0");
    check_refused("{\"w\":" ENTRY("U8", "[\"1\"]", "[0,1]") "}", 1, "dimension 0");
    check_refused("{\"w\":" ENTRY("U8", "[true]", "[0,1]") "}", 1, "dimension 0");
    check_refused("{\"w\":" ENTRY("U8", "[99999999999999999999]", "[0,1]") "}", 1, "not valid JSON");
    check_refused("{\"w\":" ENTRY("U8", "[9223372036854775807,3]", "[0,1]") "}", 1, "expected one whose bytes");
    check_refused("{\"w\":" ENTRY("F32", "[4611686018427387904]", "[0,0]") "}", 0, "expected one whose bytes");
    check_refused("{\"w\":" ENTRY("U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "expected one whose bytes");
    check_refused("{\"w\":" ENTRY("U8", "[1,1,1,1,1,1,1]", "[0,1]") "}", 1,
                  "rank of tensor 'w' is 7, expected at most 6");
    check_refused("{\"w\":" ENTRY("U8", "3", "[0,3]") "}", 3, "has no shape");
    check_refused("{\"w\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "has no shape");
}
END_TEST

START_TEST(test_offsets)
{
    check_refused("{\"w\":" ENTRY("U8", "[1]", "[1,0]") "}", 1, "are [1, 0], expected a range within [0, 1]");
    check_refused("{\"w\":" ENTRY("U8", "[1]", "[-1,0]") "}", 1, "are [-1, 0]");
    check_refused("{\"w\":" ENTRY("U8", "[2]", "[0,2]") "}", 1, "are [0, 2], expected a range within [0, 1]");
    check_refused("{\"w\":" ENTRY("U8", "[1]", "[0,9223372036854775807]") "}", 1, "expected a range");
    check_refused("{\"w\":" ENTRY("F32", "[2]", "[0,4]") "}", 4, "are [0, 4], expected 8 bytes for shape [2] (f32)");
    check_refused("{\"w\":" ENTRY("U8", "[1]", "[0]") "}", 1, "has no data_offsets");
    check_refused("{\"w\":" ENTRY("U8", "[1]", "[0,1,1]") "}", 1, "has no data_offsets");
    check_refused("{\"w\":" ENTRY("U8", "[1]", "[0,1.0]") "}", 1, "has no data_offsets");
    check_refused("{\"w\":" ENTRY("U8", "[1]", "\"01\"") "}", 1, "has no data_offsets");
    check_refused("{\"w\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "has no data_offsets");
}
END_TEST

START_TEST(test_coverage)
{
    check_refused("{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[1,3]") "}", 3,
                  "tensor 'b' begins at 1 and leaves an overlap, expected 2");
    check_refused("{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[0,2]") "}", 2, "an overlap");
    check_refused("{\"a\":" ENTRY("U8", "[3]", "[0,3]") ",\"b\":" ENTRY("U8", "[0]", "[1,1]") "}", 3, "an overlap");
    check_refused("{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"b\":" ENTRY("U8", "[1]", "[2,3]") "}", 3,
                  "tensor 'b' begins at 2 and leaves a hole, expected 1");
    check_refused("{\"a\":" ENTRY("U8", "[1]", "[1,2]") "}", 2, "a hole");
    check_refused("{\"a\":" ENTRY("U8", "[1]", "[0,1]") "}", 2, "data has 2 bytes, expected the 1 of the tensors");
    check_refused("{}", 1, "data has 1 bytes, expected the 0");
}
END_TEST

START_TEST(test_metadata)
{
    check_refused("{\"__metadata__\":[]}", 0, "__metadata__ is not an object");
    check_refused("{\"__metadata__\":{\"epoch\":3}}", 0, "__metadata__ 'epoch' is not a text");
    check_refused("{\"__metadata__\":{\"a\":{}}}", 0, "__metadata__ 'a' is not a text");
}
END_TEST

static void check_repeated(const char *before, const char *unit, size_t count, const char *reason)
{
    Text header = {0};
    text_append(&header, "%s", before);
    for (size_t i = 0; i < count; i++)
        text_append(&header, "%s", unit);
    check_refused(header.data, 0, reason);
    text_free(&header);
}

START_TEST(test_nesting_and_floods)
{
    check_repeated("{\"a\":", "[", 1000000, "nests more than 3 levels at byte 7");
    check_repeated("{", "\"a\":{", 1000000, "nests more than 3 levels");
    check_repeated("{\"a\":{\"shape\":[0", ",0", 1000000, "commas");
    check_repeated("{\"a\":[[]", ",{}", 100000, "containers");
    check_repeated("{\"\\\"[[[[[[\":", "]", 1, "not valid JSON"); /* brackets in a string don't count */
}
END_TEST

/* A name of a megabyte, with bytes for a terminal, stays out of the sentence. */
START_TEST(test_long_names_are_cut_in_errors)
{
    Text header = {0};
    text_append(&header, "{\"\\u001b[31m%01000000d\":7}", 0);
    check_refused(header.data, 0, "tensor '?[31m000");
    check_refused(header.data, 0, "' is not an object, expected dtype, shape and data_offsets");
    text_free(&header);
}
END_TEST

START_TEST(test_open_names_the_path)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    Safetensors *file = NULL;
    Error error = {0};
    ck_assert_int_eq(safetensors_open(folder_path(&folder, "absent", path), &file, &error), STATUS_NOT_FOUND);
    ck_assert_msg(strstr(error.message, path), "%s", error.message);
    folder_write(&folder, "empty", "", 0);
    ck_assert_int_eq(safetensors_open(folder_path(&folder, "empty", path), &file, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, path) && strstr(error.message, "size is 0 bytes"), "%s", error.message);
    ck_assert_int_eq(safetensors_open(folder.path, &file, &error), STATUS_INVALID_ARGUMENT);
    safetensors_close(NULL);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_no_memory_for_a_copy)
{
    Safetensors *file = NULL;
    Error error = {0};
    Bytes bytes = make_padded("{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"b\":" ENTRY(
                                  "I32", "[1]", "[1,5]") ",\"c\":" ENTRY("I32", "[1]", "[5,9]") "}",
                              9, 0);
    ck_assert_int_eq(failpoint_arm("tensor.create=ENOMEM@2", NULL), STATUS_OK);
    ck_assert_int_eq(safetensors_parse(bytes.data, bytes.size, "t", &file, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_msg(strstr(error.message, "needs 4 bytes"), "%s", error.message);
    free(bytes.start);
}
END_TEST

SUITE_MAIN("safetensors", test_golden_file, test_file_order_is_that_of_the_data, test_padding_and_no_tensors,
           test_unaligned_data_is_copied, test_aligned_data_is_not_copied, test_thousands_of_tensors,
           test_every_truncation_is_refused, test_header_length, test_header_is_not_an_object, test_duplicate_names,
           test_dtype, test_shape, test_offsets, test_coverage, test_metadata, test_nesting_and_floods,
           test_long_names_are_cut_in_errors, test_open_names_the_path, test_no_memory_for_a_copy)
