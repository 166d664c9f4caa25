/* The services that go with being a server: grpc.health.v1 (Check and Watch) and grpc.reflection.v1 and v1alpha. Inside
 * the axon room; the axon calls these in the order in which they stand here.
 *
 * Everything is guarded by one lock, the last one to be taken: any thread may call services_health_set and what
 * follows, with the axon's lock held or not. Operations end on the axon's first completion queue. */
#pragma once

#include "axon/axon.h"

/* Names the methods to gRPC; after grpc_server_create, before the server starts. Fills axon->services. */
Status services_register(Axon *axon, Error *error);

/* Takes calls; after the server has started. */
Status services_post(Axon *axon, Error *error);

/* "" and "Bittensor": the node. Any other name appears with its first state; at most 128 are kept. Watchers are told at
 * once, but not twice the same, and one that reads slowly learns the last state only. */
void services_health_set(Axon *axon, const char *service, bool serving);

/* From now on the name is unknown again. */
void services_health_forget(Axon *axon, const char *service);

/* From now on everything that is known is NOT_SERVING, whatever is set. Check and Watch still answer. */
void services_drain(Axon *axon);

/* Ends the streams with UNAVAILABLE, and waits up to half a second for those that don't read. Before the server's
 * shutdown, which cancels the rest. */
void services_end(Axon *axon);

/* After the completion queue has ended. Nothing to do where services_register wasn't called. */
void services_free(Axon *axon);
