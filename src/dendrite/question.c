/* Questions: Forward to all peers, the answers, the second attempt, the end. */
#include <errno.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dendrite/internal.h"
#include "wire/metadata.h"

/* --- a question's life --- */

bool call_unref(DendriteCall *call)
{
    if (--call->references) return false;
    room_give(call->dendrite, call->charged);
    return true;
}

void call_free(DendriteCall *call)
{
    grpc_slice_unref(call->payload);
    free(call);
}

static Status create_call(Dendrite *dendrite, Tensor *input, Modality modality, DendriteCall **out, Error *error)
{
    Shape shape = shape_of(input->shape.dims[0], input->shape.dims[1], NETWORK_DIM);
    size_t answer_bytes;
    if (!shape_bytes(shape, sizeof(float), &answer_bytes))
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "the answer to %lld rows is larger than memory",
                         (long long)input->shape.dims[0]);
    DendriteCall *call = calloc(1, sizeof *call + dendrite->count * sizeof call->slots[0]);
    if (!call) return error_set_errno(error, ENOMEM, "a question to %zu peers", dendrite->count);
    call->input = tensor_view(input->dtype, input->shape, input->data);
    Status status = rpc_payload(input, &call->payload, error);
    if (status != STATUS_OK) {
        free(call);
        return status;
    }
    call->dendrite = dendrite;
    call->modality = modality;
    call->references = 1;
    call->answer_shape = shape;
    call->answer_bytes = answer_bytes;
    call->begun = clock_now(dendrite->clock);
    call->deadline = dendrite_time_after(dendrite->deadline_ns);
    call->grpc_deadline = rpc_deadline_after(dendrite->deadline_ns);
    *out = call;
    return STATUS_OK;
}

const Tensor *dendrite_input(const DendriteCall *call)
{
    return &call->input;
}

/* --- one peer's part --- */

static Link *link_of(const Slot *slot)
{
    return &slot->call->dendrite->links[slot - slot->call->slots];
}

/* The bytes that a call to one peer needs: the answer, what stands around the tensors, and for the first one the input.
 */
static bool take_room(Slot *slot, Error *why)
{
    DendriteCall *call = slot->call;
    size_t input = call->charged ? 0 : call->input.size;
    slot->charged = call->answer_bytes + MESSAGE_HEADER_SIZE;
    if (room_take(call->dendrite, slot->charged + input, why)) {
        call->charged += input;
        return true;
    }
    slot->charged = 0;
    return false;
}

static grpc_byte_buffer *make_request(const Slot *slot, uint64_t peer_limit, DendriteFailure *kind, Error *why)
{
    const DendriteCall *call = slot->call;
    MessageTensor tensor = {&call->input, call->modality};
    return request_message(call->dendrite->neuron_key, link_of(slot)->peer.synapse_key, &tensor, &call->payload, 1,
                           call->dendrite->max_message_bytes, peer_limit, kind, why);
}

/* With the lock held: everything but handing the request to gRPC. NULL with *kind and *why filled: not to be sent. */
static grpc_byte_buffer *prepare(Slot *slot, uint64_t now, DendriteFailure *kind, Error *why)
{
    DendriteCall *call = slot->call;
    Dendrite *dendrite = call->dendrite;
    Link *link = link_of(slot);
    Admission admission = link_admission(link, PEER_FORWARD, now);
    *kind = DENDRITE_BACKING_OFF;
    if (admission == ADMIT_NOT) return NULL;
    if (admission == ADMIT_AS_PROBE && link->channel->suspect) channel_replace(link->channel);
    if (call->answer_bytes > dendrite->max_message_bytes) {
        *kind = DENDRITE_TOO_LARGE;
        error_set(why, STATUS_RESOURCE_EXHAUSTED,
                  "the answer would have %zu bytes, and this neuron receives at most %zu", call->answer_bytes,
                  dendrite->max_message_bytes);
        return NULL;
    }
    grpc_byte_buffer *request = make_request(slot, link->channel->max_message_bytes, kind, why);
    if (!request) return NULL;
    if (!take_room(slot, why)) {
        *kind = DENDRITE_NO_ROOM;
        grpc_byte_buffer_destroy(request);
        return NULL;
    }
    slot->ticket = link_begin(link, admission);
    slot->channel = channel_ref(link->channel);
    slot->state = SLOT_PENDING;
    link->stats.bytes_out += grpc_byte_buffer_length(request);
    link->stats.in_flight++;
    call->references++;
    call->pending++;
    dendrite->outstanding++;
    channel_greet(slot->channel, now);
    return request;
}

/* With the lock held: gRPC has the call no more. */
static void leave_grpc(Slot *slot)
{
    link_of(slot)->stats.in_flight--;
    channel_unref(slot->channel);
    slot->channel = NULL;
}

/* With the lock held, after the slot was cleared. */
static void leave_memory(Slot *slot)
{
    room_give(slot->call->dendrite, slot->charged);
    slot->charged = 0;
}

static Status start(Slot *slot, grpc_byte_buffer *request, Error *why)
{
    DendriteCall *call = slot->call;
    return unary_start(&slot->unary, slot->channel->grpc, call->dendrite->completions,
                       slot->channel->methods[PEER_FORWARD], request, call->grpc_deadline, why);
}

/* A call that was under way and brings no answer: the slot ends here. With the lock held. */
static void fail(Slot *slot, DendriteFailure kind, const Error *why, uint64_t now)
{
    DendriteCall *call = slot->call;
    Dendrite *dendrite = call->dendrite;
    leave_memory(slot);
    if (kind == DENDRITE_UNAVAILABLE || kind == DENDRITE_TIMEOUT) slot->channel->suspect = true;
    if (slot->state != SLOT_ABANDONED) {
        link_failed(link_of(slot), slot->ticket, PEER_FORWARD, kind, why, now, &dendrite->jitter);
        call->pending--;
        pthread_cond_broadcast(&dendrite->changed); /* also those who wait for others on a link left alone */
    }
    slot->state = SLOT_FAILED;
    leave_grpc(slot);
}

/* The last thing that is done to a slot on its way: the call may be gone afterwards. Releases the lock. */
static void end_and_unlock(DendriteCall *call)
{
    Dendrite *dendrite = call->dendrite;
    bool last = call_unref(call);
    outstanding_ended(dendrite);
    pthread_mutex_unlock(&dendrite->lock);
    if (last) call_free(call);
}

/* --- on the dendrite thread --- */

/* Sends a call once more, on a new connection. The lock is held before, and not after. */
static void retry_and_unlock(Slot *slot, uint64_t now)
{
    Dendrite *dendrite = slot->call->dendrite;
    Link *link = link_of(slot);
    DendriteFailure kind = DENDRITE_REFUSED;
    Error why = {0};
    channel_replace(slot->channel);
    Channel *fresh = channel_ref(link->channel);
    channel_unref(slot->channel);
    slot->channel = fresh;
    slot->retried = true;
    slot->state = SLOT_RETRYING;
    grpc_byte_buffer *request = make_request(slot, fresh->max_message_bytes, &kind, &why);
    if (request) link->stats.retries++;
    channel_greet(fresh, now);
    pthread_mutex_unlock(&dendrite->lock);

    unary_clear(&slot->unary);
    bool started = request && start(slot, request, &why) == STATUS_OK;
    pthread_mutex_lock(&dendrite->lock);
    if (!started) {
        fail(slot, kind, &why, now);
        end_and_unlock(slot->call);
        return;
    }
    if (slot->state == SLOT_ABANDONED)
        unary_cancel(&slot->unary);
    else
        slot->state = SLOT_PENDING;
    pthread_mutex_unlock(&dendrite->lock);
}

/* Whether the connection broke under a call, rather than never having been made: a peer that refuses connections
 * refuses the next one too. */
static bool connection_broke(const Slot *slot)
{
    return grpc_channel_check_connectivity_state(slot->channel->grpc, 0) != GRPC_CHANNEL_TRANSIENT_FAILURE;
}

/* With the lock held: a probe that nobody waits for has come back; it tells of the peer all the same. */
static void note_probe(Slot *slot, bool came, DendriteFailure kind, const Error *why, uint64_t now)
{
    Link *link = link_of(slot);
    if (link->unattended != slot) return;
    link->unattended = NULL;
    if (came) {
        slot->channel->suspect = false;
        link_heard(link, slot->ticket);
        link_count_answer(link, PEER_FORWARD, slot->latency_ns, "");
    } else {
        link_failed(link, slot->ticket, PEER_FORWARD, kind, why, now, &slot->call->dendrite->jitter);
    }
}

static uint64_t time_left(const DendriteCall *call, uint64_t now)
{
    uint64_t gone = now - call->begun;
    return gone < call->dendrite->deadline_ns ? call->dendrite->deadline_ns - gone : 0;
}

static void on_answer(UnaryCall *unary)
{
    Slot *slot = (Slot *)unary;
    DendriteCall *call = slot->call;
    Dendrite *dendrite = call->dendrite;
    Link *link = link_of(slot);
    DendriteFailure kind = DENDRITE_REFUSED;
    Error why = {0};
    uint64_t now = clock_now(dendrite->clock);
    size_t most = 2 * call->answer_bytes + MESSAGE_HEADER_SIZE; /* as doubles */
    bool came = answer_came(unary, most, &kind, &why);
    pthread_mutex_lock(&dendrite->lock);
    link->stats.bytes_in += unary_response_bytes(unary);
    slot->latency_ns = now - call->begun;
    if (came && slot->state == SLOT_PENDING) {
        link_heard(link, slot->ticket);
        slot->channel->suspect = false;
        slot->state = SLOT_DONE;
        call->pending--;
        pthread_cond_broadcast(&dendrite->changed);
        leave_grpc(slot);
        end_and_unlock(call);
        return;
    }
    if (!came && slot->state == SLOT_PENDING &&
        link_should_retry(link, slot->ticket, kind, slot->retried, time_left(call, now)) && connection_broke(slot)) {
        retry_and_unlock(slot, now);
        return;
    }
    note_probe(slot, came, kind, &why, now);
    fail(slot, kind, &why, now);
    pthread_mutex_unlock(&dendrite->lock);
    unary_clear(unary);
    pthread_mutex_lock(&dendrite->lock);
    end_and_unlock(call);
}

/* --- asking --- */

static void ask_peer(DendriteCall *call, Slot *slot)
{
    Dendrite *dendrite = call->dendrite;
    DendriteFailure kind;
    Error why = {0};
    uint64_t now = clock_now(dendrite->clock);
    slot->call = call;
    slot->unary.done = on_answer;
    pthread_mutex_lock(&dendrite->lock);
    grpc_byte_buffer *request = prepare(slot, now, &kind, &why);
    if (!request) link_count_failure(link_of(slot), PEER_FORWARD, kind, &why);
    pthread_mutex_unlock(&dendrite->lock);
    if (!request || start(slot, request, &why) == STATUS_OK) return;
    pthread_mutex_lock(&dendrite->lock);
    fail(slot, DENDRITE_REFUSED, &why, now);
    end_and_unlock(call);
}

Status dendrite_forward(Dendrite *dendrite, Tensor *input, Modality modality, DendriteCall **out, Error *error)
{
    DendriteCall *call = NULL;
    Status status = input_check(input, modality, dendrite->max_message_bytes, error);
    if (status == STATUS_OK) status = create_call(dendrite, input, modality, &call, error);
    if (status != STATUS_OK) {
        tensor_destroy(input);
        return status;
    }
    for (size_t i = 0; i < dendrite->count; i++)
        ask_peer(call, &call->slots[i]);
    *out = call;
    return STATUS_OK;
}

/* --- the answers --- */

/* Takes the lock only to note the result. */
static bool read_slot(DendriteCall *call, Slot *slot, float *out)
{
    Dendrite *dendrite = call->dendrite;
    Link *link = link_of(slot);
    DendriteFailure kind = DENDRITE_MALFORMED;
    Error why = {0};
    char key[KEY_SIZE];
    bool good = answer_read(&slot->unary, call->answer_shape, out, key, &kind, &why);
    if (good) slot->has_version = unary_number(&slot->unary, METADATA_WEIGHTS_VERSION, &slot->version);
    if (good && slot->latency_ns > call->latency_ns) call->latency_ns = slot->latency_ns;
    unary_clear(&slot->unary);
    pthread_mutex_lock(&dendrite->lock);
    leave_memory(slot);
    if (good)
        link_count_answer(link, PEER_FORWARD, slot->latency_ns, slot->ticket.generation == link->generation ? key : "");
    else
        link_count_failure(link, PEER_FORWARD, kind, &why);
    pthread_mutex_unlock(&dendrite->lock);
    return good;
}

/* With the lock held: whether an answer is still worth waiting for. Not that of a probe, nor of a peer that was left
 * alone since it was asked: a peer that hangs must not cost more than the deadlines that found it out. */
static bool is_awaited(const Slot *slot)
{
    bool pending = slot->state == SLOT_PENDING || slot->state == SLOT_RETRYING;
    return pending && !slot->ticket.probe && !link_of(slot)->left_alone;
}

static bool any_awaited(const DendriteCall *call)
{
    for (size_t i = 0; i < call->dendrite->count && call->pending; i++)
        if (is_awaited(&call->slots[i])) return true;
    return false;
}

/* With the lock held: waits until a slot is done, and takes it. NULL when no more are awaited, or the deadline has
 * passed. */
static Slot *take_done(DendriteCall *call)
{
    Dendrite *dendrite = call->dendrite;
    bool late = false;
    for (;;) {
        for (size_t i = 0; i < dendrite->count; i++)
            if (call->slots[i].state == SLOT_DONE) {
                call->slots[i].state = SLOT_TAKEN;
                return &call->slots[i];
            }
        if (late || !any_awaited(call)) return NULL;
        late = pthread_cond_timedwait(&dendrite->changed, &dendrite->lock, &call->deadline) == ETIMEDOUT;
    }
}

/* With the lock held. Whether it counts as a failure of the peers is the caller's to say. */
static void abandon_pending(DendriteCall *call, bool count_timeouts)
{
    Dendrite *dendrite = call->dendrite;
    Error why = {0};
    uint64_t now = clock_now(dendrite->clock);
    for (size_t i = 0; i < dendrite->count; i++) {
        Slot *slot = &call->slots[i];
        Link *link = &dendrite->links[i];
        if (slot->state != SLOT_PENDING && slot->state != SLOT_RETRYING) continue;
        call->pending--;
        if (slot->ticket.probe && slot->ticket.generation == link->generation) {
            slot->state = SLOT_ABANDONED;
            link->unattended = slot; /* goes on until it knows */
            continue;
        }
        if (slot->state == SLOT_PENDING) unary_cancel(&slot->unary);
        slot->state = SLOT_ABANDONED;
        if (!count_timeouts) {
            link_unknown(link, slot->ticket);
            continue;
        }
        slot->channel->suspect = true;
        error_set(&why, STATUS_DEADLINE_EXCEEDED, "no answer within %.3f s", clock_seconds(dendrite->deadline_ns));
        link_failed(link, slot->ticket, PEER_FORWARD, DENDRITE_TIMEOUT, &why, now, &dendrite->jitter);
    }
}

bool dendrite_settled(const DendriteCall *call)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    bool late = now.tv_sec != call->deadline.tv_sec ? now.tv_sec > call->deadline.tv_sec
                                                    : now.tv_nsec >= call->deadline.tv_nsec;
    pthread_mutex_lock(&call->dendrite->lock);
    bool settled = late || !any_awaited(call);
    pthread_mutex_unlock(&call->dendrite->lock);
    return settled;
}

size_t dendrite_wait(DendriteCall *call, float *answers, uint8_t *arrived)
{
    Dendrite *dendrite = call->dendrite;
    size_t good = 0, row = call->answer_bytes / sizeof *answers;
    Slot *slot;
    memset(arrived, 0, dendrite->count);
    pthread_mutex_lock(&dendrite->lock);
    while ((slot = take_done(call)) != NULL) {
        size_t peer = (size_t)(slot - call->slots);
        pthread_mutex_unlock(&dendrite->lock);
        arrived[peer] = read_slot(call, slot, answers + peer * row);
        good += arrived[peer];
        pthread_mutex_lock(&dendrite->lock);
    }
    abandon_pending(call, true);
    pthread_mutex_unlock(&dendrite->lock);
    for (size_t peer = 0; peer < dendrite->count; peer++)
        if (!arrived[peer]) memset(answers + peer * row, 0, row * sizeof *answers);
    return good;
}

uint64_t dendrite_call_latency(const DendriteCall *call)
{
    return call->latency_ns;
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
            leave_memory(&call->slots[i]);
        }
    bool last = call_unref(call);
    pthread_mutex_unlock(&dendrite->lock);
    if (last) call_free(call);
}
