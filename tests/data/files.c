#include "data/files.h"

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

Bytes files_idx(int rank, const uint32_t *dims, size_t count, int modulus)
{
    Bytes bytes = {.data = {0, 0, 0x08, (uint8_t)rank}, .size = 4};
    for (int i = 0; i < rank; i++)
        for (int shift = 24; shift >= 0; shift -= 8)
            bytes.data[bytes.size++] = (uint8_t)(dims[i] >> shift);
    ck_assert_uint_le(bytes.size + count, sizeof bytes.data);
    for (size_t i = 0; i < count; i++)
        bytes.data[bytes.size++] = (uint8_t)(i % (size_t)modulus);
    return bytes;
}

Bytes files_gzip(const Bytes *bytes)
{
    Bytes packed = {.size = 0};
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes->data, .avail_in = (uInt)bytes->size};
    ck_assert_int_eq(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_out = packed.data;
    stream.avail_out = sizeof packed.data;
    ck_assert_int_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    packed.size = stream.total_out;
    deflateEnd(&stream);
    return packed;
}

void files_folder(char folder[FILES_PATH_SIZE])
{
    const char *parent = getenv("TMPDIR");
    snprintf(folder, FILES_PATH_SIZE, "%s/neuron-data.XXXXXX", parent ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

void files_remove(const char *folder)
{
    ck_assert_int_eq(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void files_write(const char *folder, const char *name, const Bytes *bytes, char path[FILES_PATH_SIZE])
{
    int length = snprintf(path, FILES_PATH_SIZE, "%s/%s", folder, name);
    ck_assert_int_lt(length, FILES_PATH_SIZE);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    mkdir(path, 0755);
    *slash = '/';
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes->data, 1, bytes->size, file), bytes->size);
    ck_assert_int_eq(fclose(file), 0);
}
