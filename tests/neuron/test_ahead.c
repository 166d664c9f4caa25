/* How far ahead peers are asked, in a made-up world: peers with a latency and, maybe, a queue of their own, and a
 * learner with a step time. Times are virtual. */
#include "neuron/ahead.h"

#include "support/suite.h"

enum { MOST = 4096 };
static const uint64_t ms = 1000000;

typedef struct World {
    uint64_t step_ns;    /* the learner's own */
    uint64_t latency_ns; /* of the way to the peer and back */
    uint64_t service_ns; /* the peer's for each question; 0: none */
    uint64_t jitter_ns;  /* every seventh answer is later by this */
    size_t room;         /* of the peer's queue; 0: any */

    Ahead ahead;
    uint64_t now, last_taken, peer_free;
    uint64_t sent[MOST], ready[MOST]; /* those on their way: a ring */
    bool refused[MOST];
    size_t head, count, most, asked;
    uint64_t waited;
    size_t largest_burst; /* questions sent at one moment beyond those that replace a taken one */
} World;

static World make_world(uint64_t step_ms, uint64_t latency_ms, AheadOptions options)
{
    return (World){.step_ns = step_ms * ms, .latency_ns = latency_ms * ms, .ahead = ahead_make(options), .now = ms};
}

static void send(World *w)
{
    size_t at = (w->head + w->count) % MOST, waiting = 0;
    for (size_t i = 0; i < w->count; i++)
        waiting += w->ready[(w->head + i) % MOST] > w->now;
    ck_assert_uint_lt(w->count, MOST - 1);
    uint64_t arrives = w->now + w->latency_ns / 2, begins = arrives > w->peer_free ? arrives : w->peer_free;
    w->sent[at] = w->now;
    w->refused[at] = w->room > 0 && waiting >= w->room;
    w->ready[at] = begins + w->service_ns + w->latency_ns / 2 + (++w->asked % 7 == 0 ? w->jitter_ns : 0);
    if (w->refused[at])
        w->ready[at] = w->now + w->latency_ns;
    else
        w->peer_free = begins + w->service_ns;
    w->count++;
    if (w->count > w->most) w->most = w->count;
}

static void send_up_to(World *w, size_t count)
{
    size_t before = w->count;
    while (w->count < count)
        send(w);
    if (w->count - before > w->largest_burst) w->largest_burst = w->count - before;
}

static void one_step(World *w)
{
    send_up_to(w, ahead_depth(&w->ahead) + 1);
    uint64_t ready = w->ready[w->head], begun = w->now;
    while (w->now < ready && ahead_wait(&w->ahead, w->now - begun)) {
        w->now += ms / 5;
        send_up_to(w, ahead_depth(&w->ahead));
    }
    if (w->now < ready) w->now = ready;
    AheadStep step = {.interval_ns = w->last_taken > 0 ? w->now - w->last_taken : 0,
                      .waited_ns = w->now - begun,
                      .latency_ns = w->refused[w->head] ? 0 : ready - w->sent[w->head],
                      .refused = w->refused[w->head]};
    w->head = (w->head + 1) % MOST;
    w->count--;
    w->waited += step.waited_ns;
    w->last_taken = w->now;
    ahead_step(&w->ahead, &step);
    w->now += w->step_ns;
}

/* The share of the time that was spent waiting. */
static double run(World *w, size_t steps)
{
    uint64_t begun = w->now, waited = w->waited;
    for (size_t i = 0; i < steps; i++)
        one_step(w);
    return (double)(w->waited - waited) / (double)(w->now - begun);
}

/* Round trips of up to 400 steps: after a start of some round trips nothing is waited for. */
START_TEST(latency_costs_no_time)
{
    static const uint64_t latencies[] = {1, 10, 50, 200, 800};
    for (size_t i = 0; i < sizeof latencies / sizeof *latencies; i++) {
        World w = make_world(2, latencies[i], (AheadOptions){.most = 1000});
        double start = run(&w, 2000), later = run(&w, 2000);
        ck_assert_msg(later < 0.001, "%lu ms: %g of the time was waited", (unsigned long)latencies[i], later);
        ck_assert_msg(start < 0.4, "%lu ms: %g of the first 2000 steps", (unsigned long)latencies[i], start);
        ck_assert_uint_le(w.ahead.depth, latencies[i] * 11 / 20 + 2);
        ck_assert_uint_le(w.largest_burst, 2); /* one for the batch that was taken, one more */
    }
}
END_TEST

START_TEST(jitter_is_covered)
{
    World w = make_world(2, 50, (AheadOptions){.most = 1000});
    w.jitter_ns = 40 * ms;
    run(&w, 500);
    ck_assert_double_lt(run(&w, 2000), 0.01);
}
END_TEST

/* The latency of a peer that can't keep up grows with the depth: to follow it would fill its queue. */
START_TEST(a_slow_peer_is_not_drowned)
{
    World w = make_world(2, 20, (AheadOptions){.most = 1000});
    w.service_ns = 6 * ms;
    uint64_t begun = w.now;
    run(&w, 10000);
    ck_assert_uint_le(w.most, 64);
    ck_assert_double_lt((double)(w.now - begun), 1.05 * 10000 * 6 * (double)ms); /* and yet it is never idle */
}
END_TEST

START_TEST(a_way_that_gets_longer_is_followed_and_one_that_gets_shorter_as_well)
{
    World w = make_world(2, 20, (AheadOptions){.most = 1000});
    run(&w, 500);
    w.latency_ns = 300 * ms;
    run(&w, 2000);
    ck_assert_double_lt(run(&w, 1000), 0.001);
    ck_assert_uint_ge(w.ahead.depth, 150);
    w.latency_ns = 20 * ms;
    run(&w, 8000);
    ck_assert_uint_le(w.ahead.depth, 20);
    ck_assert_double_lt(run(&w, 1000), 0.001);
}
END_TEST

START_TEST(a_full_queue_makes_it_back_down)
{
    World w = make_world(2, 100, (AheadOptions){.most = 1000});
    w.room = 20;
    run(&w, 3000);
    ck_assert_uint_le(w.ahead.depth, 40);
    w.room = 0;
    run(&w, 1000);
    ck_assert_double_lt(run(&w, 1000), 0.001);
}
END_TEST

START_TEST(memory_is_a_bound)
{
    World w = make_world(1, 500, (AheadOptions){.most = 32});
    run(&w, 1000);
    ck_assert_uint_eq(w.ahead.depth, 32);
    ck_assert_uint_eq(w.most, 33);
}
END_TEST

START_TEST(a_fixed_depth_stays)
{
    World w = make_world(1, 500, (AheadOptions){.fixed = 3, .most = 32});
    run(&w, 100);
    ck_assert_uint_eq(w.ahead.depth, 3);
    ck_assert_uint_eq(w.most, 4);
    ck_assert_uint_eq(ahead_depth(&(Ahead[]){ahead_make((AheadOptions){.fixed = 64, .most = 32})}[0]), 32);
}
END_TEST

/* Steps without an answer tell nothing: neither do they let it grow, nor is it forgotten what the peers need. */
START_TEST(answers_that_do_not_come_change_nothing)
{
    Ahead silent = ahead_make((AheadOptions){.most = 1000});
    World w = make_world(2, 100, (AheadOptions){.most = 1000});
    run(&w, 1000);
    size_t depth = ahead_depth(&w.ahead);
    for (int i = 0; i < 1000; i++) {
        const AheadStep step = {.interval_ns = 1002 * ms, .waited_ns = 1000 * ms};
        ahead_step(&silent, &step);
        ahead_step(&w.ahead, &step);
    }
    ck_assert_uint_eq(ahead_depth(&silent), 1);
    ck_assert_uint_le(ahead_depth(&w.ahead), depth);
    ck_assert_uint_ge(ahead_depth(&w.ahead), 50);
}
END_TEST

SUITE_MAIN("ahead", latency_costs_no_time, jitter_is_covered, a_slow_peer_is_not_drowned,
           a_way_that_gets_longer_is_followed_and_one_that_gets_shorter_as_well, a_full_queue_makes_it_back_down,
           memory_is_a_bound, a_fixed_depth_stays, answers_that_do_not_come_change_nothing)
