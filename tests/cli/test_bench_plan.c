/* The check of the benchmark: right plans pass, a plan that computes with other weights doesn't. */
#include <check.h>
#include <string.h>

#include "cli/bench_plan.h"
#include "cli/bench_time.h"
#include "support/suite.h"

enum { BATCH = 5, SIDE = 512 };

static Backend *open_backend(const char *device)
{
    BackendOptions options = {.threads = 2};
    Backend *backend = NULL;
    ck_assert_int_eq(backend_open(device, &options, &backend, NULL), STATUS_OK);
    return backend;
}

static BenchPlan open_plan(Backend *backend, BenchKind kind, uint64_t seed)
{
    BenchWork work = {&soma_mnist, kind, BATCH, seed, PRECISION_F32};
    BenchPlan plan = {0};
    Error error = {0};
    ck_assert_msg(bench_plan_open(&plan, backend, &work, false, &error) == STATUS_OK, "%s", error.message);
    return plan;
}

START_TEST(test_right_plans_pass)
{
    Backend *cpu = open_backend("cpu"), *reference = open_backend("reference");
    for (BenchKind kind = 0; kind < BENCH_KINDS; kind++) {
        BenchPlan plan = open_plan(cpu, kind, 7);
        Error error = {0};
        double difference = -1;
        ck_assert_msg(bench_plan_check(&plan, reference, &difference, &error) == STATUS_OK, "%s", error.message);
        ck_assert(difference > 0 && difference < 1e-5);
        bench_plan_close(&plan);
    }
    backend_close(cpu);
    backend_close(reference);
}
END_TEST

/* One column of the weights is off by about a tenth of their usual size. */
static void disturb(BenchPlan *plan)
{
    static float weights[SIDE * SIDE];
    int index = variables_find(plan->variables, "hidden_layer2.weight");
    ck_assert_int_eq(variables_read(plan->variables, index, weights, sizeof weights, NULL), STATUS_OK);
    for (int row = 0; row < SIDE; row++)
        weights[row * SIDE] += 0.005f;
    ck_assert_int_eq(variables_write(plan->variables, index, weights, sizeof weights, NULL), STATUS_OK);
    ck_assert_int_eq(plan_refresh(plan->plan, NULL), STATUS_OK);
}

START_TEST(test_wrong_weights_are_found)
{
    Backend *cpu = open_backend("cpu"), *reference = open_backend("reference");
    for (BenchKind kind = 0; kind < BENCH_KINDS; kind++) {
        BenchPlan plan = open_plan(cpu, kind, 7);
        Error error = {0};
        double difference;
        disturb(&plan);
        ck_assert_int_eq(bench_plan_check(&plan, reference, &difference, &error), STATUS_INTERNAL);
        ck_assert_ptr_nonnull(strstr(error.message, "wrong result"));
        ck_assert_ptr_nonnull(strstr(error.message, bench_kind_name(kind)));
        bench_plan_close(&plan);
    }
    backend_close(cpu);
    backend_close(reference);
}
END_TEST

START_TEST(test_the_images_depend_on_the_seed_alone)
{
    Backend *cpu = open_backend("cpu");
    const uint64_t seeds[] = {7, 7, 8};
    float pixels[3];
    for (int i = 0; i < 3; i++) {
        BenchPlan plan = open_plan(cpu, BENCH_INFERENCE, seeds[i]);
        pixels[i] = *(const float *)plan_input(plan.plan, "image").data;
        bench_plan_close(&plan);
    }
    ck_assert(pixels[0] == pixels[1] && pixels[0] != pixels[2]);
    backend_close(cpu);
}
END_TEST

START_TEST(test_as_many_runs_as_asked)
{
    Backend *cpu = open_backend("cpu");
    BenchPlan plan = open_plan(cpu, BENCH_INFERENCE, 0);
    BenchTime time = {0};
    ck_assert_int_eq(bench_time(&plan, 4, &time, NULL), STATUS_OK);
    ck_assert_int_eq(time.runs, 4);
    ck_assert(time.least > 0 && time.least <= time.median);
    bench_plan_close(&plan);
    backend_close(cpu);
}
END_TEST

START_TEST(test_the_median)
{
    ck_assert(bench_median((double[]){3}, 1) == 3);
    ck_assert(bench_median((double[]){9, 1, 5}, 3) == 5);
    ck_assert(bench_median((double[]){9, 1, 5, 2}, 4) == 3.5);
}
END_TEST

SUITE_MAIN("bench_plan", test_right_plans_pass, test_wrong_weights_are_found, test_the_images_depend_on_the_seed_alone,
           test_as_many_runs_as_asked, test_the_median)
