/* Pooling. Lanes: simd kernels for 2x2 windows. Plain: loops, for any window. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "backend/cpu/cpu.h"

static int64_t planes_of(const SimdKernels *simd, const View *image)
{
    int64_t images = image->layout == LAYOUT_LANES ? simd_blocks(simd, view_rows(image)) : view_rows(image);
    return images * image->shape.dims[1];
}

static Status by_planes(Step *step, const View *image, void (*run)(const Step *, int))
{
    step->run = run;
    step->shares = shares_for(step, planes_of(step->simd, image), 1, 2);
    step->implementation = image->layout == LAYOUT_LANES ? "simd, lanes" : "loop";
    return STATUS_OK;
}

/* --- adaptive average: window i covers floor(i in / out) .. ceil((i + 1) in / out) --- */

static int64_t window_start(int64_t i, int64_t in, int64_t out)
{
    return i * in / out;
}

static int64_t window_stop(int64_t i, int64_t in, int64_t out)
{
    return ((i + 1) * in + out - 1) / out;
}

static float window_mean(const float *plane, int64_t width, int64_t top, int64_t bottom, int64_t left, int64_t right)
{
    float sum = 0;
    for (int64_t h = top; h < bottom; h++)
        for (int64_t w = left; w < right; w++)
            sum += plane[h * width + w];
    return sum / (float)((bottom - top) * (right - left));
}

static void run_adaptive_avg_pool2d(const Step *step, int share)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    int64_t ih = x->shape.dims[2], iw = x->shape.dims[3], oh = y->shape.dims[2], ow = y->shape.dims[3];
    Range planes = share_of(planes_of(step->simd, x), 1, share, step->shares);
    for (int64_t p = planes.begin; p < planes.end; p++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++)
                view_f32(y)[(p * oh + i) * ow + j] =
                    window_mean(view_f32(x) + p * ih * iw, iw, window_start(i, ih, oh), window_stop(i, ih, oh),
                                window_start(j, iw, ow), window_stop(j, iw, ow));
}

Status prepare_adaptive_avg_pool2d(Step *step, Error *error)
{
    (void)error;
    return by_planes(step, &step->inputs[0], run_adaptive_avg_pool2d);
}

static void run_adaptive_avg_pool2d_grad(const Step *step, int share)
{
    const View *dy = &step->inputs[0], *dx = &step->outputs[0];
    int64_t ih = dx->shape.dims[2], iw = dx->shape.dims[3], oh = dy->shape.dims[2], ow = dy->shape.dims[3];
    Range planes = share_of(planes_of(step->simd, dx), 1, share, step->shares);
    for (int64_t p = planes.begin; p < planes.end; p++) {
        float *plane = view_f32(dx) + p * ih * iw;
        memset(plane, 0, (size_t)(ih * iw) * sizeof(float));
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                int64_t top = window_start(i, ih, oh), bottom = window_stop(i, ih, oh);
                int64_t left = window_start(j, iw, ow), right = window_stop(j, iw, ow);
                float part = view_f32(dy)[(p * oh + i) * ow + j] / (float)((bottom - top) * (right - left));
                for (int64_t h = top; h < bottom; h++)
                    for (int64_t w = left; w < right; w++)
                        plane[h * iw + w] += part;
            }
    }
}

Status prepare_adaptive_avg_pool2d_grad(Step *step, Error *error)
{
    (void)error;
    return by_planes(step, &step->outputs[0], run_adaptive_avg_pool2d_grad);
}

/* --- maximum --- */

static void run_max_pool2d_lanes(const Step *step, int share)
{
    const View *x = &step->inputs[0];
    Range planes = share_of(planes_of(step->simd, x), 1, share, step->shares);
    step->simd->max_pool2_lanes(view_f32(x), x->shape.dims[2], x->shape.dims[3], view_f32(&step->outputs[0]),
                                step->outputs[1].data, planes.begin, planes.end);
}

/* The first maximum wins, and a NaN wins over numbers. */
static float window_maximum(const float *plane, int64_t width, const int32_t kernel[2], uint8_t *index)
{
    float most = plane[0];
    *index = 0;
    for (int32_t i = 0; i < kernel[0]; i++)
        for (int32_t j = 0; j < kernel[1]; j++) {
            float value = plane[i * width + j];
            if (value > most || isnan(value)) {
                most = value;
                *index = (uint8_t)(i * kernel[1] + j);
            }
        }
    return most;
}

static void run_max_pool2d(const Step *step, int share)
{
    const View *x = &step->inputs[0], *y = &step->outputs[0];
    const int32_t *kernel = step->attributes.pool2d.kernel, *stride = step->attributes.pool2d.stride;
    int64_t ih = x->shape.dims[2], iw = x->shape.dims[3], oh = y->shape.dims[2], ow = y->shape.dims[3];
    uint8_t *index = step->outputs[1].data, ignored;
    Range planes = share_of(planes_of(step->simd, x), 1, share, step->shares);
    for (int64_t p = planes.begin; p < planes.end; p++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                int64_t at = (p * oh + i) * ow + j;
                const float *window = view_f32(x) + (p * ih + i * stride[0]) * iw + j * stride[1];
                view_f32(y)[at] = window_maximum(window, iw, kernel, index != NULL ? &index[at] : &ignored);
            }
}

Status prepare_max_pool2d(Step *step, Error *error)
{
    (void)error;
    bool lanes = step->outputs[0].layout == LAYOUT_LANES;
    return by_planes(step, &step->inputs[0], lanes ? run_max_pool2d_lanes : run_max_pool2d);
}

static void run_max_pool2d_grad_lanes(const Step *step, int share)
{
    const View *dy = &step->inputs[0], *index = &step->inputs[1], *dx = &step->outputs[0];
    Range planes = share_of(planes_of(step->simd, dx), 1, share, step->shares);
    step->simd->max_pool2_lanes_backward(view_f32(dy), index->data, dx->shape.dims[2], dx->shape.dims[3], view_f32(dx),
                                         planes.begin, planes.end);
}

static void run_max_pool2d_grad(const Step *step, int share)
{
    const View *dy = &step->inputs[0], *dx = &step->outputs[0];
    const int32_t *kernel = step->attributes.pool2d.kernel, *stride = step->attributes.pool2d.stride;
    const uint8_t *index = step->inputs[1].data;
    int64_t ih = dx->shape.dims[2], iw = dx->shape.dims[3], oh = dy->shape.dims[2], ow = dy->shape.dims[3];
    Range planes = share_of(planes_of(step->simd, dx), 1, share, step->shares);
    for (int64_t p = planes.begin; p < planes.end; p++) {
        float *plane = view_f32(dx) + p * ih * iw;
        memset(plane, 0, (size_t)(ih * iw) * sizeof(float));
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                int64_t at = (p * oh + i) * ow + j;
                int64_t h = i * stride[0] + index[at] / kernel[1], w = j * stride[1] + index[at] % kernel[1];
                plane[h * iw + w] += view_f32(dy)[at];
            }
    }
}

Status prepare_max_pool2d_grad(Step *step, Error *error)
{
    (void)error;
    bool lanes = step->outputs[0].layout == LAYOUT_LANES;
    return by_planes(step, &step->outputs[0], lanes ? run_max_pool2d_grad_lanes : run_max_pool2d_grad);
}
