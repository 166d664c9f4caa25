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
Shape shape_make(int rank, const int64_t *dims);
Shape shape_scalar(void);

bool shape_equal(Shape a, Shape b);
int64_t shape_count(Shape shape); /* elements; of a shape that passed shape_bytes */
bool shape_bytes(Shape shape, size_t element,
                 size_t *out); /* false: a negative dimension, or the product overflows or passes SIZE_MAX / 2 */

/* Writes "[64, 1, 28, 28]" and returns `out`, so that it can stand in an argument list. */
const char *shape_text(Shape shape, char out[SHAPE_TEXT_SIZE]);
