#include "base/histogram.h"

enum { PART_BITS = 5 };
_Static_assert(1 << PART_BITS == HISTOGRAM_PARTS, "parts are a power of two");

/* Values below HISTOGRAM_PARTS have a bucket each; above, the leading PART_BITS + 1 bits choose it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_PARTS) return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - PART_BITS;
    return (shift + 1) * HISTOGRAM_PARTS + (unsigned)(value >> shift) - HISTOGRAM_PARTS;
}

/* The largest value of a bucket. */
static uint64_t upper_end(unsigned bucket)
{
    if (bucket < HISTOGRAM_PARTS) return bucket;
    unsigned shift = bucket / HISTOGRAM_PARTS - 1;
    uint64_t lower = (uint64_t)(HISTOGRAM_PARTS + bucket % HISTOGRAM_PARTS) << shift;
    return lower + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(Histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->most) histogram->most = value;
    histogram->buckets[bucket_of(value)]++;
}

void histogram_merge(Histogram *to, const Histogram *from)
{
    to->count += from->count;
    to->sum += from->sum;
    if (from->most > to->most) to->most = from->most;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
}

uint64_t histogram_percentile(const Histogram *histogram, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)histogram->count), seen = 0;
    if ((double)wanted < fraction * (double)histogram->count) wanted++;
    if (wanted == 0) wanted = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && histogram->count; i++) {
        seen += histogram->buckets[i];
        if (seen < wanted) continue;
        uint64_t end = upper_end(i);
        return end < histogram->most ? end : histogram->most;
    }
    return 0;
}

double histogram_mean(const Histogram *histogram)
{
    return histogram->count ? (double)histogram->sum / (double)histogram->count : 0;
}
