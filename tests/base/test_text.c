#include "base/text.h"

#include <string.h>

#include "support/suite.h"

START_TEST(test_append_grows)
{
    Text text = {0};
    for (int i = 0; i < 1000; i++)
        text_append(&text, "%d,", i % 10);
    ck_assert(!text.failed);
    ck_assert_uint_eq(text.length, 2000);
    ck_assert_uint_eq(strlen(text.data), 2000);
    ck_assert_int_eq(strncmp(text.data, "0,1,2,3,4,5,6,7,8,9,0,", 22), 0);
    text_free(&text);
    ck_assert_ptr_null(text.data);
}
END_TEST

START_TEST(test_append_longer_than_any_buffer)
{
    Text text = {0};
    text_append(&text, "a");
    text_append(&text, "%0100000d", 7);
    ck_assert_uint_eq(text.length, 100001);
    ck_assert_int_eq(text.data[100000], '7');
    text_free(&text);
}
END_TEST

static void check_clean(const char *given, const char *expected)
{
    char text[64];
    strcpy(text, given);
    text_clean(text);
    ck_assert_str_eq(text, expected);
}

START_TEST(test_clean_keeps_utf8)
{
    check_clean("", "");
    check_clean("a \xc3\xa9 \xe2\x82\xac \xf0\x9f\xa7\xa0", "a \xc3\xa9 \xe2\x82\xac \xf0\x9f\xa7\xa0");
}
END_TEST

START_TEST(test_clean_replaces_the_rest)
{
    check_clean("a\tb\r\n\x7f", "a?b???");
    check_clean("\xc2\x80\xc2\x9b[2J\xc2\xa0", "????[2J\xc2\xa0"); /* C1, by which terminals are told things too */
    check_clean("\x80\xff", "??");
    check_clean("\xc0\x80", "??");           /* overlong NUL */
    check_clean("\xe0\x9f\xbf", "???");      /* overlong */
    check_clean("\xed\xa0\x80", "???");      /* a surrogate */
    check_clean("\xf4\x90\x80\x80", "????"); /* above U+10FFFF */
    check_clean("\xf0\x8f\xbf\xbf", "????"); /* overlong */
    check_clean("\xe2\x82", "??");           /* cut by the end */
    check_clean("\xf0\x9f\xa7", "???");      /* cut by the end */
    check_clean("\xc3"
                "a\xe2\x82"
                "b",
                "?a??b"); /* cut by a letter */
}
END_TEST

static const char *const options[] = {"--steps", "--epochs", "--batch", "--lr"};

START_TEST(test_nearest_finds_a_slip)
{
    ck_assert_str_eq(text_nearest("--step", options, 4), "--steps");
    ck_assert_str_eq(text_nearest("--epcohs", options, 4), "--epochs");
    ck_assert_str_eq(text_nearest("--bacth", options, 4), "--batch");
    ck_assert_str_eq(text_nearest("--lr", options, 4), "--lr");
}
END_TEST

START_TEST(test_nearest_refuses_what_is_too_far)
{
    ck_assert_ptr_null(text_nearest("--listen", options, 4));
    ck_assert_ptr_null(text_nearest("--steps", options, 0));
    /* Seven letters: three slips pass, four don't. */
    const char *const words[] = {"abcdefg"};
    ck_assert_ptr_nonnull(text_nearest("xyzdefg", words, 1));
    ck_assert_ptr_null(text_nearest("xyzwefg", words, 1));
}
END_TEST

START_TEST(test_nearest_takes_the_least_distance)
{
    const char *const words[] = {"kitchen", "sitting", "kitten"};
    ck_assert_str_eq(text_nearest("mitten", words, 3), "kitten");
}
END_TEST

START_TEST(test_nearest_of_a_monstrous_word_is_nothing)
{
    char word[10000];
    memset(word, '-', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    ck_assert_ptr_null(text_nearest(word, options, 4));
    const char *const words[] = {word};
    ck_assert_ptr_null(text_nearest("--steps", words, 1));
}
END_TEST

SUITE_MAIN("text", test_append_grows, test_append_longer_than_any_buffer, test_clean_keeps_utf8,
           test_clean_replaces_the_rest, test_nearest_finds_a_slip, test_nearest_refuses_what_is_too_far,
           test_nearest_takes_the_least_distance, test_nearest_of_a_monstrous_word_is_nothing)
