/* Steps that only move: between layouts, and from one place to another. */
#include <string.h>

#include "backend/cpu/cpu.h"

static void run_to_lanes(const Step *step, int share)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int64_t batch = view_rows(x), features = view_columns(x);
    Range units = share_of(simd_layout_units(step->simd, batch, features), 1, share, step->shares);
    step->simd->lanes_from_plain(view_f32(x), x->stride, batch, features, (float)step->attributes.affine.scale,
                                 (float)step->attributes.affine.shift, view_f32(y), units.begin, units.end);
}

static void run_to_plain(const Step *step, int share)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int64_t batch = view_rows(x), features = view_columns(x);
    Range units = share_of(simd_layout_units(step->simd, batch, features), 1, share, step->shares);
    step->simd->lanes_to_plain(view_f32(x), batch, features, view_f32(y), y->stride, units.begin, units.end);
}

/* The index of a pool on its way between layouts: rare, so a plain loop. */
static void run_bytes(const Step *step, int share)
{
    (void)share;
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int64_t lanes = step->simd->lanes, features = view_columns(x);
    bool to_lanes = y->layout == LAYOUT_LANES;
    const uint8_t *from = x->data;
    uint8_t *to = y->data;
    for (int64_t n = 0; n < view_rows(x); n++)
        for (int64_t f = 0; f < features; f++) {
            int64_t lane = (n / lanes * features + f) * lanes + n % lanes;
            if (to_lanes)
                to[lane] = from[n * x->stride + f];
            else
                to[n * y->stride + f] = from[lane];
        }
}

Status prepare_convert(Step *step, Error *error)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    step->implementation = "simd";
    step->shares = shares_for(step, simd_layout_units(step->simd, view_rows(x), view_columns(x)), 1, 2);
    if (x->dtype == DTYPE_U8) {
        step->run = run_bytes;
        step->shares = 1;
        return STATUS_OK;
    }
    if (x->dtype != DTYPE_F32)
        return error_set(error, STATUS_UNIMPLEMENTED, "the cpu backend can't bring %s into lanes",
                         dtype_name(x->dtype));
    step->run = y->layout == LAYOUT_LANES ? run_to_lanes : run_to_plain;
    return STATUS_OK;
}

static void run_copy(const Step *step, int share)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    size_t element = dtype_size(x->dtype);
    if (x->layout == LAYOUT_LANES || (view_is_dense(x) && view_is_dense(y))) {
        Range bytes = share_of(view_extent(step->simd, x) * (int64_t)element, 64, share, step->shares);
        memcpy((char *)y->data + bytes.begin, (const char *)x->data + bytes.begin, (size_t)(bytes.end - bytes.begin));
        return;
    }
    size_t row = (size_t)view_columns(x) * element;
    Range rows = share_of(view_rows(x), 1, share, step->shares);
    for (int64_t r = rows.begin; r < rows.end; r++)
        memcpy((char *)y->data + (size_t)(r * y->stride) * element,
               (const char *)x->data + (size_t)(r * x->stride) * element, row);
}

Status prepare_copy(Step *step, Error *error)
{
    (void)error;
    step->run = run_copy;
    step->implementation = "copy";
    step->shares = shares_for(step, view_count(&step->inputs[0]), 1, 8192);
    if (view_rows(&step->inputs[0]) < step->shares) step->shares = (int)view_rows(&step->inputs[0]);
    return STATUS_OK;
}
