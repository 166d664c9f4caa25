/* What the dendrite's tests share: a dendrite with peers of every kind, one question to all of them, and what came
 * back.
 */
#pragma once

#include "net/stub.h"

enum { MAX_PEERS = 8, BATCH = 3, ROW = BATCH * NETWORK_DIM };

static const uint64_t ms = 1000000;

/* Peers, and a dendrite that knows them in this order. */
typedef struct Net {
    Stub stubs[MAX_PEERS];
    Axon *axons[MAX_PEERS];
    Peer peers[MAX_PEERS];
    size_t count;
    Dendrite *dendrite;
    float answers[MAX_PEERS * ROW];
    uint8_t arrived[MAX_PEERS];
} Net;

Net *make_net(void);
void close_net(Net *net);

Stub *add_peer(Net *net, float factor); /* a stub behind an axon */
void add_dead(Net *net);                /* nobody listens there */
void add_address(Net *net, const char *address);
void open_dendrite(Net *net, DendriteOptions options); /* after all peers were added */

/* Asks all with make_images(BATCH, 1); the call is still open. ask_once releases it. Both wait, and return how many
 * answers arrived. */
DendriteCall *send_question(Net *net);
size_t wait_for(Net *net, DendriteCall *call);
size_t ask_once(Net *net);

void expect_answer(const Net *net, size_t peer); /* exactly the stub's */
void expect_masked(const Net *net, size_t peer); /* zeros */
/* Masked, one failure of this kind, and a sentence that has this part. */
void expect_failed(const Net *net, size_t peer, DendriteFailure kind, const char *part);

DendriteStats stats_of(const Net *net, size_t peer);
uint64_t failures(const Net *net, size_t peer, DendriteFailure kind);

/* A clock that stands still until the test moves *now, and that the dendrite's thread may read meanwhile. */
Clock test_clock(atomic_uint_fast64_t *now);

/* Asks until condition(net) or for 5 s: for what happens on another thread. */
bool soon(bool (*condition)(Net *net), Net *net);
