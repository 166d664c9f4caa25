/* Where a peer is: HOST:PORT[/SYNAPSE_KEY], with an IPv6 address in brackets ([::1]:8091). No name is looked up here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum {
    PEER_ADDRESS_SIZE = 272, /* a host name of 253 characters, brackets, colon, port */
    KEY_SIZE = 257, /* a neuron's or synapse's key: at most 256 bytes; the usual form has 66 (wire/identity.h) */
};

typedef struct Peer {
    char address[PEER_ADDRESS_SIZE]; /* "HOST:PORT" or "[v6]:PORT", as gRPC and the log take it */
    char synapse_key[KEY_SIZE];      /* "" : the only soma that the peer serves */
} Peer;

/* INVALID_ARGUMENT: no port, a port outside 1..65535, an empty host or one with characters no host has, an IPv6 address
 * without brackets, an empty or over-long key, or one with characters a key may not have (key_check). */
Status peer_parse(const char *text, Peer *out, Error *error);

/* A list "PEER,PEER,..."; free *out with free(). "" and NULL are the empty list (*out NULL). The error says which entry
 * is wrong. */
Status peer_parse_list(const char *text, Peer **out, size_t *count, Error *error);

/* "HOST:PORT" of a --listen option into host (without brackets) and port; port 0 is allowed: any free one. */
Status address_parse(const char *text, char host[PEER_ADDRESS_SIZE], int *port, Error *error);

/* Any text of 1..256 bytes is a key, if it is UTF-8 without control characters: it must survive a protobuf string, a
 * log line and a terminal. `what` names the key in the sentence. */
Status key_check(const char *what, const char *bytes, size_t length, Error *error);
