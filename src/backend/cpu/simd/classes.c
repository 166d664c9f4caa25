/* Softmax over rows of classes.
 *
 * Classes are few (10), so the exponentials, which are the work, run over all rows of the range as one array. exp is
 * Cephes' expf (S. Moshier): e^x = 2^n e^r, |r| <= ln(2)/2, ln(2) in two parts, and a polynomial of degree 7. */
#include "backend/cpu/simd/kernels.h"

INLINE Vec vec_exp(Vec x)
{
    const Vec low = vec_splat(-104.0f), high = vec_splat(89.0f); /* beyond: 0 and infinity */
    Vec clamped = vec_select(mask_greater(low, x), low, x);
    clamped = vec_select(mask_greater(clamped, high), high, clamped);
    const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it leaves no fraction bits */
    const Vec n = (clamped * 1.44269504088896341f + to_integer) - to_integer;
    const Vec r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    Vec p = vec_splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    /* 2^n in two factors, since n reaches from -150 to 128. A NaN's n is any integer, and p is NaN. */
    const VecInt exponent = __builtin_convertvector(vec_select(mask_nan(n), (Vec){0}, n), VecInt);
    const VecInt half = exponent >> 1;
    return p * (Vec)((half + 127) << 23) * (Vec)((exponent - half + 127) << 23);
}

static void exponentials(float *x, int64_t count)
{
    int64_t i = 0;
    for (; i + L <= count; i += L) {
        vec_store_unaligned(x + i, vec_exp(vec_load_unaligned(x + i)));
    }
    if (i < count) {
        float rest[L] __attribute__((aligned(4 * L))) = {0};
        memcpy(rest, x + i, (size_t)(count - i) * sizeof *x);
        vec_store(rest, vec_exp(vec_load(rest)));
        memcpy(x + i, rest, (size_t)(count - i) * sizeof *x);
    }
}

static float row_maximum(const float *x, int64_t classes)
{
    float best = x[0];
    int64_t i = 1;
    if (classes >= L) {
        Vec larger = vec_load_unaligned(x);
        for (i = L; i + L <= classes; i += L) {
            larger = vec_maximum(larger, vec_load_unaligned(x + i));
        }
        for (int j = 0; j < L; j++) {
            best = float_maximum(best, larger[j]);
        }
    }
    for (; i < classes; i++) {
        best = float_maximum(best, x[i]);
    }
    return best;
}

static float row_sum(const float *x, int64_t classes)
{
    Vec sums = {0};
    float sum = 0;
    int64_t i = 0;
    for (; i + L <= classes; i += L) {
        sums += vec_load_unaligned(x + i);
    }
    for (; i < classes; i++) {
        sum += x[i];
    }
    return classes < L ? sum : sum + vec_sum(sums);
}

/* y = exp(x - maximum of its row), for rows [begin, end). */
static void shifted_exponentials(const float *x, int64_t classes, float *y, int64_t begin, int64_t end)
{
    for (int64_t row = begin; row < end; row++) {
        const float *in = x + row * classes;
        float *out = y + row * classes;
        const float maximum = row_maximum(in, classes);
        for (int64_t i = 0; i < classes; i++) {
            out[i] = in[i] - maximum;
        }
    }
    exponentials(y + begin * classes, (end - begin) * classes);
}

static void normalise_row(float *y, int64_t classes)
{
    const float factor = 1 / row_sum(y, classes);
    for (int64_t i = 0; i < classes; i++) {
        y[i] *= factor;
    }
}

void LEVEL(softmax)(const float *x, int64_t classes, float *y, int64_t begin, int64_t end)
{
    shifted_exponentials(x, classes, y, begin, end);
    for (int64_t row = begin; row < end; row++) {
        normalise_row(y + row * classes, classes);
    }
}
