/* The policy alone, on a clock of the test's own: who is asked, who is left alone, who probes, what is sent again. */
#include <string.h>

#include "dendrite/link.h"
#include "support/suite.h"

static const uint64_t ms = 1000000;
static Link link;
static Rng jitter;
static uint64_t now;

static void start(void)
{
    memset(&link, 0, sizeof link);
    jitter = rng_make(7, RNG_STREAM_JITTER);
    now = 1000;
}

static Ticket begin(void)
{
    Admission admission = link_admission(&link, PEER_FORWARD, now);
    ck_assert_int_ne(admission, ADMIT_NOT);
    return link_begin(&link, admission);
}

static void lose(DendriteFailure kind)
{
    link_lost(&link, begin(), kind, now, &jitter);
}

START_TEST(the_first_lost_connection_begins_a_quiet_while)
{
    start();
    ck_assert_int_eq(link_state(&link), DENDRITE_UNASKED);
    lose(DENDRITE_UNAVAILABLE);
    ck_assert_int_eq(link_state(&link), DENDRITE_LEFT_ALONE);
    now += 199 * ms; /* 0.25 s, a fifth less at most */
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT_NOT);
    now += 102 * ms; /* a fifth more at most */
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT_AS_PROBE);
}
END_TEST

START_TEST(whiles_double_up_to_ten_seconds_and_end_with_an_answer)
{
    uint64_t expected = 250 * ms;
    start();
    for (int i = 0; i < 9; i++) {
        lose(DENDRITE_UNAVAILABLE);
        uint64_t span = link.quiet_until - now;
        ck_assert_uint_ge(span, expected / 5 * 4);
        ck_assert_uint_le(span, expected / 5 * 6);
        now = link.quiet_until;
        expected = expected * 2 < 10000 * ms ? expected * 2 : 10000 * ms;
    }
    link_heard(&link, begin());
    ck_assert_int_eq(link_state(&link), DENDRITE_WELL);
    lose(DENDRITE_UNAVAILABLE);
    ck_assert_uint_le(link.quiet_until - now, 300 * ms);
}
END_TEST

START_TEST(neurons_do_not_come_back_at_the_same_time)
{
    uint64_t spans[2];
    for (uint64_t seed = 0; seed < 2; seed++) {
        start();
        jitter = rng_make(seed, RNG_STREAM_JITTER);
        lose(DENDRITE_UNAVAILABLE);
        spans[seed] = link.quiet_until;
    }
    ck_assert_uint_ne(spans[0], spans[1]);
}
END_TEST

START_TEST(the_third_timeout_in_a_row_counts)
{
    start();
    lose(DENDRITE_TIMEOUT);
    lose(DENDRITE_TIMEOUT);
    link_heard(&link, begin()); /* no longer in a row */
    lose(DENDRITE_TIMEOUT);
    lose(DENDRITE_TIMEOUT);
    ck_assert_int_eq(link_state(&link), DENDRITE_WELL);
    lose(DENDRITE_TIMEOUT);
    ck_assert_int_eq(link_state(&link), DENDRITE_LEFT_ALONE);
}
END_TEST

START_TEST(a_single_call_probes_until_it_was_answered)
{
    start();
    lose(DENDRITE_UNAVAILABLE);
    now = link.quiet_until;
    ck_assert_int_eq(link_admission(&link, PEER_BACKWARD, now), ADMIT_NOT); /* the first one must be safe to lose */
    Ticket probe = begin();
    ck_assert(probe.probe);
    ck_assert_int_eq(link_state(&link), DENDRITE_PROBING);
    now += 60000 * ms;
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT_NOT);
    link_heard(&link, probe);
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT);
    ck_assert_int_eq(link_admission(&link, PEER_BACKWARD, now), ADMIT);
}
END_TEST

START_TEST(one_timeout_of_a_probe_is_enough)
{
    start();
    for (int i = 0; i < 3; i++)
        lose(DENDRITE_TIMEOUT);
    uint64_t first = link.quiet_until - now;
    now = link.quiet_until;
    lose(DENDRITE_TIMEOUT);
    ck_assert_int_eq(link_state(&link), DENDRITE_LEFT_ALONE);
    ck_assert_uint_gt(link.quiet_until - now, first);
}
END_TEST

START_TEST(a_probe_given_up_lets_the_next_call_probe)
{
    start();
    lose(DENDRITE_UNAVAILABLE);
    now = link.quiet_until;
    link_unknown(&link, begin());
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT_AS_PROBE);
}
END_TEST

START_TEST(calls_that_fail_together_begin_one_while)
{
    start();
    Ticket first = begin(), second = begin();
    link_lost(&link, first, DENDRITE_UNAVAILABLE, now, &jitter);
    uint64_t until = link.quiet_until;
    link_lost(&link, second, DENDRITE_UNAVAILABLE, now + 1, &jitter);
    ck_assert_uint_eq(link.quiet_until, until);
    now = until;
    Ticket probe = begin();
    link_lost(&link, second, DENDRITE_UNAVAILABLE, now, &jitter); /* a straggler says nothing of the probe */
    ck_assert_int_eq(link_state(&link), DENDRITE_PROBING);
    link_heard(&link, probe);
}
END_TEST

START_TEST(how_a_call_to_the_old_place_ends_says_nothing_of_the_new)
{
    Peer peer = {.address = "127.0.0.1:1"};
    start();
    Ticket old = begin();
    lose(DENDRITE_UNAVAILABLE);
    link_moved(&link, &peer);
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT);
    link_lost(&link, old, DENDRITE_UNAVAILABLE, now, &jitter);
    ck_assert_int_eq(link_admission(&link, PEER_FORWARD, now), ADMIT);
    lose(DENDRITE_UNAVAILABLE);
    link_heard(&link, old);
    ck_assert_int_eq(link_state(&link), DENDRITE_LEFT_ALONE);
}
END_TEST

START_TEST(a_broken_connection_is_tried_again_once_if_there_is_time)
{
    start();
    Ticket ticket = begin();
    ck_assert(link_should_retry(&link, ticket, DENDRITE_UNAVAILABLE, false, 100 * ms));
    ck_assert(!link_should_retry(&link, ticket, DENDRITE_UNAVAILABLE, true, 100 * ms));
    ck_assert(!link_should_retry(&link, ticket, DENDRITE_TIMEOUT, false, 100 * ms));
    ck_assert(!link_should_retry(&link, ticket, DENDRITE_REFUSED, false, 100 * ms));
    ck_assert(!link_should_retry(&link, ticket, DENDRITE_UNAVAILABLE, false, ms / 2));
    link_count_answer(&link, PEER_FORWARD, 200 * ms, "");
    ck_assert(!link_should_retry(&link, ticket, DENDRITE_UNAVAILABLE, false, 100 * ms)); /* it takes longer than that */
    ck_assert(link_should_retry(&link, ticket, DENDRITE_UNAVAILABLE, false, 300 * ms));
    lose(DENDRITE_UNAVAILABLE);
    ck_assert(!link_should_retry(&link, ticket, DENDRITE_UNAVAILABLE, false, 300 * ms));
    now = link.quiet_until;
    ck_assert(!link_should_retry(&link, begin(), DENDRITE_UNAVAILABLE, false, 300 * ms)); /* nor the probe */
}
END_TEST

START_TEST(names_are_for_people)
{
    ck_assert_str_eq(dendrite_state_name(DENDRITE_UNASKED), "unasked");
    ck_assert_str_eq(dendrite_state_name(DENDRITE_WELL), "well");
    ck_assert_str_eq(dendrite_state_name(DENDRITE_PROBING), "probing");
    ck_assert_str_eq(dendrite_state_name(DENDRITE_LEFT_ALONE), "left alone");
    ck_assert_str_eq(dendrite_state_name((DendriteState)99), "?");
    for (int kind = 0; kind < DENDRITE_FAILURES; kind++)
        ck_assert_ptr_nonnull(dendrite_failure_name((DendriteFailure)kind));
    ck_assert_str_eq(dendrite_failure_name(DENDRITE_FAILURES), "?");
}
END_TEST

SUITE_MAIN("dendrite link", the_first_lost_connection_begins_a_quiet_while,
           whiles_double_up_to_ten_seconds_and_end_with_an_answer, neurons_do_not_come_back_at_the_same_time,
           the_third_timeout_in_a_row_counts, a_single_call_probes_until_it_was_answered,
           one_timeout_of_a_probe_is_enough, a_probe_given_up_lets_the_next_call_probe,
           calls_that_fail_together_begin_one_while, how_a_call_to_the_old_place_ends_says_nothing_of_the_new,
           a_broken_connection_is_tried_again_once_if_there_is_time, names_are_for_people)
