/* The gate: the axon's own listening sockets and the thread behind them, inside the axon room. It accepts connections,
 * has them handed to gRPC (ushers.h) once they say something, and keeps a duplicate of each one's descriptor, through
 * which it looks at TCP's counters and, where the guard (guard.h) says so, shuts the connection; the duplicate keeps
 * the number from being used for another one meanwhile.
 *
 * gRPC calls a connection that it was handed "fd:37", with its own descriptor, and says so to whoever asks for a call's
 * peer: that number is how calls find their connection's meter. Network threads write meters, the gate's thread reads
 * them; everything else belongs to that thread. */
#pragma once

#include <grpc/grpc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "axon/axon.h"

typedef struct Gate Gate;

/* What calls leave behind at the connection that they came over. */
typedef struct Meter {
    atomic_uint_fast64_t host;                                                   /* a hash */
    atomic_uint_fast64_t begun, begun_bytes, good, answer_bytes, bad, bad_bytes; /* GuardUse */
} Meter;

/* Listens at "HOST:PORT", on all of the host's addresses, and sets the axon's address and port. Raises the soft limit
 * of descriptors to the hard one, and takes as many connections as leave some for others. */
Status gate_open(Axon *axon, const char *text, Error *error);

/* Begins to accept; after the server has started. */
Status gate_start(Axon *axon, Error *error);

/* Accepts no more, and lets go of all connections, which gRPC still has. Before gRPC's server shuts down. */
void gate_end(Axon *axon);
void gate_free(Axon *axon); /* also without gate_open */

/* The meter of a call's connection; of nobody's if it can't be told. */
Meter *gate_meter(const Axon *axon, grpc_call *call);

/* The gate's part of the counters. */
void gate_count(const Axon *axon, AxonCounters *out);

/* --- listen.c --- */

enum { LISTEN_MOST = 8 };

/* Sockets that listen on a host's addresses, at one port, which it returns (*port = 0: any). */
Status listen_at(const char *host, int *port, int sockets[LISTEN_MOST], int *count, Error *error);
