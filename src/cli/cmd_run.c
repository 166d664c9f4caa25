#include <stdlib.h>

#include "cli/command.h"
#include "cli/peer_report.h"
#include "cli/peers_file.h"
#include "cli/serving.h"
#include "cli/session.h"
#include "cli/signals.h"

static const uint64_t drain_time = 1000000000; /* ns: for the last gradients to arrive at the peers */

/* The last gradients are still on their way when learning ends. */
static void report_own_peers(const Session *session, Report *report, Output *output)
{
    uint8_t *bytes = NULL;
    size_t size;
    Neuron__PeersReply *reply = NULL;
    Error error = {0};
    if (session->dendrite == NULL) return;
    dendrite_drain(session->dendrite, drain_time);
    Status status = report_peers(report, &bytes, &size, &error);
    if (status == STATUS_OK) status = report_read_peers_reply(bytes, size, &reply, &error);
    if (status == STATUS_OK)
        peer_report_show(reply, false, output);
    else
        output_warning(output, "no report of the peers: %s", error.message);
    if (reply != NULL) neuron__peers_reply__free_unpacked(reply, NULL);
    free(bytes);
}

static int check_usage(const Options *options, Output *output)
{
    if (options->peers_file == NULL || options->peers == NULL || options->peers[0] == '\0') return EXIT_DONE;
    output_error(output, "both --peers and --peers-file name the neurons to ask, expected one of them");
    return EXIT_USAGE;
}

static Status open_peers(const Options *options, PeersFile *peers, Error *error)
{
    if (options->peers_file != NULL) return peers_file_open(options->peers_file, peers, error);
    return peer_parse_list(options->peers, &peers->peers, &peers->count, error);
}

static void serve_on(Serving *serving, Output *output)
{
    if (signals_stop_requested()) return;
    serving_alone(serving);
    output_line(output, "learning is over: answering until SIGINT or SIGTERM");
    signals_wait(UINT64_MAX);
}

/* A device that is lost while learning is lost for answering too: the neuron says so before it ends. */
static Status learn(Session *session, Serving *serving, Error *error)
{
    const Status status = session_learn(session, error);
    if (status != STATUS_DATA_LOSS) return status;
    serving_lose(serving, error);
    serving_stop(serving);
    return status;
}

static int run(const Options *options, Output *output)
{
    Serving serving = {0};
    Session session = {0};
    PeersFile peers = {0};
    Error error = {0};
    Status status;

    int refused = check_usage(options, output);
    if (refused) return refused;
    GOTO_IF_ERROR(open_peers(options, &peers, &error), done);
    GOTO_IF_ERROR(serving_identify(&serving, options, &error), done);
    GOTO_IF_ERROR(session_open(&session, options, &peers, serving.identity.text, output, &error), done);
    serving.dendrite = session.dendrite;
    GOTO_IF_ERROR(serving_open(&serving, options, learner_variables(session.learner),
                               options->remote_gradient_scale > 0, output, &error),
                  done);
    learner_serve(session.learner, serving.server);
    GOTO_IF_ERROR(learn(&session, &serving, &error), done);
    report_own_peers(&session, serving.report, output);
    serve_on(&serving, output);
    serving_stop(&serving);
    GOTO_IF_ERROR(serving_check(&serving, &error), done);
    Event event = event_make("served");
    serving_report(&serving, output, &event);
    output_event(output, &event);
done:
    if (status != STATUS_OK) output_error(output, "%s", error.message);
    serving_close(&serving);
    session_close(&session);
    peers_file_close(&peers);
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
        "Without a single answer a step is one of 'neuron train'. Peers are asked about batches ahead, as many as\n"
        "their latency takes (--ahead, --ahead-memory), so that it costs no time; one that answers fewer batches a\n"
        "second than this neuron learns from does, up to --deadline each.\n"
        "\n"
        "Gradients from others are checked, clipped (--gradient-clip), multiplied with --remote-gradient-scale, and\n"
        "join the next own step; --max-staleness, --gradient-queue and --gradient-budget say which are learnt from.\n"
        "What is served are the weights of at most 50 ms ago, or longer where copying them would take more than 1 %\n"
        "of the time.\n"
        "\n"
        "With --peers-file the peers can move: when the n-th line of the file changes, the n-th peer is asked at the\n"
        "new address. Lines with '#' are comments. A file with another number of peers changes nothing.\n"
        "\n"
        "When learning is over the neuron goes on answering until SIGINT or SIGTERM; Backward calls are answered\n"
        "then, but nothing is learnt from them ('neuron peers' counts such gradients as refused). A signal before\n"
        "that saves and ends the program; --resume continues.\n",
    .files = "PEERS-FILE\n"
             "    the neurons to ask, HOST:PORT[/SYNAPSE_KEY], one a line\n"
             "OUT/model.safetensors, OUT/state.safetensors, OUT/config.json\n"
             "    the run, as saved last\n"
             "DATA/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]\n"
             "    the data (scripts/get-data.sh fetches it)\n"
             "$XDG_CONFIG_HOME/neuron/key, else ~/.config/neuron/key\n"
             "    this neuron's identity, made where there is none (--key FILE: another place)\n",
    .examples = "neuron run --listen 127.0.0.1:8091 --peers 127.0.0.1:8092,127.0.0.1:8093 --out runs/a\n"
                "neuron run --peers-file peers.txt --deadline 3s --out runs/far\n"
                "neuron run --listen 127.0.0.1:8092 --key b.key --labelled 300 --unlabelled 300:10300 \\\n"
                "    --peers 127.0.0.1:8091\n",
    .run = run,
};
