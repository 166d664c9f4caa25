/* Networks with gelu on every backend against the reference; and which of their steps the CUDA backend makes one:
 * linear layers with gelu by tanh, forward and back, where a product can. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/ops.h"
#include "graph/rewrite.h"
#include "ops/network.h"
#include "support/suite.h"

/* By how much of its norm an output may differ, and a variable after training, which has gradients in its momentum.
 * Four layers round what they make, each by u (2^-12 in tf32 and f16, 2^-9 in bf16), as they round the gradients on the
 * way back; nothing here has a kink. */
static const struct Device {
    const char *device;
    Precision precision;
    double values, variables;
} devices[] = {
    {"cpu", PRECISION_F32, 1e-5, 1e-5},   {"sim", PRECISION_F32, 1e-5, 1e-5},   {"sim", PRECISION_TF32, 2e-3, 4e-3},
    {"sim", PRECISION_BF16, 1e-2, 2e-2},  {"sim", PRECISION_F16, 2e-3, 4e-3},   {"cuda", PRECISION_F32, 1e-5, 1e-5},
    {"cuda", PRECISION_TF32, 2e-3, 4e-3}, {"cuda", PRECISION_BF16, 1e-2, 2e-2}, {"cuda", PRECISION_F16, 2e-3, 4e-3},
};

typedef struct Count {
    const char *operation;
    int steps; /* of a CUDA plan */
} Count;

enum { COUNTS = 4 };

static void check_counts(const Harness *harness, const Count counts[COUNTS])
{
    for (int c = 0; c < COUNTS && counts[c].operation != NULL; c++) {
        int found = 0;
        for (int i = 0; i < plan_step_count(harness->plan); i++)
            found += strcmp(plan_step(harness->plan, i).operation, counts[c].operation) == 0;
        ck_assert_msg(found == counts[c].steps, "%s: %d steps are %s, expected %d", harness->label, found,
                      counts[c].operation, counts[c].steps);
    }
}

static void compare_run(const Harness *reference, const Harness *other, const Graph *graph, double tolerance)
{
    harness_run(reference);
    harness_run(other);
    for (int i = 0; i < graph_output_count(graph); i++) {
        const char *name = graph_output_name(graph, i);
        const Tensor expected = harness_output(reference, name), found = harness_output(other, name);
        const double difference = relative_difference(&found, &expected);
        ck_assert_msg(difference <= tolerance, "%s, %s: '%s' differs by %g, allowed is %g", other->label,
                      precision_name(backend_precision(other->backend)), name, difference, tolerance);
    }
}

/* Three runs on every device; destroys the graph. */
static void compare(Graph *graph, const Count counts[COUNTS])
{
    for (size_t d = 0; d < sizeof devices / sizeof devices[0]; d++) {
        if (!harness_available(devices[d].device, devices[d].precision)) continue;
        Harness reference = harness_open("reference", 1, graph, 0);
        Harness other = harness_open_in(devices[d].precision, devices[d].device, 2, graph, REWRITE_ALL);
        network_fill(&reference, graph);
        network_fill(&other, graph);
        if (value_exists(graph_find(graph, "lr")))
            *(float *)harness_input(&reference, "lr").data = *(float *)harness_input(&other, "lr").data = 0.05f;
        for (int run = 0; run < 3; run++)
            compare_run(&reference, &other, graph, devices[d].values);
        ck_assert_double_le(network_variables_difference(&other, &reference), devices[d].variables);
        if (strcmp(devices[d].device, "cpu") != 0) check_counts(&other, counts);
        harness_close(&other);
        harness_close(&reference);
    }
    graph_destroy(graph);
}

/* Layers of 40 and 16 columns, and one of 13, whose rows are no whole multiple of what the library wants; then one with
 * gelu by erf, and the last. */
static Graph *network(int batch, bool training)
{
    enum { PARAMETERS = 10 };
    Graph *g = graph_create(DTYPE_F32, training);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(batch, 24));
    x = gelu(g, linear(g, x, "first", .out = 40), GELU_TANH);
    x = gelu(g, linear(g, x, "odd", .out = 13, .no_bias = true), GELU_TANH);
    x = gelu(g, linear(g, x, "second", .out = 16, .no_bias = true), GELU_TANH);
    x = gelu(g, linear(g, x, "exact", .out = 8), GELU_EXACT);
    x = linear(g, x, "last", .out = 3);
    graph_output(g, "logits", x);
    if (!training) return g;
    Value loss = cross_entropy(g, x, graph_input(g, "labels", DTYPE_I32, shape_of(batch)));
    Value parameters[PARAMETERS], gradients[PARAMETERS];
    const int count = graph_parameters(g, parameters, PARAMETERS);
    graph_gradient(g, &loss, NULL, 1, parameters, count, gradients);
    graph_output(g, "loss", loss);
    sgd_group(g, parameters, gradients, count, "lr", (SgdOptions){.momentum = 0.9});
    return g;
}

START_TEST(training_fuses_what_has_whole_rows)
{
    const int batches[] = {1, 21, 64};
    for (int i = 0; i < 3; i++)
        compare(network(batches[i], true),
                (const Count[COUNTS]){{"linear_gelu", 2}, {"linear_gelu_grad", 2}, {"gelu", 2}, {"gelu_grad", 2}});
}
END_TEST

START_TEST(serving_fuses_rows_of_any_length)
{
    const int batches[] = {1, 21, 64};
    for (int i = 0; i < 3; i++)
        compare(network(batches[i], false), (const Count[COUNTS]){{"linear_gelu", 3}, {"gelu", 1}, {"linear", 2}});
}
END_TEST

/* What gelu is given is an output as well, and another gelu reads it too. */
START_TEST(what_others_read_is_kept)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(5, 24)), z = linear(g, x, "layer", .out = 16);
    graph_output(g, "z", z);
    graph_output(g, "exact", gelu(g, z, GELU_EXACT));
    graph_output(g, "y", gelu(g, z, GELU_TANH));
    compare(g, (const Count[COUNTS]){{"linear_gelu", 1}, {"gelu", 1}, {"linear", 0}});
}
END_TEST

/* Two layers read y, so its gradient is a sum, which no product makes; the way forward is fused all the same. */
START_TEST(a_gradient_that_is_a_sum_is_undone_apart)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(5, 24)), gradient;
    Value y = gelu(g, linear(g, x, "layer", .out = 16), GELU_TANH);
    Value sum = add(g, linear(g, y, "left", .out = 8), linear(g, y, "right", .out = 8));
    Value seed = graph_input(g, "seed", DTYPE_F32, shape_of(5, 8));
    graph_gradient(g, &sum, &seed, 1, &x, 1, &gradient);
    graph_output(g, "sum", sum);
    graph_output(g, "gradient", gradient);
    compare(g, (const Count[COUNTS]){{"linear_gelu", 1}, {"linear_gelu_grad", 0}, {"gelu", 0}, {"gelu_grad", 1}});
}
END_TEST

/* Of one product the library masks nothing. */
START_TEST(a_gradient_of_one_product_is_undone_apart)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(5, 24)), gradient;
    Value y = linear(g, gelu(g, linear(g, x, "layer", .out = 16), GELU_TANH), "one", .out = 1);
    Value seed = graph_input(g, "seed", DTYPE_F32, shape_of(5, 1));
    graph_gradient(g, &y, &seed, 1, &x, 1, &gradient);
    graph_output(g, "y", y);
    graph_output(g, "gradient", gradient);
    compare(g, (const Count[COUNTS]){{"linear_gelu", 1}, {"linear_gelu_grad", 0}, {"gelu", 0}, {"gelu_grad", 1}});
}
END_TEST

SUITE_MAIN("gelu", training_fuses_what_has_whole_rows, serving_fuses_rows_of_any_length, what_others_read_is_kept,
           a_gradient_that_is_a_sum_is_undone_apart, a_gradient_of_one_product_is_undone_apart)
