/* Plain rows to lanes and back, L x L elements at a time, transposed in registers. */
#include "backend/cpu/simd/kernels.h"

/* What a unit stands for. */
typedef struct Part {
    int64_t block, rows; /* rows of the batch in this block, at most L */
    int64_t feature, feature_end;
} Part;

static Part part(int64_t unit, int64_t batch, int64_t features)
{
    const int64_t chunks = (features + SIMD_FEATURE_CHUNK - 1) / SIMD_FEATURE_CHUNK;
    const int64_t block = unit / chunks, feature = unit % chunks * SIMD_FEATURE_CHUNK;
    return (Part){block, int_min(L, batch - block * L), feature, int_min(features, feature + SIMD_FEATURE_CHUNK)};
}

void LEVEL(lanes_from_plain)(const float *src, int64_t src_stride, int64_t batch, int64_t features, float scale,
                             float shift, float *dst, int64_t begin, int64_t end)
{
    for (int64_t unit = begin; unit < end; unit++) {
        const Part p = part(unit, batch, features);
        const float *in = src + p.block * L * src_stride;
        float *out = dst + p.block * features * L;
        int64_t f = p.feature;
        for (; p.rows == L && f + L <= p.feature_end; f += L) {
            Vec v[L];
            UNROLL for (int l = 0; l < L; l++)
            {
                v[l] = vec_load_unaligned(in + l * src_stride + f) * scale + shift;
            }
            vec_transpose(v);
            UNROLL for (int l = 0; l < L; l++)
            {
                vec_store(out + (f + l) * L, v[l]);
            }
        }
        for (; f < p.feature_end; f++) {
            for (int64_t l = 0; l < L; l++) {
                out[f * L + l] = l < p.rows ? in[l * src_stride + f] * scale + shift : 0;
            }
        }
    }
}

void LEVEL(lanes_to_plain)(const float *src, int64_t batch, int64_t features, float *dst, int64_t dst_stride,
                           int64_t begin, int64_t end)
{
    for (int64_t unit = begin; unit < end; unit++) {
        const Part p = part(unit, batch, features);
        const float *in = src + p.block * features * L;
        float *out = dst + p.block * L * dst_stride;
        int64_t f = p.feature;
        for (; p.rows == L && f + L <= p.feature_end; f += L) {
            Vec v[L];
            UNROLL for (int l = 0; l < L; l++)
            {
                v[l] = vec_load(in + (f + l) * L);
            }
            vec_transpose(v);
            UNROLL for (int l = 0; l < L; l++)
            {
                vec_store_unaligned(out + l * dst_stride + f, v[l]);
            }
        }
        for (; f < p.feature_end; f++) {
            for (int64_t l = 0; l < p.rows; l++) {
                out[l * dst_stride + f] = in[f * L + l];
            }
        }
    }
}
