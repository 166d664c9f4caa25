#include "net/crowd.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/suite.h"
#include "wire/metadata.h"

Crowd *crowd_create(const Axon *axon)
{
    Crowd *crowd = calloc(1, sizeof *crowd);
    rpc_start();
    crowd->queue = grpc_completion_queue_create_for_next(NULL);
    crowd->channel = unary_channel(axon_address(axon), RPC_MESSAGE_BYTES, 10000000000);
    crowd->forward = grpc_channel_register_call(crowd->channel, "/Bittensor/Forward", NULL, NULL);
    crowd->backward = grpc_channel_register_call(crowd->channel, "/Bittensor/Backward", NULL, NULL);
    return crowd;
}

static void on_done(UnaryCall *unary)
{
    CrowdCall *call = (CrowdCall *)(void *)((char *)unary - offsetof(CrowdCall, unary));
    Crowd *crowd = unary->owner;
    call->status = unary_status(unary, &call->error);
    if (!unary_number(unary, METADATA_WEIGHTS_VERSION, &call->version)) call->version = 0;
    call->order = crowd->done++;
    call->done = true;
    unary_clear(unary);
}

static grpc_byte_buffer *message_of(const char *key, const Tensor *input, const Tensor *gradient)
{
    EncodedMessage encoded;
    Modality modality = input->shape.rank == 5   ? MODALITY_IMAGE
                        : input->shape.rank == 2 ? MODALITY_TEXT
                                                 : MODALITY_TENSOR;
    MessageTensor tensors[2] = {{input, modality}, {gradient, MODALITY_TENSOR}};
    grpc_slice payloads[2] = {grpc_slice_from_copied_buffer(input->data, input->size), grpc_empty_slice()};
    if (gradient) payloads[1] = grpc_slice_from_copied_buffer(gradient->data, gradient->size);
    ck_assert_int_eq(message_encode(key, "soma", tensors, gradient ? 2 : 1, RPC_MESSAGE_BYTES, &encoded, NULL),
                     STATUS_OK);
    grpc_byte_buffer *message = rpc_message(&encoded, payloads);
    grpc_slice_unref(payloads[0]);
    grpc_slice_unref(payloads[1]);
    return message;
}

static int send(Crowd *crowd, void *method, const char *key, grpc_byte_buffer *message, uint64_t version,
                uint64_t deadline_ns)
{
    ck_assert_int_lt(crowd->count, CROWD_CALLS);
    CrowdCall *call = &crowd->calls[crowd->count];
    snprintf(call->key, sizeof call->key, "%s", key);
    call->unary.done = on_done;
    call->unary.owner = crowd;
    if (version) {
        call->sent_version = unary_number_metadata(METADATA_WEIGHTS_VERSION, version);
        call->unary.metadata = &call->sent_version;
        call->unary.metadata_count = 1;
    }
    gpr_timespec deadline = rpc_deadline_after(deadline_ns);
    ck_assert_int_eq(unary_start(&call->unary, crowd->channel, crowd->queue, method, message, deadline, NULL),
                     STATUS_OK);
    return crowd->count++;
}

int crowd_send(Crowd *crowd, const char *key, int count, const Tensor *input, uint64_t deadline_ns)
{
    int first = crowd->count;
    for (int i = 0; i < count; i++)
        send(crowd, crowd->forward, key, message_of(key, input, NULL), 0, deadline_ns);
    return first;
}

int crowd_send_backward(Crowd *crowd, const char *key, const Tensor *input, const Tensor *gradient, uint64_t version)
{
    return send(crowd, crowd->backward, key, message_of(key, input, gradient), version, 20000000000);
}

void crowd_cancel(Crowd *crowd, int first, int count)
{
    for (int i = first; i < first + count; i++)
        if (!crowd->calls[i].done) unary_cancel(&crowd->calls[i].unary);
}

void crowd_wait(Crowd *crowd, int count)
{
    if (count > crowd->count) count = crowd->count;
    while (crowd->done < count)
        ck_assert_int_eq(rpc_next(crowd->queue, rpc_deadline_after(20000000000)), RPC_DONE);
}

int crowd_count(const Crowd *crowd, int first, int count, Status status)
{
    int found = 0;
    for (int i = first; i < first + count; i++)
        found += crowd->calls[i].done && crowd->calls[i].status == status;
    return found;
}

void crowd_destroy(Crowd *crowd)
{
    grpc_completion_queue_shutdown(crowd->queue);
    rpc_run(crowd->queue);
    grpc_channel_destroy(crowd->channel);
    grpc_completion_queue_destroy(crowd->queue);
    free(crowd);
    rpc_stop();
}
