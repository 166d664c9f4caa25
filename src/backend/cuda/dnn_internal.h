/* What the files of dnn.h share: backend descriptors, made one after another and destroyed together; operation graphs
 * (dnn_graph.c); engines (dnn_engines.c); plans as text (dnn_text.c). */
#pragma once

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/cuda/dnn.h"

/* As cudnn_status, with what the library says about the cause: the first line of its last error. */
Status dnn_failed(cudnnStatus_t result, const char *call, Error *error);
#define RETURN_IF_DNN(call, error)                                                                                     \
    do {                                                                                                               \
        const cudnnStatus_t result_ = (call);                                                                          \
        if (result_ != CUDNN_STATUS_SUCCESS) return dnn_failed(result_, #call, error);                                 \
    } while (0)

typedef cudnnBackendDescriptor_t Descriptor;

/* A list of descriptors that live and die together. The first failure sticks: what is asked for after it does nothing,
 * and `status` and *error tell of it once, at the end. Zero-initialise, but for `error`. */
enum { DNN_DESCRIPTORS = 24 };
typedef struct Descriptors {
    Descriptor made[DNN_DESCRIPTORS];
    int count;
    Status status;
    Error *error;
} Descriptors;

/* NULL after a failure. */
Descriptor descriptor_make(Descriptors *list, cudnnBackendDescriptorType_t type);
/* `name` is the attribute's, for messages. */
void descriptor_set(Descriptors *list, Descriptor descriptor, cudnnBackendAttributeName_t attribute, const char *name,
                    cudnnBackendAttributeType_t type, int64_t count, const void *values);
/* `what` names the thing in messages: "tensor w". */
void descriptor_finalize(Descriptors *list, Descriptor descriptor, const char *what);
void descriptors_destroy(Descriptors *list); /* in reverse */

#define DESCRIPTOR_SET(list, descriptor, attribute, type, count, values)                                               \
    descriptor_set(list, descriptor, attribute, #attribute, type, count, values)
#define DESCRIPTOR_LINK(list, descriptor, attribute, other)                                                            \
    descriptor_set(list, descriptor, attribute, #attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &(other))

/* The tensors' unique ids, by which a run names their memory. */
enum { DNN_UID_X = 1, DNN_UID_W, DNN_UID_Y, DNN_UID_BIAS, DNN_UID_SUM, DNN_UID_BIASED, DNN_UID_COUNT };
enum { DNN_ALIGNMENT = 16, DNN_WORKSPACE_ALIGNMENT = 256 };

typedef struct DnnTensor {
    const char *name;            /* "tensor x"; NULL where the convolution has no such tensor */
    int64_t dims[4], strides[4]; /* as NCHW, whatever the memory's order */
    DType type;
    bool is_virtual;
} DnnTensor;

/* The tensors of a convolution by their unique ids. */
void dnn_tensors(const DnnConvolution *convolution, DnnTensor tensors[DNN_UID_COUNT]);

/* What the library doesn't check, or crashes on: INVALID_ARGUMENT with the value and what was expected. */
Status dnn_check(const DnnConvolution *convolution, Error *error);
/* The size of y: (size + 2 padding - kernel) / stride + 1. */
int64_t dnn_out_size(const DnnConvolution *convolution, int axis);
/* The operation graph of a convolution that dnn_check has let pass, finalised; *out belongs to `list`. */
Status dnn_graph(const DnnConvolution *convolution, Descriptors *list, Descriptor *out);

/* Whether a plan's text (the library's JSON) is of this very convolution, which the library doesn't ask:
 * FAILED_PRECONDITION with what was expected in it. *engine is the number of its engine. */
Status dnn_text_fits(const DnnConvolution *convolution, const char *text, int64_t *engine, Error *error);

enum { DNN_CANDIDATES = 128, DNN_NOTES = 32 };

/* What an engine says of itself. */
typedef struct Engine {
    int64_t index;
    int64_t note_count;
    cudnnBackendNumericalNote_t notes[DNN_NOTES];
} Engine;

/* The engine of a configuration, and the one of that number for an operation graph. */
Status engine_of(Descriptor config, Engine *out, Error *error);
Status engine_numbered(Descriptor device, Descriptor graph, int64_t index, Engine *out, Error *error);
/* Whether an engine keeps what dnn.h promises: the same bits in every run, sums in float, inputs as they are, and no
 * TF32 unless allowed. Winograd's large tiles are out too: their transforms cost float several digits. */
bool engine_keeps_promises(const Engine *engine, const DnnConvolution *convolution);

/* Engine configurations, best first. Zero-initialise. */
typedef struct Candidates {
    Descriptor configs[DNN_CANDIDATES];
    int count;
} Candidates;

/* UNIMPLEMENTED where there is none. */
Status candidates_find(Descriptor device, Descriptor graph, const DnnConvolution *convolution, Candidates *out,
                       Error *error);
void candidates_drop_first(Candidates *candidates);
void candidates_destroy(Candidates *candidates);
