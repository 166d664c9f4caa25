/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * The i-th number of a stream is a pure function of (seed, stream, i): no state but a position, so a checkpoint holds
 * three integers, threads need no lock, and every backend draws the same numbers. Each use of randomness has a stream
 * of its own (RNG_STREAM_...), so that switching one use off does not move the others. */
#pragma once

#include <stdint.h>

enum {
    RNG_STREAM_WEIGHTS = 1,
    RNG_STREAM_SHUFFLE = 2,
    RNG_STREAM_DROPOUT = 3,
    RNG_STREAM_UNLABELLED = 4,
    RNG_STREAM_BENCH = 5,
    RNG_STREAM_JITTER = 6,
    RNG_STREAM_TEST = 1000,
};

/* One block: 128-bit counter and 64-bit key to four 32-bit words. */
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

typedef struct Rng {
    uint64_t seed, stream, position; /* position counts 32-bit words drawn */
} Rng;

Rng rng_make(uint64_t seed, uint64_t stream);
uint32_t rng_u32(Rng *rng);
uint64_t rng_u64(Rng *rng);
double rng_uniform(Rng *rng);                                /* [0, 1), 53 bits */
double rng_normal(Rng *rng);                                 /* mean 0, variance 1 (Box-Muller, two draws each) */
uint64_t rng_below(Rng *rng, uint64_t bound);                /* 0 .. bound-1 without bias; bound >= 1 */
void rng_shuffle(Rng *rng, uint32_t *items, uint32_t count); /* Fisher-Yates */

/* The word that philox gives for dropout: element `index` of the mask drawn at `step` with `seed` for layer stream
 * `layer`. Backends repeat this: counter = {index / 4 low, index / 4 high, step low, (step high ^ layer << 16) }, key =
 * seed; word index % 4. */
uint32_t rng_mask_word(uint64_t seed, uint64_t step, uint32_t layer, uint64_t index);
