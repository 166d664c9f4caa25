/* Dropout masks from Philox4x32-10 (Salmon et al., SC 2011), L counters at a time; base/rng.h says which counter a
 * mask's element has. The 32 x 32 bit products take intrinsics: GCC 12 makes scalar code of the plain loop, ten times
 * as slow. */
#include "backend/cpu/simd/kernels.h"

#include <math.h>

typedef uint32_t VecUint __attribute__((vector_size(4 * L), may_alias));
typedef uint64_t VecWide __attribute__((vector_size(4 * L), may_alias));

typedef struct Stream {
    uint64_t seed, step;
    uint32_t layer;
} Stream;

/* The products of a's even elements. */
INLINE VecWide multiply_even(VecUint a, uint32_t factor)
{
#if defined(__AVX512F__)
    return (VecWide)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi32((int)factor));
#elif defined(__AVX2__)
    return (VecWide)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi32((int)factor));
#elif defined(__SSE2__)
    return (VecWide)_mm_mul_epu32((__m128i)a, _mm_set1_epi32((int)factor));
#else
    return ((VecWide)a & 0xffffffffu) * factor;
#endif
}

INLINE void multiply(VecUint a, uint32_t factor, VecUint *high, VecUint *low)
{
    const uint64_t low_half = 0xffffffffu;
    const VecWide even = multiply_even(a, factor), odd = multiply_even((VecUint)((VecWide)a >> 32), factor);
    *high = (VecUint)(even >> 32 | (odd & ~low_half));
    *low = (VecUint)((even & low_half) | odd << 32);
}

/* The four words of L counters. */
INLINE void philox_lanes(Stream s, VecUint low, VecUint high, VecUint words[4])
{
    uint32_t key0 = (uint32_t)s.seed, key1 = (uint32_t)(s.seed >> 32);
    words[0] = low;
    words[1] = high;
    words[2] = (uint32_t)s.step - (VecUint){0};
    words[3] = ((uint32_t)(s.step >> 32) ^ s.layer << 16) - (VecUint){0};
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
        VecUint high0, low0, high2, low2;
        multiply(words[0], 0xD2511F53u, &high0, &low0);
        multiply(words[2], 0xCD9E8D57u, &high2, &low2);
        words[0] = high2 ^ words[1] ^ key0;
        words[2] = high0 ^ words[3] ^ key1;
        words[1] = low2;
        words[3] = low0;
    }
}

/* Words below this are dropped. For p within 2^-32 of 1 the limit is the last word. */
static uint32_t threshold(double p)
{
    return (uint32_t)fmin(ceil(p * 4294967296.0), UINT32_MAX);
}

INLINE Vec factors(VecUint words, uint32_t limit, Vec keep)
{
    return (Vec)((VecInt)(words >= limit) & (VecInt)keep);
}

void LEVEL(dropout_mask)(uint64_t seed, uint64_t step, uint32_t layer, double p, float *mask, int64_t begin,
                         int64_t end)
{
    const uint32_t limit = threshold(p);
    const Vec keep = vec_splat((float)(1 / (1 - p)));
    VecUint lane;
    for (int j = 0; j < L; j++) {
        lane[j] = (uint32_t)j;
    }
    for (int64_t first = begin / 4 * 4; first < end; first += 4 * L) {
        const uint64_t counter = (uint64_t)first / 4;
        const VecUint low = (uint32_t)counter + lane;
        const VecUint carry = (VecUint)(low < (uint32_t)counter); /* all ones is -1 */
        VecUint words[4];
        philox_lanes((Stream){seed, step, layer}, low, (uint32_t)(counter >> 32) - carry, words);
        Vec part[4], pairs[4];
        for (int w = 0; w < 4; w++) {
            part[w] = factors(words[w], limit, keep);
        }
        vec_zip(part[0], part[2], &pairs[0], &pairs[1]);
        vec_zip(part[1], part[3], &pairs[2], &pairs[3]);
        vec_zip(pairs[0], pairs[2], &part[0], &part[1]);
        vec_zip(pairs[1], pairs[3], &part[2], &part[3]);
        const int64_t from = int_max(begin, first), to = int_min(end, first + 4 * L);
        memcpy(mask + (from - begin), (const float *)part + (from - first), (size_t)(to - from) * sizeof *mask);
    }
}

void LEVEL(dropout_mask_lanes)(uint64_t seed, uint64_t step, uint32_t layer, double p, int64_t batch, int64_t channels,
                               float *mask, int64_t begin, int64_t end)
{
    const uint32_t limit = threshold(p);
    const Vec keep = vec_splat((float)(1 / (1 - p)));
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t block = unit / channels, channel = unit % channels;
        VecUint low, high, place, real, words[4];
        for (int j = 0; j < L; j++) {
            const uint64_t element = (uint64_t)((block * L + j) * channels + channel);
            low[j] = (uint32_t)(element / 4);
            high[j] = (uint32_t)(element / 4 >> 32);
            place[j] = (uint32_t)(element % 4);
            real[j] = block * L + j < batch ? UINT32_MAX : 0;
        }
        philox_lanes((Stream){seed, step, layer}, low, high, words);
        VecUint word = {0};
        for (uint32_t w = 0; w < 4; w++) {
            word |= words[w] & (VecUint)(place == w);
        }
        vec_store(mask + unit * L, (Vec)((VecInt)factors(word, limit, keep) & (VecInt)real));
    }
}
