#include "graph/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "graph/operation.h"

typedef struct NamedOutput {
    const char *name;
    Value value;
    int sample_axis;
} NamedOutput;

struct Graph {
    DType real;
    bool training;
    Phase phase;
    const char *layer;
    Arena arena; /* names, inputs of nodes */
    ValueInfo *values;
    int value_count, value_capacity;
    Node *nodes;
    int node_count, node_capacity;
    NamedOutput *outputs;
    int output_count, output_capacity;
    Error error; /* the first mistake; status OK while there is none */
};

Graph *graph_create(DType real, bool training)
{
    Graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) return NULL;
    graph->real = real;
    graph->training = training;
    graph->layer = "";
    return graph;
}

void graph_destroy(Graph *graph)
{
    if (graph == NULL) return;
    arena_free(&graph->arena);
    free(graph->values);
    free(graph->nodes);
    free(graph->outputs);
    free(graph);
}

DType graph_real(const Graph *graph)
{
    return graph->real;
}

bool graph_training(const Graph *graph)
{
    return graph->training;
}

Status graph_check(const Graph *graph, Error *error)
{
    if (graph == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    if (graph->error.status != STATUS_OK && error != NULL) *error = graph->error;
    return graph->error.status;
}

Value graph_fail(Graph *graph, Status status, const char *format, ...)
{
    if (graph->error.status != STATUS_OK) return VALUE_NONE;
    va_list arguments;
    va_start(arguments, format);
    char message[ERROR_MESSAGE_SIZE];
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error_set(&graph->error, status, "%s", message);
    return VALUE_NONE;
}

static Value out_of_memory(Graph *graph)
{
    return graph_fail(graph, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph of %d nodes", graph->node_count);
}

/* Makes room for one more item. */
static bool grow(void **items, int count, int *capacity, size_t item_size)
{
    if (count < *capacity) return true;
    int wider = *capacity > 0 ? 2 * *capacity : 64;
    void *moved = realloc(*items, (size_t)wider * item_size);
    if (moved == NULL) return false;
    *items = moved;
    *capacity = wider;
    return true;
}

static Value append_value(Graph *graph, ValueInfo info, const char *name)
{
    info.name = arena_string(&graph->arena, name);
    if (info.name == NULL ||
        !grow((void **)&graph->values, graph->value_count, &graph->value_capacity, sizeof(ValueInfo)))
        return out_of_memory(graph);
    graph->values[graph->value_count] = info;
    return (Value){graph->value_count++};
}

static Value find_declared(const Graph *graph, const char *name)
{
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i].kind != VALUE_COMPUTED && strcmp(graph->values[i].name, name) == 0) return (Value){i};
    return VALUE_NONE;
}

static bool shape_is_valid(Graph *graph, const char *name, DType dtype, Shape shape)
{
    size_t bytes;
    char text[SHAPE_TEXT_SIZE];
    if (shape_bytes(shape, dtype_size(dtype), &bytes) && shape_count(shape) > 0) return true;
    graph_fail(graph, STATUS_INVALID_ARGUMENT, "shape of '%s' is %s, expected positive dimensions that fit memory",
               name, shape_text(shape, text));
    return false;
}

Value graph_input(Graph *graph, const char *name, DType dtype, Shape shape)
{
    if (graph->error.status != STATUS_OK || !shape_is_valid(graph, name, dtype, shape)) return VALUE_NONE;
    if (value_exists(find_declared(graph, name)))
        return graph_fail(graph, STATUS_ALREADY_EXISTS, "input '%s' is declared twice", name);
    ValueInfo info = {
        .kind = VALUE_INPUT, .dtype = dtype, .shape = shape, .node = -1, .sample_axis = -1, .assigned = VALUE_NONE};
    return append_value(graph, info, name);
}

static Value declare_state(Graph *graph, const char *name, ValueInfo info)
{
    if (graph->error.status != STATUS_OK || !shape_is_valid(graph, name, info.dtype, info.shape)) return VALUE_NONE;
    Value known = find_declared(graph, name);
    if (!value_exists(known)) return append_value(graph, info, name);
    const ValueInfo *old = graph_value(graph, known);
    char now[SHAPE_TEXT_SIZE], before[SHAPE_TEXT_SIZE];
    if (old->kind == VALUE_STATE && old->dtype == info.dtype && shape_equal(old->shape, info.shape)) return known;
    return graph_fail(graph, STATUS_ALREADY_EXISTS, "state '%s' is declared as %s %s, but was %s %s before", name,
                      dtype_name(info.dtype), shape_text(info.shape, now), dtype_name(old->dtype),
                      shape_text(old->shape, before));
}

Value graph_state(Graph *graph, const char *name, DType dtype, Shape shape, Initializer initializer, double bound)
{
    return declare_state(graph, name,
                         (ValueInfo){.kind = VALUE_STATE,
                                     .dtype = dtype,
                                     .shape = shape,
                                     .node = -1,
                                     .initializer = initializer,
                                     .bound = bound,
                                     .assigned = VALUE_NONE});
}

Value graph_parameter(Graph *graph, const char *name, Shape shape, double bound)
{
    return declare_state(graph, name,
                         (ValueInfo){.kind = VALUE_STATE,
                                     .dtype = graph->real,
                                     .shape = shape,
                                     .node = -1,
                                     .trainable = true,
                                     .initializer = INITIALIZE_UNIFORM,
                                     .bound = bound,
                                     .assigned = VALUE_NONE});
}

void graph_mark_samples(Graph *graph, Value input, int axis)
{
    if (graph->error.status == STATUS_OK && value_exists(input)) graph->values[input.id].sample_axis = axis;
}

void graph_output(Graph *graph, const char *name, Value value)
{
    graph_output_samples(graph, name, value, -1);
}

void graph_output_samples(Graph *graph, const char *name, Value value, int axis)
{
    if (graph->error.status != STATUS_OK || !value_exists(value)) return;
    const char *copy = arena_string(&graph->arena, name);
    if (copy == NULL ||
        !grow((void **)&graph->outputs, graph->output_count, &graph->output_capacity, sizeof(NamedOutput))) {
        out_of_memory(graph);
        return;
    }
    graph->outputs[graph->output_count++] = (NamedOutput){copy, value, axis};
}

void graph_assign(Graph *graph, Value state, Value value)
{
    if (graph->error.status != STATUS_OK || !value_exists(state) || !value_exists(value)) return;
    ValueInfo *to = &graph->values[state.id];
    const ValueInfo *from = graph_value(graph, value);
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    if (to->kind != VALUE_STATE)
        graph_fail(graph, STATUS_INVALID_ARGUMENT, "'%s' is assigned to, but is no state", to->name);
    else if (value_exists(to->assigned))
        graph_fail(graph, STATUS_ALREADY_EXISTS, "state '%s' is assigned twice", to->name);
    else if (to->dtype != from->dtype || !shape_equal(to->shape, from->shape))
        graph_fail(graph, STATUS_INVALID_ARGUMENT, "state '%s' is %s %s, but '%s', assigned to it, is %s %s", to->name,
                   dtype_name(to->dtype), shape_text(to->shape, a), from->name, dtype_name(from->dtype),
                   shape_text(from->shape, b));
    else
        to->assigned = value;
}

void graph_set_phase(Graph *graph, Phase phase)
{
    graph->phase = phase;
}

void graph_set_layer(Graph *graph, const char *layer)
{
    const char *copy = *layer != '\0' ? arena_string(&graph->arena, layer) : "";
    if (copy == NULL)
        out_of_memory(graph);
    else
        graph->layer = copy;
}

/* "hidden_layer1 (linear)", or "add_12" for a node without a layer. */
static void name_value(const Graph *graph, const Node *node, int output, char *out, size_t size)
{
    const char *operation = operation_of(node->operation)->name;
    char suffix[16] = "";
    if (output > 0) snprintf(suffix, sizeof suffix, ":%d", output);
    if (*node->layer != '\0')
        snprintf(out, size, "%s (%s)%s", node->layer, operation, suffix);
    else
        snprintf(out, size, "%s_%d%s", operation, graph->node_count, suffix);
}

static bool inputs_are_valid(Graph *graph, const Operation *operation, const Value *inputs, int input_count)
{
    if (input_count < operation->inputs_min || (operation->inputs_max >= 0 && input_count > operation->inputs_max)) {
        graph_fail(graph, STATUS_INVALID_ARGUMENT, "%s takes %d to %d inputs, but got %d", operation->name,
                   operation->inputs_min, operation->inputs_max, input_count);
        return false;
    }
    for (int i = 0; i < operation->inputs_min; i++) {
        if (value_exists(inputs[i]) && inputs[i].id < graph->value_count) continue;
        graph_fail(graph, STATUS_INVALID_ARGUMENT, "input %d of %s is missing", i, operation->name);
        return false;
    }
    return true;
}

Value graph_apply(Graph *graph, OperationKind kind, const Value *inputs, int input_count, Attributes attributes)
{
    const Operation *operation = operation_of(kind);
    if (graph->error.status != STATUS_OK || !inputs_are_valid(graph, operation, inputs, input_count)) return VALUE_NONE;
    Value *copy = arena_allocate(&graph->arena, (size_t)input_count * sizeof(Value));
    if (copy == NULL || !grow((void **)&graph->nodes, graph->node_count, &graph->node_capacity, sizeof(Node)))
        return out_of_memory(graph);
    memcpy(copy, inputs, (size_t)input_count * sizeof(Value));
    Node node = {.operation = kind,
                 .phase = graph->phase,
                 .layer = graph->layer,
                 .input_count = input_count,
                 .output_count = operation->outputs,
                 .inputs = copy,
                 .attributes = attributes};
    OutputRule rules[NODE_MAX_OUTPUTS] = {0};
    if (!operation->infer(graph, &node, rules)) return VALUE_NONE;
    for (int i = 0; i < node.output_count; i++) {
        char name[96];
        name_value(graph, &node, i, name, sizeof name);
        if (!shape_is_valid(graph, name, rules[i].dtype, rules[i].shape)) return VALUE_NONE;
        ValueInfo info = {.kind = VALUE_COMPUTED,
                          .dtype = rules[i].dtype,
                          .shape = rules[i].shape,
                          .node = graph->node_count,
                          .output = i,
                          .assigned = VALUE_NONE};
        node.outputs[i] = append_value(graph, info, name);
        if (!value_exists(node.outputs[i])) return VALUE_NONE;
    }
    graph->nodes[graph->node_count++] = node;
    return node.outputs[0];
}

Value graph_sibling(const Graph *graph, Value value, int index)
{
    if (!value_exists(value)) return VALUE_NONE;
    const ValueInfo *info = graph_value(graph, value);
    if (info->node < 0 || index >= graph->nodes[info->node].output_count) return VALUE_NONE;
    return graph->nodes[info->node].outputs[index];
}

int graph_value_count(const Graph *graph)
{
    return graph->value_count;
}

const ValueInfo *graph_value(const Graph *graph, Value value)
{
    return &graph->values[value.id];
}

Shape graph_shape(const Graph *graph, Value value)
{
    return value_exists(value) ? graph->values[value.id].shape : shape_scalar();
}

int graph_node_count(const Graph *graph)
{
    return graph->node_count;
}

const Node *graph_node(const Graph *graph, int index)
{
    return &graph->nodes[index];
}

int graph_output_count(const Graph *graph)
{
    return graph->output_count;
}

const char *graph_output_name(const Graph *graph, int index)
{
    return graph->outputs[index].name;
}

Value graph_output_at(const Graph *graph, int index)
{
    return graph->outputs[index].value;
}

int graph_output_sample_axis(const Graph *graph, int index)
{
    return graph->outputs[index].sample_axis;
}

Value graph_find(const Graph *graph, const char *name)
{
    for (int i = 0; i < graph->output_count; i++)
        if (strcmp(graph->outputs[i].name, name) == 0) return graph->outputs[i].value;
    return find_declared(graph, name);
}

int graph_parameters(const Graph *graph, Value *out, int capacity)
{
    int count = 0;
    for (int i = 0; i < graph->value_count; i++) {
        if (graph->values[i].kind != VALUE_STATE || !graph->values[i].trainable) continue;
        if (count < capacity) out[count] = (Value){i};
        count++;
    }
    return count;
}
