#include "backend/cpu/compile.h"

#include <stdlib.h>
#include <string.h>

#include "graph/operation.h"

static Status no_memory(Error *error)
{
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to compile a plan");
}

/* --- slots --- */

DType slot_dtype(const Compiler *compiler, int slot)
{
    return graph_value(compiler->graph, compiler->slots[slot].value)->dtype;
}

Shape slot_shape(const Compiler *compiler, int slot)
{
    return graph_shape(compiler->graph, compiler->slots[slot].value);
}

static int64_t dense_stride(Shape shape)
{
    return shape.rank > 0 ? shape_count(shape) / shape.dims[0] : 1;
}

int slot_root(const Compiler *compiler, int slot, int64_t *offset, int64_t *stride)
{
    int root = slot,
        rows = slot; /* rows: the outermost slot whose rows are this one's; a view of other rows is dense */
    bool keeps_rows = true;
    *offset = 0;
    while (compiler->slots[root].parent >= 0) {
        *offset += compiler->slots[root].offset;
        keeps_rows = keeps_rows && compiler->slots[root].keeps_rows;
        root = compiler->slots[root].parent;
        if (keeps_rows) rows = root;
    }
    *stride = dense_stride(slot_shape(compiler, rows));
    return root;
}

size_t slot_bytes(const Compiler *compiler, int slot)
{
    Shape shape = slot_shape(compiler, slot);
    size_t element = dtype_size(slot_dtype(compiler, slot));
    if (compiler->slots[slot].layout == LAYOUT_PLAIN) return (size_t)shape_count(shape) * element;
    int64_t blocks = simd_blocks(compiler->simd, shape.dims[0]);
    return (size_t)(blocks * compiler->simd->lanes * dense_stride(shape)) * element;
}

static int add_slot(Compiler *compiler, Value value, Layout layout)
{
    if (compiler->slot_count == compiler->slot_capacity) {
        int capacity = compiler->slot_capacity > 0 ? 2 * compiler->slot_capacity : 256;
        Slot *moved = realloc(compiler->slots, (size_t)capacity * sizeof(Slot));
        if (moved == NULL) return -1;
        compiler->slots = moved;
        compiler->slot_capacity = capacity;
    }
    compiler->slots[compiler->slot_count] = (Slot){.value = value, .layout = layout, .parent = -1, .keeps_rows = true};
    return compiler->slot_count++;
}

static int *known(Compiler *compiler, Value value, Layout layout)
{
    return &compiler->slot_of[(size_t)value.id * LAYOUT_COUNT + layout];
}

/* --- drafts --- */

static Draft *add_draft(Compiler *compiler, DraftKind kind, const Node *node, int inputs, int outputs)
{
    if (compiler->draft_count == compiler->draft_capacity) {
        int capacity = compiler->draft_capacity > 0 ? 2 * compiler->draft_capacity : 256;
        Draft *moved = realloc(compiler->drafts, (size_t)capacity * sizeof(Draft));
        if (moved == NULL) return NULL;
        compiler->drafts = moved;
        compiler->draft_capacity = capacity;
    }
    int *slots = calloc((size_t)inputs + 1, sizeof(int));
    if (slots == NULL) return NULL;
    Draft *draft = &compiler->drafts[compiler->draft_count++];
    *draft = (Draft){.kind = kind, .node = node, .inputs = slots, .input_count = inputs, .output_count = outputs};
    if (node != NULL) draft->attributes = node->attributes;
    return draft;
}

/* A step that moves slot `from` to slot `to`. */
static Status add_move(Compiler *compiler, DraftKind kind, const Node *node, int from, int to, double scale,
                       double shift, Error *error)
{
    Draft *draft = add_draft(compiler, kind, node, 1, 1);
    if (draft == NULL || to < 0) return no_memory(error);
    draft->inputs[0] = from;
    draft->outputs[0] = to;
    draft->attributes = (Attributes){.affine = {scale, shift}};
    draft->constant = compiler->slots[to].constant = compiler->slots[from].constant;
    return STATUS_OK;
}

/* The slot of a value in a layout, made from the other layout where need be. */
static Status require(Compiler *compiler, const Node *node, Value value, Layout layout, int *out, Error *error)
{
    int *slot = known(compiler, value, layout);
    if (*slot < 0) {
        int other = *known(compiler, value, layout == LAYOUT_PLAIN ? LAYOUT_LANES : LAYOUT_PLAIN);
        int made = add_slot(compiler, value, layout);
        RETURN_IF_ERROR(add_move(compiler, DRAFT_CONVERT, node, other, made, 1, 0, error));
        *slot = made;
    }
    *out = *slot;
    return STATUS_OK;
}

/* The same, plain, with rows that follow each other without a gap. */
static Status require_dense(Compiler *compiler, const Node *node, Value value, int *out, Error *error)
{
    int64_t offset, stride;
    RETURN_IF_ERROR(require(compiler, node, value, LAYOUT_PLAIN, out, error));
    slot_root(compiler, *out, &offset, &stride);
    if (stride == dense_stride(slot_shape(compiler, *out))) return STATUS_OK;
    int copy = add_slot(compiler, value, LAYOUT_PLAIN);
    RETURN_IF_ERROR(add_move(compiler, DRAFT_COPY, node, *out, copy, 1, 0, error));
    *out = copy;
    return STATUS_OK;
}

/* --- values that are there from the start --- */

static Status declare(Compiler *compiler, Error *error)
{
    for (int i = 0; i < graph_value_count(compiler->graph); i++) {
        const ValueInfo *info = graph_value(compiler->graph, (Value){i});
        if (dtype_is_float(info->dtype) && info->dtype != DTYPE_F32)
            return error_set(error, STATUS_UNIMPLEMENTED, "'%s' is %s, but the cpu backend computes in f32", info->name,
                             dtype_name(info->dtype));
        if (info->kind == VALUE_COMPUTED) continue;
        int slot = add_slot(compiler, (Value){i}, LAYOUT_PLAIN);
        if (slot < 0) return no_memory(error);
        *known(compiler, (Value){i}, LAYOUT_PLAIN) = slot;
        compiler->slots[slot].fixed = info->kind == VALUE_INPUT;
        compiler->slots[slot].constant = compiler->frozen && info->kind == VALUE_STATE;
        if (info->kind == VALUE_STATE)
            compiler->slots[slot].external =
                variables_data(compiler->variables, variables_find(compiler->variables, info->name));
    }
    return STATUS_OK;
}

static void count_uses(Compiler *compiler)
{
    for (int n = 0; n < graph_node_count(compiler->graph); n++) {
        const Node *node = graph_node(compiler->graph, n);
        for (int i = 0; i < node->input_count; i++)
            if (value_exists(node->inputs[i])) compiler->uses[node->inputs[i].id]++;
    }
    for (int i = 0; i < graph_output_count(compiler->graph); i++)
        compiler->uses[graph_output_at(compiler->graph, i).id]++;
}

/* --- nodes --- */

static bool in_lanes(Compiler *compiler, Value value)
{
    return value_exists(value) && *known(compiler, value, LAYOUT_LANES) >= 0;
}

/* Views: in lanes where the input is there only, and each image keeps its own features; else plain. */
static Status draft_view(Compiler *compiler, const Node *node, Error *error)
{
    Value x = node->inputs[0], y = node->outputs[0];
    Shape from = graph_shape(compiler->graph, x), to = graph_shape(compiler->graph, y);
    bool keeps_rows = from.rank > 0 && to.rank > 0 && from.dims[0] == to.dims[0];
    bool lanes = in_lanes(compiler, x) && *known(compiler, x, LAYOUT_PLAIN) < 0 && keeps_rows;
    int source;
    if (lanes)
        source = *known(compiler, x, LAYOUT_LANES);
    else if (keeps_rows)
        RETURN_IF_ERROR(require(compiler, node, x, LAYOUT_PLAIN, &source, error));
    else
        RETURN_IF_ERROR(require_dense(compiler, node, x, &source, error));
    int view = add_slot(compiler, y, lanes ? LAYOUT_LANES : LAYOUT_PLAIN);
    if (view < 0) return no_memory(error);
    compiler->slots[view].parent = source;
    compiler->slots[view].keeps_rows = keeps_rows;
    compiler->slots[view].constant = compiler->slots[source].constant;
    *known(compiler, y, compiler->slots[view].layout) = view;
    return STATUS_OK;
}

/* Columns of a matrix are a view with the matrix's row stride. */
static bool slice_is_view(const Compiler *compiler, const Node *node)
{
    return node->operation == OP_SLICE && node->attributes.axis.axis == 1 &&
           graph_shape(compiler->graph, node->inputs[0]).rank == 2;
}

static Status draft_slice_view(Compiler *compiler, const Node *node, Error *error)
{
    int source;
    RETURN_IF_ERROR(require(compiler, node, node->inputs[0], LAYOUT_PLAIN, &source, error));
    int view = add_slot(compiler, node->outputs[0], LAYOUT_PLAIN);
    if (view < 0) return no_memory(error);
    compiler->slots[view].parent = source;
    compiler->slots[view].offset = node->attributes.axis.start;
    compiler->slots[view].constant = compiler->slots[source].constant;
    *known(compiler, node->outputs[0], LAYOUT_PLAIN) = view;
    return STATUS_OK;
}

/* An image that is normalised on its way into lanes: one pass instead of two. */
static bool affine_into_lanes(Compiler *compiler, const Node *node)
{
    if (node->operation != OP_AFFINE || in_lanes(compiler, node->inputs[0])) return false;
    for (int n = 0; n < graph_node_count(compiler->graph); n++) {
        const Node *reader = graph_node(compiler->graph, n);
        if (reader->input_count > 0 && value_is(reader->inputs[0], node->outputs[0]) &&
            cpu_lanes_fit(compiler->simd, compiler->graph, reader))
            return true;
    }
    return false;
}

static bool lanes_for(Compiler *compiler, const Node *node, const CpuOperation *operation)
{
    if (operation->layout == LAYOUT_RULE_IMAGE) return cpu_lanes_fit(compiler->simd, compiler->graph, node);
    if (operation->layout != LAYOUT_RULE_FOLLOW) return false;
    for (int i = 0; i < node->input_count; i++)
        if (in_lanes(compiler, node->inputs[i])) return true;
    return false;
}

/* Of a node in lanes: the images and what goes with them, not weights, scalars and seeds. */
static bool input_in_lanes(const Compiler *compiler, const Node *node, const CpuOperation *operation, int i)
{
    if (operation->layout == LAYOUT_RULE_FOLLOW)
        return shape_equal(graph_shape(compiler->graph, node->inputs[i]),
                           graph_shape(compiler->graph, node->outputs[0]));
    return i == 0 ||
           (i == 1 && (node->operation == OP_CONV2D_GRAD_PARAMETERS || node->operation == OP_MAX_POOL2D_GRAD));
}

static Status draft_node(Compiler *compiler, const Node *node, Error *error)
{
    const CpuOperation *operation = cpu_operation(node->operation);
    bool lanes = lanes_for(compiler, node, operation), constant = compiler->frozen;
    bool dense = operation->layout == LAYOUT_RULE_DENSE || operation->layout == LAYOUT_RULE_IMAGE;
    int *inputs = calloc((size_t)node->input_count + 1, sizeof(int));
    if (inputs == NULL) return no_memory(error);
    Status status = STATUS_OK;
    for (int i = 0; i < node->input_count && status == STATUS_OK; i++) {
        inputs[i] = -1;
        if (!value_exists(node->inputs[i])) continue;
        if (lanes && input_in_lanes(compiler, node, operation, i))
            status = require(compiler, node, node->inputs[i], LAYOUT_LANES, &inputs[i], error);
        else if (dense)
            status = require_dense(compiler, node, node->inputs[i], &inputs[i], error);
        else
            status = require(compiler, node, node->inputs[i], LAYOUT_PLAIN, &inputs[i], error);
        constant = constant && status == STATUS_OK && compiler->slots[inputs[i]].constant;
    }
    Draft *draft =
        status == STATUS_OK ? add_draft(compiler, DRAFT_NODE, node, node->input_count, node->output_count) : NULL;
    if (draft != NULL) memcpy(draft->inputs, inputs, (size_t)node->input_count * sizeof(int));
    free(inputs);
    if (status != STATUS_OK) return status;
    if (draft == NULL) return no_memory(error);
    draft->constant = constant;
    Layout layout = lanes && node->operation != OP_CONV2D_GRAD_PARAMETERS ? LAYOUT_LANES : LAYOUT_PLAIN;
    for (int i = 0; i < node->output_count; i++) {
        /* A pool whose index nobody reads needn't write it; other outputs are always written. */
        bool optional = slot_dtype(compiler, draft->inputs[0]) == DTYPE_F32 && i == 1 &&
                        graph_value(compiler->graph, node->outputs[i])->dtype == DTYPE_U8;
        draft->outputs[i] = -1;
        if (optional && compiler->uses[node->outputs[i].id] == 0) continue;
        int slot = add_slot(compiler, node->outputs[i], layout);
        if (slot < 0) return no_memory(error);
        compiler->slots[slot].constant = constant;
        draft->outputs[i] = *known(compiler, node->outputs[i], layout) = slot;
    }
    return STATUS_OK;
}

static Status draft_any(Compiler *compiler, const Node *node, Error *error)
{
    if (operation_of(node->operation)->view) return draft_view(compiler, node, error);
    if (slice_is_view(compiler, node)) return draft_slice_view(compiler, node, error);
    if (!affine_into_lanes(compiler, node)) return draft_node(compiler, node, error);
    int source, lanes = add_slot(compiler, node->outputs[0], LAYOUT_LANES);
    RETURN_IF_ERROR(require(compiler, node, node->inputs[0], LAYOUT_PLAIN, &source, error));
    RETURN_IF_ERROR(add_move(compiler, DRAFT_CONVERT, node, source, lanes, node->attributes.affine.scale,
                             node->attributes.affine.shift, error));
    *known(compiler, node->outputs[0], LAYOUT_LANES) = lanes;
    return STATUS_OK;
}

/* --- states and outputs --- */

static bool reads(const Compiler *compiler, const Draft *draft, int slot)
{
    int64_t offset, stride;
    for (int i = 0; i < draft->input_count; i++)
        if (draft->inputs[i] >= 0 && slot_root(compiler, draft->inputs[i], &offset, &stride) == slot) return true;
    return false;
}

/* Whether draft `d` makes `value` as output i of an operation that may write over its input i, which is the state, and
 * is the last to read it. */
static bool updates_in_place(Compiler *compiler, int slot, Value value, int d)
{
    const Draft *draft = &compiler->drafts[d];
    if (draft->kind != DRAFT_NODE || !cpu_operation(draft->node->operation)->in_place) return false;
    int output = graph_value(compiler->graph, value)->output;
    if (!value_is(draft->node->outputs[output], value) || draft->inputs[output] != slot) return false;
    for (int later = d + 1; later < compiler->draft_count; later++)
        if (reads(compiler, &compiler->drafts[later], slot)) return false;
    return true;
}

static Status assign_state(Compiler *compiler, int to, Value value, Error *error)
{
    int from;
    for (int d = compiler->draft_count - 1; d >= 0; d--)
        if (updates_in_place(compiler, to, value, d)) {
            compiler->slots[*known(compiler, value, LAYOUT_PLAIN)].parent = to;
            return STATUS_OK;
        }
    RETURN_IF_ERROR(require(compiler, NULL, value, LAYOUT_PLAIN, &from, error));
    RETURN_IF_ERROR(add_move(compiler, DRAFT_COPY, NULL, from, to, 1, 0, error));
    return STATUS_OK;
}

/* What a state is to become, where that looks into a state's memory: taken aside before any state changes. */
static Status save_old_value(Compiler *compiler, Value value, Error *error)
{
    int64_t offset, stride;
    int *slot = known(compiler, value, LAYOUT_PLAIN);
    if (*slot < 0 || compiler->slots[slot_root(compiler, *slot, &offset, &stride)].external == NULL) return STATUS_OK;
    int copy = add_slot(compiler, value, LAYOUT_PLAIN), from = *slot;
    *slot = copy;
    return add_move(compiler, DRAFT_COPY, NULL, from, copy, 1, 0, error);
}

/* Outputs are plain, dense and stay: a copy where the value is a view, or a state that the run will change. */
static Status draft_output(Compiler *compiler, Value value, Error *error)
{
    int slot;
    RETURN_IF_ERROR(require(compiler, NULL, value, LAYOUT_PLAIN, &slot, error));
    Slot *known_slot = &compiler->slots[slot];
    if (known_slot->fixed) return STATUS_OK;
    if (known_slot->parent < 0 && known_slot->external == NULL) {
        known_slot->fixed = true;
        return STATUS_OK;
    }
    int copy = add_slot(compiler, value, LAYOUT_PLAIN);
    RETURN_IF_ERROR(add_move(compiler, DRAFT_COPY, NULL, slot, copy, 1, 0, error));
    compiler->slots[copy].fixed = true;
    *known(compiler, value, LAYOUT_PLAIN) = copy;
    return STATUS_OK;
}

/* Only a state's own slot has external memory; what stands for its old value may be a copy by now. */
static Status assign_states(Compiler *compiler, Error *error)
{
    const Graph *graph = compiler->graph;
    for (int i = 0; i < graph_value_count(graph); i++) {
        Value assigned = graph_value(graph, (Value){i})->assigned;
        if (value_exists(assigned)) RETURN_IF_ERROR(save_old_value(compiler, assigned, error));
    }
    for (int slot = 0; slot < compiler->slot_count; slot++) {
        if (compiler->slots[slot].external == NULL) continue;
        Value assigned = graph_value(graph, compiler->slots[slot].value)->assigned;
        if (value_exists(assigned)) RETURN_IF_ERROR(assign_state(compiler, slot, assigned, error));
    }
    return STATUS_OK;
}

/* --- concatenations that move no bytes --- */

/* Whether `view` looks into `slot` with other rows, at any distance. */
static bool rearranges(const Compiler *compiler, int view, int slot)
{
    bool keeps_rows = true;
    while (view >= 0 && view != slot) {
        keeps_rows = keeps_rows && compiler->slots[view].keeps_rows;
        view = compiler->slots[view].parent;
    }
    return view == slot && !keeps_rows;
}

/* Whether the memory of `slot` may become columns of a wider matrix: its own, whole, read and written only by steps
 * that take strided rows. */
static bool may_be_strided(const Compiler *compiler, int slot)
{
    const Slot *s = &compiler->slots[slot];
    if (s->fixed || s->external != NULL || s->parent >= 0 || s->layout != LAYOUT_PLAIN ||
        slot_dtype(compiler, slot) != DTYPE_F32)
        return false;
    for (int i = 0; i < compiler->slot_count; i++)
        if (rearranges(compiler, i, slot)) return false;
    for (int d = 0; d < compiler->draft_count; d++) {
        const Draft *draft = &compiler->drafts[d];
        LayoutRule rule = draft->kind == DRAFT_NODE ? cpu_operation(draft->node->operation)->layout : LAYOUT_RULE_PLAIN;
        if (rule == LAYOUT_RULE_PLAIN || rule == LAYOUT_RULE_FOLLOW) continue;
        if (reads(compiler, draft, slot)) return false;
        for (int i = 0; i < draft->output_count; i++)
            if (draft->outputs[i] == slot) return false;
    }
    return true;
}

static void place_concat(Compiler *compiler, Draft *draft)
{
    int whole = draft->outputs[0], placed = 0;
    int64_t start = 0;
    if (draft->node->attributes.axis.axis != 1 || slot_shape(compiler, whole).rank != 2) return;
    for (int i = 0; i < draft->input_count; i++) {
        int64_t offset, stride, columns = slot_shape(compiler, draft->inputs[i]).dims[1];
        int root = slot_root(compiler, draft->inputs[i], &offset, &stride);
        bool entire = offset == 0 && stride == columns &&
                      slot_shape(compiler, root).dims[0] == slot_shape(compiler, whole).dims[0];
        if (entire && compiler->slots[root].constant == draft->constant && may_be_strided(compiler, root)) {
            compiler->slots[root].parent = whole;
            compiler->slots[root].offset = start;
            compiler->slots[root].keeps_rows = true;
            placed++;
        }
        start += columns;
    }
    draft->dropped = placed == draft->input_count;
}

Status compile_drafts(Compiler *compiler, Error *error)
{
    const Graph *graph = compiler->graph;
    size_t values = (size_t)graph_value_count(graph) + 1;
    compiler->slot_of = malloc(values * LAYOUT_COUNT * sizeof(int));
    compiler->uses = calloc(values, sizeof(int));
    if (compiler->slot_of == NULL || compiler->uses == NULL) return no_memory(error);
    memset(compiler->slot_of, 0xff, values * LAYOUT_COUNT * sizeof(int));
    count_uses(compiler);
    RETURN_IF_ERROR(declare(compiler, error));
    for (int n = 0; n < graph_node_count(graph); n++)
        RETURN_IF_ERROR(draft_any(compiler, graph_node(graph, n), error));
    for (int i = 0; i < graph_output_count(graph); i++)
        RETURN_IF_ERROR(draft_output(compiler, graph_output_at(graph, i), error));
    RETURN_IF_ERROR(assign_states(compiler, error));
    for (int d = 0; d < compiler->draft_count; d++)
        if (compiler->drafts[d].kind == DRAFT_NODE && compiler->drafts[d].node->operation == OP_CONCAT)
            place_concat(compiler, &compiler->drafts[d]);
    return STATUS_OK;
}

void compiler_free(Compiler *compiler)
{
    for (int d = 0; d < compiler->draft_count; d++)
        free(compiler->drafts[d].inputs);
    free(compiler->drafts);
    free(compiler->slots);
    free(compiler->slot_of);
    free(compiler->uses);
}
