/* Requests made and answers read, without any state. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dendrite/internal.h"

Status input_check(const Tensor *input, Modality modality, size_t max_message_bytes, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    int rank = modality_rank(modality);
    if (rank == 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "modality is %d, expected 0 (tensor), 1 (image) or 2 (text)",
                         (int)modality);
    bool integers = input->dtype == DTYPE_I64 || input->dtype == DTYPE_I32;
    bool floats = input->dtype == DTYPE_F32 || (input->dtype == DTYPE_F64 && modality == MODALITY_TENSOR);
    if (modality == MODALITY_TEXT ? !integers : !floats)
        return error_set(error, STATUS_INVALID_ARGUMENT, "dtype of input of modality %s is %s, expected %s",
                         modality_name(modality), dtype_name(input->dtype), modality == MODALITY_TEXT ? "i64" : "f32");
    bool fits = input->shape.rank == rank;
    for (int i = 0; i < input->shape.rank; i++)
        fits = fits && input->shape.dims[i] >= 1;
    if (!fits)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "shape of input of modality %s is %s, expected %d dimensions, none below 1",
                         modality_name(modality), shape_text(input->shape, text), rank);
    if (!input->owned && input->size)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "input is a look at somebody else's bytes, expected its owner");
    if (input->size > max_message_bytes || max_message_bytes - input->size < MESSAGE_HEADER_SIZE)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "input has %zu bytes, and a message may have %zu",
                         input->size, max_message_bytes);
    return STATUS_OK;
}

grpc_byte_buffer *request_message(const char *neuron_key, const char *synapse_key, const MessageTensor *tensors,
                                  const grpc_slice *payloads, size_t count, size_t own_limit, uint64_t peer_limit,
                                  DendriteFailure *kind, Error *error)
{
    EncodedMessage encoded;
    *kind = DENDRITE_REFUSED;
    if (message_encode(neuron_key, synapse_key, tensors, count, SIZE_MAX, &encoded, error) != STATUS_OK) return NULL;
    if (encoded.size <= own_limit && (peer_limit == 0 || encoded.size <= peer_limit))
        return rpc_message(&encoded, payloads);
    *kind = DENDRITE_TOO_LARGE;
    if (encoded.size > own_limit)
        error_set(error, STATUS_RESOURCE_EXHAUSTED, "request has %zu bytes, and this neuron sends at most %zu",
                  encoded.size, own_limit);
    else
        error_set(error, STATUS_RESOURCE_EXHAUSTED, "request has %zu bytes, and the peer receives at most %" PRIu64,
                  encoded.size, peer_limit);
    return NULL;
}

/* --- answers --- */

static bool fail(DendriteFailure *kind, DendriteFailure what)
{
    *kind = what;
    return false;
}

static bool status_is_ok(const UnaryCall *call, DendriteFailure *kind, Error *error)
{
    switch (unary_status(call, error)) {
    case STATUS_OK:
        return true;
    case STATUS_DEADLINE_EXCEEDED:
        return fail(kind, DENDRITE_TIMEOUT);
    case STATUS_UNAVAILABLE:
        return fail(kind, DENDRITE_UNAVAILABLE);
    default:
        return fail(kind, DENDRITE_REFUSED);
    }
}

bool answer_came(const UnaryCall *call, size_t most, DendriteFailure *kind, Error *error)
{
    if (!status_is_ok(call, kind, error)) return false;
    size_t size = unary_response_bytes(call);
    if (size <= most) return true;
    error_set(error, STATUS_INVALID_ARGUMENT, "answer has %zu bytes, expected at most %zu", size, most);
    return fail(kind, DENDRITE_WRONG_SHAPE);
}

/* *segments must be freed in any case; the message refers to them. */
static bool open_message(const UnaryCall *call, Segment **segments, Message *message, DendriteFailure *kind,
                         Error *error)
{
    size_t count;
    *segments = NULL;
    if (!status_is_ok(call, kind, error)) return false;
    if (rpc_segments(call->response, segments, &count, error) != STATUS_OK ||
        message_parse(*segments, count, message, error) != STATUS_OK) {
        error_prefix(error, "answer");
        return fail(kind, DENDRITE_MALFORMED);
    }
    if (message->tensor_count > 0) return true;
    error_set(error, STATUS_UNKNOWN, "the answer is OK, but has no tensor");
    return fail(kind, DENDRITE_EMPTY);
}

static bool read_floats(const WireTensor *tensor, Shape shape, float *out, DendriteFailure *kind, Error *error)
{
    DType dtype;
    Shape sent;
    char is[SHAPE_TEXT_SIZE], expected[SHAPE_TEXT_SIZE];
    if (message_tensor_check(tensor, "answer", &dtype, &sent, error) != STATUS_OK)
        return fail(kind, DENDRITE_MALFORMED);
    if (!shape_equal(sent, shape)) {
        error_set(error, STATUS_INVALID_ARGUMENT, "shape of answer is %s, expected %s", shape_text(sent, is),
                  shape_text(shape, expected));
        return fail(kind, DENDRITE_WRONG_SHAPE);
    }
    if (message_tensor_read(tensor, dtype, DTYPE_F32, shape, out, error) != STATUS_OK) {
        error_prefix(error, "answer");
        return fail(kind, DENDRITE_MALFORMED);
    }
    Tensor view = tensor_view(DTYPE_F32, shape, out);
    return tensor_check_finite(&view, "answer", error) == STATUS_OK || fail(kind, DENDRITE_NOT_FINITE);
}

bool answer_read(const UnaryCall *call, Shape shape, float *out, char key[KEY_SIZE], DendriteFailure *kind,
                 Error *error)
{
    Segment *segments;
    Message message;
    bool good = open_message(call, &segments, &message, kind, error) &&
                read_floats(&message.tensors[0], shape, out, kind, error);
    strcpy(key, good ? message.neuron_key : "");
    free(segments);
    return good;
}

bool answer_acknowledges(const UnaryCall *call, char key[KEY_SIZE], DendriteFailure *kind, Error *error)
{
    Segment *segments;
    Message message;
    DType dtype;
    Shape shape;
    bool good = open_message(call, &segments, &message, kind, error);
    if (good && message_tensor_check(&message.tensors[0], "answer", &dtype, &shape, error) != STATUS_OK)
        good = fail(kind, DENDRITE_MALFORMED);
    strcpy(key, good ? message.neuron_key : "");
    free(segments);
    return good;
}

static Status take_tensor(const WireTensor *tensor, Tensor *out, Error *error)
{
    DType dtype;
    Shape shape;
    RETURN_IF_ERROR(message_tensor_check(tensor, "answer", &dtype, &shape, error));
    RETURN_IF_ERROR(tensor_allocate(dtype, shape, out, error));
    return message_tensor_read(tensor, dtype, dtype, shape, out->data, error);
}

bool answer_take(const UnaryCall *call, Tensor *out, DendriteFailure *kind, Error *error)
{
    Segment *segments;
    Message message;
    bool good = open_message(call, &segments, &message, kind, error);
    if (good && take_tensor(&message.tensors[0], out, error) != STATUS_OK) good = fail(kind, DENDRITE_MALFORMED);
    free(segments);
    return good;
}
