/* Building: what declarations and nodes become, that the first mistake is kept, and that its sentence names what it is
 * about. */
#include "graph/graph.h"

#include <check.h>
#include <string.h>

#include "graph/ops.h"
#include "support/suite.h"

static Error error;

static Graph *make(void)
{
    error = (Error){0};
    return graph_create(DTYPE_F32, true);
}

/* The graph's mistake has this status, and its sentence both words. */
static void expect_mistake(Graph *graph, Status status, const char *one, const char *other)
{
    ck_assert_int_eq(graph_check(graph, &error), status);
    ck_assert_msg(strstr(error.message, one) != NULL, "expected '%s' in: %s", one, error.message);
    ck_assert_msg(strstr(error.message, other) != NULL, "expected '%s' in: %s", other, error.message);
    graph_destroy(graph);
}

START_TEST(a_good_graph_has_no_mistake)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 3)), y = linear(g, x, "layer", .out = 2);
    graph_output(g, "y", y);
    ck_assert_int_eq(graph_check(g, &error), STATUS_OK);
    ck_assert_str_eq(error.message, "");
    ck_assert_int_eq(graph_node_count(g), 1);
    ck_assert_int_eq(graph_output_count(g), 1);
    ck_assert(value_is(graph_find(g, "y"), y));
    ck_assert(value_is(graph_find(g, "x"), x));
    ck_assert(value_exists(graph_find(g, "layer.bias")));
    ck_assert(!value_exists(graph_find(g, "nothing")));
    ck_assert(shape_equal(graph_shape(g, y), shape_of(4, 2)));
    ck_assert_str_eq(graph_node(g, 0)->layer, "layer");
    ck_assert_int_eq(graph_value(g, y)->node, 0);
    ck_assert_str_eq(graph_value(g, y)->name, "layer (linear)");
    graph_destroy(g);
    ck_assert_int_eq(graph_check(NULL, &error), STATUS_RESOURCE_EXHAUSTED);
    graph_destroy(NULL);
}
END_TEST

START_TEST(the_first_mistake_is_kept_and_stops_the_rest)
{
    Graph *g = make();
    Value a = graph_input(g, "wide", DTYPE_F32, shape_of(2, 3)),
          b = graph_input(g, "narrow", DTYPE_F32, shape_of(2, 2));
    const int values = graph_value_count(g);
    ck_assert(!value_exists(add(g, a, b)));
    ck_assert(!value_exists(relu(g, a)));
    ck_assert(!value_exists(matmul(g, a, a, false, false)));
    ck_assert(!value_exists(graph_input(g, "later", DTYPE_F32, shape_of(1))));
    ck_assert(!value_exists(graph_parameter(g, "later too", shape_of(1), 1)));
    ck_assert_int_eq(graph_value_count(g), values);
    ck_assert_int_eq(graph_node_count(g), 0);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'wide' is f32 [2, 3]", "'narrow' is f32 [2, 2]");
}
END_TEST

START_TEST(mistakes_name_layer_and_values)
{
    Graph *g = make();
    Value x = graph_input(g, "features", DTYPE_F32, shape_of(4, 3));
    graph_set_layer(g, "hidden");
    Value w = graph_parameter(g, "other.weight", shape_of(2, 5), 1);
    graph_apply(g, OP_LINEAR, (Value[]){x, w}, 2, (Attributes){0});
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'features' is [4, 3]", "'other.weight' are [2, 5]");
    ck_assert_ptr_nonnull(strstr(error.message, "hidden (linear)"));

    g = make();
    x = graph_input(g, "image", DTYPE_F32, shape_of(1, 2, 4, 4));
    conv2d(g, x, "conv", .out = 3, .kernel = 5);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'conv.weight' [3, 2, 5, 5]", "'image' [1, 2, 4, 4]");

    g = make();
    x = graph_input(g, "vector", DTYPE_F32, shape_of(4));
    linear(g, x, "first", .out = 3);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "first", "rank 1");

    g = make();
    x = graph_input(g, "a", DTYPE_F32, shape_of(4, 3));
    Value y = graph_input(g, "b", DTYPE_F64, shape_of(4, 3));
    add(g, x, y);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'a' is f32", "'b' is f64");

    g = make();
    x = graph_input(g, "counts", DTYPE_I32, shape_of(4));
    relu(g, x);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'counts' is i32", "f32 or f64");

    g = make();
    x = graph_input(g, "logits", DTYPE_F32, shape_of(4, 3));
    y = graph_input(g, "labels", DTYPE_I32, shape_of(5));
    cross_entropy(g, x, y);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'labels' is [5]", "[4]");
}
END_TEST

START_TEST(impossible_arrangements_are_mistakes)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 6));
    reshape(g, x, shape_of(5, 5));
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "[4, 6]", "[5, 5]");

    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(4, 6));
    slice(g, x, 1, 4, 7);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'x'", "7");

    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(4, 6));
    concat2(g, x, graph_input(g, "y", DTYPE_F32, shape_of(5, 6)));
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'x'", "'y'");

    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(1, 1, 3, 3));
    max_pool2d(g, x, 4);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'x'", "4");

    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3));
    matmul(g, x, x, false, false);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "[2, 3]", "inner");
}
END_TEST

START_TEST(a_missing_input_is_a_mistake)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2));
    graph_apply(g, OP_ADD, (Value[]){x, VALUE_NONE}, 2, (Attributes){0});
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "input 1", "add");
    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(2));
    graph_apply(g, OP_ADD, &x, 1, (Attributes){0});
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "add takes 2", "got 1");
}
END_TEST

START_TEST(shapes_are_positive_and_fit_memory)
{
    Graph *g = make();
    graph_input(g, "empty", DTYPE_F32, shape_of(3, 0));
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'empty'", "[3, 0]");
    g = make();
    graph_input(g, "huge", DTYPE_F32, shape_of(INT64_MAX / 2, 8));
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'huge'", "fit memory");
    g = make();
    graph_input(g, "negative", DTYPE_F32, shape_of(-1, 8));
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'negative'", "[-1, 8]");
}
END_TEST

/* --- names --- */

START_TEST(a_name_shares_its_parameters)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 3)), y = graph_input(g, "y", DTYPE_F32, shape_of(9, 3));
    Value a = linear(g, x, "layer", .out = 2), b = linear(g, y, "layer", .out = 2);
    ck_assert_int_eq(graph_check(g, NULL), STATUS_OK);
    ck_assert(
        value_is(graph_node(g, graph_value(g, a)->node)->inputs[1], graph_node(g, graph_value(g, b)->node)->inputs[1]));
    Value parameters[8];
    ck_assert_int_eq(graph_parameters(g, parameters, 8), 2);
    ck_assert_str_eq(graph_value(g, parameters[0])->name, "layer.weight");
    ck_assert_str_eq(graph_value(g, parameters[1])->name, "layer.bias");
    ck_assert_int_eq(graph_parameters(g, parameters, 1), 2); /* how many there are, not how many fit */
    linear(g, x, "layer", .out = 5);
    expect_mistake(g, STATUS_ALREADY_EXISTS, "[5, 3]", "[2, 3]");
}
END_TEST

START_TEST(names_are_declared_once)
{
    Graph *g = make();
    graph_input(g, "x", DTYPE_F32, shape_of(1));
    graph_input(g, "x", DTYPE_F32, shape_of(1));
    expect_mistake(g, STATUS_ALREADY_EXISTS, "'x'", "twice");
    g = make();
    graph_parameter(g, "p", shape_of(1), 1);
    graph_input(g, "p", DTYPE_F32, shape_of(1));
    expect_mistake(g, STATUS_ALREADY_EXISTS, "'p'", "twice");
    g = make();
    graph_input(g, "q", DTYPE_F32, shape_of(1));
    graph_parameter(g, "q", shape_of(1), 1);
    expect_mistake(g, STATUS_ALREADY_EXISTS, "'q'", "before");
    g = make();
    graph_state(g, "s", DTYPE_F32, shape_of(1), INITIALIZE_ZERO, 0);
    graph_state(g, "s", DTYPE_I64, shape_of(1), INITIALIZE_ZERO, 0);
    expect_mistake(g, STATUS_ALREADY_EXISTS, "i64", "f32");
}
END_TEST

START_TEST(fan_in_bounds_the_initial_values)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(1, 4, 8, 8));
    conv2d(g, x, "conv", .out = 6, .kernel = 5, .groups = 2);
    linear(g, flatten(g, x, 1), "layer", .out = 3);
    const double conv = 1 / 7.0710678118654755, layer = 1.0 / 16; /* sqrt(4 / 2 * 25), sqrt(256) */
    ck_assert_double_eq_tol(graph_value(g, graph_find(g, "conv.weight"))->bound, conv, 1e-15);
    ck_assert_double_eq_tol(graph_value(g, graph_find(g, "conv.bias"))->bound, conv, 1e-15);
    ck_assert_double_eq_tol(graph_value(g, graph_find(g, "layer.weight"))->bound, layer, 1e-15);
    ck_assert_int_eq(graph_value(g, graph_find(g, "layer.bias"))->initializer, INITIALIZE_UNIFORM);
    ck_assert(graph_value(g, graph_find(g, "layer.bias"))->trainable);
    graph_destroy(g);
}
END_TEST

/* --- assignments --- */

START_TEST(assignments_are_checked)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2)), s = graph_state(g, "s", DTYPE_F32, shape_of(2), 0, 0);
    graph_assign(g, s, x);
    ck_assert_int_eq(graph_check(g, NULL), STATUS_OK);
    ck_assert(value_is(graph_value(g, s)->assigned, x));
    graph_assign(g, s, x);
    expect_mistake(g, STATUS_ALREADY_EXISTS, "'s'", "twice");

    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(3));
    s = graph_state(g, "s", DTYPE_F32, shape_of(2), 0, 0);
    graph_assign(g, s, x);
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'s' is f32 [2]", "f32 [3]");

    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(2));
    graph_assign(g, x, relu(g, x));
    expect_mistake(g, STATUS_INVALID_ARGUMENT, "'x'", "no state");
}
END_TEST

START_TEST(dropout_without_training_is_the_identity)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3));
    ck_assert(value_is(dropout(g, x, 0.5), x));
    ck_assert(!value_exists(graph_find(g, "random")));
    graph_destroy(g);
    g = make();
    x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3));
    Value once = dropout(g, x, 0.5), twice = dropout(g, once, 0.5);
    ck_assert(value_exists(graph_find(g, "random")));
    ck_assert_uint_ne(graph_node(g, graph_value(g, once)->node)->attributes.dropout.layer,
                      graph_node(g, graph_value(g, twice)->node)->attributes.dropout.layer);
    graph_destroy(g);
}
END_TEST

START_TEST(many_nodes_are_fine)
{
    Graph *g = make();
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2));
    for (int i = 0; i < 5000; i++)
        x = relu(g, x);
    ck_assert_int_eq(graph_check(g, NULL), STATUS_OK);
    ck_assert_int_eq(graph_node_count(g), 5000);
    for (int n = 1; n < 5000; n++) /* every node follows what it reads */
        ck_assert_int_lt(graph_value(g, graph_node(g, n)->inputs[0])->node, n);
    graph_destroy(g);
}
END_TEST

SUITE_MAIN("graph", a_good_graph_has_no_mistake, the_first_mistake_is_kept_and_stops_the_rest,
           mistakes_name_layer_and_values, impossible_arrangements_are_mistakes, a_missing_input_is_a_mistake,
           shapes_are_positive_and_fit_memory, a_name_shares_its_parameters, names_are_declared_once,
           fan_in_bounds_the_initial_values, assignments_are_checked, dropout_without_training_is_the_identity,
           many_nodes_are_fine)
