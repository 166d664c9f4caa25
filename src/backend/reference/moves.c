/* The operations that move elements of any dtype along one axis. A tensor is seen as [outer, along, inner], the inner
 * part contiguous. */
#include <string.h>

#include "backend/reference/loops.h"

typedef struct Axis {
    int64_t outer, along;
    size_t inner; /* bytes */
} Axis;

static Axis axis_of(const Tensor *tensor, int axis)
{
    Axis view = {.outer = 1, .along = tensor->shape.dims[axis], .inner = dtype_size(tensor->dtype)};
    for (int i = 0; i < axis; i++)
        view.outer *= tensor->shape.dims[i];
    for (int i = axis + 1; i < tensor->shape.rank; i++)
        view.inner *= (size_t)tensor->shape.dims[i];
    return view;
}

/* to[o, to_start + i] = from[o, from_start + i] for i in 0 .. count */
static void copy_range(const Tensor *to, int64_t to_start, const Tensor *from, int64_t from_start, int64_t count,
                       int axis)
{
    const Axis target = axis_of(to, axis), source = axis_of(from, axis);
    const size_t bytes = (size_t)count * target.inner;
    if (bytes == 0) return;
    for (int64_t o = 0; o < target.outer; o++)
        memcpy((char *)to->data + (size_t)(o * target.along + to_start) * target.inner,
               (const char *)from->data + (size_t)(o * source.along + from_start) * source.inner, bytes);
}

Status reference_concat(const LoopArguments *arguments, Error *error)
{
    (void)error;
    const int axis = arguments->node->attributes.axis.axis;
    int64_t start = 0;
    for (int i = 0; i < arguments->node->input_count; i++) {
        const int64_t count = arguments->inputs[i].shape.dims[axis];
        copy_range(&arguments->outputs[0], start, &arguments->inputs[i], 0, count, axis);
        start += count;
    }
    return STATUS_OK;
}

Status reference_slice(const LoopArguments *arguments, Error *error)
{
    (void)error;
    const Attributes *attributes = &arguments->node->attributes;
    copy_range(&arguments->outputs[0], 0, &arguments->inputs[0], attributes->axis.start,
               attributes->axis.stop - attributes->axis.start, attributes->axis.axis);
    return STATUS_OK;
}

/* dx[start .. stop] = dy, and 0 elsewhere */
Status reference_slice_grad(const LoopArguments *arguments, Error *error)
{
    (void)error;
    const Attributes *attributes = &arguments->node->attributes;
    if (arguments->outputs[0].size > 0) memset(arguments->outputs[0].data, 0, arguments->outputs[0].size);
    copy_range(&arguments->outputs[0], attributes->axis.start, &arguments->inputs[0], 0,
               attributes->axis.stop - attributes->axis.start, attributes->axis.axis);
    return STATUS_OK;
}
