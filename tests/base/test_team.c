/* Teams: every member runs every body once, barriers hold, and what was written before one is seen after it. The
 * counters that members share between barriers are plain ones on purpose: ThreadSanitizer then watches the barrier. */
#include "base/team.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "support/suite.h"

enum { MOST = 8 };

static Team *create(int members)
{
    Team *team = NULL;
    Error error = {0};
    ck_assert_msg(team_create(members, &team, &error) == STATUS_OK, "%s", error.message);
    ck_assert_int_eq(team_members(team), members);
    return team;
}

typedef struct Tally {
    int calls[MOST];
    int members;
} Tally;

static void count_call(void *context, int member, int members)
{
    Tally *tally = context;
    tally->calls[member]++;
    if (member == 0) tally->members = members;
}

START_TEST(every_member_runs_each_body_once)
{
    for (int members = 1; members <= MOST; members++) {
        Team *team = create(members);
        Tally tally = {0};
        for (int run = 1; run <= 100; run++) {
            team_run(team, count_call, &tally);
            ck_assert_int_eq(tally.members, members);
            for (int i = 0; i < MOST; i++)
                ck_assert_int_eq(tally.calls[i], i < members ? run : 0);
        }
        team_destroy(team);
    }
}
END_TEST

/* A wave: in each round every member reads what all wrote in the round before. */
typedef struct Wave {
    Team *team;
    int rounds, wrong;
    long cells[2][MOST];
} Wave;

static void ride(void *context, int member, int members)
{
    Wave *wave = context;
    for (int round = 0; round < wave->rounds; round++) {
        const long *before = wave->cells[round % 2];
        long sum = 0;
        for (int i = 0; i < members; i++)
            sum += before[i];
        wave->cells[(round + 1) % 2][member] = sum % 1000003 + member;
        team_barrier(wave->team);
    }
}

static long expected_sum(int members, int rounds)
{
    long cells[MOST] = {0};
    for (int i = 0; i < members; i++)
        cells[i] = 1;
    for (int round = 0; round < rounds; round++) {
        long sum = 0;
        for (int i = 0; i < members; i++)
            sum += cells[i];
        for (int i = 0; i < members; i++)
            cells[i] = sum % 1000003 + i;
    }
    long sum = 0;
    for (int i = 0; i < members; i++)
        sum += cells[i];
    return sum;
}

START_TEST(barriers_hold)
{
    for (int members = 1; members <= MOST; members++) {
        Team *team = create(members);
        Wave wave = {.team = team, .rounds = 400};
        for (int i = 0; i < members; i++)
            wave.cells[0][i] = 1;
        team_run(team, ride, &wave);
        long sum = 0;
        for (int i = 0; i < members; i++)
            sum += wave.cells[0][i];
        ck_assert_int_eq(sum, expected_sum(members, wave.rounds));
        team_destroy(team);
    }
}
END_TEST

/* Members that come late make the others sleep; those must be woken. */
static void stumble(void *context, int member, int members)
{
    Wave *wave = context;
    for (int round = 0; round < wave->rounds; round++) {
        if (round % members == member)
            for (volatile int i = 0; i < 200000; i++) {
            }
        wave->cells[round % 2][member] = round;
        team_barrier(wave->team);
        if (wave->cells[round % 2][(member + 1) % members] != round && member == 0) wave->wrong++;
        team_barrier(wave->team);
    }
}

START_TEST(members_that_sleep_are_woken)
{
    const int sizes[] = {2, 3, 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Team *team = create(sizes[i]);
        Wave wave = {.team = team, .rounds = 40};
        team_run(team, stumble, &wave);
        ck_assert_int_eq(wave.wrong, 0);
        team_destroy(team);
    }
}
END_TEST

/* team_run itself is a barrier: the caller sees all that the members wrote, and they what it wrote before. */
static void copy_cell(void *context, int member, int members)
{
    Wave *wave = context;
    (void)members;
    wave->cells[1][member] = wave->cells[0][member];
}

START_TEST(a_run_begins_and_ends_with_everybody)
{
    Team *team = create(4);
    Wave wave = {0};
    for (long run = 1; run <= 2000; run++) {
        for (int i = 0; i < 4; i++)
            wave.cells[0][i] = 10 * run + i;
        team_run(team, copy_cell, &wave);
        for (int i = 0; i < 4; i++)
            ck_assert_int_eq(wave.cells[1][i], 10 * run + i);
    }
    team_destroy(team);
}
END_TEST

START_TEST(teams_come_and_go)
{
    Tally tally = {0};
    for (int round = 0; round < 200; round++) {
        Team *team = create(1 + round % MOST);
        if (round % 3 != 0) team_run(team, count_call, &tally); /* also one that never ran */
        team_destroy(team);
    }
    team_destroy(NULL);
}
END_TEST

START_TEST(two_teams_do_not_mix)
{
    Team *one = create(2), *other = create(3);
    Tally first = {0}, second = {0};
    for (int run = 0; run < 500; run++) {
        team_run(one, count_call, &first);
        team_run(other, count_call, &second);
    }
    ck_assert_int_eq(first.calls[1], 500);
    ck_assert_int_eq(first.calls[2], 0);
    ck_assert_int_eq(second.calls[2], 500);
    team_destroy(one);
    team_destroy(other);
}
END_TEST

/* --- offers --- */

typedef struct Help {
    atomic_int calls[MOST];
} Help;

static void help(void *context, int member, int members)
{
    Help *offered = context;
    (void)members;
    atomic_fetch_add(&offered->calls[member], 1);
}

/* Nobody looks at what an offer's context points at once it is withdrawn: AddressSanitizer and ThreadSanitizer watch
 * the freed memory. */
START_TEST(a_withdrawn_offer_is_over)
{
    Team *team = create(4);
    for (int round = 0; round < 500; round++) {
        Help *offered = calloc(1, sizeof *offered);
        team_offer(team, help, offered);
        if (round % 2 == 0)
            for (volatile int i = 0; i < 20000; i++) { /* let some begin */
            }
        team_withdraw(team);
        ck_assert_int_eq(atomic_load(&offered->calls[0]), 0); /* the caller's part is its own */
        for (int i = 1; i < 4; i++)
            ck_assert_int_le(atomic_load(&offered->calls[i]), 1);
        free(offered);
    }
    team_withdraw(team); /* nothing is offered: fine */
    team_destroy(team);
}
END_TEST

/* Who is given time comes; and a team in step works between offers. */
START_TEST(everybody_helps_in_time)
{
    Team *team = create(3);
    for (int round = 0; round < 20; round++) {
        Help offered = {0};
        Tally tally = {0};
        team_offer(team, help, &offered);
        while (atomic_load(&offered.calls[1]) + atomic_load(&offered.calls[2]) < 2)
            team_wait_turn(100000);
        team_withdraw(team);
        team_run(team, count_call, &tally);
        ck_assert_int_eq(tally.calls[0] + tally.calls[1] + tally.calls[2], 3);
    }
    team_destroy(team);
}
END_TEST

START_TEST(a_team_of_one_has_no_helpers)
{
    Team *team = create(1);
    Help offered = {0};
    team_offer(team, help, &offered);
    team_withdraw(team);
    ck_assert_int_eq(atomic_load(&offered.calls[0]), 0);
    team_destroy(team);
}
END_TEST

/* What counts is where this process may run, whatever the machine has. */
START_TEST(cores_are_those_that_may_be_used)
{
    cpu_set_t all, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    ck_assert_int_eq(team_available_cores(), CPU_COUNT(&all));
    size_t core = 0;
    while (!CPU_ISSET(core, &all))
        core++;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_int_eq(team_available_cores(), 1);
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
    ck_assert_int_eq(team_available_cores(), CPU_COUNT(&all));
}
END_TEST

SUITE_MAIN("team", every_member_runs_each_body_once, barriers_hold, members_that_sleep_are_woken,
           a_run_begins_and_ends_with_everybody, teams_come_and_go, two_teams_do_not_mix, a_withdrawn_offer_is_over,
           everybody_helps_in_time, a_team_of_one_has_no_helpers, cores_are_those_that_may_be_used)
