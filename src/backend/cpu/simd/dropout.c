/* Dropout masks from Philox4x32-10 (Salmon et al., SC 2011), L counters at a time; base/rng.h says which counter a
 * mask's element has. */
#include "backend/cpu/simd/kernels.h"

#include <math.h>

typedef struct Stream {
    uint64_t seed, step;
    uint32_t layer;
} Stream;

/* The four words of L counters: word w of counter j is words[w][j]. */
static void philox_lanes(Stream s, const uint64_t counter[L], uint32_t words[4][L])
{
    uint32_t key0 = (uint32_t)s.seed, key1 = (uint32_t)(s.seed >> 32);
    for (int j = 0; j < L; j++) {
        words[0][j] = (uint32_t)counter[j];
        words[1][j] = (uint32_t)(counter[j] >> 32);
        words[2][j] = (uint32_t)s.step;
        words[3][j] = (uint32_t)(s.step >> 32) ^ s.layer << 16;
    }
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
        for (int j = 0; j < L; j++) {
            const uint64_t a = (uint64_t)words[0][j] * 0xD2511F53u, b = (uint64_t)words[2][j] * 0xCD9E8D57u;
            words[0][j] = (uint32_t)(b >> 32) ^ words[1][j] ^ key0;
            words[2][j] = (uint32_t)(a >> 32) ^ words[3][j] ^ key1;
            words[1][j] = (uint32_t)b;
            words[3][j] = (uint32_t)a;
        }
    }
}

/* Words below this are dropped. p < 1 as a float is at most 1 - 2^-24, so it fits. */
static uint32_t threshold(float p)
{
    return (uint32_t)ceil((double)p * 4294967296.0);
}

void LEVEL(dropout_mask)(uint64_t seed, uint64_t step, uint32_t layer, float p, float *mask, int64_t begin, int64_t end)
{
    const uint32_t limit = threshold(p);
    const float keep = 1 / (1 - p);
    for (int64_t first = begin / 4 * 4; first < end; first += 4 * L) {
        uint64_t counter[L];
        uint32_t words[4][L];
        float factors[4 * L];
        for (int j = 0; j < L; j++) {
            counter[j] = (uint64_t)first / 4 + (uint64_t)j;
        }
        philox_lanes((Stream){seed, step, layer}, counter, words);
        for (int j = 0; j < L; j++) {
            for (int w = 0; w < 4; w++) {
                factors[4 * j + w] = words[w][j] >= limit ? keep : 0;
            }
        }
        const int64_t from = int_max(begin, first), to = int_min(end, first + 4 * L);
        memcpy(mask + from, factors + (from - first), (size_t)(to - from) * sizeof *mask);
    }
}

void LEVEL(dropout_mask_lanes)(uint64_t seed, uint64_t step, uint32_t layer, float p, int64_t batch, int64_t channels,
                               float *mask, int64_t begin, int64_t end)
{
    const uint32_t limit = threshold(p);
    const float keep = 1 / (1 - p);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t block = unit / channels, channel = unit % channels;
        uint64_t element[L], counter[L];
        uint32_t words[4][L];
        for (int j = 0; j < L; j++) {
            element[j] = (uint64_t)((block * L + j) * channels + channel);
            counter[j] = element[j] / 4;
        }
        philox_lanes((Stream){seed, step, layer}, counter, words);
        for (int j = 0; j < L; j++) {
            mask[unit * L + j] = block * L + j < batch && words[element[j] % 4][j] >= limit ? keep : 0;
        }
    }
}
