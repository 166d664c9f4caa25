#include "wire/metadata.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/suite.h"

static bool parse(const char *text, uint64_t *out)
{
    return metadata_number_parse((const uint8_t *)text, strlen(text), out);
}

START_TEST(numbers_come_back_as_they_went)
{
    Rng rng = rng_make(1, RNG_STREAM_TEST);
    for (int i = 0; i < 2000; i++) {
        char text[METADATA_NUMBER_SIZE];
        uint64_t value = i == 0 ? 0 : i == 1 ? UINT64_MAX : rng_u64(&rng) >> rng_below(&rng, 64), parsed = ~value;
        size_t length = metadata_number_format(value, text);
        ck_assert_uint_eq(length, strlen(text));
        ck_assert(parse(text, &parsed));
        ck_assert_uint_eq(parsed, value);
    }
}
END_TEST

START_TEST(anything_but_digits_is_no_number)
{
    static const char *const others[] = {"",    " 1",   "1 ",   "-1",    "+1", "0x1", "1.0", "1e3",
                                         "one", "1\n2", "\xff", "1\x80", "/",  ":",   "１"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        uint64_t value = 42;
        ck_assert_msg(!parse(others[i], &value), "'%s' became %llu", others[i], (unsigned long long)value);
        ck_assert_uint_eq(value, 42);
    }
    uint64_t value = 42;
    ck_assert(!metadata_number_parse((const uint8_t *)"1\0002", 3, &value));
}
END_TEST

START_TEST(numbers_beyond_64_bits_and_21_digits_are_refused)
{
    uint64_t value;
    ck_assert(parse("18446744073709551615", &value));
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert(!parse("18446744073709551616", &value));
    ck_assert(!parse("99999999999999999999", &value));
    ck_assert(parse("00000000000000000007", &value)); /* 20 digits */
    ck_assert_uint_eq(value, 7);
    ck_assert(!parse("000000000000000000007", &value));
}
END_TEST

START_TEST(only_the_bytes_given_are_read)
{
    uint8_t *bytes = malloc(2); /* the address sanitizer watches its end */
    uint64_t value;
    memcpy(bytes, "12", 2);
    ck_assert(metadata_number_parse(bytes, 1, &value));
    ck_assert_uint_eq(value, 1);
    ck_assert(metadata_number_parse(bytes, 2, &value));
    ck_assert_uint_eq(value, 12);
    free(bytes);
}
END_TEST

SUITE_MAIN("metadata", numbers_come_back_as_they_went, anything_but_digits_is_no_number,
           numbers_beyond_64_bits_and_21_digits_are_refused, only_the_bytes_given_are_read)
