#include "neuron/ask.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

static const size_t default_memory = (size_t)512 << 20, burst_bytes = (size_t)4 << 20;
static const uint64_t default_deadline = 1000000000;
static const uint64_t poll_interval = 200000; /* ns, while the first answer is awaited */

/* What is known of a peer's refusals. */
typedef struct PeerNotes {
    uint64_t refusals; /* for lack of room, so far */
    uint64_t answered; /* the batch that it answered last, counted from 1; 0: none */
} PeerNotes;

struct Asker {
    AskerOptions options;
    Ahead ahead;
    AskedBatch **ring; /* those on their way: `count` from `head` on */
    size_t capacity, head, count;
    AskedBatch *spare; /* one that was done with, to be filled again */
    PeerNotes *peers;
    int64_t left;                       /* batches that may still be begun */
    uint64_t taken, last_taken, waited; /* batches; ns; ns */
    Error failure;                      /* of sending while waiting */
};

/* --- making one --- */

/* Bytes of a batch on its way: its input and the answers; and as much again for its Backward, which is on its way as
 * long. */
static size_t batch_bytes(const AskerOptions *o)
{
    size_t rows = (size_t)o->batch * (o->loaders[1] != NULL ? 2 : 1);
    size_t input = (size_t)(o->rows * o->columns) * sizeof(float);
    return 2 * rows * (input + dendrite_count(o->dendrite) * NETWORK_DIM * sizeof(float));
}

Status asker_create(const AskerOptions *options, Asker **out, Error *error)
{
    Asker *asker = calloc(1, sizeof *asker);
    size_t peers = options->dendrite != NULL ? dendrite_count(options->dendrite) : 0;
    PeerNotes *notes = calloc(peers + 1, sizeof *notes);
    if (asker == NULL || notes == NULL) {
        free(asker);
        free(notes);
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to ask %zu peers", peers);
    }
    asker->options = *options;
    asker->peers = notes;
    asker->left = INT64_MAX;
    if (asker->options.deadline_ns == 0) asker->options.deadline_ns = default_deadline;
    size_t memory = options->memory_bytes > 0 ? options->memory_bytes : default_memory;
    AheadOptions ahead = {.fixed = options->ahead, .most = 1};
    if (options->dendrite != NULL) {
        ahead.most = memory / batch_bytes(options);
        ahead.burst = 1 + burst_bytes / batch_bytes(options);
    }
    asker->ahead = ahead_make(ahead);
    *out = asker;
    return STATUS_OK;
}

static void free_batch(AskedBatch *batch)
{
    if (batch == NULL) return;
    dendrite_release(batch->call);
    tensor_destroy(&batch->input);
    free(batch->labels);
    free(batch);
}

void asker_destroy(Asker *asker)
{
    if (asker == NULL) return;
    for (size_t i = 0; i < asker->count; i++)
        free_batch(asker->ring[(asker->head + i) % asker->capacity]);
    free_batch(asker->spare);
    free(asker->ring);
    free(asker->peers);
    free(asker);
}

void asker_limit(Asker *asker, int64_t batches)
{
    asker->left = batches - (int64_t)asker->count;
}

/* --- batches out --- */

static Status make_batch(Asker *asker, AskedBatch **out, Error *error)
{
    const AskerOptions *o = &asker->options;
    int64_t rows = o->batch * (o->loaders[1] != NULL ? 2 : 1);
    AskedBatch *batch = asker->spare;
    asker->spare = NULL;
    if (batch == NULL) batch = calloc(1, sizeof *batch);
    if (batch != NULL && batch->labels == NULL) batch->labels = calloc((size_t)rows, sizeof *batch->labels);
    Status status = STATUS_OK;
    if (batch == NULL || batch->labels == NULL)
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a batch of %ld images", (long)rows);
    else if (batch->input.data == NULL)
        status = tensor_create(DTYPE_F32, shape_of(rows, 1, 1, o->rows, o->columns), &batch->input, error);
    if (status == STATUS_OK)
        *out = batch;
    else
        free_batch(batch);
    return status;
}

static void fill(Asker *asker, AskedBatch *batch)
{
    const AskerOptions *o = &asker->options;
    float *images = batch->input.data;
    batch->rows = batch->first = 0;
    for (int i = 0; i < ASK_LOADERS && o->loaders[i] != NULL; i++) {
        int64_t count;
        batch->before[i] = loader_position(o->loaders[i]);
        loader_next(o->loaders[i], images + batch->rows * o->rows * o->columns, batch->labels + batch->rows, &count);
        if (i == 0) batch->first = count;
        batch->rows += count;
    }
    batch->images = images;
}

static Status send(Asker *asker, AskedBatch *batch, Error *error)
{
    Tensor *input = &batch->input;
    if (asker->options.dendrite == NULL) return STATUS_OK;
    /* A last batch of an epoch fills less than the memory that was made for it. */
    input->shape.dims[0] = batch->rows;
    input->size = (size_t)shape_count(input->shape) * sizeof(float);
    batch->sent = clock_now(clock_monotonic());
    RETURN_IF_ERROR(dendrite_forward(asker->options.dendrite, input, MODALITY_IMAGE, &batch->call, error));
    batch->images = dendrite_input(batch->call)->data;
    return STATUS_OK;
}

static Status reserve(Asker *asker, Error *error)
{
    if (asker->count < asker->capacity) return STATUS_OK;
    size_t capacity = 2 * asker->capacity + 2;
    AskedBatch **ring = calloc(capacity, sizeof(AskedBatch *));
    if (ring == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %zu batches ahead", capacity);
    for (size_t i = 0; i < asker->count; i++)
        ring[i] = asker->ring[(asker->head + i) % asker->capacity];
    free(asker->ring);
    asker->ring = ring;
    asker->capacity = capacity;
    asker->head = 0;
    return STATUS_OK;
}

/* Fills one more batch, and asks about it. */
static Status begin(Asker *asker, Error *error)
{
    AskedBatch *batch = NULL;
    RETURN_IF_ERROR(reserve(asker, error));
    RETURN_IF_ERROR(make_batch(asker, &batch, error));
    fill(asker, batch);
    Status status = send(asker, batch, error);
    if (status != STATUS_OK) {
        free_batch(batch);
        return status;
    }
    asker->ring[(asker->head + asker->count++) % asker->capacity] = batch;
    asker->left--;
    return STATUS_OK;
}

static Status begin_up_to(Asker *asker, size_t count, Error *error)
{
    while (asker->count < count && asker->left > 0)
        RETURN_IF_ERROR(begin(asker, error));
    return STATUS_OK;
}

Status asker_next(Asker *asker, AskedBatch **out, Error *error)
{
    *out = NULL;
    if (asker->failure.status != STATUS_OK) {
        if (error != NULL) *error = asker->failure;
        return asker->failure.status;
    }
    size_t ahead = asker->options.dendrite != NULL ? ahead_depth(&asker->ahead) : 0;
    RETURN_IF_ERROR(begin_up_to(asker, ahead + 1, error));
    if (asker->count == 0) return STATUS_OK;
    *out = asker->ring[asker->head];
    asker->head = (asker->head + 1) % asker->capacity;
    asker->count--;
    return STATUS_OK;
}

/* --- answers in --- */

/* Refusals for lack of room, of one peer: its queue's or our own memory's. Others say nothing about the depth. */
static uint64_t refusals(Dendrite *dendrite, size_t peer)
{
    DendriteStats stats;
    Error last = {0};
    dendrite_stats(dendrite, peer, &stats);
    uint64_t full = stats.forward_failures[DENDRITE_NO_ROOM];
    if (dendrite_last_failure(dendrite, peer, &last) == STATUS_RESOURCE_EXHAUSTED)
        full += stats.forward_failures[DENDRITE_REFUSED];
    return full;
}

/* Whether a peer that has answered lately refused for lack of room. One that refuses everything would do so at any
 * depth. */
static bool was_refused(Asker *asker, const uint8_t *arrived)
{
    bool refused = false;
    for (size_t i = 0; i < dendrite_count(asker->options.dendrite); i++) {
        PeerNotes *notes = &asker->peers[i];
        if (arrived[i]) {
            notes->answered = asker->taken;
            continue;
        }
        uint64_t before = notes->refusals;
        notes->refusals = refusals(asker->options.dendrite, i);
        if (notes->refusals <= before || notes->answered == 0) continue;
        refused |= asker->taken - notes->answered <= 2 * ahead_depth(&asker->ahead);
    }
    return refused;
}

/* While nothing is known of the latency: sends ahead what would have been sent if steps were made meanwhile. */
static void send_while_waiting(Asker *asker, const AskedBatch *batch, uint64_t begun)
{
    const struct timespec pause = {.tv_nsec = (long)poll_interval};
    while (!dendrite_settled(batch->call)) {
        uint64_t now = clock_now(clock_monotonic());
        if (now - batch->sent >= asker->options.deadline_ns || !ahead_wait(&asker->ahead, now - begun)) return;
        if (begin_up_to(asker, ahead_depth(&asker->ahead), &asker->failure) != STATUS_OK) return;
        nanosleep(&pause, NULL);
    }
}

size_t asker_wait(Asker *asker, AskedBatch *batch, float *answers, uint8_t *arrived)
{
    if (batch->call == NULL) return 0;
    uint64_t begun = clock_now(clock_monotonic());
    send_while_waiting(asker, batch, begun);
    size_t came = dendrite_wait(batch->call, answers, arrived);
    uint64_t now = clock_now(clock_monotonic());
    asker->taken++;
    AheadStep step = {.interval_ns = asker->last_taken > 0 ? now - asker->last_taken : 0,
                      .waited_ns = now - begun,
                      .latency_ns = dendrite_call_latency(batch->call),
                      .refused = was_refused(asker, arrived)};
    ahead_step(&asker->ahead, &step);
    asker->waited += step.waited_ns;
    asker->last_taken = now;
    return came;
}

void asker_done(Asker *asker, AskedBatch *batch)
{
    dendrite_release(batch->call);
    batch->call = NULL;
    if (asker->spare == NULL)
        asker->spare = batch;
    else
        free_batch(batch);
}

LoaderPosition asker_position(const Asker *asker, int loader)
{
    return asker->count > 0 ? asker->ring[asker->head]->before[loader]
                            : loader_position(asker->options.loaders[loader]);
}

size_t asker_ahead(const Asker *asker)
{
    return asker->count;
}

uint64_t asker_waited(const Asker *asker)
{
    return asker->waited;
}

/* --- for an evaluation --- */

size_t asker_evaluate(void *context, const float *images, int64_t count, float *answers, uint8_t *arrived)
{
    Asker *asker = context;
    AskedBatch *batch = NULL;
    Error error = {0};
    size_t came = 0;
    (void)images; /* sent already */
    memset(arrived, 0, dendrite_count(asker->options.dendrite));
    if (asker_next(asker, &batch, &error) != STATUS_OK)
        log_warning("can't ask the peers: %s", error.message);
    else if (batch != NULL && batch->rows == count)
        came = asker_wait(asker, batch, answers, arrived);
    if (batch != NULL) asker_done(asker, batch);
    return came;
}
