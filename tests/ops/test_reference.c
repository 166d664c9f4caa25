/* The reference loops against values that PyTorch computed (golden.safetensors, by make_golden.py), and against their
 * definitions where PyTorch has no such operation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "graph/ops.h"
#include "ops/harness.h"
#include "support/suite.h"
#include "tensor/safetensors.h"

/* --- golden values --- */

/* The golden tensor "<label>.<kind><index>" (index -1: none); NULL when the file has none. */
static const Tensor *golden(const Safetensors *file, const char *label, const char *kind, int index)
{
    char name[2 * CASE_LABEL_SIZE];
    if (index < 0)
        snprintf(name, sizeof name, "%s.%s", label, kind);
    else
        snprintf(name, sizeof name, "%s.%s%d", label, kind, index);
    return safetensors_find(file, name);
}

static void copy_values(const Tensor *from, const Tensor *to)
{
    ck_assert(shape_equal(from->shape, to->shape));
    for (int64_t i = 0, count = shape_count(to->shape); i < count; i++)
        element_set(to, i, element_get(from, i));
}

static void compare(const Harness *harness, const Safetensors *file, const char *label, const char *kind, int index,
                    double tolerance)
{
    char name[32];
    snprintf(name, sizeof name, "%s%d", kind, index);
    const Tensor *expected = golden(file, label, kind, index);
    if (expected == NULL) return;
    const Tensor found = harness_output(harness, name);
    const double difference = relative_difference_of_values(&found, expected);
    ck_assert_msg(difference <= tolerance, "%s: %s differs by %g of its norm from PyTorch's, allowed is %g", label,
                  name, difference, tolerance);
}

/* Runs a case on the golden inputs and compares outputs and gradients. False when the file doesn't have it. */
static bool check_golden(const Safetensors *file, const OperationCase *test, DType real, double tolerance)
{
    char label[CASE_LABEL_SIZE], name[32];
    case_label(test, label);
    if (golden(file, label, "input", 0) == NULL) return false;
    CaseGraph built = case_graph(test, real);
    const Tensor *seed = golden(file, label, "seed", -1);
    if (seed != NULL) {
        Value seeds = graph_input(built.graph, "seed", real, graph_shape(built.graph, built.outputs[0]));
        Value gradients[CASE_MAX_INPUTS];
        graph_gradient(built.graph, built.outputs, &seeds, 1, built.inputs, built.input_count, gradients);
        for (int i = 0; i < built.input_count; i++) {
            ck_assert_msg(value_exists(gradients[i]) == (golden(file, label, "gradient", i) != NULL),
                          "%s: only one side has a gradient of input %d", label, i);
            snprintf(name, sizeof name, "gradient%d", i);
            graph_output(built.graph, name, gradients[i]);
        }
    }
    Harness harness = harness_open("reference", 1, built.graph, 0);
    for (int i = 0; i < built.input_count; i++) {
        const Tensor *values = golden(file, label, "input", i);
        if (values == NULL) continue;
        snprintf(name, sizeof name, "input%d", i);
        const Tensor input = harness_input(&harness, name);
        copy_values(values, &input);
    }
    if (seed != NULL) {
        const Tensor input = harness_input(&harness, "seed");
        copy_values(seed, &input);
    }
    harness_run(&harness);
    for (int i = 0; i < built.output_count; i++)
        compare(&harness, file, label, "output", i, tolerance);
    for (int i = 0; i < built.input_count; i++)
        compare(&harness, file, label, "gradient", i, tolerance);
    harness_close(&harness);
    graph_destroy(built.graph);
    return true;
}

static void check_all_golden(DType real, double tolerance)
{
    Safetensors *file = NULL;
    Error error = {0};
    ck_assert_msg(safetensors_open(TEST_SOURCE_DIR "/ops/golden.safetensors", &file, &error) == STATUS_OK, "%s",
                  error.message);
    int checked = 0, recorded = 0;
    for (int i = 0; i < case_count(); i++)
        checked += check_golden(file, case_at(i), real, tolerance);
    for (size_t i = 0; i < safetensors_count(file); i++)
        recorded += strstr(safetensors_name(file, i), ".input0") != NULL;
    ck_assert_int_eq(checked, recorded); /* no golden case has lost its twin in cases.c */
    ck_assert_int_gt(checked, 30);
    safetensors_close(file);
}

START_TEST(double_loops_agree_with_pytorch)
{
    check_all_golden(DTYPE_F64, 1e-13);
}
END_TEST

START_TEST(float_loops_agree_with_pytorch)
{
    check_all_golden(DTYPE_F32, 1e-6);
}
END_TEST

/* --- definitions --- */

/* Runs a case in double on values given one after the other and returns its harness. */
static Harness run_case(const OperationCase *test, Graph **graph)
{
    CaseGraph built = case_graph(test, DTYPE_F64);
    Harness harness = harness_open("reference", 1, built.graph, 0);
    harness_fill(&harness, test);
    harness_run(&harness);
    *graph = built.graph;
    return harness;
}

static void close_case(Harness *harness, Graph *graph)
{
    harness_close(harness);
    graph_destroy(graph);
}

/* y = x / (1 - p) where the mask's word is at least p 2^32, else 0, with one word for `group` elements. */
static void check_dropout(const char *label, uint64_t group)
{
    const OperationCase *test = case_find(label);
    Graph *graph;
    Harness harness = run_case(test, &graph);
    const Tensor x = harness_input(&harness, "input0"), random = harness_input(&harness, "input1");
    const Tensor y = harness_output(&harness, "output0");
    const int64_t *seed = random.data;
    const double p = test->attributes.dropout.probability;
    for (int64_t i = 0; i < shape_count(x.shape); i++) {
        const uint32_t word =
            rng_mask_word((uint64_t)seed[0], (uint64_t)seed[1], test->attributes.dropout.layer, (uint64_t)i / group);
        const double expected = (double)word >= p * 4294967296.0 ? element_get(&x, i) * (1 / (1 - p)) : 0;
        ck_assert_double_eq(element_get(&y, i), expected);
    }
    close_case(&harness, graph);
}

START_TEST(dropout_draws_a_word_for_each_element)
{
    check_dropout("dropout/small", 1);
    check_dropout("dropout/never", 1);
}
END_TEST

START_TEST(dropout2d_draws_a_word_for_each_channel)
{
    check_dropout("dropout/channels", 2 * 3);
    check_dropout("dropout/matrix channels", 1);
    check_dropout("dropout/mnist", 8 * 8);
}
END_TEST

/* Of n = 2^16 elements dropped with probability p, the share is p within five standard deviations, and another step
 * drops others. */
START_TEST(dropout_drops_its_share)
{
    const int64_t count = 1 << 16;
    const double p = 0.3;
    Graph *graph = graph_create(DTYPE_F32, true);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(256, 256));
    graph_output(graph, "y", dropout(graph, x, p));
    Harness harness = harness_open("reference", 1, graph, 0);
    const Tensor input = harness_input(&harness, "x"), random = harness_input(&harness, "random");
    const Tensor output = harness_output(&harness, "y");
    for (int64_t i = 0; i < count; i++)
        element_set(&input, i, 1);
    int dropped[2] = {0}, both = 0;
    uint8_t first[1 << 16];
    for (int step = 0; step < 2; step++) {
        ((int64_t *)random.data)[0] = 5;
        ((int64_t *)random.data)[1] = step;
        harness_run(&harness);
        for (int64_t i = 0; i < count; i++) {
            const uint8_t gone = element_get(&output, i) == 0;
            dropped[step] += gone;
            both += step == 1 && gone && first[i];
            if (step == 0) first[i] = gone;
        }
        ck_assert_double_le(fabs(dropped[step] - p * (double)count), 5 * sqrt((double)count * p * (1 - p)));
    }
    ck_assert_double_le(fabs(both - p * p * (double)count), 5 * sqrt((double)count * p * p * (1 - p * p)));
    close_case(&harness, graph);
}
END_TEST

START_TEST(relu_keeps_nan)
{
    Graph *graph;
    Harness harness = run_case(case_find("relu/nan"), &graph);
    const Tensor y = harness_output(&harness, "output0");
    for (int64_t i = 0; i < shape_count(y.shape); i++)
        ck_assert_int_eq(isnan(element_get(&y, i)), i % 7 == 0);
    close_case(&harness, graph);
}
END_TEST

/* gelu and its slope far from 0, where formulas multiply 0 by infinity, and NaN. */
static void check_gelu_limits(GeluForm form)
{
    const struct {
        double x, y, slope;
    } expected[] = {{-INFINITY, 0, 0}, {-1e300, 0, 0},          {-60, 0, 0},    {0, 0, 0.5}, {60, 60, 1},
                    {1e300, 1e300, 1}, {INFINITY, INFINITY, 1}, {NAN, NAN, NAN}};
    enum { COUNT = sizeof expected / sizeof expected[0] };
    Graph *graph = graph_create(DTYPE_F64, true);
    Value x = graph_input(graph, "x", DTYPE_F64, shape_of(COUNT)), y = gelu(graph, x, form), slope;
    Value seed = graph_input(graph, "seed", DTYPE_F64, shape_of(COUNT));
    graph_gradient(graph, &y, &seed, 1, &x, 1, &slope);
    graph_output(graph, "y", y);
    graph_output(graph, "slope", slope);
    Harness harness = harness_open("reference", 1, graph, 0);
    double *in = harness_input(&harness, "x").data, *seeds = harness_input(&harness, "seed").data;
    for (int i = 0; i < COUNT; i++) {
        in[i] = expected[i].x;
        seeds[i] = 1;
    }
    harness_run(&harness);
    const double *values = harness_output(&harness, "y").data, *slopes = harness_output(&harness, "slope").data;
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(isnan(values[i]) && isnan(slopes[i]), isnan(expected[i].x));
        if (isnan(expected[i].x)) continue;
        ck_assert(values[i] == expected[i].y || fabs(values[i] - expected[i].y) < 1e-12);
        ck_assert_double_le(fabs(slopes[i] - expected[i].slope), 1e-12);
    }
    close_case(&harness, graph);
}

START_TEST(gelu_has_its_limits)
{
    check_gelu_limits(GELU_EXACT);
    check_gelu_limits(GELU_TANH);
}
END_TEST

/* Every seventh element is NaN: windows that hold one have it as their maximum, and those with several the last. */
START_TEST(max_pool_lets_nan_win)
{
    Graph *graph;
    Harness harness = run_case(case_find("max_pool2d/nan"), &graph);
    const Tensor x = harness_input(&harness, "input0"), y = harness_output(&harness, "output0");
    const Tensor index = harness_output(&harness, "output1");
    const int64_t rows = x.shape.dims[2], columns = x.shape.dims[3];
    int nans = 0;
    for (int64_t i = 0; i < shape_count(y.shape); i++) {
        const int64_t plane = i / ((rows / 2) * (columns / 2)), rest = i % ((rows / 2) * (columns / 2));
        const int64_t corner = plane * rows * columns + rest / (columns / 2) * 2 * columns + rest % (columns / 2) * 2;
        int last = -1;
        for (int k = 0; k < 4; k++)
            if (isnan(element_get(&x, corner + k / 2 * columns + k % 2))) last = k;
        ck_assert_int_eq(isnan(element_get(&y, i)), last >= 0);
        if (last >= 0) ck_assert_int_eq((int)element_get(&index, i), last);
        nans += last >= 0;
    }
    ck_assert_int_gt(nans, 5);
    close_case(&harness, graph);
}
END_TEST

/* Multiples of 1/8 tie often: the index is that of the first of them. */
START_TEST(max_pool_takes_the_first_of_equals)
{
    Graph *graph;
    Harness harness = run_case(case_find("max_pool2d/ties"), &graph);
    const Tensor x = harness_input(&harness, "input0"), index = harness_output(&harness, "output1");
    const int64_t columns = x.shape.dims[3];
    int ties = 0;
    for (int64_t i = 0; i < shape_count(index.shape); i++) {
        const int64_t corner = i / (columns / 2) * 2 * columns + i % (columns / 2) * 2; /* planes have even rows */
        const int place = (int)element_get(&index, i);
        const double best = element_get(&x, corner + place / 2 * columns + place % 2);
        for (int k = 0; k < 4; k++) {
            const double other = element_get(&x, corner + k / 2 * columns + k % 2);
            ck_assert(k < place ? other < best : other <= best);
            ties += k > place && other == best;
        }
    }
    ck_assert_int_gt(ties, 5);
    close_case(&harness, graph);
}
END_TEST

START_TEST(dropout_drops_nan)
{
    Graph *graph;
    Harness harness = run_case(case_find("dropout/nan"), &graph);
    const Tensor y = harness_output(&harness, "output0");
    int kept = 0, dropped = 0;
    for (int64_t i = 0; i < shape_count(y.shape); i += 7) { /* where x is NaN */
        kept += isnan(element_get(&y, i));
        dropped += element_get(&y, i) == 0;
    }
    ck_assert_int_eq(kept + dropped, (shape_count(y.shape) + 6) / 7);
    ck_assert_int_gt(kept, 0);
    ck_assert_int_gt(dropped, 0);
    close_case(&harness, graph);
}
END_TEST

START_TEST(a_scale_of_zero_ignores_nan)
{
    Graph *graph;
    Harness harness = run_case(case_find("add_scaled/off"), &graph);
    const Tensor a = harness_input(&harness, "input0"), y = harness_output(&harness, "output0");
    ck_assert_double_eq(relative_difference(&y, &a), 0);
    close_case(&harness, graph);
}
END_TEST

START_TEST(clip_factor_limits_the_norm)
{
    Graph *graph;
    Harness harness = run_case(case_find("clip_factor/above"), &graph); /* max_norm 1/8, scale 1 */
    const Tensor norm = harness_input(&harness, "input0"), factor = harness_output(&harness, "output0");
    const struct {
        double norm, factor;
    } expected[] = {{0, 1}, {0.1, 1}, {0.125, 1}, {0.25, 0.5}, {1, 0.125}, {INFINITY, 0}, {NAN, 0}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        element_set(&norm, 0, expected[i].norm);
        harness_run(&harness);
        ck_assert_double_eq(element_get(&factor, 0), expected[i].factor);
    }
    close_case(&harness, graph);
}
END_TEST

/* Every way that a step can end: fine, for so long that the scale doubles, at the largest scale, and not finite, at the
 * least scale as well. */
START_TEST(loss_scale_follows_the_norm)
{
    Graph *graph;
    Harness harness = run_case(case_find("loss_scale/good"), &graph);
    const Tensor norm = harness_input(&harness, "input0"), scale = harness_input(&harness, "input1");
    const Tensor good = harness_input(&harness, "input2"), unscale = harness_output(&harness, "output0");
    const Tensor next_scale = harness_output(&harness, "output1"), next_good = harness_output(&harness, "output2");
    const double most = LOSS_SCALE_MOST;
    const struct {
        double norm, scale, good, unscale, next_scale, next_good;
    } expected[] = {
        {0, 65536, 0, 1.0 / 65536, 65536, 1},
        {1e30, 65536, 1998, 1.0 / 65536, 65536, 1999},
        {3, 65536, 1999, 1.0 / 65536, 131072, 0},
        {3, most, 1999, 1 / most, most, 0},
        {INFINITY, 65536, 1999, 0, 32768, 0},
        {NAN, 4, 7, 0, 2, 0},
        {-INFINITY, 1, 0, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        element_set(&norm, 0, expected[i].norm);
        element_set(&scale, 0, expected[i].scale);
        element_set(&good, 0, expected[i].good);
        harness_run(&harness);
        ck_assert_double_eq(element_get(&unscale, 0), expected[i].unscale);
        ck_assert_double_eq(element_get(&next_scale, 0), expected[i].next_scale);
        ck_assert_double_eq(element_get(&next_good, 0), expected[i].next_good);
    }
    close_case(&harness, graph);
}
END_TEST

START_TEST(scaling_by_zero_gives_zeros)
{
    Graph *graph;
    Harness harness = run_case(case_find("scale_by/off"), &graph);
    const Tensor y = harness_output(&harness, "output0");
    for (int64_t i = 0; i < shape_count(y.shape); i++)
        ck_assert_double_eq(element_get(&y, i), 0);
    close_case(&harness, graph);
}
END_TEST

/* sgd on s g, with s as an input, is sgd on the product. */
START_TEST(sgd_scales_gradients)
{
    Graph *graph, *plain_graph;
    Harness harness = run_case(case_find("sgd/scaled"), &graph);
    const OperationCase *plain = case_find("sgd/nesterov"); /* of the same shape and attributes */
    Harness twin = run_case(plain, &plain_graph);
    const Tensor scale = harness_input(&harness, "input4");
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "input%d", i);
        const Tensor from = harness_input(&harness, name), to = harness_input(&twin, name);
        copy_values(&from, &to);
        for (int64_t k = 0; i == 2 && k < shape_count(to.shape); k++)
            element_set(&to, k, element_get(&scale, 0) * element_get(&from, k));
    }
    harness_run(&twin);
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "output0" : "output1";
        const Tensor found = harness_output(&harness, name), expected = harness_output(&twin, name);
        ck_assert_double_le(relative_difference(&found, &expected), 1e-15);
    }
    close_case(&twin, plain_graph);
    close_case(&harness, graph);
}
END_TEST

START_TEST(sgd_with_a_scale_of_zero_changes_nothing)
{
    Graph *graph;
    Harness harness = run_case(case_find("sgd/left out"), &graph); /* the gradient has NaN */
    const Tensor w = harness_input(&harness, "input0"), v = harness_input(&harness, "input1");
    const Tensor new_w = harness_output(&harness, "output0"), new_v = harness_output(&harness, "output1");
    ck_assert_double_eq(relative_difference(&new_w, &w), 0);
    ck_assert_double_eq(relative_difference(&new_v, &v), 0);
    close_case(&harness, graph);
}
END_TEST

START_TEST(rows_without_a_label_cost_nothing)
{
    Graph *graph;
    Harness harness = run_case(case_find("cross_entropy/no label"), &graph);
    const Tensor loss = harness_output(&harness, "output0");
    ck_assert_double_eq(element_get(&loss, 0), 0);
    close_case(&harness, graph);
    harness = run_case(case_find("cross_entropy_grad/no label"), &graph);
    const Tensor gradient = harness_output(&harness, "output0");
    for (int64_t i = 0; i < shape_count(gradient.shape); i++)
        ck_assert_double_eq(element_get(&gradient, i), 0);
    close_case(&harness, graph);
}
END_TEST

START_TEST(a_softmax_without_columns_is_zero)
{
    Graph *graph;
    Harness harness = run_case(case_find("softmax/all masked"), &graph);
    const Tensor y = harness_output(&harness, "output0");
    for (int64_t i = 0; i < shape_count(y.shape); i++)
        ck_assert_double_eq(element_get(&y, i), 0);
    close_case(&harness, graph);
}
END_TEST

/* exp(1000) overflows; the maximum is subtracted first. A masked NaN doesn't count. */
START_TEST(softmax_is_stable)
{
    Graph *graph = graph_create(DTYPE_F32, true);
    Value x = graph_input(graph, "x", DTYPE_F32, shape_of(1, 3));
    Value mask = graph_input(graph, "mask", DTYPE_U8, shape_of(3));
    Value label = graph_input(graph, "label", DTYPE_I32, shape_of(1));
    graph_output(graph, "y", softmax(graph, x, mask));
    graph_output(graph, "loss", cross_entropy(graph, slice(graph, x, 1, 0, 2), label));
    Harness harness = harness_open("reference", 1, graph, 0);
    const float values[3] = {1000, 1001, NAN};
    const uint8_t bits[3] = {1, 1, 0};
    memcpy(harness_input(&harness, "x").data, values, sizeof values);
    memcpy(harness_input(&harness, "mask").data, bits, sizeof bits);
    *(int32_t *)harness_input(&harness, "label").data = 0;
    harness_run(&harness);
    const float *y = harness_output(&harness, "y").data;
    ck_assert_float_eq_tol(y[0], 1 / (1 + expf(1)), 1e-6f);
    ck_assert_float_eq_tol(y[1], 1 / (1 + expf(-1)), 1e-6f);
    ck_assert_float_eq(y[2], 0);
    ck_assert_float_eq_tol(*(const float *)harness_output(&harness, "loss").data, logf(1 + expf(1)), 1e-6f);
    close_case(&harness, graph);
}
END_TEST

SUITE_MAIN("reference", double_loops_agree_with_pytorch, float_loops_agree_with_pytorch,
           dropout_draws_a_word_for_each_element, dropout2d_draws_a_word_for_each_channel, dropout_drops_its_share,
           relu_keeps_nan, gelu_has_its_limits, max_pool_lets_nan_win, max_pool_takes_the_first_of_equals,
           dropout_drops_nan, a_scale_of_zero_ignores_nan, clip_factor_limits_the_norm, loss_scale_follows_the_norm,
           scaling_by_zero_gives_zeros, sgd_scales_gradients, sgd_with_a_scale_of_zero_changes_nothing,
           rows_without_a_label_cost_nothing, a_softmax_without_columns_is_zero, softmax_is_stable)
