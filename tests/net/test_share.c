/* The token bucket of core time, on a clock that the test moves. */
#include "axon/share.h"
#include "support/suite.h"

static const uint64_t ms = 1000000;

START_TEST(no_share_means_no_limit)
{
    const double unlimited[] = {0, 1, 2};
    for (int i = 0; i < 3; i++) {
        Share share;
        share_init(&share, unlimited[i], 4, 0);
        share_charge(&share, 0, 1000000 * ms);
        ck_assert(!share_limited(&share));
        ck_assert_uint_eq(share_wait(&share, 0), 0);
    }
}
END_TEST

START_TEST(work_within_the_burst_does_not_wait)
{
    Share share;
    share_init(&share, 0.25, 4, 0); /* one core: 100 ms saved up */
    share_charge(&share, 0, 100 * ms);
    ck_assert_uint_eq(share_wait(&share, 0), 0);
    share_charge(&share, 0, 5 * ms);
    ck_assert_uint_eq(share_wait(&share, 0), 5 * ms);
    ck_assert_uint_eq(share_wait(&share, 2 * ms), 3 * ms);
    ck_assert_uint_eq(share_wait(&share, 5 * ms), 0);
}
END_TEST

START_TEST(idle_time_saves_up_no_more_than_a_burst)
{
    Share share;
    share_init(&share, 0.25, 4, 0);
    share_charge(&share, 3600000 * ms, 103 * ms);
    ck_assert_uint_eq(share_wait(&share, 3600000 * ms), 3 * ms);
}
END_TEST

START_TEST(over_a_second_the_share_is_kept_whatever_work_costs)
{
    const uint64_t costs[] = {1 * ms / 10, 7 * ms, 90 * ms};
    for (int i = 0; i < 3; i++) {
        Share share;
        uint64_t now = 0, used = 0;
        share_init(&share, 0.3, 2, now);
        while (now < 10000 * ms) { /* work on one core, whenever it's allowed */
            uint64_t wait = share_wait(&share, now);
            now += wait;
            if (wait) continue;
            now += costs[i];
            used += 2 * costs[i]; /* on both cores */
            share_charge(&share, now, 2 * costs[i]);
        }
        double fraction = (double)used / (2 * (double)now);
        ck_assert_msg(fraction > 0.29 && fraction < 0.32, "with work of %.1f ms: %.4f", (double)costs[i] / 1e6,
                      fraction);
    }
}
END_TEST

START_TEST(one_dear_piece_of_work_is_paid_off_in_a_second)
{
    Share share;
    share_init(&share, 0.25, 4, 0);
    share_charge(&share, 0, 60000 * ms);
    ck_assert_uint_eq(share_wait(&share, 0), 1000 * ms);
}
END_TEST

START_TEST(a_clock_read_before_the_last_one_does_no_harm)
{
    Share share;
    share_init(&share, 0.5, 2, 10 * ms);
    share_charge(&share, 20 * ms, 101 * ms);
    ck_assert_uint_eq(share_wait(&share, 19 * ms), 1 * ms);
}
END_TEST

SUITE_MAIN("share", no_share_means_no_limit, work_within_the_burst_does_not_wait,
           idle_time_saves_up_no_more_than_a_burst, over_a_second_the_share_is_kept_whatever_work_costs,
           one_dear_piece_of_work_is_paid_off_in_a_second, a_clock_read_before_the_last_one_does_no_harm)
