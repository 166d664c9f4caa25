/* The operation table is complete, and counts work as one would by hand. */
#include "graph/operation.h"

#include <check.h>
#include <string.h>

#include "graph/ops.h"
#include "support/suite.h"

START_TEST(every_kind_has_a_row)
{
    for (int kind = 0; kind < OPERATION_COUNT; kind++) {
        const Operation *row = operation_of((OperationKind)kind);
        ck_assert_msg(row->name != NULL && *row->name != '\0', "operation %d has no name", kind);
        ck_assert_msg(row->infer != NULL, "%s has no shape rule", row->name);
        ck_assert_msg(row->outputs >= 1 && row->outputs <= NODE_MAX_OUTPUTS, "%s has %d outputs", row->name,
                      row->outputs);
        ck_assert_msg(row->inputs_min >= 1 && (row->inputs_max == -1 || row->inputs_max >= row->inputs_min),
                      "%s takes %d to %d inputs", row->name, row->inputs_min, row->inputs_max);
        for (int other = 0; other < kind; other++)
            ck_assert_str_ne(row->name, operation_of((OperationKind)other)->name);
    }
}
END_TEST

/* What a soma is written in can be trained: forward operations have a gradient rule, but for detach, whose purpose it
 * is to have none, and what only a rewrite makes. */
START_TEST(forward_operations_are_differentiable)
{
    for (int kind = 0; kind < OPERATION_COUNT; kind++) {
        const Operation *row = operation_of((OperationKind)kind);
        const bool backward = strstr(row->name, "_grad") != NULL;
        const bool none = backward || kind == OP_DETACH || kind == OP_CONV2D_POOL || kind == OP_GLOBAL_NORM ||
                          kind == OP_CLIP_FACTOR || kind == OP_LOSS_SCALE || kind == OP_SGD;
        ck_assert_msg((row->gradient == NULL) == none, "gradient rule of %s", row->name);
    }
}
END_TEST

static const Node *last(const Graph *g)
{
    return graph_node(g, graph_node_count(g) - 1);
}

/* conv2: [64, 10, 12, 12] * [20, 10, 5, 5] -> [64, 20, 8, 8]: 64 20 8 8 sums of 250 products. */
START_TEST(a_convolution_by_hand)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(64, 10, 12, 12));
    Value y = conv2d(g, x, "conv", .out = 20, .kernel = 5);
    ck_assert(shape_equal(graph_shape(g, y), shape_of(64, 20, 8, 8)));
    ck_assert_double_eq(operation_flops(g, last(g)), 2.0 * 64 * 20 * 64 * 250);
    ck_assert_double_eq(operation_bytes(g, last(g)), 4.0 * (64 * 1440 + 20 * 250 + 20 + 64 * 1280));
    Value seed = graph_input(g, "dy", DTYPE_F32, shape_of(64, 20, 8, 8));
    Value targets[] = {x, graph_find(g, "conv.weight")}, gradients[2];
    graph_gradient(g, &y, &seed, 1, targets, 2, gradients);
    for (int i = 0; i < 2; i++) /* each as much work as the forward pass */
        ck_assert_double_eq(operation_flops(g, graph_node(g, graph_value(g, gradients[i])->node)),
                            2.0 * 64 * 20 * 64 * 250);
    graph_destroy(g);
}
END_TEST

/* In 2 groups each output sums half of the channels; stride 2 and padding 1: 8 -> 4. */
START_TEST(a_grouped_convolution_by_hand)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 6, 8, 8));
    Value y = conv2d(g, x, "conv", .out = 4, .kernel = 3, .stride = 2, .padding = 1, .groups = 2, .no_bias = true);
    ck_assert(shape_equal(graph_shape(g, y), shape_of(2, 4, 4, 4)));
    ck_assert_double_eq(operation_flops(g, last(g)), 2.0 * (2 * 4 * 16) * 27);
    ck_assert_double_eq(operation_bytes(g, last(g)), 4.0 * (2 * 384 + 4 * 27 + 2 * 64));
    graph_destroy(g);
}
END_TEST

START_TEST(a_linear_layer_by_hand)
{
    Graph *g = graph_create(DTYPE_F64, true);
    Value x = graph_input(g, "x", DTYPE_F64, shape_of(64, 832));
    Value y = linear(g, x, "layer", .out = 512);
    ck_assert_double_eq(operation_flops(g, last(g)), 2.0 * 64 * 832 * 512);
    ck_assert_double_eq(operation_bytes(g, last(g)), 8.0 * (64 * 832 + 832 * 512 + 512 + 64 * 512));
    Value seed = graph_input(g, "dy", DTYPE_F64, shape_of(64, 512));
    Value targets[] = {x, graph_find(g, "layer.weight")}, gradients[2];
    graph_gradient(g, &y, &seed, 1, targets, 2, gradients);
    for (int i = 0; i < 2; i++)
        ck_assert_double_eq(operation_flops(g, graph_node(g, graph_value(g, gradients[i])->node)),
                            2.0 * 64 * 832 * 512);
    matmul(g, x, y, true, false); /* [832, 64] [64, 512] */
    ck_assert_double_eq(operation_flops(g, last(g)), 2.0 * 832 * 64 * 512);
    graph_destroy(g);
}
END_TEST

START_TEST(views_move_nothing)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(4, 6));
    reshape(g, x, shape_of(24));
    ck_assert_double_eq(operation_bytes(g, last(g)), 0);
    detach(g, x);
    ck_assert_double_eq(operation_bytes(g, last(g)), 0);
    ck_assert_double_eq(operation_flops(g, last(g)), 0);
    add(g, x, x);
    ck_assert_double_eq(operation_bytes(g, last(g)), 3 * 24 * 4.0);
    ck_assert_double_eq(operation_flops(g, last(g)), 24);
    graph_destroy(g);
}
END_TEST

START_TEST(a_pool_writes_values_and_indices)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Value x = graph_input(g, "x", DTYPE_F32, shape_of(2, 3, 9, 8)), y = max_pool2d(g, x, 2);
    ck_assert(shape_equal(graph_shape(g, y), shape_of(2, 3, 4, 4)));
    ck_assert_int_eq(graph_value(g, graph_sibling(g, y, 1))->dtype, DTYPE_U8);
    ck_assert(!value_exists(graph_sibling(g, y, 2)));
    ck_assert_double_eq(operation_bytes(g, last(g)), 4.0 * 432 + 4.0 * 96 + 96);
    graph_destroy(g);
}
END_TEST

SUITE_MAIN("operation", every_kind_has_a_row, forward_operations_are_differentiable, a_convolution_by_hand,
           a_grouped_convolution_by_hand, a_linear_layer_by_hand, views_move_nothing, a_pool_writes_values_and_indices)
