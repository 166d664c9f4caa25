/* Gradient rules against central finite differences, in double, on the reference backend: for f = sum(output0 * seed)
 * and every element x of every input, (f(x + h) - f(x - h)) / 2h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "graph/ops.h"
#include "ops/harness.h"
#include "support/suite.h"

static const double STEP = 1e-5, TOLERANCE = 1e-6;

static double objective(const Harness *harness, const Tensor *seed)
{
    harness_run(harness);
    const Tensor output = harness_output(harness, "output0");
    double sum = 0;
    for (int64_t i = 0, count = shape_count(output.shape); i < count; i++)
        sum += element_get(&output, i) * element_get(seed, i);
    return sum;
}

/* Compares `gradient`, that of one input, with the slopes of the objective. */
static void check_input(const Harness *harness, const char *label, int index, const Tensor *seed,
                        const double *gradient)
{
    char name[32];
    snprintf(name, sizeof name, "input%d", index);
    const Tensor input = harness_input(harness, name);
    double difference = 0, norm = 0;
    for (int64_t i = 0, count = shape_count(input.shape); i < count; i++) {
        const double x = element_get(&input, i);
        element_set(&input, i, x + STEP);
        const double above = objective(harness, seed);
        element_set(&input, i, x - STEP);
        const double below = objective(harness, seed);
        element_set(&input, i, x);
        const double slope = (above - below) / (2 * STEP);
        difference += (slope - gradient[i]) * (slope - gradient[i]);
        norm += slope * slope;
    }
    ck_assert_msg(sqrt(difference) <= TOLERANCE * sqrt(norm) || sqrt(difference) < 1e-9,
                  "%s: gradient of input %d is off by %g, its norm is %g", label, index, sqrt(difference), sqrt(norm));
}

static void check_case(const OperationCase *test)
{
    char label[CASE_LABEL_SIZE], name[32];
    case_label(test, label);
    CaseGraph built = case_graph(test, DTYPE_F64);
    const Value seed = graph_input(built.graph, "seed", DTYPE_F64, graph_shape(built.graph, built.outputs[0]));
    Value gradients[CASE_MAX_INPUTS];
    graph_gradient(built.graph, built.outputs, &seed, 1, built.inputs, built.input_count, gradients);
    for (int i = 0; i < built.input_count; i++) {
        const CaseInput *input = &test->inputs[i];
        ck_assert_msg(value_exists(gradients[i]) == (case_input_is_real(input) && !input->constant), "%s: input %d %s",
                      label, i, value_exists(gradients[i]) ? "got a gradient" : "got no gradient");
        snprintf(name, sizeof name, "gradient%d", i);
        graph_output(built.graph, name, gradients[i]);
    }

    Harness harness = harness_open("reference", 1, built.graph, 0);
    harness_fill(&harness, test);
    const Tensor seeds = harness_input(&harness, "seed");
    Rng rng = rng_make(9, RNG_STREAM_TEST);
    for (int64_t i = 0; i < shape_count(seeds.shape); i++)
        element_set(&seeds, i, rng_normal(&rng));
    for (int i = 0; i < built.input_count; i++) {
        if (!value_exists(gradients[i])) continue;
        harness_run(&harness); /* check_input leaves the results of its last step behind */
        snprintf(name, sizeof name, "gradient%d", i);
        Tensor found = harness_output(&harness, name), kept;
        ck_assert(shape_equal(found.shape, test->inputs[i].shape));
        ck_assert_int_eq(tensor_copy(&found, &kept, NULL), STATUS_OK);
        check_input(&harness, label, i, &seeds, kept.data);
        tensor_destroy(&kept);
    }
    harness_close(&harness);
    graph_destroy(built.graph);
}

START_TEST(rules_agree_with_finite_differences)
{
    int checked = 0;
    for (int i = 0; i < case_count(); i++)
        if (case_is_differentiable(case_at(i))) {
            check_case(case_at(i));
            checked++;
        }
    ck_assert_int_gt(checked, 40);
}
END_TEST

/* A value that is read twice, by nodes of different depth, gets the sum of both paths. */
START_TEST(paths_add_up)
{
    Graph *graph = graph_create(DTYPE_F64, true);
    Value x = graph_input(graph, "input0", DTYPE_F64, shape_of(2, 3));
    Value product = matmul(graph, x, softmax(graph, x, VALUE_NONE), false, true);
    Value y = add(graph, product, matmul(graph, x, x, false, true)), seed;
    graph_output(graph, "output0", y);
    seed = graph_input(graph, "seed", DTYPE_F64, graph_shape(graph, y));
    Value gradient;
    graph_gradient(graph, &y, &seed, 1, &x, 1, &gradient);
    graph_output(graph, "gradient0", gradient);
    Harness harness = harness_open("reference", 1, graph, 0);
    const Tensor input = harness_input(&harness, "input0"), seeds = harness_input(&harness, "seed");
    for (int i = 0; i < 6; i++)
        element_set(&input, i, 0.3 * i - 0.7);
    for (int i = 0; i < 4; i++)
        element_set(&seeds, i, 1 - 0.4 * i);
    harness_run(&harness);
    Tensor found = harness_output(&harness, "gradient0"), kept;
    ck_assert_int_eq(tensor_copy(&found, &kept, NULL), STATUS_OK);
    check_input(&harness, "paths", 0, &seeds, kept.data);
    tensor_destroy(&kept);
    harness_close(&harness);
    graph_destroy(graph);
}
END_TEST

START_TEST(nothing_flows_through_detach)
{
    Graph *graph = graph_create(DTYPE_F64, true);
    Value x = graph_input(graph, "x", DTYPE_F64, shape_of(3, 2));
    Value y = relu(graph, detach(graph, x)), gradient;
    Value seed = graph_input(graph, "seed", DTYPE_F64, shape_of(3, 2));
    graph_gradient(graph, &y, &seed, 1, &x, 1, &gradient);
    ck_assert_int_eq(graph_check(graph, NULL), STATUS_OK);
    ck_assert(!value_exists(gradient));
    graph_destroy(graph);
}
END_TEST

SUITE_MAIN("gradients", rules_agree_with_finite_differences, paths_add_up, nothing_flows_through_detach)
