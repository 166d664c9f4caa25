/* From what a message claims of a tensor to a tensor: the checks, then the one copy. */
#include <inttypes.h>
#include <string.h>

#include "base/size.h"
#include "wire/cursor.h"
#include "wire/fields.h"
#include "wire/message.h"

static DType dtype_of_number(int32_t number)
{
    switch (number) {
    case DATA_FLOAT32:
        return DTYPE_F32;
    case DATA_FLOAT64:
        return DTYPE_F64;
    case DATA_INT32:
        return DTYPE_I32;
    case DATA_INT64:
        return DTYPE_I64;
    default:
        return DTYPE_NONE;
    }
}

static Status check_dimensions(const WireTensor *tensor, const char *what, Error *error)
{
    if (tensor->rank > SHAPE_MAX_RANK)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s has %zu dimensions, expected at most %d", what,
                         tensor->rank, SHAPE_MAX_RANK);
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] == -1)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "dimension %zu of %s is -1; dimensions are not inferred here, send its value", i, what);
        if (tensor->dims[i] < 0)
            return error_set(error, STATUS_INVALID_ARGUMENT, "dimension %zu of %s is %" PRId64 ", expected at least 0",
                             i, what, tensor->dims[i]);
    }
    return STATUS_OK;
}

Status message_tensor_check(const WireTensor *tensor, const char *what, DType *dtype, Shape *shape, Error *error)
{
    *dtype = dtype_of_number(tensor->dtype);
    if (*dtype == DTYPE_NONE)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "dtype of %s is %" PRId32 "%s, expected 1 (FLOAT32), 2 (FLOAT64), 3 (INT32) or 4 (INT64)",
                         what, tensor->dtype,
                         tensor->dtype == DATA_UNKNOWN ? " (UNKNOWN)"
                         : tensor->dtype == DATA_UTF8  ? " (UTF8)"
                                                       : "");
    RETURN_IF_ERROR(check_dimensions(tensor, what, error));
    *shape = shape_make((int)tensor->rank, tensor->dims);
    char text[SHAPE_TEXT_SIZE];
    size_t bytes;
    if (!shape_bytes(*shape, dtype_size(*dtype), &bytes))
        return error_set(error, STATUS_INVALID_ARGUMENT, "shape of %s is %s, more elements than memory can have", what,
                         shape_text(*shape, text));
    if (bytes != tensor->buffer.left)
        return error_set(error, STATUS_INVALID_ARGUMENT, "buffer of %s has %zu bytes, but its shape %s of %s takes %zu",
                         what, tensor->buffer.left, shape_text(*shape, text), dtype_name(*dtype), bytes);
    return STATUS_OK;
}

/* Whether a modality's input can be read from this dtype, and how a person would say which can. */
static const char *dtype_refused(Modality modality, DType dtype)
{
    switch (modality) {
    case MODALITY_IMAGE:
        return dtype == DTYPE_F32 ? NULL : "f32";
    case MODALITY_TEXT:
        return dtype == DTYPE_I64 || dtype == DTYPE_I32 ? NULL : "i64 or i32";
    case MODALITY_TENSOR:
        return dtype == DTYPE_F32 || dtype == DTYPE_F64 ? NULL : "f32 or f64";
    }
    return "a known modality";
}

Status message_input_check(const WireTensor *tensor, Modality *modality, DType *dtype, Shape *shape, Error *error)
{
    if (tensor->modality < MODALITY_TENSOR || tensor->modality > MODALITY_TEXT)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "modality of input is %" PRId32 ", expected 0 (TENSOR), 1 (IMAGE) or 2 (TEXT)",
                         tensor->modality);
    *modality = (Modality)tensor->modality;
    RETURN_IF_ERROR(message_tensor_check(tensor, "input", dtype, shape, error));
    const char *expected = dtype_refused(*modality, *dtype);
    if (expected)
        return error_set(error, STATUS_INVALID_ARGUMENT, "dtype of input of modality %s is %s, expected %s",
                         modality_name(*modality), dtype_name(*dtype), expected);
    char text[SHAPE_TEXT_SIZE];
    if (shape->rank != modality_rank(*modality))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "shape of input of modality %s is %s, of %d dimensions, expected %d", modality_name(*modality),
                         shape_text(*shape, text), shape->rank, modality_rank(*modality));
    for (int i = 0; i < shape->rank; i++)
        if (shape->dims[i] < 1)
            return error_set(error, STATUS_INVALID_ARGUMENT, "shape of input is %s, expected no dimension below 1",
                             shape_text(*shape, text));
    return STATUS_OK;
}

/* Elements are converted through a buffer of this many, since a segment may end inside one. */
enum { CONVERT_BLOCK = 512 };

static void read_narrowed(Cursor cursor, float *out, size_t count)
{
    double block[CONVERT_BLOCK];
    while (count) {
        size_t here = count < CONVERT_BLOCK ? count : CONVERT_BLOCK;
        cursor_read(&cursor, block, here * sizeof *block);
        for (size_t i = 0; i < here; i++)
            out[i] = (float)block[i];
        out += here;
        count -= here;
    }
}

static void read_widened(Cursor cursor, int64_t *out, size_t count)
{
    int32_t block[CONVERT_BLOCK];
    while (count) {
        size_t here = count < CONVERT_BLOCK ? count : CONVERT_BLOCK;
        cursor_read(&cursor, block, here * sizeof *block);
        for (size_t i = 0; i < here; i++)
            out[i] = block[i];
        out += here;
        count -= here;
    }
}

Status message_tensor_read(const WireTensor *tensor, DType sent, DType wanted, Shape shape, void *destination,
                           Error *error)
{
    return message_tensor_read_range(tensor, sent, wanted, 0, (size_t)shape_count(shape), destination, error);
}

Status message_tensor_read_range(const WireTensor *tensor, DType sent, DType wanted, size_t first, size_t count,
                                 void *destination, Error *error)
{
    Cursor cursor = tensor->buffer;
    cursor_read(&cursor, NULL, first * dtype_size(sent));
    if (sent == wanted)
        cursor_read(&cursor, destination, count * dtype_size(sent));
    else if (sent == DTYPE_F64 && wanted == DTYPE_F32)
        read_narrowed(cursor, destination, count);
    else if (sent == DTYPE_I32 && wanted == DTYPE_I64)
        read_widened(cursor, destination, count);
    else
        return error_set(error, STATUS_INVALID_ARGUMENT, "dtype is %s, which can't be read as %s", dtype_name(sent),
                         dtype_name(wanted));
    return STATUS_OK;
}

/* An IEEE number is finite unless all bits of its exponent are set; integers, so that the loop becomes vectors. */
bool floats_finite(const float *values, size_t count)
{
    uint32_t worst = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits &= 0x7f800000u;
        worst = bits > worst ? bits : worst;
    }
    return worst != 0x7f800000u;
}

Status tensor_check_finite(const Tensor *tensor, const char *what, Error *error)
{
    const float *values = tensor_f32(tensor);
    size_t count = tensor->size / sizeof *values;
    if (floats_finite(values, count)) return STATUS_OK;
    size_t first = 0;
    while (floats_finite(&values[first], 1))
        first++;
    char text[SHAPE_TEXT_SIZE];
    return error_set(error, STATUS_INVALID_ARGUMENT, "element %zu of %s %s is %g, expected a finite number", first,
                     what, shape_text(tensor->shape, text), (double)values[first]);
}
