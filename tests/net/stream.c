#include "net/stream.h"

#include <check.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc.h"

struct Stream {
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_status_code code;
    grpc_slice details;
    bool begun, ended; /* the initial metadata, the status have come */
};

/* One step, waited for. */
static void run(Stream *stream, const grpc_op *ops, size_t count)
{
    ck_assert_int_eq(grpc_call_start_batch(stream->call, ops, count, stream, NULL), GRPC_CALL_OK);
    grpc_event event = grpc_completion_queue_pluck(stream->queue, stream, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    ck_assert_int_eq(event.type, GRPC_OP_COMPLETE);
}

Stream *stream_open(grpc_channel *channel, const char *method)
{
    Stream *stream = calloc(1, sizeof *stream);
    grpc_slice path = grpc_slice_from_copied_string(method);
    stream->queue = grpc_completion_queue_create_for_pluck(NULL);
    stream->call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, stream->queue, path, NULL,
                                            rpc_deadline_after(10000000000), NULL);
    grpc_slice_unref(path);
    grpc_metadata_array_init(&stream->initial);
    grpc_metadata_array_init(&stream->trailing);
    stream->details = grpc_empty_slice();
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    run(stream, &op, 1);
    return stream;
}

void stream_send(Stream *stream, const void *bytes, size_t size)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes, size);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = message;
    run(stream, &op, 1);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(slice);
}

void stream_send_end(Stream *stream)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    run(stream, &op, 1);
}

/* gRPC gives no message before them. */
static void receive_initial(Stream *stream)
{
    grpc_op op = {.op = GRPC_OP_RECV_INITIAL_METADATA};
    op.data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
    if (!stream->begun) run(stream, &op, 1);
    stream->begun = true;
}

int stream_next(Stream *stream, uint8_t *out, size_t room)
{
    grpc_byte_buffer *message = NULL;
    grpc_byte_buffer_reader reader;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &message;
    receive_initial(stream);
    run(stream, &op, 1);
    if (!message) return -1;
    ck_assert(grpc_byte_buffer_reader_init(&reader, message));
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    size_t size = GRPC_SLICE_LENGTH(bytes);
    memcpy(out, GRPC_SLICE_START_PTR(bytes), size < room ? size : room);
    grpc_slice_unref(bytes);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(message);
    return (int)size;
}

Status stream_status(Stream *stream, Error *error)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    op.data.recv_status_on_client.trailing_metadata = &stream->trailing;
    op.data.recv_status_on_client.status = &stream->code;
    op.data.recv_status_on_client.status_details = &stream->details;
    if (!stream->ended) {
        receive_initial(stream);
        run(stream, &op, 1);
    }
    stream->ended = true;
    return rpc_error_of(stream->code, stream->details, error);
}

void stream_close(Stream *stream)
{
    if (!stream->ended) {
        grpc_call_cancel(stream->call, NULL);
        stream_status(stream, NULL);
    }
    grpc_slice_unref(stream->details);
    rpc_metadata_destroy(&stream->initial);
    rpc_metadata_destroy(&stream->trailing);
    grpc_call_unref(stream->call);
    grpc_completion_queue_shutdown(stream->queue);
    while (grpc_completion_queue_pluck(stream->queue, NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(stream->queue);
    free(stream);
}
