#include "cli/peer_report.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "observe/table.h"

static const double ms = 1e-6; /* of a nanosecond */

static uint64_t sum(Neuron__Count *const *counts, size_t number)
{
    uint64_t total = 0;
    for (size_t i = 0; i < number; i++)
        total += counts[i]->count;
    return total;
}

/* "3 timeout, 1 refused"; "" for none. */
static void append_counts(Text *text, Neuron__Count *const *counts, size_t number)
{
    for (size_t i = 0; i < number; i++)
        text_append(text, "%s%" PRIu64 " %s", i == 0 ? "" : ", ", counts[i]->count, counts[i]->name);
}

static bool is_failure(const char *name)
{
    for (int kind = 0; kind < DENDRITE_FAILURES; kind++)
        if (strcmp(name, dendrite_failure_name((DendriteFailure)kind)) == 0) return true;
    return false;
}

/* Each count under its name, `prefix` before it. The names are another neuron's: without a prefix only those that we
 * know, so that none takes the place of a key of the event's own. */
static void add_counts(Event *event, const char *prefix, Neuron__Count *const *counts, size_t number)
{
    for (size_t i = 0; i < number; i++) {
        Text key = {0};
        if (prefix[0] == '\0' && !is_failure(counts[i]->name)) continue;
        text_append(&key, "%s%s", prefix, counts[i]->name);
        if (key.data != NULL) event_integer(event, key.data, (int64_t)counts[i]->count);
        text_free(&key);
    }
}

/* --- peers --- */

static void peer_event(const Neuron__PeerReport *peer, Output *output)
{
    Event event = event_make("peer");
    event_text(&event, "address", peer->address);
    if (peer->synapse_key[0] != '\0') event_text(&event, "synapse_key", peer->synapse_key);
    if (peer->neuron_key[0] != '\0') event_text(&event, "neuron_key", peer->neuron_key);
    event_text(&event, "state", peer->state);
    event_integer(&event, "forwards", (int64_t)peer->forwards);
    event_integer(&event, "forward_failures", (int64_t)sum(peer->forward_failures, peer->n_forward_failures));
    add_counts(&event, "", peer->forward_failures, peer->n_forward_failures);
    event_integer(&event, "backwards", (int64_t)peer->backwards);
    event_integer(&event, "backward_failures", (int64_t)sum(peer->backward_failures, peer->n_backward_failures));
    add_counts(&event, "backward ", peer->backward_failures, peer->n_backward_failures);
    event_integer(&event, "backward_dropped", (int64_t)peer->backward_dropped);
    event_integer(&event, "retries", (int64_t)peer->retries);
    event_integer(&event, "bytes_out", (int64_t)peer->bytes_out);
    event_integer(&event, "bytes_in", (int64_t)peer->bytes_in);
    event_real(&event, "p50_ms", (double)peer->latency_p50_ns * ms);
    event_real(&event, "p99_ms", (double)peer->latency_p99_ns * ms);
    event_integer(&event, "in_flight", (int64_t)peer->in_flight);
    if (peer->last_failure[0] != '\0') event_text(&event, "last_failure", peer->last_failure);
    output_event(output, &event);
}

static void declare_columns(Table *table)
{
    static const char *const numbers[] = {"Forward",  "missing",  "Backward", "lost",  "retries",
                                          "p50 (ms)", "p99 (ms)", "MB out",   "MB in", "in flight"};
    table_column(table, "peer", TABLE_LEFT);
    table_column(table, "state", TABLE_LEFT);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        table_column(table, numbers[i], TABLE_RIGHT);
}

static void add_row(Table *table, const Neuron__PeerReport *peer)
{
    table_cell(table, "%s", peer->address);
    table_cell(table, "%s", peer->state);
    table_cell(table, "%" PRIu64, peer->forwards);
    table_cell(table, "%" PRIu64, sum(peer->forward_failures, peer->n_forward_failures));
    table_cell(table, "%" PRIu64, peer->backwards);
    table_cell(table, "%" PRIu64, sum(peer->backward_failures, peer->n_backward_failures) + peer->backward_dropped);
    table_cell(table, "%" PRIu64, peer->retries);
    table_cell(table, "%.2f", (double)peer->latency_p50_ns * ms);
    table_cell(table, "%.2f", (double)peer->latency_p99_ns * ms);
    table_cell(table, "%.1f", (double)peer->bytes_out * 1e-6);
    table_cell(table, "%.1f", (double)peer->bytes_in * 1e-6);
    table_cell(table, "%" PRIu64, peer->in_flight);
}

/* "127.0.0.1:8091: missing 3 timeout; lost 2 refused, 1 dropped; last failure: ..." */
static void append_failures(Text *text, const Neuron__PeerReport *peer)
{
    const char *separator = ": ";
    if (peer->n_forward_failures > 0) {
        text_append(text, "%s%smissing ", peer->address, separator);
        append_counts(text, peer->forward_failures, peer->n_forward_failures);
        separator = "; ";
    }
    if (peer->n_backward_failures > 0 || peer->backward_dropped > 0) {
        text_append(text, "%s%slost ", *separator == ':' ? peer->address : "", separator);
        append_counts(text, peer->backward_failures, peer->n_backward_failures);
        if (peer->backward_dropped > 0)
            text_append(text, "%s%" PRIu64 " not sent", peer->n_backward_failures > 0 ? ", " : "",
                        peer->backward_dropped);
        separator = "; ";
    }
    if (peer->last_failure[0] != '\0')
        text_append(text, "%s%slast failure: %s", *separator == ':' ? peer->address : "", separator,
                    peer->last_failure);
    if (*separator == ';' || peer->last_failure[0] != '\0') text_append(text, "\n");
}

static void show_peers(const Neuron__PeersReply *reply, Output *output)
{
    Table table = {0};
    Text text = {0};
    for (size_t i = 0; i < reply->n_peers; i++)
        peer_event(reply->peers[i], output);
    declare_columns(&table);
    for (size_t i = 0; i < reply->n_peers; i++)
        add_row(&table, reply->peers[i]);
    if (reply->n_peers > 0) table_format(&table, &text);
    for (size_t i = 0; i < reply->n_peers; i++)
        append_failures(&text, reply->peers[i]);
    if (text.data != NULL) output_result(output, text.data);
    table_free(&table);
    text_free(&text);
}

/* --- serving --- */

static void serving_event(const Neuron__PeersReply *reply, Output *output)
{
    const Neuron__ServingReport *s = reply->serving;
    Event event = event_make("serving");
    event_text(&event, "neuron_key", reply->neuron_key);
    event_text(&event, "address", reply->address);
    event_integer(&event, "calls", (int64_t)s->calls);
    event_integer(&event, "forwards", (int64_t)s->forwards);
    event_integer(&event, "backwards", (int64_t)s->backwards);
    event_integer(&event, "failures", (int64_t)sum(s->failures, s->n_failures));
    add_counts(&event, "failed ", s->failures, s->n_failures);
    event_integer(&event, "bytes_in", (int64_t)s->bytes_in);
    event_integer(&event, "bytes_out", (int64_t)s->bytes_out);
    event_integer(&event, "batches", (int64_t)s->batches);
    event_integer(&event, "batched_calls", (int64_t)s->batched_calls);
    add_counts(&event, "closed by ", s->batches_closed, s->n_batches_closed);
    event_integer(&event, "waiting", (int64_t)s->waiting);
    event_integer(&event, "weights_version", (int64_t)s->weights_version);
    event_integer(&event, "gradients_learnt", (int64_t)s->gradients_learnt);
    event_integer(&event, "gradients_refused", (int64_t)sum(s->gradients_refused, s->n_gradients_refused));
    add_counts(&event, "gradients ", s->gradients_refused, s->n_gradients_refused);
    output_event(output, &event);
}

static void show_serving(const Neuron__PeersReply *reply, Output *output)
{
    const Neuron__ServingReport *s = reply->serving;
    Text text = {0};
    serving_event(reply, output);
    text_append(&text, "%s answered %" PRIu64 " of %" PRIu64 " calls (%" PRIu64 " Forward, %" PRIu64 " Backward)",
                reply->address, s->forwards + s->backwards, s->calls, s->forwards, s->backwards);
    if (s->n_failures > 0) text_append(&text, ", not ");
    append_counts(&text, s->failures, s->n_failures);
    text_append(&text, "; %" PRIu64 " wait\n", s->waiting);
    text_append(&text, "%" PRIu64 " calls in %" PRIu64 " batches", s->batched_calls, s->batches);
    if (s->n_batches_closed > 0) text_append(&text, ", closed by: ");
    append_counts(&text, s->batches_closed, s->n_batches_closed);
    text_append(&text, "; %.1f MB in, %.1f MB out\n", (double)s->bytes_in * 1e-6, (double)s->bytes_out * 1e-6);
    text_append(&text, "weights of step %" PRIu64 "; learnt from %" PRIu64 " gradients", s->weights_version,
                s->gradients_learnt);
    if (s->n_gradients_refused > 0) text_append(&text, ", not from ");
    append_counts(&text, s->gradients_refused, s->n_gradients_refused);
    text_append(&text, "\n");
    if (text.data != NULL) output_result(output, text.data);
    text_free(&text);
}

void peer_report_show(const Neuron__PeersReply *reply, bool answered_for, Output *output)
{
    show_peers(reply, output);
    if (answered_for && reply->serving != NULL) show_serving(reply, output);
}
