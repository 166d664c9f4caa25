/* Connections to peers, shared by address, and what a Hello on them told. All with the dendrite's lock held.
 *
 * A channel lives as long as something refers to it: a link, or a call on it. So a link may go to another channel at
 * any time, and the calls in flight end on the one where they began. */
#pragma once

#include "dendrite/link.h"
#include "rpc/unary.h"

struct Channel {
    UnaryCall hello; /* first, so that a Hello is its channel */
    Dendrite *dendrite;
    char address[PEER_ADDRESS_SIZE];
    size_t references;
    grpc_channel *grpc;
    void *methods[PEER_METHODS]; /* gRPC's handles */

    bool replaced;              /* links use a later one */
    bool suspect;               /* something on it failed, and nothing went well since */
    uint64_t max_message_bytes; /* what the peer receives; 0: not known yet */
    bool greeting;              /* a Hello is on its way */
    bool greeted;               /* there was one: the next one is at... */
    uint64_t next_hello;
    Channel *next; /* in the dendrite's list */
};

/* The channel to an address, new or not, with a reference for the caller. RESOURCE_EXHAUSTED: no memory. */
Status channel_open(Dendrite *dendrite, const char *address, Channel **out, Error *error);
Channel *channel_ref(Channel *channel);
void channel_unref(Channel *channel);

/* A new connection in place of one that broke, for all links to the address. gRPC would wait before it connects again,
 * and now and then takes a connection in progress for a failed one (1.51 looks at errno too late): a new channel
 * connects at once. Nothing changes where another call has done this already, or without memory. */
void channel_replace(Channel *broken);

/* Sends a Hello if one is due: on a new channel, a second after one that failed, and once a minute. Calls don't wait
 * for it. */
void channel_greet(Channel *channel, uint64_t now);

/* Hurries the end of all Hellos. */
void channels_cancel(Dendrite *dendrite);
