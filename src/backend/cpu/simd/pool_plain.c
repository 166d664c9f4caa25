/* Max pooling of any window in plain layout: for batches too small for lanes, and windows that lanes don't have. */
#include "backend/cpu/simd/kernels.h"

#include <math.h>

/* The first maximum of the window at `in`; a NaN wins, the last NaN over the others, as in PyTorch. */
static int64_t window_maximum(const SimdPool *p, const float *in, float *best)
{
    int64_t place = 0;
    *best = in[0];
    for (int64_t ky = 0; ky < p->kernel_height; ky++) {
        for (int64_t kx = 0; kx < p->kernel_width; kx++) {
            const float value = in[ky * p->in_width + kx];
            if (value > *best || isnan(value)) {
                *best = value;
                place = ky * p->in_width + kx;
            }
        }
    }
    return place;
}

void LEVEL(max_pool2d)(const SimdPool *p, const float *x, float *y, int32_t *index, int64_t begin, int64_t end)
{
    const int64_t in_plane = p->in_height * p->in_width;
    int64_t at = begin * p->out_height * p->out_width;
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t oy = 0; oy < p->out_height; oy++) {
            for (int64_t ox = 0; ox < p->out_width; ox++, at++) {
                const int64_t corner = oy * p->stride_height * p->in_width + ox * p->stride_width;
                const int64_t place = window_maximum(p, x + plane * in_plane + corner, &y[at]);
                if (index != NULL) index[at] = (int32_t)(corner + place);
            }
        }
    }
}

void LEVEL(max_pool2d_backward)(const SimdPool *p, const float *dy, const int32_t *index, float *dx, int64_t begin,
                                int64_t end)
{
    const int64_t in_plane = p->in_height * p->in_width, out_plane = p->out_height * p->out_width;
    memset(dx + begin * in_plane, 0, (size_t)((end - begin) * in_plane) * sizeof *dx);
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t at = plane * out_plane; at < (plane + 1) * out_plane; at++) {
            dx[plane * in_plane + index[at]] += dy[at];
        }
    }
}
