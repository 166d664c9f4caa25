/* A run is made of lanes: a thread with a completion queue, and its part of the clients, the connections and the rate.
 * In a closed loop a client's next call starts where its last one ended, on the lane's thread, and nothing is shared;
 * in an open loop a second thread sends when calls are due, and takes clients that have none out from a list. */
#include "dendrite/load.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <math.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "dendrite/load_answer.h"

static const uint64_t NAP = 100000000;           /* ns between two looks at `stop` */
static const uint64_t CONNECT_NS = 20000000000u; /* for a connection where calls have no deadline */

typedef struct Load {
    LoadOptions options;
    grpc_byte_buffer **requests;         /* one a case */
    uint64_t sent_bytes, received_bytes; /* of the tensors of an average call */
    uint64_t begin, warm, end;
} Load;

typedef struct Lane Lane;

typedef struct Client {
    UnaryCall unary; /* first, so that a unary call is its client */
    Lane *lane;
    size_t channel, which; /* of the lane's channels; of the cases */
    uint64_t due;
    struct Client *next; /* without a call */
} Client;

struct Lane {
    const Load *load;
    size_t client_count, channel_count;
    double rate;
    Rng gaps; /* the sender's */
    grpc_completion_queue *queue;
    grpc_channel **channels;
    void **methods;
    Client *clients;
    pthread_t thread;
    bool running;

    pthread_mutex_t lock; /* guards the next four */
    pthread_cond_t freed;
    Client *idle;
    size_t users, next_case; /* calls out, and who may still start some; the last to leave closes the queue */

    LoadResult result;    /* its failures: guarded too; the rest is the lane's thread's */
    uint64_t unsent;      /* the sender's */
    uint64_t first, last; /* when the time that counts begins and ends */
};

static uint64_t now_ns(void)
{
    return clock_now(clock_monotonic());
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

static bool stopped(const Lane *lane)
{
    bool (*stop)(void) = lane->load->options.stop;
    return stop != NULL && stop();
}

static bool over(const Lane *lane, uint64_t now)
{
    return now >= lane->load->end || stopped(lane);
}

/* --- one call --- */

static void count_failure(Lane *lane, bool wrong, const Error *why)
{
    pthread_mutex_lock(&lane->lock);
    LoadResult *result = &lane->result;
    if (result->first.status == STATUS_OK) result->first = *why;
    if (wrong)
        result->wrong++;
    else
        result->failures[why->status]++;
    pthread_mutex_unlock(&lane->lock);
}

static void count_answer(Lane *lane, const Client *client, uint64_t now)
{
    const Load *load = lane->load;
    bool open = load->options.rate > 0;
    uint64_t counts_by = open ? client->due : now;
    lane->result.answered++;
    if (counts_by >= load->warm && counts_by < load->end) histogram_add(&lane->result.latency, now - client->due);
    if (now < load->warm) {
        lane->first = now;
    } else if (now < load->end) {
        lane->result.calls++;
        lane->last = now;
    }
}

/* One who may start calls has gone: a call that is over, or the one who starts them. */
static void leave(Lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    bool last = --lane->users == 0;
    pthread_mutex_unlock(&lane->lock);
    if (last) grpc_completion_queue_shutdown(lane->queue);
}

static void put_back(Client *client)
{
    Lane *lane = client->lane;
    pthread_mutex_lock(&lane->lock);
    client->next = lane->idle;
    lane->idle = client;
    pthread_cond_signal(&lane->freed);
    pthread_mutex_unlock(&lane->lock);
    leave(lane);
}

static void on_done(UnaryCall *unary);

static void start_call(Client *client)
{
    Lane *lane = client->lane;
    const LoadOptions *options = &lane->load->options;
    Error error = {0};
    gpr_timespec deadline =
        options->deadline_ns > 0 ? rpc_deadline_after(options->deadline_ns) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
    client->unary.done = on_done;
    client->unary.owner = client;
    grpc_byte_buffer *request = grpc_byte_buffer_copy(lane->load->requests[client->which]);
    if (unary_start(&client->unary, lane->channels[client->channel], lane->queue, lane->methods[client->channel],
                    request, deadline, &error) == STATUS_OK)
        return;
    count_failure(lane, false, &error);
    put_back(client);
}

static void on_done(UnaryCall *unary)
{
    Client *client = unary->owner;
    Lane *lane = client->lane;
    const LoadOptions *options = &lane->load->options;
    uint64_t now = now_ns();
    Error error = {0};
    bool failed = unary_status(unary, &error) != STATUS_OK;
    if (!failed && load_answer_check(unary, &options->cases[client->which], options->tolerance, &error))
        count_answer(lane, client, now);
    else
        count_failure(lane, !failed, &error);
    unary_clear(unary);
    if (options->rate > 0 || over(lane, now)) {
        put_back(client);
        return;
    }
    client->which = (client->which + lane->client_count) % options->case_count;
    client->due = now_ns();
    start_call(client);
}

/* --- when to call --- */

static void start_clients(Lane *lane)
{
    for (size_t i = 0; i < lane->client_count; i++) {
        Client *client = &lane->clients[i];
        pthread_mutex_lock(&lane->lock);
        lane->users++;
        pthread_mutex_unlock(&lane->lock);
        client->due = now_ns();
        start_call(client);
    }
}

/* False when the run was stopped before. */
static bool wait_until(const Lane *lane, uint64_t due)
{
    for (uint64_t now = now_ns(); now < due; now = now_ns()) {
        struct timespec until = timespec_of(due - now > NAP ? now + NAP : due);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        if (stopped(lane)) return false;
    }
    return true;
}

/* A client without a call out, and with a case to ask; NULL when there was none until the end. */
static Client *take_client(Lane *lane)
{
    struct timespec end = timespec_of(lane->load->end);
    pthread_mutex_lock(&lane->lock);
    int failure = 0;
    while (lane->idle == NULL && failure != ETIMEDOUT)
        failure = pthread_cond_timedwait(&lane->freed, &lane->lock, &end);
    Client *client = lane->idle;
    if (client != NULL) {
        lane->idle = client->next;
        lane->users++;
        client->which = lane->next_case++ % lane->load->options.case_count;
    }
    pthread_mutex_unlock(&lane->lock);
    return client;
}

static void *send_when_due(void *argument)
{
    Lane *lane = argument;
    const Load *load = lane->load;
    double due = (double)load->begin;
    prctl(PR_SET_TIMERSLACK, 1UL); /* wake in time, not up to 50 us later */
    for (;;) {
        due += -log1p(-rng_uniform(&lane->gaps)) / lane->rate * 1e9;
        if (due >= (double)load->end || !wait_until(lane, (uint64_t)due)) break;
        Client *client = take_client(lane);
        if (client == NULL) {
            lane->unsent++; /* and so are the others that were due: the end has come */
            continue;
        }
        client->due = (uint64_t)due;
        start_call(client);
    }
    leave(lane);
    return NULL;
}

static void *run_lane(void *argument)
{
    Lane *lane = argument;
    pthread_t sender;
    Error error = {0};
    bool open = lane->rate > 0;
    if (!open) {
        start_clients(lane);
        leave(lane);
    } else if (rpc_thread_start(&sender, send_when_due, lane, "load-sender", &error) != STATUS_OK) {
        count_failure(lane, false, &error);
        open = false;
        leave(lane);
    }
    rpc_run(lane->queue);
    if (open) pthread_join(sender, NULL);
    return NULL;
}

/* --- lanes --- */

static size_t part(size_t total, size_t lanes, size_t index)
{
    return total / lanes + (index < total % lanes);
}

static Status open_lane(Lane *lane, const Load *load, size_t lanes, size_t index, Error *error)
{
    const LoadOptions *o = &load->options;
    pthread_condattr_t monotonic;
    lane->load = load;
    lane->client_count = part(o->concurrency, lanes, index);
    lane->channel_count = part(o->channels, lanes, index);
    if (lane->channel_count == 0) lane->channel_count = 1;
    lane->rate = o->rate / (double)lanes;
    lane->gaps = rng_make(o->seed + index, RNG_STREAM_BENCH);
    lane->users = 1;
    lane->first = load->warm;
    pthread_mutex_init(&lane->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lane->freed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    lane->queue = grpc_completion_queue_create_for_next(NULL);
    lane->channels = calloc(lane->channel_count, sizeof *lane->channels);
    lane->methods = calloc(lane->channel_count, sizeof *lane->methods);
    lane->clients = calloc(lane->client_count, sizeof *lane->clients);
    if (lane->channels == NULL || lane->methods == NULL || lane->clients == NULL)
        return error_set_errno(error, ENOMEM, "%zu clients", lane->client_count);
    const char *method = o->cases[0].gradient != NULL ? "/Bittensor/Backward" : "/Bittensor/Forward";
    for (size_t i = 0; i < lane->channel_count; i++) {
        lane->channels[i] =
            unary_channel(o->peer.address, o->max_message_bytes, o->deadline_ns > 0 ? o->deadline_ns : CONNECT_NS);
        lane->methods[i] = grpc_channel_register_call(lane->channels[i], method, NULL, NULL);
    }
    for (size_t i = 0; i < lane->client_count; i++) {
        lane->clients[i] =
            (Client){.lane = lane, .channel = i % lane->channel_count, .which = i % o->case_count, .next = lane->idle};
        lane->idle = &lane->clients[i];
    }
    return STATUS_OK;
}

static void close_lane(Lane *lane)
{
    if (lane->load == NULL) return;
    if (lane->running)
        pthread_join(lane->thread, NULL);
    else
        leave(lane);
    for (size_t i = 0; lane->channels != NULL && i < lane->channel_count; i++)
        if (lane->channels[i] != NULL) grpc_channel_destroy(lane->channels[i]);
    if (!lane->running) rpc_run(lane->queue);
    grpc_completion_queue_destroy(lane->queue);
    free(lane->channels);
    free(lane->methods);
    free(lane->clients);
    pthread_cond_destroy(&lane->freed);
    pthread_mutex_destroy(&lane->lock);
}

static Status run_lanes(Load *load, Lane *lanes, size_t count, Error *error)
{
    Status status = STATUS_OK;
    load->begin = now_ns();
    load->warm = load->begin + load->options.warm_ns;
    load->end = load->warm + load->options.duration_ns;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = open_lane(&lanes[i], load, count, i, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = rpc_thread_start(&lanes[i].thread, run_lane, &lanes[i], "load", error);
        lanes[i].running = status == STATUS_OK;
    }
    for (size_t i = 0; i < count; i++)
        close_lane(&lanes[i]);
    return status;
}

static void sum_up(const Load *load, const Lane *lanes, size_t count, LoadResult *out)
{
    uint64_t first = load->end, last = 0;
    for (size_t i = 0; i < count; i++) {
        const LoadResult *result = &lanes[i].result;
        out->calls += result->calls;
        out->answered += result->answered;
        out->wrong += result->wrong;
        out->unsent += lanes[i].unsent;
        for (size_t s = 0; s < sizeof out->failures / sizeof *out->failures; s++)
            out->failures[s] += result->failures[s];
        histogram_merge(&out->latency, &result->latency);
        if (out->first.status == STATUS_OK) out->first = result->first;
        if (lanes[i].first < first) first = lanes[i].first;
        if (lanes[i].last > last) last = lanes[i].last;
    }
    if (last <= first) return;
    out->seconds = clock_seconds(last - first);
    out->calls_per_second = (double)out->calls / out->seconds;
    out->megabytes_per_second_sent = 1e-6 * (double)load->sent_bytes * out->calls_per_second;
    out->megabytes_per_second_received = 1e-6 * (double)load->received_bytes * out->calls_per_second;
}

/* --- requests --- */

/* The tensors are copied once: gRPC may hold on to them for a moment after the last call. */
static Status make_payload(const Tensor *tensor, grpc_slice *out, Error *error)
{
    Tensor copy;
    RETURN_IF_ERROR(tensor_copy(tensor, &copy, error));
    return rpc_payload(&copy, out, error);
}

static Status make_request(const LoadOptions *o, const LoadCase *item, grpc_byte_buffer **out, Error *error)
{
    MessageTensor tensors[2] = {{item->input, o->modality}, {item->gradient, MODALITY_TENSOR}};
    size_t count = item->gradient != NULL ? 2 : 1;
    grpc_slice payloads[2] = {grpc_empty_slice(), grpc_empty_slice()};
    EncodedMessage encoded;
    Status status;
    GOTO_IF_ERROR(message_encode(o->neuron_key != NULL ? o->neuron_key : "", o->peer.synapse_key, tensors, count,
                                 o->max_message_bytes, &encoded, error),
                  done);
    for (size_t i = 0; i < count; i++)
        GOTO_IF_ERROR(make_payload(tensors[i].tensor, &payloads[i], error), done);
    *out = rpc_message(&encoded, payloads);
done:
    for (size_t i = 0; i < 2; i++)
        grpc_slice_unref(payloads[i]);
    return status;
}

static Status make_requests(Load *load, Error *error)
{
    const LoadOptions *o = &load->options;
    load->requests = calloc(o->case_count, sizeof *load->requests);
    if (load->requests == NULL) return error_set_errno(error, ENOMEM, "%zu requests", o->case_count);
    for (size_t i = 0; i < o->case_count; i++) {
        const LoadCase *item = &o->cases[i];
        RETURN_IF_ERROR(make_request(o, item, &load->requests[i], error));
        load->sent_bytes += item->input->size + (item->gradient != NULL ? item->gradient->size : 0);
        load->received_bytes += (uint64_t)shape_count(item->answer) * sizeof(float);
    }
    load->sent_bytes /= o->case_count;
    load->received_bytes /= o->case_count;
    return STATUS_OK;
}

static void set_defaults(LoadOptions *o)
{
    if (o->concurrency == 0) o->concurrency = 1;
    if (o->channels == 0) o->channels = 1;
    if (o->threads == 0) o->threads = 1;
    if (o->threads > o->concurrency) o->threads = o->concurrency;
    if (o->max_message_bytes == 0) o->max_message_bytes = RPC_MESSAGE_BYTES;
}

Status load_run(const LoadOptions *options, LoadResult *out, Error *error)
{
    Load load = {.options = *options};
    Lane *lanes = NULL;
    Status status;
    *out = (LoadResult){0};
    set_defaults(&load.options);
    rpc_start();
    GOTO_IF_ERROR(make_requests(&load, error), done);
    lanes = calloc(load.options.threads, sizeof *lanes);
    status = lanes != NULL ? STATUS_OK : error_set_errno(error, ENOMEM, "%zu threads", load.options.threads);
    if (status == STATUS_OK) status = run_lanes(&load, lanes, load.options.threads, error);
    if (status == STATUS_OK) sum_up(&load, lanes, load.options.threads, out);
done:
    for (size_t i = 0; load.requests != NULL && i < load.options.case_count; i++)
        if (load.requests[i] != NULL) grpc_byte_buffer_destroy(load.requests[i]);
    free(load.requests);
    free(lanes);
    rpc_stop();
    return status;
}

uint64_t load_failed(const LoadResult *result)
{
    uint64_t failed = result->wrong;
    for (size_t s = 0; s < sizeof result->failures / sizeof *result->failures; s++)
        failed += result->failures[s];
    return failed;
}
