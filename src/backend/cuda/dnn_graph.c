/* A convolution as an operation graph of cuDNN's: tensors, the convolution itself, and behind a forward one the
 * pointwise operations for bias and ReLU, with virtual tensors (which never reach memory) between them, in float.
 *
 * The library lets much nonsense pass here, and crashes on some of it later; so the description is checked first, and
 * every attribute is set, those with defaults too. */
#include "backend/cuda/dnn_internal.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "backend/cuda/check.h"
#include "base/size.h"

/* --- descriptors --- */

Status dnn_failed(cudnnStatus_t result, const char *call, Error *error)
{
    char why[256] = "", sentence[384];
    cudnnGetLastErrorString(why, sizeof why);
    why[strcspn(why, "\n")] = '\0';
    snprintf(sentence, sizeof sentence, "%s%s%s", call, why[0] != '\0' ? ": " : "", why);
    return cudnn_status(result, sentence, error);
}

Descriptor descriptor_make(Descriptors *list, cudnnBackendDescriptorType_t type)
{
    Descriptor made = NULL;
    if (list->status != STATUS_OK) return NULL;
    if (list->count == DNN_DESCRIPTORS) {
        list->status = error_set(list->error, STATUS_INTERNAL, "more than %d descriptors in a graph", DNN_DESCRIPTORS);
        return NULL;
    }
    const cudnnStatus_t result = cudnnBackendCreateDescriptor(type, &made);
    if (result != CUDNN_STATUS_SUCCESS) {
        list->status = dnn_failed(result, "cudnnBackendCreateDescriptor", list->error);
        return NULL;
    }
    return list->made[list->count++] = made;
}

void descriptor_set(Descriptors *list, Descriptor descriptor, cudnnBackendAttributeName_t attribute, const char *name,
                    cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (list->status != STATUS_OK) return;
    const cudnnStatus_t result = cudnnBackendSetAttribute(descriptor, attribute, type, count, values);
    char call[128];
    if (result == CUDNN_STATUS_SUCCESS) return;
    snprintf(call, sizeof call, "cudnnBackendSetAttribute(%s)", name);
    list->status = dnn_failed(result, call, list->error);
}

void descriptor_finalize(Descriptors *list, Descriptor descriptor, const char *what)
{
    if (list->status != STATUS_OK) return;
    const cudnnStatus_t result = cudnnBackendFinalize(descriptor);
    char call[128];
    if (result == CUDNN_STATUS_SUCCESS) return;
    snprintf(call, sizeof call, "cudnnBackendFinalize(%s)", what);
    list->status = dnn_failed(result, call, list->error);
}

void descriptors_destroy(Descriptors *list)
{
    while (list->count > 0)
        cudnnBackendDestroyDescriptor(list->made[--list->count]);
}

/* --- the description --- */

int64_t dnn_out_size(const DnnConvolution *c, int axis)
{
    const int64_t size = axis == 0 ? c->rows : c->columns;
    return (size + 2 * c->padding[axis] - c->kernel[axis]) / c->stride[axis] + 1;
}

double dnn_convolution_flops(const DnnConvolution *c)
{
    const double places = (double)c->n * (double)c->out * (double)dnn_out_size(c, 0) * (double)dnn_out_size(c, 1);
    return 2 * places * (double)(c->channels / c->groups) * (double)c->kernel[0] * (double)c->kernel[1];
}

static bool half_or_float(DType type)
{
    return type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F16;
}

static Status check_sizes(const DnnConvolution *c, Error *error)
{
    const struct {
        const char *name;
        int64_t value, least;
    } sizes[] = {{"n", c->n, 1},
                 {"channels", c->channels, 1},
                 {"rows", c->rows, 1},
                 {"columns", c->columns, 1},
                 {"out", c->out, 1},
                 {"groups", c->groups, 1},
                 {"kernel[0]", c->kernel[0], 1},
                 {"kernel[1]", c->kernel[1], 1},
                 {"stride[0]", c->stride[0], 1},
                 {"stride[1]", c->stride[1], 1},
                 {"padding[0]", c->padding[0], 0},
                 {"padding[1]", c->padding[1], 0}};
    /* The library counts bytes of a tensor, and some engines elements, in 31 bits. */
    const int64_t most = INT32_MAX;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].value < sizes[i].least || sizes[i].value > most)
            return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: %s is %lld, expected %lld to %lld",
                             sizes[i].name, (long long)sizes[i].value, (long long)sizes[i].least, (long long)most);
    return STATUS_OK;
}

static Status check_bytes(const char *name, const int64_t dims[4], Error *error)
{
    size_t bytes = 4;
    for (int i = 0; i < 4; i++)
        if (!size_multiply(bytes, (size_t)dims[i], &bytes) || bytes > INT64_MAX)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "convolution: %s [%lld, %lld, %lld, %lld] has more bytes than can be counted", name,
                             (long long)dims[0], (long long)dims[1], (long long)dims[2], (long long)dims[3]);
    return STATUS_OK;
}

Status dnn_check(const DnnConvolution *c, Error *error)
{
    if ((unsigned)c->kind > DNN_GRAD_FILTER)
        return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: kind is %d, expected 0 to 2", (int)c->kind);
    if (!half_or_float(c->type))
        return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: type is %s, expected f32, bf16 or f16",
                         dtype_name(c->type));
    if (c->result != DTYPE_NONE && c->result != c->type && c->result != DTYPE_F32)
        return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: result is %s, expected %s or f32",
                         dtype_name(c->result), dtype_name(c->type));
    if ((c->bias || c->relu) && c->kind != DNN_FORWARD)
        return error_set(error, STATUS_INVALID_ARGUMENT, "convolution: bias and relu are for the forward one only");
    RETURN_IF_ERROR(check_sizes(c, error));
    if (c->channels % c->groups != 0 || c->out % c->groups != 0)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "convolution: %lld groups, expected a divisor of %lld channels and of %lld outputs",
                         (long long)c->groups, (long long)c->channels, (long long)c->out);
    for (int i = 0; i < 2; i++)
        if ((i == 0 ? c->rows : c->columns) + 2 * c->padding[i] < c->kernel[i])
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "convolution: kernel[%d] is %lld, expected at most the padded image's %lld", i,
                             (long long)c->kernel[i], (long long)((i == 0 ? c->rows : c->columns) + 2 * c->padding[i]));
    RETURN_IF_ERROR(check_bytes("x", (int64_t[4]){c->n, c->channels, c->rows, c->columns}, error));
    RETURN_IF_ERROR(check_bytes("w", (int64_t[4]){c->out, c->channels, c->kernel[0], c->kernel[1]}, error));
    return check_bytes("y", (int64_t[4]){c->n, c->out, dnn_out_size(c, 0), dnn_out_size(c, 1)}, error);
}

/* --- the graph --- */

static void put(DnnTensor tensors[DNN_UID_COUNT], int64_t uid, const char *name, DType type, bool is_virtual,
                const int64_t dims[4])
{
    DnnTensor *tensor = &tensors[uid];
    *tensor = (DnnTensor){.name = name, .type = type, .is_virtual = is_virtual};
    memcpy(tensor->dims, dims, sizeof tensor->dims);
}

static void set_strides(DnnTensor *tensor, bool channels_last)
{
    const int64_t *d = tensor->dims;
    const int64_t rows_first[4] = {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1};
    const int64_t last[4] = {d[1] * d[2] * d[3], 1, d[3] * d[1], d[1]};
    memcpy(tensor->strides, channels_last ? last : rows_first, sizeof tensor->strides);
}

void dnn_tensors(const DnnConvolution *c, DnnTensor tensors[DNN_UID_COUNT])
{
    static const int64_t result_uids[] = {
        [DNN_FORWARD] = DNN_UID_Y, [DNN_GRAD_INPUT] = DNN_UID_X, [DNN_GRAD_FILTER] = DNN_UID_W};
    const int64_t y[4] = {c->n, c->out, dnn_out_size(c, 0), dnn_out_size(c, 1)};
    memset(tensors, 0, DNN_UID_COUNT * sizeof *tensors);
    put(tensors, DNN_UID_X, "tensor x", c->type, false, (int64_t[4]){c->n, c->channels, c->rows, c->columns});
    put(tensors, DNN_UID_W, "tensor w", c->type, false,
        (int64_t[4]){c->out, c->channels / c->groups, c->kernel[0], c->kernel[1]});
    put(tensors, DNN_UID_Y, "tensor y", c->type, false, y);
    if (c->result != DTYPE_NONE) tensors[result_uids[c->kind]].type = c->result;
    if (c->bias) put(tensors, DNN_UID_BIAS, "tensor bias", DTYPE_F32, false, (int64_t[4]){1, c->out, 1, 1});
    if (c->bias || c->relu) put(tensors, DNN_UID_SUM, "tensor sum", DTYPE_F32, true, y);
    if (c->bias && c->relu) put(tensors, DNN_UID_BIASED, "tensor biased", DTYPE_F32, true, y);
    for (int uid = 0; uid < DNN_UID_COUNT; uid++)
        set_strides(&tensors[uid], c->channels_last);
}

static cudnnDataType_t data_type(DType type)
{
    if (type == DTYPE_BF16) return CUDNN_DATA_BFLOAT16;
    return type == DTYPE_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

static Descriptor make_tensor(Descriptors *list, int64_t uid, const DnnTensor *tensor)
{
    const int64_t alignment = DNN_ALIGNMENT;
    const cudnnDataType_t type = data_type(tensor->type);
    Descriptor made = descriptor_make(list, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, tensor->dims);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, tensor->strides);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &tensor->is_virtual);
    descriptor_finalize(list, made, tensor->name);
    return made;
}

static Descriptor convolution(Descriptors *list, const DnnConvolution *c)
{
    const int64_t axes = 2, dilation[2] = {1, 1};
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    Descriptor made = descriptor_make(list, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, c->padding);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, c->padding);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, c->stride);
    DESCRIPTOR_SET(list, made, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    descriptor_finalize(list, made, "convolution");
    return made;
}

/* The attributes of an operation, which are the same things under three names. */
typedef struct OperationNames {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
    const char *name;
} OperationNames;

static const OperationNames operations[] = {
    [DNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                     "convolution forward"},
    [DNN_GRAD_INPUT] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, "convolution data gradient"},
    [DNN_GRAD_FILTER] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, "convolution filter gradient"},
};

static Descriptor convolve(Descriptors *list, const DnnConvolution *c, Descriptor x, Descriptor w, Descriptor y)
{
    const OperationNames *names = &operations[c->kind];
    const float one = 1, zero = 0;
    Descriptor how = convolution(list, c);
    Descriptor made = descriptor_make(list, names->type);
    descriptor_set(list, made, names->convolution, names->name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &how);
    descriptor_set(list, made, names->x, names->name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    descriptor_set(list, made, names->w, names->name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w);
    descriptor_set(list, made, names->y, names->name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    descriptor_set(list, made, names->alpha, names->name, CUDNN_TYPE_FLOAT, 1, &one);
    descriptor_set(list, made, names->beta, names->name, CUDNN_TYPE_FLOAT, 1, &zero);
    descriptor_finalize(list, made, names->name);
    return made;
}

/* y = mode(x), or mode(x, b) */
static Descriptor pointwise(Descriptors *list, cudnnPointwiseMode_t mode, Descriptor x, Descriptor b, Descriptor y)
{
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    Descriptor how = descriptor_make(list, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    DESCRIPTOR_SET(list, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    DESCRIPTOR_SET(list, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    descriptor_finalize(list, how, "pointwise");
    Descriptor made = descriptor_make(list, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    DESCRIPTOR_LINK(list, made, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    DESCRIPTOR_LINK(list, made, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (mode == CUDNN_POINTWISE_ADD) DESCRIPTOR_LINK(list, made, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    DESCRIPTOR_LINK(list, made, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    descriptor_finalize(list, made, mode == CUDNN_POINTWISE_ADD ? "bias" : "relu");
    return made;
}

Status dnn_graph(const DnnConvolution *c, Descriptors *list, Descriptor *out)
{
    DnnTensor tensors[DNN_UID_COUNT];
    Descriptor made[DNN_UID_COUNT] = {NULL}, steps[3];
    int count = 0;
    const int sum = c->bias || c->relu ? DNN_UID_SUM : DNN_UID_Y, biased = c->relu ? DNN_UID_BIASED : DNN_UID_Y;
    dnn_tensors(c, tensors);
    for (int uid = 0; uid < DNN_UID_COUNT; uid++)
        if (tensors[uid].name != NULL) made[uid] = make_tensor(list, uid, &tensors[uid]);
    steps[count++] = convolve(list, c, made[DNN_UID_X], made[DNN_UID_W], made[sum]);
    if (c->bias) steps[count++] = pointwise(list, CUDNN_POINTWISE_ADD, made[sum], made[DNN_UID_BIAS], made[biased]);
    if (c->relu)
        steps[count++] = pointwise(list, CUDNN_POINTWISE_RELU_FWD, made[c->bias ? biased : sum], NULL, made[DNN_UID_Y]);
    Descriptor graph = descriptor_make(list, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    DESCRIPTOR_SET(list, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, steps);
    descriptor_finalize(list, graph, "operation graph");
    *out = graph;
    return list->status;
}
