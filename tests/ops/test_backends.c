/* Every other backend against the reference, at all shapes of the cases: cpu with 1, 2 and 3 threads, the CUDA backend
 * in each of its precisions. Inputs are rounded to the precision first, so that only what the backend rounds itself
 * differs. Says which implementation failed. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/rewrite.h"
#include "ops/network.h"

enum { MAX_THREADS = 3 };

static const struct Other {
    const char *device;
    Precision precision;
    int threads; /* at most so many are tried */
} others[] = {
    {"cpu", PRECISION_F32, MAX_THREADS}, {"sim", PRECISION_F32, 1},   {"sim", PRECISION_TF32, 1},
    {"sim", PRECISION_BF16, 1},          {"sim", PRECISION_F16, 1},   {"cuda", PRECISION_F32, 1},
    {"cuda", PRECISION_TF32, 1},         {"cuda", PRECISION_BF16, 1}, {"cuda", PRECISION_F16, 1},
};

/* By how much of its norm an output may differ, where u is the largest relative error of a rounding.
 *
 * f32, tf32  1e-5: u = 2^-24, in another order of summation. A product of two rounded tf32 numbers is exact in f32.
 * bf16       2 u = 2^-8: sums are in f32; what is kept is rounded once, and twice where a step keeps a result between
 * (a convolution before its pool). f16        2 u = 2^-11, the same; and half of F16_STEP an element, which its
 * smallest numbers are apart.
 *
 * Whatever stays f32 has f32's: scalars, losses, gradients of linear layers' parameters, updates; rounded inputs
 * multiply exactly. (Gradients of filters are rounded where cuDNN can't leave them in float.) */
static const double tolerances[PRECISION_COUNT] = {1e-5, 1e-5, 1.0 / 256, 1.0 / 2048};
static const double F16_STEP = 1.0 / (1 << 24);

/* A convolution's results are rounded before its pool, so values that were different may tie, and then the first wins:
 * the share of indices that may differ. The cases' results are multiples of 1/64, of which bf16 has all up to 4 and
 * every second up to 8, and those of a window lie some hundred apart; f16 has all. */
static const double ties[PRECISION_COUNT] = {0, 0, 0.005, 0};

/* Whole training steps: logits and losses; the norm of all gradients; and variables in the end. Five layers, each of
 * which rounds weights and results, give logits an error of some 6 u. Gradients err by the square root of such an
 * error, sqrt(2^-9) and sqrt(2^-6), since so large a share of the values falls on the other side of a relu or max_pool
 * (few rows: by chance even more); momenta are gradients, and their norm is a sum of many. */
static const struct StepTolerance {
    double values, norm, variables;
} step_tolerances[PRECISION_COUNT] = {{1e-5, 1e-5, 1e-5}, {4e-3, 0.05, 0.25}, {2e-2, 0.1, 0.4}, {4e-3, 0.05, 0.25}};

static double allowed_difference(Precision precision, const Tensor *expected)
{
    double norm = 0;
    const int64_t count = shape_count(expected->shape);
    if (precision != PRECISION_F16) return tolerances[precision];
    for (int64_t i = 0; i < count; i++)
        if (isfinite(element_get(expected, i))) norm += element_get(expected, i) * element_get(expected, i);
    return tolerances[precision] + (norm > 0 ? F16_STEP / 2 * sqrt((double)count / norm) : 0);
}

static bool stays_f32(OperationKind operation, Shape output)
{
    return output.rank == 0 || operation == OP_LINEAR_GRAD_PARAMETERS || operation == OP_SCALE_BY ||
           operation == OP_SGD;
}

/* The share of the elements that differ. */
static double share_of_differences(const Tensor *a, const Tensor *b)
{
    int64_t different = 0;
    const int64_t count = shape_count(b->shape);
    for (int64_t i = 0; i < count; i++)
        different += element_get(a, i) != element_get(b, i);
    return count > 0 ? (double)different / (double)count : 0;
}

/* Returns how many outputs differ, and prints a line for each. */
static int compare_outputs(const Harness *reference, const Harness *other, const OperationCase *test, int threads)
{
    const Precision precision = backend_precision(other->backend);
    char label[CASE_LABEL_SIZE], name[32], shape[SHAPE_TEXT_SIZE];
    int failures = 0;
    for (int k = 0; k < operation_of(test->operation)->outputs; k++) {
        snprintf(name, sizeof name, "output%d", k);
        const Tensor expected = harness_output(reference, name), found = harness_output(other, name);
        const bool exact = stays_f32(test->operation, expected.shape);
        double allowed = exact ? tolerances[PRECISION_F32] : allowed_difference(precision, &expected);
        double difference = relative_difference(&found, &expected);
        if (expected.dtype == DTYPE_U8 && test->operation == OP_CONV2D_POOL) {
            allowed = ties[precision];
            difference = share_of_differences(&found, &expected);
        }
        if (difference <= allowed) continue;
        const char *implementation =
            plan_step_count(other->plan) > 0 ? plan_step(other->plan, 0).implementation : "view";
        printf("%s %s (%s, %s, %s, %d threads) differs by %g of its norm from the reference, allowed is %g\n",
               case_label(test, label), name, shape_text(expected.shape, shape), implementation,
               precision_name(precision), threads, difference, allowed);
        failures++;
    }
    return failures;
}

static void fill(Harness *harness, const OperationCase *test, Precision precision)
{
    harness_fill(harness, test);
    for (int i = 0; i < case_input_count(test); i++) {
        char name[32];
        snprintf(name, sizeof name, "input%d", i);
        if (test->inputs[i].fill == FILL_ABSENT) continue;
        const Tensor input = harness_input(harness, name);
        round_values(&input, precision);
    }
}

static int compare_case(const struct Other *device, const OperationCase *test)
{
    CaseGraph built = case_graph(test, DTYPE_F32);
    Harness reference = harness_open("reference", 1, built.graph, 0);
    fill(&reference, test, device->precision);
    harness_run(&reference);
    int failures = 0;
    for (int threads = 1; threads <= device->threads; threads++) {
        Harness other = harness_open_in(device->precision, device->device, threads, built.graph, 0);
        for (int run = 0; run < 2; run++) { /* the second run meets what the first one left behind */
            fill(&other, test, device->precision);
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
        if (harness_available(others[d].device, others[d].precision)) failures += compare_case(&others[d], case_at(_i));
    fflush(stdout);
    ck_assert_int_eq(failures, 0);
}
END_TEST

/* Whole training steps, with and without rewrites: outputs of each and all variables after the last. A batch of 21
 * leaves a remainder for every vector and thread. */
static void compare_training(const struct Other *device, int batch, int threads, unsigned rewrites)
{
    Graph *graph = network_graph(DTYPE_F32, true, batch);
    Harness reference = harness_open("reference", 1, graph, 0);
    Harness other = harness_open_in(device->precision, device->device, threads, graph, rewrites);
    const struct StepTolerance *tolerance = &step_tolerances[device->precision];
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
            const double allowed = strcmp(name, "norm") == 0 ? tolerance->norm : tolerance->values;
            ck_assert_msg(difference <= allowed, "%s of step %d differs by %g (batch %d, %s, %d threads, rewrites %u)",
                          name, step, difference, batch, precision_name(device->precision), threads, rewrites);
        }
    }
    ck_assert_double_le(network_variables_difference(&other, &reference), tolerance->variables);
    harness_close(&reference);
    harness_close(&other);
    graph_destroy(graph);
}

START_TEST(training_agrees_with_the_reference)
{
    const int batches[] = {1, 2, 21, 64};
    for (size_t d = 0; d < sizeof others / sizeof others[0]; d++) {
        if (!harness_available(others[d].device, others[d].precision)) continue;
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
            for (int threads = 1; threads <= others[d].threads; threads++) {
                compare_training(&others[d], batches[b], threads, 0);
                compare_training(&others[d], batches[b], threads, REWRITE_ALL);
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
