#include "base/status.h"

#include <errno.h>
#include <string.h>

#include "support/suite.h"

START_TEST(test_set_fills_status_and_sentence)
{
    Error error;
    Status status = error_set(&error, STATUS_NOT_FOUND, "tensor '%s' is %d", "a", 7);
    ck_assert_int_eq(status, STATUS_NOT_FOUND);
    ck_assert_int_eq(error.status, STATUS_NOT_FOUND);
    ck_assert_str_eq(error.message, "tensor 'a' is 7");
}
END_TEST

START_TEST(test_null_drops_the_sentence)
{
    ck_assert_int_eq(error_set(NULL, STATUS_INTERNAL, "lost"), STATUS_INTERNAL);
    ck_assert_int_eq(error_set_errno(NULL, ENOENT, "lost"), STATUS_NOT_FOUND);
    ck_assert_int_eq(error_prefix(NULL, "lost"), STATUS_UNKNOWN);
}
END_TEST

START_TEST(test_long_sentence_is_cut_visibly)
{
    Error error;
    char longer[2 * ERROR_MESSAGE_SIZE];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    error_set(&error, STATUS_INTERNAL, "%s", longer);
    ck_assert_uint_eq(strlen(error.message), ERROR_MESSAGE_SIZE - 1);
    ck_assert_str_eq(error.message + ERROR_MESSAGE_SIZE - 5, "x...");
}
END_TEST

START_TEST(test_sentence_that_just_fits_is_not_cut)
{
    Error error;
    char fitting[ERROR_MESSAGE_SIZE];
    memset(fitting, 'x', sizeof fitting - 1);
    fitting[sizeof fitting - 1] = '\0';
    error_set(&error, STATUS_INTERNAL, "%s", fitting);
    ck_assert_str_eq(error.message, fitting);
}
END_TEST

START_TEST(test_errno_appends_its_text)
{
    Error error;
    Status status = error_set_errno(&error, ENOSPC, "cannot write %s", "a/b");
    ck_assert_int_eq(status, STATUS_RESOURCE_EXHAUSTED);
    ck_assert_str_eq(error.message, "cannot write a/b: No space left on device");
    ck_assert_int_eq(error_set_errno(&error, EACCES, "x"), STATUS_PERMISSION_DENIED);
    ck_assert_int_eq(error_set_errno(&error, EEXIST, "x"), STATUS_ALREADY_EXISTS);
}
END_TEST

START_TEST(test_errno_text_survives_a_long_sentence)
{
    Error error;
    char longer[2 * ERROR_MESSAGE_SIZE];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    error_set_errno(&error, ENOENT, "%s", longer);
    ck_assert_uint_eq(strlen(error.message), ERROR_MESSAGE_SIZE - 1);
    ck_assert_ptr_nonnull(strstr(error.message, "x...: No such file or directory"));
}
END_TEST

START_TEST(test_prefix_keeps_the_status)
{
    Error error;
    error_set(&error, STATUS_OUT_OF_RANGE, "rank is 9");
    ck_assert_int_eq(error_prefix(&error, "file %s", "w"), STATUS_OUT_OF_RANGE);
    ck_assert_str_eq(error.message, "file w: rank is 9");
}
END_TEST

START_TEST(test_argument_may_be_the_error_itself)
{
    Error error;
    error_set(&error, STATUS_INTERNAL, "inner");
    error_set(&error, STATUS_ABORTED, "outer (%s)", error.message);
    ck_assert_str_eq(error.message, "outer (inner)");
}
END_TEST

START_TEST(test_sentence_is_one_line_of_utf8)
{
    Error error;
    error_set(&error, STATUS_INTERNAL, "a\nb\x1b[1m\xff \xc3\xa9");
    ck_assert_str_eq(error.message, "a?b?[1m? \xc3\xa9");
}
END_TEST

START_TEST(test_names)
{
    ck_assert_str_eq(status_name(STATUS_OK), "OK");
    ck_assert_str_eq(status_name(STATUS_INVALID_ARGUMENT), "INVALID_ARGUMENT");
    ck_assert_str_eq(status_name(STATUS_UNAUTHENTICATED), "UNAUTHENTICATED");
    ck_assert_str_eq(status_name((Status)99), "UNKNOWN");
    ck_assert_str_eq(status_name((Status)-1), "UNKNOWN");
}
END_TEST

SUITE_MAIN("status", test_set_fills_status_and_sentence, test_null_drops_the_sentence,
           test_long_sentence_is_cut_visibly, test_sentence_that_just_fits_is_not_cut, test_errno_appends_its_text,
           test_errno_text_survives_a_long_sentence, test_prefix_keeps_the_status,
           test_argument_may_be_the_error_itself, test_sentence_is_one_line_of_utf8, test_names)
