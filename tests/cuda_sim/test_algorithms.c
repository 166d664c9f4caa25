/* The cache of chosen algorithms: what is put is found again, and whatever is wrong with the file, it is only a cache.
 */
#include "backend/cuda/algorithms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/file.h"
#include "support/folder.h"
#include "support/suite.h"

static Folder folder;
static char path[FOLDER_PATH_SIZE];

static void set_up(const char *name)
{
    folder = folder_make();
    folder_path(&folder, name, path);
}

static Algorithms *opened(const char *device, const char *versions)
{
    Algorithms *algorithms = NULL;
    Error damage, error = {.message = ""};
    ck_assert_msg(algorithms_open(path, device, versions, &algorithms, &damage, &error) == STATUS_OK, "%s",
                  error.message);
    ck_assert_msg(damage.status == STATUS_OK, "%s", damage.message);
    return algorithms;
}

static void put(Algorithms *algorithms, const char *problem, const char *plan)
{
    Error error = {.message = ""};
    ck_assert_msg(algorithms_put(algorithms, problem, plan, &error) == STATUS_OK, "%s", error.message);
}

static void save(Algorithms *algorithms)
{
    Error error = {.message = ""};
    ck_assert_msg(algorithms_save(algorithms, &error) == STATUS_OK, "%s", error.message);
}

START_TEST(test_what_is_saved_is_found_again)
{
    set_up("made/on/demand/algorithms.json");
    Algorithms *first = opened("H100", "lt 13.1");
    ck_assert_ptr_null(algorithms_find(first, "a"));
    put(first, "a", "plan a");
    put(first, "b", "{\"json\": \"\\u00e4 \xc3\xa4\"}");
    put(first, "a", "plan a, better");
    ck_assert_str_eq(algorithms_find(first, "a"), "plan a, better");
    save(first);
    algorithms_close(first);
    Algorithms *second = opened("H100", "lt 13.1");
    ck_assert_str_eq(algorithms_find(second, "a"), "plan a, better");
    ck_assert_str_eq(algorithms_find(second, "b"), "{\"json\": \"\\u00e4 \xc3\xa4\"}");
    ck_assert_ptr_null(algorithms_find(second, "c"));
    algorithms_close(second);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_devices_and_versions_are_kept_apart)
{
    set_up("algorithms.json");
    Algorithms *h100 = opened("H100", "1"), *newer = opened("H100", "2"), *l4 = opened("L4", "1");
    put(h100, "a", "of h100");
    save(h100);
    put(l4, "a", "of l4"); /* opened before the other was saved: saving loses nothing */
    save(l4);
    ck_assert_ptr_null(algorithms_find(newer, "a"));
    put(newer, "a", "of newer");
    save(newer);
    algorithms_close(h100);
    algorithms_close(newer);
    algorithms_close(l4);
    h100 = opened("H100", "1");
    l4 = opened("L4", "1");
    newer = opened("H100", "2");
    ck_assert_str_eq(algorithms_find(h100, "a"), "of h100");
    ck_assert_str_eq(algorithms_find(l4, "a"), "of l4");
    ck_assert_str_eq(algorithms_find(newer, "a"), "of newer");
    algorithms_close(h100);
    algorithms_close(newer);
    algorithms_close(l4);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_nothing_new_writes_nothing)
{
    set_up("algorithms.json");
    Algorithms *algorithms = opened("d", "v");
    save(algorithms);
    ck_assert(!file_exists(path));
    put(algorithms, "a", "b");
    save(algorithms);
    ck_assert(file_exists(path));
    ck_assert_int_eq(remove(path), 0);
    save(algorithms);
    ck_assert(!file_exists(path));
    algorithms_close(algorithms);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_damaged_files_are_ignored_with_a_reason)
{
    static const struct {
        const char *content, *reason;
    } files[] = {
        {"", "is no JSON"},
        {"{\"format\": 1, \"entries\": [", "is no JSON"},
        {"\x80\xff\x01\x02", "is no JSON"},
        {"[]", "has no \"format\": 1"},
        {"{\"format\": 2, \"entries\": []}", "has no \"format\": 1"},
        {"{\"format\": \"1\", \"entries\": []}", "has no \"format\": 1"},
        {"{\"format\": 1}", "has no list of entries"},
        {"{\"format\": 1, \"entries\": {}}", "has no list of entries"},
        {"{\"format\": 1, \"entries\": [7]}", "entry 0 of"},
        {"{\"format\": 1, \"entries\": [{\"device\": \"d\", \"versions\": \"v\", \"problem\": \"a\", \"plan\": \"p\"}, "
         "{\"device\": \"d\", \"versions\": \"v\", \"problem\": \"a\", \"plan\": null}]}",
         "entry 1 of"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        Algorithms *algorithms = NULL;
        Error damage;
        set_up("algorithms.json");
        folder_write(&folder, "algorithms.json", files[i].content, strlen(files[i].content));
        ck_assert_int_eq(algorithms_open(path, "d", "v", &algorithms, &damage, NULL), STATUS_OK);
        ck_assert_int_ne(damage.status, STATUS_OK);
        ck_assert_msg(strstr(damage.message, path) && strstr(damage.message, files[i].reason), "%s", damage.message);
        ck_assert_ptr_null(algorithms_find(algorithms, "a"));
        put(algorithms, "a", "b"); /* and replaced by what is saved next */
        save(algorithms);
        algorithms_close(algorithms);
        algorithms = opened("d", "v");
        ck_assert_str_eq(algorithms_find(algorithms, "a"), "b");
        algorithms_close(algorithms);
        folder_remove(&folder);
    }
}
END_TEST

START_TEST(test_a_file_that_cant_be_read)
{
    Algorithms *algorithms = NULL;
    Error damage, error;
    set_up("algorithms.json");
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(algorithms_open(path, "d", "v", &algorithms, &damage, NULL), STATUS_OK);
    ck_assert_int_ne(damage.status, STATUS_OK);
    put(algorithms, "a", "b");
    ck_assert_int_ne(algorithms_save(algorithms, &error), STATUS_OK);
    ck_assert_str_eq(algorithms_find(algorithms, "a"), "b");
    algorithms_close(algorithms);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_a_failed_save_leaves_the_old_file_and_can_be_repeated)
{
    set_up("algorithms.json");
    Algorithms *algorithms = opened("d", "v");
    put(algorithms, "a", "old");
    save(algorithms);
    put(algorithms, "a", "new");
    ck_assert_int_eq(failpoint_arm("file.write=ENOSPC", NULL), STATUS_OK);
    ck_assert_int_eq(algorithms_save(algorithms, NULL), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_int_eq(failpoint_arm(NULL, NULL), STATUS_OK);
    Algorithms *other = opened("d", "v");
    ck_assert_str_eq(algorithms_find(other, "a"), "old");
    algorithms_close(other);
    save(algorithms);
    other = opened("d", "v");
    ck_assert_str_eq(algorithms_find(other, "a"), "new");
    algorithms_close(other);
    algorithms_close(algorithms);
    ck_assert_uint_eq(folder_count(&folder), 1);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_the_oldest_entries_are_dropped)
{
    char problem[32];
    set_up("algorithms.json");
    Algorithms *algorithms = opened("d", "v");
    for (int i = 0; i < ALGORITHMS_MAX_ENTRIES + 2; i++) {
        snprintf(problem, sizeof problem, "problem %d", i);
        put(algorithms, problem, "plan");
    }
    ck_assert_ptr_null(algorithms_find(algorithms, "problem 1"));
    ck_assert_ptr_nonnull(algorithms_find(algorithms, "problem 2"));
    save(algorithms);
    algorithms_close(algorithms);
    algorithms = opened("d", "v");
    ck_assert_ptr_null(algorithms_find(algorithms, "problem 1"));
    ck_assert_ptr_nonnull(algorithms_find(algorithms, problem));
    algorithms_close(algorithms);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_a_file_stays_below_its_limit)
{
    char problem[32];
    struct stat about;
    char *plan = malloc(ALGORITHMS_MAX_TEXT + 2);
    memset(plan, 'x', ALGORITHMS_MAX_TEXT + 1);
    plan[ALGORITHMS_MAX_TEXT + 1] = '\0';
    set_up("algorithms.json");
    Algorithms *algorithms = opened("d", "v");
    ck_assert_int_eq(algorithms_put(algorithms, "a", plan, NULL), STATUS_INVALID_ARGUMENT);
    plan[ALGORITHMS_MAX_TEXT] = '\0';
    for (int i = 0; i < 2 * ALGORITHMS_MAX_FILE / ALGORITHMS_MAX_TEXT; i++) {
        snprintf(problem, sizeof problem, "problem %d", i);
        put(algorithms, problem, plan);
    }
    save(algorithms);
    algorithms_close(algorithms);
    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_int_le(about.st_size, ALGORITHMS_MAX_FILE);
    algorithms = opened("d", "v");
    ck_assert_ptr_nonnull(algorithms_find(algorithms, problem));
    ck_assert_ptr_null(algorithms_find(algorithms, "problem 0"));
    algorithms_close(algorithms);
    free(plan);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_texts_are_utf8)
{
    Error error;
    set_up("nowhere.json");
    Algorithms *algorithms = opened("d", "v");
    ck_assert_int_eq(algorithms_put(algorithms, "a", "\xff", &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "plan or problem for the cache of algorithms is no UTF-8");
    ck_assert_int_eq(algorithms_put(algorithms, "\xc3", "a", &error), STATUS_INVALID_ARGUMENT);
    algorithms_close(algorithms);
    algorithms_close(NULL);
    folder_remove(&folder);
}
END_TEST

SUITE_MAIN("algorithms", test_what_is_saved_is_found_again, test_devices_and_versions_are_kept_apart,
           test_nothing_new_writes_nothing, test_damaged_files_are_ignored_with_a_reason, test_a_file_that_cant_be_read,
           test_a_failed_save_leaves_the_old_file_and_can_be_repeated, test_the_oldest_entries_are_dropped,
           test_a_file_stays_below_its_limit, test_texts_are_utf8)
