#include "base/rng.h"

#include <math.h>
#include <string.h>

#include "support/suite.h"

static void check_philox(const uint32_t counter[4], const uint32_t key[2], const uint32_t expected[4])
{
    uint32_t out[4];
    philox(counter, key, out);
    for (int i = 0; i < 4; i++)
        ck_assert_msg(out[i] == expected[i], "word %d is %08x, expected %08x", i, out[i], expected[i]);
}

/* Random123's kat_vectors, the lines "philox4x32 10". */
START_TEST(test_known_answer_of_zeros)
{
    check_philox((uint32_t[]){0, 0, 0, 0}, (uint32_t[]){0, 0},
                 (uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
}
END_TEST

START_TEST(test_known_answer_of_ones)
{
    const uint32_t ones = 0xffffffff;
    check_philox((uint32_t[]){ones, ones, ones, ones}, (uint32_t[]){ones, ones},
                 (uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}
END_TEST

START_TEST(test_known_answer_of_pi)
{
    check_philox((uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, (uint32_t[]){0xa4093822, 0x299f31d0},
                 (uint32_t[]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}
END_TEST

/* The layout that checkpoints and the other backends rely on. */
START_TEST(test_stream_is_philox_of_seed_stream_and_position)
{
    Rng zero = rng_make(0, 0);
    ck_assert_uint_eq(rng_u32(&zero), 0x6627e8d5);
    ck_assert_uint_eq(rng_u32(&zero), 0xe169c58d);

    Rng rng = rng_make(0x299f31d0a4093822, 0x0370734413198a2e);
    rng.position = UINT64_C(0x05a308d3243f6a88) * 4 + 1;
    uint32_t words[4];
    philox((uint32_t[]){0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344}, (uint32_t[]){0xa4093822, 0x299f31d0}, words);
    for (int i = 1; i < 4; i++)
        ck_assert_uint_eq(rng_u32(&rng), words[i]);
}
END_TEST

START_TEST(test_position_resumes_anywhere)
{
    Rng rng = rng_make(1, RNG_STREAM_TEST);
    for (int i = 0; i < 101; i++) {
        Rng again = {.seed = 1, .stream = RNG_STREAM_TEST, .position = rng.position};
        if (i % 3 == 0)
            ck_assert_uint_eq(rng_u64(&rng), rng_u64(&again));
        else
            ck_assert_uint_eq(rng_u32(&rng), rng_u32(&again));
    }
}
END_TEST

START_TEST(test_u64_is_two_words_low_first)
{
    Rng words = rng_make(9, 2), wide = rng_make(9, 2);
    words.position = wide.position = 3; /* across two blocks */
    uint32_t low = rng_u32(&words), high = rng_u32(&words);
    ck_assert_uint_eq(rng_u64(&wide), (uint64_t)high << 32 | low);
    ck_assert_uint_eq(wide.position, 5);
}
END_TEST

START_TEST(test_streams_and_seeds_differ)
{
    Rng a = rng_make(1, 1), b = rng_make(1, 2), c = rng_make(2, 1);
    uint64_t first = rng_u64(&a);
    ck_assert_uint_ne(first, rng_u64(&b));
    ck_assert_uint_ne(first, rng_u64(&c));
}
END_TEST

enum { DRAWS = 200000 };

/* Bounds of five standard errors: a right generator stays inside them, and the seed is fixed. */
START_TEST(test_uniform_has_its_moments)
{
    Rng rng = rng_make(3, RNG_STREAM_TEST);
    double sum = 0, squares = 0;
    for (int i = 0; i < DRAWS; i++) {
        double value = rng_uniform(&rng);
        ck_assert(value >= 0 && value < 1);
        sum += value;
        squares += value * value;
    }
    ck_assert_double_eq_tol(sum / DRAWS, 0.5, 5 * sqrt(1.0 / 12 / DRAWS));
    ck_assert_double_eq_tol(squares / DRAWS, 1.0 / 3, 5 * sqrt(4.0 / 45 / DRAWS));
}
END_TEST

START_TEST(test_normal_has_its_moments_and_tails)
{
    Rng rng = rng_make(4, RNG_STREAM_TEST);
    double sum = 0, squares = 0, beyond_two = 0;
    for (int i = 0; i < DRAWS; i++) {
        double value = rng_normal(&rng);
        sum += value;
        squares += value * value;
        beyond_two += fabs(value) > 2;
    }
    const double tail = 0.0455002638963584; /* erfc(sqrt 2) */
    ck_assert_double_eq_tol(sum / DRAWS, 0, 5 * sqrt(1.0 / DRAWS));
    ck_assert_double_eq_tol(squares / DRAWS, 1, 5 * sqrt(2.0 / DRAWS));
    ck_assert_double_eq_tol(beyond_two / DRAWS, tail, 5 * sqrt(tail * (1 - tail) / DRAWS));
    ck_assert_uint_eq(rng.position, 4u * DRAWS);
}
END_TEST

START_TEST(test_below_is_even)
{
    enum { BOUND = 7 };
    Rng rng = rng_make(5, RNG_STREAM_TEST);
    int counts[BOUND] = {0};
    for (int i = 0; i < DRAWS; i++) {
        uint64_t value = rng_below(&rng, BOUND);
        ck_assert_uint_lt(value, BOUND);
        counts[value]++;
    }
    double chi = 0, expected = (double)DRAWS / BOUND;
    for (int i = 0; i < BOUND; i++)
        chi += pow(counts[i] - expected, 2) / expected;
    ck_assert_double_lt(chi, 22.46); /* 6 degrees of freedom, p = 0.001 */
    ck_assert_uint_eq(rng_below(&rng, 1), 0);
}
END_TEST

/* With bound 3 * 2^62, a plain remainder would give the lowest third twice as often as the others. */
START_TEST(test_below_has_no_bias_at_huge_bounds)
{
    const uint64_t third = UINT64_C(1) << 62;
    Rng rng = rng_make(6, RNG_STREAM_TEST);
    int lowest = 0;
    for (int i = 0; i < DRAWS; i++)
        lowest += rng_below(&rng, 3 * third) < third;
    ck_assert_double_eq_tol((double)lowest / DRAWS, 1.0 / 3, 5 * sqrt(2.0 / 9 / DRAWS));
}
END_TEST

START_TEST(test_shuffle_is_a_fair_permutation)
{
    enum { COUNT = 5, ROUNDS = 50000 };
    Rng rng = rng_make(7, RNG_STREAM_TEST);
    int places[COUNT][COUNT] = {{0}};
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t items[COUNT] = {0, 1, 2, 3, 4}, seen = 0;
        rng_shuffle(&rng, items, COUNT);
        for (int i = 0; i < COUNT; i++) {
            seen |= 1u << items[i];
            places[items[i]][i]++;
        }
        ck_assert_uint_eq(seen, 31);
    }
    for (int item = 0; item < COUNT; item++)
        for (int i = 0; i < COUNT; i++)
            ck_assert_double_eq_tol((double)places[item][i] / ROUNDS, 0.2, 5 * sqrt(0.16 / ROUNDS));
}
END_TEST

START_TEST(test_shuffle_of_nothing_draws_nothing)
{
    Rng rng = rng_make(8, RNG_STREAM_TEST);
    uint32_t item = 9;
    rng_shuffle(&rng, &item, 0);
    rng_shuffle(&rng, &item, 1);
    ck_assert_uint_eq(item, 9);
    ck_assert_uint_eq(rng.position, 0);
}
END_TEST

START_TEST(test_mask_word_layout)
{
    const uint64_t seed = 0x0123456789abcdef, step = 0x0000000312345678, index = 0x0000000900000006;
    const uint64_t place = index / 4;
    uint32_t words[4];
    philox((uint32_t[]){(uint32_t)place, (uint32_t)(place >> 32), 0x12345678, 3u ^ 5u << 16},
           (uint32_t[]){0x89abcdef, 0x01234567}, words);
    ck_assert_uint_eq(rng_mask_word(seed, step, 5, index), words[2]);
}
END_TEST

SUITE_MAIN("rng", test_known_answer_of_zeros, test_known_answer_of_ones, test_known_answer_of_pi,
           test_stream_is_philox_of_seed_stream_and_position, test_position_resumes_anywhere,
           test_u64_is_two_words_low_first, test_streams_and_seeds_differ, test_uniform_has_its_moments,
           test_normal_has_its_moments_and_tails, test_below_is_even, test_below_has_no_bias_at_huge_bounds,
           test_shuffle_is_a_fair_permutation, test_shuffle_of_nothing_draws_nothing, test_mask_word_layout)
