#include "tensor/tensor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/size.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors, files and messages share little-endian bytes");

enum { ALIGNMENT = 64 };

/* calloc and an offset rather than aligned_alloc and memset: a large tensor's zero pages then cost nothing until they
 * are touched. */
static Status create(DType dtype, Shape shape, bool zeroed, Tensor *out, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    size_t size, allocated;
    if (dtype_size(dtype) == 0)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "dtype of a tensor of shape %s is %s, expected an element type", shape_text(shape, text),
                         dtype_name(dtype));
    if (!shape_bytes(shape, dtype_size(dtype), &size) || !size_add(size, ALIGNMENT, &allocated))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "shape of a tensor is %s (%s), expected dimensions of at least 0 whose bytes can be counted",
                         shape_text(shape, text), dtype_name(dtype));
    int failure = failpoint_hit("tensor.create");
    void *owned = failure ? NULL : zeroed ? calloc(1, allocated) : malloc(allocated);
    if (!owned)
        return error_set_errno(error, failure ? failure : ENOMEM, "a tensor of shape %s (%s) needs %zu bytes",
                               shape_text(shape, text), dtype_name(dtype), size);
    void *data = (void *)size_align((uintptr_t)owned, ALIGNMENT);
    *out = (Tensor){.dtype = dtype, .shape = shape, .data = data, .size = size, .owned = owned};
    return STATUS_OK;
}

Status tensor_create(DType dtype, Shape shape, Tensor *out, Error *error)
{
    return create(dtype, shape, true, out, error);
}

Status tensor_allocate(DType dtype, Shape shape, Tensor *out, Error *error)
{
    return create(dtype, shape, false, out, error);
}

Status tensor_copy(const Tensor *source, Tensor *out, Error *error)
{
    Tensor copy;
    RETURN_IF_ERROR(tensor_allocate(source->dtype, source->shape, &copy, error));
    if (copy.size) memcpy(copy.data, source->data, copy.size);
    *out = copy;
    return STATUS_OK;
}

Tensor tensor_view(DType dtype, Shape shape, void *data)
{
    size_t size;
    if (!shape_bytes(shape, dtype_size(dtype), &size)) return (Tensor){0};
    return (Tensor){.dtype = dtype, .shape = shape, .data = data, .size = size};
}

void tensor_destroy(Tensor *tensor)
{
    if (!tensor) return;
    free(tensor->owned);
    *tensor = (Tensor){0};
}
