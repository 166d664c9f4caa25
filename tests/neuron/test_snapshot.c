/* Weights on their way from one thread to another: whole, in order, and the last one always arrives. */
#include "neuron/snapshot.h"

#include <pthread.h>
#include <stdatomic.h>

#include "support/suite.h"
#include "train/toy.h"

enum { COUNT = 5000, ROUNDS = 3000 };

static Graph *one_parameter(void)
{
    Graph *g = graph_create(DTYPE_F32, false);
    graph_parameter(g, "w", shape_of(COUNT), 0);
    return g;
}

typedef struct Ends {
    Backend *backend;
    Variables *from, *to;
    Snapshot *snapshot;
    atomic_bool done;
} Ends;

static Ends ends_make(void)
{
    Ends ends = {.backend = toy_backend("reference", 1)};
    Graph *g = one_parameter();
    ck_assert_int_eq(variables_create(ends.backend, &ends.from, NULL), STATUS_OK);
    ck_assert_int_eq(variables_create(ends.backend, &ends.to, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(ends.from, g, 1, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(ends.to, g, 1, NULL), STATUS_OK);
    ck_assert_int_eq(snapshot_create(ends.backend, g, &ends.snapshot, NULL), STATUS_OK);
    graph_destroy(g);
    return ends;
}

static void ends_free(Ends *ends)
{
    snapshot_destroy(ends->snapshot);
    variables_destroy(ends->from);
    variables_destroy(ends->to);
    backend_close(ends->backend);
}

/* All elements are the version. */
static void put(Ends *ends, uint64_t version)
{
    float values[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)version;
    ck_assert_int_eq(variables_write(ends->from, 0, values, sizeof values, NULL), STATUS_OK);
    ck_assert_int_eq(snapshot_put(ends->snapshot, ends->from, version, NULL), STATUS_OK);
}

/* False: nothing new. */
static bool take(Ends *ends, uint64_t *version)
{
    float values[COUNT];
    bool taken;
    ck_assert_int_eq(snapshot_take(ends->snapshot, ends->to, version, &taken, NULL), STATUS_OK);
    if (!taken) return false;
    ck_assert_int_eq(variables_read(ends->to, 0, values, sizeof values, NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++)
        ck_assert_msg(values[i] == (float)*version, "element %d is %g in version %lu", i, (double)values[i],
                      (unsigned long)*version);
    return true;
}

START_TEST(what_was_put_is_taken_once)
{
    Ends ends = ends_make();
    uint64_t version = 99;
    ck_assert(!take(&ends, &version));
    ck_assert_uint_eq(version, 99);
    put(&ends, 1);
    ck_assert(take(&ends, &version));
    ck_assert_uint_eq(version, 1);
    ck_assert(!take(&ends, &version));
    ends_free(&ends);
}
END_TEST

START_TEST(the_last_one_put_is_taken)
{
    Ends ends = ends_make();
    uint64_t version;
    for (uint64_t v = 1; v <= 5; v++) {
        for (uint64_t i = 0; i < v; i++)
            put(&ends, 10 * v + i);
        ck_assert(take(&ends, &version));
        ck_assert_uint_eq(version, 10 * v + v - 1);
        ck_assert(!take(&ends, &version));
    }
    ends_free(&ends);
}
END_TEST

static void *put_on(void *argument)
{
    Ends *ends = argument;
    for (uint64_t v = 1; v <= ROUNDS; v++)
        put(ends, v);
    atomic_store(&ends->done, true);
    return NULL;
}

/* Never torn, never an older one after a newer one, and in the end the last. */
START_TEST(two_threads)
{
    Ends ends = ends_make();
    pthread_t thread;
    uint64_t last = 0, version;
    bool done = false;
    ck_assert_int_eq(pthread_create(&thread, NULL, put_on, &ends), 0);
    while (!done) {
        done = atomic_load(&ends.done); /* before the look that finds nothing more */
        if (!take(&ends, &version)) continue;
        ck_assert_uint_gt(version, last);
        last = version;
    }
    pthread_join(thread, NULL);
    ck_assert_uint_eq(last, ROUNDS);
    ends_free(&ends);
}
END_TEST

SUITE_MAIN("snapshot", what_was_put_is_taken_once, the_last_one_put_is_taken, two_threads)
