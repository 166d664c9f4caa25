#include "data/files.h"

#include <check.h>
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
