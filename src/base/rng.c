#include "base/rng.h"

#include <math.h>

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += 0x9E3779B9u; /* the golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

Rng rng_make(uint64_t seed, uint64_t stream)
{
    return (Rng){.seed = seed, .stream = stream, .position = 0};
}

/* The next `count` words of the stream; one philox block serves four of them. */
static void draw(Rng *rng, uint32_t *words, int count)
{
    const uint32_t key[2] = {(uint32_t)rng->seed, (uint32_t)(rng->seed >> 32)};
    uint32_t block[4];
    for (int i = 0; i < count; i++, rng->position++) {
        if (i == 0 || rng->position % 4 == 0) {
            uint64_t place = rng->position / 4;
            const uint32_t counter[4] = {(uint32_t)place, (uint32_t)(place >> 32), (uint32_t)rng->stream,
                                         (uint32_t)(rng->stream >> 32)};
            philox(counter, key, block);
        }
        words[i] = block[rng->position % 4];
    }
}

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

static double to_uniform(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

uint32_t rng_u32(Rng *rng)
{
    uint32_t word;
    draw(rng, &word, 1);
    return word;
}

uint64_t rng_u64(Rng *rng)
{
    uint32_t words[2];
    draw(rng, words, 2);
    return join(words[0], words[1]);
}

double rng_uniform(Rng *rng)
{
    return to_uniform(rng_u64(rng));
}

double rng_normal(Rng *rng)
{
    uint32_t words[4];
    draw(rng, words, 4);
    double radius = 1.0 - to_uniform(join(words[0], words[1])); /* (0, 1]: its logarithm is finite */
    double angle = to_uniform(join(words[2], words[3]));
    return sqrt(-2.0 * log(radius)) * cos(2.0 * M_PI * angle);
}

uint64_t rng_below(Rng *rng, uint64_t bound)
{
    /* 2^64 modulo bound: refusing that many of the smallest values leaves a multiple of bound. */
    uint64_t refused = (0 - bound) % bound;
    uint64_t value;
    do
        value = rng_u64(rng);
    while (value < refused);
    return value % bound;
}

void rng_shuffle(Rng *rng, uint32_t *items, uint32_t count)
{
    for (uint32_t left = count; left > 1; left--) {
        uint32_t chosen = (uint32_t)rng_below(rng, left);
        uint32_t last = items[left - 1];
        items[left - 1] = items[chosen];
        items[chosen] = last;
    }
}

uint32_t rng_mask_word(uint64_t seed, uint64_t step, uint32_t layer, uint64_t index)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint64_t place = index / 4;
    const uint32_t counter[4] = {(uint32_t)place, (uint32_t)(place >> 32), (uint32_t)step,
                                 (uint32_t)(step >> 32) ^ layer << 16};
    uint32_t block[4];
    philox(counter, key, block);
    return block[index % 4];
}
