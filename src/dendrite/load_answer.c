#include "dendrite/load_answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "wire/cursor.h"

enum { BLOCK = 4096 }; /* floats: stays in the nearest cache */

static bool blocks_finite(Cursor cursor)
{
    float block[BLOCK];
    while (cursor.left > 0) {
        size_t size = cursor.left < sizeof block ? cursor.left : sizeof block;
        cursor_read(&cursor, block, size);
        if (!floats_finite(block, size / sizeof *block)) return false;
    }
    return true;
}

/* Where the bytes lie, segment by segment: for large answers a copy into the cache costs as much as the comparison. */
static bool bytes_equal(Cursor at, const uint8_t *expected)
{
    while (at.left > 0) {
        Segment segment = at.segments[at.segment++];
        size_t here = segment.size - at.offset;
        if (here > at.left) here = at.left;
        if (here > 0 && memcmp(segment.data + at.offset, expected, here) != 0) return false;
        expected += here;
        at.left -= here;
        at.offset = 0;
    }
    return true;
}

/* |answer - expected| / |expected|; NaN when either isn't finite. */
static double difference(Cursor cursor, const float *expected)
{
    float block[BLOCK];
    double distance = 0, norm = 0;
    while (cursor.left > 0) {
        size_t size = cursor.left < sizeof block ? cursor.left : sizeof block, count = size / sizeof *block;
        cursor_read(&cursor, block, size);
        for (size_t i = 0; i < count; i++) {
            double off = (double)block[i] - (double)expected[i];
            distance += off * off;
            norm += (double)expected[i] * (double)expected[i];
        }
        expected += count;
    }
    return norm > 0 ? sqrt(distance / norm) : sqrt(distance);
}

static bool values_right(const WireTensor *tensor, const LoadCase *item, double tolerance, Error *error)
{
    if (item->expected == NULL) {
        if (blocks_finite(tensor->buffer)) return true;
        error_set(error, STATUS_INVALID_ARGUMENT, "the answer is not finite");
        return false;
    }
    const float *expected = tensor_f32(item->expected);
    if (tolerance <= 0) {
        if (bytes_equal(tensor->buffer, item->expected->data)) return true;
        error_set(error, STATUS_INVALID_ARGUMENT, "the answer isn't the expected one");
        return false;
    }
    double off = difference(tensor->buffer, expected);
    if (off <= tolerance) return true;
    error_set(error, STATUS_INVALID_ARGUMENT, "the answer is off by %.2g of its norm, expected at most %.2g", off,
              tolerance);
    return false;
}

static bool shape_right(const Message *message, const LoadCase *item, Error *error)
{
    DType dtype;
    Shape shape;
    char is[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    if (message->tensor_count == 0) {
        error_set(error, STATUS_UNKNOWN, "the answer is OK, but has no tensor");
        return false;
    }
    if (message_tensor_check(&message->tensors[0], "answer", &dtype, &shape, error) != STATUS_OK) return false;
    if (dtype == DTYPE_F32 && shape_equal(shape, item->answer)) return true;
    error_set(error, STATUS_INVALID_ARGUMENT, "the answer is %s %s, expected f32 %s", dtype_name(dtype),
              shape_text(shape, is), shape_text(item->answer, wanted));
    return false;
}

bool load_answer_check(const UnaryCall *call, const LoadCase *item, double tolerance, Error *error)
{
    Segment *segments;
    size_t count;
    Message message;
    bool right = rpc_segments(call->response, &segments, &count, error) == STATUS_OK &&
                 message_parse(segments, count, &message, error) == STATUS_OK && shape_right(&message, item, error) &&
                 values_right(&message.tensors[0], item, tolerance, error);
    free(segments);
    return right;
}
