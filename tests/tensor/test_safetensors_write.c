/* Writing: read back, byte for byte the same each time, and never half a file. */
#include <string.h>

#include "base/failpoint.h"
#include "base/file.h"
#include "support/folder.h"
#include "support/suite.h"
#include "tensor/safetensors.h"

static float weights[] = {1, 2, 3, 4, 5, 6};
static int64_t steps = 77;
static uint8_t pixels[] = {9, 8, 7};

static NamedTensor named(const char *name, DType dtype, Shape shape, void *data)
{
    return (NamedTensor){.name = name, .tensor = tensor_view(dtype, shape, data)};
}

START_TEST(test_written_is_read_back)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    NamedTensor tensors[] = {
        named("pixels", DTYPE_U8, shape_of(3), pixels),
        named("w \"quoted\" \xc3\xa9", DTYPE_F32, shape_of(2, 3), weights),
        named("step", DTYPE_I64, shape_scalar(), &steps),
        named("none", DTYPE_F32, shape_of(0, 2), NULL),
    };
    const NamedText metadata[] = {{"format", "pt"}, {"note", "two\nlines"}};
    Error error = {0};
    Safetensors *file = NULL;
    ck_assert_msg(safetensors_write(path, tensors, 4, metadata, 2, &error) == STATUS_OK, "%s", error.message);
    ck_assert_msg(safetensors_open(path, &file, &error) == STATUS_OK, "%s", error.message);
    ck_assert_uint_eq(safetensors_count(file), 4);
    for (int i = 0; i < 4; i++) {
        const Tensor *expected = &tensors[i].tensor, *tensor = safetensors_find(file, tensors[i].name);
        ck_assert_ptr_nonnull(tensor);
        ck_assert_int_eq(tensor->dtype, expected->dtype);
        ck_assert(shape_equal(tensor->shape, expected->shape));
        ck_assert_uint_eq(tensor->size, expected->size);
        if (tensor->size) ck_assert_int_eq(memcmp(tensor->data, expected->data, tensor->size), 0);
        ck_assert_ptr_null(tensor->owned); /* aligned, hence not copied */
    }
    ck_assert_str_eq(safetensors_metadata(file, "note"), "two\nlines");
    safetensors_close(file);
    folder_remove(&folder);
}
END_TEST

/* The whole file, byte for byte: what the format's own library has read too (make_golden.py FILE). */
START_TEST(test_bytes_are_as_expected)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    NamedTensor tensors[] = {named("b", DTYPE_U8, shape_of(3), pixels), named("a", DTYPE_F32, shape_of(2), weights)};
    const NamedText metadata[] = {{"format", "pt"}};
    char expected[192 + 11];
    memset(expected, ' ', sizeof expected);
    memcpy(expected, "\xb8\0\0\0\0\0\0\0", 8);
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}";
    memcpy(expected + 8, header, strlen(header));
    memcpy(expected + 192, "\0\0\x80\x3f\0\0\0\x40\x09\x08\x07", 11);
    for (int i = 0; i < 2; i++) {
        FileMap map = {0};
        ck_assert_int_eq(safetensors_write(path, tensors, 2, metadata, 1, NULL), STATUS_OK);
        ck_assert_int_eq(file_map(path, &map, NULL), STATUS_OK);
        ck_assert_uint_eq(map.size, sizeof expected);
        ck_assert_int_eq(memcmp(map.data, expected, sizeof expected), 0);
        file_unmap(&map);
    }
    folder_remove(&folder);
}
END_TEST

START_TEST(test_data_begins_at_a_multiple_of_64)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE], name[128];
    folder_path(&folder, "a", path);
    for (size_t length = 0; length < sizeof name; length++) {
        memset(name, 'n', length);
        name[length] = '\0';
        NamedTensor tensor = named(name, DTYPE_F32, shape_of(6), weights);
        Safetensors *file = NULL;
        FileMap map = {0};
        ck_assert_int_eq(safetensors_write(path, &tensor, 1, NULL, 0, NULL), STATUS_OK);
        ck_assert_int_eq(file_map(path, &map, NULL), STATUS_OK);
        ck_assert_uint_eq((map.size - sizeof weights) % 64, 0);
        file_unmap(&map);
        ck_assert_int_eq(safetensors_open(path, &file, NULL), STATUS_OK);
        ck_assert_ptr_nonnull(safetensors_find(file, name));
        safetensors_close(file);
    }
    folder_remove(&folder);
}
END_TEST

START_TEST(test_nothing_is_a_file_too)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    Safetensors *file = NULL;
    folder_path(&folder, "a", path);
    ck_assert_int_eq(safetensors_write(path, NULL, 0, NULL, 0, NULL), STATUS_OK);
    ck_assert_int_eq(safetensors_open(path, &file, NULL), STATUS_OK);
    ck_assert_uint_eq(safetensors_count(file), 0);
    safetensors_close(file);
    folder_remove(&folder);
}
END_TEST

static void check_refused(const NamedTensor *tensors, size_t count, const NamedText *metadata, size_t metadata_count,
                          const char *reason)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    Error error = {0};
    folder_path(&folder, "a", path);
    ck_assert_int_ne(safetensors_write(path, tensors, count, metadata, metadata_count, &error), STATUS_OK);
    ck_assert_msg(strstr(error.message, path) && strstr(error.message, reason), "%s", error.message);
    ck_assert_uint_eq(folder_count(&folder), 0);
    folder_remove(&folder);
}

START_TEST(test_mistakes_write_nothing)
{
    NamedTensor good = named("a", DTYPE_F32, shape_of(6), weights);
    NamedTensor twice[] = {good, good};
    check_refused(twice, 2, NULL, 0, "two tensors are named 'a'");
    NamedTensor reserved = named("__metadata__", DTYPE_F32, shape_of(6), weights);
    check_refused(&reserved, 1, NULL, 0, "which the format reserves");
    NamedTensor no_text = named("\xff", DTYPE_F32, shape_of(6), weights);
    check_refused(&no_text, 1, NULL, 0, "is not UTF-8");
    NamedTensor no_dtype = {.name = "a"};
    check_refused(&no_dtype, 1, NULL, 0, "has dtype none");
    NamedTensor wrong_size = good;
    wrong_size.tensor.size = 20;
    check_refused(&wrong_size, 1, NULL, 0, "tensor 'a' has 20 bytes, expected those of [6] (f32)");
    const NamedText bad_text[] = {{"note", "\xff"}};
    check_refused(&good, 1, bad_text, 1, "'note' is not text in UTF-8");
    const NamedText same[] = {{"note", "a"}, {"note", "b"}};
    check_refused(&good, 1, same, 2, "has 'note' twice");
}
END_TEST

START_TEST(test_full_disk_leaves_the_old_file)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    Error error = {0};
    Safetensors *file = NULL;
    folder_path(&folder, "a", path);
    NamedTensor old = named("old", DTYPE_F32, shape_of(6), weights),
                new = named("new", DTYPE_I64, shape_scalar(), &steps);
    ck_assert_int_eq(safetensors_write(path, &old, 1, NULL, 0, NULL), STATUS_OK);
    for (int n = 1; n <= 2; n++) {
        ck_assert_int_eq(failpoint_arm(n == 1 ? "file.write=ENOSPC@1" : "file.write=ENOSPC@2", NULL), STATUS_OK);
        ck_assert_int_eq(safetensors_write(path, &new, 1, NULL, 0, &error), STATUS_RESOURCE_EXHAUSTED);
        ck_assert_msg(strstr(error.message, path), "%s", error.message);
        ck_assert_int_eq(safetensors_open(path, &file, NULL), STATUS_OK);
        ck_assert_ptr_nonnull(safetensors_find(file, "old"));
        safetensors_close(file);
        ck_assert_uint_eq(folder_count(&folder), 1);
    }
    folder_remove(&folder);
}
END_TEST

SUITE_MAIN("safetensors_write", test_written_is_read_back, test_bytes_are_as_expected,
           test_data_begins_at_a_multiple_of_64, test_nothing_is_a_file_too, test_mistakes_write_nothing,
           test_full_disk_leaves_the_old_file)
