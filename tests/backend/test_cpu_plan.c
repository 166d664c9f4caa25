/* Plans of the cpu backend from outside: memory limits, concatenations that move no bytes, frozen weights, batches that
 * don't fill a vector, and the profile. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "graph/ops.h"
#include "graph/rewrite.h"
#include "support/suite.h"

static Error error;

typedef struct Compiled {
    Backend *backend;
    Variables *variables;
    Plan *plan;
} Compiled;

static Compiled compile(const char *device, int threads, const Graph *graph, PlanOptions options)
{
    Compiled c = {0};
    const bool done = backend_open(device, &(BackendOptions){.threads = threads}, &c.backend, &error) == STATUS_OK &&
                      variables_create(c.backend, &c.variables, &error) == STATUS_OK &&
                      variables_declare(c.variables, graph, 1, &error) == STATUS_OK &&
                      plan_compile(c.backend, graph, c.variables, &options, &c.plan, &error) == STATUS_OK;
    ck_assert_msg(done, "%s: %s", device, error.message);
    return c;
}

static void release(Compiled *c)
{
    plan_destroy(c->plan);
    variables_destroy(c->variables);
    backend_close(c->backend);
}

static void run(Plan *plan)
{
    ck_assert_msg(plan_run(plan, &error) == STATUS_OK, "%s", error.message);
}

static void fill(Plan *plan, const char *name, uint64_t seed)
{
    const Tensor input = plan_input(plan, name);
    Rng rng = rng_make(seed, RNG_STREAM_TEST);
    for (int64_t i = 0; i < shape_count(input.shape); i++)
        tensor_f32(&input)[i] = (float)rng_normal(&rng);
}

static void expect_close(Plan *found, Plan *expected, const char *name, const char *what)
{
    const Tensor a = plan_output(found, name), b = plan_output(expected, name);
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < shape_count(b.shape); i++) {
        difference += pow((double)tensor_f32(&a)[i] - (double)tensor_f32(&b)[i], 2);
        norm += pow((double)tensor_f32(&b)[i], 2);
    }
    ck_assert_msg(difference <= 1e-10 * norm, "%s: '%s' differs by %g of its norm", what, name,
                  sqrt(difference / norm));
}

static int count_steps(const Plan *plan, const char *operation)
{
    int count = 0;
    for (int i = 0; i < plan_step_count(plan); i++)
        count += strcmp(plan_step(plan, i).operation, operation) == 0;
    return count;
}

/* Two convolutions with pools, as MNIST's: lanes where the batch is large enough, else plain; then linear layers. */
static Graph *small_net(int64_t batch)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "image", DTYPE_F32, shape_of(batch, 1, 16, 16));
    x = relu(g, max_pool2d(g, conv2d(g, normalize(g, x, 0.1, 0.3), "conv1", .out = 6, .kernel = 5), 2));
    x = flatten(g, relu(g, max_pool2d(g, conv2d(g, x, "conv2", .out = 8, .kernel = 3), 2)), 1);
    Value context = linear(g, linear(g, x, "context1", .out = 20), "context2", .out = 30);
    Value y = relu(g, linear(g, concat2(g, x, context), "hidden", .out = 40));
    graph_output(g, "y", linear(g, y, "target", .out = 10));
    return g;
}

START_TEST(an_arena_beyond_the_limit_is_refused)
{
    Graph *graph = small_net(64);
    Backend *backend = NULL;
    Variables *variables = NULL;
    Plan *plan = NULL;
    Compiled free_one = compile("cpu", 1, graph, (PlanOptions){0});
    const size_t needed = plan_arena_bytes(free_one.plan);
    ck_assert_uint_gt(needed, 64 * 16 * 16 * sizeof(float));
    for (int fits = 0; fits < 2; fits++) {
        const BackendOptions options = {.threads = 1, .memory_limit = fits ? needed : needed - 1};
        ck_assert_int_eq(backend_open("cpu", &options, &backend, NULL), STATUS_OK);
        ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);
        ck_assert_int_eq(variables_declare(variables, graph, 1, NULL), STATUS_OK);
        const Status status = plan_compile(backend, graph, variables, NULL, &plan, &error);
        ck_assert_int_eq(status, fits ? STATUS_OK : STATUS_RESOURCE_EXHAUSTED);
        if (fits) plan_destroy(plan);
        variables_destroy(variables);
        backend_close(backend);
    }
    char number[32];
    snprintf(number, sizeof number, "%zu", needed);
    ck_assert_msg(strstr(error.message, number) != NULL, "expected %s in: %s", number, error.message);
    snprintf(number, sizeof number, "%zu", needed - 1);
    ck_assert_msg(strstr(error.message, number) != NULL, "expected %s in: %s", number, error.message);
    release(&free_one);
    graph_destroy(graph);
}
END_TEST

/* What layers make is written into its place in the whole; an input, which has a place already, is copied. */
START_TEST(a_concatenation_of_computed_parts_moves_no_bytes)
{
    Graph *graph = graph_create(DTYPE_F32, false);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(8, 16)), parts[4];
    for (int i = 0; i < 3; i++) {
        const char *const names[] = {"a", "b", "c"};
        parts[i] = linear(graph, x, names[i], .out = 8 + i);
    }
    parts[3] = relu(graph, linear(graph, concat(graph, parts, 3, 1), "d", .out = 7)); /* dense blocks nest */
    graph_output(graph, "y", linear(graph, concat(graph, parts, 4, 1), "last", .out = 3));
    Compiled cpu = compile("cpu", 2, graph, (PlanOptions){.rewrites = REWRITE_ALL});
    Compiled reference = compile("reference", 1, graph, (PlanOptions){0});
    /* Each part can lie in one place: of the second concatenation only "d" is written there. */
    ck_assert_int_le(count_steps(cpu.plan, "concat"), 1);
    ck_assert_int_eq(count_steps(cpu.plan, "copy"), 0);
    fill(cpu.plan, "x", 1);
    fill(reference.plan, "x", 1);
    run(cpu.plan);
    run(reference.plan);
    expect_close(cpu.plan, reference.plan, "y", "nested parts");
    release(&cpu);
    release(&reference);
    graph_destroy(graph);

    graph = graph_create(DTYPE_F32, false);
    x = graph_input(graph, "x", DTYPE_F32, shape_of(8, 16));
    Value one = relu(graph, linear(graph, x, "one", .out = 8)), other = linear(graph, x, "other", .out = 5);
    graph_output(graph, "y", linear(graph, concat2(graph, one, detach(graph, other)), "last", .out = 3));
    cpu = compile("cpu", 1, graph, (PlanOptions){.rewrites = REWRITE_ALL});
    ck_assert_int_eq(plan_step_count(cpu.plan), 3); /* the layers alone */
    release(&cpu);
    graph_destroy(graph);
}
END_TEST

/* Every way of computing a layer takes over the weights and biases: in place, packed, in lanes, folded. */
START_TEST(a_refreshed_frozen_plan_has_the_new_weights)
{
    const int64_t batches[] = {1, 3, 4, 5, 16, 33};
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
        for (unsigned fold = 0; fold < 2; fold++) {
            Graph *graph = small_net(batches[i]);
            const unsigned rewrites = REWRITE_ALL | (fold ? REWRITE_FOLD_LINEAR : 0);
            Compiled frozen = compile("cpu", 2, graph, (PlanOptions){.rewrites = rewrites, .frozen = true});
            Compiled truth = compile("reference", 1, graph, (PlanOptions){0});
            for (uint64_t round = 1; round <= 2; round++) {
                for (int k = 0; k < variables_count(truth.variables); k++) {
                    float values[8192];
                    Rng rng = rng_make(round, RNG_STREAM_TEST + (uint64_t)k);
                    const size_t count = (size_t)shape_count(variables_shape(truth.variables, k));
                    ck_assert_uint_le(count, sizeof values / sizeof *values);
                    for (size_t v = 0; v < count; v++)
                        values[v] = (float)(rng_uniform(&rng) - 0.5);
                    const int twin = variables_find(frozen.variables, variables_name(truth.variables, k));
                    const size_t bytes = count * sizeof(float);
                    ck_assert_int_eq(variables_write(truth.variables, k, values, bytes, NULL), STATUS_OK);
                    ck_assert_int_eq(variables_write(frozen.variables, twin, values, bytes, NULL), STATUS_OK);
                }
                ck_assert_int_eq(plan_refresh(frozen.plan, NULL), STATUS_OK);
                fill(frozen.plan, "image", round);
                fill(truth.plan, "image", round);
                run(frozen.plan);
                run(truth.plan);
                char what[64];
                snprintf(what, sizeof what, "batch %ld, fold %u, round %lu", (long)batches[i], fold,
                         (unsigned long)round);
                expect_close(frozen.plan, truth.plan, "y", what);
            }
            release(&frozen);
            release(&truth);
            graph_destroy(graph);
        }
}
END_TEST

/* Lanes that no image fills must not reach those that are filled. */
START_TEST(any_batch_agrees_with_the_reference)
{
    for (int64_t batch = 1; batch <= 40; batch++) {
        Graph *graph = small_net(batch);
        Compiled cpu = compile("cpu", 1 + (int)(batch % 3), graph, (PlanOptions){.rewrites = REWRITE_ALL});
        Compiled truth = compile("reference", 1, graph, (PlanOptions){0});
        for (uint64_t round = 0; round < 2; round++) {
            fill(cpu.plan, "image", 100 * round + (uint64_t)batch);
            fill(truth.plan, "image", 100 * round + (uint64_t)batch);
            run(cpu.plan);
            run(truth.plan);
            char what[32];
            snprintf(what, sizeof what, "batch %ld", (long)batch);
            expect_close(cpu.plan, truth.plan, "y", what);
        }
        release(&cpu);
        release(&truth);
        graph_destroy(graph);
    }
}
END_TEST

/* A row's answer must not depend on its neighbours' values, NaN included. */
START_TEST(rows_do_not_see_each_other)
{
    Graph *graph = small_net(19);
    Compiled cpu = compile("cpu", 2, graph, (PlanOptions){.rewrites = REWRITE_ALL});
    float before[10];
    const Tensor image = plan_input(cpu.plan, "image"), y = plan_output(cpu.plan, "y");
    fill(cpu.plan, "image", 1);
    run(cpu.plan);
    memcpy(before, tensor_f32(&y) + 50, sizeof before); /* row 5 */
    for (int64_t i = 0; i < shape_count(image.shape); i++)
        if (i / 256 != 5) tensor_f32(&image)[i] = NAN;
    run(cpu.plan);
    ck_assert_mem_eq(tensor_f32(&y) + 50, before, sizeof before);
    ck_assert_msg(isnan(tensor_f32(&y)[0]), "a NaN was lost on its way: the first row's first number is %g",
                  (double)tensor_f32(&y)[0]);
    release(&cpu);
    graph_destroy(graph);
}
END_TEST

START_TEST(a_profile_adds_up_to_the_run)
{
    Graph *graph = small_net(64);
    Compiled cpu = compile("cpu", 2, graph, (PlanOptions){.rewrites = REWRITE_ALL, .profile = true});
    fill(cpu.plan, "image", 1);
    double flops = 0, seconds = 0;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 20; i++)
        run(cpu.plan);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double whole = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    for (int i = 0; i < plan_step_count(cpu.plan); i++) {
        const PlanStep step = plan_step(cpu.plan, i);
        ck_assert_double_ge(step.seconds, 0);
        ck_assert_ptr_nonnull(step.implementation);
        flops += step.flops;
        seconds += 20 * step.seconds;
    }
    /* conv1: 6 maps of 12x12, 25 products each; conv2: 8 of 4x4, 54; both before the pool; then 32-20-30, 62-40-10. */
    const double per_image = 2.0 * (6 * 144 * 25 + 8 * 16 * 54 + 32 * 20 + 20 * 30 + (32 + 30) * 40 + 40 * 10);
    ck_assert_double_eq(flops, 64 * per_image);
    ck_assert_double_gt(seconds, 0);
    ck_assert_double_le(seconds, whole);
    plan_profile_reset(cpu.plan);
    ck_assert_double_eq(plan_step(cpu.plan, 0).seconds, 0);
    release(&cpu);
    graph_destroy(graph);
}
END_TEST

START_TEST(doubles_are_refused)
{
    Graph *graph = graph_create(DTYPE_F64, false);
    graph_output(graph, "y", relu(graph, graph_input(graph, "x", DTYPE_F64, shape_of(2))));
    Backend *backend = NULL;
    Variables *variables = NULL;
    Plan *plan = NULL;
    ck_assert_int_eq(backend_open("cpu", NULL, &backend, NULL), STATUS_OK);
    ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);
    ck_assert_int_eq(plan_compile(backend, graph, variables, NULL, &plan, &error), STATUS_UNIMPLEMENTED);
    ck_assert_ptr_nonnull(strstr(error.message, "'x'"));
    variables_destroy(variables);
    backend_close(backend);
    graph_destroy(graph);
}
END_TEST

SUITE_MAIN("cpu_plan", an_arena_beyond_the_limit_is_refused, a_concatenation_of_computed_parts_moves_no_bytes,
           a_refreshed_frozen_plan_has_the_new_weights, any_batch_agrees_with_the_reference, rows_do_not_see_each_other,
           a_profile_adds_up_to_the_run, doubles_are_refused)
