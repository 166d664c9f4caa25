/* A linear layer for one to four rows: each weight is used once a row, so reading the weights is all the work.
 *
 * GROUP rows of the weights pass at once; the sums of L outputs are then added across lanes by one transposition. */
#include "backend/cpu/simd/kernels.h"

enum { GROUP = 4, BATCH_MAX = 4 };

/* sums[b][o] = dot(weight[o], x[b]) as vectors, for GROUP outputs (`outputs` of them real: the rest repeat the last).
 */
INLINE void group(const float *weight, int64_t outputs, int64_t inputs, const float *x, int64_t x_stride,
                  const int batch, const int unroll, Vec sums[BATCH_MAX][L], int64_t at)
{
    const float *row[GROUP];
    Vec acc[BATCH_MAX][GROUP][2];
    UNROLL for (int o = 0; o < GROUP; o++)
    {
        row[o] = weight + int_min(o, outputs - 1) * inputs;
        UNROLL for (int b = 0; b < batch; b++)
        {
            acc[b][o][0] = acc[b][o][1] = (Vec){0};
        }
    }
    int64_t i = 0;
    for (; i + unroll * L <= inputs; i += unroll * L) {
        UNROLL for (int u = 0; u < unroll; u++)
        {
            Vec in[BATCH_MAX];
            UNROLL for (int b = 0; b < batch; b++)
            {
                in[b] = vec_load_unaligned(x + b * x_stride + i + u * L);
            }
            UNROLL for (int o = 0; o < GROUP; o++)
            {
                Vec w = vec_load_unaligned(row[o] + i + u * L);
                UNROLL for (int b = 0; b < batch; b++)
                {
                    acc[b][o][u] += w * in[b];
                }
            }
        }
    }
    UNROLL for (int b = 0; b < batch; b++)
    {
        UNROLL for (int o = 0; o < GROUP; o++)
        {
            Vec sum = acc[b][o][0] + acc[b][o][1];
            for (int64_t tail = i; tail < inputs; tail++) {
                sum[0] += row[o][tail] * x[b * x_stride + tail];
            }
            sums[b][at + o] = sum;
        }
    }
}

INLINE void all_outputs(const float *weight, const float *bias, const float *x, int64_t x_stride, const int batch,
                        int64_t inputs, bool relu, float *y, int64_t y_stride, int64_t begin, int64_t end)
{
    for (int64_t first = begin; first < end; first += L) {
        const int64_t count = int_min(L, end - first);
        Vec sums[BATCH_MAX][L];
        memset(sums, 0, sizeof sums);
        for (int64_t o = 0; o < count; o += GROUP) {
            group(weight + (first + o) * inputs, count - o, inputs, x, x_stride, batch, batch <= 2 ? 2 : 1, sums, o);
        }
        for (int b = 0; b < batch; b++) {
            float out[L] __attribute__((aligned(4 * L)));
            vec_store(out, vec_sum_each(sums[b]));
            for (int64_t o = 0; o < count; o++) {
                const float sum = out[o] + (bias != NULL ? bias[first + o] : 0);
                y[b * y_stride + first + o] = relu ? float_relu(sum) : sum;
            }
        }
    }
}

void LEVEL(linear_rows)(const float *weight, const float *bias, const float *x, int64_t x_stride, int64_t batch,
                        int64_t inputs, bool relu, float *y, int64_t y_stride, int64_t begin, int64_t end)
{
    switch (batch) {
    case 1:
        all_outputs(weight, bias, x, x_stride, 1, inputs, relu, y, y_stride, begin, end);
        break;
    case 2:
        all_outputs(weight, bias, x, x_stride, 2, inputs, relu, y, y_stride, begin, end);
        break;
    case 3:
        all_outputs(weight, bias, x, x_stride, 3, inputs, relu, y, y_stride, begin, end);
        break;
    default:
        all_outputs(weight, bias, x, x_stride, 4, inputs, relu, y, y_stride, begin, end);
    }
}
