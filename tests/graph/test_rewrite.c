/* What rewrites replace and what they must leave: structure only; tests/ops compares the numbers. */
#include "graph/rewrite.h"

#include <check.h>
#include <string.h>

#include "graph/ops.h"
#include "support/suite.h"

static int count_of(const Graph *g, OperationKind kind)
{
    int count = 0;
    for (int n = 0; n < graph_node_count(g); n++)
        count += graph_node(g, n)->operation == kind;
    return count;
}

/* Rewrites, destroys the old graph, and says how many patterns were replaced. */
static Graph *rewritten(Graph *graph, unsigned which, int expected)
{
    int replaced = -1;
    Error error = {0};
    Graph *result = rewrite(graph, which, &replaced);
    ck_assert_msg(graph_check(result, &error) == STATUS_OK, "%s", error.message);
    ck_assert_int_eq(replaced, expected);
    graph_destroy(graph);
    return result;
}

static Graph *two_blocks(bool training)
{
    Graph *g = graph_create(DTYPE_F32, training);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 1, 28, 28));
    x = relu(g, max_pool2d(g, conv2d(g, x, "conv1", .out = 3, .kernel = 5), 2));
    x = relu(g, max_pool2d(g, dropout2d(g, conv2d(g, x, "conv2", .out = 5, .kernel = 5), 0.5), 2));
    graph_output(g, "y", relu(g, linear(g, flatten(g, x, 1), "layer", .out = 7)));
    return g;
}

START_TEST(each_rewrite_counts_what_it_replaced)
{
    Graph *g = rewritten(two_blocks(true), 0, 0);
    ck_assert_int_eq(count_of(g, OP_RELU), 3);
    g = rewritten(g, REWRITE_ACTIVATION, 1);
    ck_assert_int_eq(count_of(g, OP_RELU), 2);
    g = rewritten(g, REWRITE_CONV_POOL, 2);
    ck_assert_int_eq(count_of(g, OP_RELU) + count_of(g, OP_MAX_POOL2D) + count_of(g, OP_DROPOUT), 0);
    ck_assert_int_eq(count_of(g, OP_CONV2D_POOL), 2);
    ck_assert_int_eq(graph_node_count(g), 4); /* two blocks, flatten, the layer */
    g = rewritten(g, REWRITE_ALL, 0);         /* nothing is left to do */
    graph_destroy(g);
    g = rewritten(two_blocks(false), REWRITE_ALL, 3);
    graph_destroy(g);
}
END_TEST

START_TEST(names_and_results_stay)
{
    Graph *g = two_blocks(true);
    Value w = graph_find(g, "layer.weight");
    graph_assign(g, w, affine(g, w, 0.5, 0));
    g = rewritten(g, REWRITE_ALL, 3);
    w = graph_find(g, "layer.weight");
    ck_assert(value_exists(w) && graph_value(g, w)->trainable);
    ck_assert(value_exists(graph_value(g, w)->assigned));
    ck_assert_double_gt(graph_value(g, w)->bound, 0);
    ck_assert_str_eq(graph_output_name(g, 0), "y");
    ck_assert(shape_equal(graph_shape(g, graph_output_at(g, 0)), shape_of(4, 7)));
    ck_assert(value_exists(graph_find(g, "random")));
    graph_destroy(g);
}
END_TEST

START_TEST(what_is_read_elsewhere_stays)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 1, 8, 8));
    Value c = conv2d(g, x, "conv", .out = 3, .kernel = 3), p = max_pool2d(g, c, 2);
    graph_output(g, "y", relu(g, p));
    graph_output(g, "before the pool", c);
    g = rewritten(g, REWRITE_ALL, 0);
    ck_assert_int_eq(count_of(g, OP_MAX_POOL2D), 1);
    graph_destroy(g);
}
END_TEST

START_TEST(other_pools_stay)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 1, 11, 11));
    graph_output(g, "y", relu(g, max_pool2d(g, conv2d(g, x, "conv", .out = 3, .kernel = 3), 3)));
    g = rewritten(g, REWRITE_ALL, 0);
    ck_assert_int_eq(count_of(g, OP_CONV2D), 1);
    graph_destroy(g);
}
END_TEST

START_TEST(dead_nodes_go_and_updates_stay)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 3));
    Value used = linear(g, x, "used", .out = 2), state = graph_state(g, "s", DTYPE_F32, shape_of(4, 3), 0, 0);
    linear(g, linear(g, x, "dead1", .out = 2), "dead2", .out = 2);
    graph_assign(g, state, affine(g, x, 2, 0)); /* no output, but an effect */
    graph_output(g, "y", used);
    g = rewritten(g, 0, 0);
    ck_assert_int_eq(graph_node_count(g), 2);
    ck_assert_int_eq(count_of(g, OP_AFFINE), 1);
    graph_destroy(g);
}
END_TEST

START_TEST(a_mistake_stays_a_mistake)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "culprit", DTYPE_F32, shape_of(4, 3));
    matmul(g, x, x, false, false);
    Graph *after = rewrite(g, REWRITE_ALL, NULL);
    Error error = {0};
    ck_assert_int_eq(graph_check(after, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "culprit"));
    graph_destroy(g);
    graph_destroy(after);
}
END_TEST

/* --- folding --- */

/* x [8, in] -> hidden -> out; `activation` between the two layers. */
static Graph *two_layers(int in, int hidden, int out, bool activation)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(8, in));
    Value y = linear(g, x, "inner", .out = hidden);
    if (activation) y = relu(g, y);
    graph_output(g, "y", linear(g, y, "outer", .out = out));
    return g;
}

/* The layer that reads the input, after folding. */
static bool reads_input(const Graph *g)
{
    const Node *node = graph_node(g, graph_value(g, graph_output_at(g, 0))->node);
    return node->operation == OP_LINEAR && value_is(node->inputs[0], graph_find(g, "x"));
}

START_TEST(layers_fold_where_it_pays)
{
    Graph *g = rewritten(two_layers(32, 25, 51, false), REWRITE_FOLD_LINEAR, 1); /* 1632 instead of 2075 weights */
    ck_assert(reads_input(g));
    graph_destroy(g);
    g = rewritten(two_layers(64, 4, 64, false), REWRITE_FOLD_LINEAR, 0); /* 4096 instead of 512: a bottleneck */
    ck_assert(!reads_input(g));
    ck_assert_int_eq(graph_node_count(g), 2);
    graph_destroy(g);
}
END_TEST

START_TEST(an_activation_between_prevents_folding)
{
    Graph *g = rewritten(two_layers(32, 25, 51, true), REWRITE_FOLD_LINEAR, 0);
    ck_assert_int_eq(graph_node_count(g), 3);
    g = rewritten(g, REWRITE_ACTIVATION, 1); /* also when it is part of the inner layer */
    g = rewritten(g, REWRITE_FOLD_LINEAR, 0);
    ck_assert(!reads_input(g));
    graph_destroy(g);
}
END_TEST

START_TEST(an_inner_layer_that_is_an_output_is_still_computed)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(8, 32)), inner = linear(g, x, "inner", .out = 25);
    graph_output(g, "y", linear(g, inner, "outer", .out = 51));
    graph_output(g, "inner", inner);
    g = rewritten(g, REWRITE_FOLD_LINEAR, 1);
    ck_assert(reads_input(g));
    ck_assert(value_is(graph_node(g, graph_value(g, graph_find(g, "inner"))->node)->inputs[0], graph_find(g, "x")));
    graph_destroy(g);
}
END_TEST

/* linear([x, linear(linear(x))]) reads x alone. Three patterns: the context, and on the way of the hidden layer the
 * context again and the concatenation; the first is dead afterwards. */
START_TEST(a_context_beside_its_input_folds)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(8, 32));
    Value context = linear(g, linear(g, x, "context1", .out = 25), "context2", .out = 51);
    graph_output(g, "y", linear(g, concat2(g, x, detach(g, context)), "hidden", .out = 51));
    g = rewritten(g, REWRITE_FOLD_LINEAR, 3);
    ck_assert(reads_input(g));
    ck_assert_int_eq(count_of(g, OP_CONCAT), 0);
    ck_assert_int_eq(count_of(g, OP_DETACH), 0);
    graph_destroy(g);
}
END_TEST

SUITE_MAIN("rewrite", each_rewrite_counts_what_it_replaced, names_and_results_stay, what_is_read_elsewhere_stays,
           other_pools_stay, dead_nodes_go_and_updates_stay, a_mistake_stays_a_mistake, layers_fold_where_it_pays,
           an_activation_between_prevents_folding, an_inner_layer_that_is_an_output_is_still_computed,
           a_context_beside_its_input_folds)
