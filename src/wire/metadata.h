/* The metadata that neurons of this program add to calls; the reference sends none and ignores ours. Values are decimal
 * digits. No I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of an answer to Forward: the version of the weights that gave it. Of a request to Backward: the version that gave the
 * answer whose gradient this is. Absent where there are no weights. */
#define METADATA_WEIGHTS_VERSION "neuron-weights-version"

enum { METADATA_NUMBER_SIZE = 21 };

/* 1 to 20 digits, at most 2^64 - 1, and nothing else; false otherwise. */
bool metadata_number_parse(const uint8_t *bytes, size_t length, uint64_t *out);

/* Returns the length; terminated. */
size_t metadata_number_format(uint64_t value, char out[METADATA_NUMBER_SIZE]);
