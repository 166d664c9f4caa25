/* A linear layer for one to four rows: each weight is used once a row, so reading the weights is all the work.
 *
 * One row of x: the weights pass as one stream, which is what the hardware prefetcher likes best. More: each load of x
 * serves GROUP_MAX outputs, and the next outputs' weights are asked for ahead (measured, 2 MB of weights in the
 * third-level cache, one core: 98 GB/s for one row, of 105 that a plain sum reads; 92 instead of 80 for two). The sums
 * of L outputs are added across lanes by one transposition. */
#include "backend/cpu/simd/kernels.h"

enum { GROUP_MAX = 4, UNROLL_MAX = 4, BATCH_MAX = 4 };

/* sums[b][at + o] = dot(weight[o], x[b]), lane by lane, for `group` outputs; of those only `outputs` are real: the rest
 * repeat the last. */
INLINE void dot_products(const float *weight, int64_t outputs, int64_t inputs, const float *x, int64_t x_stride,
                         const int batch, const int group, const int unroll, Vec sums[BATCH_MAX][L], int64_t at)
{
    const float *row[GROUP_MAX];
    Vec acc[BATCH_MAX][GROUP_MAX][UNROLL_MAX] = {0};
    UNROLL for (int o = 0; o < group; o++)
    {
        row[o] = weight + int_min(o, outputs - 1) * inputs;
    }
    int64_t i = 0;
    for (; i + unroll * L <= inputs; i += unroll * L) {
        UNROLL for (int u = 0; u < unroll; u++)
        {
            UNROLL for (int o = 0; o < group; o++)
            {
                const float *place = row[o] + i + u * L;
                if (group > 1) __builtin_prefetch(place + group * inputs);
                Vec w = vec_load_unaligned(place);
                UNROLL for (int b = 0; b < batch; b++)
                {
                    acc[b][o][u] += w * vec_load_unaligned(x + b * x_stride + i + u * L);
                }
            }
        }
    }
    UNROLL for (int b = 0; b < batch; b++)
    {
        UNROLL for (int o = 0; o < group; o++)
        {
            Vec sum = acc[b][o][0];
            UNROLL for (int u = 1; u < unroll; u++)
            {
                sum += acc[b][o][u];
            }
            int64_t rest = i;
            for (; rest + L <= inputs; rest += L) {
                sum += vec_load_unaligned(row[o] + rest) * vec_load_unaligned(x + b * x_stride + rest);
            }
            for (; rest < inputs; rest++) {
                sum[0] += row[o][rest] * x[b * x_stride + rest];
            }
            sums[b][at + o] = sum;
        }
    }
}

INLINE void all_outputs(const float *weight, const float *bias, const float *x, int64_t x_stride, const int batch,
                        int64_t inputs, bool relu, float *y, int64_t y_stride, int64_t begin, int64_t end)
{
    const int group = batch == 1 ? 1 : batch == 4 && REGISTERS == 16 ? 2 : GROUP_MAX; /* the accumulators fit */
    const int unroll = batch == 1 ? UNROLL_MAX : batch == 2 && REGISTERS == 32 ? 2 : 1;
    for (int64_t first = begin; first < end; first += L) {
        const int64_t count = int_min(L, end - first);
        Vec sums[BATCH_MAX][L];
        if (count < L) memset(sums, 0, sizeof sums);
        for (int64_t o = 0; o < count; o += group) {
            dot_products(weight + (first + o) * inputs, count - o, inputs, x, x_stride, batch, group, unroll, sums, o);
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
