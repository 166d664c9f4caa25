/* Both ends of a call with bytes of the test's own choice, for what our axon and dendrite would never send. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Sends the bytes as one message to "HOST:PORT" and returns the status that came back, with its sentence. Up to 10 s.
 */
Status raw_call(const char *address, const char *method, const void *bytes, size_t size, Error *error);

/* A client that sends `count` calls with the same bytes over one connection, and reads nothing: its window for answers
 * is of zero bytes. Returns the socket, to be closed. */
int raw_slow_reader(const char *address, const char *method, int count, const void *bytes, size_t size);

/* A server that answers every call, whatever the method, with the same bytes (NULL: with `status`). */
typedef struct RawServer RawServer;

RawServer *raw_server_start(const void *bytes, size_t size, Status status);
const char *raw_server_address(const RawServer *server);
void raw_server_stop(RawServer *server);
