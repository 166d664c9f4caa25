#include "base/clock.h"

#include <time.h>

#include "support/suite.h"

START_TEST(test_monotonic_follows_a_sleep)
{
    Clock clock = clock_monotonic();
    uint64_t before = clock_now(clock);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    uint64_t passed = clock_now(clock) - before;
    ck_assert_uint_ge(passed, 2000000u);
    ck_assert_uint_lt(passed, 60000000000u);
}
END_TEST

START_TEST(test_realtime_agrees_with_time)
{
    uint64_t seconds = clock_now(clock_realtime()) / 1000000000u;
    ck_assert_uint_le((uint64_t)time(NULL) - seconds + 1, 3u);
}
END_TEST

START_TEST(test_manual_stands_still_until_moved)
{
    uint64_t now = 5;
    Clock clock = clock_manual(&now);
    ck_assert_uint_eq(clock_now(clock), 5);
    ck_assert_uint_eq(clock_now(clock), 5);
    now = UINT64_C(3600) * 1000000000;
    ck_assert_double_eq(clock_seconds(clock_now(clock)), 3600.0);
}
END_TEST

SUITE_MAIN("clock", test_monotonic_follows_a_sleep, test_realtime_agrees_with_time,
           test_manual_stands_still_until_moved)
