/* Every other backend against the reference, in float, at all shapes of the cases and with 1, 2 and 3 threads. A real
 * output may differ by 1e-5 of its norm; integers not at all. Says which implementation failed. */
#include <stdio.h>
#include <string.h>

#include "ops/harness.h"
#include "support/suite.h"

enum { MAX_THREADS = 3 };

static const double TOLERANCE = 1e-5;
static const char *const others[] = {"cpu"};

static bool is_available(const char *device)
{
    Backend *backend = NULL;
    Error error = {0};
    const Status status = backend_open(device, &(BackendOptions){.threads = 1}, &backend, &error);
    if (status != STATUS_OK) printf("skipping device %s: %s\n", device, error.message);
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

static int compare_case(const char *device, const OperationCase *test)
{
    CaseGraph built = case_graph(test, DTYPE_F32);
    Harness reference = harness_open("reference", 1, built.graph, 0);
    harness_fill(&reference, test);
    harness_run(&reference);
    int failures = 0;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        Harness other = harness_open(device, threads, built.graph, 0);
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

START_TEST(every_backend_agrees_with_the_reference)
{
    int failures = 0;
    for (size_t d = 0; d < sizeof others / sizeof others[0]; d++) {
        if (!is_available(others[d])) continue;
        for (int i = 0; i < case_count(); i++)
            failures += compare_case(others[d], case_at(i));
    }
    fflush(stdout);
    ck_assert_int_eq(failures, 0);
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

SUITE_MAIN("backends", every_backend_agrees_with_the_reference, the_comparison_sees_differences)
