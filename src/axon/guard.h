/* Which connections cost more than they are worth, and who may come in next. gRPC's server has no such judgement: a
 * caller that sends pings, takes its calls back as fast as it makes them, or never stops sending what is refused,
 * occupies the thread that reads it and keeps everybody else waiting.
 *
 * Each connection has four leaky buckets: of calls that came to nothing (`bad`), of bytes that came to nothing
 * (`waste`), of bytes that we sent and that were no answers (`echo`: pings and settings want to be confirmed), and of
 * the network threads' time (`cost`). Time is judged by what it was for: what handlers took, what
 * answered calls and bytes usually take, is accounted for; if there is more, it is charged to the connections most of
 * whose bytes weren't requests. So nobody is charged while the threads do useful work only, however much comes in, and
 * a message that takes long to arrive is no offence. A full bucket: the connection is shut.
 *
 * A connection that is shut is an offence of its host (an IPv4 address, or an IPv6 network of 64 bits). The host's
 * connections stay; new ones come in one by one until the offences are forgotten, with smaller buckets, and those who
 * wait for our greeting, as gRPC's clients do, before those who send at once. Hosts are told apart by a hash; two that
 * share a place are treated as one.
 *
 * Numbers and the clock come in, verdicts go out: no I/O, no lock, no allocation. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "axon/axon.h"

enum { GUARD_HOSTS = 1024 };

/* What a connection has brought since it came. A request is begun when it has arrived whole; it ends `good` when its
 * caller waited for the answer, whatever that was, or until its deadline (the neuron may have been too slow); and `bad`
 * when it came to nothing: no message, an unreadable one, or the caller took it back. */
typedef struct GuardUse {
    uint64_t received, sent; /* bytes, all; not those that gRPC hasn't read, or that wait for the caller */
    uint64_t begun, begun_bytes;
    uint64_t good, answer_bytes;
    uint64_t bad, bad_bytes; /* bytes: of those that were begun */
} GuardUse;

typedef struct GuardConnection GuardConnection;
TAILQ_HEAD(GuardList, GuardConnection);

typedef struct GuardHost {
    size_t connections;
    struct GuardList strangers; /* that have made no request yet; the oldest first */
    double offences;            /* forgotten with time */
    uint64_t offences_ns;       /* when that was true */
    double turns;               /* of connections that wait for our greeting: saved up until turns_ns */
    uint64_t turns_ns;
    uint64_t next_hasty_ns; /* when one that doesn't may come in */
} GuardHost;

struct GuardConnection {
    GuardHost *host;
    bool entered;   /* gRPC has it */
    bool stranger;  /* in host->strangers */
    bool probation; /* came in while its host's offences weren't forgotten */
    uint64_t since_ns;
    ConnectionEnd verdict; /* CONNECTION_STAYS, or why it must be shut */
    GuardUse seen;         /* at the last look */
    double bad, waste, echo, cost_ns;
    uint64_t owed_answers, owed_frames; /* bytes that we may send without an echo */
    uint64_t looked_ns;
    double lately, unclear; /* bytes of the last moments: all, and those that aren't part of a request, or not yet */
    bool suspect;           /* these are most of them */
    uint64_t window_ns;     /* begin of the time over which its speed is judged */
    GuardUse window;
    TAILQ_ENTRY(GuardConnection) place; /* in host->strangers */
};

typedef struct Guard {
    size_t most, most_of_host, message_bytes; /* set by guard_init */
    size_t connections;
    uint64_t looked_ns, work_ns, purpose_ns;       /* at the last judgement */
    uint64_t look_received, look_good, look_waste; /* since then, of all connections */
    double unclear;                                /* of the suspects */
    double excess_ns, waste;                       /* of the last moments */
    bool busy;                                     /* at the last judgement there was an excess */
    bool trouble;                                  /* the last judgement charged somebody */
    GuardHost hosts[GUARD_HOSTS];
} Guard;

/* At most `most` connections, and `most_of_host` of one host. Points into itself: don't copy. */
void guard_init(Guard *guard, size_t most, size_t most_of_host, size_t message_bytes);

/* A new connection. Returns one that must be shut because there are too many: the oldest of the same host that has made
 * no request, so that connections that only stand there can't keep others out; else `connection` itself; NULL: none. */
GuardConnection *guard_come(Guard *guard, GuardConnection *connection, uint64_t host, uint64_t now);
void guard_go(Guard *guard, GuardConnection *connection);

/* Whether the host's offences are forgotten. */
bool guard_trusts(const GuardHost *host, uint64_t now);

/* Whether a connection may be handed to gRPC now; it counts as handed over then. `patient`: it has greeted and sent
 * nothing more for a while. */
bool guard_enter(Guard *guard, GuardConnection *connection, bool patient, uint64_t now);

/* Whether these first bytes are an HTTP/2 client's greeting and nothing more: the preface, settings, window updates. */
bool guard_greeting(const uint8_t *bytes, size_t size);

/* A look at a connection; sets its verdict if it must be shut. */
void guard_look(Guard *guard, GuardConnection *connection, const GuardUse *use, uint64_t now);

/* After some looks: `work_ns` is the core time that the network threads have used so far, `purpose_ns` how much of it
 * handlers and answers account for. Returns what an unclear byte is charged; 0: there is no excess. guard_charge then
 * charges a connection for its part, and sets its verdict. */
double guard_excess(Guard *guard, uint64_t work_ns, uint64_t purpose_ns, uint64_t now);
void guard_charge(Guard *guard, GuardConnection *connection, double byte_ns);

/* Whether the little that a connection which ends by itself was good for is an offence, too: whoever floods, is hung up
 * on by gRPC and comes again costs as much. */
bool guard_was_useless(const GuardConnection *connection);

/* It ends with an offence of its host. */
void guard_offence(Guard *guard, GuardConnection *connection, uint64_t now);
