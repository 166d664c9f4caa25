#include "cli/serving.h"

#include <string.h>

#include "cli/key_file.h"
#include "cli/session.h"

static const uint64_t grace = 5000000000; /* ns */

Status serving_identify(Serving *serving, const Options *options, Error *error)
{
    const char *key = options->synapse_key;
    RETURN_IF_ERROR(key_file_open(options, &serving->identity, error));
    if (key == NULL) return identity_synapse_key(&serving->identity, options->soma, serving->synapse_key, error);
    RETURN_IF_ERROR(key_check("--synapse-key", key, strlen(key), error));
    strcpy(serving->synapse_key, key); /* key_check knows its length */
    return STATUS_OK;
}

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

Status serving_open(Serving *serving, const Options *options, const Variables *weights, bool learn, Output *output,
                    Error *error)
{
    SomaServerOptions server = {.soma = session_soma(options),
                                .device = session_device(options),
                                .threads = (int)options->serve_threads,
                                .fold = options->fold,
                                .learn = learn};
    AxonOptions axon = {.listen = options->listen,
                        .neuron_key = serving->identity.text,
                        .max_message_bytes = (size_t)options->max_message};
    RETURN_IF_ERROR(server_create(&server, weights, &serving->server, error));
    RETURN_IF_ERROR(axon_start(&axon, &serving->axon, error));
    RETURN_IF_ERROR(axon_serve(serving->axon, serving->synapse_key, server_handler(serving->server), error));
    report_ready(serving, output);
    return STATUS_OK;
}

void serving_stop(Serving *serving)
{
    if (serving->axon != NULL) axon_stop(serving->axon, grace);
}

void serving_report(const Serving *serving, Output *output, Event *event)
{
    AxonCounters counters;
    uint64_t failures = 0;
    axon_counters(serving->axon, &counters);
    for (size_t i = 0; i < sizeof counters.failures / sizeof *counters.failures; i++)
        failures += counters.failures[i];
    output_line(output, "answered %lu of %lu calls: %lu Forward, %lu Backward; %lu failed",
                (unsigned long)(counters.forwards + counters.backwards), (unsigned long)counters.calls,
                (unsigned long)counters.forwards, (unsigned long)counters.backwards, (unsigned long)failures);
    event_integer(event, "calls", (int64_t)counters.calls);
    event_integer(event, "forwards", (int64_t)counters.forwards);
    event_integer(event, "backwards", (int64_t)counters.backwards);
    event_integer(event, "failures", (int64_t)failures);
}

void serving_close(Serving *serving)
{
    axon_destroy(serving->axon); /* first: its worker runs the server's handler */
    server_destroy(serving->server);
    serving->axon = NULL;
    serving->server = NULL;
}
