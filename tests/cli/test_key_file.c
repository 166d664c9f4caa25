#include "cli/key_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "support/folder.h"
#include "support/suite.h"

static void check_path(const Options *options, const char *expected)
{
    char path[256];
    ck_assert_int_eq(key_file_path(options, path, sizeof path, NULL), STATUS_OK);
    ck_assert_str_eq(path, expected);
}

START_TEST(test_path_is_the_option_then_xdg_then_home)
{
    Options options = {0}, given = {.key = "my.key"};
    setenv("HOME", "/h", 1);
    setenv("XDG_CONFIG_HOME", "/x", 1);
    check_path(&given, "my.key");
    check_path(&options, "/x/neuron/key");
    unsetenv("XDG_CONFIG_HOME");
    check_path(&options, "/h/.config/neuron/key");
}
END_TEST

START_TEST(test_no_home_no_path)
{
    Options options = {0};
    char path[256];
    unsetenv("HOME");
    unsetenv("XDG_CONFIG_HOME");
    ck_assert_int_eq(key_file_path(&options, path, sizeof path, NULL), STATUS_FAILED_PRECONDITION);
    setenv("HOME", "/h", 1);
    ck_assert_int_eq(key_file_path(&options, path, 8, NULL), STATUS_OUT_OF_RANGE);
}
END_TEST

START_TEST(test_first_open_makes_the_identity_that_later_ones_find)
{
    char path[FOLDER_PATH_SIZE];
    Folder folder = folder_make();
    Options options = {.key = folder_path(&folder, "a/b/key", path)};
    Identity first, second;
    log_set_level(LOG_ERROR);
    ck_assert_int_eq(key_file_open(&options, &first, NULL), STATUS_OK);
    ck_assert_int_eq(key_file_open(&options, &second, NULL), STATUS_OK);
    ck_assert_str_eq(first.text, second.text);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_damaged_key_is_not_replaced)
{
    char path[FOLDER_PATH_SIZE];
    Folder folder = folder_make();
    Options options = {.key = folder_path(&folder, "key", path)};
    Identity identity;
    folder_write(&folder, "key", "what?\n", 6);
    ck_assert_int_eq(key_file_open(&options, &identity, NULL), STATUS_INVALID_ARGUMENT);
    ck_assert_uint_eq(folder_count(&folder), 1);
    folder_remove(&folder);
}
END_TEST

SUITE_MAIN("key_file", test_path_is_the_option_then_xdg_then_home, test_no_home_no_path,
           test_first_open_makes_the_identity_that_later_ones_find, test_damaged_key_is_not_replaced)
