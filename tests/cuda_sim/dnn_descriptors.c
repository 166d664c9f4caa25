#include "dnn_descriptors.h"

static cudnnStatus_t first;

cudnnStatus_t desc_refusal(void)
{
    return first;
}

static void note(cudnnStatus_t status)
{
    if (first == CUDNN_STATUS_SUCCESS) first = status;
}

Descriptor desc_make(cudnnBackendDescriptorType_t type)
{
    Descriptor made = NULL;
    note(cudnnBackendCreateDescriptor(type, &made));
    return made;
}

void desc_set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              const void *values)
{
    note(cudnnBackendSetAttribute(d, name, type, count, values));
}

void desc_link(Descriptor d, cudnnBackendAttributeName_t name, Descriptor other)
{
    if (other != NULL) desc_set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
}

void desc_finalize(Descriptor d)
{
    if (first == CUDNN_STATUS_SUCCESS) note(cudnnBackendFinalize(d));
}

TensorParts desc_tensor_parts(int64_t n, int64_t c, int64_t h, int64_t w, int64_t uid)
{
    return (TensorParts){.type = CUDNN_DATA_FLOAT,
                         .dims = {n, c, h, w},
                         .strides = {c * h * w, h * w, w, 1},
                         .uid = uid,
                         .alignment = 16};
}

Descriptor desc_tensor(TensorParts p)
{
    Descriptor d = desc_make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    if (!p.no_type) desc_set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &p.type);
    if (!p.no_dims) desc_set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, p.dims);
    if (!p.no_strides)
        desc_set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, p.rank_of_strides > 0 ? p.rank_of_strides : 4,
                 p.strides);
    if (!p.no_uid) desc_set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &p.uid);
    if (!p.no_alignment) desc_set(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &p.alignment);
    if (p.is_virtual) desc_set(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &p.is_virtual);
    if (!p.unfinished) desc_finalize(d);
    return d;
}

Descriptor desc_dense(int64_t n, int64_t c, int64_t h, int64_t w, int64_t uid)
{
    return desc_tensor(desc_tensor_parts(n, c, h, w, uid));
}

ConvolutionParts desc_convolution_parts(int64_t padding)
{
    return (ConvolutionParts){.padding = padding, .stride = 1, .dilation = 1, .type = CUDNN_DATA_FLOAT};
}

Descriptor desc_convolution(ConvolutionParts p)
{
    const int64_t axes = 2, pad[2] = {p.padding, p.padding}, stride[2] = {p.stride, p.stride},
                  dilation[2] = {p.dilation, p.dilation};
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    Descriptor d = desc_make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    if (!(p.missing & 1)) desc_set(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &p.type);
    if (!(p.missing & 2)) desc_set(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    if (!(p.missing & 4)) desc_set(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    if (!(p.missing & 8)) desc_set(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    if (!(p.missing & 16)) desc_set(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    if (!(p.missing & 32)) desc_set(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    if (!(p.missing & 64)) desc_set(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    if (!p.unfinished) desc_finalize(d);
    return d;
}

Descriptor desc_forward(Descriptor convolution, Descriptor x, Descriptor w, Descriptor y, bool scales)
{
    const float one = 1, zero = 0;
    Descriptor d = desc_make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    desc_link(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution);
    desc_link(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    desc_link(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    desc_link(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    if (scales) {
        desc_set(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
        desc_set(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    }
    desc_finalize(d);
    return d;
}

Descriptor desc_add(AddParts parts, Descriptor x, Descriptor b, Descriptor y)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    Descriptor how = desc_make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    if (parts != ADD_NO_MODE) desc_set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    if (parts != ADD_NO_PRECISION) desc_set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    desc_finalize(how);
    Descriptor d = desc_make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    desc_link(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    desc_link(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    desc_link(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    desc_link(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    desc_finalize(d);
    return d;
}

Descriptor desc_graph(const Descriptor *operations, int64_t count)
{
    Descriptor d = desc_make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    desc_set(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    desc_finalize(d);
    return d;
}

Descriptor desc_heuristics(Descriptor device, Descriptor graph)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    Descriptor d = desc_make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    desc_link(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    desc_set(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    desc_link(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
    desc_finalize(d);
    return d;
}

int64_t desc_configs(Descriptor heuristics, Descriptor configs[DESC_CONFIGS])
{
    int64_t count = 0, got = 0;
    if (first != CUDNN_STATUS_SUCCESS) return 0;
    note(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                  NULL));
    if (count > DESC_CONFIGS) count = DESC_CONFIGS;
    for (int64_t i = 0; i < count; i++)
        configs[i] = desc_make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (count > 0)
        note(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
                                      &got, configs));
    return got;
}

Descriptor desc_plan(Descriptor device, Descriptor config)
{
    Descriptor d = desc_make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    desc_link(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    desc_link(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
    return d;
}
