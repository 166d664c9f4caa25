/* The dendrite and its questions: create, ask, wait, release. */
#include "dendrite/dendrite.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dendrite/gradient.h"
#include "dendrite/internal.h"

static const uint64_t default_deadline_ns = 1000000000;
enum { BACKWARD_CALLS_A_PEER = 8 };

static const char *const method_paths[PEER_METHODS] = {
    [PEER_FORWARD] = "/Bittensor/Forward",
    [PEER_BACKWARD] = "/Bittensor/Backward",
};

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec dendrite_time_after(uint64_t ns)
{
    const uint64_t second = 1000000000;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t rest = (uint64_t)time.tv_nsec + ns % second;
    time.tv_sec += (time_t)(ns / second + rest / second);
    time.tv_nsec = (long)(rest % second);
    return time;
}

/* --- create and destroy --- */

static void *run(void *context)
{
    Dendrite *dendrite = context;
    rpc_run(dendrite->completions);
    return NULL;
}

static void set_options(Dendrite *dendrite, const DendriteOptions *options, size_t count)
{
    strcpy(dendrite->neuron_key, options->neuron_key); /* measured by dendrite_create */
    dendrite->deadline_ns = options->deadline_ns ? options->deadline_ns : default_deadline_ns;
    dendrite->max_message_bytes = options->max_message_bytes ? options->max_message_bytes : RPC_MESSAGE_BYTES;
    dendrite->max_backward_calls =
        options->max_backward_calls ? options->max_backward_calls : BACKWARD_CALLS_A_PEER * count;
    dendrite->clock = options->clock.now ? options->clock : clock_monotonic();
    dendrite->jitter = rng_make(options->seed, RNG_STREAM_JITTER);
    dendrite->count = count;
}

static void open_link(Dendrite *dendrite, Link *link, const Peer *peer)
{
    link->peer = *peer;
    link->channel = unary_channel(peer->address, dendrite->max_message_bytes, dendrite->deadline_ns);
    for (int method = 0; method < PEER_METHODS; method++)
        link->methods[method] = grpc_channel_register_call(link->channel, method_paths[method], NULL, NULL);
}

static void free_dendrite(Dendrite *dendrite)
{
    for (size_t i = 0; i < dendrite->count; i++)
        grpc_channel_destroy(dendrite->links[i].channel);
    grpc_completion_queue_destroy(dendrite->completions);
    pthread_cond_destroy(&dendrite->gradients_changed);
    pthread_mutex_destroy(&dendrite->lock);
    free(dendrite);
    rpc_stop();
}

Status dendrite_create(const DendriteOptions *options, const Peer *peers, size_t count, Dendrite **out, Error *error)
{
    RETURN_IF_ERROR(key_check("neuron key", options->neuron_key, strlen(options->neuron_key), error));
    if (count > (SIZE_MAX - sizeof(Dendrite)) / sizeof(Link) / 2)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "%zu peers are more than memory can have", count);
    Dendrite *dendrite = calloc(1, sizeof *dendrite + count * sizeof dendrite->links[0]);
    if (!dendrite) return error_set_errno(error, ENOMEM, "a dendrite to %zu peers", count);
    rpc_start();
    pthread_mutex_init(&dendrite->lock, NULL);
    init_condition(&dendrite->gradients_changed);
    set_options(dendrite, options, count);
    dendrite->completions = grpc_completion_queue_create_for_next(NULL);
    for (size_t i = 0; i < count; i++)
        open_link(dendrite, &dendrite->links[i], &peers[i]);
    Status status = rpc_thread_start(&dendrite->thread, run, dendrite, "dendrite", error);
    if (status != STATUS_OK) {
        grpc_completion_queue_shutdown(dendrite->completions);
        free_dendrite(dendrite);
        return status;
    }
    *out = dendrite;
    return STATUS_OK;
}

/* The queue reports its end only after every call has come back. */
void dendrite_destroy(Dendrite *dendrite)
{
    if (!dendrite) return;
    gradients_cancel(dendrite);
    grpc_completion_queue_shutdown(dendrite->completions);
    pthread_join(dendrite->thread, NULL);
    free_dendrite(dendrite);
}

size_t dendrite_count(const Dendrite *dendrite)
{
    return dendrite->count;
}

/* --- a question --- */

/* With the lock held. True when the last reference went: free_call it, without the lock. */
static bool drop_reference(DendriteCall *call)
{
    return --call->references == 0;
}

static void free_call(DendriteCall *call)
{
    grpc_slice_unref(call->payload);
    pthread_cond_destroy(&call->changed);
    free(call);
}

/* On the dendrite thread. */
static void on_answer(UnaryCall *unary)
{
    Slot *slot = (Slot *)unary;
    DendriteCall *call = slot->call;
    Dendrite *dendrite = call->dendrite;
    uint64_t now = clock_now(dendrite->clock);
    pthread_mutex_lock(&dendrite->lock);
    slot->latency_ns = now - slot->begun;
    if (slot->state == SLOT_ABANDONED) {
        unary_clear(unary);
        slot->state = SLOT_TAKEN;
    } else {
        slot->state = SLOT_DONE;
        call->pending--;
        pthread_cond_signal(&call->changed);
    }
    bool last = drop_reference(call);
    pthread_mutex_unlock(&dendrite->lock);
    if (last) free_call(call);
}

static Status create_call(Dendrite *dendrite, const Tensor *input, Modality modality, DendriteCall **out, Error *error)
{
    Tensor copy;
    DendriteCall *call = calloc(1, sizeof *call + dendrite->count * sizeof call->slots[0]);
    if (!call) return error_set_errno(error, ENOMEM, "a question to %zu peers", dendrite->count);
    Status status = tensor_copy(input, &copy, error);
    if (status == STATUS_OK) {
        call->input = tensor_view(copy.dtype, copy.shape, copy.data);
        status = rpc_payload(&copy, &call->payload, error);
    }
    if (status != STATUS_OK) {
        free(call);
        return status;
    }
    call->dendrite = dendrite;
    call->modality = modality;
    call->references = 1;
    call->answer_shape = shape_of(input->shape.dims[0], input->shape.dims[1], NETWORK_DIM);
    call->deadline = dendrite_time_after(dendrite->deadline_ns);
    init_condition(&call->changed);
    *out = call;
    return STATUS_OK;
}

/* With the lock held: sends the question to one peer. */
static Status send_to(DendriteCall *call, size_t peer, gpr_timespec deadline, Error *error)
{
    Dendrite *dendrite = call->dendrite;
    Link *link = &dendrite->links[peer];
    Slot *slot = &call->slots[peer];
    MessageTensor tensor = {&call->input, call->modality};
    grpc_byte_buffer *request = request_message(dendrite->neuron_key, link->peer.synapse_key, &tensor, &call->payload,
                                                1, dendrite->max_message_bytes, error);
    if (!request) return error ? error->status : STATUS_INTERNAL;
    size_t bytes = grpc_byte_buffer_length(request);
    slot->call = call;
    slot->begun = clock_now(dendrite->clock);
    slot->unary.done = on_answer;
    RETURN_IF_ERROR(unary_start(&slot->unary, link->channel, dendrite->completions, link->methods[PEER_FORWARD],
                                request, deadline, error));
    slot->state = SLOT_PENDING;
    call->references++;
    call->pending++;
    link->stats.bytes_out += bytes;
    return STATUS_OK;
}

Status dendrite_forward(Dendrite *dendrite, const Tensor *input, Modality modality, DendriteCall **out, Error *error)
{
    DendriteCall *call = NULL;
    RETURN_IF_ERROR(input_check(input, modality, dendrite->max_message_bytes, error));
    RETURN_IF_ERROR(create_call(dendrite, input, modality, &call, error));
    gpr_timespec deadline = rpc_deadline_after(dendrite->deadline_ns);
    pthread_mutex_lock(&dendrite->lock);
    for (size_t i = 0; i < dendrite->count; i++) {
        Link *link = &dendrite->links[i];
        uint64_t now = clock_now(dendrite->clock);
        Error why = {0};
        if (link_is_quiet(link, now))
            link_failed(link, PEER_FORWARD, DENDRITE_BACKING_OFF, &why, now, &dendrite->jitter);
        else if (send_to(call, i, deadline, &why) != STATUS_OK)
            link_failed(link, PEER_FORWARD, DENDRITE_REFUSED, &why, now, &dendrite->jitter);
    }
    pthread_mutex_unlock(&dendrite->lock);
    *out = call;
    return STATUS_OK;
}

/* --- the answers --- */

/* Takes the lock only to note the result. */
static bool read_slot(DendriteCall *call, size_t peer, float *out)
{
    Dendrite *dendrite = call->dendrite;
    Link *link = &dendrite->links[peer];
    Slot *slot = &call->slots[peer];
    DendriteFailure kind = DENDRITE_MALFORMED;
    Error why = {0};
    bool good = answer_read(&slot->unary, call->answer_shape, out, &kind, &why);
    size_t bytes = slot->unary.response ? grpc_byte_buffer_length(slot->unary.response) : 0;
    unary_clear(&slot->unary);
    uint64_t now = clock_now(dendrite->clock);
    pthread_mutex_lock(&dendrite->lock);
    link->stats.bytes_in += bytes;
    if (good)
        link_succeeded(link, PEER_FORWARD, slot->latency_ns);
    else
        link_failed(link, PEER_FORWARD, kind, &why, now, &dendrite->jitter);
    pthread_mutex_unlock(&dendrite->lock);
    return good;
}

/* With the lock held: waits until a slot is done, and takes it. False when all are over, or the deadline has passed. */
static bool take_done(DendriteCall *call, size_t *peer)
{
    Dendrite *dendrite = call->dendrite;
    bool late = false;
    for (;;) {
        for (size_t i = 0; i < dendrite->count; i++)
            if (call->slots[i].state == SLOT_DONE) {
                call->slots[i].state = SLOT_TAKEN;
                *peer = i;
                return true;
            }
        if (late || call->pending == 0) return false;
        late = pthread_cond_timedwait(&call->changed, &dendrite->lock, &call->deadline) == ETIMEDOUT;
    }
}

/* With the lock held. Whether it counts as a failure of the peers is the caller's to say. */
static void abandon_pending(DendriteCall *call, bool count_timeouts)
{
    Dendrite *dendrite = call->dendrite;
    Error why = {0};
    for (size_t i = 0; i < dendrite->count; i++) {
        Slot *slot = &call->slots[i];
        if (slot->state != SLOT_PENDING) continue;
        unary_cancel(&slot->unary);
        slot->state = SLOT_ABANDONED;
        call->pending--;
        if (!count_timeouts) continue;
        error_set(&why, STATUS_DEADLINE_EXCEEDED, "no answer within %.3f s", clock_seconds(dendrite->deadline_ns));
        link_failed(&dendrite->links[i], PEER_FORWARD, DENDRITE_TIMEOUT, &why, clock_now(dendrite->clock),
                    &dendrite->jitter);
    }
}

size_t dendrite_wait(DendriteCall *call, float *answers, uint8_t *arrived)
{
    Dendrite *dendrite = call->dendrite;
    size_t peer, good = 0, row = (size_t)shape_count(call->answer_shape);
    memset(arrived, 0, dendrite->count);
    pthread_mutex_lock(&dendrite->lock);
    while (take_done(call, &peer)) {
        pthread_mutex_unlock(&dendrite->lock);
        arrived[peer] = read_slot(call, peer, answers + peer * row);
        good += arrived[peer];
        pthread_mutex_lock(&dendrite->lock);
    }
    abandon_pending(call, true);
    pthread_mutex_unlock(&dendrite->lock);
    for (peer = 0; peer < dendrite->count; peer++)
        if (!arrived[peer]) memset(answers + peer * row, 0, row * sizeof *answers);
    return good;
}

void dendrite_release(DendriteCall *call)
{
    if (!call) return;
    Dendrite *dendrite = call->dendrite;
    pthread_mutex_lock(&dendrite->lock);
    abandon_pending(call, false);
    for (size_t i = 0; i < dendrite->count; i++)
        if (call->slots[i].state == SLOT_DONE) {
            unary_clear(&call->slots[i].unary);
            call->slots[i].state = SLOT_TAKEN;
        }
    bool last = drop_reference(call);
    pthread_mutex_unlock(&dendrite->lock);
    if (last) free_call(call);
}

/* --- statistics --- */

void dendrite_stats(Dendrite *dendrite, size_t peer, DendriteStats *out)
{
    pthread_mutex_lock(&dendrite->lock);
    Link *link = &dendrite->links[peer];
    *out = link->stats;
    out->mean_latency_s = out->forwards ? link->latency_sum_s / (double)out->forwards : 0;
    pthread_mutex_unlock(&dendrite->lock);
}

Status dendrite_last_failure(Dendrite *dendrite, size_t peer, Error *out)
{
    pthread_mutex_lock(&dendrite->lock);
    *out = dendrite->links[peer].last;
    pthread_mutex_unlock(&dendrite->lock);
    return out->status;
}
