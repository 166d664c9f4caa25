#include "graph/memory_plan.h"

#include <string.h>

#include "base/rng.h"
#include "base/size.h"
#include "support/suite.h"

enum { MOST = 300, ALIGN = 64 };

/* `count` buffers of up to `largest` bytes, most of them short-lived, as in a graph. */
static void make_random(Rng *rng, MemoryBuffer *buffers, int count, uint64_t largest)
{
    for (int i = 0; i < count; i++) {
        const uint64_t life = rng_below(rng, 8) == 0 ? (uint64_t)count : 6;
        const int first = (int)rng_below(rng, (uint64_t)count);
        buffers[i] = (MemoryBuffer){.size = rng_below(rng, largest + 1),
                                    .first = first,
                                    .last = first + (int)rng_below(rng, life),
                                    .offset = SIZE_MAX};
    }
}

/* The most bytes (rounded up to the alignment) that live at one time: no plan can be smaller. */
static size_t peak_of(const MemoryBuffer *buffers, int count, size_t alignment)
{
    size_t peak = 0;
    for (int time = 0; time < 2 * MOST; time++) {
        size_t live = 0;
        for (int i = 0; i < count; i++)
            if (buffers[i].first <= time && time <= buffers[i].last) live += size_align(buffers[i].size, alignment);
        if (live > peak) peak = live;
    }
    return peak;
}

static void check_plan(const MemoryBuffer *buffers, int count, size_t alignment, size_t total)
{
    for (int i = 0; i < count; i++) {
        const MemoryBuffer *a = &buffers[i];
        ck_assert_uint_eq(a->offset % alignment, 0);
        ck_assert_uint_le(a->offset + a->size, total);
        for (int j = 0; j < i; j++) {
            const MemoryBuffer *b = &buffers[j];
            const bool together = a->first <= b->last && b->first <= a->last && a->size > 0 && b->size > 0;
            const bool apart = a->offset + a->size <= b->offset || b->offset + b->size <= a->offset;
            ck_assert_msg(!together || apart, "buffers %d and %d live together and overlap", i, j);
        }
    }
}

START_TEST(random_buffers_never_overlap_and_stay_near_the_peak)
{
    Rng rng = rng_make(1, RNG_STREAM_TEST);
    MemoryBuffer buffers[MOST];
    for (int round = 0; round < 200; round++) {
        const int count = 1 + (int)rng_below(&rng, MOST);
        make_random(&rng, buffers, count, 100000);
        size_t total = 0;
        ck_assert_int_eq(memory_plan(buffers, count, ALIGN, 0, &total, NULL), STATUS_OK);
        check_plan(buffers, count, ALIGN, total);
        const size_t peak = peak_of(buffers, count, ALIGN);
        ck_assert_uint_ge(total, peak);
        ck_assert_msg((double)total <= 1.3 * (double)peak, "%d buffers take %zu bytes, %.3f of the peak", count, total,
                      (double)total / (double)peak);
    }
}
END_TEST

START_TEST(buffers_that_follow_each_other_share_bytes)
{
    MemoryBuffer buffers[] = {{100, 0, 1, 0}, {100, 2, 3, 0}, {100, 4, 5, 0}};
    size_t total = 0;
    ck_assert_int_eq(memory_plan(buffers, 3, 64, 0, &total, NULL), STATUS_OK);
    ck_assert_uint_eq(total, 128);
}
END_TEST

START_TEST(a_buffer_read_in_the_step_that_writes_another_is_kept)
{
    MemoryBuffer buffers[] = {{64, 0, 1, 0}, {64, 1, 2, 0}};
    size_t total = 0;
    ck_assert_int_eq(memory_plan(buffers, 2, 64, 0, &total, NULL), STATUS_OK);
    ck_assert_uint_eq(total, 128);
}
END_TEST

START_TEST(a_gap_between_two_buffers_is_filled)
{
    /* The largest two are alive at different times but with a third between them. */
    MemoryBuffer buffers[] = {{256, 0, 1, 0}, {192, 1, 4, 0}, {128, 2, 3, 0}, {64, 2, 3, 0}};
    size_t total = 0;
    ck_assert_int_eq(memory_plan(buffers, 4, 64, 0, &total, NULL), STATUS_OK);
    ck_assert_uint_eq(total, 448);
    ck_assert_uint_eq(buffers[2].offset, 0);
    ck_assert_uint_eq(buffers[3].offset, 128);
}
END_TEST

START_TEST(no_buffers_and_empty_buffers_take_nothing)
{
    MemoryBuffer empty = {0, 0, 9, 1234};
    size_t total = 1;
    ck_assert_int_eq(memory_plan(NULL, 0, 64, 0, &total, NULL), STATUS_OK);
    ck_assert_uint_eq(total, 0);
    ck_assert_int_eq(memory_plan(&empty, 1, 64, 0, &total, NULL), STATUS_OK);
    ck_assert_uint_eq(total, 0);
    ck_assert_uint_eq(empty.offset, 0);
}
END_TEST

START_TEST(a_plan_above_the_limit_is_refused_with_both_numbers)
{
    MemoryBuffer buffers[] = {{1000, 0, 1, 0}, {1000, 0, 1, 0}};
    size_t total = 0;
    Error error = {0};
    ck_assert_int_eq(memory_plan(buffers, 2, 64, 2048, &total, &error), STATUS_OK);
    ck_assert_int_eq(memory_plan(buffers, 2, 64, 2047, &total, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "2048"));
    ck_assert_ptr_nonnull(strstr(error.message, "2047"));
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    MemoryBuffer one[] = {{SIZE_MAX, 0, 1, 0}};
    MemoryBuffer sum[] = {{SIZE_MAX / 2 + 1, 0, 1, 0}, {SIZE_MAX / 2 + 1, 0, 1, 0}};
    size_t total = 0;
    Error error = {0};
    ck_assert_int_eq(memory_plan(one, 1, 64, 0, &total, &error), STATUS_OUT_OF_RANGE);
    ck_assert_int_eq(memory_plan(sum, 2, 64, 0, &total, &error), STATUS_OUT_OF_RANGE);
}
END_TEST

SUITE_MAIN("memory_plan", random_buffers_never_overlap_and_stay_near_the_peak,
           buffers_that_follow_each_other_share_bytes, a_buffer_read_in_the_step_that_writes_another_is_kept,
           a_gap_between_two_buffers_is_filled, no_buffers_and_empty_buffers_take_nothing,
           a_plan_above_the_limit_is_refused_with_both_numbers, sizes_that_overflow_are_refused)
