/* What backend.h promises of plans, on every device that this build has. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "graph/ops.h"
#include "graph/rewrite.h"
#include "ops/harness.h"

static const char *const devices[] = {"reference", "cpu"};

enum { DEVICE_COUNT = sizeof devices / sizeof devices[0] };

static bool has_device(int device)
{
    Backend *backend = NULL;
    const Status status = backend_open(devices[device], NULL, &backend, NULL);
    backend_close(backend);
    return status == STATUS_OK;
}

static float variable(const Harness *harness, const char *name)
{
    float value = 0;
    const int index = variables_find(harness->variables, name);
    ck_assert_int_ge(index, 0);
    ck_assert_int_eq(variables_read(harness->variables, index, &value, sizeof value, NULL), STATUS_OK);
    return value;
}

static void set_variable(const Harness *harness, const char *name, float value)
{
    const int index = variables_find(harness->variables, name);
    ck_assert_int_eq(variables_write(harness->variables, index, &value, sizeof value, NULL), STATUS_OK);
}

static Value scalar_state(Graph *graph, const char *name)
{
    return graph_state(graph, name, DTYPE_F32, shape_of(1), INITIALIZE_ZERO, 0);
}

static float output(const Harness *harness, const char *name)
{
    return *tensor_f32(&(Tensor){.data = harness_output(harness, name).data});
}

START_TEST(an_unknown_device_is_refused_with_those_there_are)
{
    Backend *backend = NULL;
    Error error = {0};
    ck_assert_int_eq(backend_open("abacus", NULL, &backend, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "abacus"));
    ck_assert_ptr_nonnull(strstr(error.message, "reference"));
}
END_TEST

START_TEST(a_backend_says_what_it_is)
{
    if (!has_device(_i)) return;
    Backend *backend = NULL;
    ck_assert_int_eq(backend_open(devices[_i], &(BackendOptions){.threads = 2}, &backend, NULL), STATUS_OK);
    ck_assert_str_eq(backend_name(backend), devices[_i]);
    ck_assert_int_eq(backend_threads(backend), 2);
    ck_assert_uint_gt(strlen(backend_description(backend)), 0);
    backend_close(backend);
    ck_assert_int_eq(backend_open(devices[_i], NULL, &backend, NULL), STATUS_OK);
    ck_assert_int_ge(backend_threads(backend), 1);
    backend_close(backend);
    Error error = {0};
    ck_assert_int_eq(backend_open(devices[_i], &(BackendOptions){.threads = -1}, &backend, &error),
                     STATUS_INVALID_ARGUMENT);
}
END_TEST

/* a <- b, b <- a, and c <- 2 a: every reader sees what the states held before the run. */
START_TEST(assignments_read_the_old_values)
{
    if (!has_device(_i)) return;
    Graph *graph = graph_create(DTYPE_F32, true);
    Value a = scalar_state(graph, "a"), b = scalar_state(graph, "b"), c = scalar_state(graph, "c");
    graph_assign(graph, a, b);
    graph_assign(graph, b, reshape(graph, a, shape_of(1)));
    graph_assign(graph, c, affine(graph, a, 2, 0));
    graph_output(graph, "old a", a);
    graph_output(graph, "b + c", add(graph, b, c));
    Harness harness = harness_open(devices[_i], 1, graph, 0);
    set_variable(&harness, "a", 3);
    set_variable(&harness, "b", 5);
    harness_run(&harness);
    ck_assert_float_eq(variable(&harness, "a"), 5);
    ck_assert_float_eq(variable(&harness, "b"), 3);
    ck_assert_float_eq(variable(&harness, "c"), 6);
    ck_assert_float_eq(output(&harness, "old a"), 3);
    ck_assert_float_eq(output(&harness, "b + c"), 5);
    harness_run(&harness);
    ck_assert_float_eq(variable(&harness, "a"), 3);
    ck_assert_float_eq(variable(&harness, "c"), 10);
    ck_assert_float_eq(output(&harness, "old a"), 5);
    ck_assert_float_eq(output(&harness, "b + c"), 9);
    harness_close(&harness);
    graph_destroy(graph);
}
END_TEST

/* A long chain reuses the arena's bytes; inputs, outputs and views of both must survive it, run after run. */
START_TEST(inputs_and_outputs_survive_the_run)
{
    if (!has_device(_i)) return;
    Graph *graph = graph_create(DTYPE_F32, true);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(4, 8)), y = x;
    graph_output(graph, "x again", reshape(graph, x, shape_of(32)));
    for (int i = 1; i <= 20; i++) {
        y = affine(graph, y, 1, 1);
        if (i == 5) graph_output(graph, "after 5", reshape(graph, y, shape_of(8, 4)));
    }
    graph_output(graph, "after 20", y);
    Harness harness = harness_open(devices[_i], 1, graph, 0);
    const Tensor input = harness_input(&harness, "x");
    for (int i = 0; i < 32; i++)
        tensor_f32(&input)[i] = (float)i;
    for (int run = 0; run < 2; run++) {
        harness_run(&harness);
        const Tensor same = harness_output(&harness, "x again"), five = harness_output(&harness, "after 5");
        const Tensor twenty = harness_output(&harness, "after 20");
        ck_assert(shape_equal(five.shape, shape_of(8, 4)));
        for (int i = 0; i < 32; i++) {
            ck_assert_float_eq(tensor_f32(&input)[i], (float)i);
            ck_assert_float_eq(tensor_f32(&same)[i], (float)i);
            ck_assert_float_eq(tensor_f32(&five)[i], (float)(i + 5));
            ck_assert_float_eq(tensor_f32(&twenty)[i], (float)(i + 20));
        }
    }
    harness_close(&harness);
    graph_destroy(graph);
}
END_TEST

START_TEST(the_arena_is_shared_and_limited)
{
    Graph *graph = graph_create(DTYPE_F32, true);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(1024)), y = x;
    for (int i = 0; i < 50; i++)
        y = affine(graph, y, 1, 1);
    graph_output(graph, "y", y);
    Harness harness = harness_open("reference", 1, graph, 0);
    ck_assert_uint_ge(plan_arena_bytes(harness.plan), 3 * 4096);
    ck_assert_uint_le(plan_arena_bytes(harness.plan), 5 * 4096);
    harness_close(&harness);

    Backend *backend = NULL;
    Variables *variables = NULL;
    Plan *plan = NULL;
    Error error = {0};
    ck_assert_int_eq(backend_open("reference", &(BackendOptions){.memory_limit = 4096}, &backend, NULL), STATUS_OK);
    ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);
    ck_assert_int_eq(plan_compile(backend, graph, variables, NULL, &plan, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "4096"));
    variables_destroy(variables);
    backend_close(backend);
    graph_destroy(graph);
}
END_TEST

/* y = weight x on a frozen plan, the weight being 2 at first and then 3: y before and after the refresh, for x = 10. */
static void run_frozen(const char *device, float *before, float *after)
{
    Graph *graph = graph_create(DTYPE_F32, false);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(1, 1));
    graph_output(graph, "y", linear(graph, x, "layer", .out = 1, .no_bias = true));
    Harness harness = harness_open(device, 1, graph, 0);
    Plan *frozen = NULL;
    const PlanOptions options = {.frozen = true};
    set_variable(&harness, "layer.weight", 2);
    ck_assert_int_eq(plan_compile(harness.backend, graph, harness.variables, &options, &frozen, NULL), STATUS_OK);
    const Tensor input = plan_input(frozen, "x"), result = plan_output(frozen, "y");
    *tensor_f32(&input) = 10;
    ck_assert_int_eq(plan_run(frozen, NULL), STATUS_OK);
    ck_assert_float_eq(*tensor_f32(&result), 20);
    set_variable(&harness, "layer.weight", 3);
    ck_assert_int_eq(plan_run(frozen, NULL), STATUS_OK);
    *before = *tensor_f32(&result);
    ck_assert_int_eq(plan_refresh(frozen, NULL), STATUS_OK);
    ck_assert_int_eq(plan_run(frozen, NULL), STATUS_OK);
    *after = *tensor_f32(&result);
    plan_destroy(frozen);
    harness_close(&harness);
    graph_destroy(graph);
}

START_TEST(a_frozen_plan_changes_when_refreshed)
{
    if (!has_device(_i)) return;
    float before, after;
    run_frozen(devices[_i], &before, &after);
    ck_assert_float_eq(after, 30);
}
END_TEST

/* What a frozen plan computes from variables that changed without a refresh is up to the driver; this one never reads
 * them. */
START_TEST(a_frozen_reference_plan_has_copies)
{
    float before, after;
    run_frozen("reference", &before, &after);
    ck_assert_float_eq(before, 20);
}
END_TEST

START_TEST(two_plans_share_variables)
{
    if (!has_device(_i)) return;
    Graph *write = graph_create(DTYPE_F32, true), *read = graph_create(DTYPE_F32, false);
    Value counter = scalar_state(write, "counter");
    graph_assign(write, counter, affine(write, counter, 1, 1));
    graph_output(read, "ten times", affine(read, scalar_state(read, "counter"), 10, 0));
    Harness harness = harness_open(devices[_i], 1, write, 0);
    Plan *reader = NULL;
    ck_assert_int_eq(plan_compile(harness.backend, read, harness.variables, NULL, &reader, NULL), STATUS_OK);
    const Tensor seen = plan_output(reader, "ten times");
    for (int i = 1; i <= 3; i++) {
        harness_run(&harness);
        ck_assert_int_eq(plan_run(reader, NULL), STATUS_OK);
        ck_assert_float_eq(*tensor_f32(&seen), (float)(10 * i));
    }
    plan_destroy(reader);
    harness_close(&harness);
    graph_destroy(write);
    graph_destroy(read);
}
END_TEST

START_TEST(a_label_out_of_range_is_named)
{
    if (!has_device(_i)) return;
    Graph *graph = graph_create(DTYPE_F32, true);
    Value logits = graph_input(graph, "logits", DTYPE_F32, shape_of(4, 10));
    Value labels = graph_input(graph, "labels", DTYPE_I32, shape_of(4));
    graph_output(graph, "loss", cross_entropy(graph, logits, labels));
    Harness harness = harness_open(devices[_i], 1, graph, 0);
    memset(harness_input(&harness, "logits").data, 0, 4 * 10 * sizeof(float));
    memcpy(harness_input(&harness, "labels").data, (int32_t[4]){9, -1, 17, 0}, 4 * sizeof(int32_t));
    Error error = {0};
    ck_assert_int_eq(plan_run(harness.plan, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "17"));
    ck_assert_ptr_nonnull(strstr(error.message, "row 2"));
    ck_assert_ptr_nonnull(strstr(error.message, "10"));
    harness_close(&harness);
    graph_destroy(graph);
}
END_TEST

START_TEST(steps_are_described_and_timed)
{
    if (!has_device(_i)) return;
    Graph *graph = graph_create(DTYPE_F32, false);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(8, 64));
    graph_output(graph, "y", flatten(graph, linear(graph, x, "layer", .out = 32), 1));
    Harness harness = harness_open(devices[_i], 1, graph, 0);
    Plan *plan = NULL;
    ck_assert_int_eq(
        plan_compile(harness.backend, graph, harness.variables, &(PlanOptions){.profile = true}, &plan, NULL),
        STATUS_OK);
    int linears = 0;
    ck_assert_int_eq(plan_run(plan, NULL), STATUS_OK);
    for (int i = 0; i < plan_step_count(plan); i++) {
        const PlanStep step = plan_step(plan, i);
        ck_assert_uint_gt(strlen(step.implementation), 0);
        if (strcmp(step.operation, "linear") != 0) continue;
        linears++;
        ck_assert_str_eq(step.layer, "layer");
        ck_assert(shape_equal(step.shape, shape_of(8, 32)));
        ck_assert_int_eq(step.dtype, DTYPE_F32);
        ck_assert_int_eq(step.phase, PHASE_FORWARD);
        ck_assert_double_eq(step.flops, 2.0 * 8 * 64 * 32);
        ck_assert_double_gt(step.seconds, 0);
    }
    ck_assert_int_eq(linears, 1);
    plan_profile_reset(plan);
    for (int i = 0; i < plan_step_count(plan); i++)
        ck_assert_double_eq(plan_step(plan, i).seconds, 0);
    plan_destroy(plan);
    harness_close(&harness);
    graph_destroy(graph);
}
END_TEST

/* The first mistake of a graph, states that nobody declared or declared otherwise, and a frozen plan that assigns. */
START_TEST(graphs_that_cannot_run_are_refused)
{
    if (!has_device(_i)) return;
    Backend *backend = NULL;
    Variables *variables = NULL;
    Plan *plan = NULL;
    Error error = {0};
    ck_assert_int_eq(backend_open(devices[_i], NULL, &backend, NULL), STATUS_OK);
    ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);

    Graph *wrong = graph_create(DTYPE_F32, true);
    Value x = graph_input(wrong, "left", DTYPE_F32, shape_of(3));
    graph_output(wrong, "y", add(wrong, x, graph_input(wrong, "right", DTYPE_F32, shape_of(4))));
    ck_assert_int_ne(plan_compile(backend, wrong, variables, NULL, &plan, &error), STATUS_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "left"));
    graph_destroy(wrong);

    Graph *counting = graph_create(DTYPE_F32, true);
    Value counter = scalar_state(counting, "counter");
    graph_assign(counting, counter, affine(counting, counter, 1, 1));
    ck_assert_int_eq(plan_compile(backend, counting, variables, NULL, &plan, &error), STATUS_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, "counter"));
    ck_assert_int_eq(variables_declare(variables, counting, 1, NULL), STATUS_OK);
    ck_assert_int_eq(plan_compile(backend, counting, variables, &(PlanOptions){.frozen = true}, &plan, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "counter"));
    graph_destroy(counting);
    variables_destroy(variables);
    backend_close(backend);
}
END_TEST

START_TEST(names_that_do_not_exist_have_no_data)
{
    if (!has_device(_i)) return;
    Graph *graph = graph_create(DTYPE_F32, true);
    graph_output(graph, "y", affine(graph, graph_input(graph, "x", DTYPE_F32, shape_of(3)), 1, 1));
    Harness harness = harness_open(devices[_i], 1, graph, 0);
    ck_assert_ptr_null(plan_input(harness.plan, "y").data);
    ck_assert_ptr_null(plan_output(harness.plan, "x").data);
    harness_close(&harness);
    graph_destroy(graph);
}
END_TEST

int main(void)
{
    const TTest *const each_device[] = {
        a_backend_says_what_it_is,
        assignments_read_the_old_values,
        inputs_and_outputs_survive_the_run,
        a_frozen_plan_changes_when_refreshed,
        two_plans_share_variables,
        a_label_out_of_range_is_named,
        steps_are_described_and_timed,
        graphs_that_cannot_run_are_refused,
        names_that_do_not_exist_have_no_data,
    };
    Suite *suite = suite_create("plan");
    TCase *test_case = tcase_create("plan");
    tcase_set_timeout(test_case, 60);
    tcase_add_test(test_case, an_unknown_device_is_refused_with_those_there_are);
    tcase_add_test(test_case, the_arena_is_shared_and_limited);
    tcase_add_test(test_case, a_frozen_reference_plan_has_copies);
    for (size_t i = 0; i < sizeof each_device / sizeof each_device[0]; i++)
        tcase_add_loop_test(test_case, each_device[i], 0, DEVICE_COUNT);
    suite_add_tcase(suite, test_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
