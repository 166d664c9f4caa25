/* A histogram of durations with a bounded relative error, for percentiles of any number of samples in fixed memory.
 *
 * Buckets as in H. G. Tene's HdrHistogram: each power of two is cut into HISTOGRAM_PARTS equal parts, so a percentile
 * is at most 1/HISTOGRAM_PARTS too high. No lock: a histogram belongs to whoever guards it. Zero-initialise. */
#pragma once

#include <stdint.h>

enum { HISTOGRAM_PARTS = 32, HISTOGRAM_BUCKETS = 64 * HISTOGRAM_PARTS };

typedef struct Histogram {
    uint64_t count, sum, most; /* of all samples, exact */
    uint32_t buckets[HISTOGRAM_BUCKETS];
} Histogram;

void histogram_add(Histogram *histogram, uint64_t value);
void histogram_merge(Histogram *to, const Histogram *from);

/* The value that a share `fraction` (0..1) of the samples doesn't exceed: the upper end of its bucket, at most `most`;
 * 0 without samples. */
uint64_t histogram_percentile(const Histogram *histogram, double fraction);
double histogram_mean(const Histogram *histogram);
