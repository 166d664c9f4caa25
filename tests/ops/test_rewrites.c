/* Each rewrite against the graph without it: forward, gradients and update on the reference backend in double, where
 * the results must agree to rounding. */
#include <string.h>

#include "graph/ops.h"
#include "graph/rewrite.h"
#include "ops/network.h"
#include "support/suite.h"

static const double TOLERANCE = 1e-12;

static int count_steps(const Plan *plan, const char *operation)
{
    int count = 0;
    for (int i = 0; i < plan_step_count(plan); i++)
        count += strcmp(plan_step(plan, i).operation, operation) == 0;
    return count;
}

/* Runs the graph twice without and with the rewrites, so that updated parameters are read too, compares all outputs and
 * variables, and returns the rewritten plan's number of steps of `operation`. */
static int compare_with(const Graph *graph, unsigned rewrites, const char *operation)
{
    Harness plain = harness_open("reference", 1, graph, 0), fused = harness_open("reference", 1, graph, rewrites);
    network_fill(&plain, graph);
    network_fill(&fused, graph);
    for (int run = 0; run < 2; run++) {
        harness_run(&plain);
        harness_run(&fused);
        for (int i = 0; i < graph_output_count(graph); i++) {
            const char *name = graph_output_name(graph, i);
            const Tensor expected = harness_output(&plain, name), found = harness_output(&fused, name);
            const double difference = relative_difference(&found, &expected);
            ck_assert_msg(difference <= TOLERANCE, "output '%s' differs by %g with rewrites %u", name, difference,
                          rewrites);
        }
    }
    ck_assert_double_le(network_variables_difference(&fused, &plain), TOLERANCE);
    const int count = count_steps(fused.plan, operation);
    harness_close(&plain);
    harness_close(&fused);
    return count;
}

START_TEST(activation_joins_its_layer)
{
    Graph *graph = network_graph(DTYPE_F64, true, 3);
    ck_assert_int_eq(compare_with(graph, 0, "relu"), 3);
    ck_assert_int_eq(compare_with(graph, REWRITE_ACTIVATION, "relu"), 2); /* those of the pools stay */
    graph_destroy(graph);
}
END_TEST

START_TEST(convolution_pool_and_activation_become_one)
{
    Graph *graph = network_graph(DTYPE_F64, true, 3);
    ck_assert_int_eq(compare_with(graph, REWRITE_CONV_POOL, "conv2d_pool"), 2);
    ck_assert_int_eq(compare_with(graph, REWRITE_CONV_POOL, "max_pool2d"), 0);
    ck_assert_int_eq(compare_with(graph, REWRITE_ALL, "relu"), 0);
    graph_destroy(graph);
}
END_TEST

START_TEST(evaluation_has_no_dropout_and_fuses_as_well)
{
    Graph *graph = network_graph(DTYPE_F64, false, 3);
    ck_assert_int_eq(compare_with(graph, REWRITE_ALL, "conv2d_pool"), 2);
    ck_assert_int_eq(compare_with(graph, REWRITE_ALL, "dropout"), 0);
    graph_destroy(graph);
}
END_TEST

/* A value that something else reads can't disappear into the operation that follows it. */
START_TEST(a_value_with_two_readers_is_not_fused)
{
    Graph *graph = graph_create(DTYPE_F64, true);
    Value x = graph_input(graph, "x", DTYPE_F64, shape_of(4, 5));
    Value hidden = linear(graph, x, "hidden", .out = 6);
    graph_output(graph, "rectified", relu(graph, hidden));
    graph_output(graph, "hidden", hidden);
    ck_assert_int_eq(compare_with(graph, REWRITE_ALL, "relu"), 1);
    graph_destroy(graph);
}
END_TEST

/* context = linear(linear(x)); hidden = relu(linear([x, context])); logits = linear(linear(hidden)) */
START_TEST(linear_layers_without_activation_fold)
{
    Graph *graph = graph_create(DTYPE_F64, false);
    Value x = graph_input(graph, "x", DTYPE_F64, shape_of(3, 6));
    Value context = linear(graph, linear(graph, detach(graph, x), "context1", .out = 20), "context2", .out = 30);
    Value hidden = relu(graph, linear(graph, concat2(graph, x, detach(graph, context)), "hidden", .out = 12));
    Value middle = linear(graph, hidden, "target1", .out = 20, .no_bias = true);
    graph_output(graph, "logits", linear(graph, middle, "target2", .out = 4));
    int replaced = 0;
    graph_destroy(rewrite(graph, REWRITE_FOLD_LINEAR, &replaced));
    ck_assert_int_gt(replaced, 0);
    compare_with(graph, REWRITE_FOLD_LINEAR, "linear");
    compare_with(graph, REWRITE_FOLD_LINEAR | REWRITE_ALL, "linear");
    graph_destroy(graph);
}
END_TEST

/* What no output and no assignment needs isn't computed. */
START_TEST(dead_nodes_are_dropped)
{
    Graph *graph = graph_create(DTYPE_F64, true);
    Value x = graph_input(graph, "x", DTYPE_F64, shape_of(4));
    relu(graph, affine(graph, x, 2, 0));
    graph_output(graph, "y", affine(graph, x, 3, 0));
    ck_assert_int_eq(compare_with(graph, 0, "affine"), 1);
    graph_destroy(graph);
}
END_TEST

SUITE_MAIN("rewrites", activation_joins_its_layer, convolution_pool_and_activation_become_one,
           evaluation_has_no_dropout_and_fuses_as_well, a_value_with_two_readers_is_not_fused,
           linear_layers_without_activation_fold, dead_nodes_are_dropped)
