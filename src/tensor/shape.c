#include "tensor/shape.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/size.h"

Shape shape_make(int rank, const int64_t *dims)
{
    Shape shape = {.rank = rank};
    if (rank < 0 || rank > SHAPE_MAX_RANK) {
        shape.rank = -1;
        return shape;
    }
    for (int i = 0; i < rank; i++)
        shape.dims[i] = dims[i];
    return shape;
}

Shape shape_scalar(void)
{
    return (Shape){.rank = 0};
}

bool shape_equal(Shape a, Shape b)
{
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.dims[i] != b.dims[i]) return false;
    return true;
}

int64_t shape_count(Shape shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++)
        count *= shape.dims[i];
    return count;
}

bool shape_bytes(Shape shape, size_t element, size_t *out)
{
    if (shape.rank < 0 || shape.rank > SHAPE_MAX_RANK) return false;
    size_t bytes = element;
    bool empty = false;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dims[i] < 0) return false;
        if (shape.dims[i] == 0)
            empty = true;
        else if (!size_multiply(bytes, (size_t)shape.dims[i], &bytes))
            return false;
    }
    if (bytes > SIZE_MAX / 2) return false;
    *out = empty ? 0 : bytes;
    return true;
}

const char *shape_text(Shape shape, char out[SHAPE_TEXT_SIZE])
{
    if (shape.rank < 0 || shape.rank > SHAPE_MAX_RANK) {
        snprintf(out, SHAPE_TEXT_SIZE, "[of no valid rank]");
        return out;
    }
    int length = snprintf(out, SHAPE_TEXT_SIZE, "[");
    for (int i = 0; i < shape.rank; i++)
        length +=
            snprintf(out + length, (size_t)(SHAPE_TEXT_SIZE - length), "%s%" PRId64, i ? ", " : "", shape.dims[i]);
    snprintf(out + length, (size_t)(SHAPE_TEXT_SIZE - length), "]");
    return out;
}
