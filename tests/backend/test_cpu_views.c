/* The cpu backend's views against the reference, which copies: graphs of random reshapes, slices of rows and columns,
 * detaches and concatenations between layers, where one value may be part of several others. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "graph/ops.h"
#include "graph/rewrite.h"
#include "support/suite.h"

enum { ROWS = 6, COLUMNS = 8, MOST_VALUES = 24, GRAPHS = 400 };

static Error error;

typedef struct Pool {
    Graph *graph;
    Rng *rng;
    Value values[MOST_VALUES]; /* matrices */
    int count;
} Pool;

static Value any(const Pool *pool)
{
    return pool->values[rng_below(pool->rng, (uint64_t)pool->count)];
}

/* [n, k] as [n / d, d k], with the rows [d] between where `deep`. */
static Value regroup(Pool *pool, Value x, bool deep)
{
    const Shape shape = graph_shape(pool->graph, x);
    const int64_t d = shape.dims[0] % 3 == 0 ? 3 : shape.dims[0] % 2 == 0 ? 2 : 1;
    if (deep) x = reshape(pool->graph, x, shape_of(shape.dims[0], 1, shape.dims[1]));
    return reshape(pool->graph, x, shape_of(shape.dims[0] / d, d * shape.dims[1]));
}

static Value part(Pool *pool, Value x, int axis)
{
    const int64_t extent = graph_shape(pool->graph, x).dims[axis];
    const int64_t start = (int64_t)rng_below(pool->rng, (uint64_t)extent);
    const int64_t count = 1 + (int64_t)rng_below(pool->rng, (uint64_t)(extent - start));
    return slice(pool->graph, x, axis, start, start + count);
}

/* Two or three values with the first one's extent along the other axis; itself where no other fits. */
static Value joined(Pool *pool, Value x, int axis)
{
    Value parts[3] = {x, x, x};
    const int count = 2 + (int)rng_below(pool->rng, 2);
    for (int i = 1; i < count; i++)
        for (int trial = 0; trial < 8; trial++) {
            Value other = any(pool);
            if (graph_shape(pool->graph, other).dims[1 - axis] == graph_shape(pool->graph, x).dims[1 - axis])
                parts[i] = other;
        }
    return concat(pool->graph, parts, count, axis);
}

static Value next(Pool *pool)
{
    Graph *g = pool->graph;
    Value x = any(pool);
    char name[16];
    switch (rng_below(pool->rng, 11)) {
    case 0:
    case 1:
        snprintf(name, sizeof name, "layer%d", graph_node_count(g));
        return linear(g, x, name, .out = 1 + (int)rng_below(pool->rng, 9));
    case 2:
        return relu(g, x);
    case 3:
        return affine(g, x, 0.5, 0.1);
    case 4:
        return add(g, x, x);
    case 5:
        return detach(g, x);
    case 6:
        return regroup(pool, x, false);
    case 7:
        return regroup(pool, x, true);
    case 8:
        return part(pool, x, 0);
    case 9:
        return part(pool, x, 1);
    default:
        return joined(pool, x, (int)rng_below(pool->rng, 2));
    }
}

/* Some values are outputs; all inputs are named. */
static Graph *random_graph(uint64_t seed)
{
    Rng rng = rng_make(seed, RNG_STREAM_TEST);
    Pool pool = {.graph = graph_create(DTYPE_F32, false), .rng = &rng, .count = 2};
    pool.values[0] = graph_input(pool.graph, "x", DTYPE_F32, shape_of(ROWS, COLUMNS));
    pool.values[1] = linear(pool.graph, pool.values[0], "first", .out = 5);
    while (pool.count < MOST_VALUES) {
        Value made = next(&pool);
        if (shape_count(graph_shape(pool.graph, made)) > 400) continue;
        pool.values[pool.count++] = made;
    }
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "y%d", i);
        graph_output(pool.graph, name, i == 0 ? pool.values[MOST_VALUES - 1] : any(&pool));
    }
    return pool.graph;
}

typedef struct Compiled {
    Backend *backend;
    Variables *variables;
    Plan *plan;
} Compiled;

static Compiled compile(const char *device, int threads, const Graph *graph, const PlanOptions *options)
{
    Compiled c = {0};
    const bool done = backend_open(device, &(BackendOptions){.threads = threads}, &c.backend, &error) == STATUS_OK &&
                      variables_create(c.backend, &c.variables, &error) == STATUS_OK &&
                      variables_declare(c.variables, graph, 1, &error) == STATUS_OK &&
                      plan_compile(c.backend, graph, c.variables, options, &c.plan, &error) == STATUS_OK;
    ck_assert_msg(done, "%s: %s", device, error.message);
    return c;
}

static void run(Compiled *c, uint64_t seed)
{
    Rng rng = rng_make(seed, RNG_STREAM_TEST + 1);
    const Tensor x = plan_input(c->plan, "x");
    for (int i = 0; i < ROWS * COLUMNS; i++)
        tensor_f32(&x)[i] = (float)rng_normal(&rng);
    ck_assert_int_eq(plan_run(c->plan, NULL), STATUS_OK);
}

static void release(Compiled *c)
{
    plan_destroy(c->plan);
    variables_destroy(c->variables);
    backend_close(c->backend);
}

static void compare(uint64_t seed, const PlanOptions *options)
{
    Graph *graph = random_graph(seed);
    ck_assert_msg(graph_check(graph, &error) == STATUS_OK, "%s", error.message);
    Compiled reference = compile("reference", 1, graph, NULL),
             cpu = compile("cpu", 1 + (int)(seed % 3), graph, options);
    for (uint64_t round = 0; round < 2; round++) {
        run(&reference, round);
        run(&cpu, round);
        for (int i = 0; i < 4; i++) {
            const char *name = graph_output_name(graph, i);
            const Tensor expected = plan_output(reference.plan, name), found = plan_output(cpu.plan, name);
            ck_assert(shape_equal(found.shape, expected.shape));
            for (int64_t k = 0; k < shape_count(found.shape); k++) {
                const float a = tensor_f32(&found)[k], b = tensor_f32(&expected)[k];
                ck_assert_msg(fabsf(a - b) <= 1e-5f * (1 + fabsf(b)),
                              "graph %lu, %s[%ld] is %g, expected %g (frozen %d, rewrites %u)", (unsigned long)seed,
                              name, (long)k, (double)a, (double)b, options->frozen, options->rewrites);
            }
        }
    }
    release(&reference);
    release(&cpu);
    graph_destroy(graph);
}

START_TEST(random_views_agree_with_copies)
{
    for (uint64_t seed = 0; seed < GRAPHS; seed++)
        compare(seed, &(PlanOptions){0});
}
END_TEST

START_TEST(so_do_those_of_frozen_plans)
{
    for (uint64_t seed = 0; seed < GRAPHS; seed++)
        compare(seed, &(PlanOptions){.frozen = true, .rewrites = REWRITE_ALL | (seed % 2 ? REWRITE_FOLD_LINEAR : 0)});
}
END_TEST

SUITE_MAIN("views", random_views_agree_with_copies, so_do_those_of_frozen_plans)
