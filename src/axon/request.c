/* What a request says: its message is checked where it arrived, and read from there when the handler asks. */
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

#include "axon/internal.h"
#include "wire/metadata.h"

/* --- who asks --- */

/* By key and host. The key is what the caller says: two hosts can't pass for one caller, but one host can pass for
 * many. The seed is secret, so that nobody can choose keys that share another caller's line. */
static uint64_t caller_of(const ServerCall *call, const char *neuron_key)
{
    uint64_t host = atomic_load_explicit(&call->meter->host, memory_order_relaxed);
    uint64_t hash = hash_bytes(call->door->axon->seed ^ host, neuron_key, strlen(neuron_key));
    return hash ^ hash >> 32;
}

static void read_version(ServerCall *call)
{
    for (size_t i = 0; i < call->metadata.count && !call->asked.has_version; i++) {
        const grpc_metadata *item = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(item->key, METADATA_WEIGHTS_VERSION) == 0)
            call->asked.has_version = metadata_number_parse(GRPC_SLICE_START_PTR(item->value),
                                                            GRPC_SLICE_LENGTH(item->value), &call->asked.version);
    }
}

/* --- what is asked --- */

static Status check_gradient(ServerCall *call, Error *error)
{
    RETURN_IF_ERROR(
        message_tensor_check(&call->gradient, "gradient", &call->gradient_dtype, &call->asked.gradient_shape, error));
    if (dtype_is_float(call->gradient_dtype)) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "dtype of gradient is %s, expected f32 or f64",
                     dtype_name(call->gradient_dtype));
}

static Status check_tensors(ServerCall *call, const Message *message, Error *error)
{
    bool backward = call->method == METHOD_BACKWARD;
    if (message->tensor_count < (backward ? 2 : 1))
        return error_set(error, STATUS_INVALID_ARGUMENT, "message has %zu tensors, expected %s", message->tensor_count,
                         backward ? "2: the input and the gradient" : "1: the input");
    call->input = message->tensors[0];
    RETURN_IF_ERROR(
        message_input_check(&call->input, &call->asked.modality, &call->input_dtype, &call->asked.shape, error));
    if (!backward) return STATUS_OK;
    call->gradient = message->tensors[1];
    read_version(call);
    return check_gradient(call, error);
}

static Status find_segments(ServerCall *call, size_t *count, Error *error)
{
    const grpc_slice_buffer *slices = &call->request->data.raw.slice_buffer;
    if (slices->count > CALL_SEGMENTS) return rpc_segments(call->request, &call->segments, count, error);
    call->segments = call->few;
    *count = slices->count;
    for (size_t i = 0; i < slices->count; i++)
        call->few[i] = (Segment){GRPC_SLICE_START_PTR(slices->slices[i]), GRPC_SLICE_LENGTH(slices->slices[i])};
    return STATUS_OK;
}

Status server_call_decode(ServerCall *call, Error *error)
{
    size_t count;
    Message message;
    RETURN_IF_ERROR(find_segments(call, &count, error));
    RETURN_IF_ERROR(message_parse(call->segments, count, &message, error));
    RETURN_IF_ERROR(check_tensors(call, &message, error));
    memcpy(call->synapse_key, message.synapse_key, sizeof call->synapse_key);
    call->asked.caller = caller_of(call, message.neuron_key);
    return STATUS_OK;
}

/* --- for the handler --- */

static const ServerCall *of_request(const AxonRequest *request)
{
    return (const ServerCall *)(const void *)((const char *)request - offsetof(ServerCall, asked));
}

void axon_read_input(const AxonRequest *request, size_t first, size_t count, void *to)
{
    const ServerCall *call = of_request(request);
    DType wanted = request->modality == MODALITY_TEXT ? DTYPE_I64 : DTYPE_F32;
    message_tensor_read_range(&call->input, call->input_dtype, wanted, first, count, to, NULL);
}

void axon_read_gradient(const AxonRequest *request, size_t first, size_t count, float *to)
{
    const ServerCall *call = of_request(request);
    message_tensor_read_range(&call->gradient, call->gradient_dtype, DTYPE_F32, first, count, to, NULL);
}
