#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/peer_report.h"
#include "wire/peer.h"

static Status ask(const Options *options, const Peer *peer, Neuron__PeersReply **reply, Error *error)
{
    DendriteOptions dendrite = {.deadline_ns = options->deadline, .max_message_bytes = REPORT_REPLY_BYTES};
    uint8_t *bytes = NULL;
    size_t size = 0;
    /* A PeersRequest has no fields: no bytes. */
    Status status = dendrite_call_method(&dendrite, peer, REPORT_PEERS_PATH, NULL, 0, &bytes, &size, error);
    if (status == STATUS_OK) status = report_read_peers_reply(bytes, size, reply, error);
    free(bytes);
    if (status != STATUS_OK) error_prefix(error, "%s: %s", peer->address, status_name(status));
    return status;
}

static int run(const Options *options, Output *output)
{
    Peer peer;
    Error error = {0};
    Neuron__PeersReply *reply = NULL;
    if (peer_parse(options->operands[0], &peer, &error) != STATUS_OK) {
        output_error(output, "%s", error.message);
        return EXIT_USAGE;
    }
    if (ask(options, &peer, &reply, &error) != STATUS_OK) {
        output_error(output, "%s", error.message);
        return EXIT_FAILED;
    }
    peer_report_show(reply, true, output);
    neuron__peers_reply__free_unpacked(reply, NULL);
    return EXIT_DONE;
}

const Command command_peers = {
    .name = "peers",
    .set = COMMAND_PEERS,
    .summary = "what a neuron knows of its peers",
    .operands = "HOST:PORT",
    .least_operands = 1,
    .most_operands = 1,
    .description =
        "Asks a neuron of this program that is running ('run' or 'serve') for its peers as it sees them: where they\n"
        "are, whether it asks them (well), leaves them alone for a while since they failed (left alone) or tries\n"
        "again (probing); the Forward calls that they answered and those that they didn't, by why; the Backward calls\n"
        "that they took and those that were lost; how long half and 99 % of the answers took at most; and the bytes.\n"
        "\n"
        "Then what the neuron did for its own callers: calls and batches, the version of the weights that answer now\n"
        "(own steps done), and the gradients that it learnt from and those that it didn't, by why.\n"
        "\n"
        "With --json one event 'peer' each, and one event 'serving'.\n",
    .files = NULL,
    .examples = "neuron peers 127.0.0.1:8091\n"
                "neuron peers 127.0.0.1:8091 --json --deadline 5s\n",
    .run = run,
};
