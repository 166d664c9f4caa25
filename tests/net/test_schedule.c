/* The schedule of waiting requests, without gRPC and on a clock that the test moves. */
#include "axon/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "support/suite.h"

static const uint64_t ms = 1000000;

typedef struct Bench {
    Schedule schedule;
    BatchRule rule, other_rule;
    Waiting requests[4096];
    size_t used;
    uint64_t now;
    Batch batch;
} Bench;

static Bench *bench_create(size_t capacity, size_t bytes, BatchRule rule)
{
    Bench *bench = calloc(1, sizeof *bench);
    schedule_init(&bench->schedule, capacity, bytes);
    bench->rule = bench->other_rule = rule;
    bench->now = 1000 * ms;
    return bench;
}

static Waiting *prepare(Bench *bench, uint64_t caller, int64_t rows)
{
    Waiting *request = &bench->requests[bench->used++];
    *request = (Waiting){.caller = caller,
                         .rule = &bench->rule,
                         .modality = MODALITY_TENSOR,
                         .shape = shape_of(rows, 1, 8),
                         .rows = rows,
                         .bytes = 100,
                         .arrived_ns = bench->now,
                         .deadline_ns = UINT64_MAX};
    return request;
}

static Status add(Bench *bench, Waiting *request)
{
    return schedule_add(&bench->schedule, request, NULL);
}

static void add_many(Bench *bench, uint64_t caller, int count, int64_t rows)
{
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(add(bench, prepare(bench, caller, rows)), STATUS_OK);
}

static size_t next(Bench *bench)
{
    schedule_next(&bench->schedule, bench->now, &bench->batch);
    return bench->batch.count;
}

static int64_t rows_of(const Batch *batch, uint64_t caller)
{
    int64_t rows = 0;
    for (size_t i = 0; i < batch->count; i++)
        if (batch->requests[i]->caller == caller) rows += batch->requests[i]->rows;
    return rows;
}

START_TEST(requests_that_wait_together_are_one_batch)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 64});
    ck_assert_uint_eq(next(bench), 0);
    ck_assert_uint_eq(bench->batch.due, UINT64_MAX);
    for (uint64_t caller = 0; caller < 5; caller++)
        add_many(bench, caller, 2, 3);
    ck_assert_uint_eq(next(bench), 10);
    ck_assert_int_eq(bench->batch.rows, 30);
    ck_assert_int_eq(bench->batch.closing, CLOSED_BY_IDLE);
    ck_assert_uint_eq(bench->schedule.count + bench->schedule.bytes + bench->schedule.active, 0);
    free(bench);
}
END_TEST

START_TEST(a_batch_is_closed_by_size)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 10, .wait_ns = 5 * ms});
    add_many(bench, 1, 4, 3); /* the fourth doesn't fit */
    ck_assert_uint_eq(next(bench), 3);
    ck_assert_int_eq(bench->batch.closing, CLOSED_BY_SIZE);
    ck_assert_uint_eq(next(bench), 0); /* the one that is left waits for company */
    ck_assert_uint_eq(bench->batch.due, bench->now + 5 * ms);
    add_many(bench, 2, 1, 7);
    ck_assert_uint_eq(next(bench), 2);
    ck_assert_int_eq(bench->batch.closing, CLOSED_BY_SIZE);
    free(bench);
}
END_TEST

START_TEST(a_batch_is_closed_by_time)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 10, .wait_ns = 5 * ms});
    add_many(bench, 1, 1, 1);
    bench->now += 3 * ms;
    add_many(bench, 2, 1, 1);
    ck_assert_uint_eq(next(bench), 0);
    ck_assert_uint_eq(bench->batch.due, bench->now + 2 * ms); /* counted from the first */
    bench->now += 2 * ms;
    ck_assert_uint_eq(next(bench), 2);
    ck_assert_int_eq(bench->batch.closing, CLOSED_BY_TIME);
    free(bench);
}
END_TEST

START_TEST(a_batch_is_closed_by_a_deadline)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 10, .wait_ns = 50 * ms, .margin_ns = 4 * ms});
    add_many(bench, 1, 1, 1);
    Waiting *hurried = prepare(bench, 2, 1);
    hurried->deadline_ns = bench->now + 10 * ms;
    ck_assert_int_eq(add(bench, hurried), STATUS_OK);
    ck_assert_uint_eq(next(bench), 0);
    ck_assert_uint_eq(bench->batch.due, bench->now + 6 * ms);
    bench->now += 6 * ms;
    ck_assert_uint_eq(next(bench), 2);
    ck_assert_int_eq(bench->batch.closing, CLOSED_BY_DEADLINE);
    free(bench);
}
END_TEST

START_TEST(only_equals_are_joined)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 64});
    Waiting *different[5];
    add_many(bench, 1, 1, 1);
    for (int i = 0; i < 5; i++)
        different[i] = prepare(bench, (uint64_t)i + 2, 1);
    different[0]->rule = &bench->other_rule;
    different[1]->modality = MODALITY_TEXT;
    different[1]->shape = shape_of(1, 1);
    different[2]->shape = shape_of(1, 1, 9);
    different[3]->alone = true;
    different[4]->shape = shape_of(1, 7, 8); /* batch and seq may differ */
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(add(bench, different[i]), STATUS_OK);
    ck_assert_uint_eq(next(bench), 2);
    ck_assert_ptr_eq(bench->batch.requests[1], different[4]);
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_eq(next(bench), 1);
        ck_assert_ptr_eq(bench->batch.requests[0], different[i]);
    }
    free(bench);
}
END_TEST

START_TEST(what_is_larger_than_a_batch_comes_alone)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 10, .wait_ns = 5 * ms});
    add_many(bench, 1, 1, 1000);
    add_many(bench, 2, 1, 1);
    ck_assert_uint_eq(next(bench), 1);
    ck_assert_int_eq(bench->batch.rows, 1000);
    ck_assert_int_eq(bench->batch.closing, CLOSED_BY_SIZE);
    free(bench);

    bench = bench_create(100, 1 << 20, (BatchRule){0}); /* no batches at all */
    add_many(bench, 1, 2, 1);
    ck_assert_uint_eq(next(bench), 1);
    ck_assert_uint_eq(next(bench), 1);
    free(bench);
}
END_TEST

START_TEST(callers_take_turns)
{
    Bench *bench = bench_create(1000, 1 << 20, (BatchRule){.rows = 64});
    add_many(bench, 1, 300, 1);
    add_many(bench, 2, 20, 1);
    add_many(bench, 3, 2, 8);
    next(bench);
    ck_assert_int_eq(rows_of(&bench->batch, 3), 16);
    ck_assert_int_eq(rows_of(&bench->batch, 2), 16);
    ck_assert_int_eq(rows_of(&bench->batch, 1), 32); /* its second turn */
    free(bench);
}
END_TEST

/* Over a long time each gets as many rows as the other, whatever the size of its requests. */
START_TEST(shares_are_counted_in_rows)
{
    Bench *bench = bench_create(3000, 1 << 20, (BatchRule){.rows = 64});
    int64_t rows[3] = {0};
    add_many(bench, 1, 1400, 1);
    add_many(bench, 2, 50, 40);
    for (int i = 0; i < 20; i++) {
        next(bench);
        for (uint64_t caller = 1; caller <= 2; caller++)
            rows[caller] += rows_of(&bench->batch, caller);
    }
    ck_assert_msg(llabs(rows[1] - rows[2]) <= 64, "%ld and %ld", (long)rows[1], (long)rows[2]);
    free(bench);
}
END_TEST

/* One that can't join anybody's batch gets its turn all the same. */
START_TEST(nobody_starves)
{
    Bench *bench = bench_create(1000, 1 << 20, (BatchRule){.rows = 64});
    Waiting *lonely = prepare(bench, 9, 1);
    lonely->alone = true;
    add_many(bench, 1, 200, 1);
    add_many(bench, 2, 200, 1);
    ck_assert_int_eq(add(bench, lonely), STATUS_OK);
    int batches = 1;
    while (next(bench) && bench->batch.requests[0] != lonely)
        batches++;
    ck_assert_int_le(batches, 2);
    free(bench);
}
END_TEST

START_TEST(a_newcomer_always_finds_room)
{
    Bench *bench = bench_create(64, 1 << 20, (BatchRule){.rows = 64});
    int places[7] = {0};
    for (uint64_t caller = 1; caller <= 6; caller++)
        while (add(bench, prepare(bench, caller, 1)) == STATUS_OK)
            places[caller]++;
    ck_assert_int_eq(places[1], 32); /* each takes half of what is left */
    for (int caller = 2; caller <= 6; caller++)
        ck_assert_int_eq(places[caller], places[caller - 1] / 2);
    ck_assert_uint_lt(bench->schedule.count, 64);
    Error error = {0};
    ck_assert_int_eq(schedule_add(&bench->schedule, prepare(bench, 1, 1), &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "32 of them this caller's"));
    free(bench);
}
END_TEST

START_TEST(bytes_are_shared_likewise)
{
    Bench *bench = bench_create(1000, 1000, (BatchRule){.rows = 1});
    int places = 0;
    while (add(bench, prepare(bench, 1, 1)) == STATUS_OK)
        places++;
    ck_assert_int_eq(places, 5);
    Waiting *large = prepare(bench, 2, 1);
    large->bytes = 5000;
    ck_assert_int_eq(add(bench, large), STATUS_RESOURCE_EXHAUSTED);
    while (next(bench))
        ;
    ck_assert_int_eq(add(bench, large), STATUS_OK); /* there would never be more room for it */
    free(bench);
}
END_TEST

START_TEST(what_is_removed_leaves_no_trace)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 64});
    add_many(bench, 1, 3, 2);
    schedule_remove(&bench->schedule, &bench->requests[1]);
    ck_assert_ptr_null(bench->requests[1].line);
    ck_assert_uint_eq(bench->schedule.count, 2);
    ck_assert_uint_eq(bench->schedule.bytes, 200);
    ck_assert_uint_eq(next(bench), 2);
    add_many(bench, 1, 1, 2);
    schedule_remove(&bench->schedule, &bench->requests[3]);
    ck_assert_uint_eq(next(bench) + bench->schedule.active, 0);
    add_many(bench, 1, 2, 2);
    ck_assert_ptr_eq(schedule_take_of(&bench->schedule, &bench->rule), &bench->requests[4]);
    ck_assert_ptr_null(schedule_take_of(&bench->schedule, &bench->other_rule));
    ck_assert_uint_eq(bench->schedule.count, 1);
    free(bench);
}
END_TEST

START_TEST(late_requests_are_not_run)
{
    Bench *bench = bench_create(100, 1 << 20, (BatchRule){.rows = 64});
    add_many(bench, 1, 4, 1);
    bench->requests[0].deadline_ns = bench->requests[2].deadline_ns = bench->now + ms;
    bench->now += ms;
    int late = 0;
    Waiting *waiting;
    ck_assert_uint_eq(next(bench), 2);
    TAILQ_FOREACH(waiting, &bench->batch.late, place)
    late++;
    ck_assert_int_eq(late, 2);
    ck_assert_uint_eq(bench->schedule.count, 0);
    free(bench);
}
END_TEST

/* Whatever comes and goes: nothing is lost, nothing comes twice, and the sums stay true. */
START_TEST(a_random_crowd_is_served_exactly_once)
{
    Bench *bench = bench_create(200, 20000, (BatchRule){.rows = 32, .wait_ns = 2 * ms});
    size_t served = 0, late = 0, removed = 0, refused = 0;
    srand(7);
    while (bench->used < 4096 || bench->schedule.count) {
        for (int i = rand() % 8; i > 0 && bench->used < 4096; i--) {
            Waiting *request = prepare(bench, (uint64_t)(rand() % 20), 1 + rand() % 40);
            request->alone = rand() % 5 == 0;
            request->rule = rand() % 3 ? &bench->rule : &bench->other_rule;
            if (rand() % 4 == 0) request->deadline_ns = bench->now + (uint64_t)(rand() % 4) * ms;
            refused += add(bench, request) != STATUS_OK;
        }
        Waiting *gone = &bench->requests[(size_t)rand() % bench->used];
        if (gone->line && rand() % 3 == 0) {
            schedule_remove(&bench->schedule, gone);
            removed++;
        }
        served += next(bench);
        Waiting *waiting;
        TAILQ_FOREACH(waiting, &bench->batch.late, place)
        late++;
        ck_assert(bench->batch.count <= 1 || bench->batch.rows <= 32);
        bench->now += ms / 4;
    }
    ck_assert_uint_eq(served + late + removed + refused, 4096);
    ck_assert_uint_gt(late * removed * refused, 0);
    ck_assert_int_eq(bench->schedule.rows, 0);
    ck_assert_uint_eq(bench->schedule.bytes + bench->schedule.active, 0);
    free(bench);
}
END_TEST

SUITE_MAIN("schedule", requests_that_wait_together_are_one_batch, a_batch_is_closed_by_size, a_batch_is_closed_by_time,
           a_batch_is_closed_by_a_deadline, only_equals_are_joined, what_is_larger_than_a_batch_comes_alone,
           callers_take_turns, shares_are_counted_in_rows, nobody_starves, a_newcomer_always_finds_room,
           bytes_are_shared_likewise, what_is_removed_leaves_no_trace, late_requests_are_not_run,
           a_random_crowd_is_served_exactly_once)
