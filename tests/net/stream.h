/* A streaming call as a client makes it, one step at a time; each waits for what it asks for, up to 10 s a call. */
#pragma once

#include <grpc/grpc.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Stream Stream;

Stream *stream_open(grpc_channel *channel, const char *method);
void stream_send(Stream *stream, const void *bytes, size_t size);
void stream_send_end(Stream *stream); /* nothing more will be sent */

/* The size of the next message, whose first bytes are in `out`; -1: there are no more. */
int stream_next(Stream *stream, uint8_t *out, size_t room);

/* Waits for the end and says how it was; stream_close is still needed. */
Status stream_status(Stream *stream, Error *error);

/* Cancels the call if it isn't over. */
void stream_close(Stream *stream);
