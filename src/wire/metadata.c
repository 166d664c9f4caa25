#include "wire/metadata.h"

#include <inttypes.h>
#include <stdio.h>

bool metadata_number_parse(const uint8_t *bytes, size_t length, uint64_t *out)
{
    uint64_t value = 0;
    if (length == 0 || length >= METADATA_NUMBER_SIZE) return false;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] < '0' || bytes[i] > '9') return false;
        unsigned digit = (unsigned)bytes[i] - '0';
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

size_t metadata_number_format(uint64_t value, char out[METADATA_NUMBER_SIZE])
{
    return (size_t)snprintf(out, METADATA_NUMBER_SIZE, "%" PRIu64, value);
}
