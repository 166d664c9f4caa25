#include <stdlib.h>

#include "cli/command.h"
#include "cli/serving.h"
#include "cli/session.h"
#include "cli/signals.h"

static const uint64_t drain_time = 1000000000; /* ns: for the last gradients to arrive at the peers */

static void report_peer(Dendrite *dendrite, size_t index, const Peer *peer, Output *output)
{
    DendriteStats stats;
    Error last = {0};
    uint64_t failures = 0, backward_failures = 0;
    dendrite_stats(dendrite, index, &stats);
    dendrite_last_failure(dendrite, index, &last);
    for (int kind = 0; kind < DENDRITE_FAILURES; kind++) {
        failures += stats.forward_failures[kind];
        backward_failures += stats.backward_failures[kind];
    }
    output_line(output, "peer %s: %lu answers in %.1f ms each, %lu missing; took %lu gradients, %lu not%s%s",
                peer->address, (unsigned long)stats.forwards, stats.mean_latency_s * 1e3, (unsigned long)failures,
                (unsigned long)stats.backwards, (unsigned long)(backward_failures + stats.backward_dropped),
                last.message[0] != '\0' ? "; last failure: " : "", last.message);
    Event event = event_make("peer");
    event_text(&event, "address", peer->address);
    event_integer(&event, "forwards", (int64_t)stats.forwards);
    event_integer(&event, "forward_failures", (int64_t)failures);
    for (int kind = 0; kind < DENDRITE_FAILURES; kind++)
        if (stats.forward_failures[kind] > 0)
            event_integer(&event, dendrite_failure_name((DendriteFailure)kind), (int64_t)stats.forward_failures[kind]);
    event_integer(&event, "backwards", (int64_t)stats.backwards);
    event_integer(&event, "backward_failures", (int64_t)backward_failures);
    event_integer(&event, "backward_dropped", (int64_t)stats.backward_dropped);
    event_integer(&event, "bytes_out", (int64_t)stats.bytes_out);
    event_integer(&event, "bytes_in", (int64_t)stats.bytes_in);
    event_real(&event, "mean_latency_ms", stats.mean_latency_s * 1e3);
    if (last.message[0] != '\0') event_text(&event, "last_failure", last.message);
    output_event(output, &event);
}

static void report_peers(const Session *session, const Peer *peers, size_t count, Output *output)
{
    if (session->dendrite == NULL) return;
    dendrite_drain(session->dendrite, drain_time);
    for (size_t i = 0; i < count; i++)
        report_peer(session->dendrite, i, &peers[i], output);
}

static void serve_on(Output *output)
{
    if (signals_stop_requested()) return;
    output_line(output, "learning is over: answering until SIGINT or SIGTERM");
    signals_wait(UINT64_MAX);
}

static int run(const Options *options, Output *output)
{
    Serving serving = {0};
    Session session = {0};
    Peer *peers = NULL;
    size_t count = 0;
    Error error = {0};
    Status status;

    GOTO_IF_ERROR(peer_parse_list(options->peers, &peers, &count, &error), done);
    GOTO_IF_ERROR(serving_identify(&serving, options, &error), done);
    GOTO_IF_ERROR(session_open(&session, options, peers, count, serving.identity.text, output, &error), done);
    GOTO_IF_ERROR(serving_open(&serving, options, learner_variables(session.learner),
                               options->remote_gradient_scale > 0, output, &error),
                  done);
    learner_serve(session.learner, serving.server);
    GOTO_IF_ERROR(session_learn(&session, &error), done);
    report_peers(&session, peers, count, output);
    serve_on(output);
    serving_stop(&serving);
    Event event = event_make("served");
    serving_report(&serving, output, &event);
    output_event(output, &event);
done:
    if (status != STATUS_OK) output_error(output, "%s", error.message);
    serving_close(&serving);
    session_close(&session);
    free(peers);
    return status == STATUS_OK ? EXIT_DONE : EXIT_FAILED;
}

const Command command_run = {
    .name = "run",
    .set = COMMAND_RUN,
    .summary = "train, serve, learn from the network",
    .operands = "",
    .description =
        "Trains a soma on its own data and, at the same time, asks the peers about every batch, learns from their\n"
        "answers, sends them the gradients of its loss, answers what others ask, and learns from the gradients that\n"
        "they send.\n"
        "\n"
        "A peer that fails or is later than --deadline is left out of that batch, and asked again after a while.\n"
        "Without a single answer a step is one of 'neuron train'. Gradients from others are checked, clipped to norm\n"
        "1, multiplied with --remote-gradient-scale, and join the next own step.\n"
        "\n"
        "When learning is over the neuron goes on answering until SIGINT or SIGTERM. A signal before that saves and\n"
        "ends the program; --resume continues.\n",
    .files = "OUT/model.safetensors, OUT/state.safetensors, OUT/config.json\n"
             "    the run, as saved last\n"
             "DATA/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]\n"
             "    the data (scripts/get-data.sh fetches it)\n"
             "$XDG_CONFIG_HOME/neuron/key, else ~/.config/neuron/key\n"
             "    this neuron's identity, made where there is none (--key FILE: another place)\n",
    .examples = "neuron run --listen 127.0.0.1:8091 --peers 127.0.0.1:8092,127.0.0.1:8093 --out runs/a\n"
                "neuron run --listen 127.0.0.1:8092 --key b.key --labelled 300 --unlabelled 300:10300 \\\n"
                "    --peers 127.0.0.1:8091\n",
    .run = run,
};
