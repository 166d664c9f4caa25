/* Putting tensors together, taking them apart, and the weighted sum of what peers answered. Where the compiler could
 * place parts inside the whole, concat and slice never come here, or come for the other parts only. */
#include <string.h>

#include "backend/cpu/cpu.h"

/* `x` seen as [outer, extent * inner]: what lies before the axis, and what the axis and the rest make. */
static int64_t outer_of(Shape shape, int axis)
{
    int64_t outer = 1;
    for (int i = 0; i < axis; i++)
        outer *= shape.dims[i];
    return outer;
}

/* Rows of `count` elements; starts and strides in elements too. */
static void copy_rows(const View *to, int64_t to_start, int64_t to_stride, const View *from, int64_t from_start,
                      int64_t from_stride, int64_t rows, int64_t count)
{
    int64_t element = (int64_t)dtype_size(to->dtype);
    char *target = (char *)to->data + to_start * element;
    const char *source = (const char *)from->data + from_start * element;
    if (target == source) return; /* placed there by the compiler */
    for (int64_t r = 0; r < rows; r++)
        memcpy(target + r * to_stride * element, source + r * from_stride * element, (size_t)(count * element));
}

/* Parts and whole may be views whose rows (dimension 0) are strided, whatever the axis. */
static void run_concat(const Step *step, int share)
{
    (void)share;
    const View *y = &step->outputs[0];
    int axis = step->attributes.axis.axis;
    int64_t start = 0, outer = axis > 0 ? outer_of(y->shape, axis) / view_rows(y) : 1; /* within a row */
    for (int i = 0; i < step->input_count; i++) {
        const View *part = &step->inputs[i];
        int64_t rows = view_rows(part), count = view_columns(part) / outer;
        if (axis == 0) copy_rows(y, start * y->stride, y->stride, part, 0, part->stride, rows, count);
        for (int64_t r = 0; axis > 0 && r < rows; r++)
            copy_rows(y, r * y->stride + start, view_columns(y) / outer, part, r * part->stride, count, outer, count);
        start += axis == 0 ? rows : count;
    }
}

Status prepare_concat(Step *step, Error *error)
{
    (void)error;
    step->run = run_concat;
    step->shares = 1;
    step->implementation = "copy";
    return STATUS_OK;
}

static void run_slice(const Step *step, int share)
{
    (void)share;
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int axis = step->attributes.axis.axis;
    int64_t outer = outer_of(x->shape, axis), whole = view_count(x) / outer, part = view_count(y) / outer;
    int64_t start = step->attributes.axis.start * (whole / x->shape.dims[axis]);
    copy_rows(y, 0, part, x, start, whole, outer, part);
}

Status prepare_slice(Step *step, Error *error)
{
    (void)error;
    step->run = run_slice;
    step->shares = 1;
    step->implementation = "copy";
    return STATUS_OK;
}

static void run_slice_grad(const Step *step, int share)
{
    (void)share;
    const View *dy = &step->inputs[0], *dx = &step->outputs[0];
    int axis = step->attributes.axis.axis;
    int64_t outer = outer_of(dx->shape, axis), whole = view_count(dx) / outer, part = view_count(dy) / outer;
    int64_t start = step->attributes.axis.start * (whole / dx->shape.dims[axis]);
    memset(dx->data, 0, (size_t)view_count(dx) * dtype_size(dx->dtype));
    copy_rows(dx, start, whole, dy, 0, part, outer, part);
}

Status prepare_slice_grad(Step *step, Error *error)
{
    (void)error;
    step->run = run_slice_grad;
    step->shares = 1;
    step->implementation = "copy";
    return STATUS_OK;
}

/* --- weighted sum: g [N, M], v [M, N, D] --- */

static void run_weighted_sum(const Step *step, int share)
{
    const View *g = &step->inputs[0], *v = &step->inputs[1], *y = &step->outputs[0];
    int64_t peers = v->shape.dims[0], rows = v->shape.dims[1], width = v->shape.dims[2];
    Range range = share_of(rows, 1, share, step->shares);
    for (int64_t n = range.begin; n < range.end; n++) {
        float *to = view_f32(y) + n * y->stride;
        memset(to, 0, (size_t)width * sizeof(float));
        for (int64_t m = 0; m < peers; m++)
            step->simd->axpy(view_f32(g)[n * g->stride + m], view_f32(v) + (m * rows + n) * width, to, 0, width);
    }
}

Status prepare_weighted_sum(Step *step, Error *error)
{
    (void)error;
    step->run = run_weighted_sum;
    step->shares = shares_for(step, view_rows(&step->outputs[0]), 1, 8);
    step->implementation = "simd";
    return STATUS_OK;
}

static void run_weighted_sum_grad_weights(const Step *step, int share)
{
    const View *dy = &step->inputs[0], *v = &step->inputs[1], *dg = &step->outputs[0];
    int64_t peers = v->shape.dims[0], rows = v->shape.dims[1], width = v->shape.dims[2];
    Range range = share_of(rows, 1, share, step->shares);
    for (int64_t n = range.begin; n < range.end; n++)
        for (int64_t m = 0; m < peers; m++) {
            const float *a = view_f32(dy) + n * dy->stride, *b = view_f32(v) + (m * rows + n) * width;
            step->simd->linear_rows(b, NULL, a, width, 1, width, false, view_f32(dg) + n * dg->stride + m, 1, 0, 1);
        }
}

Status prepare_weighted_sum_grad_weights(Step *step, Error *error)
{
    (void)error;
    step->run = run_weighted_sum_grad_weights;
    step->shares = shares_for(step, view_rows(&step->outputs[0]), 1, 8);
    step->implementation = "simd";
    return STATUS_OK;
}

static void run_weighted_sum_grad_values(const Step *step, int share)
{
    const View *dy = &step->inputs[0], *g = &step->inputs[1], *dv = &step->outputs[0];
    int64_t peers = dv->shape.dims[0], rows = dv->shape.dims[1], width = dv->shape.dims[2];
    Range range = share_of(rows, 1, share, step->shares);
    for (int64_t m = 0; m < peers; m++)
        for (int64_t n = range.begin; n < range.end; n++)
            step->simd->affine(view_f32(dy) + n * dy->stride, view_f32(g)[n * g->stride + m], 0,
                               view_f32(dv) + (m * rows + n) * width, 0, width);
}

Status prepare_weighted_sum_grad_values(Step *step, Error *error)
{
    (void)error;
    step->run = run_weighted_sum_grad_values;
    step->shares = shares_for(step, step->outputs[0].shape.dims[1], 1, 8);
    step->implementation = "simd";
    return STATUS_OK;
}
