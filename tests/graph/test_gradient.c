/* The structure of the backward pass: what is built, and what isn't. The numbers are tested in tests/ops. */
#include <check.h>
#include <string.h>

#include "graph/ops.h"
#include "support/suite.h"

static Error error;

static int count_of(const Graph *g, OperationKind kind)
{
    int count = 0;
    for (int n = 0; n < graph_node_count(g); n++)
        count += graph_node(g, n)->operation == kind;
    return count;
}

static const Node *maker(const Graph *g, Value value)
{
    return graph_node(g, graph_value(g, value)->node);
}

/* mean((x w)^2) over a scalar loss, as far as structure goes. */
static Value loss_of(Graph *g, Value y)
{
    return mean_squared_error(g, y, affine(g, detach(g, y), 0, 0));
}

START_TEST(gradients_of_all_uses_are_added)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), gradient;
    Value a = affine(g, x, 2, 0), b = affine(g, x, 3, 0), c = affine(g, x, 5, 0);
    Value loss = loss_of(g, add(g, add(g, a, b), c));
    const int adds = count_of(g, OP_ADD);
    graph_gradient(g, &loss, NULL, 1, &x, 1, &gradient);
    ck_assert_int_eq(graph_check(g, NULL), STATUS_OK);
    ck_assert_int_eq(count_of(g, OP_ADD) - adds, 2); /* three uses */
    ck_assert_int_eq(maker(g, gradient)->operation, OP_ADD);
    ck_assert(shape_equal(graph_shape(g, gradient), shape_of(2, 3)));
    graph_destroy(g);
}
END_TEST

START_TEST(nothing_flows_through_detach)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), targets[3], gradients[3];
    Value inner = linear(g, x, "inner", .out = 4), outer = linear(g, detach(g, inner), "outer", .out = 2);
    Value loss = loss_of(g, outer);
    targets[0] = x;
    targets[1] = graph_find(g, "inner.weight");
    targets[2] = graph_find(g, "outer.weight");
    graph_gradient(g, &loss, NULL, 1, targets, 3, gradients);
    ck_assert(!value_exists(gradients[0]));
    ck_assert(!value_exists(gradients[1]));
    ck_assert(value_exists(gradients[2]));
    ck_assert_int_eq(count_of(g, OP_LINEAR_GRAD_INPUT), 0); /* nobody wants it behind the detach */
    graph_destroy(g);
}
END_TEST

/* The first layer's input needs none: with three layers two input gradients are built, and for one target just what
 * leads to it. */
START_TEST(only_what_is_needed_is_built)
{
    for (int layer = 0; layer < 3; layer++) {
        const char *const names[] = {"a.weight", "b.weight", "c.weight"};
        Graph *g = graph_create(DTYPE_F32, true);
        Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), gradient;
        x = linear(g, linear(g, linear(g, x, "a", .out = 4), "b", .out = 4), "c", .out = 4);
        Value loss = loss_of(g, x), target = graph_find(g, names[layer]);
        graph_gradient(g, &loss, NULL, 1, &target, 1, &gradient);
        ck_assert(value_exists(gradient));
        ck_assert_int_eq(count_of(g, OP_LINEAR_GRAD_INPUT), 2 - layer);
        ck_assert_int_eq(count_of(g, OP_LINEAR_GRAD_PARAMETERS), 1);
        graph_destroy(g);
    }
}
END_TEST

START_TEST(parameters_that_matter_to_nothing_have_none)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), gradients[3];
    Value loss = loss_of(g, linear(g, x, "used", .out = 2));
    linear(g, x, "unused", .out = 2);
    Value targets[] = {graph_find(g, "unused.weight"), graph_find(g, "used.bias"), VALUE_NONE};
    graph_gradient(g, &loss, NULL, 1, targets, 3, gradients);
    ck_assert(!value_exists(gradients[0]));
    ck_assert(value_exists(gradients[1]));
    ck_assert(!value_exists(gradients[2]));
    graph_destroy(g);
}
END_TEST

START_TEST(seeds_start_the_pass)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), gradient;
    Value seed = graph_input(g, "seed", DTYPE_F32, shape_of(2, 4)), y = linear(g, x, "layer", .out = 4);
    graph_gradient(g, &y, &seed, 1, &x, 1, &gradient);
    ck_assert_int_eq(maker(g, gradient)->operation, OP_LINEAR_GRAD_INPUT);
    ck_assert(value_is(maker(g, gradient)->inputs[0], seed)); /* as it is */
    graph_destroy(g);
}
END_TEST

START_TEST(several_outputs_add_up)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), gradient;
    Value outputs[] = {affine(g, x, 2, 0), affine(g, x, 3, 0)};
    Value seeds[] = {graph_input(g, "s", DTYPE_F32, shape_of(2, 3)), graph_input(g, "t", DTYPE_F32, shape_of(2, 3))};
    graph_gradient(g, outputs, seeds, 2, &x, 1, &gradient);
    ck_assert_int_eq(maker(g, gradient)->operation, OP_ADD);
    graph_destroy(g);
}
END_TEST

START_TEST(an_output_that_is_no_scalar_needs_a_seed)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), y = relu(g, x), gradient;
    graph_gradient(g, &y, NULL, 1, &x, 1, &gradient);
    ck_assert_int_eq(graph_check(g, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "seed"));
    ck_assert_ptr_nonnull(strstr(error.message, "relu"));
    graph_destroy(g);
}
END_TEST

START_TEST(the_pass_has_its_phase_and_layers)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3));
    Value loss = loss_of(g, linear(g, x, "layer", .out = 2)), w = graph_find(g, "layer.weight"), gradient;
    const int forward = graph_node_count(g);
    graph_gradient(g, &loss, NULL, 1, &w, 1, &gradient);
    for (int n = 0; n < graph_node_count(g); n++)
        ck_assert_int_eq(graph_node(g, n)->phase, n < forward ? PHASE_FORWARD : PHASE_BACKWARD);
    ck_assert_str_eq(maker(g, gradient)->layer, "layer");
    sgd(g, w, gradient, graph_input(g, "lr", DTYPE_F32, shape_scalar()), (SgdOptions){.momentum = 0.9});
    ck_assert_int_eq(graph_node(g, graph_node_count(g) - 1)->phase, PHASE_UPDATE);
    ck_assert(value_exists(graph_value(g, graph_find(g, "layer.weight.momentum"))->assigned));
    graph_destroy(g);
}
END_TEST

START_TEST(a_graph_with_a_mistake_has_no_gradients)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3)), gradient = x;
    Value loss = matmul(g, x, x, false, false);
    graph_gradient(g, &loss, NULL, 1, &x, 1, &gradient);
    ck_assert(!value_exists(gradient));
    ck_assert_int_eq(graph_check(g, NULL), STATUS_INVALID_ARGUMENT);
    graph_destroy(g);
}
END_TEST

SUITE_MAIN("gradient", gradients_of_all_uses_are_added, nothing_flows_through_detach, only_what_is_needed_is_built,
           parameters_that_matter_to_nothing_have_none, seeds_start_the_pass, several_outputs_add_up,
           an_output_that_is_no_scalar_needs_a_seed, the_pass_has_its_phase_and_layers,
           a_graph_with_a_mistake_has_no_gradients)
