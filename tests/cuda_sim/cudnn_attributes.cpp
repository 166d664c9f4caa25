#include "cudnn_attributes.h"

namespace cudnn
{

namespace
{

#define CONVOLUTION_OPERATION(TYPE, PREFIX, X, W, Y)                                                                   \
    {TYPE,                                                                                                             \
     PREFIX##_CONV_DESC,                                                                                               \
     #PREFIX "_CONV_DESC",                                                                                             \
     CUDNN_TYPE_BACKEND_DESCRIPTOR,                                                                                    \
     1,                                                                                                                \
     true,                                                                                                             \
     CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,                                                                             \
     true,                                                                                                             \
     CUDNN_STATUS_BAD_PARAM},                                                                                          \
        {TYPE,                                                                                                         \
         PREFIX##_##X,                                                                                                 \
         #PREFIX "_" #X,                                                                                               \
         CUDNN_TYPE_BACKEND_DESCRIPTOR,                                                                                \
         1,                                                                                                            \
         true,                                                                                                         \
         CUDNN_BACKEND_TENSOR_DESCRIPTOR,                                                                              \
         false,                                                                                                        \
         CUDNN_STATUS_BAD_PARAM},                                                                                      \
        {TYPE,                                                                                                         \
         PREFIX##_##W,                                                                                                 \
         #PREFIX "_" #W,                                                                                               \
         CUDNN_TYPE_BACKEND_DESCRIPTOR,                                                                                \
         1,                                                                                                            \
         true,                                                                                                         \
         CUDNN_BACKEND_TENSOR_DESCRIPTOR,                                                                              \
         false,                                                                                                        \
         CUDNN_STATUS_BAD_PARAM},                                                                                      \
        {TYPE,                                                                                                         \
         PREFIX##_##Y,                                                                                                 \
         #PREFIX "_" #Y,                                                                                               \
         CUDNN_TYPE_BACKEND_DESCRIPTOR,                                                                                \
         1,                                                                                                            \
         true,                                                                                                         \
         CUDNN_BACKEND_TENSOR_DESCRIPTOR,                                                                              \
         false,                                                                                                        \
         CUDNN_STATUS_BAD_PARAM},                                                                                      \
        {TYPE, PREFIX##_ALPHA, #PREFIX "_ALPHA", CUDNN_TYPE_FLOAT, 1, true},                                           \
    {                                                                                                                  \
        TYPE, PREFIX##_BETA, #PREFIX "_BETA", CUDNN_TYPE_FLOAT, 1, true                                                \
    }
#define ONE(TYPE, NAME, KIND)                                                                                          \
    {                                                                                                                  \
        TYPE, NAME, #NAME, KIND, 1, true                                                                               \
    }
#define SOME(TYPE, NAME, KIND)                                                                                         \
    {                                                                                                                  \
        TYPE, NAME, #NAME, KIND, CUDNN_DIM_MAX, true                                                                   \
    }
#define READ(TYPE, NAME, KIND)                                                                                         \
    {                                                                                                                  \
        TYPE, NAME, #NAME, KIND, 1, false                                                                              \
    }
#define PART(TYPE, NAME, WANTS)                                                                                        \
    {                                                                                                                  \
        TYPE, NAME, #NAME, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, true, WANTS                                               \
    }
#define MANY(TYPE, NAME, KIND, SET)                                                                                    \
    {                                                                                                                  \
        TYPE, NAME, #NAME, KIND, INT64_MAX, SET                                                                        \
    }

const Attribute attributes[] = {
    ONE(CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE),
    SOME(CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64),
    SOME(CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64),
    ONE(CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64),
    ONE(CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64),
    ONE(CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN),

    ONE(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE),
    ONE(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE),
    ONE(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64),
    SOME(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64),
    SOME(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64),
    SOME(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64),
    SOME(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64),

    CONVOLUTION_OPERATION(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD, X, W, Y),
    CONVOLUTION_OPERATION(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA, DX, W, DY),
    CONVOLUTION_OPERATION(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER, X, DW, DY),

    ONE(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE),
    ONE(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE),

    PART(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
         CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
    PART(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
         CUDNN_BACKEND_TENSOR_DESCRIPTOR),
    PART(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
         CUDNN_BACKEND_TENSOR_DESCRIPTOR),
    PART(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
         CUDNN_BACKEND_TENSOR_DESCRIPTOR),

    MANY(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, true),

    PART(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
         CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
    ONE(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE),
    PART(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR),
    MANY(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, false),

    READ(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR),

    PART(CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
    ONE(CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64),
    PART(CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_DEVICEPROP, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR),
    MANY(CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, false),

    PART(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
         CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
    PART(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
         CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR),
    MANY(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, true),
    READ(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64),

    MANY(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, true),
    MANY(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, true),
    ONE(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR),

    ONE(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE),
    MANY(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, true),
};

} // namespace

const Attribute *attribute_of(cudnnBackendDescriptorType_t owner, int attribute)
{
    for (const Attribute &one : attributes)
        if (one.owner == owner && one.attribute == attribute) return &one;
    return nullptr;
}

bool is_simulated(cudnnBackendDescriptorType_t type)
{
    for (const Attribute &one : attributes)
        if (one.owner == type) return true;
    return false;
}

size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN:
        return 1;
    case CUDNN_TYPE_FLOAT:
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_CONVOLUTION_MODE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_NUMERICAL_NOTE:
        return 4;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default:
        return 0;
    }
}

} // namespace cudnn
