/* Addresses: lifetimes, the memory plan, the arena in device memory; then the steps, bound to it. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/compile.h"
#include "base/size.h"
#include "graph/memory_plan.h"
#include "graph/operation.h"

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
static Status prepare_steps(const Compiler *compiler, CudaPart *part, int *order, Error *error)
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
        if (constant == 1) part->constant_count = count;
    }
    part->steps = calloc((size_t)count + 1, sizeof *part->steps);
    part->views = calloc(views, sizeof *part->views);
    if (part->steps == NULL || part->views == NULL) return no_memory(error);
    CudaView *next = part->views;
    for (int s = 0; s < count; s++) {
        const Draft *draft = &compiler->drafts[order[s]];
        CudaStep *step = &part->steps[s];
        step->inputs = next;
        step->outputs = next + draft->input_count;
        next += draft->input_count + draft->output_count;
        part->step_count = s + 1; /* so that destroying a half made plan frees what this step made */
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
    MemoryBuffer *inputs, *outputs, *gradients, *kept;
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

static void measure(const Compiler *compiler, CudaPart *part, const int *order, Memory *memory)
{
    const int last = part->step_count;
    size_t kept = 0;
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        const bool own = slot->parent < 0 && slot->home == HOME_ARENA;
        memory->slots[i] = (MemoryBuffer){.size = own ? slot_bytes(compiler, i) : 0, .first = last, .last = 0};
        if (own && slot->constant) memory->slots[i].first = 0, memory->slots[i].last = last;
    }
    for (int s = 0; s < part->step_count; s++) {
        const Draft *draft = &compiler->drafts[order[s]];
        for (int i = 0; i < draft->input_count; i++)
            touch(compiler, memory, draft->inputs[i], s);
        for (int i = 0; i < draft->output_count; i++)
            touch(compiler, memory, draft->outputs[i], s);
        memory->workspaces[s] = (MemoryBuffer){.size = part->steps[s].workspace_bytes, .first = s, .last = s};
        kept += part->steps[s].kept_bytes;
    }
    for (int i = 0; i < compiler->slot_count; i++)
        if (memory->slots[i].first > memory->slots[i].last) memory->slots[i] = (MemoryBuffer){.size = 0};
    part->input_bytes = home_bytes(compiler, HOME_INPUT);
    part->output_bytes = home_bytes(compiler, HOME_OUTPUT);
    part->gradient_bytes = home_bytes(compiler, HOME_GRADIENT);
    *memory->inputs = (MemoryBuffer){.size = part->input_bytes, .last = last};
    *memory->outputs = (MemoryBuffer){.size = part->output_bytes, .last = last};
    *memory->gradients = (MemoryBuffer){.size = part->gradient_bytes, .last = last};
    *memory->kept = (MemoryBuffer){.size = kept, .last = last};
}

static Status allocate(CudaPart *part, Error *error)
{
    RETURN_IF_CUDA(cudaMalloc((void **)&part->arena, part->arena_bytes > 0 ? part->arena_bytes : CUDA_ALIGNMENT),
                   error);
    return STATUS_OK;
}

static void *address(const Compiler *compiler, const CudaPart *part, const Memory *memory, int slot)
{
    int64_t offset, stride;
    if (slot < 0) return NULL;
    const int root = slot_root(compiler, slot, &offset, &stride);
    const Slot *home = &compiler->slots[root];
    unsigned char *base = home->variable;
    if (home->home == HOME_ARENA) base = part->arena + memory->slots[root].offset;
    if (home->home == HOME_INPUT) base = part->arena + memory->inputs->offset + home->place;
    if (home->home == HOME_OUTPUT) base = part->arena + memory->outputs->offset + home->place;
    if (home->home == HOME_GRADIENT) base = part->arena + memory->gradients->offset + home->place;
    return base + (size_t)offset * dtype_size(compiler->slots[slot].dtype);
}

static Status bind_steps(const Compiler *compiler, CudaPart *part, const int *order, const Memory *memory, Error *error)
{
    size_t kept = memory->kept->offset;
    if (part->gradient_bytes > 0) /* what lies between gradients is reduced with them */
        RETURN_IF_CUDA(cudaMemsetAsync(part->arena + part->gradients_at, 0, part->gradient_bytes, part->cuda->stream),
                       error);
    if (memory->kept->size > 0)
        RETURN_IF_CUDA(cudaMemsetAsync(part->arena + kept, 0, memory->kept->size, part->cuda->stream), error);
    for (int s = 0; s < part->step_count; s++) {
        CudaStep *step = &part->steps[s];
        const Draft *draft = &compiler->drafts[order[s]];
        for (int i = 0; i < draft->input_count; i++)
            step->inputs[i].data = address(compiler, part, memory, draft->inputs[i]);
        for (int i = 0; i < draft->output_count; i++)
            step->outputs[i].data = address(compiler, part, memory, draft->outputs[i]);
        step->workspace = part->arena + memory->workspaces[s].offset;
        step->kept = part->arena + kept;
        kept += step->kept_bytes;
        if (step->bind != NULL) RETURN_IF_ERROR(step->bind(step, error));
    }
    RETURN_IF_CUDA(cudaStreamSynchronize(part->cuda->stream), error);
    return STATUS_OK;
}

/* --- buckets --- */

/* Large enough for a link's bandwidth to count, and not its latency. */
enum { GRADIENT_BUCKET = 1 << 20, COPY_BUCKET = 1 << 18 };

static Status add_bucket(Buckets *buckets, int step, size_t begin, size_t end, Error *error)
{
    Bucket *moved = realloc(buckets->items, ((size_t)buckets->count + 1) * sizeof *moved);
    if (moved == NULL) return no_memory(error);
    buckets->items = moved;
    buckets->items[buckets->count++] = (Bucket){step, begin, end};
    return STATUS_OK;
}

/* Bytes up to the end of what has its turn at a draft; 0: nothing has. */
static size_t turn_end(const Compiler *compiler, SlotHome home, int draft)
{
    size_t end = 0;
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        if (slot->home == home && slot->turn == draft && slot->place + slot_bytes(compiler, i) > end)
            end = slot->place + slot_bytes(compiler, i);
    }
    return end;
}

/* What has its turn lies in the order of steps, so a bucket is a range of bytes. */
static Status fill_buckets(const Compiler *compiler, const CudaPart *part, const int *order, SlotHome home,
                           size_t enough, Buckets *buckets, Error *error)
{
    size_t begin = 0, end = 0;
    int first = 0, last = 0;
    for (int s = 0; s < part->step_count; s++) {
        const size_t made = turn_end(compiler, home, order[s]);
        if (made == 0) continue;
        if (end == begin) first = s;
        last = s;
        end = made;
        if (end - begin < enough) continue;
        RETURN_IF_ERROR(add_bucket(buckets, home == HOME_INPUT ? first : last, begin, end, error));
        begin = end;
    }
    return end > begin ? add_bucket(buckets, home == HOME_INPUT ? first : last, begin, end, error) : STATUS_OK;
}

static bool reads_gradients(const Compiler *compiler, const Draft *draft)
{
    for (int i = 0; i < draft->input_count; i++)
        if (draft->inputs[i] >= 0 && compiler->slots[draft->inputs[i]].home == HOME_GRADIENT) return true;
    return false;
}

static Status fill_all_buckets(const Compiler *compiler, CudaPart *part, const int *order, Error *error)
{
    RETURN_IF_ERROR(fill_buckets(compiler, part, order, HOME_INPUT, COPY_BUCKET, &part->inputs, error));
    RETURN_IF_ERROR(fill_buckets(compiler, part, order, HOME_OUTPUT, COPY_BUCKET, &part->outputs, error));
    RETURN_IF_ERROR(fill_buckets(compiler, part, order, HOME_GRADIENT, GRADIENT_BUCKET, &part->gradients, error));
    part->wait_before = -1;
    for (int s = 0; s < part->step_count && part->wait_before < 0; s++)
        if (reads_gradients(compiler, &compiler->drafts[order[s]])) part->wait_before = s;
    const Buckets *gradients = &part->gradients;
    if (gradients->count > 0 && part->wait_before <= gradients->items[gradients->count - 1].step)
        return error_set(error, STATUS_UNIMPLEMENTED,
                         "a step reads gradients before all of them are made, which several "
                         "devices can't do");
    return STATUS_OK;
}

Status place_steps(Compiler *compiler, CudaPart *part, int index, Error *error)
{
    Status status;
    const size_t most = (size_t)compiler->slot_count + (size_t)compiler->draft_count + 4;
    int *order = calloc((size_t)compiler->draft_count + 1, sizeof *order);
    MemoryBuffer *buffers = calloc(most, sizeof *buffers);
    if (order == NULL || buffers == NULL) {
        status = no_memory(error);
        goto done;
    }
    GOTO_IF_ERROR(prepare_steps(compiler, part, order, error), done);
    Memory memory = {.slots = buffers, .workspaces = buffers + compiler->slot_count};
    memory.inputs = memory.workspaces + part->step_count;
    memory.outputs = memory.inputs + 1;
    memory.gradients = memory.inputs + 2;
    memory.kept = memory.inputs + 3;
    measure(compiler, part, order, &memory);
    GOTO_IF_ERROR(memory_plan(buffers, compiler->slot_count + part->step_count + 4, CUDA_ALIGNMENT,
                              part->cuda->memory_limit, &part->arena_bytes, error),
                  done);
    part->inputs_at = memory.inputs->offset;
    part->outputs_at = memory.outputs->offset;
    part->gradients_at = memory.gradients->offset;
    for (int i = 0; i < part->step_count; i++)
        part->steps[i].part = index;
    GOTO_IF_ERROR(fill_all_buckets(compiler, part, order, error), done);
    if (part->cuda->planning) goto done;
    GOTO_IF_ERROR(allocate(part, error), done);
    GOTO_IF_ERROR(bind_steps(compiler, part, order, &memory, error), done);
done:
    free(order);
    free(buffers);
    return status;
}
