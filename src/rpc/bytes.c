/* Tensors and messages as gRPC's slices. */
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>

#include "rpc/rpc.h"

/* Runs when the last slice goes, on whatever thread that happens. */
static void destroy_payload(void *memory)
{
    Tensor *tensor = memory;
    rpc_memory_acquire(tensor);
    tensor_destroy(tensor);
    free(tensor);
}

Status rpc_payload(Tensor *tensor, grpc_slice *out, Error *error)
{
    Tensor *kept = malloc(sizeof *kept);
    if (!kept) {
        tensor_destroy(tensor);
        return error_set_errno(error, ENOMEM, "a payload");
    }
    *kept = *tensor;
    *tensor = (Tensor){0};
    rpc_memory_release(kept);
    *out = grpc_slice_new_with_user_data(kept->data, kept->size, destroy_payload, kept);
    return STATUS_OK;
}

grpc_byte_buffer *rpc_message(const EncodedMessage *encoded, const grpc_slice *payloads)
{
    grpc_slice slices[MESSAGE_PARTS];
    for (size_t i = 0; i < encoded->count; i++) {
        Segment part = encoded->parts[i];
        slices[i] = encoded->payload_of[i] < 0 ? grpc_slice_from_copied_buffer((const char *)part.data, part.size)
                                               : grpc_slice_ref(payloads[encoded->payload_of[i]]);
    }
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(slices, encoded->count);
    for (size_t i = 0; i < encoded->count; i++)
        grpc_slice_unref(slices[i]);
    return buffer;
}

Status rpc_segments(const grpc_byte_buffer *buffer, Segment **out, size_t *count, Error *error)
{
    *out = NULL;
    *count = 0;
    if (!buffer) return STATUS_OK;
    const grpc_slice_buffer *slices = &buffer->data.raw.slice_buffer;
    if (slices->count == 0) return STATUS_OK;
    Segment *segments = malloc(slices->count * sizeof *segments);
    if (!segments) return error_set_errno(error, ENOMEM, "a message of %zu slices", slices->count);
    for (size_t i = 0; i < slices->count; i++)
        segments[i] = (Segment){GRPC_SLICE_START_PTR(slices->slices[i]), GRPC_SLICE_LENGTH(slices->slices[i])};
    *out = segments;
    *count = slices->count;
    return STATUS_OK;
}
