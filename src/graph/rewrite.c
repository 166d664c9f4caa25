#include "graph/rewrite.h"

#include <stdlib.h>
#include <string.h>

#include "graph/ops.h"

/* One pass from an old graph to a new one. */
typedef struct Pass {
    const Graph *from;
    Graph *to;
    Value *mapped;  /* by old value: what stands for it in the new graph; VALUE_NONE before it is made */
    int *uses;      /* by old value: how many live nodes, outputs and assignments read it */
    bool *live;     /* by old node */
    bool *absorbed; /* by old node: already emitted as a part of an earlier one */
    int replaced;
} Pass;

static void pass_free(Pass *pass)
{
    free(pass->mapped);
    free(pass->uses);
    free(pass->live);
    free(pass->absorbed);
}

static bool pass_create(Pass *pass, const Graph *from)
{
    size_t values = (size_t)graph_value_count(from) + 1, nodes = (size_t)graph_node_count(from) + 1;
    *pass = (Pass){.from = from, .to = graph_create(graph_real(from), graph_training(from))};
    pass->mapped = malloc(values * sizeof(Value));
    pass->uses = calloc(values, sizeof(int));
    pass->live = calloc(nodes, sizeof(bool));
    pass->absorbed = calloc(nodes, sizeof(bool));
    if (pass->to == NULL || pass->mapped == NULL || pass->uses == NULL || pass->live == NULL || pass->absorbed == NULL)
        return false;
    memset(pass->mapped, 0xff, values * sizeof(Value)); /* VALUE_NONE */
    return true;
}

/* A node is live when an output, an assignment or a live node reads it. */
static void count_uses(Pass *pass)
{
    const Graph *from = pass->from;
    for (int i = 0; i < graph_output_count(from); i++)
        pass->uses[graph_output_at(from, i).id]++;
    for (int i = 0; i < graph_value_count(from); i++) {
        Value assigned = graph_value(from, (Value){i})->assigned;
        if (value_exists(assigned)) pass->uses[assigned.id]++;
    }
    for (int n = graph_node_count(from) - 1; n >= 0; n--) {
        const Node *node = graph_node(from, n);
        for (int i = 0; i < node->output_count; i++)
            pass->live[n] = pass->live[n] || pass->uses[node->outputs[i].id] > 0;
        for (int i = 0; pass->live[n] && i < node->input_count; i++)
            if (value_exists(node->inputs[i])) pass->uses[node->inputs[i].id]++;
    }
}

/* Inputs and states keep their names, and so stay what callers and variables know. */
static void copy_declarations(Pass *pass)
{
    for (int i = 0; i < graph_value_count(pass->from); i++) {
        const ValueInfo *info = graph_value(pass->from, (Value){i});
        if (info->kind == VALUE_INPUT) {
            pass->mapped[i] = graph_input(pass->to, info->name, info->dtype, info->shape);
            graph_mark_samples(pass->to, pass->mapped[i], info->sample_axis);
        } else if (info->kind == VALUE_STATE && info->trainable)
            pass->mapped[i] = graph_parameter(pass->to, info->name, info->shape, info->bound);
        else if (info->kind == VALUE_STATE)
            pass->mapped[i] =
                graph_state(pass->to, info->name, info->dtype, info->shape, info->initializer, info->bound);
    }
}

static Value mapped(const Pass *pass, Value value)
{
    return value_exists(value) ? pass->mapped[value.id] : VALUE_NONE;
}

static Value emit(Pass *pass, const Node *node, OperationKind kind, const Value *old_inputs, int count,
                  Attributes attributes)
{
    Value *inputs = malloc((size_t)count * sizeof(Value));
    if (inputs == NULL) return graph_fail(pass->to, STATUS_RESOURCE_EXHAUSTED, "no memory to rewrite a graph");
    for (int i = 0; i < count; i++)
        inputs[i] = mapped(pass, old_inputs[i]);
    graph_set_phase(pass->to, node->phase);
    graph_set_layer(pass->to, node->layer);
    Value result = graph_apply(pass->to, kind, inputs, count, attributes);
    free(inputs);
    return result;
}

static void copy_node(Pass *pass, const Node *node)
{
    Value first = emit(pass, node, node->operation, node->inputs, node->input_count, node->attributes);
    for (int i = 0; i < node->output_count; i++)
        pass->mapped[node->outputs[i].id] = graph_sibling(pass->to, first, i);
}

static void copy_results(Pass *pass)
{
    for (int i = 0; i < graph_output_count(pass->from); i++)
        graph_output_samples(pass->to, graph_output_name(pass->from, i), mapped(pass, graph_output_at(pass->from, i)),
                             graph_output_sample_axis(pass->from, i));
    for (int i = 0; i < graph_value_count(pass->from); i++) {
        Value assigned = graph_value(pass->from, (Value){i})->assigned;
        if (value_exists(assigned)) graph_assign(pass->to, pass->mapped[i], mapped(pass, assigned));
    }
}

/* The index of the one live node that reads `value`, if it reads nothing else but that; else -1. */
static int only_reader(const Pass *pass, Value value, OperationKind kind)
{
    if (pass->uses[value.id] != 1) return -1;
    for (int n = graph_value(pass->from, value)->node + 1; n < graph_node_count(pass->from); n++) {
        const Node *node = graph_node(pass->from, n);
        if (!pass->live[n] || node->operation != kind) continue;
        if (node->input_count > 0 && value_is(node->inputs[0], value)) return n;
    }
    return -1;
}

/* conv2d -> [dropout2d] -> max_pool2d 2 -> relu */
static bool fuse_conv_pool(Pass *pass, const Node *conv)
{
    if (conv->operation != OP_CONV2D || conv->attributes.conv2d.activation != ACTIVATION_NONE) return false;
    Value value = conv->outputs[0], random = VALUE_NONE;
    int drop = only_reader(pass, value, OP_DROPOUT);
    Attributes attributes = conv->attributes;
    if (drop >= 0) {
        const Node *node = graph_node(pass->from, drop);
        if (!node->attributes.dropout.channels) return false;
        value = node->outputs[0];
        random = node->inputs[1];
        attributes.conv2d.drop_probability = node->attributes.dropout.probability;
        attributes.conv2d.drop_layer = node->attributes.dropout.layer;
    }
    int pool = only_reader(pass, value, OP_MAX_POOL2D);
    if (pool < 0) return false;
    const Node *pooled = graph_node(pass->from, pool);
    if (pooled->attributes.pool2d.kernel[0] != 2 || pooled->attributes.pool2d.kernel[1] != 2 ||
        pooled->attributes.pool2d.stride[0] != 2 || pooled->attributes.pool2d.stride[1] != 2)
        return false;
    int rectified = only_reader(pass, pooled->outputs[0], OP_RELU);
    if (rectified < 0) return false;
    Value bias = conv->input_count > 2 ? conv->inputs[2] : VALUE_NONE;
    Value fused =
        emit(pass, conv, OP_CONV2D_POOL, (Value[]){conv->inputs[0], conv->inputs[1], bias, random}, 4, attributes);
    pass->mapped[graph_node(pass->from, rectified)->outputs[0].id] = fused;
    pass->mapped[pooled->outputs[1].id] = graph_sibling(pass->to, fused, 1);
    if (drop >= 0) pass->absorbed[drop] = true;
    pass->absorbed[pool] = pass->absorbed[rectified] = true;
    return true;
}

static bool fuse_activation(Pass *pass, const Node *node)
{
    if (node->operation != OP_LINEAR && node->operation != OP_CONV2D) return false;
    int rectified = only_reader(pass, node->outputs[0], OP_RELU);
    if (rectified < 0) return false;
    Attributes attributes = node->attributes;
    if (node->operation == OP_LINEAR)
        attributes.linear.activation = ACTIVATION_RELU;
    else
        attributes.conv2d.activation = ACTIVATION_RELU;
    Value fused = emit(pass, node, node->operation, node->inputs, node->input_count, attributes);
    pass->mapped[graph_node(pass->from, rectified)->outputs[0].id] = fused;
    pass->absorbed[rectified] = true;
    return true;
}

/* --- folding linear layers ---
 * linear(linear(x, w1, b1), w2, b2) = linear(x, w2 w1, w2 b1 + b2), and the same where the inner layer is one half of a
 * concatenation whose other half is x itself: linear([x, linear(x, w1, b1)], [wa wb], b2) = linear(x, wa + wb w1, wb b1
 * + b2). Weights become computed values that depend on states alone; a frozen plan computes them once. */
typedef struct Folded {
    Value x;    /* in the old graph, detaches skipped */
    Value w, b; /* in the new graph */
} Folded;

static Value skip_detach(const Graph *graph, Value value)
{
    while (graph_value(graph, value)->node >= 0) {
        const Node *node = graph_node(graph, graph_value(graph, value)->node);
        if (node->operation != OP_DETACH) break;
        value = node->inputs[0];
    }
    return value;
}

static const Node *producer(const Graph *graph, Value value, OperationKind kind)
{
    int index = graph_value(graph, value)->node;
    const Node *node = index >= 0 ? graph_node(graph, index) : NULL;
    return node != NULL && node->operation == kind ? node : NULL;
}

static const Node *plain_linear(const Graph *graph, Value value)
{
    const Node *node = producer(graph, value, OP_LINEAR);
    return node != NULL && node->attributes.linear.activation == ACTIVATION_NONE ? node : NULL;
}

/* w b1 + b2 for vectors: a linear layer over one row. */
static Value shifted(Graph *g, Value w, Value b1, Value b2)
{
    if (!value_exists(b1)) return b2;
    int64_t inner = graph_shape(g, w).dims[1], outer = graph_shape(g, w).dims[0];
    Value row = reshape(g, b1, shape_of(1, inner));
    row = graph_apply(g, OP_LINEAR, (Value[]){row, w, b2}, 3, (Attributes){0});
    return reshape(g, row, shape_of(outer));
}

static Folded fold(Pass *pass, const Node *node)
{
    const Graph *from = pass->from;
    Graph *to = pass->to;
    Value bias = node->input_count > 2 ? node->inputs[2] : VALUE_NONE;
    Folded result = {skip_detach(from, node->inputs[0]), mapped(pass, node->inputs[1]), mapped(pass, bias)};
    Shape w = graph_shape(from, node->inputs[1]);
    const Node *inner = plain_linear(from, result.x);
    const Node *joined = producer(from, result.x, OP_CONCAT);
    graph_set_layer(to, node->layer);
    if (inner != NULL) {
        Shape w1 = graph_shape(from, inner->inputs[1]);
        if (w.dims[0] * w1.dims[1] >= w.dims[0] * w.dims[1] + w1.dims[0] * w1.dims[1]) return result;
        Folded below = fold(pass, inner);
        graph_set_layer(to, node->layer);
        result.b = shifted(to, result.w, below.b, result.b);
        result.w = matmul(to, result.w, below.w, false, false);
        result.x = below.x;
        pass->replaced++;
    } else if (joined != NULL && joined->input_count == 2 && joined->attributes.axis.axis == 1) {
        Value x = skip_detach(from, joined->inputs[0]);
        inner = plain_linear(from, skip_detach(from, joined->inputs[1]));
        if (inner == NULL) return result;
        Folded below = fold(pass, inner);
        if (!value_is(below.x, x)) return result;
        graph_set_layer(to, node->layer);
        int64_t split = graph_shape(from, x).dims[1];
        Value direct = slice(to, result.w, 1, 0, split), through = slice(to, result.w, 1, split, w.dims[1]);
        result.b = shifted(to, through, below.b, result.b);
        result.w = add(to, direct, matmul(to, through, below.w, false, false));
        result.x = x;
        pass->replaced++;
    }
    return result;
}

static bool fold_linear(Pass *pass, const Node *node)
{
    if (node->operation != OP_LINEAR) return false;
    int before = pass->replaced;
    Folded folded = fold(pass, node);
    if (pass->replaced == before) return false;
    graph_set_phase(pass->to, node->phase);
    graph_set_layer(pass->to, node->layer);
    pass->mapped[node->outputs[0].id] =
        graph_apply(pass->to, OP_LINEAR, (Value[]){mapped(pass, folded.x), folded.w, folded.b}, 3, node->attributes);
    return true;
}

typedef bool Replace(Pass *pass, const Node *node);

/* Copies the live part of `from`, offering each node to the replacements in turn. */
static Graph *run_pass(const Graph *from, Replace *const *replacements, int *replaced)
{
    Pass pass;
    if (!pass_create(&pass, from)) {
        graph_destroy(pass.to);
        pass_free(&pass);
        return NULL;
    }
    Error error;
    if (graph_check(from, &error) != STATUS_OK) {
        graph_fail(pass.to, error.status, "%s", error.message);
        pass_free(&pass);
        return pass.to;
    }
    count_uses(&pass);
    copy_declarations(&pass);
    for (int n = 0; n < graph_node_count(from); n++) {
        const Node *node = graph_node(from, n);
        if (!pass.live[n] || pass.absorbed[n]) continue;
        bool done = false;
        for (Replace *const *replace = replacements; !done && *replace != NULL; replace++) {
            done = (*replace)(&pass, node);
            if (done && *replace != fold_linear) pass.replaced++;
        }
        if (!done) copy_node(&pass, node);
    }
    copy_results(&pass);
    *replaced += pass.replaced;
    pass_free(&pass);
    return pass.to;
}

Graph *rewrite(const Graph *graph, unsigned which, int *replaced)
{
    int count = 0;
    Graph *folded = NULL;
    if (which & REWRITE_FOLD_LINEAR) {
        folded = run_pass(graph, (Replace *const[]){fold_linear, NULL}, &count);
        if (folded == NULL) return NULL;
    }
    Replace *replacements[3] = {NULL, NULL, NULL};
    int used = 0;
    if (which & REWRITE_CONV_POOL) replacements[used++] = fuse_conv_pool;
    if (which & REWRITE_ACTIVATION) replacements[used++] = fuse_activation;
    Graph *result = run_pass(folded != NULL ? folded : graph, replacements, &count);
    graph_destroy(folded);
    if (replaced != NULL) *replaced = count;
    return result;
}
