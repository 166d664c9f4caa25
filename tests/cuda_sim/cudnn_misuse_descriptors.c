/* Misuse of single descriptors: tensors, convolutions, variant packs, device properties, and the calls themselves. */
#include <string.h>

#include "cudnn_misuse.h"
#include "dnn_descriptors.h"

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
    TensorParts p = desc_tensor_parts(2, 8, 4, 4, 1);
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
    Descriptor d = desc_tensor(p);
    if (variant == TWICE) desc_finalize(d);
    if (variant == LATE) desc_set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &p.uid);
    return desc_refusal();
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
    Descriptor d = desc_make(CUDNN_BACKEND_TENSOR_DESCRIPTOR), none = NULL;
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
        d = desc_dense(2, 8, 4, 4, 1);
        return cudnnBackendGetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, 1, &count, &value);
    }
}

static cudnnStatus_t convolution_without(Descriptor device, int variant)
{
    ConvolutionParts p = desc_convolution_parts(1);
    (void)device;
    p.missing = variant;
    desc_convolution(p);
    return desc_refusal();
}

enum { NEGATIVE_PADDING, ZERO_FILTER_STRIDE, ZERO_DILATION };

static cudnnStatus_t bad_convolution(Descriptor device, int variant)
{
    ConvolutionParts p = desc_convolution_parts(1);
    (void)device;
    if (variant == NEGATIVE_PADDING) p.padding = -1;
    if (variant == ZERO_FILTER_STRIDE) p.stride = 0;
    if (variant == ZERO_DILATION) p.dilation = 0;
    desc_convolution(p);
    return desc_refusal();
}

enum { PACK_NO_UIDS, PACK_NO_POINTERS, PACK_NO_WORKSPACE, PACK_FEWER_POINTERS, PACK_SAME_UIDS, PACK_GOOD };

static cudnnStatus_t bad_pack(Descriptor device, int variant)
{
    int64_t uids[3] = {1, 2, 3};
    char memory[4][16] __attribute__((aligned(16)));
    void *pointers[3] = {memory[0], memory[1], memory[2]}, *workspace = memory[3];
    Descriptor d = desc_make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    (void)device;
    if (variant == PACK_SAME_UIDS) uids[1] = 1;
    if (variant != PACK_NO_UIDS) desc_set(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids);
    if (variant != PACK_NO_POINTERS)
        desc_set(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, variant == PACK_FEWER_POINTERS ? 2 : 3,
                 pointers);
    if (variant != PACK_NO_WORKSPACE)
        desc_set(d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    desc_finalize(d);
    return desc_refusal();
}

enum { DEVICE_GARBAGE, DEVICE_EMPTY_OBJECT };

static cudnnStatus_t bad_device(Descriptor device, int variant)
{
    const char *text = variant == DEVICE_GARBAGE ? "garbage" : "{}";
    Descriptor d = desc_make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    (void)device;
    desc_set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    desc_finalize(d);
    return desc_refusal();
}

/* --- the table --- */

static const Misuse misuses[] = {
    {"tensor: no type", bad_tensor, NO_TYPE, PASSES("cudnnBackendFinalize(tensor): CUDNN_ATTR_TENSOR_DATA_TYPE")},
    {"tensor: no dims", bad_tensor, NO_DIMS, ANSWERS(BAD_PARAM)},
    {"tensor: no strides", bad_tensor, NO_STRIDES, ANSWERS(BAD_PARAM)},
    {"tensor: no uid", bad_tensor, NO_UID, PASSES("cudnnBackendFinalize(tensor): CUDNN_ATTR_TENSOR_UNIQUE_ID")},
    {"tensor: no alignment", bad_tensor, NO_ALIGNMENT, ANSWERS(BAD_PARAM)},
    {"tensor: zero dim", bad_tensor, ZERO_DIM, PASSES("cudnnBackendFinalize(tensor): dimension 1 is 0")},
    {"tensor: negative dim", bad_tensor, NEGATIVE_DIM, ANSWERS(BAD_PARAM)},
    {"tensor: zero stride", bad_tensor, ZERO_STRIDE, PASSES("cudnnBackendFinalize(tensor): stride 1 is 0")},
    {"tensor: negative stride", bad_tensor, NEGATIVE_STRIDE, ANSWERS(BAD_PARAM)},
    {"tensor: overlapping", bad_tensor, OVERLAPPING,
     PASSES("cudnnBackendFinalize(tensor): strides let elements overlap")},
    {"tensor: odd alignment", bad_tensor, ODD_ALIGNMENT, ANSWERS(BAD_PARAM)},
    {"tensor: zero alignment", bad_tensor, ZERO_ALIGNMENT, ANSWERS(BAD_PARAM)},
    {"tensor: fewer strides", bad_tensor, FEWER_STRIDES, ANSWERS(BAD_PARAM)},
    {"tensor: twice", bad_tensor, TWICE, ANSWERS(BAD_PARAM)},
    {"tensor: late", bad_tensor, LATE, ANSWERS(BAD_PARAM)},
    {"call: wrong attribute type", bad_call, WRONG_ATTRIBUTE_TYPE, ANSWERS(BAD_PARAM_ATTRIBUTE_TYPE)},
    {"call: foreign attribute", bad_call, FOREIGN_ATTRIBUTE, ANSWERS(BAD_PARAM)},
    {"call: too many dims", bad_call, TOO_MANY_DIMS,
     PASSES("cudnnBackendSetAttribute: CUDNN_ATTR_TENSOR_DIMENSIONS has 9 values")},
    {"call: null values", bad_call, NULL_VALUES, ANSWERS(BAD_PARAM)},
    {"call: two uids", bad_call, TWO_UIDS, ANSWERS(BAD_PARAM)},
    {"call: null descriptor", bad_call, NULL_DESCRIPTOR, ANSWERS(BAD_PARAM_NULL_POINTER)},
    {"call: unknown type", bad_call, UNKNOWN_TYPE, ANSWERS(INTERNAL_ERROR_HOST_ALLOCATION_FAILED)},
    {"call: null out", bad_call, NULL_OUT, CRASHES("cudnnBackendCreateDescriptor: writes")},
    {"call: finalize null", bad_call, FINALIZE_NULL, ANSWERS(BAD_PARAM_NULL_POINTER)},
    {"call: get unfinished", bad_call, GET_UNFINISHED, ANSWERS(NOT_INITIALIZED)},
    {"call: get wrong type", bad_call, GET_WRONG_TYPE, ANSWERS(BAD_PARAM_ATTRIBUTE_TYPE)},
    {"convolution without compute type", convolution_without, 1,
     PASSES("cudnnBackendFinalize(convolution): CUDNN_ATTR_CONVOLUTION_COMP_TYPE")},
    {"convolution without mode", convolution_without, 2,
     PASSES("cudnnBackendFinalize(convolution): CUDNN_ATTR_CONVOLUTION_CONV_MODE")},
    {"convolution without axes", convolution_without, 4, ANSWERS(BAD_PARAM)},
    {"convolution without paddings before", convolution_without, 8,
     PASSES("cudnnBackendFinalize(convolution): 0 paddings before")},
    {"convolution without paddings after", convolution_without, 16,
     PASSES("cudnnBackendFinalize(convolution): 2 paddings before and 0")},
    {"convolution without strides", convolution_without, 32, ANSWERS(BAD_PARAM)},
    {"convolution without dilations", convolution_without, 64, ANSWERS(BAD_PARAM)},
    {"convolution: negative padding", bad_convolution, NEGATIVE_PADDING, ANSWERS(BAD_PARAM)},
    {"convolution: zero filter stride", bad_convolution, ZERO_FILTER_STRIDE, ANSWERS(BAD_PARAM)},
    {"convolution: zero dilation", bad_convolution, ZERO_DILATION, ANSWERS(BAD_PARAM)},
    {"variant pack: no uids", bad_pack, PACK_NO_UIDS, ANSWERS(BAD_PARAM)},
    {"variant pack: no pointers", bad_pack, PACK_NO_POINTERS, ANSWERS(BAD_PARAM)},
    {"variant pack: no workspace", bad_pack, PACK_NO_WORKSPACE, ANSWERS(SUCCESS)},
    {"variant pack: fewer pointers", bad_pack, PACK_FEWER_POINTERS, ANSWERS(BAD_PARAM)},
    {"variant pack: same uids", bad_pack, PACK_SAME_UIDS, PASSES("cudnnBackendFinalize(variant pack): a unique id")},
    {"variant pack: good", bad_pack, PACK_GOOD, ANSWERS(SUCCESS)},
    {"device: garbage", bad_device, DEVICE_GARBAGE, ANSWERS(BAD_PARAM)},
    {"device: empty object", bad_device, DEVICE_EMPTY_OBJECT, ANSWERS(BAD_PARAM)},
};
const MisuseTable misuses_of_descriptors = {misuses, sizeof misuses / sizeof misuses[0]};
