/* What a neuron tells of itself and of its peers: the answers of /neuron.Neuron/Hello and /neuron.Neuron/Peers
 * (proto/neuron.proto), made from the counters of axon, dendrite and server; and the reading of a Peers answer by who
 * asked for it. Any thread may call anything here; the lock guards what is reported about. */
#pragma once

#include <proto/neuron.pb-c.h>

#include "axon/axon.h"
#include "dendrite/dendrite.h"
#include "neuron/server.h"

#define REPORT_HELLO_PATH "/neuron.Neuron/Hello"
#define REPORT_PEERS_PATH "/neuron.Neuron/Peers"

enum {
    REPORT_METHODS = 2,
    REPORT_REQUEST_BYTES = 4096,      /* longer requests are refused */
    REPORT_REPLY_BYTES = 1024 * 1024, /* longer answers are refused by the reader; 256 peers fit */
};

typedef struct Report Report;

/* Copies the key. `max_message_bytes`: what this neuron receives. */
Status report_create(const char *neuron_key, size_t max_message_bytes, Report **out, Error *error);
void report_destroy(Report *report);

/* What is reported about; each part may be missing (NULL), and must stay until the next call takes it away or the axon
 * has stopped. */
typedef struct ReportSources {
    const Axon *axon;
    Dendrite *dendrite;
    SomaServer *server;
    const char *synapse_key; /* of the soma that is served, copied */
    bool learns;             /* it takes Backward calls to learn from them */
} ReportSources;

void report_about(Report *report, const ReportSources *sources);

/* Fills `out` [REPORT_METHODS] for axon_start_with_methods, and returns how many. */
size_t report_methods(Report *report, AxonMethod *out);

/* The bytes that Peers answers with; malloc'ed. */
Status report_peers(Report *report, uint8_t **out, size_t *size, Error *error);

/* --- reading; no I/O, no state: the bytes are a peer's --- */

/* INVALID_ARGUMENT for bytes that aren't the request. */
Status report_read_hello_request(const uint8_t *bytes, size_t size, Error *error);
Status report_read_peers_request(const uint8_t *bytes, size_t size, Error *error);

/* A Peers answer: texts are cleaned for terminals (text_clean), and `serving` is there or NULL. Free with
 * neuron__peers_reply__free_unpacked(reply, NULL). DATA_LOSS for anything else. */
Status report_read_peers_reply(const uint8_t *bytes, size_t size, Neuron__PeersReply **out, Error *error);
