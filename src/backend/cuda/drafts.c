/* Slots, their types, and drafts: what compile.c and fuse.c write a plan in. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/compile.h"
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

int *slot_form(Compiler *compiler, Value value, int form)
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

void *state_memory(const Compiler *compiler, const ValueInfo *state)
{
    return variables_data(compiler->variables, variables_find(compiler->variables, state->name));
}

/* --- types --- */

DType present_type(Compiler *compiler, Value value)
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

DType output_type(Compiler *compiler, const Node *node, int kind, int index)
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

int declare_state(Compiler *compiler, Value state, DType dtype, void *memory)
{
    const int slot = publish(compiler, state, dtype);
    if (slot < 0) return slot;
    compiler->slots[slot].home = HOME_VARIABLE;
    compiler->slots[slot].variable = memory;
    compiler->slots[slot].constant = compiler->frozen;
    return slot;
}

/* The value is there in the graph's type or in the activation type, and is wanted in the other. */
static Status make_form(Compiler *compiler, const Node *node, Value value, DType dtype, Error *error)
{
    const ValueInfo *info = graph_value(compiler->graph, value);
    if (info->kind == VALUE_STATE && info->trainable) {
        void *low = NULL;
        RETURN_IF_ERROR(
            devices_low_variable(compiler->devices, compiler->part, state_memory(compiler, info), &low, error));
        return declare_state(compiler, value, dtype, low) >= 0 ? STATUS_OK : no_memory(error);
    }
    int from;
    RETURN_IF_ERROR(require(compiler, node, value, dtype == info->dtype ? compiler->cuda->activation : DTYPE_F32, false,
                            &from, error));
    const int to = publish(compiler, value, dtype);
    const bool given = compiler->slots[from].home == HOME_INPUT && dtype != DTYPE_F32;
    return draft_move(compiler, given ? CUDA_CONVERT_INPUT : CUDA_CONVERT, node, from, to, error);
}

Status require(Compiler *compiler, const Node *node, Value value, DType dtype, bool strided, int *out, Error *error)
{
    if (*slot_in(compiler, value, dtype) < 0) RETURN_IF_ERROR(make_form(compiler, node, value, dtype, error));
    const int slot = *slot_in(compiler, value, dtype);
    *out = slot;
    if (rows_suit(compiler, slot, strided)) return STATUS_OK;
    *out = add_slot(compiler, value, dtype, graph_shape(compiler->graph, value));
    return draft_copy(compiler, node, slot, *out, error);
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
