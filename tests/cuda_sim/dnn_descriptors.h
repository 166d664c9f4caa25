/* cuDNN's descriptors by its own calls, for tests of what the library does with them: each is right but for what its
 * parts say. The first refusal is remembered, and nothing is finalised after it; nothing is destroyed either, so a test
 * that makes some has a process of its own. */
#pragma once

#include <cudnn.h>
#include <stdbool.h>

typedef cudnnBackendDescriptor_t Descriptor;

/* What the first call that refused answered, or SUCCESS. */
cudnnStatus_t desc_refusal(void);

Descriptor desc_make(cudnnBackendDescriptorType_t type);
void desc_set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              const void *values);
/* NULL isn't set. */
void desc_link(Descriptor d, cudnnBackendAttributeName_t name, Descriptor other);
void desc_finalize(Descriptor d);

typedef struct TensorParts {
    cudnnDataType_t type;
    int64_t dims[4], strides[4], uid, alignment;
    bool is_virtual;
    bool no_type, no_dims, no_strides, no_uid, no_alignment, unfinished;
    int rank_of_strides; /* 0: 4 */
} TensorParts;

/* Dense floats, NCHW. */
TensorParts desc_tensor_parts(int64_t n, int64_t c, int64_t h, int64_t w, int64_t uid);
Descriptor desc_tensor(TensorParts parts);
Descriptor desc_dense(int64_t n, int64_t c, int64_t h, int64_t w, int64_t uid); /* of those parts */

typedef struct ConvolutionParts {
    int64_t padding, stride, dilation;
    cudnnDataType_t type;
    int missing; /* bits: 1 type, 2 mode, 4 axes, 8 pre-, 16 post-paddings, 32 strides, 64 dilations */
    bool unfinished;
} ConvolutionParts;

/* Floats, stride 1. */
ConvolutionParts desc_convolution_parts(int64_t padding);
Descriptor desc_convolution(ConvolutionParts parts);

/* Operations; parts that are NULL aren't set. `scales`: alpha and beta. */
Descriptor desc_forward(Descriptor convolution, Descriptor x, Descriptor w, Descriptor y, bool scales);
typedef enum AddParts { ADD_ALL, ADD_NO_MODE, ADD_NO_PRECISION } AddParts;
Descriptor desc_add(AddParts parts, Descriptor x, Descriptor b, Descriptor y);

Descriptor desc_graph(const Descriptor *operations, int64_t count);
Descriptor desc_heuristics(Descriptor device, Descriptor graph);
/* What heuristics have found, at most 64; their number. */
enum { DESC_CONFIGS = 64 };
int64_t desc_configs(Descriptor heuristics, Descriptor configs[DESC_CONFIGS]);
/* Without its last step: it is for the caller to finalise. */
Descriptor desc_plan(Descriptor device, Descriptor config);
