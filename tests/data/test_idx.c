/* IDX files, whole and damaged in every way the reader knows. */
#include "data/idx.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "data/files.h"

static char folder[FILES_PATH_SIZE];
static Tensor tensor;
static Error error;

static void set_up(void)
{
    files_folder(folder);
}

static void tear_down(void)
{
    tensor_destroy(&tensor);
    files_remove(folder);
}

static Bytes idx_2x3x4(void)
{
    return files_idx(3, (const uint32_t[]){2, 3, 4}, 24, 256);
}

static Status read_bytes(const Bytes *bytes)
{
    char path[FILES_PATH_SIZE];
    files_write(folder, "file", bytes, path);
    return idx_read(path, &tensor, &error);
}

static void expect_2x3x4(void)
{
    ck_assert_int_eq(tensor.dtype, DTYPE_U8);
    ck_assert(shape_equal(tensor.shape, shape_of(2, 3, 4)));
    for (int i = 0; i < 24; i++)
        ck_assert_int_eq(((const uint8_t *)tensor.data)[i], i);
}

/* The status, and that the sentence names the file and has `words`; nothing is handed out. */
static void expect_refused(const Bytes *bytes, Status status, const char *words)
{
    ck_assert_int_eq(read_bytes(bytes), status);
    ck_assert_int_eq(error.status, status);
    ck_assert_msg(strstr(error.message, words), "'%s' does not say '%s'", error.message, words);
    ck_assert_msg(strstr(error.message, folder), "'%s' does not name the file", error.message);
    ck_assert_ptr_null(tensor.data);
}

START_TEST(plain_file)
{
    Bytes bytes = idx_2x3x4();
    ck_assert_int_eq(read_bytes(&bytes), STATUS_OK);
    expect_2x3x4();
}
END_TEST

START_TEST(gzip_file_whatever_its_name)
{
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    ck_assert_int_eq(read_bytes(&packed), STATUS_OK);
    expect_2x3x4();
}
END_TEST

START_TEST(plain_file_named_gz)
{
    Bytes bytes = idx_2x3x4();
    char path[FILES_PATH_SIZE];
    files_write(folder, "file.gz", &bytes, path);
    ck_assert_int_eq(idx_read(path, &tensor, &error), STATUS_OK);
    expect_2x3x4();
}
END_TEST

START_TEST(gzip_members_are_joined)
{
    Bytes bytes = idx_2x3x4(), first = {.size = 9}, second = {.size = bytes.size - 9};
    memcpy(first.data, bytes.data, first.size);
    memcpy(second.data, bytes.data + first.size, second.size);
    Bytes joined = files_gzip(&first), rest = files_gzip(&second);
    memcpy(joined.data + joined.size, rest.data, rest.size);
    joined.size += rest.size;
    ck_assert_int_eq(read_bytes(&joined), STATUS_OK);
    expect_2x3x4();
}
END_TEST

START_TEST(missing_file)
{
    char path[FILES_PATH_SIZE + 8];
    snprintf(path, sizeof path, "%s/none", folder);
    ck_assert_int_eq(idx_read(path, &tensor, &error), STATUS_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, path));
}
END_TEST

/* Cut anywhere, a file is refused: in the header, in the data. */
START_TEST(cut_short_anywhere)
{
    Bytes bytes = idx_2x3x4();
    while (bytes.size-- > 0)
        expect_refused(&bytes, STATUS_DATA_LOSS, "is cut short");
}
END_TEST

/* ... and so is a gzip file: from 2 bytes on, where it is known as one, to the last byte of its check sum and length.
 */
START_TEST(gzip_cut_short_anywhere)
{
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    while (packed.size-- > 2)
        expect_refused(&packed, STATUS_DATA_LOSS, "is cut short");
}
END_TEST

/* Whole as a gzip file, but what it holds is cut. */
START_TEST(gzip_of_a_cut_file)
{
    Bytes bytes = idx_2x3x4();
    bytes.size--;
    Bytes packed = files_gzip(&bytes);
    expect_refused(&packed, STATUS_DATA_LOSS, "holds 23 elements, expected 24 for its shape [2, 3, 4]");
}
END_TEST

START_TEST(bytes_left_over)
{
    Bytes bytes = idx_2x3x4();
    bytes.size++;
    expect_refused(&bytes, STATUS_DATA_LOSS, "has bytes after its 24 elements");
    Bytes packed = files_gzip(&bytes);
    expect_refused(&packed, STATUS_DATA_LOSS, "has bytes after its 24 elements");
}
END_TEST

START_TEST(bytes_after_the_gzip_data)
{
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    packed.size += 3;
    expect_refused(&packed, STATUS_DATA_LOSS, "has 3 bytes after its gzip data");
}
END_TEST

/* A flipped bit in the compressed data or its check sum is noticed, or was one of the bits that fill the last byte. */
START_TEST(gzip_damaged_anywhere)
{
    enum { GZIP_HEADER = 10 };
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    size_t harmless = 0;
    for (size_t i = GZIP_HEADER; i < packed.size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            Bytes damaged = packed;
            damaged.data[i] ^= (uint8_t)(1 << bit);
            if (read_bytes(&damaged) == STATUS_OK) {
                harmless++;
                expect_2x3x4();
                tensor_destroy(&tensor);
            }
            ck_assert_ptr_null(tensor.data);
        }
    }
    ck_assert_uint_lt(harmless, 8);
}
END_TEST

START_TEST(gzip_damaged_says_so)
{
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    packed.data[packed.size - 8] ^= 1; /* the check sum */
    expect_refused(&packed, STATUS_DATA_LOSS, "is damaged near byte");
}
END_TEST

START_TEST(not_idx)
{
    Bytes bytes = idx_2x3x4();
    memcpy(bytes.data, "\x89PNG", 4);
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "begins with bytes 89 50, expected 00 00");
}
END_TEST

/* 0x0b is int16, 0x0d float: in the format, not read here. */
START_TEST(other_element_type)
{
    Bytes bytes = idx_2x3x4();
    bytes.data[2] = 0x0d;
    expect_refused(&bytes, STATUS_UNIMPLEMENTED, "is 0x0d, expected 0x08");
}
END_TEST

START_TEST(rank_out_of_range)
{
    Bytes bytes = idx_2x3x4();
    bytes.data[3] = 0;
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "is 0, expected 1 to 6");
    bytes.data[3] = 255;
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "is 255, expected 1 to 6");
}
END_TEST

START_TEST(zero_dimension)
{
    Bytes bytes = files_idx(3, (const uint32_t[]){2, 0, 4}, 0, 256);
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "dimension 1 of");
}
END_TEST

/* 2^32-1 four times is past 64 bits; twice is past the file. */
START_TEST(huge_dimensions)
{
    Bytes overflow = files_idx(4, (const uint32_t[]){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}, 24, 256);
    expect_refused(&overflow, STATUS_INVALID_ARGUMENT, "expected a size that fits in memory");
    Bytes promise = files_idx(2, (const uint32_t[]){0x7fffffff, 0x7fffffff}, 24, 256);
    expect_refused(&promise, STATUS_DATA_LOSS, "holds 36 bytes, expected 4611686014132420621");
    Bytes packed = files_gzip(&promise);
    expect_refused(&packed, STATUS_DATA_LOSS, "holds at most");
}
END_TEST

/* A gzip file that would expand to 64 MiB, with a header that promises 24 bytes. Inflating it 1,000 times to the end
 * takes far longer than the test may; stopping takes none of it. */
START_TEST(gzip_bomb_stops_at_the_promise)
{
    char path[FILES_PATH_SIZE + 8];
    snprintf(path, sizeof path, "%s/bomb", folder);
    Bytes bytes = idx_2x3x4();
    enum { CHUNK = 1 << 20, CHUNKS = 64 };
    void *zeroes = calloc(1, CHUNK);
    gzFile file = gzopen(path, "wb1");
    gzwrite(file, bytes.data, (unsigned)bytes.size);
    for (int i = 0; i < CHUNKS; i++)
        ck_assert_int_eq(gzwrite(file, zeroes, CHUNK), CHUNK);
    ck_assert_int_eq(gzclose(file), Z_OK);
    free(zeroes);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(idx_read(path, &tensor, &error), STATUS_DATA_LOSS);
    ck_assert_ptr_nonnull(strstr(error.message, "has bytes after its 24 elements"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data/idx");
    TCase *tests = tcase_create("idx");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 20);
    tcase_add_test(tests, plain_file);
    tcase_add_test(tests, gzip_file_whatever_its_name);
    tcase_add_test(tests, plain_file_named_gz);
    tcase_add_test(tests, gzip_members_are_joined);
    tcase_add_test(tests, missing_file);
    tcase_add_test(tests, cut_short_anywhere);
    tcase_add_test(tests, gzip_cut_short_anywhere);
    tcase_add_test(tests, gzip_of_a_cut_file);
    tcase_add_test(tests, bytes_left_over);
    tcase_add_test(tests, bytes_after_the_gzip_data);
    tcase_add_test(tests, gzip_damaged_anywhere);
    tcase_add_test(tests, gzip_damaged_says_so);
    tcase_add_test(tests, not_idx);
    tcase_add_test(tests, other_element_type);
    tcase_add_test(tests, rank_out_of_range);
    tcase_add_test(tests, zero_dimension);
    tcase_add_test(tests, huge_dimensions);
    tcase_add_test(tests, gzip_bomb_stops_at_the_promise);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
