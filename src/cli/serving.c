#include "cli/serving.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/key_file.h"
#include "cli/session.h"
#include "cli/signals.h"

enum { EVENT_KEY_SIZE = 64, FAILURES_SIZE = 512 };

bool serving_is_echo(const Options *options)
{
    return strcmp(options->soma, "echo") == 0;
}

Status serving_identify(Serving *serving, const Options *options, Error *error)
{
    const char *key = options->synapse_key;
    RETURN_IF_ERROR(key_file_open(options, &serving->identity, error));
    if (key == NULL) return identity_synapse_key(&serving->identity, options->soma, serving->synapse_key, error);
    RETURN_IF_ERROR(key_check("--synapse-key", key, strlen(key), error));
    strcpy(serving->synapse_key, key); /* key_check knows its length */
    return STATUS_OK;
}

/* --- opening --- */

static void report_ready(const Serving *serving, Output *output)
{
    const char *address = axon_address(serving->axon);
    output_line(output, "listening on %s, synapse key %s", address, serving->synapse_key);
    Event event = event_make("ready");
    event_text(&event, "address", address);
    event_text(&event, "synapse_key", serving->synapse_key);
    event_text(&event, "neuron_key", serving->identity.text);
    output_event(output, &event);
}

static void on_lost(void *context, const Error *error)
{
    serving_lose(context, error);
}

static Status open_soma(Serving *serving, const Options *o, const Variables *weights, AxonHandler *handler,
                        Error *error)
{
    if (serving_is_echo(o)) {
        serving->echo = (Echo){.raw = o->raw, .max_answer_bytes = (size_t)o->max_message};
        *handler = echo_handler(&serving->echo);
        return STATUS_OK;
    }
    SomaServerOptions server = {.soma = session_soma(o),
                                .device = o->device,
                                .precision = precision_from_name(o->dtype),
                                .threads = (int)o->serve_threads,
                                .fold = o->fold,
                                .learn = serving->learns,
                                .gradients = {.max_staleness = (uint64_t)o->max_staleness,
                                              .capacity = (size_t)o->gradient_queue,
                                              .budget = (size_t)o->gradient_budget,
                                              .clip = (float)o->gradient_clip},
                                .batch_rows = o->batch_rows,
                                .batch_wait_ns = o->batch_wait,
                                .max_answer_bytes = (size_t)o->max_message,
                                .lost = on_lost,
                                .lost_context = serving};
    RETURN_IF_ERROR(server_create(&server, weights, &serving->server, error));
    *handler = server_handler(serving->server);
    return STATUS_OK;
}

static Status start_axon(Serving *serving, const Options *o, Error *error)
{
    AxonMethod methods[REPORT_METHODS];
    size_t count = report_methods(serving->report, methods);
    AxonOptions axon = {.listen = o->listen,
                        .neuron_key = serving->identity.text,
                        .max_message_bytes = (size_t)o->max_message,
                        .queue_capacity = (size_t)o->queue,
                        .threads = (int)o->network_threads,
                        .share = o->serve_share,
                        .handler_threads = serving->server != NULL ? server_threads(serving->server) : 1};
    return axon_start_with_methods(&axon, methods, count, &serving->axon, error);
}

Status serving_open(Serving *serving, const Options *o, const Variables *weights, bool learn, Output *output,
                    Error *error)
{
    AxonHandler handler;
    serving->drain = o->drain;
    serving->learns = learn;
    RETURN_IF_ERROR(open_soma(serving, o, weights, &handler, error));
    RETURN_IF_ERROR(report_create(serving->identity.text, (size_t)o->max_message, &serving->report, error));
    RETURN_IF_ERROR(start_axon(serving, o, error));
    RETURN_IF_ERROR(axon_serve(serving->axon, serving->synapse_key, handler, error));
    report_about(serving->report, &(ReportSources){.axon = serving->axon,
                                                   .dendrite = serving->dendrite,
                                                   .server = serving->server,
                                                   .synapse_key = serving->synapse_key,
                                                   .learns = learn});
    report_ready(serving, output);
    return STATUS_OK;
}

/* --- ending --- */

void serving_alone(Serving *serving)
{
    axon_set_share(serving->axon, 0);
}

bool serving_drain(Serving *serving, uint64_t timeout_ns)
{
    return axon_drain(serving->axon, timeout_ns);
}

void serving_stop(Serving *serving)
{
    if (serving->axon != NULL) axon_stop(serving->axon, serving->drain);
}

void serving_lose(Serving *serving, const Error *error)
{
    static const char *const node[] = {"", "Bittensor"};
    if (atomic_exchange(&serving->losing, true)) return;
    serving->loss = *error;
    atomic_store(&serving->lost, true);
    for (size_t i = 0; serving->axon != NULL && i < sizeof node / sizeof *node; i++)
        axon_health_set(serving->axon, node[i], false);
    if (serving->axon != NULL) axon_health_set(serving->axon, serving->synapse_key, false);
    signals_stop();
}

Status serving_check(Serving *serving, Error *error)
{
    if (!atomic_load(&serving->lost)) return STATUS_OK;
    return error_set(error, serving->loss.status, "the device is lost: %s", serving->loss.message);
}

void serving_close(Serving *serving)
{
    axon_destroy(serving->axon); /* first: its threads run the server's handler */
    server_destroy(serving->server);
    report_destroy(serving->report);
    serving->axon = NULL;
    serving->report = NULL;
    serving->server = NULL;
}

/* --- reports --- */

/* "<prefix>_<name>" as other keys are written: "failed_not_found", "gradients_over_budget". */
static void add_count(Event *event, const char *prefix, const char *name, uint64_t count)
{
    char key[EVENT_KEY_SIZE];
    snprintf(key, sizeof key, "%s_%s", prefix, name);
    for (char *c = key; *c != '\0'; c++)
        *c = *c == ' ' ? '_' : (char)tolower((unsigned char)*c);
    event_integer(event, key, (int64_t)count);
}

static void report_failures(const AxonCounters *counters, Event *event)
{
    uint64_t failures = 0;
    size_t kinds = sizeof counters->failures / sizeof *counters->failures;
    for (size_t i = 0; i < kinds; i++)
        failures += counters->failures[i];
    event_integer(event, "failures", (int64_t)failures);
    for (size_t i = 0; i < kinds; i++)
        if (counters->failures[i] > 0) add_count(event, "failed", status_name((Status)i), counters->failures[i]);
}

/* "; 3 not_found, 1 cancelled" */
static void failures_text(const AxonCounters *counters, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof counters->failures / sizeof *counters->failures && used < size; i++)
        if (counters->failures[i] > 0)
            used += (size_t)snprintf(out + used, size - used, "%s%lu %s", used == 0 ? "; failed: " : ", ",
                                     (unsigned long)counters->failures[i], status_name((Status)i));
}

static void report_connections(const AxonCounters *counters, Output *output, Event *event)
{
    uint64_t shut = 0;
    for (int why = CONNECTION_STAYS + 1; why < CONNECTION_ENDS; why++) {
        shut += counters->connections_shut[why];
        if (counters->connections_shut[why] > 0)
            add_count(event, "shut", connection_end_name((ConnectionEnd)why), counters->connections_shut[why]);
    }
    event_integer(event, "connections", (int64_t)counters->connections_taken);
    event_integer(event, "connections_shut", (int64_t)shut);
    if (shut > 0)
        output_line(output, "shut %lu of %lu connections that only cost", (unsigned long)shut,
                    (unsigned long)counters->connections_taken);
}

static void report_batches(const AxonCounters *counters, Output *output, Event *event)
{
    uint64_t batches = 0;
    for (int i = 0; i < BATCH_CLOSINGS; i++) {
        batches += counters->batches[i];
        add_count(event, "batches", batch_closing_name((BatchClosing)i), counters->batches[i]);
    }
    event_integer(event, "batched_calls", (int64_t)counters->batched_calls);
    event_integer(event, "batched_rows", (int64_t)counters->batched_rows);
    if (batches == 0) return;
    output_line(
        output,
        "in %lu batches of %.2f calls and %.2f rows each (closed by size %lu, time %lu, deadline %lu, idle %lu)",
        (unsigned long)batches, (double)counters->batched_calls / (double)batches,
        (double)counters->batched_rows / (double)batches, (unsigned long)counters->batches[CLOSED_BY_SIZE],
        (unsigned long)counters->batches[CLOSED_BY_TIME], (unsigned long)counters->batches[CLOSED_BY_DEADLINE],
        (unsigned long)counters->batches[CLOSED_BY_IDLE]);
}

static void report_gradients(const Serving *serving, Output *output, Event *event)
{
    GradientCounts counts;
    if (serving->server == NULL) return;
    server_gradient_counts(serving->server, &counts);
    event_integer(event, "version", (int64_t)counts.version);
    if (!serving->learns) return;
    event_integer(event, "gradients", (int64_t)counts.learnt);
    for (int i = 0; i < GRADIENT_REFUSALS; i++)
        add_count(event, "gradients", gradient_refusal_name((GradientRefusal)i), counts.refused[i]);
    event_integer(event, "gradients_waiting", (int64_t)counts.waiting);
    output_line(output,
                "learnt from %lu gradients; not from %lu stale, %lu over budget, %lu that found the queue full, "
                "%lu not finite",
                (unsigned long)counts.learnt, (unsigned long)counts.refused[GRADIENT_STALE],
                (unsigned long)counts.refused[GRADIENT_OVER_BUDGET], (unsigned long)counts.refused[GRADIENT_QUEUE_FULL],
                (unsigned long)counts.refused[GRADIENT_NOT_FINITE]);
}

void serving_report(const Serving *serving, Output *output, Event *event)
{
    AxonCounters counters;
    char failures[FAILURES_SIZE];
    axon_counters(serving->axon, &counters);
    failures_text(&counters, failures, sizeof failures);
    output_line(output, "answered %lu of %lu calls: %lu Forward, %lu Backward%s",
                (unsigned long)(counters.forwards + counters.backwards), (unsigned long)counters.calls,
                (unsigned long)counters.forwards, (unsigned long)counters.backwards, failures);
    event_integer(event, "calls", (int64_t)counters.calls);
    event_integer(event, "forwards", (int64_t)counters.forwards);
    event_integer(event, "backwards", (int64_t)counters.backwards);
    report_failures(&counters, event);
    event_integer(event, "bytes_in", (int64_t)counters.bytes_in);
    event_integer(event, "bytes_out", (int64_t)counters.bytes_out);
    event_real(event, "handler_seconds", clock_seconds(counters.handler_ns));
    event_real(event, "paused_seconds", clock_seconds(counters.paused_ns));
    report_connections(&counters, output, event);
    report_batches(&counters, output, event);
    report_gradients(serving, output, event);
}
