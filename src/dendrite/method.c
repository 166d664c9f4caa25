/* One call of any unary method of bytes, with a channel and a completion queue of its own, driven by the caller's
 * thread. */
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

#include "dendrite/internal.h"

static const uint64_t default_deadline_ns = 1000000000;

static void on_done(UnaryCall *call)
{
    (void)call;
}

static Status take_bytes(const UnaryCall *call, uint8_t **out, size_t *size, Error *error)
{
    grpc_byte_buffer_reader reader;
    RETURN_IF_ERROR(unary_status(call, error));
    if (call->response == NULL || !grpc_byte_buffer_reader_init(&reader, call->response))
        return error_set(error, STATUS_DATA_LOSS, "the answer can't be read");
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    *size = GRPC_SLICE_LENGTH(bytes);
    *out = malloc(*size + 1);
    if (*out != NULL) memcpy(*out, GRPC_SLICE_START_PTR(bytes), *size);
    grpc_slice_unref(bytes);
    if (*out != NULL) return STATUS_OK;
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for an answer of %zu bytes", *size);
}

/* Shutting the queue down at once makes rpc_run return as soon as the one call is over. */
static Status run_call(grpc_channel *channel, const char *path, const uint8_t *bytes, size_t size, uint64_t deadline_ns,
                       uint8_t **out, size_t *out_size, Error *error)
{
    UnaryCall call = {.done = on_done};
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, size);
    grpc_byte_buffer *request = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    void *method = grpc_channel_register_call(channel, path, NULL, NULL);
    Status status = unary_start(&call, channel, queue, method, request, rpc_deadline_after(deadline_ns), error);
    grpc_completion_queue_shutdown(queue);
    rpc_run(queue);
    if (status == STATUS_OK) {
        status = take_bytes(&call, out, out_size, error);
        unary_clear(&call);
    }
    grpc_completion_queue_destroy(queue);
    return status;
}

Status dendrite_call_method(const DendriteOptions *options, const Peer *peer, const char *path, const uint8_t *bytes,
                            size_t size, uint8_t **out, size_t *out_size, Error *error)
{
    uint64_t deadline_ns = options->deadline_ns ? options->deadline_ns : default_deadline_ns;
    rpc_start();
    grpc_channel *channel = unary_channel(
        peer->address, options->max_message_bytes ? options->max_message_bytes : RPC_MESSAGE_BYTES, deadline_ns);
    Status status = run_call(channel, path, bytes, size, deadline_ns, out, out_size, error);
    grpc_channel_destroy(channel);
    rpc_stop();
    return status;
}
