#include "neuron/report.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct Report {
    char neuron_key[KEY_SIZE]; /* constant */
    size_t max_message_bytes;  /* constant */

    pthread_mutex_t lock; /* guards what follows */
    ReportSources sources;
    char synapse_key[KEY_SIZE];
};

/* protobuf-c's strings are char * even where they are only read. */
static char *constant(const char *text)
{
    return (char *)(uintptr_t)text;
}

Status report_create(const char *neuron_key, size_t max_message_bytes, Report **out, Error *error)
{
    RETURN_IF_ERROR(key_check("neuron key", neuron_key, strlen(neuron_key), error));
    Report *report = calloc(1, sizeof *report);
    if (report == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a report");
    strcpy(report->neuron_key, neuron_key); /* key_check knows its length */
    report->max_message_bytes = max_message_bytes;
    pthread_mutex_init(&report->lock, NULL);
    *out = report;
    return STATUS_OK;
}

void report_destroy(Report *report)
{
    if (report == NULL) return;
    pthread_mutex_destroy(&report->lock);
    free(report);
}

void report_about(Report *report, const ReportSources *sources)
{
    pthread_mutex_lock(&report->lock);
    report->sources = *sources;
    report->synapse_key[0] = '\0';
    if (sources->synapse_key != NULL && strlen(sources->synapse_key) < KEY_SIZE)
        strcpy(report->synapse_key, sources->synapse_key);
    report->sources.synapse_key = report->synapse_key;
    pthread_mutex_unlock(&report->lock);
}

/* --- what was counted, as messages --- */

enum { STATUSES = STATUS_UNAUTHENTICATED + 1, MOST_COUNTS = STATUSES };
_Static_assert((int)DENDRITE_FAILURES <= (int)MOST_COUNTS, "more failures than a list has room for");
_Static_assert((int)GRADIENT_REFUSALS <= (int)MOST_COUNTS, "more refusals than a list has room for");
_Static_assert((int)BATCH_CLOSINGS <= (int)MOST_COUNTS, "more closings than a list has room for");

/* Counts by name; those that are 0 are left out. */
typedef struct Counts {
    Neuron__Count items[MOST_COUNTS], *list[MOST_COUNTS];
    size_t count;
} Counts;

static void count(Counts *counts, const char *name, uint64_t number)
{
    if (number == 0) return;
    Neuron__Count *item = &counts->items[counts->count];
    neuron__count__init(item);
    item->name = constant(name);
    item->count = number;
    counts->list[counts->count++] = item;
}

/* A peer's message, and all that it points at. */
typedef struct PeerPart {
    Neuron__PeerReport message;
    DendriteStats stats;
    Counts forward_failures, backward_failures;
    Error last;
} PeerPart;

static void fill_peer(PeerPart *part, Dendrite *dendrite, size_t index)
{
    Neuron__PeerReport *m = &part->message;
    const DendriteStats *s = &part->stats;
    dendrite_stats(dendrite, index, &part->stats);
    dendrite_last_failure(dendrite, index, &part->last);
    for (int kind = 0; kind < DENDRITE_FAILURES; kind++) {
        const char *name = dendrite_failure_name((DendriteFailure)kind);
        count(&part->forward_failures, name, s->forward_failures[kind]);
        count(&part->backward_failures, name, s->backward_failures[kind]);
    }
    neuron__peer_report__init(m);
    m->address = constant(s->peer.address);
    m->synapse_key = constant(s->peer.synapse_key);
    m->neuron_key = constant(s->neuron_key);
    m->state = constant(dendrite_state_name(s->state));
    m->forwards = s->forwards;
    m->backwards = s->backwards;
    m->n_forward_failures = part->forward_failures.count;
    m->forward_failures = part->forward_failures.list;
    m->n_backward_failures = part->backward_failures.count;
    m->backward_failures = part->backward_failures.list;
    m->backward_dropped = s->backward_dropped;
    m->retries = s->retries;
    m->bytes_out = s->bytes_out;
    m->bytes_in = s->bytes_in;
    m->latency_p50_ns = s->latency_p50_ns;
    m->latency_p99_ns = s->latency_p99_ns;
    m->in_flight = s->in_flight;
    m->last_failure = part->last.message;
}

typedef struct ServingPart {
    Neuron__ServingReport message;
    Counts failures, closed, refused;
} ServingPart;

static void fill_serving(ServingPart *part, const ReportSources *sources)
{
    Neuron__ServingReport *m = &part->message;
    AxonCounters c;
    GradientCounts gradients = {0};
    axon_counters(sources->axon, &c);
    if (sources->server != NULL) server_gradient_counts(sources->server, &gradients);
    for (int status = 0; status < STATUSES; status++)
        count(&part->failures, status_name((Status)status), c.failures[status]);
    for (int why = 0; why < BATCH_CLOSINGS; why++)
        count(&part->closed, batch_closing_name((BatchClosing)why), c.batches[why]);
    for (int why = 0; why < GRADIENT_REFUSALS; why++)
        count(&part->refused, gradient_refusal_name((GradientRefusal)why), gradients.refused[why]);
    neuron__serving_report__init(m);
    m->calls = c.calls;
    m->forwards = c.forwards;
    m->backwards = c.backwards;
    m->n_failures = part->failures.count;
    m->failures = part->failures.list;
    m->bytes_in = c.bytes_in;
    m->bytes_out = c.bytes_out;
    for (int why = 0; why < BATCH_CLOSINGS; why++)
        m->batches += c.batches[why];
    m->batched_calls = c.batched_calls;
    m->n_batches_closed = part->closed.count;
    m->batches_closed = part->closed.list;
    m->waiting = c.waiting;
    m->weights_version = gradients.version;
    m->gradients_learnt = gradients.learnt;
    m->n_gradients_refused = part->refused.count;
    m->gradients_refused = part->refused.list;
}

static Status pack(const ProtobufCMessage *message, uint8_t **out, size_t *size, Error *error)
{
    *size = protobuf_c_message_get_packed_size(message);
    *out = malloc(*size + 1); /* of no bytes as well */
    if (*out == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a report of %zu bytes", *size);
    protobuf_c_message_pack(message, *out);
    return STATUS_OK;
}

/* With the lock held. */
static Status pack_peers(Report *report, uint8_t **out, size_t *size, Error *error)
{
    const ReportSources *sources = &report->sources;
    size_t peers = sources->dendrite != NULL ? dendrite_count(sources->dendrite) : 0;
    Neuron__PeersReply reply = NEURON__PEERS_REPLY__INIT;
    ServingPart serving = {0};
    PeerPart *parts = calloc(peers + 1, sizeof *parts);
    Neuron__PeerReport **list = calloc(peers + 1, sizeof *list);
    Status status = STATUS_RESOURCE_EXHAUSTED;
    if (parts != NULL && list != NULL) {
        reply.neuron_key = report->neuron_key;
        reply.n_peers = peers;
        reply.peers = list;
        for (size_t i = 0; i < peers; i++) {
            fill_peer(&parts[i], sources->dendrite, i);
            list[i] = &parts[i].message;
        }
        if (sources->axon != NULL) {
            reply.address = constant(axon_address(sources->axon));
            fill_serving(&serving, sources);
            reply.serving = &serving.message;
        }
        status = pack(&reply.base, out, size, error);
    } else {
        error_set(error, status, "no memory to report about %zu peers", peers);
    }
    free(parts);
    free(list);
    return status;
}

Status report_peers(Report *report, uint8_t **out, size_t *size, Error *error)
{
    pthread_mutex_lock(&report->lock);
    Status status = pack_peers(report, out, size, error);
    pthread_mutex_unlock(&report->lock);
    return status;
}

/* --- the methods --- */

static Status answer_peers(void *context, const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size,
                           Error *error)
{
    RETURN_IF_ERROR(report_read_peers_request(bytes, size, error));
    return report_peers(context, out, out_size, error);
}

static Status answer_hello(void *context, const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size,
                           Error *error)
{
    Report *report = context;
    Neuron__HelloReply reply = NEURON__HELLO_REPLY__INIT;
    Neuron__ServedSoma soma = NEURON__SERVED_SOMA__INIT, *somas[] = {&soma};
    RETURN_IF_ERROR(report_read_hello_request(bytes, size, error));
    reply.version = constant(NEURON_VERSION);
    reply.neuron_key = report->neuron_key;
    reply.max_message_bytes = report->max_message_bytes;
    reply.somas = somas;
    pthread_mutex_lock(&report->lock);
    soma.synapse_key = report->synapse_key;
    soma.serving = true;
    soma.learns = report->sources.learns;
    reply.n_somas = report->synapse_key[0] != '\0';
    Status status = pack(&reply.base, out, out_size, error);
    pthread_mutex_unlock(&report->lock);
    return status;
}

size_t report_methods(Report *report, AxonMethod *out)
{
    out[0] = (AxonMethod){.path = REPORT_HELLO_PATH, .answer = answer_hello, .context = report};
    out[1] = (AxonMethod){.path = REPORT_PEERS_PATH, .answer = answer_peers, .context = report};
    return REPORT_METHODS;
}
