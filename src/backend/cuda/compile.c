#include "backend/cuda/compile.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "graph/operation.h"

/* --- values that are there from the start --- */

static Status declare(Compiler *compiler, Error *error)
{
    for (int i = 0; i < graph_value_count(compiler->graph); i++) {
        const ValueInfo *info = graph_value(compiler->graph, (Value){i});
        if (dtype_is_float(info->dtype) && info->dtype != DTYPE_F32)
            return error_set(error, STATUS_UNIMPLEMENTED, "'%s' is %s, but graphs for the CUDA backend are in f32",
                             info->name, dtype_name(info->dtype));
        if (info->kind == VALUE_COMPUTED) continue;
        const bool input = info->kind == VALUE_INPUT;
        const int slot =
            input ? publish(compiler, (Value){i}, info->dtype)
                  : declare_state(compiler, (Value){i}, info->dtype,
                                  devices_variable(compiler->devices, compiler->part, state_memory(compiler, info)));
        if (slot < 0) return no_memory(error);
        if (input) compiler->slots[slot].home = HOME_INPUT;
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

/* Whether one of `count` slots looks into the memory of `slot`. */
static bool any_in(const Compiler *compiler, const int *slots, int count, int slot)
{
    int64_t offset, stride;
    for (int i = 0; i < count; i++)
        if (slots[i] >= 0 && slot_root(compiler, slots[i], &offset, &stride) == slot) return true;
    return false;
}

static bool reads(const Compiler *compiler, const Draft *draft, int slot)
{
    return any_in(compiler, draft->inputs, draft->input_count, slot);
}

static bool writes(const Compiler *compiler, const Draft *draft, int slot)
{
    return any_in(compiler, draft->outputs, draft->output_count, slot);
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
static Status save_old_value(Compiler *compiler, Value value, int form, Error *error)
{
    int64_t offset, stride;
    const int *slot = slot_form(compiler, value, form);
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
        for (int form = 0; form < FORM_COUNT && value_exists(assigned); form++)
            RETURN_IF_ERROR(save_old_value(compiler, assigned, form, error));
    }
    for (int state = 0; state < compiler->slot_count; state++) {
        if (compiler->slots[state].home != HOME_VARIABLE || compiler->slots[state].parent >= 0) continue;
        const ValueInfo *info = graph_value(graph, compiler->slots[state].value);
        if (!value_exists(info->assigned)) continue;
        int from, low;
        if (info->trainable) /* has its turn later */
            RETURN_IF_ERROR(
                require(compiler, NULL, compiler->slots[state].value, compiler->cuda->activation, false, &low, error));
        RETURN_IF_ERROR(require(compiler, NULL, info->assigned, compiler->slots[state].dtype, false, &from, error));
        if (update_in_place(compiler, state, from)) continue;
        RETURN_IF_ERROR(draft_copy(compiler, NULL, from, state, error));
    }
    return STATUS_OK;
}

/* Outputs are dense, in the graph's type, and lie where the host fetches them: a copy where the value is a view, an
 * input or a state, or is an output under two names (the copy is the value's place from then on). */
static Status draft_output(Compiler *compiler, Value value, Error *error)
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

/* Each gradient of an update gets a place beside the others; one that is part of something else is copied there first.
 */
static Status gather_gradients(Compiler *compiler, int update, Error *error)
{
    const int before = compiler->draft_count;
    const int count = compiler->drafts[update].output_count / update_width(compiler->cuda);
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
    for (int i = 1; i <= count; i++)
        compiler->slots[compiler->drafts[update].inputs[i]].home = HOME_GRADIENT;
    return STATUS_OK;
}

static Status share_gradients(Compiler *compiler, Error *error)
{
    for (int d = 0; d < compiler->draft_count; d++)
        if (compiler->drafts[d].kind == CUDA_SGD_GROUP) return gather_gradients(compiler, d, error);
    return STATUS_OK;
}

/* --- places --- */

static bool touches(const Compiler *compiler, const Draft *draft, SlotHome home, int slot)
{
    return home == HOME_INPUT ? reads(compiler, draft, slot) : writes(compiler, draft, slot);
}

static int turn_of(const Compiler *compiler, int slot)
{
    int turn = compiler->draft_count;
    const SlotHome home = compiler->slots[slot].home;
    for (int d = 0; d < compiler->draft_count; d++) {
        if (compiler->drafts[d].dropped || !touches(compiler, &compiler->drafts[d], home, slot)) continue;
        turn = d;
        if (home == HOME_INPUT) break;
    }
    return turn;
}

/* One after the other in the order of their turns, so that what moves together lies together. */
static void place_home(Compiler *compiler, SlotHome home, size_t alignment)
{
    size_t place = 0;
    for (int i = 0; i < compiler->slot_count; i++)
        if (compiler->slots[i].home == home) compiler->slots[i].turn = turn_of(compiler, i);
    for (int d = 0; d <= compiler->draft_count; d++)
        for (int i = 0; i < compiler->slot_count; i++) {
            Slot *slot = &compiler->slots[i];
            if (slot->home != home || slot->turn != d) continue;
            slot->place = place;
            place += size_align(slot_bytes(compiler, i), alignment);
        }
}

Status compile_drafts(Compiler *compiler, Error *error)
{
    const Graph *graph = compiler->graph;
    const size_t values = (size_t)graph_value_count(graph) + 1, nodes = (size_t)graph_node_count(graph) + 1;
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
        RETURN_IF_ERROR(draft_output(compiler, graph_output_at(graph, i), error));
    RETURN_IF_ERROR(assign_states(compiler, error));
    for (int d = 0; d < compiler->draft_count; d++)
        if (compiler->drafts[d].kind == OP_CONCAT) place_concat(compiler, &compiler->drafts[d]);
    if (compiler->devices->count > 1 && graph_training(graph)) RETURN_IF_ERROR(share_gradients(compiler, error));
    place_home(compiler, HOME_INPUT, CUDA_ALIGNMENT);
    place_home(compiler, HOME_OUTPUT, CUDA_ALIGNMENT);
    place_home(compiler, HOME_GRADIENT, CUDA_VECTOR);
    return STATUS_OK;
}
