#include "backend/cuda/compile.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "graph/operation.h"

Status no_memory(Error *error)
{
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to compile a plan");
}

/* --- slots --- */

static int64_t dense_stride(Shape shape)
{
    return shape.rank > 0 && shape.dims[0] > 0 ? shape_count(shape) / shape.dims[0] : 1;
}

int slot_root(const Compiler *compiler, int slot, int64_t *offset, int64_t *stride)
{
    int root = slot, rows = slot; /* rows: the outermost slot whose rows are this one's */
    bool keeps_rows = true;
    *offset = 0;
    while (compiler->slots[root].parent >= 0) {
        *offset += compiler->slots[root].offset;
        keeps_rows = keeps_rows && compiler->slots[root].keeps_rows;
        root = compiler->slots[root].parent;
        if (keeps_rows) rows = root;
    }
    *stride = dense_stride(compiler->slots[rows].shape);
    return root;
}

size_t slot_bytes(const Compiler *compiler, int slot)
{
    return (size_t)shape_count(compiler->slots[slot].shape) * dtype_size(compiler->slots[slot].dtype);
}

int add_slot(Compiler *compiler, Value value, DType dtype, Shape shape)
{
    if (compiler->slot_count == compiler->slot_capacity) {
        const int capacity = compiler->slot_capacity > 0 ? 2 * compiler->slot_capacity : 256;
        Slot *moved = realloc(compiler->slots, (size_t)capacity * sizeof *moved);
        if (moved == NULL) return -1;
        compiler->slots = moved;
        compiler->slot_capacity = capacity;
    }
    compiler->slots[compiler->slot_count] =
        (Slot){.value = value, .dtype = dtype, .shape = shape, .parent = -1, .keeps_rows = true};
    return compiler->slot_count++;
}

static int *slot_form(Compiler *compiler, Value value, int form)
{
    return &compiler->slot_of[(size_t)value.id * FORM_COUNT + (size_t)form];
}

int *slot_in(Compiler *compiler, Value value, DType dtype)
{
    const bool own = dtype == graph_value(compiler->graph, value)->dtype;
    return slot_form(compiler, value, own ? FORM_OWN : FORM_ACTIVATION);
}

int publish(Compiler *compiler, Value value, DType dtype)
{
    const int slot = add_slot(compiler, value, dtype, graph_shape(compiler->graph, value));
    if (slot >= 0) *slot_in(compiler, value, dtype) = slot;
    return slot;
}

/* --- types --- */

/* The activation type where the value is there in it, or will be: inputs of the graph are converted once. */
static DType present_type(Compiler *compiler, Value value)
{
    const ValueInfo *info = graph_value(compiler->graph, value);
    if (info->dtype != DTYPE_F32) return info->dtype;
    return *slot_form(compiler, value, FORM_OWN) >= 0 ? DTYPE_F32 : compiler->cuda->activation;
}

static DType follow_type(Compiler *compiler, const Node *node)
{
    const ValueInfo *first = graph_value(compiler->graph, node->inputs[0]);
    if (node->phase == PHASE_UPDATE || first->shape.rank == 0) return DTYPE_F32;
    if (first->kind == VALUE_INPUT) return compiler->cuda->activation;
    return present_type(compiler, node->inputs[0]);
}

static DType ruled_type(Compiler *compiler, const Node *node, Value value, TypeRule rule)
{
    const DType own = graph_value(compiler->graph, value)->dtype;
    if (own != DTYPE_F32) return own;
    switch (rule) {
    case TYPE_OWN:
        break;
    case TYPE_ACTIVATION:
        return compiler->cuda->activation;
    case TYPE_ANY:
        return present_type(compiler, value);
    case TYPE_FOLLOW:
        return follow_type(compiler, node);
    }
    return own;
}

DType input_type(Compiler *compiler, const Node *node, int kind, int index)
{
    const int rule = index < CUDA_RULES ? index : CUDA_RULES - 1;
    return ruled_type(compiler, node, node->inputs[index], cuda_operation(kind)->inputs[rule]);
}

static DType output_type(Compiler *compiler, const Node *node, int kind, int index)
{
    return ruled_type(compiler, node, node->outputs[index], cuda_operation(kind)->outputs[index]);
}

/* --- drafts --- */

Draft *add_draft(Compiler *compiler, int kind, const Node *node, int inputs, int outputs)
{
    if (compiler->draft_count == compiler->draft_capacity) {
        const int capacity = compiler->draft_capacity > 0 ? 2 * compiler->draft_capacity : 256;
        Draft *moved = realloc(compiler->drafts, (size_t)capacity * sizeof *moved);
        if (moved == NULL) return NULL;
        compiler->drafts = moved;
        compiler->draft_capacity = capacity;
    }
    int *slots = malloc((size_t)(inputs + outputs + 1) * sizeof *slots);
    if (slots == NULL) return NULL;
    for (int i = 0; i < inputs + outputs; i++)
        slots[i] = -1;
    Draft *draft = &compiler->drafts[compiler->draft_count++];
    *draft = (Draft){.kind = kind,
                     .node = node,
                     .inputs = slots,
                     .outputs = slots + inputs,
                     .input_count = inputs,
                     .output_count = outputs};
    if (node != NULL) draft->attributes = node->attributes;
    return draft;
}

/* A step that moves slot `from` to slot `to`. */
static Status draft_move(Compiler *compiler, int kind, const Node *node, int from, int to, Error *error)
{
    Draft *draft = to >= 0 ? add_draft(compiler, kind, node, 1, 1) : NULL;
    if (draft == NULL) return no_memory(error);
    draft->inputs[0] = from;
    draft->outputs[0] = to;
    draft->bytes = (double)slot_bytes(compiler, from) + (double)slot_bytes(compiler, to);
    draft->constant = compiler->slots[to].constant = compiler->slots[from].constant;
    return STATUS_OK;
}

Status draft_copy(Compiler *compiler, const Node *node, int from, int to, Error *error)
{
    return draft_move(compiler, CUDA_COPY, node, from, to, error);
}

/* Rows that follow each other without a gap; or, where they may lie apart, that begin at whole vectors. */
static bool rows_suit(const Compiler *compiler, int slot, bool strided)
{
    int64_t offset, stride;
    slot_root(compiler, slot, &offset, &stride);
    const size_t size = dtype_size(compiler->slots[slot].dtype);
    const bool dense = stride == dense_stride(compiler->slots[slot].shape);
    const bool aligned =
        (size_t)offset * size % CUDA_VECTOR == 0 && (dense || (size_t)stride * size % CUDA_VECTOR == 0);
    return aligned && (dense || strided);
}

Status require(Compiler *compiler, const Node *node, Value value, DType dtype, bool strided, int *out, Error *error)
{
    int *slot = slot_in(compiler, value, dtype);
    if (*slot < 0) {
        const DType other =
            dtype == graph_value(compiler->graph, value)->dtype ? compiler->cuda->activation : DTYPE_F32;
        int from;
        RETURN_IF_ERROR(require(compiler, node, value, other, false, &from, error));
        const int to = publish(compiler, value, dtype);
        RETURN_IF_ERROR(draft_move(compiler, CUDA_CONVERT, node, from, to, error));
        slot = slot_in(compiler, value, dtype);
    }
    *out = *slot;
    if (rows_suit(compiler, *slot, strided)) return STATUS_OK;
    const int from = *slot;
    *out = add_slot(compiler, value, dtype, graph_shape(compiler->graph, value));
    return draft_copy(compiler, node, from, *out, error);
}

/* --- values that are there from the start --- */

static Status declare(Compiler *compiler, Error *error)
{
    size_t place = 0;
    for (int i = 0; i < graph_value_count(compiler->graph); i++) {
        const ValueInfo *info = graph_value(compiler->graph, (Value){i});
        if (dtype_is_float(info->dtype) && info->dtype != DTYPE_F32)
            return error_set(error, STATUS_UNIMPLEMENTED, "'%s' is %s, but graphs for the CUDA backend are in f32",
                             info->name, dtype_name(info->dtype));
        if (info->kind == VALUE_COMPUTED) continue;
        const int slot = publish(compiler, (Value){i}, info->dtype);
        if (slot < 0) return no_memory(error);
        Slot *s = &compiler->slots[slot];
        s->home = info->kind == VALUE_INPUT ? HOME_INPUT : HOME_VARIABLE;
        s->constant = compiler->frozen && info->kind == VALUE_STATE;
        if (info->kind == VALUE_STATE)
            s->variable =
                devices_variable(compiler->devices, compiler->part,
                                 variables_data(compiler->variables, variables_find(compiler->variables, info->name)));
        else
            s->place = place, place += size_align(slot_bytes(compiler, slot), CUDA_ALIGNMENT);
    }
    return STATUS_OK;
}

static void count_uses(Compiler *compiler)
{
    const Graph *graph = compiler->graph;
    for (int i = 0; i < graph_value_count(graph); i++) {
        const Value assigned = graph_value(graph, (Value){i})->assigned;
        if (value_exists(assigned)) compiler->uses[assigned.id]++;
    }
    for (int n = 0; n < graph_node_count(graph); n++) {
        const Node *node = graph_node(graph, n);
        for (int i = 0; i < node->input_count; i++) {
            if (!value_exists(node->inputs[i])) continue;
            compiler->uses[node->inputs[i].id]++;
            compiler->reader[node->inputs[i].id] = n;
        }
    }
    for (int i = 0; i < graph_output_count(graph); i++)
        compiler->uses[graph_output_at(graph, i).id]++;
}

/* --- nodes --- */

/* A view of the memory of input 0, in the type that it is there in. `offset` in elements. */
static Status draft_view(Compiler *compiler, const Node *node, int64_t offset, bool keeps_rows, Error *error)
{
    const Value x = node->inputs[0], y = node->outputs[0];
    const DType dtype = present_type(compiler, x);
    int source;
    RETURN_IF_ERROR(require(compiler, node, x, dtype, keeps_rows, &source, error));
    const int view = publish(compiler, y, dtype);
    if (view < 0) return no_memory(error);
    Slot *slot = &compiler->slots[view];
    slot->parent = source;
    slot->offset = offset;
    slot->keeps_rows = keeps_rows;
    slot->constant = compiler->slots[source].constant;
    return STATUS_OK;
}

static bool keeps_rows(const Compiler *compiler, const Node *node)
{
    const Shape from = graph_shape(compiler->graph, node->inputs[0]),
                to = graph_shape(compiler->graph, node->outputs[0]);
    return from.rank > 0 && to.rank > 0 && from.dims[0] == to.dims[0];
}

static Status draft_node(Compiler *compiler, const Node *node, Error *error)
{
    const CudaOperation *operation = cuda_operation(node->operation);
    bool constant = compiler->frozen;
    int *slots = malloc((size_t)(node->input_count + 1) * sizeof *slots);
    if (slots == NULL) return no_memory(error);
    Status status = STATUS_OK;
    for (int i = 0; i < node->input_count && status == STATUS_OK; i++) {
        slots[i] = -1;
        if (!value_exists(node->inputs[i])) continue;
        status = require(compiler, node, node->inputs[i], input_type(compiler, node, node->operation, i),
                         i < 32 && (operation->strided_inputs >> i & 1) != 0, &slots[i], error);
        constant = constant && status == STATUS_OK && compiler->slots[slots[i]].constant;
    }
    Draft *draft =
        status == STATUS_OK ? add_draft(compiler, node->operation, node, node->input_count, node->output_count) : NULL;
    if (draft != NULL) memcpy(draft->inputs, slots, (size_t)node->input_count * sizeof *slots);
    free(slots);
    if (status != STATUS_OK) return status;
    if (draft == NULL) return no_memory(error);
    draft->constant = constant;
    draft->flops = operation_flops(compiler->graph, node);
    for (int i = 0; i < node->output_count; i++) {
        if (compiler->uses[node->outputs[i].id] == 0 && i > 0) continue;     /* nobody wants it */
        if (*slot_form(compiler, node->outputs[i], FORM_OWN) >= 0) continue; /* another step makes it (fuse.c) */
        const int slot = publish(compiler, node->outputs[i], output_type(compiler, node, node->operation, i));
        if (slot < 0) return no_memory(error);
        compiler->slots[slot].constant = constant;
        draft->outputs[i] = slot;
    }
    return STATUS_OK;
}

static Status draft_any(Compiler *compiler, int n, Error *error)
{
    const Node *node = graph_node(compiler->graph, n);
    bool fused = compiler->taken[n], wanted = false;
    for (int i = 0; i < node->output_count; i++)
        wanted = wanted || compiler->uses[node->outputs[i].id] > 0;
    if (fused || !wanted) return STATUS_OK;
    if (operation_of(node->operation)->view || (node->operation == OP_DROPOUT && !graph_training(compiler->graph)))
        return draft_view(compiler, node, 0, keeps_rows(compiler, node), error);
    if (node->operation == OP_SLICE && node->attributes.axis.axis == 1 &&
        graph_shape(compiler->graph, node->inputs[0]).rank == 2)
        return draft_view(compiler, node, node->attributes.axis.start, true, error);
    RETURN_IF_ERROR(fuse(compiler, n, &fused, error));
    return fused ? STATUS_OK : draft_node(compiler, node, error);
}

/* --- states and outputs --- */

static bool reads(const Compiler *compiler, const Draft *draft, int slot)
{
    int64_t offset, stride;
    for (int i = 0; i < draft->input_count; i++)
        if (draft->inputs[i] >= 0 && slot_root(compiler, draft->inputs[i], &offset, &stride) == slot) return true;
    return false;
}

/* An update works in place on a copy of the state (fuse.c). Where nothing reads the state after the update, it works on
 * the state itself. */
static bool update_in_place(Compiler *compiler, int state, int updated)
{
    int copy = -1, update = -1;
    for (int d = 0; d < compiler->draft_count; d++) {
        const Draft *draft = &compiler->drafts[d];
        if (draft->kind == CUDA_COPY && draft->outputs[0] == updated && draft->inputs[0] == state) copy = d;
        for (int i = 0; draft->kind == CUDA_SGD_GROUP && i < draft->output_count; i++)
            if (draft->outputs[i] == updated) update = d;
    }
    if (copy < 0 || update < 0) return false;
    for (int d = update + 1; d < compiler->draft_count; d++)
        if (reads(compiler, &compiler->drafts[d], state)) return false;
    compiler->drafts[copy].dropped = true;
    compiler->slots[updated].parent = state;
    return true;
}

/* What a state is to become, where that looks into a state's memory: taken aside before any state changes. */
static Status save_old_value(Compiler *compiler, Value value, Error *error)
{
    int64_t offset, stride;
    int *slot = slot_in(compiler, value, graph_value(compiler->graph, value)->dtype);
    if (*slot < 0 || compiler->slots[slot_root(compiler, *slot, &offset, &stride)].home != HOME_VARIABLE)
        return STATUS_OK;
    const int from = *slot;
    const int to = publish(compiler, value, compiler->slots[from].dtype);
    return draft_copy(compiler, NULL, from, to, error);
}

static Status assign_states(Compiler *compiler, Error *error)
{
    const Graph *graph = compiler->graph;
    for (int i = 0; i < graph_value_count(graph); i++) {
        const Value assigned = graph_value(graph, (Value){i})->assigned;
        if (value_exists(assigned)) RETURN_IF_ERROR(save_old_value(compiler, assigned, error));
    }
    for (int state = 0; state < compiler->slot_count; state++) {
        if (compiler->slots[state].home != HOME_VARIABLE || compiler->slots[state].parent >= 0) continue;
        const ValueInfo *info = graph_value(graph, compiler->slots[state].value);
        if (!value_exists(info->assigned)) continue;
        int from;
        RETURN_IF_ERROR(require(compiler, NULL, info->assigned, info->dtype, false, &from, error));
        if (update_in_place(compiler, state, from)) continue;
        RETURN_IF_ERROR(draft_copy(compiler, NULL, from, state, error));
    }
    return STATUS_OK;
}

/* Outputs are dense, in the graph's type, and lie where the host fetches them: a copy where the value is a view, an
 * input or a state, or is an output under two names (the copy is the value's place from then on). */
static Status draft_output(Compiler *compiler, Value value, size_t *place, Error *error)
{
    int slot;
    RETURN_IF_ERROR(require(compiler, NULL, value, graph_value(compiler->graph, value)->dtype, false, &slot, error));
    if (compiler->slots[slot].home == HOME_OUTPUT) return STATUS_OK;
    const int from = slot;
    if (compiler->slots[slot].parent >= 0 || compiler->slots[slot].home != HOME_ARENA ||
        compiler->slots[slot].constant) {
        slot = publish(compiler, value, compiler->slots[from].dtype);
        RETURN_IF_ERROR(draft_copy(compiler, NULL, from, slot, error));
        compiler->slots[slot].constant = compiler->drafts[compiler->draft_count - 1].constant = false;
    }
    compiler->slots[slot].home = HOME_OUTPUT;
    compiler->slots[slot].place = *place;
    *place += size_align(slot_bytes(compiler, slot), CUDA_ALIGNMENT);
    return STATUS_OK;
}

/* --- concatenations that move no bytes --- */

/* Whether every step that touches the slot's memory takes rows that lie apart. */
static bool steps_take_rows(const Compiler *compiler, int slot)
{
    int64_t offset, stride;
    for (int d = 0; d < compiler->draft_count; d++) {
        const Draft *draft = &compiler->drafts[d];
        const CudaOperation *operation = cuda_operation(draft->kind);
        for (int i = 0; i < draft->input_count; i++)
            if (draft->inputs[i] >= 0 && slot_root(compiler, draft->inputs[i], &offset, &stride) == slot &&
                (i >= 32 || (operation->strided_inputs >> i & 1) == 0))
                return false;
        for (int i = 0; i < draft->output_count; i++)
            if (draft->outputs[i] >= 0 && slot_root(compiler, draft->outputs[i], &offset, &stride) == slot &&
                (i >= 32 || (operation->strided_outputs >> i & 1) == 0))
                return false;
    }
    return true;
}

/* Whether some view looks into the slot with other rows, or at an offset that strides would move. */
static bool rearranged(const Compiler *compiler, int slot)
{
    for (int i = 0; i < compiler->slot_count; i++) {
        bool keeps = true;
        int root = i;
        for (; compiler->slots[root].parent >= 0; root = compiler->slots[root].parent)
            keeps = keeps && compiler->slots[root].keeps_rows;
        if (root == slot && !keeps) return true;
    }
    return false;
}

static void place_concat(Compiler *compiler, Draft *draft)
{
    const int whole = draft->outputs[0];
    const Shape shape = compiler->slots[whole].shape;
    const size_t size = dtype_size(compiler->slots[whole].dtype);
    int placed = 0;
    int64_t start = 0;
    if (draft->node->attributes.axis.axis != 1 || shape.rank != 2) return;
    for (int i = 0; i < draft->input_count; i++) {
        int64_t offset, stride;
        const int64_t columns = compiler->slots[draft->inputs[i]].shape.dims[1];
        const int root = slot_root(compiler, draft->inputs[i], &offset, &stride);
        Slot *slot = &compiler->slots[root];
        const bool entire =
            offset == 0 && stride == columns && slot->shape.rank > 0 && slot->shape.dims[0] == shape.dims[0];
        const bool aligned = (size_t)start * size % CUDA_VECTOR == 0 && (size_t)shape.dims[1] * size % CUDA_VECTOR == 0;
        if (entire && aligned && slot->home == HOME_ARENA && slot->constant == draft->constant && root != whole &&
            !rearranged(compiler, root) && steps_take_rows(compiler, root)) {
            slot->parent = whole;
            slot->offset = start;
            slot->keeps_rows = true;
            placed++;
        }
        start += columns;
    }
    draft->dropped = placed == draft->input_count;
}

/* --- gradients that several devices reduce --- */

/* The draft that makes a slot; -1: none. */
static int maker_of(const Compiler *compiler, int slot)
{
    for (int d = 0; d < compiler->draft_count; d++)
        for (int i = 0; i < compiler->drafts[d].output_count; i++)
            if (compiler->drafts[d].outputs[i] == slot) return d;
    return -1;
}

/* Each gradient of an update gets a place beside the others, in the order in which they are made; one that is part of
 * something else is copied there first. */
static Status place_gradients(Compiler *compiler, int update, Error *error)
{
    size_t place = 0;
    const int before = compiler->draft_count;
    const int count = compiler->drafts[update].output_count / 2; /* a parameter and a momentum each */
    for (int i = 1; i <= count; i++) {
        const int slot = compiler->drafts[update].inputs[i];
        if (compiler->slots[slot].parent < 0 && compiler->slots[slot].home == HOME_ARENA) continue;
        const int to = add_slot(compiler, compiler->slots[slot].value, DTYPE_F32, compiler->slots[slot].shape);
        RETURN_IF_ERROR(draft_copy(compiler, NULL, slot, to, error));
        compiler->drafts[update].inputs[i] = to;
    }
    /* The copies were appended: they go before the update. */
    for (int d = before; d < compiler->draft_count; d++, update++) {
        const Draft copy = compiler->drafts[d];
        memmove(&compiler->drafts[update + 1], &compiler->drafts[update], (size_t)(d - update) * sizeof copy);
        compiler->drafts[update] = copy;
    }
    const Draft *draft = &compiler->drafts[update];
    for (int d = 0; d < update; d++)
        for (int i = 1; i <= count; i++) {
            Slot *slot = &compiler->slots[draft->inputs[i]];
            if (maker_of(compiler, draft->inputs[i]) != d) continue;
            slot->home = HOME_GRADIENT;
            slot->place = place;
            place += size_align(slot_bytes(compiler, draft->inputs[i]), CUDA_VECTOR);
        }
    return STATUS_OK;
}

static Status share_gradients(Compiler *compiler, Error *error)
{
    for (int d = 0; d < compiler->draft_count; d++)
        if (compiler->drafts[d].kind == CUDA_SGD_GROUP) return place_gradients(compiler, d, error);
    return STATUS_OK;
}

Status compile_drafts(Compiler *compiler, Error *error)
{
    const Graph *graph = compiler->graph;
    const size_t values = (size_t)graph_value_count(graph) + 1, nodes = (size_t)graph_node_count(graph) + 1;
    size_t place = 0;
    compiler->slot_of = malloc(values * FORM_COUNT * sizeof(int));
    compiler->uses = calloc(values, sizeof(int));
    compiler->reader = malloc(values * sizeof(int));
    compiler->masks = malloc(values * sizeof(int));
    compiler->taken = calloc(nodes, sizeof(bool));
    if (!compiler->slot_of || !compiler->uses || !compiler->reader || !compiler->masks || !compiler->taken)
        return no_memory(error);
    memset(compiler->slot_of, 0xff, values * FORM_COUNT * sizeof(int));
    memset(compiler->reader, 0xff, values * sizeof(int));
    memset(compiler->masks, 0xff, values * sizeof(int));
    count_uses(compiler);
    RETURN_IF_ERROR(declare(compiler, error));
    for (int n = 0; n < graph_node_count(graph); n++)
        RETURN_IF_ERROR(draft_any(compiler, n, error));
    for (int i = 0; i < graph_output_count(graph); i++)
        RETURN_IF_ERROR(draft_output(compiler, graph_output_at(graph, i), &place, error));
    RETURN_IF_ERROR(assign_states(compiler, error));
    for (int d = 0; d < compiler->draft_count; d++)
        if (compiler->drafts[d].kind == OP_CONCAT) place_concat(compiler, &compiler->drafts[d]);
    return compiler->devices->count > 1 && graph_training(graph) ? share_gradients(compiler, error) : STATUS_OK;
}

void compiler_free(Compiler *compiler)
{
    for (int d = 0; d < compiler->draft_count; d++)
        free(compiler->drafts[d].inputs);
    free(compiler->drafts);
    free(compiler->slots);
    free(compiler->slot_of);
    free(compiler->uses);
    free(compiler->reader);
    free(compiler->masks);
    free(compiler->taken);
}
