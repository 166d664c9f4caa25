/* The CUDA backend from inside: how a graph becomes a list of steps over one arena in device memory, captured as one
 * CUDA graph.
 *
 * Types. A graph computes in F32; what is kept between operations is kept in the context's activation type (F32, BF16
 * or F16): a value may live in its own dtype, in the activation type, or in both. Parameters, their gradients and their
 * updates, scalars and losses stay F32. A (value, type) pair is a slot; where an operation wants the other type, a
 * conversion is put before it. Of a parameter there is a low copy in the activation type beside it, for all plans,
 * which updates write too, so that no step converts weights.
 *
 * An operation is one row of cuda_operation(): a prepare function that looks at the step's views (shapes, types and row
 * strides; no addresses yet), makes the library's plans, says what memory it needs, and sets launch; after the memory
 * plan every view has its address. launch puts the work on a stream, and is called once when the CUDA graph is captured
 * (in a profile: at each run).
 *
 * Threads: those of backend.h. Every call makes its context's device the thread's current one. */
#pragma once

#include <cuda_runtime_api.h>

#include "backend/cuda/blas.h"
#include "backend/cuda/check.h"
#include "backend/cuda/devices.h"
#include "backend/cuda/dnn.h"
#include "backend/cuda/ranks.h"
#include "backend/driver.h"
#include "kernels/kernels.h"

enum {
    CUDA_ALIGNMENT = 256,            /* of buffers in the arena: what the libraries want of a workspace */
    CUDA_VECTOR = 16,                /* bytes that a tensor's address and row stride are multiples of */
    CUDA_MOST_DEVICES = 16,          /* that share a batch */
    CUDA_WORKSPACE_LIMIT = 64 << 20, /* bytes, of one step */
};

/* What plans do while they compute: copies from and to the host, and reductions over the devices. */
typedef enum Side { SIDE_UPLOADS, SIDE_DOWNLOADS, SIDE_REDUCTIONS, SIDES } Side;

/* One device. */
typedef struct CudaContext {
    int device;
    DType activation; /* F32, BF16, F16 */
    bool tf32;
    size_t memory_limit;
    const DeviceSheet *sheet;  /* of the device, where there is one for it */
    bool planning;             /* there is no device: nothing below exists, and no memory */
    cudaStream_t stream;       /* what plans run on */
    cudaStream_t copies;       /* of variables */
    cudaStream_t sides[SIDES]; /* beside `stream`, while it computes */
    Dnn *dnn;                  /* when planning too */
    Blas *blas;
    struct PlansAhead *ahead; /* the devices' */
} CudaContext;

/* The devices that share a batch, usually one. Variables are on all of them, and the same; a variable's address is the
 * one on the first. */
typedef struct CudaDevices {
    CudaContext *replicas;
    int count;
    Ranks *ranks; /* NULL with one device */
    struct PlansAhead *ahead;
    struct DeviceVariables *variables;
    char description[192];
} CudaDevices;

/* context.c: the driver's functions of that name. */
Status devices_open(const BackendOptions *options, const char *ordinals, void **out, Error *error);
void devices_close(void *devices);

/* memory.c: what a driver has as BackendMemory. */
Status variable_allocate(void *devices, size_t bytes, void **out, Error *error);
void variable_release(void *devices, void *memory);
Status variable_copy(void *devices, void *to, const void *from, size_t bytes, Error *error);
Status variable_zero(void *devices, void *memory, size_t bytes, Error *error);
Status device_variables_create(struct DeviceVariables **out, Error *error);
void device_variables_destroy(struct DeviceVariables *variables);
/* A variable's memory on replica `replica`. */
void *devices_variable(const CudaDevices *devices, int replica, void *variable);
/* The same in the activation type, where that isn't F32: made on first use. Plans that write the variable must write
 * this too; the functions above do. */
Status devices_low_variable(const CudaDevices *devices, int replica, void *variable, void **out, Error *error);

/* A slot as a step sees it: dense but for the stride of its rows. */
typedef struct CudaView {
    void *data; /* device memory; NULL where an optional input or output is absent, and before the memory plan */
    DType dtype;
    Shape shape;
    int64_t stride; /* elements from one index of dimension 0 to the next */
    bool present;
} CudaView;

typedef struct CudaStep CudaStep;

struct CudaStep {
    Status (*launch)(const CudaStep *step, cudaStream_t stream, Error *error);
    Status (*bind)(CudaStep *step, Error *error); /* called once addresses are known; NULL: nothing to do */
    void (*destroy)(CudaStep *step);              /* frees `own`; NULL: nothing to free */
    const CudaContext *cuda;
    int part; /* of a batch that devices share: which samples */
    Attributes attributes;
    bool training;
    CudaView *inputs;
    CudaView *outputs;
    int input_count, output_count;
    size_t workspace_bytes; /* that nobody else uses while the step runs */
    size_t kept_bytes;      /* the step's for as long as the plan lives, zero at first */
    unsigned char *workspace, *kept;
    void *own;     /* what prepare allocated */
    bool labelled; /* input 1 holds labels of the columns of input 0, checked before a run */
    int launches;  /* kernels and library calls */
    const char *implementation;
    /* for the report */
    const char *layer, *operation;
    Phase phase;
    double flops, bytes, seconds;
};

/* What a draft may be besides an operation of the graph. */
enum {
    CUDA_CONVERT = OPERATION_COUNT, /* x -> the same in another type */
    CUDA_CONVERT_INPUT,             /* of what the caller gave: no finite number becomes infinite */
    CUDA_COPY,                      /* rows of bytes */
    CUDA_POOL_GRAD,        /* dropout2d(max_pool2d_grad(relu_grad(dy, y), index)): dy, y, index, random or none; and the
                              gradient of the bias before it */
    CUDA_CROSS_ENTROPY,    /* loss and gradient: logits, labels, dloss or none (then it is attributes.affine.shift) */
    CUDA_LINEAR_RELU_GRAD, /* relu_grad(linear_grad_input(dy, w), y): dy, w, the mask of y */
    CUDA_LINEAR_GELU,      /* gelu by tanh of z = linear(x, w, b): x, w, b or none -> gelu(z), and z where somebody else
                              reads it */
    CUDA_LINEAR_GELU_GRAD, /* gelu_grad(linear_grad_input(dy, w), z) by tanh: dy, w, z */
    CUDA_SGD_GROUP,        /* sgd of many tensors: lr, their gradients, then their scale where there is one -> of each
                              w', v', and w' in the activation type where that isn't F32; in place */
    CUDA_KIND_COUNT,
};

/* Types of a float input or output. */
typedef enum TypeRule {
    TYPE_OWN,        /* as the graph has it */
    TYPE_ACTIVATION, /* the context's */
    TYPE_ANY,        /* an input: as it is there */
    TYPE_FOLLOW,     /* what the first input is in; F32 where the node updates parameters, or is a scalar */
} TypeRule;

enum { CUDA_RULES = 4 };

typedef struct CudaOperation {
    const char *name; /* of what is no operation of the graph */
    Status (*launch)(const CudaStep *step, cudaStream_t stream, Error *error); /* one kernel; or else prepare sets it */
    Status (*prepare)(CudaStep *step, Error *error);                           /* NULL: nothing to prepare */
    TypeRule inputs[CUDA_RULES]; /* the last one holds for all later ones */
    TypeRule outputs[NODE_MAX_OUTPUTS];
    unsigned strided_inputs, strided_outputs; /* bit i: rows of i may lie apart */
} CudaOperation;

const CudaOperation *cuda_operation(int kind);

/* --- helpers for operations --- */

static inline int64_t view_count(const CudaView *view)
{
    return shape_count(view->shape);
}
static inline size_t view_bytes(const CudaView *view)
{
    return (size_t)view_count(view) * dtype_size(view->dtype);
}
static inline int64_t view_rows(const CudaView *view)
{
    return view->shape.rank > 0 ? view->shape.dims[0] : 1;
}
static inline int64_t view_columns(const CudaView *view)
{
    return view_rows(view) > 0 ? view_count(view) / view_rows(view) : 0;
}
/* Input i, or a view that isn't present. */
CudaView step_input(const CudaStep *step, int i);

/* Outputs of CUDA_SGD_GROUP for each tensor. */
static inline int update_width(const CudaContext *cuda)
{
    return cuda->activation == DTYPE_F32 ? 2 : 3;
}

/* Bytes of the mask that a linear layer with relu keeps for CUDA_LINEAR_RELU_GRAD: y is [n, out]. */
size_t linear_mask_bytes(const CudaContext *cuda, int64_t n, int64_t out);
/* Whether what gelu is given, [n, out], has the same bytes as a tensor and as the mask of the product that makes it or
 * reads it. */
bool linear_gelu_is_dense(const CudaContext *cuda, int64_t n, int64_t out);

typedef Status CudaLaunch(const CudaStep *step, cudaStream_t stream, Error *error);
typedef Status CudaPrepare(CudaStep *step, Error *error);

/* The rows of cuda_operation, by file. */
CudaLaunch launch_affine, launch_saturate, launch_add, launch_add_scaled, launch_scale_by, launch_relu,
    launch_relu_grad, launch_gelu, launch_gelu_grad, launch_dropout, launch_copy;
CudaPrepare prepare_convert; /* elementwise.c */
CudaLaunch launch_slice, launch_weighted_sum, launch_weighted_sum_grad_weights, launch_weighted_sum_grad_values;
CudaPrepare prepare_concat, prepare_slice_grad; /* join.c */
CudaLaunch launch_adaptive_avg_pool2d, launch_adaptive_avg_pool2d_grad, launch_max_pool2d, launch_max_pool2d_grad;
CudaPrepare prepare_pool_grad; /* pooling.c */
CudaPrepare prepare_conv2d, prepare_conv2d_pool, prepare_conv2d_grad_input,
    prepare_conv2d_grad_parameters; /* convolution.c */
CudaPrepare prepare_linear, prepare_linear_grad_input, prepare_linear_relu_grad, prepare_linear_gelu,
    prepare_linear_gelu_grad, prepare_linear_grad_parameters, prepare_matmul; /* linear.c */
CudaLaunch launch_softmax, launch_softmax_grad, launch_cross_entropy_grad, launch_soft_cross_entropy_grad,
    launch_mean_squared_error_grad;
CudaPrepare prepare_cross_entropy, prepare_cross_entropy_both, prepare_soft_cross_entropy,
    prepare_mean_squared_error; /* loss.c */
CudaLaunch launch_clip_factor, launch_loss_scale;
CudaPrepare prepare_global_norm, prepare_sgd_group; /* update.c */
