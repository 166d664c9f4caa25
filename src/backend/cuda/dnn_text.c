/* Plans as text. The library writes a plan with its operation graph, the device and the engine as JSON, and when it
 * reads one back checks versions and the device, but can't know which convolution was meant. So what the text says
 * about tensors and operations is compared with what the description asks for. The text is the library's own, field by
 * field in its order, so that a search for pieces of it will do: a piece in another form is refused, and a plan made
 * anew. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/dnn_internal.h"

static const char *data_type_name(DType type)
{
    if (type == DTYPE_BF16) return "CUDNN_DATA_BFLOAT16";
    return type == DTYPE_F16 ? "CUDNN_DATA_HALF" : "CUDNN_DATA_FLOAT";
}

static Status expect(const char *text, const char *piece, Error *error)
{
    if (strstr(text, piece) != NULL) return STATUS_OK;
    return error_set(error, STATUS_FAILED_PRECONDITION, "the text of the plan is of another convolution, expected %s",
                     piece);
}

static Status expect_tensor(const char *text, int uid, const DnnTensor *t, Error *error)
{
    char piece[384];
    const int64_t *d = t->dims, *s = t->strides;
    snprintf(piece, sizeof piece,
             "\"name\":\"%d\",\"dataType\":\"%s\",\"dim\":[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
             "],\"stride\":[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "],\"isVirtual\":%s",
             uid, data_type_name(t->type), d[0], d[1], d[2], d[3], s[0], s[1], s[2], s[3],
             t->is_virtual ? "true" : "false");
    return expect(text, piece, error);
}

static int count_pieces(const char *text, const char *piece)
{
    int count = 0;
    for (const char *at = strstr(text, piece); at != NULL; at = strstr(at + 1, piece))
        count++;
    return count;
}

static Status expect_operations(const DnnConvolution *c, const char *text, Error *error)
{
    static const char *const names[] = {
        [DNN_FORWARD] = "FORWARD", [DNN_GRAD_INPUT] = "BACKWARD_DATA", [DNN_GRAD_FILTER] = "BACKWARD_FILTER"};
    char piece[384];
    snprintf(
        piece, sizeof piece,
        "\"operation\":\"CUDNN_BACKEND_OPERATION_CONVOLUTION_%s_DESCRIPTOR\",\"mode\":"
        "\"CUDNN_CROSS_CORRELATION\",\"mathPrec\":\"CUDNN_DATA_FLOAT\",\"alpha\":1.0,\"beta\":0.0,\"pad\":[%" PRId64
        ",%" PRId64 "],\"stride\":[%" PRId64 ",%" PRId64 "],\"dilation\":[1,1]",
        names[c->kind], c->padding[0], c->padding[1], c->stride[0], c->stride[1]);
    RETURN_IF_ERROR(expect(text, piece, error));
    if (c->bias) RETURN_IF_ERROR(expect(text, "\"pointwiseMode\":\"CUDNN_POINTWISE_ADD\"", error));
    if (c->relu) RETURN_IF_ERROR(expect(text, "\"pointwiseMode\":\"CUDNN_POINTWISE_RELU_FWD\"", error));
    const int found = count_pieces(text, "\"operation\":"), wanted = 1 + c->bias + c->relu;
    if (found != wanted)
        return error_set(error, STATUS_FAILED_PRECONDITION,
                         "the text of the plan has %d operations, expected the convolution's %d", found, wanted);
    return STATUS_OK;
}

Status dnn_text_fits(const DnnConvolution *c, const char *text, int64_t *engine, Error *error)
{
    static const char key[] = "\"engineId\":";
    DnnTensor tensors[DNN_UID_COUNT];
    dnn_tensors(c, tensors);
    for (int uid = 0; uid < DNN_UID_COUNT; uid++)
        if (tensors[uid].name != NULL) RETURN_IF_ERROR(expect_tensor(text, uid, &tensors[uid], error));
    RETURN_IF_ERROR(expect_operations(c, text, error));
    RETURN_IF_ERROR(expect(text, key, error));
    *engine = strtoll(strstr(text, key) + strlen(key), NULL, 10);
    return STATUS_OK;
}
