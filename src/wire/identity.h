/* Who a neuron is: an ed25519 key pair. The public half names it in every message, as "0x" and 64 lower-case hex digits
 * (PROTOCOL: keys are strings of this form).
 *
 * The key file holds the 32-byte seed as 64 hex digits and a newline, readable by its owner only. It is the one file
 * that this room touches, so that the secret half has one reader and one writer. */
#pragma once

#include <stdint.h>

#include "base/status.h"

enum { KEY_TEXT_SIZE = 67 };

typedef struct Identity {
    uint8_t public_key[32];
    uint8_t secret_key[64]; /* libsodium's form: seed, then public key */
    char text[KEY_TEXT_SIZE];
} Identity;

Status identity_create(Identity *out, Error *error);

/* From a 32-byte seed (tests, and the key file). */
Status identity_from_seed(const uint8_t seed[32], Identity *out, Error *error);

/* NOT_FOUND when there is no file; INVALID_ARGUMENT when it holds anything else than a key, or when others than its
 * owner may read it (the sentence says what to do). */
Status identity_load(const char *path, Identity *out, Error *error);

/* Writes a new file of mode 0600. An existing one is never replaced (ALREADY_EXISTS): a lost key can't be made again.
 */
Status identity_save(const Identity *identity, const char *path, Error *error);

/* The default synapse key of a soma: "0x" and the hex of BLAKE2b-256(neuron's public key, soma's name). */
Status identity_synapse_key(const Identity *identity, const char *soma, char out[KEY_TEXT_SIZE], Error *error);
