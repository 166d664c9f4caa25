/* The ushers: threads of the gate that hand connections over to gRPC, inside the axon room.
 *
 * gRPC reads and parses a connection in whatever thread has just touched it, for as long as bytes keep coming faster
 * than they are parsed: a single flood that begins with its connection would keep the gate's own thread, and with it
 * all guarding, for ever. So the gate only leaves connections here. While an usher is kept, others lead those that come
 * after; more are made when some wait and none is free. An usher that is kept returns when its connection is shut. */
#pragma once

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Ushers Ushers;

/* At most `most_waiting` descriptors wait at a time. The server and its credentials outlive them. */
Status ushers_start(grpc_server *server, grpc_server_credentials *credentials, size_t most_waiting, Ushers **out,
                    Error *error);

/* `fd` belongs to gRPC from now on. Doesn't wait. */
void ushers_lead(Ushers *ushers, int fd);

/* Now and then, by the gate's thread: makes another usher if some connection has waited since the last time. */
void ushers_turn(Ushers *ushers);

/* The core time that they have used, in ns. By the gate's thread. */
uint64_t ushers_work(const Ushers *ushers);

/* Leads no more, and closes what waits; returns whether some usher is kept: then connections must be shut. */
bool ushers_end(Ushers *ushers);
/* Waits for them, and frees. NULL is fine. */
void ushers_free(Ushers *ushers);
