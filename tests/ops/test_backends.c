/* Every other backend against the reference, in float, at all shapes of the cases and with 1, 2 and 3 threads. A real
 * output may differ by 1e-5 of its norm; integers not at all. Says which implementation failed. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "graph/rewrite.h"
#include "ops/network.h"

enum { MAX_THREADS = 3 };

static const double TOLERANCE = 1e-5;
static const struct Other {
    const char *device;
    int threads; /* at most so many are tried */
} others[] = {{"cpu", MAX_THREADS}, {"sim", 1}, {"cuda", 1}};

static bool is_available(const char *device)
{
    Backend *backend = NULL;
    Error error = {0};
    const Status status = backend_open(device, &(BackendOptions){.threads = 1}, &backend, &error);
    if (status != STATUS_OK) printf("skipped: %s\n", error.message);
    backend_close(backend);
    return status == STATUS_OK;
}

/* Returns how many outputs differ, and prints a line for each. */
static int compare_outputs(const Harness *reference, const Harness *other, const OperationCase *test, int threads)
{
    char label[CASE_LABEL_SIZE], name[32], shape[SHAPE_TEXT_SIZE];
    int failures = 0;
    for (int k = 0; k < operation_of(test->operation)->outputs; k++) {
        snprintf(name, sizeof name, "output%d", k);
        const Tensor expected = harness_output(reference, name), found = harness_output(other, name);
        const double difference = relative_difference(&found, &expected);
        if (difference <= TOLERANCE) continue;
        const char *implementation =
            plan_step_count(other->plan) > 0 ? plan_step(other->plan, 0).implementation : "view";
        printf("%s %s (%s, %s, %d threads) differs by %g of its norm from the reference, allowed is %g\n",
               case_label(test, label), name, shape_text(expected.shape, shape), implementation, threads, difference,
               TOLERANCE);
        failures++;
    }
    return failures;
}

static int compare_case(const struct Other *device, const OperationCase *test)
{
    CaseGraph built = case_graph(test, DTYPE_F32);
    Harness reference = harness_open("reference", 1, built.graph, 0);
    harness_fill(&reference, test);
    harness_run(&reference);
    int failures = 0;
    for (int threads = 1; threads <= device->threads; threads++) {
        Harness other = harness_open(device->device, threads, built.graph, 0);
        for (int run = 0; run < 2; run++) { /* the second run meets what the first one left behind */
            harness_fill(&other, test);
            harness_run(&other);
            failures += compare_outputs(&reference, &other, test, threads);
        }
        harness_close(&other);
    }
    harness_close(&reference);
    graph_destroy(built.graph);
    return failures;
}

/* One case (number _i): each in a process of its own, so that all failures are seen. */
START_TEST(every_backend_agrees_with_the_reference)
{
    int failures = 0;
    for (size_t d = 0; d < sizeof others / sizeof others[0]; d++)
        if (is_available(others[d].device)) failures += compare_case(&others[d], case_at(_i));
    fflush(stdout);
    ck_assert_int_eq(failures, 0);
}
END_TEST

/* Whole training steps, with and without rewrites: outputs of each and all variables after the last. A batch of 21
 * leaves a remainder for every vector and thread. */
static void compare_training(const char *device, int batch, int threads, unsigned rewrites)
{
    Graph *graph = network_graph(DTYPE_F32, true, batch);
    Harness reference = harness_open("reference", 1, graph, 0), other = harness_open(device, threads, graph, rewrites);
    network_fill(&reference, graph);
    network_fill(&other, graph);
    for (int step = 0; step < 3; step++) {
        *(float *)harness_input(&reference, "lr").data = *(float *)harness_input(&other, "lr").data = 0.05f;
        ((int64_t *)harness_input(&reference, "random").data)[1] = step;
        ((int64_t *)harness_input(&other, "random").data)[1] = step;
        harness_run(&reference);
        harness_run(&other);
        for (int i = 0; i < graph_output_count(graph); i++) {
            const char *name = graph_output_name(graph, i);
            const Tensor expected = harness_output(&reference, name), found = harness_output(&other, name);
            const double difference = relative_difference(&found, &expected);
            ck_assert_msg(difference <= TOLERANCE, "%s of step %d differs by %g (batch %d, %d threads, rewrites %u)",
                          name, step, difference, batch, threads, rewrites);
        }
    }
    ck_assert_double_le(network_variables_difference(&other, &reference), TOLERANCE);
    harness_close(&reference);
    harness_close(&other);
    graph_destroy(graph);
}

START_TEST(training_agrees_with_the_reference)
{
    const int batches[] = {1, 2, 21, 64};
    for (size_t d = 0; d < sizeof others / sizeof others[0]; d++) {
        if (!is_available(others[d].device)) continue;
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
            for (int threads = 1; threads <= others[d].threads; threads++) {
                compare_training(others[d].device, batches[b], threads, 0);
                compare_training(others[d].device, batches[b], threads, REWRITE_ALL);
            }
    }
}
END_TEST

/* What the comparison rests on: it must see a difference when there is one. */
START_TEST(the_comparison_sees_differences)
{
    float a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 4.001f}, c[4] = {1, 2, 3, 0};
    uint8_t i[2] = {1, 2}, j[2] = {1, 3};
    memset(&c[3], 0xff, sizeof c[3]); /* NaN */
    const Tensor ta = tensor_view(DTYPE_F32, shape_of(4), a), tb = tensor_view(DTYPE_F32, shape_of(4), b);
    const Tensor tc = tensor_view(DTYPE_F32, shape_of(4), c), square = tensor_view(DTYPE_F32, shape_of(2, 2), a);
    const Tensor ti = tensor_view(DTYPE_U8, shape_of(2), i), tj = tensor_view(DTYPE_U8, shape_of(2), j);
    ck_assert_double_eq(relative_difference(&ta, &ta), 0);
    ck_assert_double_eq(relative_difference(&tc, &tc), 0);
    ck_assert_double_gt(relative_difference(&ta, &tb), 1e-5);
    ck_assert_double_gt(relative_difference(&ta, &tc), 1);
    ck_assert_double_gt(relative_difference(&tc, &ta), 1);
    ck_assert_double_gt(relative_difference(&ti, &tj), 1);
    ck_assert_double_gt(relative_difference(&ta, &square), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backends");
    TCase *test_case = tcase_create("backends");
    tcase_set_timeout(test_case, 300); /* the sanitizers are slow */
    tcase_add_test(test_case, the_comparison_sees_differences);
    tcase_add_test(test_case, training_agrees_with_the_reference);
    tcase_add_loop_test(test_case, every_backend_agrees_with_the_reference, 0, case_count());
    suite_add_tcase(suite, test_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
