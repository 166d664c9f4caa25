/* Reading what another neuron sent of Hello and Peers. A file of its own, so that a fuzzer can have it without the rest
 * of the neuron. */
#include "base/text.h"
#include "neuron/report.h"

static Status read_request(const ProtobufCMessageDescriptor *kind, const uint8_t *bytes, size_t size, Error *error)
{
    if (size > REPORT_REQUEST_BYTES)
        return error_set(error, STATUS_INVALID_ARGUMENT, "the request has %zu bytes, expected at most %d", size,
                         REPORT_REQUEST_BYTES);
    ProtobufCMessage *message = protobuf_c_message_unpack(kind, NULL, size, bytes);
    if (message == NULL) return error_set(error, STATUS_INVALID_ARGUMENT, "the request isn't a %s", kind->name);
    protobuf_c_message_free_unpacked(message, NULL);
    return STATUS_OK;
}

Status report_read_hello_request(const uint8_t *bytes, size_t size, Error *error)
{
    return read_request(&neuron__hello_request__descriptor, bytes, size, error);
}

Status report_read_peers_request(const uint8_t *bytes, size_t size, Error *error)
{
    return read_request(&neuron__peers_request__descriptor, bytes, size, error);
}

static void clean_counts(Neuron__Count **counts, size_t number)
{
    for (size_t i = 0; i < number; i++)
        text_clean(counts[i]->name);
}

/* What isn't in the message is protobuf-c's shared empty string, which text_clean leaves alone. */
static void clean(Neuron__PeersReply *reply)
{
    text_clean(reply->neuron_key);
    text_clean(reply->address);
    for (size_t i = 0; i < reply->n_peers; i++) {
        Neuron__PeerReport *peer = reply->peers[i];
        char *texts[] = {peer->address, peer->synapse_key, peer->neuron_key, peer->state, peer->last_failure};
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
            text_clean(texts[t]);
        clean_counts(peer->forward_failures, peer->n_forward_failures);
        clean_counts(peer->backward_failures, peer->n_backward_failures);
    }
    if (reply->serving == NULL) return;
    clean_counts(reply->serving->failures, reply->serving->n_failures);
    clean_counts(reply->serving->batches_closed, reply->serving->n_batches_closed);
    clean_counts(reply->serving->gradients_refused, reply->serving->n_gradients_refused);
}

Status report_read_peers_reply(const uint8_t *bytes, size_t size, Neuron__PeersReply **out, Error *error)
{
    if (size > REPORT_REPLY_BYTES)
        return error_set(error, STATUS_DATA_LOSS, "the answer has %zu bytes, expected at most %d", size,
                         REPORT_REPLY_BYTES);
    Neuron__PeersReply *reply = neuron__peers_reply__unpack(NULL, size, bytes);
    if (reply == NULL) return error_set(error, STATUS_DATA_LOSS, "the answer of %zu bytes isn't a PeersReply", size);
    clean(reply);
    *out = reply;
    return STATUS_OK;
}
