/* The host's side of a plan: pinned memory that inputs are copied from and outputs to, one region a device. Where
 * several devices share a batch, the caller sees one tensor of all samples: it is split before a run, and outputs are
 * joined after it: samples one part after the other, everything else the mean over the devices. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/compile.h"
#include "base/size.h"

static size_t inputs_size(const CudaPlan *plan)
{
    return size_align(plan->parts[0].input_bytes, CUDA_ALIGNMENT);
}

static size_t outputs_size(const CudaPlan *plan)
{
    return size_align(plan->parts[0].output_bytes, CUDA_ALIGNMENT);
}

unsigned char *staging_inputs(const CudaPlan *plan, int part)
{
    return plan->host + (size_t)part * inputs_size(plan);
}

unsigned char *staging_outputs(const CudaPlan *plan, int part)
{
    return plan->host + (size_t)plan->part_count * inputs_size(plan) + (size_t)part * outputs_size(plan);
}

/* Of all parts together. */
static Shape joined_shape(const CudaPlan *plan, Shape shape, int axis)
{
    if (axis >= 0 && plan->shared) shape.dims[axis] *= plan->part_count;
    return shape;
}

static size_t tensor_bytes(DType dtype, Shape shape)
{
    return size_align((size_t)shape_count(shape) * dtype_size(dtype), CUDA_ALIGNMENT);
}

/* Where the caller finds a tensor: in the one part's memory, or in its own place among the joined ones. */
static Tensor place(const CudaPlan *plan, const Slot *slot, int axis, unsigned char *alone, size_t *joined)
{
    if (plan->part_count == 1) return tensor_view(slot->dtype, slot->shape, alone + slot->place);
    const Shape shape = joined_shape(plan, slot->shape, axis);
    const Tensor tensor = tensor_view(slot->dtype, shape, plan->joined != NULL ? plan->joined + *joined : NULL);
    *joined += tensor_bytes(slot->dtype, shape);
    return tensor;
}

static const Slot *output_slot(const CudaPlan *plan, const Compiler *compiler, int index)
{
    const Value value = graph_output_at(plan->graph, index);
    return &compiler->slots[*slot_in((Compiler *)compiler, value, graph_value(plan->graph, value)->dtype)];
}

/* Returns the bytes of the joined tensors. */
static size_t place_all(CudaPlan *plan, const Compiler *compiler)
{
    size_t joined = 0;
    for (int i = 0; i < compiler->slot_count; i++) {
        const Slot *slot = &compiler->slots[i];
        if (slot->home != HOME_INPUT) continue;
        const int axis = graph_value(plan->graph, slot->value)->sample_axis;
        plan->inputs[slot->value.id] = place(plan, slot, axis, staging_inputs(plan, 0), &joined);
    }
    for (int i = 0; i < graph_output_count(plan->graph); i++)
        plan->outputs[i] = place(plan, output_slot(plan, compiler, i), graph_output_sample_axis(plan->graph, i),
                                 staging_outputs(plan, 0), &joined);
    return joined;
}

Status staging_create(CudaPlan *plan, const Compiler *compiler, Error *error)
{
    const size_t bytes = (size_t)plan->part_count * (inputs_size(plan) + outputs_size(plan));
    plan->inputs = calloc((size_t)graph_value_count(plan->graph) + 1, sizeof *plan->inputs);
    plan->outputs = calloc((size_t)graph_output_count(plan->graph) + 1, sizeof *plan->outputs);
    plan->places = calloc((size_t)graph_value_count(plan->graph) + 1, sizeof *plan->places);
    plan->output_places = calloc((size_t)graph_output_count(plan->graph) + 1, sizeof *plan->output_places);
    if (plan->inputs == NULL || plan->outputs == NULL || plan->places == NULL || plan->output_places == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the inputs and outputs of a plan");
    RETURN_IF_CUDA(cudaHostAlloc((void **)&plan->host, bytes > 0 ? bytes : CUDA_ALIGNMENT, cudaHostAllocPortable),
                   error);
    memset(plan->host, 0, bytes > 0 ? bytes : CUDA_ALIGNMENT);
    for (int i = 0; i < compiler->slot_count; i++)
        if (compiler->slots[i].home == HOME_INPUT) plan->places[compiler->slots[i].value.id] = compiler->slots[i].place;
    for (int i = 0; i < graph_output_count(plan->graph); i++)
        plan->output_places[i] = output_slot(plan, compiler, i)->place;
    const size_t joined = place_all(plan, compiler);
    if (plan->part_count == 1) return STATUS_OK;
    plan->joined = calloc(1, joined + 1);
    if (plan->joined == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a batch of %zu bytes", joined);
    place_all(plan, compiler);
    return STATUS_OK;
}

void staging_destroy(CudaPlan *plan)
{
    if (plan->host != NULL) cudaFreeHost(plan->host);
    free(plan->joined);
    free(plan->inputs);
    free(plan->outputs);
    free(plan->places);
    free(plan->output_places);
}

/* Copies the samples of one part between its memory and the joined tensor: `outer` runs of `run` bytes, which are
 * part_count times as far apart there. */
static void copy_samples(const CudaPlan *plan, const Tensor *joined, int axis, int part, unsigned char *own, bool split)
{
    int64_t outer = 1;
    const int64_t parts = plan->shared && axis >= 0 ? plan->part_count : 1;
    for (int i = 0; parts > 1 && i < axis; i++)
        outer *= joined->shape.dims[i];
    const size_t run = joined->size / (size_t)(outer * parts);
    for (int64_t i = 0; i < outer; i++) {
        unsigned char *whole = (unsigned char *)joined->data + (size_t)i * run * (size_t)parts;
        if (parts > 1) whole += (size_t)part * run;
        memcpy(split ? own + (size_t)i * run : whole, split ? whole : own + (size_t)i * run, run);
    }
}

void staging_split(const CudaPlan *plan)
{
    for (int id = 0; plan->part_count > 1 && id < graph_value_count(plan->graph); id++) {
        const ValueInfo *info = graph_value(plan->graph, (Value){id});
        for (int part = 0; info->kind == VALUE_INPUT && part < plan->part_count; part++)
            copy_samples(plan, &plan->inputs[id], info->sample_axis, part,
                         staging_inputs(plan, part) + plan->places[id], true);
    }
}

static void add_mean(const CudaPlan *plan, const Tensor *joined, size_t place)
{
    float *mean = joined->data;
    for (int64_t i = 0; i < shape_count(joined->shape); i++) {
        float sum = 0;
        for (int part = 0; part < plan->part_count; part++)
            sum += ((const float *)(const void *)(staging_outputs(plan, part) + place))[i];
        mean[i] = sum / (float)plan->part_count;
    }
}

void staging_join(const CudaPlan *plan)
{
    for (int i = 0; plan->part_count > 1 && i < graph_output_count(plan->graph); i++) {
        const int axis = graph_output_sample_axis(plan->graph, i);
        const Tensor *joined = &plan->outputs[i];
        if (axis < 0 && joined->dtype == DTYPE_F32)
            add_mean(plan, joined, plan->output_places[i]);
        else
            for (int part = 0; part < (axis >= 0 && plan->shared ? plan->part_count : 1); part++)
                copy_samples(plan, joined, axis, part, staging_outputs(plan, part) + plan->output_places[i], false);
    }
}
