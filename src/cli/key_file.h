/* Where this neuron's identity is: --key, else $XDG_CONFIG_HOME/neuron/key, else ~/.config/neuron/key. */
#pragma once

#include <stddef.h>

#include "cli/options.h"
#include "wire/identity.h"

Status key_file_path(const Options *options, char *out, size_t size, Error *error);

/* Loads the identity, or makes one where there is none yet, which the log tells. Neurons that start at the same time
 * with the same file get the same identity. */
Status key_file_open(const Options *options, Identity *out, Error *error);

/* Makes the file's folder and saves there; ALREADY_EXISTS as identity_save. */
Status key_file_save(const Identity *identity, const char *path, Error *error);
