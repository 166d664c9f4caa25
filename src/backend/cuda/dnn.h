/* Convolutions by cuDNN's graph API (the backend descriptors; nothing that is deprecated; 9.8 or newer): a description
 * becomes an execution plan, which runs on a stream. One thread at a time uses a Dnn and its plans; plans go before
 * their Dnn.
 *
 * What plans promise: the same bits in every run, sums in float, no rounding of inputs but to TF32 where allowed.
 * Engines that don't keep this are never chosen. What there are plans for (asked for sm_80, 89, 90 and 100): forward
 * and both gradients in all types and both layouts; bias, or bias and ReLU, in F32, and in half precision with channels
 * last (compiled at run time: needs NVRTC); ReLU alone with channels last. */
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "base/status.h"
#include "tensor/dtype.h"

typedef struct Dnn Dnn;
typedef struct DnnPlan DnnPlan;

/* A handle on the current device. */
Status dnn_open(Dnn **out, Error *error);
/* Without a device: plans can be made and described, for a device of the given properties (JSON, as cuDNN's
 * CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION has it), and not run. */
Status dnn_open_for(const char *device_properties, Dnn **out, Error *error);
void dnn_close(Dnn *dnn);

typedef enum DnnKind {
    DNN_FORWARD,     /* x, w, bias or none -> y = x * w + bias, then relu where wanted */
    DNN_GRAD_INPUT,  /* dy, w -> dx */
    DNN_GRAD_FILTER, /* dy, x -> dw */
} DnnKind;

/* x [n, channels, rows, columns], w [out, channels / groups, kernel], y [n, out, out_rows, out_columns]; cross
 * correlation, zero padding. Row-major as named (NCHW), or with `channels_last` all three NHWC in memory. */
typedef struct DnnConvolution {
    DnnKind kind;
    DType type;   /* of x, w and y: F32, BF16, F16; sums are in float */
    DType result; /* of what is computed; NONE: `type`. F32 for half precision inputs: forward only */
    bool tf32;    /* F32 inputs may be rounded to TF32 */
    bool channels_last;
    int64_t n, channels, rows, columns, out;
    int64_t kernel[2], stride[2], padding[2], groups;
    bool bias, relu; /* DNN_FORWARD; the bias is [out] floats */
} DnnConvolution;

/* Heuristics choose (or, given `known`, a plan that dnn_plan_text wrote; one that is of another convolution, library
 * version or kind of device, needs more workspace, or breaks a promise is an error). `workspace_limit`: plans that need
 * more are passed over. INVALID_ARGUMENT: no convolution has these sizes. UNIMPLEMENTED: the library has no plan for
 * these types and layout, so that the caller may ask for less fused. */
Status dnn_plan_create(Dnn *dnn, const DnnConvolution *convolution, size_t workspace_limit, const char *known,
                       DnnPlan **out, Error *error);
void dnn_plan_destroy(DnnPlan *plan);
size_t dnn_plan_workspace(const DnnPlan *plan); /* bytes, of memory aligned to 256 */
const char *dnn_plan_name(const DnnPlan *plan); /* of the engine, for reports: "cudnn:eng20" */
/* How many candidates heuristics gave (0 for a `known` plan; the first is in use), and the same plan with another one:
 * for a timed search. A candidate of which no plan within the limit comes is an error, and leaves the plan as it was.
 */
int dnn_plan_candidates(const DnnPlan *plan);
Status dnn_plan_choose(DnnPlan *plan, int candidate, Error *error);
/* The plan as text (cuDNN's own JSON), to be kept; lives as long as the plan. NULL where the library gives none. */
const char *dnn_plan_text(const DnnPlan *plan);
double dnn_convolution_flops(const DnnConvolution *convolution);

/* Device pointers, aligned to 16 bytes. `a` and `b` are the two inputs in the order of DnnKind's comments. */
Status dnn_plan_run(const DnnPlan *plan, cudaStream_t stream, const void *a, const void *b, const void *bias,
                    void *result, void *workspace, Error *error);
