/* 2x2 max pooling of stride 2 in lanes layout, and its way back. */
#include "backend/cpu/simd/kernels.h"

void LEVEL(max_pool2_lanes)(const float *x, int64_t in_height, int64_t in_width, float *y, uint8_t *index,
                            int64_t begin, int64_t end)
{
    const int64_t height = in_height / 2, width = in_width / 2, in_row = in_width * L;
    for (int64_t at = begin * height * width; at < end * height * width; at++) {
        const int64_t plane = at / (height * width), row = at / width % height, column = at % width;
        const float *in = x + ((plane * in_height + 2 * row) * in_width + 2 * column) * L;
        const Vec window[4] = {vec_load(in), vec_load(in + L), vec_load(in + in_row), vec_load(in + in_row + L)};
        VecInt place;
        vec_store(y + at * L, vec_window_maximum(window, &place));
        if (index != NULL) vec_index_store(index + at * L, place);
    }
}

static void unpool_plane(const float *dy, const uint8_t *index, int64_t in_height, int64_t in_width, float *dx)
{
    const int64_t height = in_height / 2, width = in_width / 2, in_row = in_width * L;
    for (int64_t row = 0; row < height; row++) {
        float *out = dx + 2 * row * in_row;
        for (int64_t column = 0; column < width; column++, out += 2 * L) {
            const int64_t at = (row * width + column) * L;
            const Vec g = vec_load(dy + at);
            const VecInt place = vec_index_load(index + at);
            vec_store(out, vec_select(mask_equal(place, (VecInt){0}), g, (Vec){0}));
            vec_store(out + L, vec_select(mask_equal(place, 1 - (VecInt){0}), g, (Vec){0}));
            vec_store(out + in_row, vec_select(mask_equal(place, 2 - (VecInt){0}), g, (Vec){0}));
            vec_store(out + in_row + L, vec_select(mask_equal(place, 3 - (VecInt){0}), g, (Vec){0}));
        }
        if (in_width % 2 != 0) {
            vec_store(out, (Vec){0});
            vec_store(out + in_row, (Vec){0});
        }
    }
    if (in_height % 2 != 0) { /* the last odd row, which no window holds */
        memset(dx + (in_height - 1) * in_row, 0, (size_t)in_row * sizeof *dx);
    }
}

void LEVEL(max_pool2_lanes_backward)(const float *dy, const uint8_t *index, int64_t in_height, int64_t in_width,
                                     float *dx, int64_t begin, int64_t end)
{
    const int64_t pooled = (in_height / 2) * (in_width / 2) * L;
    for (int64_t plane = begin; plane < end; plane++) {
        unpool_plane(dy + plane * pooled, index + plane * pooled, in_height, in_width,
                     dx + plane * in_height * in_width * L);
    }
}
