/* wire/metadata.h: a number in a call's metadata. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/metadata.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    static const char *const numbers[] = {
        "0",  "7",  "00000000000000000001", "18446744073709551615", "18446744073709551616",
        "-1", " 1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fuzz_seed(seeds, numbers[i], strlen(numbers[i]));
}

/* The same, said in another way. */
static bool expected(const uint8_t *bytes, size_t size, unsigned __int128 *out)
{
    *out = 0;
    for (size_t i = 0; i < size; i++) {
        if (size > 20 || !strchr("0123456789", bytes[i]) || !bytes[i]) return false;
        *out = *out * 10 + (bytes[i] - (unsigned)'0');
    }
    return size > 0 && *out >> 64 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint64_t value = 42, again;
    unsigned __int128 truth;
    char text[METADATA_NUMBER_SIZE];
    const uint8_t *copy = fuzz_copy(bytes, size);
    bool good = metadata_number_parse(copy, size, &value);
    REQUIRE(good == expected(bytes, size, &truth));
    if (good) {
        REQUIRE(value == truth);
        size_t length = metadata_number_format(value, text);
        REQUIRE(length == strlen(text) && length <= size);
        REQUIRE(metadata_number_parse((const uint8_t *)text, length, &again) && again == value);
    }
    fuzz_rooms_clear();
    return 0;
}
