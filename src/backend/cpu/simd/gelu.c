/* gelu and its gradient, by erf and by tanh (graph/operation_kind.h has P).
 *
 * By erf: P(-|x|) = e^(-x^2/2) t Q(t) with t = 1 / (1 + |x|/4), the form of Abramowitz and Stegun, 7.1.26; Q was fitted
 * to 1.4e-7 of the value for |x| up to 20, beyond which P is 0 in float. By tanh: P(x) = 1 / (1 + e^-v), and P' =
 * P (1 - P) v'. Neither holds a difference of nearly equal numbers. */
#include "backend/cpu/simd/kernels.h"

#define TWO_ROOT     1.595769122f /* 2 sqrt(2 / pi) */
#define CUBE         0.044715f
#define DENSITY      0.398942280f /* 1 / sqrt(2 pi) */
#define FAR          20.0f        /* from here on P is 0 or 1, and P' is 0 */
#define FAR_OF_SLOPE 10.0f        /* with tanh: as far as e^-v is finite */

/* NaN stays. */
INLINE Vec at_least(Vec x, float low)
{
    return vec_select(mask_greater(vec_splat(low), x), vec_splat(low), x);
}

INLINE Vec at_most(Vec x, float high)
{
    return vec_select(mask_greater(x, vec_splat(high)), vec_splat(high), x);
}

INLINE Vec bell(Vec x)
{
    return vec_exp(-0.5f * (x * x));
}

/* P by erf, given bell(x) */
INLINE Vec share_by_erf(Vec x, Vec bell)
{
    const Mask negative = mask_greater((Vec){0}, x);
    const Vec t = 1.0f / (1.0f + 0.25f * vec_select(negative, -x, x));
    Vec q = vec_splat(2.0811913e-2f);
    q = q * t - 1.2899676e-1f;
    q = q * t + 2.4709227e-1f;
    q = q * t - 1.4993928e-1f;
    q = q * t + 1.6338338e-1f;
    q = q * t + 4.9173716e-2f;
    q = q * t + 9.9619918e-2f;
    q = q * t + 9.9090673e-2f;
    q = q * t + 9.9764086e-2f;
    const Vec tail = bell * (t * q);
    return vec_select(negative, tail, 1.0f - tail);
}

/* e^-v */
INLINE Vec decay(Vec x)
{
    return vec_exp(-TWO_ROOT * (x + CUBE * (x * x) * x));
}

/* --- the four formulas, of a factor and x --- */

typedef Vec Formula(Vec factor, Vec x);

INLINE Vec gelu_by_erf(Vec factor, Vec x)
{
    (void)factor;
    x = at_least(x, -FAR); /* infinity times 0 isn't its limit */
    return x * share_by_erf(x, bell(x));
}

INLINE Vec gelu_by_tanh(Vec factor, Vec x)
{
    (void)factor;
    x = at_least(x, -FAR);
    return x / (1.0f + decay(x));
}

INLINE Vec slope_by_erf(Vec factor, Vec x)
{
    x = at_most(at_least(x, -FAR), FAR);
    const Vec b = bell(x);
    return factor * (share_by_erf(x, b) + x * (DENSITY * b));
}

INLINE Vec slope_by_tanh(Vec factor, Vec x)
{
    x = at_most(at_least(x, -FAR_OF_SLOPE), FAR_OF_SLOPE);
    const Vec rest = decay(x), share = 1.0f / (1.0f + rest);
    return factor * (share + x * (share * (rest * share)) * (TWO_ROOT * (1.0f + 3 * CUBE * (x * x))));
}

INLINE void over(const float *factor, const float *x, float *y, int64_t begin, int64_t end, Formula *formula)
{
    int64_t i = begin;
    for (; i + L <= end; i += L) {
        vec_store_unaligned(y + i, formula(vec_load_unaligned(factor + i), vec_load_unaligned(x + i)));
    }
    if (i < end) {
        const size_t rest = (size_t)(end - i) * sizeof *x;
        float last[2][L] __attribute__((aligned(4 * L))) = {{0}};
        memcpy(last[0], factor + i, rest);
        memcpy(last[1], x + i, rest);
        vec_store(last[0], formula(vec_load(last[0]), vec_load(last[1])));
        memcpy(y + i, last[0], rest);
    }
}

void LEVEL(gelu)(const float *x, bool by_tanh, float *y, int64_t begin, int64_t end)
{
    if (by_tanh) {
        over(x, x, y, begin, end, gelu_by_tanh);
    } else {
        over(x, x, y, begin, end, gelu_by_erf);
    }
}

void LEVEL(gelu_grad)(const float *dy, const float *x, bool by_tanh, float *dx, int64_t begin, int64_t end)
{
    if (by_tanh) {
        over(dy, x, dx, begin, end, slope_by_tanh);
    } else {
        over(dy, x, dx, begin, end, slope_by_erf);
    }
}
