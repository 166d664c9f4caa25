/* Shapes: up to SHAPE_MAX_RANK dimensions, outermost first; rank 0 is a scalar of one element. Dimensions are >= 0. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHAPE_MAX_RANK = 6, SHAPE_TEXT_SIZE = 160 };

typedef struct Shape {
    int rank;
    int64_t dims[SHAPE_MAX_RANK];
} Shape;

/* shape_of(64, 1, 28, 28); shape_scalar() for rank 0. */
#define shape_of(...)                                                                                                  \
    shape_make((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})
Shape shape_make(int rank, const int64_t *dims); /* a rank out of range: rank -1, which shape_bytes refuses */
Shape shape_scalar(void);

bool shape_equal(Shape a, Shape b);
int64_t shape_count(Shape shape); /* elements; of a shape that passed shape_bytes */

/* Bytes of the shape's elements. False: a negative dimension, a rank out of range, or the product of the dimensions
 * that are not 0 overflows or passes SIZE_MAX / 2 (so that strides are safe too). */
bool shape_bytes(Shape shape, size_t element, size_t *out);

/* Writes "[64, 1, 28, 28]" and returns `out`, so that it can stand in an argument list. */
const char *shape_text(Shape shape, char out[SHAPE_TEXT_SIZE]);
