/* See the header. The statuses are what cuDNN 9.19 answered. */
#include "cuda_sim/cudnn_misuse.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef cudnnBackendDescriptor_t Descriptor;

/* --- making descriptors, each the right one but for one thing --- */

/* Remembers the first refusal. Nothing is destroyed: every misuse has a process of its own. */
static cudnnStatus_t first;

static void note(cudnnStatus_t status)
{
    if (first == CUDNN_STATUS_SUCCESS) first = status;
}

static Descriptor make(cudnnBackendDescriptorType_t type)
{
    Descriptor made = NULL;
    note(cudnnBackendCreateDescriptor(type, &made));
    return made;
}

static void set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                const void *values)
{
    note(cudnnBackendSetAttribute(d, name, type, count, values));
}

static void link_to(Descriptor d, cudnnBackendAttributeName_t name, Descriptor other)
{
    if (other != NULL) set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
}

static void finalize(Descriptor d)
{
    if (first == CUDNN_STATUS_SUCCESS) note(cudnnBackendFinalize(d));
}

typedef struct TensorParts {
    cudnnDataType_t type;
    int64_t dims[4], strides[4], uid, alignment;
    bool is_virtual;
    bool no_type, no_dims, no_strides, no_uid, no_alignment, unfinished;
    int rank_of_strides; /* 0: 4 */
} TensorParts;

static TensorParts parts(int64_t n, int64_t c, int64_t h, int64_t w, int64_t uid)
{
    return (TensorParts){.type = CUDNN_DATA_FLOAT,
                         .dims = {n, c, h, w},
                         .strides = {c * h * w, h * w, w, 1},
                         .uid = uid,
                         .alignment = 16};
}

static Descriptor tensor(TensorParts p)
{
    Descriptor d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    if (!p.no_type) set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &p.type);
    if (!p.no_dims) set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, p.dims);
    if (!p.no_strides)
        set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, p.rank_of_strides > 0 ? p.rank_of_strides : 4, p.strides);
    if (!p.no_uid) set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &p.uid);
    if (!p.no_alignment) set(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &p.alignment);
    if (p.is_virtual) set(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &p.is_virtual);
    if (!p.unfinished) finalize(d);
    return d;
}

typedef struct ConvolutionParts {
    int64_t padding, stride, dilation;
    cudnnDataType_t type;
    int missing; /* bits: 1 type, 2 mode, 4 axes, 8 pre-, 16 post-paddings, 32 strides, 64 dilations */
    bool unfinished;
} ConvolutionParts;

static Descriptor convolution(ConvolutionParts p)
{
    const int64_t axes = 2, pad[2] = {p.padding, p.padding}, stride[2] = {p.stride, p.stride},
                  dilation[2] = {p.dilation, p.dilation};
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    Descriptor d = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    if (!(p.missing & 1)) set(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &p.type);
    if (!(p.missing & 2)) set(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    if (!(p.missing & 4)) set(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    if (!(p.missing & 8)) set(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    if (!(p.missing & 16)) set(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    if (!(p.missing & 32)) set(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    if (!(p.missing & 64)) set(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    if (!p.unfinished) finalize(d);
    return d;
}

static const ConvolutionParts plain = {.padding = 1, .stride = 1, .dilation = 1, .type = CUDNN_DATA_FLOAT};

/* x [2, 8, 4, 4], w [16, 8, 3, 3], padding 1 -> y [2, 16, 4, 4] */
static TensorParts x_parts(void)
{
    return parts(2, 8, 4, 4, 1);
}
static TensorParts w_parts(void)
{
    return parts(16, 8, 3, 3, 2);
}
static TensorParts y_parts(void)
{
    return parts(2, 16, 4, 4, 3);
}

static bool without_scales; /* alpha and beta */

/* Parts that are NULL aren't set. */
static Descriptor forward(Descriptor how, Descriptor x, Descriptor w, Descriptor y)
{
    const float one = 1, zero = 0;
    Descriptor d = make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    link_to(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, how);
    link_to(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    link_to(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    link_to(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    if (!without_scales) {
        set(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
        set(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    }
    finalize(d);
    return d;
}

enum { ADD_WITHOUT_MODE = 1, ADD_WITHOUT_PRECISION };
static int pointwise_without;

static Descriptor pointwise(cudnnPointwiseMode_t mode, Descriptor x, Descriptor b, Descriptor y)
{
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    Descriptor how = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    if (pointwise_without != ADD_WITHOUT_MODE) set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    if (pointwise_without != ADD_WITHOUT_PRECISION)
        set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    finalize(how);
    Descriptor d = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    link_to(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    link_to(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    link_to(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    link_to(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finalize(d);
    return d;
}

static Descriptor graph(const Descriptor *operations, int64_t count)
{
    Descriptor d = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    finalize(d);
    return d;
}

static Descriptor heuristics(Descriptor device, Descriptor of)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    Descriptor d = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    link_to(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, of);
    set(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    link_to(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
    finalize(d);
    return d;
}

/* As dnn.c does: NULL where there is none. */
static Descriptor first_config(Descriptor heuristics_of)
{
    int64_t count = 0, got = 0;
    Descriptor configs[64];
    if (first != CUDNN_STATUS_SUCCESS) return NULL;
    note(cudnnBackendGetAttribute(heuristics_of, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                  &count, NULL));
    if (count > 64) count = 64;
    for (int64_t i = 0; i < count; i++)
        configs[i] = make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (count > 0)
        note(cudnnBackendGetAttribute(heuristics_of, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                      count, &got, configs));
    return got > 0 ? configs[0] : NULL;
}

static Descriptor good_graph(void)
{
    const Descriptor one = forward(convolution(plain), tensor(x_parts()), tensor(w_parts()), tensor(y_parts()));
    return graph(&one, 1);
}

static Descriptor plan_of(Descriptor device, Descriptor config)
{
    Descriptor d = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    link_to(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    link_to(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
    finalize(d);
    return d;
}

/* The whole way: graph, heuristics, configuration, plan. No configuration is said by NOT_SUPPORTED. */
static cudnnStatus_t all_the_way(Descriptor device, Descriptor of)
{
    Descriptor config = first_config(heuristics(device, of));
    if (first == CUDNN_STATUS_SUCCESS && config == NULL) return CUDNN_STATUS_NOT_SUPPORTED;
    if (first == CUDNN_STATUS_SUCCESS) plan_of(device, config);
    return first;
}

/* --- the misuses --- */

static cudnnStatus_t nothing_wrong(Descriptor device, int variant)
{
    (void)variant;
    return all_the_way(device, good_graph());
}

enum {
    NO_TYPE,
    NO_DIMS,
    NO_STRIDES,
    NO_UID,
    NO_ALIGNMENT,
    ZERO_DIM,
    NEGATIVE_DIM,
    ZERO_STRIDE,
    NEGATIVE_STRIDE,
    OVERLAPPING,
    ODD_ALIGNMENT,
    ZERO_ALIGNMENT,
    FEWER_STRIDES,
    TWICE,
    LATE
};

static cudnnStatus_t bad_tensor(Descriptor device, int variant)
{
    (void)device;
    TensorParts p = x_parts();
    p.no_type = variant == NO_TYPE;
    p.no_dims = variant == NO_DIMS;
    p.no_strides = variant == NO_STRIDES;
    p.no_uid = variant == NO_UID;
    p.no_alignment = variant == NO_ALIGNMENT;
    if (variant == ZERO_DIM) p.dims[1] = 0;
    if (variant == NEGATIVE_DIM) p.dims[1] = -8;
    if (variant == ZERO_STRIDE) p.strides[1] = 0;
    if (variant == NEGATIVE_STRIDE) p.strides[1] = -1;
    if (variant == OVERLAPPING) memcpy(p.strides, (int64_t[4]){1, 1, 1, 1}, sizeof p.strides);
    if (variant == ODD_ALIGNMENT) p.alignment = 3;
    if (variant == ZERO_ALIGNMENT) p.alignment = 0;
    if (variant == FEWER_STRIDES) p.rank_of_strides = 3;
    Descriptor d = tensor(p);
    if (variant == TWICE) finalize(d);
    if (variant == LATE) set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &p.uid);
    return first;
}

enum {
    WRONG_ATTRIBUTE_TYPE,
    FOREIGN_ATTRIBUTE,
    TOO_MANY_DIMS,
    NULL_VALUES,
    TWO_UIDS,
    NULL_DESCRIPTOR,
    UNKNOWN_TYPE,
    NULL_OUT,
    FINALIZE_NULL,
    GET_UNFINISHED,
    GET_WRONG_TYPE
};

static cudnnStatus_t bad_call(Descriptor device, int variant)
{
    const int64_t many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    int64_t count = 0, value = 0;
    Descriptor d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR), none = NULL;
    (void)device;
    switch (variant) {
    case WRONG_ATTRIBUTE_TYPE:
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT32, 4, many);
    case FOREIGN_ATTRIBUTE:
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, many);
    case TOO_MANY_DIMS:
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 9, many);
    case NULL_VALUES:
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, NULL);
    case TWO_UIDS:
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 2, many);
    case NULL_DESCRIPTOR:
        return cudnnBackendSetAttribute(NULL, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, many);
    case UNKNOWN_TYPE:
        return cudnnBackendCreateDescriptor((cudnnBackendDescriptorType_t)9999, &none);
    case NULL_OUT:
        return cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, NULL);
    case FINALIZE_NULL:
        return cudnnBackendFinalize(NULL);
    case GET_UNFINISHED:
        return cudnnBackendGetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &count, &value);
    default:
        d = tensor(x_parts());
        return cudnnBackendGetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, 1, &count, &value);
    }
}

/* A type that is none of cuDNN's. */
static cudnnStatus_t unknown_data_type(Descriptor device, int variant)
{
    TensorParts x = x_parts();
    (void)variant;
    x.type = (cudnnDataType_t)999;
    const Descriptor one = forward(convolution(plain), tensor(x), tensor(w_parts()), tensor(y_parts()));
    return all_the_way(device, graph(&one, 1));
}

static cudnnStatus_t convolution_without(Descriptor device, int variant)
{
    ConvolutionParts p = plain;
    (void)device;
    p.missing = variant;
    convolution(p);
    return first;
}

enum { NEGATIVE_PADDING, ZERO_FILTER_STRIDE, ZERO_DILATION };

static cudnnStatus_t bad_convolution(Descriptor device, int variant)
{
    ConvolutionParts p = plain;
    (void)device;
    if (variant == NEGATIVE_PADDING) p.padding = -1;
    if (variant == ZERO_FILTER_STRIDE) p.stride = 0;
    if (variant == ZERO_DILATION) p.dilation = 0;
    convolution(p);
    return first;
}

enum {
    NO_X,
    NO_W,
    NO_Y,
    NO_CONVOLUTION,
    Y_ROWS,
    Y_CHANNELS,
    Y_BATCH,
    GROUP_CHANNELS,
    GROUP_OUTPUTS,
    MIXED_INPUTS,
    INTEGER_INPUT,
    SAME_UID,
    IN_PLACE,
    UNFINISHED_TENSOR,
    UNFINISHED_CONVOLUTION,
    VIRTUAL_RESULT,
    NO_SCALES,
    TENSOR_FOR_CONVOLUTION,
    CONVOLUTION_FOR_TENSOR,
    DOUBLE_SUMS
};

static Descriptor bad_operation_graph(int variant)
{
    TensorParts x = x_parts(), w = w_parts(), y = y_parts();
    ConvolutionParts c = plain;
    if (variant == Y_ROWS) y = parts(2, 16, 5, 4, 3);
    if (variant == Y_CHANNELS) y = parts(2, 15, 4, 4, 3);
    if (variant == Y_BATCH) y = parts(3, 16, 4, 4, 3);
    if (variant == GROUP_CHANNELS) w = parts(16, 3, 3, 3, 2);
    if (variant == GROUP_OUTPUTS) w = parts(15, 1, 3, 3, 2);
    if (variant == GROUP_OUTPUTS) y = parts(2, 15, 4, 4, 3);
    if (variant == MIXED_INPUTS) w.type = CUDNN_DATA_HALF;
    if (variant == INTEGER_INPUT) x.type = CUDNN_DATA_INT32;
    if (variant == SAME_UID) y.uid = 1;
    if (variant == UNFINISHED_TENSOR) x.unfinished = true;
    if (variant == UNFINISHED_CONVOLUTION) c.unfinished = true;
    if (variant == VIRTUAL_RESULT) y.is_virtual = true;
    if (variant == DOUBLE_SUMS) c.type = CUDNN_DATA_DOUBLE;
    without_scales = variant == NO_SCALES;
    Descriptor cd = convolution(c), xd = tensor(x), wd = tensor(w), yd = tensor(y);
    if (variant == IN_PLACE) yd = xd;
    if (variant == TENSOR_FOR_CONVOLUTION) cd = wd;
    if (variant == CONVOLUTION_FOR_TENSOR) xd = cd;
    const Descriptor one = forward(variant == NO_CONVOLUTION ? NULL : cd, variant == NO_X ? NULL : xd,
                                   variant == NO_W ? NULL : wd, variant == NO_Y ? NULL : yd);
    return graph(&one, 1);
}

static cudnnStatus_t bad_operation(Descriptor device, int variant)
{
    Descriptor of = bad_operation_graph(variant);
    return first != CUDNN_STATUS_SUCCESS ? first : all_the_way(device, of);
}

enum {
    EMPTY,
    CYCLE,
    NULL_OPERATION,
    TENSOR_FOR_OPERATION,
    UNRELATED,
    BIAS_SHAPE,
    ADD_WITHOUT_B,
    UNFINISHED_OPERATION,
    NO_POINTWISE_MODE,
    NO_POINTWISE_PRECISION,
    VIRTUAL_INPUT,
    WRITTEN_TWICE
};

static cudnnStatus_t bad_graph(Descriptor device, int variant)
{
    Descriptor x = tensor(x_parts()), w = tensor(w_parts()), y = tensor(y_parts()), c = convolution(plain), two[2];
    switch (variant) {
    case EMPTY:
        graph(two, 0);
        return first;
    case CYCLE: /* the second writes what the first reads */
        two[0] = forward(c, x, w, y);
        two[1] = forward(c, y, tensor(parts(16, 16, 3, 3, 5)), tensor(parts(2, 16, 4, 4, 1)));
        graph(two, 2);
        return first;
    case NULL_OPERATION:
        two[0] = NULL;
        graph(two, 1);
        return first;
    case TENSOR_FOR_OPERATION:
        graph(&x, 1);
        return first;
    case UNRELATED:
        two[0] = forward(c, x, w, y);
        two[1] =
            forward(c, tensor(parts(2, 8, 4, 4, 11)), tensor(parts(16, 8, 3, 3, 12)), tensor(parts(2, 16, 4, 4, 13)));
        return all_the_way(device, graph(two, 2));
    case VIRTUAL_INPUT: {
        TensorParts p = x_parts();
        p.is_virtual = true;
        two[0] = forward(c, tensor(p), w, y);
        return all_the_way(device, graph(two, 1));
    }
    case WRITTEN_TWICE:
        two[0] = forward(c, x, w, y);
        two[1] = forward(c, tensor(parts(2, 8, 4, 4, 11)), w, y);
        return all_the_way(device, graph(two, 2));
    case UNFINISHED_OPERATION:
        two[0] = make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        graph(two, 1);
        return first;
    default: {
        TensorParts sum = y_parts();
        sum.uid = 5;
        sum.is_virtual = true;
        if (variant == NO_POINTWISE_MODE) pointwise_without = ADD_WITHOUT_MODE;
        if (variant == NO_POINTWISE_PRECISION) pointwise_without = ADD_WITHOUT_PRECISION;
        Descriptor between = tensor(sum), bias = tensor(parts(1, variant == BIAS_SHAPE ? 7 : 16, 1, 1, 4));
        two[0] = forward(c, x, w, between);
        two[1] = pointwise(CUDNN_POINTWISE_ADD, between, variant == ADD_WITHOUT_B ? NULL : bias, y);
        return all_the_way(device, graph(two, 2));
    }
    }
}

enum { NO_MODE, NO_GRAPH, NO_DEVICE, UNKNOWN_MODE, UNFINISHED_GRAPH, TENSOR_FOR_GRAPH };

static cudnnStatus_t bad_heuristics(Descriptor device, int variant)
{
    Descriptor of = good_graph(), d = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    const cudnnBackendHeurMode_t mode = variant == UNKNOWN_MODE ? (cudnnBackendHeurMode_t)77 : CUDNN_HEUR_MODE_A;
    if (variant == UNFINISHED_GRAPH) of = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (variant == TENSOR_FOR_GRAPH) of = tensor(x_parts());
    if (variant != NO_GRAPH) link_to(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, of);
    if (variant != NO_MODE) set(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (variant != NO_DEVICE) link_to(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
    finalize(d);
    if (first == CUDNN_STATUS_SUCCESS) first_config(d);
    return first;
}

enum {
    PLAN_NO_DEVICE,
    PLAN_NO_CONFIG,
    PLAN_EMPTY_CONFIG,
    PLAN_GARBAGE,
    PLAN_EMPTY_TEXT,
    PLAN_GRAPH_FOR_CONFIG,
    PLAN_WORKSPACE_UNFINISHED
};

static cudnnStatus_t bad_plan(Descriptor device, int variant)
{
    Descriptor d = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    int64_t count = 0, value = 0;
    switch (variant) {
    case PLAN_NO_DEVICE:
        plan_of(NULL, first_config(heuristics(device, good_graph())));
        break;
    case PLAN_NO_CONFIG:
        plan_of(device, NULL);
        break;
    case PLAN_EMPTY_CONFIG:
        plan_of(device, make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
        break;
    case PLAN_GRAPH_FOR_CONFIG:
        plan_of(device, good_graph());
        break;
    case PLAN_WORKSPACE_UNFINISHED:
        note(
            cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &value));
        break;
    default: {
        const char *text = variant == PLAN_GARBAGE ? "garbage" : "{}";
        link_to(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
        set(d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
        finalize(d);
        break;
    }
    }
    return first;
}

enum { ENGINE_UNKNOWN, ENGINE_NEGATIVE, ENGINE_NO_GRAPH, ENGINE_NO_INDEX };

static cudnnStatus_t bad_engine(Descriptor device, int variant)
{
    const int64_t index = variant == ENGINE_UNKNOWN ? 9999 : variant == ENGINE_NEGATIVE ? -1 : 0;
    Descriptor d = make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (variant != ENGINE_NO_GRAPH) link_to(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, good_graph());
    if (variant != ENGINE_NO_INDEX) set(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    link_to(d, CUDNN_ATTR_ENGINE_DEVICEPROP, device);
    finalize(d);
    return first;
}

enum { PACK_NO_UIDS, PACK_NO_POINTERS, PACK_NO_WORKSPACE, PACK_FEWER_POINTERS, PACK_SAME_UIDS, PACK_GOOD };

static cudnnStatus_t bad_pack(Descriptor device, int variant)
{
    int64_t uids[3] = {1, 2, 3};
    char memory[4][16] __attribute__((aligned(16)));
    void *pointers[3] = {memory[0], memory[1], memory[2]}, *workspace = memory[3];
    Descriptor d = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    (void)device;
    if (variant == PACK_SAME_UIDS) uids[1] = 1;
    if (variant != PACK_NO_UIDS) set(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids);
    if (variant != PACK_NO_POINTERS)
        set(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, variant == PACK_FEWER_POINTERS ? 2 : 3,
            pointers);
    if (variant != PACK_NO_WORKSPACE) set(d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(d);
    return first;
}

enum { DEVICE_GARBAGE, DEVICE_EMPTY_OBJECT };

static cudnnStatus_t bad_device(Descriptor device, int variant)
{
    const char *text = variant == DEVICE_GARBAGE ? "garbage" : "{}";
    Descriptor d = make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    (void)device;
    set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    finalize(d);
    return first;
}

static cudnnStatus_t execute_without_handle(Descriptor device, int variant)
{
    Descriptor plan = plan_of(device, first_config(heuristics(device, good_graph())));
    if (first != CUDNN_STATUS_SUCCESS) return first;
    (void)variant;
    return cudnnBackendExecute(NULL, plan, NULL);
}

/* --- the table --- */

#define CRASHES CUDNN_STATUS_SUCCESS, true

const Misuse misuses[] = {
    {"nothing wrong", nothing_wrong, 0, CUDNN_STATUS_SUCCESS, false, NULL},
    {"tensor: no type", bad_tensor, NO_TYPE, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(tensor): CUDNN_ATTR_TENSOR_DATA_TYPE"},
    {"tensor: no dims", bad_tensor, NO_DIMS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: no strides", bad_tensor, NO_STRIDES, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: no uid", bad_tensor, NO_UID, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(tensor): CUDNN_ATTR_TENSOR_UNIQUE_ID"},
    {"tensor: no alignment", bad_tensor, NO_ALIGNMENT, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: zero dim", bad_tensor, ZERO_DIM, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(tensor): dimension 1 is 0"},
    {"tensor: negative dim", bad_tensor, NEGATIVE_DIM, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: zero stride", bad_tensor, ZERO_STRIDE, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(tensor): stride 1 is 0"},
    {"tensor: negative stride", bad_tensor, NEGATIVE_STRIDE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: overlapping", bad_tensor, OVERLAPPING, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(tensor): strides let elements overlap"},
    {"tensor: odd alignment", bad_tensor, ODD_ALIGNMENT, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: zero alignment", bad_tensor, ZERO_ALIGNMENT, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: fewer strides", bad_tensor, FEWER_STRIDES, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: twice", bad_tensor, TWICE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"tensor: late", bad_tensor, LATE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"call: wrong attribute type", bad_call, WRONG_ATTRIBUTE_TYPE, CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, false, NULL},
    {"call: foreign attribute", bad_call, FOREIGN_ATTRIBUTE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"call: too many dims", bad_call, TOO_MANY_DIMS, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendSetAttribute: CUDNN_ATTR_TENSOR_DIMENSIONS has 9 values"},
    {"call: null values", bad_call, NULL_VALUES, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"call: two uids", bad_call, TWO_UIDS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"call: null descriptor", bad_call, NULL_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, false, NULL},
    {"call: unknown type", bad_call, UNKNOWN_TYPE, CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, false, NULL},
    {"call: null out", bad_call, NULL_OUT, CRASHES, "cudnnBackendCreateDescriptor: writes"},
    {"call: finalize null", bad_call, FINALIZE_NULL, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, false, NULL},
    {"call: get unfinished", bad_call, GET_UNFINISHED, CUDNN_STATUS_NOT_INITIALIZED, false, NULL},
    {"call: get wrong type", bad_call, GET_WRONG_TYPE, CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, false, NULL},
    {"tensor: unknown data type", unknown_data_type, 0, CRASHES, "cudnnBackendFinalize(tensor): data type 999"},
    {"convolution without compute type", convolution_without, 1, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(convolution): CUDNN_ATTR_CONVOLUTION_COMP_TYPE"},
    {"convolution without mode", convolution_without, 2, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(convolution): CUDNN_ATTR_CONVOLUTION_CONV_MODE"},
    {"convolution without axes", convolution_without, 4, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"convolution without paddings before", convolution_without, 8, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(convolution): 0 paddings before"},
    {"convolution without paddings after", convolution_without, 16, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(convolution): 2 paddings before and 0"},
    {"convolution without strides", convolution_without, 32, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"convolution without dilations", convolution_without, 64, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"convolution: negative padding", bad_convolution, NEGATIVE_PADDING, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"convolution: zero filter stride", bad_convolution, ZERO_FILTER_STRIDE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"convolution: zero dilation", bad_convolution, ZERO_DILATION, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: no x", bad_operation, NO_X, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: no w", bad_operation, NO_W, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: no y", bad_operation, NO_Y, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: no convolution", bad_operation, NO_CONVOLUTION, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: y rows", bad_operation, Y_ROWS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: y channels", bad_operation, Y_CHANNELS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: y batch", bad_operation, Y_BATCH, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: group channels", bad_operation, GROUP_CHANNELS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: group outputs", bad_operation, GROUP_OUTPUTS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: mixed inputs", bad_operation, MIXED_INPUTS, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"operation: integer input", bad_operation, INTEGER_INPUT, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"operation: same uid", bad_operation, SAME_UID, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(operation graph): two different tensors have the unique id 1"},
    {"operation: in place", bad_operation, IN_PLACE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: unfinished tensor", bad_operation, UNFINISHED_TENSOR, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: unfinished convolution", bad_operation, UNFINISHED_CONVOLUTION, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: virtual result", bad_operation, VIRTUAL_RESULT, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(operation graph): nobody reads"},
    {"operation: no scales", bad_operation, NO_SCALES, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(convolution operation): alpha is 0"},
    {"operation: tensor for convolution", bad_operation, TENSOR_FOR_CONVOLUTION, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"operation: convolution for tensor", bad_operation, CONVOLUTION_FOR_TENSOR, CRASHES,
     "cudnnBackendSetAttribute: CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X"},
    {"operation: double sums", bad_operation, DOUBLE_SUMS, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"graph: empty", bad_graph, EMPTY, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"graph: cycle", bad_graph, CYCLE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"graph: null operation", bad_graph, NULL_OPERATION, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, false, NULL},
    {"graph: tensor for operation", bad_graph, TENSOR_FOR_OPERATION, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"graph: unrelated", bad_graph, UNRELATED, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"graph: bias shape", bad_graph, BIAS_SHAPE, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"graph: add without b", bad_graph, ADD_WITHOUT_B, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"graph: unfinished operation", bad_graph, UNFINISHED_OPERATION, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, false, NULL},
    {"graph: no pointwise mode", bad_graph, NO_POINTWISE_MODE, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(pointwise): CUDNN_ATTR_POINTWISE_MODE"},
    {"graph: no pointwise precision", bad_graph, NO_POINTWISE_PRECISION, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(pointwise): CUDNN_ATTR_POINTWISE_MATH_PREC"},
    {"graph: virtual input", bad_graph, VIRTUAL_INPUT, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(operation graph): nobody writes"},
    {"graph: written twice", bad_graph, WRITTEN_TWICE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"heuristics: no mode", bad_heuristics, NO_MODE, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(engine heuristics): CUDNN_ATTR_ENGINEHEUR_MODE"},
    {"heuristics: no graph", bad_heuristics, NO_GRAPH, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"heuristics: no device", bad_heuristics, NO_DEVICE, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(engine heuristics): CUDNN_ATTR_ENGINEHEUR_DEVICEPROP"},
    {"heuristics: unknown mode", bad_heuristics, UNKNOWN_MODE, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(engine heuristics): CUDNN_ATTR_ENGINEHEUR_MODE is 77"},
    {"heuristics: unfinished graph", bad_heuristics, UNFINISHED_GRAPH, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, false,
     NULL},
    {"heuristics: tensor for graph", bad_heuristics, TENSOR_FOR_GRAPH, CRASHES,
     "cudnnBackendSetAttribute: CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH"},
    {"plan: no device", bad_plan, PLAN_NO_DEVICE, CUDNN_STATUS_SUCCESS, false, NULL},
    {"plan: no config", bad_plan, PLAN_NO_CONFIG, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, false, NULL},
    {"plan: empty config", bad_plan, PLAN_EMPTY_CONFIG, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, false, NULL},
    {"plan: garbage", bad_plan, PLAN_GARBAGE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"plan: empty text", bad_plan, PLAN_EMPTY_TEXT, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"plan: graph for config", bad_plan, PLAN_GRAPH_FOR_CONFIG, CRASHES,
     "cudnnBackendSetAttribute: CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG"},
    {"plan: workspace unfinished", bad_plan, PLAN_WORKSPACE_UNFINISHED, CUDNN_STATUS_NOT_INITIALIZED, false, NULL},
    {"engine: unknown", bad_engine, ENGINE_UNKNOWN, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"engine: negative", bad_engine, ENGINE_NEGATIVE, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"engine: no graph", bad_engine, ENGINE_NO_GRAPH, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, false, NULL},
    {"engine: no index", bad_engine, ENGINE_NO_INDEX, CUDNN_STATUS_NOT_SUPPORTED, false, NULL},
    {"variant pack: no uids", bad_pack, PACK_NO_UIDS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"variant pack: no pointers", bad_pack, PACK_NO_POINTERS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"variant pack: no workspace", bad_pack, PACK_NO_WORKSPACE, CUDNN_STATUS_SUCCESS, false, NULL},
    {"variant pack: fewer pointers", bad_pack, PACK_FEWER_POINTERS, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"variant pack: same uids", bad_pack, PACK_SAME_UIDS, CUDNN_STATUS_SUCCESS, false,
     "cudnnBackendFinalize(variant pack): a unique id"},
    {"variant pack: good", bad_pack, PACK_GOOD, CUDNN_STATUS_SUCCESS, false, NULL},
    {"device: garbage", bad_device, DEVICE_GARBAGE, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"device: empty object", bad_device, DEVICE_EMPTY_OBJECT, CUDNN_STATUS_BAD_PARAM, false, NULL},
    {"execute without a handle", execute_without_handle, 0, CUDNN_STATUS_BAD_PARAM, false, NULL},
};
const size_t misuse_count = sizeof misuses / sizeof misuses[0];

cudnnBackendDescriptor_t misuse_device(const char *json)
{
    Descriptor device = make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    finalize(device);
    ck_assert_int_eq(first, CUDNN_STATUS_SUCCESS);
    return device;
}

int misuse_answer(const Misuse *misuse, cudnnBackendDescriptor_t device)
{
    int ends[2], status = 0;
    cudnnStatus_t result = CUDNN_STATUS_SUCCESS;
    fflush(NULL);
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        fclose(stderr); /* a crash says much */
        result = misuse->run(device, misuse->variant);
        _exit(write(ends[1], &result, sizeof result) == (ssize_t)sizeof result ? 0 : 1);
    }
    close(ends[1]);
    const bool told = read(ends[0], &result, sizeof result) == (ssize_t)sizeof result;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return told ? (int)result : MISUSE_CRASHED;
}
