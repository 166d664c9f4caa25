/* Operations on each element alone. Dense tensors, and lanes, are one run of floats; strided ones go row by row. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/rng.h"

enum { GRAIN = 16, LEAST = 8192 }; /* floats in a share are cut at whole cache lines; less isn't worth a barrier */
enum { MASK_PART = 1024 };         /* factors of dropout that are drawn at a time, on the stack */

Range share_of(int64_t count, int64_t grain, int share, int shares)
{
    int64_t grains = (count + grain - 1) / grain;
    Range range = {grains * share / shares * grain, grains * (share + 1) / shares * grain};
    if (range.begin > count) range.begin = count;
    if (range.end > count) range.end = count;
    return range;
}

int shares_for(const Step *step, int64_t count, int64_t grain, int64_t least)
{
    int64_t grains = (count + grain - 1) / grain;
    if (count < least || grains < 2) return 1;
    return grains < step->threads ? (int)grains : step->threads;
}

int64_t view_extent(const SimdKernels *simd, const View *view)
{
    if (view->layout == LAYOUT_LANES) return simd_blocks(simd, view_rows(view)) * simd->lanes * view_columns(view);
    return view->shape.rank == 0 ? 1 : (view_rows(view) - 1) * view->stride + view_columns(view);
}

static void run_elements(const Step *step, int share)
{
    const View *y = &step->outputs[0];
    bool dense = view_is_dense(y);
    for (int i = 0; i < step->input_count; i++)
        dense = dense && (view_is_dense(&step->inputs[i]) || step->inputs[i].shape.rank != y->shape.rank);
    const float *in[3] = {NULL, NULL, NULL};
    if (dense) {
        int64_t count = view_extent(step->simd, y);
        Range range = share_of(count, GRAIN, share, step->shares);
        for (int i = 0; i < step->input_count && i < 3; i++)
            in[i] = view_f32(&step->inputs[i]) + (step->inputs[i].shape.rank == y->shape.rank ? range.begin : 0);
        if (range.end > range.begin)
            step->elements(step, in, view_f32(y) + range.begin, range.begin, range.end - range.begin);
        return;
    }
    Range rows = share_of(view_rows(y), 1, share, step->shares);
    for (int64_t r = rows.begin; r < rows.end; r++) {
        for (int i = 0; i < step->input_count && i < 3; i++)
            in[i] = view_f32(&step->inputs[i]) +
                    (step->inputs[i].shape.rank == y->shape.rank ? r * step->inputs[i].stride : 0);
        step->elements(step, in, view_f32(y) + r * y->stride, r * view_columns(y), view_columns(y));
    }
}

static Status prepare_elements(Step *step, Elements *elements)
{
    step->run = run_elements;
    step->elements = elements;
    step->shares = shares_for(step, view_count(&step->outputs[0]), GRAIN, LEAST);
    step->implementation = step->outputs[0].layout == LAYOUT_LANES ? "simd, lanes" : "simd";
    return STATUS_OK;
}

static void affine_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    step->simd->affine(in[0], (float)step->attributes.affine.scale, (float)step->attributes.affine.shift, out, 0,
                       count);
}

Status prepare_affine(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, affine_part);
}

static void add_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    step->simd->add(in[0], in[1], out, 0, count);
}

Status prepare_add(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, add_part);
}

/* a + s b, where s = 0 keeps b out altogether. */
static void add_scaled_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    float scale = *view_f32(&step->inputs[2]);
    if (out != in[0]) memcpy(out, in[0], (size_t)count * sizeof(float));
    if (scale != 0) step->simd->axpy(scale, in[1], out, 0, count);
}

Status prepare_add_scaled(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, add_scaled_part);
}

/* s x, where s = 0 keeps x out altogether. */
static void scale_by_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    const float scale = *view_f32(&step->inputs[1]);
    if (scale == 0)
        memset(out, 0, (size_t)count * sizeof(float));
    else
        step->simd->affine(in[0], scale, 0, out, 0, count);
}

Status prepare_scale_by(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, scale_by_part);
}

static void relu_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    step->simd->relu(in[0], out, 0, count);
}

Status prepare_relu(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, relu_part);
}

static void relu_grad_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    step->simd->relu_grad(in[1], in[0], out, 0, count);
}

Status prepare_relu_grad(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, relu_grad_part);
}

static void gelu_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    step->simd->gelu(in[0], step->attributes.gelu.form == GELU_TANH, out, 0, count);
}

Status prepare_gelu(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, gelu_part);
}

static void gelu_grad_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    (void)first;
    step->simd->gelu_grad(in[0], in[1], step->attributes.gelu.form == GELU_TANH, out, 0, count);
}

Status prepare_gelu_grad(Step *step, Error *error)
{
    (void)error;
    return prepare_elements(step, gelu_grad_part);
}

/* --- dropout --- */

typedef struct Random {
    uint64_t seed, step;
} Random;

static Random random_of(const View *view)
{
    const int64_t *values = view->data;
    return (Random){(uint64_t)values[0], (uint64_t)values[1]};
}

float dropout_factor(const int64_t *random, uint32_t layer, double probability, uint64_t index)
{
    uint32_t word = rng_mask_word((uint64_t)random[0], (uint64_t)random[1], layer, index);
    return word >= probability * 4294967296.0 ? (float)(1 / (1 - probability)) : 0;
}

static void dropout_part(const Step *step, const float *const *in, float *out, int64_t first, int64_t count)
{
    Random random = random_of(&step->inputs[1]);
    for (int64_t done = 0; done < count; done += MASK_PART) {
        int64_t length = count - done < MASK_PART ? count - done : MASK_PART;
        float mask[MASK_PART];
        step->simd->dropout_mask(random.seed, random.step, step->attributes.dropout.layer,
                                 step->attributes.dropout.probability, mask, first + done, first + done + length);
        for (int64_t i = 0; i < length; i++)
            out[done + i] = mask[i] > 0 ? in[0][done + i] * mask[i] : 0; /* what is dropped is 0, even a NaN */
    }
}

/* One factor a plane of [N, C, ...]. */
static void run_dropout_channels(const Step *step, int share)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int64_t channels = y->shape.dims[1], plane = view_columns(y) / channels;
    const int64_t *random = step->inputs[1].data;
    Range rows = share_of(view_rows(y), 1, share, step->shares);
    for (int64_t n = rows.begin; n < rows.end; n++)
        for (int64_t c = 0; c < channels; c++) {
            float keep = dropout_factor(random, step->attributes.dropout.layer, step->attributes.dropout.probability,
                                        (uint64_t)(n * channels + c));
            float *to = view_f32(y) + n * y->stride + c * plane;
            if (keep > 0)
                step->simd->affine(view_f32(x) + n * x->stride + c * plane, keep, 0, to, 0, plane);
            else
                memset(to, 0, (size_t)plane * sizeof(float));
        }
}

/* The same with the images side by side: a vector of factors a channel and block. */
static void run_dropout_channels_lanes(const Step *step, int share)
{
    const SimdKernels *simd = step->simd;
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int64_t channels = y->shape.dims[1], plane = view_columns(y) / channels, lanes = simd->lanes;
    float *mask = (float *)step_scratch(step, share);
    Random random = random_of(&step->inputs[1]);
    Range planes = share_of(simd_blocks(simd, view_rows(y)) * channels, 1, share, step->shares);
    simd->dropout_mask_lanes(random.seed, random.step, step->attributes.dropout.layer,
                             step->attributes.dropout.probability, view_rows(y), channels, mask, planes.begin,
                             planes.end);
    for (int64_t p = planes.begin; p < planes.end; p++)
        for (int64_t i = 0; i < plane; i++)
            simd->mul(view_f32(x) + (p * plane + i) * lanes, mask + p * lanes, view_f32(y) + (p * plane + i) * lanes, 0,
                      lanes);
}

Status prepare_dropout(Step *step, Error *error)
{
    (void)error;
    RETURN_IF_ERROR(prepare_elements(step, dropout_part));
    const View *y = &step->outputs[0];
    if (!step->attributes.dropout.channels) return STATUS_OK;
    step->shares = shares_for(step, view_rows(y), 1, 2);
    step->run = run_dropout_channels;
    if (y->layout == LAYOUT_LANES) {
        int64_t planes = simd_blocks(step->simd, view_rows(y)) * y->shape.dims[1];
        step->shares = shares_for(step, planes, 1, 2);
        step->scratch_bytes = (size_t)(planes * step->simd->lanes) * sizeof(float);
        step->run = run_dropout_channels_lanes;
    }
    return STATUS_OK;
}
