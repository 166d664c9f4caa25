/* A call's way through the server: accepted, decoded and queued on the network thread; answered from the worker. */
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

#include "axon/internal.h"

static ServerCall *of_accepted(RpcTag *tag)
{
    return (ServerCall *)(void *)((char *)tag - offsetof(ServerCall, accepted));
}

static ServerCall *of_closed(RpcTag *tag)
{
    return (ServerCall *)(void *)((char *)tag - offsetof(ServerCall, closed));
}

static ServerCall *of_finished(RpcTag *tag)
{
    return (ServerCall *)(void *)((char *)tag - offsetof(ServerCall, finished));
}

static void release(ServerCall *call)
{
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) > 1) return;
    grpc_slice_unref(call->sentence);
    if (call->response) grpc_byte_buffer_destroy(call->response);
    if (call->request) grpc_byte_buffer_destroy(call->request);
    rpc_metadata_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    if (call->call) grpc_call_unref(call->call);
    free(call);
}

static void count(atomic_uint_fast64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

/* --- the way out --- */

static void on_finished(RpcTag *tag, bool success)
{
    (void)success; /* without success the caller is gone, which `closed` reports */
    release(of_finished(tag));
}

/* The inputs have done their work, and their bytes make room for other calls. */
static void drop_inputs(ServerCall *call)
{
    tensor_destroy(&call->gradient);
    tensor_destroy(&call->input);
    atomic_fetch_sub_explicit(&call->axon->counters.queued_bytes, call->charge, memory_order_relaxed);
    call->charge = 0;
}

/* The status goes out with the answer, if there is one, in one batch. */
static void finish(ServerCall *call, Status status)
{
    drop_inputs(call);
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t used = 1;
    if (call->response) {
        ops[used] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
        ops[used++].data.send_message.send_message = call->response;
    }
    ops[used] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    ops[used].data.send_status_from_server.status = (grpc_status_code)status;
    ops[used++].data.send_status_from_server.status_details = &call->sentence;
    call->finished.done = on_finished;
    if (rpc_start_batch(call->call, ops, used, &call->finished, NULL) != STATUS_OK) release(call);
}

void server_call_fail(ServerCall *call, const Error *error)
{
    Status status =
        error->status == STATUS_OK || error->status > STATUS_UNAUTHENTICATED ? STATUS_INTERNAL : error->status;
    count(&call->axon->counters.failures[status], 1);
    call->sentence = grpc_slice_from_copied_string(error->message);
    finish(call, status);
}

static Status encode_answer(ServerCall *call, Tensor *answer, Error *error)
{
    EncodedMessage encoded;
    MessageTensor tensor = {answer, MODALITY_TENSOR};
    RETURN_IF_ERROR(message_encode(call->axon->neuron_key, call->synapse_key, &tensor, 1, call->axon->max_message_bytes,
                                   &encoded, error));
    grpc_slice payload;
    RETURN_IF_ERROR(rpc_payload(answer, &payload, error));
    call->response = rpc_message(&encoded, &payload);
    grpc_slice_unref(payload);
    count(&call->axon->counters.bytes_out, encoded.size);
    return STATUS_OK;
}

void server_call_answer(ServerCall *call, Tensor *answer)
{
    Error error;
    Status status = encode_answer(call, answer, &error);
    tensor_destroy(answer); /* zeroed if gRPC holds it now */
    if (status != STATUS_OK) {
        error_prefix(&error, "answer");
        server_call_fail(call, &error);
        return;
    }
    count(&call->axon->counters.answered[call->method], 1);
    finish(call, STATUS_OK);
}

bool server_call_wanted(const ServerCall *call, Error *error)
{
    if (atomic_load_explicit(&call->gone, memory_order_acquire)) {
        error_set(error, STATUS_CANCELLED, "the caller has gone");
        return false;
    }
    if (gpr_time_cmp(gpr_now(call->deadline.clock_type), call->deadline) >= 0) {
        error_set(error, STATUS_DEADLINE_EXCEEDED, "the deadline passed before the call was begun");
        return false;
    }
    return true;
}

/* --- the way in --- */

static Status decode_gradient(ServerCall *call, const WireTensor *sent, Error *error)
{
    DType dtype;
    Shape shape;
    RETURN_IF_ERROR(message_tensor_check(sent, "gradient", &dtype, &shape, error));
    if (!dtype_is_float(dtype))
        return error_set(error, STATUS_INVALID_ARGUMENT, "dtype of gradient is %s, expected f32 or f64",
                         dtype_name(dtype));
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, shape, &call->gradient, error));
    RETURN_IF_ERROR(message_tensor_read(sent, dtype, DTYPE_F32, shape, call->gradient.data, error));
    return tensor_check_finite(&call->gradient, "gradient", error);
}

static Status decode_segments(ServerCall *call, const Segment *segments, size_t segment_count, Error *error)
{
    Message message;
    DType dtype;
    Shape shape;
    RETURN_IF_ERROR(message_parse(segments, segment_count, &message, error));
    memcpy(call->synapse_key, message.synapse_key, sizeof call->synapse_key);
    size_t needed = call->method == METHOD_BACKWARD ? 2 : 1;
    if (message.tensor_count < needed)
        return error_set(error, STATUS_INVALID_ARGUMENT, "message has %zu tensors, expected %s", message.tensor_count,
                         needed == 2 ? "2: the input and the gradient" : "1: the input");
    RETURN_IF_ERROR(message_input_check(&message.tensors[0], &call->modality, &dtype, &shape, error));
    DType wanted = call->modality == MODALITY_TEXT ? DTYPE_I64 : DTYPE_F32;
    RETURN_IF_ERROR(tensor_create(wanted, shape, &call->input, error));
    RETURN_IF_ERROR(message_tensor_read(&message.tensors[0], dtype, wanted, shape, call->input.data, error));
    return call->method == METHOD_BACKWARD ? decode_gradient(call, &message.tensors[1], error) : STATUS_OK;
}

static Status decode(ServerCall *call, Error *error)
{
    Segment *segments;
    size_t segment_count;
    RETURN_IF_ERROR(rpc_segments(call->request, &segments, &segment_count, error));
    Status status = decode_segments(call, segments, segment_count, error);
    free(segments);
    return status;
}

/* Reserves room in the queue before anything is allocated for the call. */
static Status charge(ServerCall *call, size_t bytes, Error *error)
{
    Axon *axon = call->axon;
    size_t before = atomic_fetch_add_explicit(&axon->counters.queued_bytes, bytes, memory_order_relaxed);
    call->charge = bytes;
    if (before == 0 || before + bytes <= axon->queue_bytes) return STATUS_OK;
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "%zu bytes are waiting already, of at most %zu", before,
                     axon->queue_bytes);
}

static Status take_in(ServerCall *call, Error *error)
{
    if (call->method == METHOD_UNKNOWN)
        return error_set(error, STATUS_UNIMPLEMENTED, "method %.*s is not known here",
                         (int)GRPC_SLICE_LENGTH(call->details.method),
                         (const char *)GRPC_SLICE_START_PTR(call->details.method));
    if (!call->request) return error_set(error, STATUS_INVALID_ARGUMENT, "the call came without a message");
    size_t bytes = grpc_byte_buffer_length(call->request);
    count(&call->axon->counters.bytes_in, bytes);
    RETURN_IF_ERROR(charge(call, bytes, error));
    RETURN_IF_ERROR(decode(call, error));
    grpc_byte_buffer_destroy(call->request);
    call->request = NULL;
    if (queue_try_push(call->axon->waiting, call)) return STATUS_OK;
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "%zu calls are waiting already", call->axon->queue_capacity);
}

static void on_closed(RpcTag *tag, bool success)
{
    ServerCall *call = of_closed(tag);
    if (!success || call->cancelled) atomic_store_explicit(&call->gone, true, memory_order_release);
    release(call);
}

/* Asks to be told when the caller goes away. */
static void watch(ServerCall *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    call->closed.done = on_closed;
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    if (rpc_start_batch(call->call, &op, 1, &call->closed, NULL) != STATUS_OK) release(call);
}

static void on_accepted(RpcTag *tag, bool success)
{
    ServerCall *call = of_accepted(tag);
    if (!success) { /* the server is shutting down */
        release(call);
        return;
    }
    Error error;
    count(&call->axon->counters.calls, 1);
    /* Lack of memory for the next call: one place fewer, and this call still gets its answer. */
    server_call_post(call->axon, call->method, NULL);
    watch(call);
    if (take_in(call, &error) != STATUS_OK) server_call_fail(call, &error);
}

Status server_call_post(Axon *axon, Method method, Error *error)
{
    ServerCall *call = calloc(1, sizeof *call);
    if (!call) return error_set_errno(error, ENOMEM, "a place for a call");
    call->axon = axon;
    call->method = method;
    call->accepted.done = on_accepted;
    call->sentence = grpc_empty_slice();
    atomic_init(&call->references, 1);
    grpc_metadata_array_init(&call->metadata);
    grpc_call_details_init(&call->details);
    rpc_tag_release(&call->accepted);
    grpc_call_error failure =
        method == METHOD_UNKNOWN
            ? grpc_server_request_call(axon->server, &call->call, &call->details, &call->metadata, axon->completions,
                                       axon->completions, &call->accepted)
            : grpc_server_request_registered_call(axon->server, axon->methods[method], &call->call, &call->deadline,
                                                  &call->metadata, &call->request, axon->completions, axon->completions,
                                                  &call->accepted);
    if (failure == GRPC_CALL_OK) return STATUS_OK;
    release(call);
    return error_set(error, STATUS_INTERNAL, "gRPC takes no more calls: %s", grpc_call_error_to_string(failure));
}
