/* key_check (wire/peer.h): the keys that peers send, and users type. */
#include <string.h>

#include "fuzz/fuzz.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    static const char *const keys[] = {
        "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "mnist",
        "\xc3\xbc", /* two, three and four bytes */
        "\xe2\x82\xac",
        "\xf0\x9f\xa7\xa0",
        "\xc2\x80",         /* a C1 control */
        "\xc0\xaf",         /* overlong */
        "\xed\xa0\x80",     /* a surrogate */
        "\xf4\x90\x80\x80", /* beyond U+10FFFF */
        "\x7f",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        fuzz_seed(seeds, keys[i], strlen(keys[i]));
}

static size_t encode(uint32_t point, uint8_t out[4])
{
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, point >>= 6)
        out[i] = (uint8_t)(0x80 | (point & 0x3f));
    out[0] = (uint8_t)(length == 1 ? point : (0xf00u >> length & 0xf0u) | point);
    return length;
}

/* The same by decoding and encoding again: what isn't UTF-8 comes back as other bytes. */
static bool expected(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        static const uint8_t masks[] = {0x7f, 0x1f, 0x0f, 0x07};
        size_t more = bytes[i] >= 0xf0 ? 3 : bytes[i] >= 0xe0 ? 2 : bytes[i] >= 0xc0 ? 1 : 0;
        if (more >= size - i) return false;
        uint32_t point = bytes[i] & masks[more];
        for (size_t k = 1; k <= more; k++)
            point = point << 6 | (bytes[i + k] & 0x3f);
        uint8_t again[4];
        if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
        if (encode(point, again) != more + 1 || memcmp(again, bytes + i, more + 1) != 0) return false;
        if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return false;
        i += more + 1;
    }
    return size >= 1 && size <= 256;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Error error = {.status = STATUS_OK};
    const uint8_t *copy = fuzz_copy(bytes, size);
    Status status = key_check("key", (const char *)copy, size, &error);
    REQUIRE((status == STATUS_OK) == expected(bytes, size));
    REQUIRE(status == STATUS_OK || (status == STATUS_INVALID_ARGUMENT && error.status == status));
    REQUIRE(strlen(error.message) < ERROR_MESSAGE_SIZE && !strchr(error.message, '\n'));
    fuzz_rooms_clear();
    return 0;
}
