#include "ops/network.h"

#include <check.h>

#include "base/rng.h"
#include "graph/ops.h"

enum { PARAMETERS = 8 };

Graph *network_graph(DType real, bool training, int batch)
{
    Graph *g = graph_create(real, training);
    Value x = graph_input(g, "image", real, shape_of(batch, 1, 16, 14));
    Value labels = graph_input(g, "labels", DTYPE_I32, shape_of(batch));
    Value lr = graph_input(g, "lr", real, shape_scalar());
    x = relu(g, max_pool2d(g, conv2d(g, x, "conv1", .out = 4, .kernel = 3), 2));
    x = relu(g, max_pool2d(g, dropout2d(g, conv2d(g, x, "conv2", .out = 5, .kernel = 3), 0.5), 2));
    x = flatten(g, x, 1);
    x = relu(g, linear(g, x, "hidden1", .out = 7));
    Value logits = linear(g, x, "target", .out = 3);
    Value loss = cross_entropy(g, logits, labels), parameters[PARAMETERS], gradients[PARAMETERS];
    const int count = graph_parameters(g, parameters, PARAMETERS);
    graph_gradient(g, &loss, NULL, 1, parameters, count, gradients);
    graph_output(g, "logits", logits);
    graph_output(g, "loss", loss);
    graph_output(g, "norm", global_norm(g, gradients, count));
    for (int i = 0; i < count; i++)
        sgd(g, parameters[i], gradients[i], lr, (SgdOptions){.momentum = 0.9});
    return g;
}

void network_fill(const Harness *harness, const Graph *graph)
{
    Rng rng = rng_make(4, RNG_STREAM_TEST);
    for (int id = 0; id < graph_value_count(graph); id++) {
        const ValueInfo *info = graph_value(graph, (Value){id});
        if (info->kind != VALUE_INPUT) continue;
        const Tensor input = harness_input(harness, info->name);
        for (int64_t i = 0; i < shape_count(input.shape); i++)
            element_set(&input, i, dtype_is_float(info->dtype) ? rng_normal(&rng) : (double)rng_below(&rng, 3));
    }
}

/* `found` and `expected` may lie in another order. */
static double variable_difference(const Variables *found, const Variables *expected, int index)
{
    Tensor a, b;
    const int twin = variables_find(found, variables_name(expected, index));
    const Shape shape = variables_shape(expected, index);
    ck_assert_int_ge(twin, 0);
    ck_assert_int_eq(tensor_create(variables_dtype(found, twin), shape, &a, NULL), STATUS_OK);
    ck_assert_int_eq(tensor_create(variables_dtype(expected, index), shape, &b, NULL), STATUS_OK);
    ck_assert_int_eq(variables_read(found, twin, a.data, a.size, NULL), STATUS_OK);
    ck_assert_int_eq(variables_read(expected, index, b.data, b.size, NULL), STATUS_OK);
    const double difference = relative_difference(&a, &b);
    tensor_destroy(&a);
    tensor_destroy(&b);
    return difference;
}

double network_variables_difference(const Harness *a, const Harness *b)
{
    double most = 0;
    ck_assert_int_eq(variables_count(a->variables), variables_count(b->variables));
    for (int i = 0; i < variables_count(b->variables); i++) {
        const double difference = variable_difference(a->variables, b->variables, i);
        if (difference > most) most = difference;
    }
    return most;
}
