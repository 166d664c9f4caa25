/* A tensor in host memory: row-major, contiguous, little-endian. Either owns its bytes (tensor_create: 64-byte aligned,
 * zeroed) or looks at somebody else's (tensor_view: the bytes must outlive it). Passing the struct by value passes a
 * look at the same bytes. */
#pragma once

#include "base/status.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

typedef struct Tensor {
    DType dtype;
    Shape shape;
    void *data;
    size_t size; /* bytes */
    void *owned; /* what tensor_destroy frees; NULL for a view */
} Tensor;

/* All zeros. */
Status tensor_create(DType dtype, Shape shape, Tensor *out, Error *error);

/* As tensor_create, with any content: for a tensor that is about to be written whole. */
Status tensor_allocate(DType dtype, Shape shape, Tensor *out, Error *error);

Status tensor_copy(const Tensor *source, Tensor *out, Error *error);
Tensor tensor_view(DType dtype, Shape shape, void *data); /* all zero for a shape that shape_bytes refuses */
void tensor_destroy(Tensor *tensor);                      /* NULL and zeroed are fine; leaves it zeroed */

static inline float *tensor_f32(const Tensor *tensor)
{
    return (float *)tensor->data;
}
