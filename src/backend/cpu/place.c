/* Addresses: lifetimes, the memory plan, the arena; then the steps themselves, bound to it, with a barrier only where
 * one is needed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/compile.h"
#include "base/size.h"
#include "graph/memory_plan.h"
#include "graph/operation.h"

enum { ALIGNMENT = 64 };

static Status no_memory(Error *error)
{
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to place a plan");
}

static View view_of(const Compiler *compiler, int slot)
{
    if (slot < 0) return (View){.present = false, .shape = shape_scalar()};
    int64_t offset, stride;
    slot_root(compiler, slot, &offset, &stride);
    return (View){.dtype = slot_dtype(compiler, slot),
                  .layout = compiler->slots[slot].layout,
                  .shape = slot_shape(compiler, slot),
                  .stride = stride,
                  .present = true};
}

/* --- steps --- */

static Status prepare_step(const Compiler *compiler, const Draft *draft, Step *step, Error *error)
{
    step->simd = compiler->simd;
    step->attributes = draft->attributes;
    step->threads = compiler->threads;
    step->input_count = draft->input_count;
    step->output_count = draft->output_count;
    step->layer = draft->node != NULL ? draft->node->layer : "";
    step->phase = draft->node != NULL ? draft->node->phase : PHASE_FORWARD;
    for (int i = 0; i < draft->input_count; i++)
        step->inputs[i] = view_of(compiler, draft->inputs[i]);
    for (int i = 0; i < draft->output_count; i++)
        step->outputs[i] = view_of(compiler, draft->outputs[i]);
    Status status;
    if (draft->kind == DRAFT_NODE) {
        bool weights = draft->input_count > 1 && draft->inputs[1] >= 0;
        step->frozen = !draft->constant && weights && compiler->slots[draft->inputs[1]].constant;
        step->operation = operation_of(draft->node->operation)->name;
        step->flops = operation_flops(compiler->graph, draft->node);
        step->bytes = operation_bytes(compiler->graph, draft->node);
        status = cpu_operation(draft->node->operation)->prepare(step, error);
    } else {
        step->operation = draft->kind == DRAFT_COPY ? "copy" : "convert";
        step->bytes = 2.0 * (double)slot_bytes(compiler, draft->outputs[0]);
        status = draft->kind == DRAFT_COPY ? prepare_copy(step, error) : prepare_convert(step, error);
    }
    step->scratch_bytes = size_align(step->scratch_bytes, ALIGNMENT);
    return status;
}

/* Constant steps come first. Writes the order of drafts to order[], makes steps. */
static Status prepare_steps(const Compiler *compiler, CpuPlan *plan, int *order, Error *error)
{
    size_t inputs = 1;
    int count = 0;
    for (int constant = 1; constant >= 0; constant--) {
        for (int d = 0; d < compiler->draft_count; d++) {
            const Draft *draft = &compiler->drafts[d];
            if (draft->dropped || draft->constant != (constant == 1)) continue;
            order[count++] = d;
            inputs += (size_t)draft->input_count;
        }
        if (constant == 1) plan->constant_count = count;
    }
    plan->steps = calloc((size_t)count + 1, sizeof(Step));
    plan->views = calloc(inputs, sizeof(View));
    if (plan->steps == NULL || plan->views == NULL) return no_memory(error);
    View *next = plan->views;
    for (int s = 0; s < count; s++) {
        const Draft *draft = &compiler->drafts[order[s]];
        plan->steps[s].inputs = next;
        next += draft->input_count;
        plan->step_count = s + 1; /* so that destroying a half made plan frees what this step made */
        Status status = prepare_step(compiler, draft, &plan->steps[s], error);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* --- memory --- */

static void touch(const Compiler *compiler, MemoryBuffer *buffers, int slot, int step)
{
    int64_t offset, stride;
    if (slot < 0) return;
    MemoryBuffer *buffer = &buffers[slot_root(compiler, slot, &offset, &stride)];
    if (step < buffer->first) buffer->first = step;
    if (step > buffer->last) buffer->last = step;
}

/* One buffer a slot (empty for views, states and slots that nothing uses), then one a step for its scratch. */
static void measure(const Compiler *compiler, const CpuPlan *plan, const int *order, MemoryBuffer *buffers)
{
    int last = plan->step_count;
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        bool own = slot->parent < 0 && slot->external == NULL;
        buffers[i] = (MemoryBuffer){.size = own ? slot_bytes(compiler, i) : 0, .first = last, .last = 0};
        if (own && (slot->fixed || slot->constant)) buffers[i].first = 0, buffers[i].last = last;
    }
    for (int s = 0; s < plan->step_count; s++) {
        const Draft *draft = &compiler->drafts[order[s]];
        for (int i = 0; i < draft->input_count; i++)
            touch(compiler, buffers, draft->inputs[i], s);
        for (int i = 0; i < draft->output_count; i++)
            touch(compiler, buffers, draft->outputs[i], s);
        const Step *step = &plan->steps[s];
        buffers[compiler->slot_count + s] =
            (MemoryBuffer){.size = step->scratch_bytes * (size_t)step->shares, .first = s, .last = s};
    }
    for (int i = 0; i < compiler->slot_count; i++)
        if (buffers[i].first > buffers[i].last) buffers[i] = (MemoryBuffer){.size = 0};
}

static Status allocate_arena(CpuPlan *plan, size_t bytes, Error *error)
{
    size_t huge = (size_t)2 << 20, rounded = size_align(bytes + ALIGNMENT, bytes >= huge ? huge : 4096);
    plan->arena = aligned_alloc(bytes >= huge ? huge : 4096, rounded);
    plan->arena_bytes = bytes;
    if (plan->arena == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for an arena of %zu bytes", bytes);
    if (bytes >= huge) madvise(plan->arena, rounded, MADV_HUGEPAGE); /* a wish: small pages work too */
    memset(plan->arena, 0, rounded);
    return STATUS_OK;
}

static void *address(const Compiler *compiler, const CpuPlan *plan, const MemoryBuffer *buffers, int slot)
{
    int64_t offset, stride;
    if (slot < 0) return NULL;
    int root = slot_root(compiler, slot, &offset, &stride);
    unsigned char *base = compiler->slots[root].external;
    if (base == NULL) base = plan->arena + buffers[root].offset;
    return base + (size_t)offset * dtype_size(slot_dtype(compiler, slot));
}

/* --- barriers --- */

typedef struct Span {
    uintptr_t begin, end;
    bool written;
} Span;

typedef struct Spans {
    Span *items;
    int count, capacity;
} Spans;

static bool spans_add(Spans *spans, uintptr_t begin, size_t bytes, bool written)
{
    if (bytes == 0) return true;
    if (spans->count == spans->capacity) {
        int capacity = spans->capacity > 0 ? 2 * spans->capacity : 128;
        Span *moved = realloc(spans->items, (size_t)capacity * sizeof(Span));
        if (moved == NULL) return false;
        spans->items = moved;
        spans->capacity = capacity;
    }
    spans->items[spans->count++] = (Span){begin, begin + bytes, written};
    return true;
}

static bool add_view(Spans *spans, const Step *step, const View *view, bool written)
{
    if (!view->present) return true;
    size_t bytes = (size_t)view_extent(step->simd, view) * dtype_size(view->dtype);
    return spans_add(spans, (uintptr_t)view->data, bytes, written);
}

static bool add_step(Spans *spans, const Step *step)
{
    bool fits = spans_add(spans, (uintptr_t)step->scratch, step->scratch_bytes * (size_t)step->shares, true);
    for (int i = 0; fits && i < step->input_count; i++)
        fits = add_view(spans, step, &step->inputs[i], false);
    for (int i = 0; fits && i < step->output_count; i++)
        fits = add_view(spans, step, &step->outputs[i], true);
    return fits;
}

static bool conflict(const Spans *before, const Spans *now)
{
    for (int i = 0; i < before->count; i++)
        for (int j = 0; j < now->count; j++) {
            const Span *a = &before->items[i], *b = &now->items[j];
            if ((a->written || b->written) && a->begin < b->end && b->begin < a->end) return true;
        }
    return false;
}

/* A step needs a barrier when it touches bytes that a step since the last barrier writes, or writes bytes that one
 * touches. */
static Status set_barriers(CpuPlan *plan, Error *error)
{
    Spans since = {0}, now = {0};
    bool fits = true;
    for (int s = 0; fits && s < plan->step_count; s++) {
        now.count = 0;
        fits = add_step(&now, &plan->steps[s]);
        plan->steps[s].barrier = s == plan->constant_count || conflict(&since, &now);
        if (plan->steps[s].barrier) since.count = 0;
        fits = fits && add_step(&since, &plan->steps[s]);
    }
    free(since.items);
    free(now.items);
    return fits ? STATUS_OK : no_memory(error);
}

/* --- all of it --- */

static void bind_steps(const Compiler *compiler, CpuPlan *plan, const int *order, const MemoryBuffer *buffers)
{
    for (int s = 0; s < plan->step_count; s++) {
        Step *step = &plan->steps[s];
        const Draft *draft = &compiler->drafts[order[s]];
        for (int i = 0; i < draft->input_count; i++)
            step->inputs[i].data = address(compiler, plan, buffers, draft->inputs[i]);
        for (int i = 0; i < draft->output_count; i++)
            step->outputs[i].data = address(compiler, plan, buffers, draft->outputs[i]);
        step->scratch = plan->arena + buffers[compiler->slot_count + s].offset;
        if (step->bind != NULL) step->bind(step);
    }
}

static Status publish_values(const Compiler *compiler, CpuPlan *plan, const MemoryBuffer *buffers, Error *error)
{
    plan->values = calloc((size_t)graph_value_count(compiler->graph) + 1, sizeof(Tensor));
    if (plan->values == NULL) return no_memory(error);
    for (int i = 0; i < graph_value_count(compiler->graph); i++) {
        int slot = compiler->slot_of[(size_t)i * LAYOUT_COUNT + LAYOUT_PLAIN];
        if (slot < 0 || !compiler->slots[slot].fixed) continue;
        plan->values[i] =
            tensor_view(slot_dtype(compiler, slot), slot_shape(compiler, slot), address(compiler, plan, buffers, slot));
    }
    return STATUS_OK;
}

Status place_steps(const Compiler *compiler, CpuPlan *plan, size_t memory_limit, Error *error)
{
    Status status;
    size_t total;
    int *order = calloc((size_t)compiler->draft_count + 1, sizeof(int));
    MemoryBuffer *buffers =
        calloc((size_t)compiler->slot_count + (size_t)compiler->draft_count + 1, sizeof(MemoryBuffer));
    if (order == NULL || buffers == NULL) {
        status = no_memory(error);
        goto done;
    }
    GOTO_IF_ERROR(prepare_steps(compiler, plan, order, error), done);
    measure(compiler, plan, order, buffers);
    GOTO_IF_ERROR(memory_plan(buffers, compiler->slot_count + plan->step_count, ALIGNMENT, memory_limit, &total, error),
                  done);
    GOTO_IF_ERROR(allocate_arena(plan, total, error), done);
    bind_steps(compiler, plan, order, buffers);
    GOTO_IF_ERROR(publish_values(compiler, plan, buffers, error), done);
    GOTO_IF_ERROR(set_barriers(plan, error), done);
done:
    free(order);
    free(buffers);
    return status;
}
