/* The check of the benchmark: right plans pass, a plan that computes with another weight doesn't. */
#include <check.h>
#include <string.h>

#include "cli/bench_plan.h"
#include "cli/bench_time.h"
#include "support/suite.h"

static Backend *backend, *reference;

static void open_backends(void)
{
    BackendOptions options = {.threads = 2};
    ck_assert_int_eq(backend_open("cpu", &options, &backend, NULL), STATUS_OK);
    ck_assert_int_eq(backend_open("reference", NULL, &reference, NULL), STATUS_OK);
}

static void close_backends(void)
{
    backend_close(backend);
    backend_close(reference);
}

START_TEST(test_right_plans_pass)
{
    BenchWork work = {&soma_mnist, (BenchKind)_i, 5, 7};
    BenchPlan plan = {0};
    Error error = {0};
    double difference = -1;
    ck_assert_int_eq(bench_plan_open(&plan, backend, &work, false, &error), STATUS_OK);
    ck_assert_msg(bench_plan_check(&plan, reference, &difference, &error) == STATUS_OK, "%s", error.message);
    ck_assert(difference > 0 && difference < 1e-5);
    bench_plan_close(&plan);
}
END_TEST

/* One weight of 163,840 is wrong by a hundredth of its usual size. */
START_TEST(test_a_wrong_weight_is_found)
{
    BenchWork work = {&soma_mnist, (BenchKind)_i, 5, 7};
    BenchPlan plan = {0};
    Error error = {0};
    double difference;
    float weights[512 * 512];
    ck_assert_int_eq(bench_plan_open(&plan, backend, &work, false, &error), STATUS_OK);
    int index = variables_find(plan.variables, "hidden_layer2.weight");
    ck_assert_int_eq(variables_read(plan.variables, index, weights, sizeof weights, NULL), STATUS_OK);
    for (int i = 0; i < 512; i++)
        weights[i * 512] += 0.005f;
    ck_assert_int_eq(variables_write(plan.variables, index, weights, sizeof weights, NULL), STATUS_OK);
    ck_assert_int_eq(plan_refresh(plan.plan, &error), STATUS_OK);
    ck_assert_int_eq(bench_plan_check(&plan, reference, &difference, &error), STATUS_INTERNAL);
    ck_assert_ptr_nonnull(strstr(error.message, "wrong result"));
    bench_plan_close(&plan);
}
END_TEST

START_TEST(test_the_inputs_depend_on_the_seed_alone)
{
    float first[3] = {0};
    for (int i = 0; i < 3; i++) {
        BenchWork work = {&soma_mnist, BENCH_INFERENCE, 2, i < 2 ? 7 : 8};
        BenchPlan plan = {0};
        ck_assert_int_eq(bench_plan_open(&plan, backend, &work, false, NULL), STATUS_OK);
        first[i] = *(const float *)plan_input(plan.plan, "image").data;
        bench_plan_close(&plan);
    }
    ck_assert(first[0] == first[1] && first[0] != first[2]);
}
END_TEST

START_TEST(test_as_many_runs_as_asked)
{
    BenchWork work = {&soma_mnist, BENCH_INFERENCE, 1, 0};
    BenchPlan plan = {0};
    BenchTime time = {0};
    ck_assert_int_eq(bench_plan_open(&plan, backend, &work, false, NULL), STATUS_OK);
    ck_assert_int_eq(bench_time(&plan, 4, &time, NULL), STATUS_OK);
    ck_assert_int_eq(time.runs, 4);
    ck_assert(time.least > 0 && time.least <= time.median);
    bench_plan_close(&plan);
}
END_TEST

START_TEST(test_median)
{
    ck_assert(bench_median((double[]){3}, 1) == 3);
    ck_assert(bench_median((double[]){9, 1, 5}, 3) == 5);
    ck_assert(bench_median((double[]){9, 1, 5, 2}, 4) == 3.5);
}
END_TEST
