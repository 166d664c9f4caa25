/* Softmax over rows of classes.
 *
 * Classes are few (10), so the exponentials, which are the work, run over all rows of the range as one array. */
#include "backend/cpu/simd/kernels.h"

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
