/* IDX files, whole and damaged in every way the reader knows. */
#include "data/idx.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/clock.h"
#include "data/files.h"
#include "support/folder.h"
#include "support/suite.h"

static Folder folder;
static Tensor tensor;
static Error error;

static void set_up(void)
{
    folder = folder_make();
}

static void tear_down(void)
{
    tensor_destroy(&tensor);
    folder_remove(&folder);
}

static Bytes idx_2x3x4(void)
{
    return files_idx(3, (const uint32_t[]){2, 3, 4}, 24, 256);
}

static Status read_bytes(const Bytes *bytes)
{
    char path[FOLDER_PATH_SIZE];
    folder_write(&folder, "file", bytes->data, bytes->size);
    return idx_read(folder_path(&folder, "file", path), &tensor, &error);
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
    ck_assert_msg(strstr(error.message, folder.path), "'%s' does not name the file", error.message);
    ck_assert_ptr_null(tensor.data);
}

START_TEST(plain_file)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    ck_assert_int_eq(read_bytes(&bytes), STATUS_OK);
    expect_2x3x4();
    tear_down();
}
END_TEST

START_TEST(gzip_file_whatever_its_name)
{
    set_up();
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    ck_assert_int_eq(read_bytes(&packed), STATUS_OK);
    expect_2x3x4();
    tear_down();
}
END_TEST

START_TEST(plain_file_named_gz)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    char path[FOLDER_PATH_SIZE];
    folder_write(&folder, "file.gz", bytes.data, bytes.size);
    ck_assert_int_eq(idx_read(folder_path(&folder, "file.gz", path), &tensor, &error), STATUS_OK);
    expect_2x3x4();
    tear_down();
}
END_TEST

START_TEST(gzip_members_are_joined)
{
    set_up();
    Bytes bytes = idx_2x3x4(), first = {.size = 9}, second = {.size = bytes.size - 9};
    memcpy(first.data, bytes.data, first.size);
    memcpy(second.data, bytes.data + first.size, second.size);
    Bytes joined = files_gzip(&first), rest = files_gzip(&second);
    memcpy(joined.data + joined.size, rest.data, rest.size);
    joined.size += rest.size;
    ck_assert_int_eq(read_bytes(&joined), STATUS_OK);
    expect_2x3x4();
    tear_down();
}
END_TEST

START_TEST(missing_file)
{
    set_up();
    char path[FOLDER_PATH_SIZE];
    ck_assert_int_eq(idx_read(folder_path(&folder, "none", path), &tensor, &error), STATUS_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, path));
    tear_down();
}
END_TEST

/* Cut anywhere, a file is refused: in the header, in the data. */
START_TEST(cut_short_anywhere)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    while (bytes.size-- > 0)
        expect_refused(&bytes, STATUS_DATA_LOSS, "is cut short");
    tear_down();
}
END_TEST

/* ... and so is a gzip file: from 2 bytes on, where it is known as one, to the last byte of its check sum and length.
 */
START_TEST(gzip_cut_short_anywhere)
{
    set_up();
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    while (packed.size-- > 2)
        expect_refused(&packed, STATUS_DATA_LOSS, "is cut short");
    tear_down();
}
END_TEST

/* Whole as a gzip file, but what it holds is cut. */
START_TEST(gzip_of_a_cut_file)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    bytes.size--;
    Bytes packed = files_gzip(&bytes);
    expect_refused(&packed, STATUS_DATA_LOSS, "holds 23 elements, expected 24 for its shape [2, 3, 4]");
    tear_down();
}
END_TEST

START_TEST(bytes_left_over)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    bytes.size++;
    expect_refused(&bytes, STATUS_DATA_LOSS, "has bytes after its 24 elements");
    Bytes packed = files_gzip(&bytes);
    expect_refused(&packed, STATUS_DATA_LOSS, "has bytes after its 24 elements");
    tear_down();
}
END_TEST

START_TEST(bytes_after_the_gzip_data)
{
    set_up();
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    packed.size += 3;
    expect_refused(&packed, STATUS_DATA_LOSS, "has 3 bytes after its gzip data");
    tear_down();
}
END_TEST

/* A flipped bit in the compressed data or its check sum is noticed, or was one of the bits that fill the last byte. */
START_TEST(gzip_damaged_anywhere)
{
    set_up();
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
    tear_down();
}
END_TEST

START_TEST(gzip_damaged_says_so)
{
    set_up();
    Bytes bytes = idx_2x3x4(), packed = files_gzip(&bytes);
    packed.data[packed.size - 8] ^= 1; /* the check sum */
    expect_refused(&packed, STATUS_DATA_LOSS, "is damaged near byte");
    tear_down();
}
END_TEST

START_TEST(not_idx)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    memcpy(bytes.data, "\x89PNG", 4);
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "begins with bytes 89 50, expected 00 00");
    tear_down();
}
END_TEST

/* 0x0b is int16, 0x0d float: in the format, not read here. */
START_TEST(other_element_type)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    bytes.data[2] = 0x0d;
    expect_refused(&bytes, STATUS_UNIMPLEMENTED, "is 0x0d, expected 0x08");
    tear_down();
}
END_TEST

START_TEST(rank_out_of_range)
{
    set_up();
    Bytes bytes = idx_2x3x4();
    bytes.data[3] = 0;
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "is 0, expected 1 to 6");
    bytes.data[3] = 255;
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "is 255, expected 1 to 6");
    tear_down();
}
END_TEST

START_TEST(zero_dimension)
{
    set_up();
    Bytes bytes = files_idx(3, (const uint32_t[]){2, 0, 4}, 0, 256);
    expect_refused(&bytes, STATUS_INVALID_ARGUMENT, "dimension 1 of");
    tear_down();
}
END_TEST

/* 2^32-1 four times is past 64 bits; twice is past the file. */
START_TEST(huge_dimensions)
{
    set_up();
    Bytes overflow = files_idx(4, (const uint32_t[]){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}, 24, 256);
    expect_refused(&overflow, STATUS_INVALID_ARGUMENT, "expected a size that fits in memory");
    Bytes promise = files_idx(2, (const uint32_t[]){0x7fffffff, 0x7fffffff}, 24, 256);
    expect_refused(&promise, STATUS_DATA_LOSS, "holds 36 bytes, expected 4611686014132420621");
    Bytes packed = files_gzip(&promise);
    expect_refused(&packed, STATUS_DATA_LOSS, "holds at most");
    tear_down();
}
END_TEST

/* A gzip file that would expand to 64 MiB, with a header that promises 24 bytes. Inflating it 2,000 times to the end
 * takes 26 seconds, stopping at the promise a tenth of one. */
START_TEST(gzip_bomb_stops_at_the_promise)
{
    set_up();
    char path[FOLDER_PATH_SIZE];
    Bytes bytes = idx_2x3x4();
    enum { CHUNK = 1 << 20, CHUNKS = 64 };
    void *zeroes = calloc(1, CHUNK);
    gzFile file = gzopen(folder_path(&folder, "bomb", path), "wb1");
    gzwrite(file, bytes.data, (unsigned)bytes.size);
    for (int i = 0; i < CHUNKS; i++)
        ck_assert_int_eq(gzwrite(file, zeroes, CHUNK), CHUNK);
    ck_assert_int_eq(gzclose(file), Z_OK);
    free(zeroes);
    uint64_t start = clock_now(clock_monotonic());
    for (int i = 0; i < 2000; i++)
        ck_assert_int_eq(idx_read(path, &tensor, &error), STATUS_DATA_LOSS);
    ck_assert_ptr_nonnull(strstr(error.message, "has bytes after its 24 elements"));
    ck_assert_double_lt(clock_seconds(clock_now(clock_monotonic()) - start), 5.0);
    tear_down();
}
END_TEST

SUITE_MAIN("idx", plain_file, gzip_file_whatever_its_name, plain_file_named_gz, gzip_members_are_joined, missing_file,
           cut_short_anywhere, gzip_cut_short_anywhere, gzip_of_a_cut_file, bytes_left_over, bytes_after_the_gzip_data,
           gzip_damaged_anywhere, gzip_damaged_says_so, not_idx, other_element_type, rank_out_of_range, zero_dimension,
           huge_dimensions, gzip_bomb_stops_at_the_promise)
