/* The messages of /neuron.Neuron/Hello (proto/neuron.proto), as the caller writes and reads them. No state. */
#pragma once

#include <grpc/grpc.h>
#include <stdint.h>

#include "rpc/unary.h"
#include "wire/peer.h"

enum {
    HELLO_REPLY_BYTES = 64 << 10,            /* longer replies are refused */
    HELLO_REFERENCE_BYTES = 4 * 1024 * 1024, /* what a neuron without Hello, one of the reference's, receives */
};

grpc_byte_buffer *hello_request(const char *neuron_key, size_t max_message_bytes);

/* The peer's limit and key ("" if it is none), from a Hello that is done. UNIMPLEMENTED counts as an answer. False: it
 * failed, and says nothing. */
bool hello_read(const UnaryCall *call, uint64_t *max_message_bytes, char neuron_key[KEY_SIZE]);
