#include "data/idx.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

#include "base/file.h"
#include "base/size.h"

enum {
    IDX_TYPE_U8 = 0x08,
    IDX_START = 4,             /* bytes before the dimensions */
    INFLATE_STEP = 1 << 30,    /* zlib counts in 32 bits */
    DEFLATE_MAX_RATIO = 1032,  /* zlib's "maximum compression factor": 258 bytes from two bits */
    GZIP_WINDOW_BITS = 15 + 16 /* the largest window; 16 asks for a gzip wrapper */
};

/* The file's bytes, inflated where need be, read once from front to back. */
typedef struct Source {
    const char *path;
    FileMap map;
    size_t consumed; /* of map, when not compressed */
    bool compressed, ended;
    z_stream stream;
} Source;

static Status source_open(const char *path, Source *out, Error *error)
{
    *out = (Source){.path = path};
    RETURN_IF_ERROR(file_map(path, &out->map, error));
    const uint8_t *data = out->map.data;
    out->compressed = out->map.size >= 2 && data[0] == 0x1f && data[1] == 0x8b;
    if (out->compressed && inflateInit2(&out->stream, GZIP_WINDOW_BITS) != Z_OK) {
        file_unmap(&out->map);
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to inflate '%s'", path);
    }
    out->stream.next_in = data;
    return STATUS_OK;
}

static void source_close(Source *source)
{
    if (source->compressed) inflateEnd(&source->stream);
    file_unmap(&source->map);
}

static size_t source_input_left(const Source *source)
{
    return source->map.size - (size_t)(source->stream.next_in - source->map.data);
}

/* A gzip file is one member or several, one after the other; their contents are joined. */
static Status source_end_member(Source *source, Error *error)
{
    size_t left = source_input_left(source);
    source->ended = left == 0;
    if (source->ended) return STATUS_OK;
    const uint8_t *next = source->stream.next_in;
    if (left < 2 || next[0] != 0x1f || next[1] != 0x8b)
        return error_set(error, STATUS_DATA_LOSS, "'%s' has %zu bytes after its gzip data, expected none", source->path,
                         left);
    inflateReset(&source->stream);
    return STATUS_OK;
}

static Status source_inflate(Source *source, uint8_t *bytes, size_t size, size_t *got, Error *error)
{
    z_stream *stream = &source->stream;
    *got = 0;
    while (*got < size && !source->ended) {
        size_t input = source_input_left(source), output = size - *got;
        stream->avail_in = (uInt)(input < INFLATE_STEP ? input : INFLATE_STEP);
        stream->avail_out = (uInt)(output < INFLATE_STEP ? output : INFLATE_STEP);
        stream->next_out = bytes + *got;
        int result = inflate(stream, Z_NO_FLUSH);
        *got = (size_t)(stream->next_out - bytes);
        if (result == Z_STREAM_END) {
            RETURN_IF_ERROR(source_end_member(source, error));
        } else if (result == Z_BUF_ERROR || (result == Z_OK && source_input_left(source) == 0 && *got < size)) {
            return error_set(error, STATUS_DATA_LOSS, "'%s' is cut short: its gzip data does not end within %zu bytes",
                             source->path, source->map.size);
        } else if (result == Z_MEM_ERROR) {
            return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to inflate '%s'", source->path);
        } else if (result != Z_OK) {
            return error_set(error, STATUS_DATA_LOSS, "gzip data of '%s' is damaged near byte %zu of %zu (%s)",
                             source->path, source->map.size - source_input_left(source), source->map.size,
                             stream->msg ? stream->msg : "no preset dictionary is expected");
        }
    }
    return STATUS_OK;
}

/* Reads `size` bytes; *got is less only at the end of the file. */
static Status source_read(Source *source, void *bytes, size_t size, size_t *got, Error *error)
{
    if (source->compressed) return source_inflate(source, bytes, size, got, error);
    size_t left = source->map.size - source->consumed;
    *got = size < left ? size : left;
    if (*got > 0) memcpy(bytes, source->map.data + source->consumed, *got);
    source->consumed += *got;
    return STATUS_OK;
}

/* What the file could hold at most: exact when it is not compressed. */
static size_t source_limit(const Source *source)
{
    size_t limit;
    if (!source->compressed) return source->map.size;
    return size_multiply(source->map.size, DEFLATE_MAX_RATIO, &limit) ? limit : SIZE_MAX;
}

static uint32_t big_endian_u32(const uint8_t bytes[4])
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static Status read_start(Source *source, int *rank, Error *error)
{
    uint8_t start[IDX_START];
    size_t got;
    RETURN_IF_ERROR(source_read(source, start, sizeof start, &got, error));
    if (got < sizeof start)
        return error_set(error, STATUS_DATA_LOSS, "'%s' is cut short: it holds %zu bytes, an IDX header at least %d",
                         source->path, got, IDX_START);
    if (start[0] != 0 || start[1] != 0)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "'%s' is not an IDX file: it begins with bytes %02x %02x, expected 00 00", source->path,
                         start[0], start[1]);
    if (start[2] != IDX_TYPE_U8)
        return error_set(error, STATUS_UNIMPLEMENTED,
                         "element type of '%s' is 0x%02x, expected 0x%02x (unsigned bytes)", source->path, start[2],
                         IDX_TYPE_U8);
    if (start[3] < 1 || start[3] > SHAPE_MAX_RANK)
        return error_set(error, STATUS_INVALID_ARGUMENT, "rank of '%s' is %d, expected 1 to %d", source->path, start[3],
                         SHAPE_MAX_RANK);
    *rank = start[3];
    return STATUS_OK;
}

static Status read_header(Source *source, Shape *shape, size_t *size, Error *error)
{
    int rank = 0;
    RETURN_IF_ERROR(read_start(source, &rank, error));
    uint8_t sizes[4 * SHAPE_MAX_RANK];
    size_t got, wanted = 4 * (size_t)rank;
    RETURN_IF_ERROR(source_read(source, sizes, wanted, &got, error));
    if (got < wanted)
        return error_set(error, STATUS_DATA_LOSS,
                         "'%s' is cut short: it holds %zu bytes, its header of rank %d takes %zu", source->path,
                         IDX_START + got, rank, IDX_START + wanted);
    int64_t dims[SHAPE_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        dims[i] = big_endian_u32(sizes + 4 * i);
        if (dims[i] == 0)
            return error_set(error, STATUS_INVALID_ARGUMENT, "dimension %d of '%s' is 0, expected at least 1", i,
                             source->path);
    }
    *shape = shape_make(rank, dims);
    char text[SHAPE_TEXT_SIZE];
    size_t total;
    if (!shape_bytes(*shape, 1, size) || !size_add(*size, IDX_START + wanted, &total))
        return error_set(error, STATUS_INVALID_ARGUMENT, "shape of '%s' is %s, expected a size that fits in memory",
                         source->path, shape_text(*shape, text));
    if (total > source_limit(source))
        return error_set(error, STATUS_DATA_LOSS,
                         "'%s' is cut short: it holds %s%zu bytes, expected %zu for its shape %s", source->path,
                         source->compressed ? "at most " : "", source_limit(source), total, shape_text(*shape, text));
    return STATUS_OK;
}

/* `out` is the tensor of the promised size; filled exactly, or an error. */
static Status read_elements(Source *source, Tensor *out, Error *error)
{
    size_t got, extra;
    uint8_t byte;
    char text[SHAPE_TEXT_SIZE];
    RETURN_IF_ERROR(source_read(source, out->data, out->size, &got, error));
    if (got < out->size)
        return error_set(error, STATUS_DATA_LOSS,
                         "'%s' is cut short: it holds %zu elements, expected %zu for its shape %s", source->path, got,
                         out->size, shape_text(out->shape, text));
    RETURN_IF_ERROR(source_read(source, &byte, 1, &extra, error));
    if (extra > 0)
        return error_set(error, STATUS_DATA_LOSS, "'%s' has bytes after its %zu elements, expected none after shape %s",
                         source->path, out->size, shape_text(out->shape, text));
    return STATUS_OK;
}

Status idx_read(const char *path, Tensor *out, Error *error)
{
    Source source;
    Shape shape;
    size_t size;
    *out = (Tensor){0};
    RETURN_IF_ERROR(source_open(path, &source, error));
    Status status;
    GOTO_IF_ERROR(read_header(&source, &shape, &size, error), cleanup);
    GOTO_IF_ERROR(tensor_create(DTYPE_U8, shape, out, error), cleanup);
    GOTO_IF_ERROR(read_elements(&source, out, error), cleanup);
cleanup:
    source_close(&source);
    if (status != STATUS_OK) tensor_destroy(out);
    return status;
}
