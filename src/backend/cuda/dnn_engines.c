/* Which of cuDNN's engines may compute a convolution: heuristics answer with engine configurations, best first, and
 * those whose engines break a promise of dnn.h are left out. */
#include <string.h>

#include "backend/cuda/dnn_internal.h"

static Status read_engine(Descriptor engine, Engine *out, Error *error)
{
    int64_t count = 0;
    RETURN_IF_DNN(
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &out->index),
        error);
    RETURN_IF_DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                           DNN_NOTES, &out->note_count, out->notes),
                  error);
    return STATUS_OK;
}

Status engine_of(Descriptor config, Engine *out, Error *error)
{
    int64_t count = 0;
    Descriptors list = {.error = error};
    Descriptor engine = descriptor_make(&list, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (list.status != STATUS_OK) return list.status;
    const cudnnStatus_t result = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine);
    Status status = result == CUDNN_STATUS_SUCCESS
                        ? read_engine(engine, out, error)
                        : dnn_failed(result, "cudnnBackendGetAttribute(CUDNN_ATTR_ENGINECFG_ENGINE)", error);
    descriptors_destroy(&list);
    return status;
}

Status engine_numbered(Descriptor device, Descriptor graph, int64_t index, Engine *out, Error *error)
{
    Descriptors list = {.error = error};
    Descriptor engine = descriptor_make(&list, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    DESCRIPTOR_LINK(&list, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    DESCRIPTOR_SET(&list, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    DESCRIPTOR_LINK(&list, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, device);
    descriptor_finalize(&list, engine, "engine");
    const Status status = list.status == STATUS_OK ? read_engine(engine, out, error) : list.status;
    descriptors_destroy(&list);
    return status;
}

bool engine_keeps_promises(const Engine *engine, const DnnConvolution *convolution)
{
    for (int64_t i = 0; i < engine->note_count && i < DNN_NOTES; i++)
        switch (engine->notes[i]) {
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13:
            return false;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            if (convolution->type == DTYPE_F32 && !convolution->tf32) return false;
            break;
        default:
            break;
        }
    return true;
}

/* Appends the heuristics' configurations that keep our promises; a mode that has nothing to say adds nothing. */
static Status collect(Descriptor results, const DnnConvolution *convolution, Candidates *out, Error *error)
{
    Descriptor found[DNN_CANDIDATES];
    Status status = STATUS_OK;
    int64_t wanted = 0, count = 0;
    int made = 0;
    RETURN_IF_DNN(cudnnBackendGetAttribute(results, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                           &wanted, NULL),
                  error);
    if (wanted > DNN_CANDIDATES - out->count) wanted = DNN_CANDIDATES - out->count;
    if (wanted <= 0) return STATUS_OK;
    for (; made < wanted; made++) {
        const cudnnStatus_t result = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &found[made]);
        if (result != CUDNN_STATUS_SUCCESS) {
            status = dnn_failed(result, "cudnnBackendCreateDescriptor(engine configuration)", error);
            goto done;
        }
    }
    /* Only this second count is to be trusted: it can be less than the first. */
    const cudnnStatus_t result = cudnnBackendGetAttribute(results, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, wanted, &count, found);
    if (result != CUDNN_STATUS_SUCCESS) {
        status = dnn_failed(result, "cudnnBackendGetAttribute(CUDNN_ATTR_ENGINEHEUR_RESULTS)", error);
        goto done;
    }
    for (int i = 0; i < made && i < count; i++) {
        Engine engine = {0};
        GOTO_IF_ERROR(engine_of(found[i], &engine, error), done);
        if (!engine_keeps_promises(&engine, convolution)) continue;
        out->configs[out->count++] = found[i];
        found[i] = NULL;
    }

done:
    for (int i = 0; i < made; i++)
        if (found[i] != NULL) cudnnBackendDestroyDescriptor(found[i]);
    return status;
}

static Status ask_heuristics(Descriptor device, Descriptor graph, cudnnBackendHeurMode_t mode,
                             const DnnConvolution *convolution, Candidates *out, Error *error)
{
    Descriptors list = {.error = error};
    Descriptor heuristics = descriptor_make(&list, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    DESCRIPTOR_LINK(&list, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    DESCRIPTOR_SET(&list, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    DESCRIPTOR_LINK(&list, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
    descriptor_finalize(&list, heuristics, "heuristics");
    Status status = list.status;
    if (status == STATUS_OK) status = collect(heuristics, convolution, out, error);
    descriptors_destroy(&list);
    return status;
}

Status candidates_find(Descriptor device, Descriptor graph, const DnnConvolution *convolution, Candidates *out,
                       Error *error)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    Error why = {0};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const Status status = ask_heuristics(device, graph, modes[i], convolution, out, &why);
        if (status != STATUS_OK && status != STATUS_UNIMPLEMENTED) return error_set(error, status, "%s", why.message);
    }
    if (out->count > 0) return STATUS_OK;
    return error_set(error, STATUS_UNIMPLEMENTED, "cuDNN has no engine for this convolution%s%s",
                     why.message[0] != '\0' ? ": " : "", why.message);
}

void candidates_drop_first(Candidates *candidates)
{
    cudnnBackendDestroyDescriptor(candidates->configs[0]);
    candidates->count--;
    memmove(&candidates->configs[0], &candidates->configs[1],
            (size_t)candidates->count * sizeof candidates->configs[0]);
}

void candidates_destroy(Candidates *candidates)
{
    while (candidates->count > 0)
        cudnnBackendDestroyDescriptor(candidates->configs[--candidates->count]);
}
