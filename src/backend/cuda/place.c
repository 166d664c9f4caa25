/* Addresses: lifetimes, the memory plan, the arena in device memory; then the steps, bound to it. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/compile.h"
#include "base/size.h"
#include "graph/memory_plan.h"
#include "graph/operation.h"

static Status no_memory(Error *error)
{
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to place a plan");
}

static CudaView view_of(const Compiler *compiler, int slot)
{
    if (slot < 0) return (CudaView){.shape = shape_scalar()};
    int64_t offset, stride;
    slot_root(compiler, slot, &offset, &stride);
    return (CudaView){
        .dtype = compiler->slots[slot].dtype, .shape = compiler->slots[slot].shape, .stride = stride, .present = true};
}

/* --- steps --- */

/* Bytes that a step moves at least: everything it reads once, everything it writes once. */
static double moved_bytes(const Compiler *compiler, const Draft *draft)
{
    double bytes = draft->bytes;
    for (int i = 0; draft->bytes == 0 && i < draft->input_count + draft->output_count; i++)
        if (draft->inputs[i] >= 0) bytes += (double)slot_bytes(compiler, draft->inputs[i]); /* outputs follow inputs */
    return bytes;
}

static Status prepare_step(const Compiler *compiler, const Draft *draft, CudaStep *step, Error *error)
{
    const CudaOperation *operation = cuda_operation(draft->kind);
    step->cuda = compiler->cuda;
    step->attributes = draft->attributes;
    step->training = graph_training(compiler->graph);
    step->input_count = draft->input_count;
    step->output_count = draft->output_count;
    step->launches = 1;
    step->layer = draft->node != NULL ? draft->node->layer : "";
    step->phase = draft->node != NULL ? draft->node->phase : PHASE_FORWARD;
    step->operation = operation->name != NULL ? operation->name : operation_of((OperationKind)draft->kind)->name;
    step->flops = draft->flops;
    step->bytes = moved_bytes(compiler, draft);
    for (int i = 0; i < draft->input_count; i++)
        step->inputs[i] = view_of(compiler, draft->inputs[i]);
    for (int i = 0; i < draft->output_count; i++)
        step->outputs[i] = view_of(compiler, draft->outputs[i]);
    step->launch = operation->launch;
    step->implementation = "kernel";
    if (operation->prepare != NULL) RETURN_IF_ERROR(operation->prepare(step, error));
    step->workspace_bytes = size_align(step->workspace_bytes, CUDA_ALIGNMENT);
    step->kept_bytes = size_align(step->kept_bytes, CUDA_ALIGNMENT);
    return STATUS_OK;
}

/* Constant steps come first. Writes the order of drafts to order[], makes steps. */
static Status prepare_steps(const Compiler *compiler, CudaPlan *plan, int *order, Error *error)
{
    size_t views = 1;
    int count = 0;
    for (int constant = 1; constant >= 0; constant--) {
        for (int d = 0; d < compiler->draft_count; d++) {
            const Draft *draft = &compiler->drafts[d];
            if (draft->dropped || draft->constant != (constant == 1)) continue;
            order[count++] = d;
            views += (size_t)(draft->input_count + draft->output_count);
        }
        if (constant == 1) plan->constant_count = count;
    }
    plan->steps = calloc((size_t)count + 1, sizeof *plan->steps);
    plan->views = calloc(views, sizeof *plan->views);
    if (plan->steps == NULL || plan->views == NULL) return no_memory(error);
    CudaView *next = plan->views;
    for (int s = 0; s < count; s++) {
        const Draft *draft = &compiler->drafts[order[s]];
        CudaStep *step = &plan->steps[s];
        step->inputs = next;
        step->outputs = next + draft->input_count;
        next += draft->input_count + draft->output_count;
        plan->step_count = s + 1; /* so that destroying a half made plan frees what this step made */
        const Status status = prepare_step(compiler, draft, step, error);
        if (status == STATUS_OK) continue;
        error_prefix(error, "%s '%s'", step->operation, step->layer);
        return status;
    }
    return STATUS_OK;
}

/* --- memory --- */

/* One buffer a slot, one a step for its workspace, and those that live as long as the plan. */
typedef struct Memory {
    MemoryBuffer *slots, *workspaces;
    MemoryBuffer *inputs, *outputs, *kept;
    int count;
} Memory;

static void touch(const Compiler *compiler, Memory *memory, int slot, int step)
{
    int64_t offset, stride;
    if (slot < 0) return;
    MemoryBuffer *buffer = &memory->slots[slot_root(compiler, slot, &offset, &stride)];
    if (step < buffer->first) buffer->first = step;
    if (step > buffer->last) buffer->last = step;
}

/* Bytes from the first slot of a home to the last one's end. */
static size_t home_bytes(const Compiler *compiler, SlotHome home)
{
    size_t bytes = 0;
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        if (slot->home == home && slot->place + slot_bytes(compiler, i) > bytes)
            bytes = slot->place + slot_bytes(compiler, i);
    }
    return bytes;
}

static void measure(const Compiler *compiler, CudaPlan *plan, const int *order, Memory *memory)
{
    const int last = plan->step_count;
    size_t kept = 0;
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        const bool own = slot->parent < 0 && slot->home == HOME_ARENA;
        memory->slots[i] = (MemoryBuffer){.size = own ? slot_bytes(compiler, i) : 0, .first = last, .last = 0};
        if (own && slot->constant) memory->slots[i].first = 0, memory->slots[i].last = last;
    }
    for (int s = 0; s < plan->step_count; s++) {
        const Draft *draft = &compiler->drafts[order[s]];
        for (int i = 0; i < draft->input_count; i++)
            touch(compiler, memory, draft->inputs[i], s);
        for (int i = 0; i < draft->output_count; i++)
            touch(compiler, memory, draft->outputs[i], s);
        memory->workspaces[s] = (MemoryBuffer){.size = plan->steps[s].workspace_bytes, .first = s, .last = s};
        kept += plan->steps[s].kept_bytes;
    }
    for (int i = 0; i < compiler->slot_count; i++)
        if (memory->slots[i].first > memory->slots[i].last) memory->slots[i] = (MemoryBuffer){.size = 0};
    plan->input_bytes = home_bytes(compiler, HOME_INPUT);
    plan->output_bytes = home_bytes(compiler, HOME_OUTPUT);
    *memory->inputs = (MemoryBuffer){.size = plan->input_bytes, .last = last};
    *memory->outputs = (MemoryBuffer){.size = plan->output_bytes, .last = last};
    *memory->kept = (MemoryBuffer){.size = kept, .last = last};
}

static Status allocate(CudaPlan *plan, Error *error)
{
    const size_t host = size_align(plan->input_bytes, CUDA_ALIGNMENT) + plan->output_bytes;
    RETURN_IF_CUDA(cudaMalloc((void **)&plan->arena, plan->arena_bytes > 0 ? plan->arena_bytes : CUDA_ALIGNMENT),
                   error);
    RETURN_IF_CUDA(cudaHostAlloc((void **)&plan->host, host > 0 ? host : CUDA_ALIGNMENT, cudaHostAllocDefault), error);
    memset(plan->host, 0, host > 0 ? host : CUDA_ALIGNMENT);
    return STATUS_OK;
}

static void *address(const Compiler *compiler, const CudaPlan *plan, const Memory *memory, int slot)
{
    int64_t offset, stride;
    if (slot < 0) return NULL;
    const int root = slot_root(compiler, slot, &offset, &stride);
    const Slot *home = &compiler->slots[root];
    unsigned char *base = home->variable;
    if (home->home == HOME_ARENA) base = plan->arena + memory->slots[root].offset;
    if (home->home == HOME_INPUT) base = plan->arena + memory->inputs->offset + home->place;
    if (home->home == HOME_OUTPUT) base = plan->arena + memory->outputs->offset + home->place;
    return base + (size_t)offset * dtype_size(compiler->slots[slot].dtype);
}

static Status bind_steps(const Compiler *compiler, CudaPlan *plan, const int *order, const Memory *memory, Error *error)
{
    size_t kept = memory->kept->offset;
    if (memory->kept->size > 0)
        RETURN_IF_CUDA(cudaMemsetAsync(plan->arena + kept, 0, memory->kept->size, plan->cuda->stream), error);
    for (int s = 0; s < plan->step_count; s++) {
        CudaStep *step = &plan->steps[s];
        const Draft *draft = &compiler->drafts[order[s]];
        for (int i = 0; i < draft->input_count; i++)
            step->inputs[i].data = address(compiler, plan, memory, draft->inputs[i]);
        for (int i = 0; i < draft->output_count; i++)
            step->outputs[i].data = address(compiler, plan, memory, draft->outputs[i]);
        step->workspace = plan->arena + memory->workspaces[s].offset;
        step->kept = plan->arena + kept;
        kept += step->kept_bytes;
        if (step->bind != NULL) RETURN_IF_ERROR(step->bind(step, error));
    }
    RETURN_IF_CUDA(cudaStreamSynchronize(plan->cuda->stream), error);
    return STATUS_OK;
}

/* The inputs' and outputs' memory as the host sees it. */
static Status publish_values(Compiler *compiler, CudaPlan *plan, Error *error)
{
    const Graph *graph = compiler->graph;
    unsigned char *outputs = plan->host + size_align(plan->input_bytes, CUDA_ALIGNMENT);
    plan->inputs = calloc((size_t)graph_value_count(graph) + 1, sizeof *plan->inputs);
    plan->outputs = calloc((size_t)graph_output_count(graph) + 1, sizeof *plan->outputs);
    if (plan->inputs == NULL || plan->outputs == NULL) return no_memory(error);
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        if (slot->home == HOME_INPUT)
            plan->inputs[slot->value.id] = tensor_view(slot->dtype, slot->shape, plan->host + slot->place);
    }
    for (int i = 0; i < graph_output_count(graph); i++) {
        const Value value = graph_output_at(graph, i);
        const Slot *slot = &compiler->slots[*slot_in(compiler, value, graph_value(graph, value)->dtype)];
        plan->outputs[i] = tensor_view(slot->dtype, slot->shape, outputs + slot->place);
    }
    return STATUS_OK;
}

Status place_steps(Compiler *compiler, CudaPlan *plan, Error *error)
{
    Status status;
    const size_t most = (size_t)compiler->slot_count + (size_t)compiler->draft_count + 3;
    int *order = calloc((size_t)compiler->draft_count + 1, sizeof *order);
    MemoryBuffer *buffers = calloc(most, sizeof *buffers);
    if (order == NULL || buffers == NULL) {
        status = no_memory(error);
        goto done;
    }
    GOTO_IF_ERROR(prepare_steps(compiler, plan, order, error), done);
    Memory memory = {.slots = buffers, .workspaces = buffers + compiler->slot_count};
    memory.inputs = memory.workspaces + plan->step_count;
    memory.outputs = memory.inputs + 1;
    memory.kept = memory.inputs + 2;
    memory.count = compiler->slot_count + plan->step_count + 3;
    measure(compiler, plan, order, &memory);
    GOTO_IF_ERROR(
        memory_plan(buffers, memory.count, CUDA_ALIGNMENT, plan->cuda->memory_limit, &plan->arena_bytes, error), done);
    plan->inputs_at = memory.inputs->offset;
    plan->outputs_at = memory.outputs->offset;
    if (plan->cuda->planning) goto done;
    GOTO_IF_ERROR(allocate(plan, error), done);
    GOTO_IF_ERROR(bind_steps(compiler, plan, order, &memory, error), done);
    GOTO_IF_ERROR(publish_values(compiler, plan, error), done);
done:
    free(order);
    free(buffers);
    return status;
}
