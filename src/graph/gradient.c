/* Reverse-mode differentiation on the graph itself: walks the nodes backwards and lets each operation's gradient rule
 * append the nodes of its part. */
#include <stdlib.h>
#include <string.h>

#include "graph/operation.h"
#include "graph/ops.h"

enum { MAX_INPUTS = 64 }; /* of an operation that a gradient flows through */

typedef struct Backward {
    Graph *graph;
    bool *needed;     /* by value: some target depends on... is reached from it */
    Value *gradients; /* by value: what has been summed so far */
} Backward;

static void accumulate(Backward *backward, Value value, Value gradient)
{
    if (!value_exists(gradient)) return;
    Value *sum = &backward->gradients[value.id];
    *sum = value_exists(*sum) ? add(backward->graph, *sum, gradient) : gradient;
}

/* A value needs a gradient when it is a target, or is computed by a differentiable node from one that does. */
static void mark_needed(Backward *backward, const Value *targets, int target_count, int node_count)
{
    for (int i = 0; i < target_count; i++)
        if (value_exists(targets[i])) backward->needed[targets[i].id] = true;
    for (int n = 0; n < node_count; n++) {
        const Node *node = graph_node(backward->graph, n);
        if (operation_of(node->operation)->gradient == NULL) continue;
        bool any = false;
        for (int i = 0; i < node->input_count; i++)
            any = any || (value_exists(node->inputs[i]) && backward->needed[node->inputs[i].id]);
        for (int i = 0; any && i < node->output_count; i++)
            backward->needed[node->outputs[i].id] = true;
    }
}

static void differentiate(Backward *backward, int index)
{
    Graph *graph = backward->graph;
    Node node = *graph_node(graph, index); /* a copy: appending nodes moves the array */
    const Operation *operation = operation_of(node.operation);
    Value output_gradients[NODE_MAX_OUTPUTS], input_gradients[MAX_INPUTS];
    bool needed[MAX_INPUTS], any_output = false, any_input = false;
    for (int i = 0; i < node.output_count; i++) {
        output_gradients[i] = backward->gradients[node.outputs[i].id];
        any_output = any_output || value_exists(output_gradients[i]);
    }
    if (!any_output || operation->gradient == NULL) return;
    if (node.input_count > MAX_INPUTS) {
        graph_fail(graph, STATUS_OUT_OF_RANGE, "%s has %d inputs, but a gradient flows through at most %d",
                   operation->name, node.input_count, MAX_INPUTS);
        return;
    }
    for (int i = 0; i < node.input_count; i++) {
        needed[i] = value_exists(node.inputs[i]) && backward->needed[node.inputs[i].id];
        any_input = any_input || needed[i];
        input_gradients[i] = VALUE_NONE;
    }
    if (!any_input) return;
    graph_set_layer(graph, node.layer);
    operation->gradient(graph, &node, output_gradients, needed, input_gradients);
    for (int i = 0; i < node.input_count; i++)
        if (needed[i]) accumulate(backward, node.inputs[i], input_gradients[i]);
}

void graph_gradient(Graph *graph, const Value *outputs, const Value *seeds, int output_count, const Value *targets,
                    int target_count, Value *gradients)
{
    for (int i = 0; i < target_count; i++)
        gradients[i] = VALUE_NONE;
    if (graph_check(graph, NULL) != STATUS_OK) return;
    int node_count = graph_node_count(graph);
    size_t value_count = (size_t)graph_value_count(graph) + (size_t)output_count; /* the seeds made below */
    Backward backward = {graph, calloc(value_count, sizeof(bool)), malloc(value_count * sizeof(Value))};
    if (backward.needed == NULL || backward.gradients == NULL) {
        graph_fail(graph, STATUS_RESOURCE_EXHAUSTED, "no memory to differentiate %d nodes", node_count);
        goto done;
    }
    memset(backward.gradients, 0xff, value_count * sizeof(Value)); /* VALUE_NONE */
    graph_set_phase(graph, PHASE_BACKWARD);
    mark_needed(&backward, targets, target_count, node_count);
    for (int i = 0; i < output_count; i++) {
        Value seed = seeds != NULL ? seeds[i] : VALUE_NONE;
        if (!value_exists(seed) && shape_count(graph_shape(graph, outputs[i])) != 1)
            graph_fail(graph, STATUS_INVALID_ARGUMENT, "output '%s' is no scalar, so its gradient needs a seed",
                       graph_value(graph, outputs[i])->name);
        if (!value_exists(seed)) seed = affine(graph, outputs[i], 0, 1);
        accumulate(&backward, outputs[i], seed);
    }
    for (int n = node_count - 1; n >= 0 && graph_check(graph, NULL) == STATUS_OK; n--)
        differentiate(&backward, n);
    for (int i = 0; i < target_count; i++)
        if (value_exists(targets[i])) gradients[i] = backward.gradients[targets[i].id];
    graph_set_layer(graph, "");
done:
    free(backward.needed);
    free(backward.gradients);
}
