#include "dendrite/gradient.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

struct Gradient {
    UnaryCall unary; /* first, so that a unary call is its gradient */
    Dendrite *dendrite;
    size_t peer;
    Gradient *before, *after; /* in the dendrite's list */
};

/* --- the list, with the lock held --- */

static void link_in(Gradient *gradient)
{
    Dendrite *dendrite = gradient->dendrite;
    gradient->after = dendrite->gradients;
    if (gradient->after) gradient->after->before = gradient;
    dendrite->gradients = gradient;
    dendrite->gradient_count++;
}

static void link_out(Gradient *gradient)
{
    Dendrite *dendrite = gradient->dendrite;
    if (gradient->after) gradient->after->before = gradient->before;
    if (gradient->before)
        gradient->before->after = gradient->after;
    else
        dendrite->gradients = gradient->after;
    if (--dendrite->gradient_count == 0) pthread_cond_broadcast(&dendrite->gradients_changed);
}

/* --- one call --- */

/* On the dendrite thread. */
static void on_acknowledged(UnaryCall *unary)
{
    Gradient *gradient = (Gradient *)unary;
    Dendrite *dendrite = gradient->dendrite;
    Link *link = &dendrite->links[gradient->peer];
    DendriteFailure kind = DENDRITE_MALFORMED;
    Error why = {0};
    bool good = answer_acknowledges(unary, &kind, &why);
    size_t bytes = unary->response ? grpc_byte_buffer_length(unary->response) : 0;
    pthread_mutex_lock(&dendrite->lock);
    link->stats.bytes_in += bytes;
    if (good)
        link_succeeded(link, PEER_BACKWARD, 0);
    else
        link_failed(link, PEER_BACKWARD, kind, &why, clock_now(dendrite->clock), &dendrite->jitter);
    link_out(gradient); /* from here on gradients_cancel can't find it */
    pthread_mutex_unlock(&dendrite->lock);
    unary_clear(unary);
    free(gradient);
}

/* The message of one peer: the input by reference, its part of the gradients as a copy. NULL with *error filled. */
static grpc_byte_buffer *make_request(DendriteCall *call, size_t peer, const float *values, Error *error)
{
    Dendrite *dendrite = call->dendrite;
    Tensor copy, view = tensor_view(DTYPE_F32, call->answer_shape, (void *)(uintptr_t)values);
    grpc_slice payloads[2] = {call->payload};
    if (tensor_copy(&view, &copy, error) != STATUS_OK) return NULL;
    if (rpc_payload(&copy, &payloads[1], error) != STATUS_OK) return NULL;
    MessageTensor tensors[2] = {{&call->input, call->modality}, {&view, MODALITY_TENSOR}};
    grpc_byte_buffer *request = request_message(dendrite->neuron_key, dendrite->links[peer].peer.synapse_key, tensors,
                                                payloads, 2, dendrite->max_message_bytes, error);
    grpc_slice_unref(payloads[1]);
    return request;
}

/* With the lock held; takes `request` over. */
static Status send_gradient(Dendrite *dendrite, size_t peer, grpc_byte_buffer *request, Error *error)
{
    Link *link = &dendrite->links[peer];
    Gradient *gradient = calloc(1, sizeof *gradient);
    if (!gradient) {
        grpc_byte_buffer_destroy(request);
        return error_set_errno(error, ENOMEM, "a Backward call");
    }
    size_t bytes = grpc_byte_buffer_length(request);
    gradient->dendrite = dendrite;
    gradient->peer = peer;
    gradient->unary.done = on_acknowledged;
    Status status = unary_start(&gradient->unary, link->channel, dendrite->completions, link->methods[PEER_BACKWARD],
                                request, rpc_deadline_after(dendrite->deadline_ns), error);
    if (status != STATUS_OK) {
        free(gradient);
        return status;
    }
    link->stats.bytes_out += bytes;
    link_in(gradient);
    return STATUS_OK;
}

/* Whether a peer may be sent to now; counts it if not. */
static bool admit(Dendrite *dendrite, size_t peer, const float *values, size_t count)
{
    bool finite = floats_finite(values, count);
    Error why = {0};
    pthread_mutex_lock(&dendrite->lock);
    Link *link = &dendrite->links[peer];
    uint64_t now = clock_now(dendrite->clock);
    bool quiet = link_is_quiet(link, now), full = dendrite->gradient_count >= dendrite->max_backward_calls;
    if (!finite || full)
        link->stats.backward_dropped++;
    else if (quiet)
        link_failed(link, PEER_BACKWARD, DENDRITE_BACKING_OFF, &why, now, &dendrite->jitter);
    pthread_mutex_unlock(&dendrite->lock);
    return finite && !full && !quiet;
}

Status dendrite_backward(Dendrite *dendrite, DendriteCall *call, const float *gradients, const uint8_t *mask,
                         Error *error)
{
    size_t row = (size_t)shape_count(call->answer_shape);
    for (size_t peer = 0; peer < dendrite->count; peer++) {
        const float *values = gradients + peer * row;
        if (!mask[peer] || !admit(dendrite, peer, values, row)) continue;
        Error why = {0};
        grpc_byte_buffer *request = make_request(call, peer, values, &why);
        pthread_mutex_lock(&dendrite->lock);
        Status status = request ? send_gradient(dendrite, peer, request, &why) : why.status;
        pthread_mutex_unlock(&dendrite->lock);
        if (status == STATUS_OK) continue;
        if (error) *error = why;
        return status;
    }
    return STATUS_OK;
}

void gradients_cancel(Dendrite *dendrite)
{
    pthread_mutex_lock(&dendrite->lock);
    for (Gradient *gradient = dendrite->gradients; gradient; gradient = gradient->after)
        unary_cancel(&gradient->unary);
    pthread_mutex_unlock(&dendrite->lock);
}

size_t dendrite_drain(Dendrite *dendrite, uint64_t timeout_ns)
{
    struct timespec until = dendrite_time_after(timeout_ns);
    pthread_mutex_lock(&dendrite->lock);
    while (dendrite->gradient_count)
        if (pthread_cond_timedwait(&dendrite->gradients_changed, &dendrite->lock, &until) == ETIMEDOUT) break;
    size_t left = dendrite->gradient_count;
    pthread_mutex_unlock(&dendrite->lock);
    return left;
}
