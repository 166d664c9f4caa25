/* Backward calls: sent and forgotten, within the bound of memory. */
#include <errno.h>
#include <grpc/slice.h>
#include <stdlib.h>

#include "dendrite/internal.h"
#include "wire/metadata.h"

struct Gradient {
    UnaryCall unary;    /* first, so that a unary call is its gradient */
    DendriteCall *call; /* referenced: the input is sent again */
    size_t peer;
    Ticket ticket;
    Channel *channel; /* referenced */
    size_t charged;
    grpc_metadata version;
    Gradient *before, *after; /* in the dendrite's list */
};

/* --- the list, with the lock held --- */

static void link_in(Dendrite *dendrite, Gradient *gradient)
{
    gradient->after = dendrite->gradients;
    if (gradient->after) gradient->after->before = gradient;
    dendrite->gradients = gradient;
    dendrite->gradient_count++;
    dendrite->outstanding++;
}

static void link_out(Dendrite *dendrite, Gradient *gradient)
{
    if (gradient->after) gradient->after->before = gradient->before;
    if (gradient->before)
        gradient->before->after = gradient->after;
    else
        dendrite->gradients = gradient->after;
    if (--dendrite->gradient_count == 0) pthread_cond_broadcast(&dendrite->changed);
    outstanding_ended(dendrite);
}

void gradients_cancel(Dendrite *dendrite)
{
    for (Gradient *gradient = dendrite->gradients; gradient; gradient = gradient->after)
        unary_cancel(&gradient->unary);
}

/* --- one call --- */

/* With the lock held; the Gradient itself and what its unary call holds are still to be freed. True: so is its call. */
static bool leave(Dendrite *dendrite, Gradient *gradient)
{
    dendrite->links[gradient->peer].stats.in_flight--;
    room_give(dendrite, gradient->charged);
    channel_unref(gradient->channel);
    link_out(dendrite, gradient); /* from here on gradients_cancel can't find it */
    return call_unref(gradient->call);
}

/* On the dendrite thread. */
static void on_acknowledged(UnaryCall *unary)
{
    Gradient *gradient = (Gradient *)unary;
    DendriteCall *call = gradient->call;
    Dendrite *dendrite = call->dendrite;
    Link *link = &dendrite->links[gradient->peer];
    DendriteFailure kind = DENDRITE_MALFORMED;
    Error why = {0};
    char key[KEY_SIZE];
    bool good = answer_acknowledges(unary, key, &kind, &why);
    uint64_t now = clock_now(dendrite->clock);
    pthread_mutex_lock(&dendrite->lock);
    link->stats.bytes_in += unary_response_bytes(unary);
    if (good) {
        link_heard(link, gradient->ticket);
        link_count_answer(link, PEER_BACKWARD, 0, gradient->ticket.generation == link->generation ? key : "");
    } else {
        link_failed(link, gradient->ticket, PEER_BACKWARD, kind, &why, now, &dendrite->jitter);
    }
    bool last = leave(dendrite, gradient);
    pthread_mutex_unlock(&dendrite->lock);
    unary_clear(unary);
    free(gradient);
    if (last) call_free(call);
}

/* Whether a peer may be sent to now; counts it if not. With the lock held. */
static bool admit(DendriteCall *call, size_t peer, bool finite, size_t bytes)
{
    Dendrite *dendrite = call->dendrite;
    Link *link = &dendrite->links[peer];
    const Slot *slot = &call->slots[peer];
    Error why = {0};
    bool moved = slot->ticket.generation != link->generation; /* somebody else's gradient by now */
    if (link_admission(link, PEER_BACKWARD, clock_now(dendrite->clock)) != ADMIT) {
        link_count_failure(link, PEER_BACKWARD, DENDRITE_BACKING_OFF, &why);
        return false;
    }
    if (!finite || moved || !room_take(dendrite, bytes, &why)) {
        link->stats.backward_dropped++;
        return false;
    }
    return true;
}

/* The message of one peer: the input by reference, its part of the gradients as a copy, made without the lock. */
static Status copy_gradient(const DendriteCall *call, const float *values, grpc_slice *out, Error *error)
{
    Tensor copy, view = tensor_view(DTYPE_F32, call->answer_shape, (void *)(uintptr_t)values);
    RETURN_IF_ERROR(tensor_copy(&view, &copy, error));
    return rpc_payload(&copy, out, error);
}

/* With the lock held. NULL with *kind and *error filled. */
static grpc_byte_buffer *make_request(const DendriteCall *call, size_t peer, const float *values, grpc_slice copy,
                                      DendriteFailure *kind, Error *error)
{
    const Dendrite *dendrite = call->dendrite;
    const Link *link = &dendrite->links[peer];
    const Tensor view = tensor_view(DTYPE_F32, call->answer_shape, (void *)(uintptr_t)values);
    const MessageTensor tensors[2] = {{&call->input, call->modality}, {&view, MODALITY_TENSOR}};
    const grpc_slice payloads[2] = {call->payload, copy};
    return request_message(dendrite->neuron_key, link->peer.synapse_key, tensors, payloads, 2,
                           dendrite->max_message_bytes, link->channel->max_message_bytes, kind, error);
}

/* With the lock held: everything but handing the request to gRPC. */
static void prepare(Gradient *gradient, const grpc_byte_buffer *request)
{
    DendriteCall *call = gradient->call;
    Dendrite *dendrite = call->dendrite;
    Link *link = &dendrite->links[gradient->peer];
    const Slot *slot = &call->slots[gradient->peer];
    gradient->unary.done = on_acknowledged;
    gradient->ticket = link_begin(link, ADMIT);
    gradient->channel = channel_ref(link->channel);
    if (slot->has_version) {
        gradient->version = unary_number_metadata(METADATA_WEIGHTS_VERSION, slot->version);
        gradient->unary.metadata = &gradient->version;
        gradient->unary.metadata_count = 1;
    }
    link->stats.bytes_out += grpc_byte_buffer_length((grpc_byte_buffer *)(uintptr_t)request);
    link->stats.in_flight++;
    call->references++;
    link_in(dendrite, gradient);
}

static Status start(Gradient *gradient, grpc_byte_buffer *request, Error *error)
{
    Dendrite *dendrite = gradient->call->dendrite;
    Status status = unary_start(&gradient->unary, gradient->channel->grpc, dendrite->completions,
                                gradient->channel->methods[PEER_BACKWARD], request,
                                rpc_deadline_after(dendrite->deadline_ns), error);
    if (status == STATUS_OK) return STATUS_OK;
    pthread_mutex_lock(&dendrite->lock);
    leave(dendrite, gradient); /* not the call's last reference: the caller has one */
    pthread_mutex_unlock(&dendrite->lock);
    free(gradient);
    return status;
}

/* One peer that was admitted, with `bytes` of the room. */
static Status send_gradient(DendriteCall *call, size_t peer, const float *values, size_t bytes, Error *error)
{
    Dendrite *dendrite = call->dendrite;
    Gradient *gradient = calloc(1, sizeof *gradient);
    DendriteFailure kind = DENDRITE_REFUSED;
    grpc_slice copy = grpc_empty_slice();
    grpc_byte_buffer *request = NULL;
    Status status = gradient ? copy_gradient(call, values, &copy, error)
                             : error_set_errno(error, ENOMEM, "a Backward call to peer %zu", peer);
    pthread_mutex_lock(&dendrite->lock);
    if (status == STATUS_OK) request = make_request(call, peer, values, copy, &kind, error);
    if (request) {
        *gradient = (Gradient){.call = call, .peer = peer, .charged = bytes};
        prepare(gradient, request);
    } else {
        room_give(dendrite, bytes);
        if (status == STATUS_OK) link_count_failure(&dendrite->links[peer], PEER_BACKWARD, kind, error);
    }
    pthread_mutex_unlock(&dendrite->lock);
    grpc_slice_unref(copy);
    if (request) return start(gradient, request, error);
    free(gradient);
    return status;
}

Status dendrite_backward(Dendrite *dendrite, DendriteCall *call, const float *gradients, const uint8_t *mask,
                         Error *error)
{
    size_t row = call->answer_bytes / sizeof *gradients;
    size_t bytes = call->answer_bytes + call->input.size + MESSAGE_HEADER_SIZE; /* the input: of the answer */
    for (size_t peer = 0; peer < dendrite->count; peer++) {
        const float *values = gradients + peer * row;
        Error why = {0};
        if (!mask[peer]) continue;
        bool finite = floats_finite(values, row);
        pthread_mutex_lock(&dendrite->lock);
        bool admitted = admit(call, peer, finite, bytes);
        pthread_mutex_unlock(&dendrite->lock);
        Status status = admitted ? send_gradient(call, peer, values, bytes, &why) : STATUS_OK;
        if (status == STATUS_OK) continue;
        if (error) *error = why;
        return status;
    }
    return STATUS_OK;
}
