/* Softmax and the losses: a few classes a row, so one thread, and sums in double. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"

static Status one_share(Step *step, void (*run)(const Step *, int))
{
    step->run = run;
    step->shares = 1;
    step->implementation = "simd";
    return STATUS_OK;
}

/* Over what the mask keeps; the rest is 0. */
static void masked_softmax_row(const float *x, const uint8_t *mask, int64_t count, float *y)
{
    float most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < count; i++)
        if (mask[i] && (x[i] > most || isnan(x[i]))) most = x[i];
    for (int64_t i = 0; i < count; i++) {
        y[i] = mask[i] ? expf(x[i] - most) : 0;
        sum += y[i];
    }
    for (int64_t i = 0; sum != 0 && i < count; i++)
        y[i] /= sum;
}

/* All rows at once where they are dense, for which the kernel is made. */
static void softmax_rows(const SimdKernels *simd, const View *x, const View *y)
{
    bool dense = view_is_dense(x) && view_is_dense(y);
    int64_t rows = view_rows(x);
    for (int64_t n = 0; n < (dense ? 1 : rows); n++)
        simd->softmax(view_f32(x) + n * x->stride, view_columns(x), view_f32(y) + n * y->stride, 0, dense ? rows : 1);
}

static void run_softmax(const Step *step, int share)
{
    (void)share;
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    if (step->input_count < 2 || !step->inputs[1].present) {
        softmax_rows(step->simd, x, y);
        return;
    }
    for (int64_t n = 0; n < view_rows(x); n++)
        masked_softmax_row(view_f32(x) + n * x->stride, step->inputs[1].data, view_columns(x),
                           view_f32(y) + n * y->stride);
}

Status prepare_softmax(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_softmax);
}

/* dx = y (dy - sum(dy y)) */
static void run_softmax_grad(const Step *step, int share)
{
    (void)share;
    const View *dy = &step->inputs[0], *y = &step->inputs[1], *dx = &step->outputs[0];
    for (int64_t n = 0; n < view_rows(y); n++) {
        const float *g = view_f32(dy) + n * dy->stride, *p = view_f32(y) + n * y->stride;
        float *out = view_f32(dx) + n * dx->stride, dot = 0;
        for (int64_t i = 0; i < y->shape.dims[1]; i++)
            dot += g[i] * p[i];
        for (int64_t i = 0; i < y->shape.dims[1]; i++)
            out[i] = p[i] * (g[i] - dot);
    }
}

Status prepare_softmax_grad(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_softmax_grad);
}

/* Rows that a loss is a mean over: those with a label, or those without. */
static int64_t rows_counted(const View *labels, bool labelled)
{
    const int32_t *label = labels->data;
    int64_t count = 0;
    for (int64_t n = 0; n < view_rows(labels); n++)
        count += (label[n] >= 0) == labelled;
    return count;
}

/* log of the sum of exp, from a row and its softmax: x[i] - log y[i] at the largest. */
static double log_sum_exp(const float *x, int64_t count)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < count; i++)
        if (x[i] > most || isnan(x[i])) most = x[i];
    for (int64_t i = 0; i < count; i++)
        sum += exp(x[i] - most);
    return most + log(sum);
}

static void run_cross_entropy(const Step *step, int share)
{
    (void)share;
    const View *x = &step->inputs[0], *labels = &step->inputs[1], *y = &step->outputs[1];
    const int32_t *label = labels->data;
    int64_t classes = x->shape.dims[1], counted = rows_counted(labels, true);
    double sum = 0;
    softmax_rows(step->simd, x, y);
    for (int64_t n = 0; n < view_rows(x); n++) {
        const float *row = view_f32(x) + n * x->stride;
        if (label[n] >= 0) sum += log_sum_exp(row, classes) - row[label[n]];
    }
    *view_f32(&step->outputs[0]) = counted > 0 ? (float)(sum / (double)counted) : 0;
}

Status prepare_cross_entropy(Step *step, Error *error)
{
    (void)error;
    step->labelled = true;
    return one_share(step, run_cross_entropy);
}

static void run_cross_entropy_grad(const Step *step, int share)
{
    (void)share;
    const View *p = &step->inputs[1], *labels = &step->inputs[2], *dx = &step->outputs[0];
    const int32_t *label = labels->data;
    int64_t classes = p->shape.dims[1], counted = rows_counted(labels, true);
    float scale = counted > 0 ? *view_f32(&step->inputs[0]) / (float)counted : 0;
    for (int64_t n = 0; n < view_rows(p); n++) {
        const float *row = view_f32(p) + n * p->stride;
        float *out = view_f32(dx) + n * dx->stride;
        for (int64_t i = 0; i < classes; i++)
            out[i] = label[n] >= 0 ? scale * (row[i] - (float)(i == label[n])) : 0;
    }
}

Status prepare_cross_entropy_grad(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_cross_entropy_grad);
}

static void run_soft_cross_entropy(const Step *step, int share)
{
    (void)share;
    const View *x = &step->inputs[0], *t = &step->inputs[1], *labels = &step->inputs[2];
    const View *y = &step->outputs[1], *q = &step->outputs[2];
    const int32_t *label = labels->data;
    int64_t classes = x->shape.dims[1], counted = rows_counted(labels, false);
    double sum = 0;
    softmax_rows(step->simd, x, y);
    softmax_rows(step->simd, t, q);
    for (int64_t n = 0; n < view_rows(x); n++) {
        if (label[n] >= 0) continue;
        const float *row = view_f32(x) + n * x->stride, *target = view_f32(q) + n * q->stride;
        double log_sum = log_sum_exp(row, classes);
        for (int64_t i = 0; i < classes; i++)
            sum += target[i] * (log_sum - row[i]);
    }
    *view_f32(&step->outputs[0]) = counted > 0 ? (float)(sum / (double)counted) : 0;
}

Status prepare_soft_cross_entropy(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_soft_cross_entropy);
}

static void run_soft_cross_entropy_grad(const Step *step, int share)
{
    (void)share;
    const View *p = &step->inputs[1], *q = &step->inputs[2], *labels = &step->inputs[3], *dx = &step->outputs[0];
    const int32_t *label = labels->data;
    int64_t classes = p->shape.dims[1], counted = rows_counted(labels, false);
    float scale = counted > 0 ? *view_f32(&step->inputs[0]) / (float)counted : 0;
    for (int64_t n = 0; n < view_rows(p); n++) {
        const float *row = view_f32(p) + n * p->stride, *target = view_f32(q) + n * q->stride;
        float *out = view_f32(dx) + n * dx->stride;
        for (int64_t i = 0; i < classes; i++)
            out[i] = label[n] < 0 ? scale * (row[i] - target[i]) : 0;
    }
}

Status prepare_soft_cross_entropy_grad(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_soft_cross_entropy_grad);
}

static void run_mean_squared_error(const Step *step, int share)
{
    (void)share;
    const View *a = &step->inputs[0], *b = &step->inputs[1];
    int64_t rows = view_rows(a), columns = view_columns(a);
    double sum = 0;
    for (int64_t n = 0; n < rows; n++)
        sum += step->simd->squared_difference(view_f32(a) + n * a->stride, view_f32(b) + n * b->stride, 0, columns);
    *view_f32(&step->outputs[0]) = (float)(sum / (double)view_count(a));
}

Status prepare_mean_squared_error(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_mean_squared_error);
}

static void run_mean_squared_error_grad(const Step *step, int share)
{
    (void)share;
    const View *a = &step->inputs[1], *b = &step->inputs[2], *da = &step->outputs[0];
    float scale = *view_f32(&step->inputs[0]) * 2 / (float)view_count(a);
    for (int64_t n = 0; n < view_rows(a); n++)
        step->simd->difference(view_f32(a) + n * a->stride, view_f32(b) + n * b->stride, scale,
                               view_f32(da) + n * da->stride, 0, view_columns(a));
}

Status prepare_mean_squared_error_grad(Step *step, Error *error)
{
    (void)error;
    return one_share(step, run_mean_squared_error_grad);
}
