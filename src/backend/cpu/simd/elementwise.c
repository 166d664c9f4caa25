/* Loops over elements that the compiler turns into vectors by itself. */
#include "backend/cpu/simd/kernels.h"

enum { PARTIAL_SUMS = 16 }; /* the same order of additions at every level */

void LEVEL(relu)(const float *x, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        y[i] = x[i] < 0 ? 0 : x[i];
    }
}

void LEVEL(relu_grad)(const float *y, const float *dy, float *dx, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        const float g = dy[i];
        dx[i] = y[i] > 0 ? g : 0;
    }
}

void LEVEL(add)(const float *a, const float *b, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        y[i] = a[i] + b[i];
    }
}

void LEVEL(mul)(const float *a, const float *b, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        y[i] = a[i] * b[i];
    }
}

void LEVEL(affine)(const float *x, float scale, float shift, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        y[i] = x[i] * scale + shift;
    }
}

void LEVEL(axpy)(float a, const float *x, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        y[i] += a * x[i];
    }
}

void LEVEL(difference)(const float *a, const float *b, float scale, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        y[i] = (a[i] - b[i]) * scale;
    }
}

/* The three arrays are distinct buffers, so `restrict` spares the compiler its checks. */
INLINE void sgd(const SimdSgd *s, const float *restrict gradient, float *restrict velocity, float *restrict weight,
                int64_t begin, int64_t end, const bool nesterov)
{
    const SimdSgd c = *s;
    for (int64_t i = begin; i < end; i++) {
        const float g = gradient[i] + c.weight_decay * weight[i];
        const float v = c.momentum * velocity[i] + g;
        velocity[i] = v;
        weight[i] -= c.learning_rate * (nesterov ? g + c.momentum * v : v);
    }
}

void LEVEL(sgd_momentum)(const SimdSgd *s, const float *gradient, float *velocity, float *weight, int64_t begin,
                         int64_t end)
{
    if (s->nesterov) {
        sgd(s, gradient, velocity, weight, begin, end, true);
    } else {
        sgd(s, gradient, velocity, weight, begin, end, false);
    }
}

static double total(double sums[PARTIAL_SUMS])
{
    for (int step = PARTIAL_SUMS / 2; step > 0; step /= 2) {
        for (int j = 0; j < step; j++) {
            sums[j] += sums[j + step];
        }
    }
    return sums[0];
}

double LEVEL(sum_of_squares)(const float *x, int64_t begin, int64_t end)
{
    double sums[PARTIAL_SUMS] = {0};
    int64_t i = begin;
    for (; i + PARTIAL_SUMS <= end; i += PARTIAL_SUMS) {
        for (int j = 0; j < PARTIAL_SUMS; j++) {
            const double v = (double)x[i + j];
            sums[j] += v * v;
        }
    }
    for (; i < end; i++) {
        sums[0] += (double)x[i] * (double)x[i];
    }
    return total(sums);
}

double LEVEL(squared_difference)(const float *a, const float *b, int64_t begin, int64_t end)
{
    double sums[PARTIAL_SUMS] = {0};
    int64_t i = begin;
    for (; i + PARTIAL_SUMS <= end; i += PARTIAL_SUMS) {
        for (int j = 0; j < PARTIAL_SUMS; j++) {
            const double d = (double)a[i + j] - (double)b[i + j];
            sums[j] += d * d;
        }
    }
    for (; i < end; i++) {
        const double d = (double)a[i] - (double)b[i];
        sums[0] += d * d;
    }
    return total(sums);
}
