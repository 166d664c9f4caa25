/* Plans for convolutions by cuDNN: heuristics give engine configurations (dnn_engines.c) for an operation graph
 * (dnn_graph.c), and the first that finalises becomes the plan.
 *
 * With a device or without, the same descriptors are made: engines are chosen for a device property descriptor, which
 * comes from the handle's device or from JSON. A Dnn owns its handle, a plan its descriptors; a plan must go before its
 * Dnn. Making a plan allocates on the host and may compile code; running one allocates nothing on the device. */
#include "backend/cuda/dnn.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/check.h"
#include "backend/cuda/dnn_internal.h"

struct Dnn {
    cudnnHandle_t handle; /* NULL without a device */
    Descriptors list;
    Descriptor device;
};

struct DnnPlan {
    Dnn *dnn;
    DnnConvolution convolution;
    size_t limit;
    Descriptors graph;
    Candidates candidates; /* none for a plan from text */
    Descriptor plan;
    size_t workspace;
    char name[32];
    char *text;
};

/* --- the library and its device --- */

static Status describe_device(Dnn *dnn, const char *json, Error *error)
{
    dnn->list.error = error;
    dnn->device = descriptor_make(&dnn->list, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    if (json != NULL)
        DESCRIPTOR_SET(&dnn->list, dnn->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                       (int64_t)strlen(json), json);
    else
        DESCRIPTOR_SET(&dnn->list, dnn->device, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn->handle);
    descriptor_finalize(&dnn->list, dnn->device, "device properties");
    return dnn->list.status;
}

static Status open_for(const char *json, Dnn **out, Error *error)
{
    Status status;
    Dnn *dnn = calloc(1, sizeof *dnn);
    if (dnn == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for cuDNN's handle");
    if (json == NULL) {
        const cudnnStatus_t result = cudnnCreate(&dnn->handle);
        if (result != CUDNN_STATUS_SUCCESS) {
            dnn->handle = NULL;
            status = dnn_failed(result, "cudnnCreate", error);
            goto failed;
        }
    }
    GOTO_IF_ERROR(describe_device(dnn, json, error), failed);
    *out = dnn;
    return STATUS_OK;

failed:
    dnn_close(dnn);
    return status;
}

Status dnn_open(Dnn **out, Error *error)
{
    return open_for(NULL, out, error);
}

Status dnn_open_for(const char *device_properties, Dnn **out, Error *error)
{
    if (device_properties == NULL || device_properties[0] == '\0')
        return error_set(error, STATUS_INVALID_ARGUMENT, "properties of the device are empty, expected JSON");
    return open_for(device_properties, out, error);
}

void dnn_close(Dnn *dnn)
{
    if (dnn == NULL) return;
    descriptors_destroy(&dnn->list);
    if (dnn->handle != NULL) cudnnDestroy(dnn->handle);
    free(dnn);
}

/* --- plans --- */

static Status read_workspace(Descriptor made, size_t limit, size_t *out, Error *error)
{
    int64_t bytes = 0, count = 0;
    RETURN_IF_DNN(
        cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &bytes),
        error);
    if (bytes < 0 || (uint64_t)bytes > limit)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "workspace of %" PRId64 " bytes, expected at most %zu",
                         bytes, limit);
    *out = (size_t)bytes;
    return STATUS_OK;
}

/* NULL where the library writes none for this engine. */
static char *read_text(Descriptor made)
{
    int64_t size = 0, count = 0;
    if (cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &size,
                                 NULL) != CUDNN_STATUS_SUCCESS ||
        size <= 0)
        return NULL;
    char *text = calloc((size_t)size + 1, 1);
    if (text == NULL) return NULL;
    if (cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size, &count,
                                 text) == CUDNN_STATUS_SUCCESS)
        return text;
    free(text);
    return NULL;
}

/* Puts a finalised plan in the place of the one before. */
static void adopt(DnnPlan *plan, Descriptor made, size_t workspace, int64_t engine)
{
    if (plan->plan != NULL) cudnnBackendDestroyDescriptor(plan->plan);
    free(plan->text);
    plan->plan = made;
    plan->workspace = workspace;
    plan->text = read_text(made);
    snprintf(plan->name, sizeof plan->name, "cudnn:eng%" PRId64, engine);
}

/* An execution plan from an engine configuration, or from text. On failure the plan stays as it was. */
static Status finalize_plan(DnnPlan *plan, Descriptor config, const char *text, int64_t engine, Error *error)
{
    size_t workspace = 0;
    Descriptors list = {.error = error};
    Descriptor made = descriptor_make(&list, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    DESCRIPTOR_LINK(&list, made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, plan->dnn->device);
    if (config != NULL)
        DESCRIPTOR_LINK(&list, made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    else
        DESCRIPTOR_SET(&list, made, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                       (int64_t)strlen(text), text);
    descriptor_finalize(&list, made, "execution plan");
    Status status = list.status;
    if (status == STATUS_OK) status = read_workspace(made, plan->limit, &workspace, error);
    if (status == STATUS_OK)
        adopt(plan, made, workspace, engine);
    else
        descriptors_destroy(&list);
    return status;
}

static Status choose(DnnPlan *plan, int candidate, Error *error)
{
    Descriptor config = plan->candidates.configs[candidate];
    Engine engine = {0};
    RETURN_IF_ERROR(engine_of(config, &engine, error));
    return finalize_plan(plan, config, NULL, engine.index, error);
}

static Status from_text(DnnPlan *plan, Descriptor graph, const char *text, Error *error)
{
    Engine engine = {0};
    int64_t index = 0;
    RETURN_IF_ERROR(dnn_text_fits(&plan->convolution, text, &index, error));
    RETURN_IF_ERROR(engine_numbered(plan->dnn->device, graph, index, &engine, error));
    if (!engine_keeps_promises(&engine, &plan->convolution))
        return error_set(
            error, STATUS_FAILED_PRECONDITION,
            "the text of the plan names engine %" PRId64 ", expected a deterministic one of full precision", index);
    return finalize_plan(plan, NULL, text, index, error);
}

/* The first candidate that finalises; those before it go. */
static Status choose_first(DnnPlan *plan, Error *error)
{
    Error why = {0};
    while (plan->candidates.count > 0) {
        if (choose(plan, 0, &why) == STATUS_OK) return STATUS_OK;
        candidates_drop_first(&plan->candidates);
    }
    return error_set(error, STATUS_UNIMPLEMENTED, "cuDNN has no plan for this convolution: %s", why.message);
}

Status dnn_plan_create(Dnn *dnn, const DnnConvolution *convolution, size_t workspace_limit, const char *known,
                       DnnPlan **out, Error *error)
{
    Status status;
    Descriptor graph;
    RETURN_IF_ERROR(dnn_check(convolution, error));
    DnnPlan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the plan of a convolution");
    plan->dnn = dnn;
    plan->convolution = *convolution;
    plan->limit = workspace_limit;
    plan->graph.error = error;
    GOTO_IF_ERROR(dnn_graph(convolution, &plan->graph, &graph), failed);
    if (known != NULL) {
        GOTO_IF_ERROR(from_text(plan, graph, known, error), failed);
    } else {
        GOTO_IF_ERROR(candidates_find(dnn->device, graph, convolution, &plan->candidates, error), failed);
        GOTO_IF_ERROR(choose_first(plan, error), failed);
    }
    *out = plan;
    return STATUS_OK;

failed:
    dnn_plan_destroy(plan);
    return status;
}

void dnn_plan_destroy(DnnPlan *plan)
{
    if (plan == NULL) return;
    if (plan->plan != NULL) cudnnBackendDestroyDescriptor(plan->plan);
    candidates_destroy(&plan->candidates);
    descriptors_destroy(&plan->graph);
    free(plan->text);
    free(plan);
}

size_t dnn_plan_workspace(const DnnPlan *plan)
{
    return plan->workspace;
}

const char *dnn_plan_name(const DnnPlan *plan)
{
    return plan->name;
}

int dnn_plan_candidates(const DnnPlan *plan)
{
    return plan->candidates.count;
}

Status dnn_plan_choose(DnnPlan *plan, int candidate, Error *error)
{
    if (candidate < 0 || candidate >= plan->candidates.count)
        return error_set(error, STATUS_OUT_OF_RANGE, "candidate is %d, expected 0 to %d", candidate,
                         plan->candidates.count - 1);
    return choose(plan, candidate, error);
}

const char *dnn_plan_text(const DnnPlan *plan)
{
    return plan->text;
}

/* --- running --- */

/* The memory of a run by unique ids. */
typedef struct Pack {
    int64_t uids[4];
    void *pointers[4];
    size_t bytes[4];
    int64_t count;
} Pack;

static void pack_add(Pack *pack, const DnnTensor tensors[DNN_UID_COUNT], int64_t uid, const void *pointer)
{
    const DnnTensor *tensor = &tensors[uid];
    const int64_t elements = tensor->dims[0] * tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
    pack->uids[pack->count] = uid;
    pack->pointers[pack->count] = (void *)(uintptr_t)pointer;
    pack->bytes[pack->count++] = (size_t)elements * dtype_size(tensor->type);
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* The result is the pack's first. The library checks none of this. */
static Status check_pack(const DnnPlan *plan, const Pack *pack, const void *workspace, Error *error)
{
    for (int i = 0; i < pack->count; i++) {
        const void *p = pack->pointers[i];
        if (p == NULL || (uintptr_t)p % DNN_ALIGNMENT != 0)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "convolution: tensor %d is at %p, expected memory aligned to %d bytes", (int)pack->uids[i],
                             p, DNN_ALIGNMENT);
        if (i > 0 && overlap(pack->pointers[0], pack->bytes[0], p, pack->bytes[i]))
            return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: the result lies over tensor %d",
                             (int)pack->uids[i]);
        if (plan->workspace > 0 && overlap(workspace, plan->workspace, p, pack->bytes[i]))
            return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: the workspace lies over tensor %d",
                             (int)pack->uids[i]);
    }
    if (plan->workspace > 0 && (workspace == NULL || (uintptr_t)workspace % DNN_WORKSPACE_ALIGNMENT != 0))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "convolution: workspace is at %p, expected memory aligned to %d bytes", workspace,
                         DNN_WORKSPACE_ALIGNMENT);
    return STATUS_OK;
}

static Status execute(const DnnPlan *plan, cudaStream_t stream, const Pack *pack, void *workspace, Error *error)
{
    Descriptors list = {.error = error};
    Descriptor made = descriptor_make(&list, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    DESCRIPTOR_SET(&list, made, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, pack->count, pack->uids);
    DESCRIPTOR_SET(&list, made, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pack->count,
                   pack->pointers);
    DESCRIPTOR_SET(&list, made, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    descriptor_finalize(&list, made, "variant pack");
    if (list.status == STATUS_OK) {
        cudnnStatus_t result = cudnnSetStream(plan->dnn->handle, stream);
        if (result != CUDNN_STATUS_SUCCESS) {
            list.status = dnn_failed(result, "cudnnSetStream", error);
        } else {
            result = cudnnBackendExecute(plan->dnn->handle, plan->plan, made);
            if (result != CUDNN_STATUS_SUCCESS) list.status = dnn_failed(result, "cudnnBackendExecute", error);
        }
    }
    descriptors_destroy(&list);
    return list.status;
}

Status dnn_plan_run(const DnnPlan *plan, cudaStream_t stream, const void *a, const void *b, const void *bias,
                    void *result, void *workspace, Error *error)
{
    static const int64_t uids[][3] = {[DNN_FORWARD] = {DNN_UID_Y, DNN_UID_X, DNN_UID_W},
                                      [DNN_GRAD_INPUT] = {DNN_UID_X, DNN_UID_Y, DNN_UID_W},
                                      [DNN_GRAD_FILTER] = {DNN_UID_W, DNN_UID_Y, DNN_UID_X}};
    const int64_t *order = uids[plan->convolution.kind];
    DnnTensor tensors[DNN_UID_COUNT];
    Pack pack = {.count = 0};
    if (plan->dnn->handle == NULL)
        return error_set(error, STATUS_FAILED_PRECONDITION, "a plan that was made without a device can't run");
    dnn_tensors(&plan->convolution, tensors);
    pack_add(&pack, tensors, order[0], result);
    pack_add(&pack, tensors, order[1], a);
    pack_add(&pack, tensors, order[2], b);
    if (plan->convolution.bias) pack_add(&pack, tensors, DNN_UID_BIAS, bias);
    RETURN_IF_ERROR(check_pack(plan, &pack, workspace, error));
    return execute(plan, stream, &pack, workspace, error);
}
