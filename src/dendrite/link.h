/* One peer: its statistics, and whether it may be asked. Pure: time and randomness come in. All with the dendrite's
 * lock held.
 *
 * A peer that can't be reached, or was late three times in a row, is left alone for a while: 0.25 s, doubling up to
 * 10 s with each such while in a row, a fifth more or less. Then one Forward call probes it; the others stay away until
 * that one has been answered, or has failed, which begins the next while. */
#pragma once

#include "base/histogram.h"
#include "base/rng.h"
#include "dendrite/dendrite.h"

typedef enum PeerMethod { PEER_FORWARD, PEER_BACKWARD, PEER_HELLO, PEER_METHODS } PeerMethod;

typedef struct Channel Channel;

typedef struct Link {
    Peer peer;
    Channel *channel;
    unsigned generation; /* counts moves: how a call ends that was sent before one says nothing of who is there now */

    DendriteStats stats;
    Histogram latencies; /* of good Forward answers */
    Error last;          /* the last failure; status OK: none yet */

    bool asked;
    bool left_alone, probing;
    struct Slot *unattended; /* a probe on its way that its question no longer waits for (question.c) */
    uint64_t quiet_until;    /* while left alone: not asked before this time */
    unsigned timeouts_in_row, whiles_in_row;
} Link;

/* What a call that was admitted remembers of its link. */
typedef struct Ticket {
    unsigned generation;
    bool probe;
} Ticket;

typedef enum Admission { ADMIT, ADMIT_AS_PROBE, ADMIT_NOT } Admission;

/* Looks only; link_begin is the call's start. */
Admission link_admission(const Link *link, PeerMethod method, uint64_t now);
Ticket link_begin(Link *link, Admission admission);

/* How a call ended: the peer answered, whatever it said; it could not be reached or was late; nobody can tell, since
 * the caller gave it up. */
void link_heard(Link *link, Ticket ticket);
void link_lost(Link *link, Ticket ticket, DendriteFailure kind, uint64_t now, Rng *jitter);
void link_unknown(Link *link, Ticket ticket);

/* A Forward call whose connection broke goes out once more, if there is time for an answer: what
 * the others took on average, and 1 ms at least. */
bool link_should_retry(const Link *link, Ticket ticket, DendriteFailure kind, bool retried, uint64_t left_ns);

void link_count_answer(Link *link, PeerMethod method, uint64_t latency_ns, const char *neuron_key);
void link_count_failure(Link *link, PeerMethod method, DendriteFailure kind, const Error *why);

/* Counts it, and tells link_heard or link_lost what it means. */
void link_failed(Link *link, Ticket ticket, PeerMethod method, DendriteFailure kind, const Error *why, uint64_t now,
                 Rng *jitter);

void link_moved(Link *link, const Peer *peer);
DendriteState link_state(const Link *link);
