/* Hello's and Peers' requests and Peers' answer: src/neuron/report_read.c. */
#include <string.h>

#include "base/text.h"
#include "fuzz/fuzz.h"
#include "neuron/report.h"

static void seed(FuzzSeeds *seeds, const ProtobufCMessage *message, uint8_t choice)
{
    uint8_t bytes[1024];
    size_t size = protobuf_c_message_pack(message, bytes);
    bytes[size] = choice;
    fuzz_seed(seeds, bytes, size + 1);
}

void fuzz_seeds(FuzzSeeds *seeds)
{
    Neuron__HelloRequest hello = NEURON__HELLO_REQUEST__INIT;
    Neuron__PeersRequest peers = NEURON__PEERS_REQUEST__INIT;
    Neuron__PeersReply reply = NEURON__PEERS_REPLY__INIT;
    Neuron__Count count = NEURON__COUNT__INIT, *counts[] = {&count, &count};
    Neuron__PeerReport peer = NEURON__PEER_REPORT__INIT, *list[] = {&peer, &peer};
    Neuron__ServingReport serving = NEURON__SERVING_REPORT__INIT;
    hello.neuron_key = count.name = (char *)(uintptr_t) "\x1b[2Jkey";
    hello.max_message_bytes = count.count = 300;
    peer.forward_failures = peer.backward_failures = serving.failures = serving.batches_closed =
        serving.gradients_refused = counts;
    peer.n_forward_failures = peer.n_backward_failures = serving.n_failures = serving.n_batches_closed =
        serving.n_gradients_refused = 2;
    peer.address = peer.last_failure = (char *)(uintptr_t) "host:1\n\xff";
    reply.n_peers = 2;
    reply.peers = list;
    reply.serving = &serving;
    seed(seeds, &hello.base, 0);
    seed(seeds, &peers.base, 1);
    seed(seeds, &reply.base, 2);
}

static void require_clean(const char *text)
{
    char again[4096];
    REQUIRE(strlen(text) < sizeof again);
    strcpy(again, text);
    text_clean(again);
    REQUIRE(strcmp(text, again) == 0);
}

static void require_clean_counts(Neuron__Count **counts, size_t number)
{
    for (size_t i = 0; i < number; i++)
        require_clean(counts[i]->name);
}

static void require_clean_reply(const Neuron__PeersReply *reply)
{
    require_clean(reply->neuron_key);
    require_clean(reply->address);
    for (size_t i = 0; i < reply->n_peers; i++) {
        const Neuron__PeerReport *peer = reply->peers[i];
        require_clean(peer->address);
        require_clean(peer->synapse_key);
        require_clean(peer->neuron_key);
        require_clean(peer->state);
        require_clean(peer->last_failure);
        require_clean_counts(peer->forward_failures, peer->n_forward_failures);
        require_clean_counts(peer->backward_failures, peer->n_backward_failures);
    }
    if (!reply->serving) return;
    require_clean_counts(reply->serving->failures, reply->serving->n_failures);
    require_clean_counts(reply->serving->batches_closed, reply->serving->n_batches_closed);
    require_clean_counts(reply->serving->gradients_refused, reply->serving->n_gradients_refused);
}

/* Reading changes nothing that it was given, and gives the same again. (That what protobuf-c read can be packed and
 * read once more is not so: unknown fields with overlong tags come out in another form.) */
static void check_reply(const uint8_t *bytes, size_t size)
{
    Neuron__PeersReply *reply, *again;
    Error error = {.status = STATUS_OK};
    Status status = report_read_peers_reply(bytes, size, &reply, &error);
    if (status != STATUS_OK) {
        REQUIRE(status == STATUS_DATA_LOSS && error.status == status && *error.message);
        return;
    }
    require_clean_reply(reply);
    REQUIRE(report_read_peers_reply(bytes, size, &again, NULL) == STATUS_OK);
    size_t packed = neuron__peers_reply__get_packed_size(reply);
    REQUIRE(neuron__peers_reply__get_packed_size(again) == packed);
    uint8_t *one = malloc(packed + 1), *two = malloc(packed + 1);
    REQUIRE(neuron__peers_reply__pack(reply, one) == packed && neuron__peers_reply__pack(again, two) == packed);
    REQUIRE(memcmp(one, two, packed) == 0);
    neuron__peers_reply__free_unpacked(reply, NULL);
    neuron__peers_reply__free_unpacked(again, NULL);
    free(one);
    free(two);
}

static void check_request(Status status, const Error *error)
{
    REQUIRE(status == STATUS_OK || (status == STATUS_INVALID_ARGUMENT && error->status == status && *error->message));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FuzzInput input = {bytes, size};
    Error error = {.status = STATUS_OK};
    uint8_t choice = fuzz_choice(&input) % 4;
    const uint8_t *copy = fuzz_copy(input.bytes, input.size);
    if (choice == 0)
        check_request(report_read_hello_request(copy, input.size, &error), &error);
    else if (choice == 1)
        check_request(report_read_peers_request(copy, input.size, &error), &error);
    else
        check_reply(copy, input.size);
    fuzz_rooms_clear();
    return 0;
}
