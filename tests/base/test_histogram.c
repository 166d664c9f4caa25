/* Against exact percentiles of the sorted samples. */
#include "base/histogram.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/suite.h"

enum { SAMPLES = 20000 };

static const double fractions[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
static Histogram histogram;

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The smallest sample that a share of at least `fraction` doesn't exceed. */
static uint64_t exact(const uint64_t *sorted, size_t count, double fraction)
{
    size_t wanted = (size_t)(fraction * (double)count);
    if ((double)wanted < fraction * (double)count) wanted++;
    return sorted[wanted ? wanted - 1 : 0];
}

/* Never too low, and at most a 32nd too high. */
static void expect_close(uint64_t estimate, uint64_t truth)
{
    ck_assert_uint_ge(estimate, truth);
    ck_assert_msg(estimate - truth <= truth / HISTOGRAM_PARTS, "%llu for %llu", (unsigned long long)estimate,
                  (unsigned long long)truth);
}

static void expect_percentiles(uint64_t *samples, size_t count)
{
    uint64_t sum = 0;
    memset(&histogram, 0, sizeof histogram);
    for (size_t i = 0; i < count; i++) {
        histogram_add(&histogram, samples[i]);
        sum += samples[i];
    }
    qsort(samples, count, sizeof *samples, compare);
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++)
        expect_close(histogram_percentile(&histogram, fractions[i]), exact(samples, count, fractions[i]));
    ck_assert_uint_eq(histogram.count, count);
    ck_assert_uint_eq(histogram.sum, sum);
    ck_assert_uint_eq(histogram.most, samples[count - 1]);
    ck_assert_double_eq(histogram_mean(&histogram), (double)sum / (double)count);
}

START_TEST(percentiles_of_every_magnitude_are_close)
{
    static uint64_t samples[SAMPLES];
    Rng rng = rng_make(1, RNG_STREAM_TEST);
    for (unsigned bits = 1; bits < 50; bits += 3) {
        for (size_t i = 0; i < SAMPLES; i++)
            samples[i] = rng_u64(&rng) >> (64 - bits);
        expect_percentiles(samples, SAMPLES);
    }
}
END_TEST

START_TEST(percentiles_of_a_long_tail_are_close)
{
    static uint64_t samples[SAMPLES];
    Rng rng = rng_make(2, RNG_STREAM_TEST);
    for (size_t i = 0; i < SAMPLES; i++)
        samples[i] = rng_u64(&rng) >> (20 + rng_below(&rng, 44)); /* all magnitudes at once */
    expect_percentiles(samples, SAMPLES);
    expect_percentiles(samples, 1);
    expect_percentiles(samples, 3);
}
END_TEST

START_TEST(small_values_are_exact)
{
    memset(&histogram, 0, sizeof histogram);
    for (uint64_t value = 0; value < 2 * HISTOGRAM_PARTS; value++)
        histogram_add(&histogram, value);
    for (uint64_t value = 0; value < 2 * HISTOGRAM_PARTS; value++)
        ck_assert_uint_eq(histogram_percentile(&histogram, ((double)value + 0.5) / (2 * HISTOGRAM_PARTS)), value);
}
END_TEST

START_TEST(merging_is_as_adding_to_one)
{
    static Histogram parts[2], all;
    Rng rng = rng_make(3, RNG_STREAM_TEST);
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t value = rng_u64(&rng) >> 30;
        histogram_add(&parts[i % 3 == 0], value);
        histogram_add(&all, value);
    }
    histogram_merge(&parts[0], &parts[1]);
    ck_assert_mem_eq(&parts[0], &all, sizeof all);
}
END_TEST

START_TEST(extremes_have_their_place)
{
    memset(&histogram, 0, sizeof histogram);
    ck_assert_uint_eq(histogram_percentile(&histogram, 0.5), 0);
    ck_assert_double_eq(histogram_mean(&histogram), 0);
    histogram_add(&histogram, UINT64_MAX);
    ck_assert_uint_eq(histogram_percentile(&histogram, 0), UINT64_MAX);
    ck_assert_uint_eq(histogram_percentile(&histogram, 1), UINT64_MAX);
    histogram_add(&histogram, 0);
    ck_assert_uint_eq(histogram_percentile(&histogram, 0.5), 0);
    for (unsigned bit = 0; bit < 64; bit++) { /* the edges of every bucket's power of two */
        memset(&histogram, 0, sizeof histogram);
        histogram_add(&histogram, UINT64_C(1) << bit);
        histogram_add(&histogram, (UINT64_C(1) << bit) - 1);
        expect_close(histogram_percentile(&histogram, 0.5), (UINT64_C(1) << bit) - 1);
        ck_assert_uint_eq(histogram_percentile(&histogram, 1), UINT64_C(1) << bit);
    }
}
END_TEST

SUITE_MAIN("histogram", percentiles_of_every_magnitude_are_close, percentiles_of_a_long_tail_are_close,
           small_values_are_exact, merging_is_as_adding_to_one, extremes_have_their_place)
