#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "support/folder.h"
#include "support/suite.h"

/* This definition stands before libc's: the system call, but at most so many bytes of it. */
static size_t write_limit = SIZE_MAX;

ssize_t write(int fd, const void *bytes, size_t size)
{
    return syscall(SYS_write, fd, bytes, size < write_limit ? size : write_limit);
}

static struct iovec part(const char *text)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

static Status replace(const char *path, const char *text, Error *error)
{
    struct iovec parts[] = {part(text)};
    return file_replace(path, parts, 1, error);
}

static void check_content(const char *path, const char *expected)
{
    char *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(file_read(path, 1 << 20, &data, &size, NULL), STATUS_OK);
    ck_assert_str_eq(data, expected);
    ck_assert_uint_eq(size, strlen(expected));
    free(data);
}

START_TEST(test_replace_writes_the_parts_in_order)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    struct iovec parts[] = {part("one "), part(""), part("two "), part("three")};
    ck_assert_int_eq(file_replace(path, parts, 4, NULL), STATUS_OK);
    check_content(path, "one two three");
    ck_assert_int_eq(file_replace(path, NULL, 0, NULL), STATUS_OK);
    check_content(path, "");
    ck_assert_uint_eq(folder_count(&folder), 1);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_replace_in_the_working_directory)
{
    Folder folder = folder_make();
    ck_assert_int_eq(chdir(folder.path), 0);
    ck_assert_int_eq(replace("bare", "text", NULL), STATUS_OK);
    check_content("bare", "text");
    ck_assert_int_eq(chdir("/"), 0);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_short_writes_and_interruptions_go_on)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    write_limit = 3;
    ck_assert_int_eq(failpoint_arm("file.write=EINTR@1,file.write=EINTR@3,file.fsync=EINTR@1", NULL), STATUS_OK);
    ck_assert_int_eq(replace(path, "more than three bytes", NULL), STATUS_OK);
    write_limit = SIZE_MAX;
    check_content(path, "more than three bytes");
    folder_remove(&folder);
}
END_TEST

/* Each system call fails in turn: the old file stays as it was, nothing else stays, and the sentence names the path. */
START_TEST(test_failure_leaves_the_old_file)
{
    static const struct {
        const char *armed, *reason;
        Status status;
    } cases[] = {
        {"file.open=EMFILE", "Too many open files", STATUS_RESOURCE_EXHAUSTED},
        {"file.write=ENOSPC", "No space left on device", STATUS_RESOURCE_EXHAUSTED},
        {"file.write=EIO@2", "Input/output error", STATUS_DATA_LOSS},
        {"file.fsync=EIO@1", "Input/output error", STATUS_DATA_LOSS},
        {"file.rename=EACCES", "Permission denied", STATUS_PERMISSION_DENIED},
    };
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    ck_assert_int_eq(replace(path, "old", NULL), STATUS_OK);
    struct iovec parts[] = {part("new "), part("text")};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Error error = {0};
        ck_assert_int_eq(failpoint_arm(cases[i].armed, NULL), STATUS_OK);
        ck_assert_int_eq(file_replace(path, parts, 2, &error), cases[i].status);
        ck_assert_msg(strstr(error.message, path) && strstr(error.message, cases[i].reason), "%s", error.message);
        check_content(path, "old");
        ck_assert_uint_eq(folder_count(&folder), 1);
    }
    folder_remove(&folder);
}
END_TEST

START_TEST(test_unsynced_directory_is_reported)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    Error error = {0};
    ck_assert_int_eq(failpoint_arm("file.fsync=EIO@2", NULL), STATUS_OK);
    ck_assert_int_eq(replace(path, "new", &error), STATUS_DATA_LOSS);
    ck_assert_msg(strstr(error.message, "is replaced, but may not outlive a crash"), "%s", error.message);
    check_content(path, "new");
    ck_assert_int_eq(failpoint_arm("file.fsync=EINVAL@2", NULL), STATUS_OK); /* a file system that can't */
    ck_assert_int_eq(replace(path, "newer", &error), STATUS_OK);
    folder_remove(&folder);
}
END_TEST

/* Killed at each system call: a reader finds the old text or the new one, and the next write goes through. */
START_TEST(test_killed_anywhere_leaves_a_whole_file)
{
    static const char *const places[] = {"file.open=KILL",    "file.write=KILL@1",  "file.write=KILL@2",
                                         "file.fsync=KILL@1", "file.rename=KILL@1", "file.fsync=KILL@2"};
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "a", path);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        ck_assert_int_eq(replace(path, "old", NULL), STATUS_OK);
        pid_t child = fork();
        if (child == 0) {
            struct iovec parts[] = {part("new "), part("text")};
            failpoint_arm(places[i], NULL);
            file_replace(path, parts, 2, NULL);
            _exit(1);
        }
        int outcome;
        ck_assert_int_eq(waitpid(child, &outcome, 0), child);
        ck_assert(WIFSIGNALED(outcome) && WTERMSIG(outcome) == SIGKILL);
        bool renamed = strcmp(places[i], "file.fsync=KILL@2") == 0;
        check_content(path, renamed ? "new text" : "old");
    }
    folder_remove(&folder);
}
END_TEST

START_TEST(test_leftover_of_a_killed_process_is_overwritten)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE], leftover[64];
    snprintf(leftover, sizeof leftover, "a.tmp.%ld", (long)getpid());
    folder_write(&folder, leftover, "much longer rubbish", 19);
    folder_path(&folder, "a", path);
    ck_assert_int_eq(replace(path, "new", NULL), STATUS_OK);
    check_content(path, "new");
    ck_assert_uint_eq(folder_count(&folder), 1);
    folder_remove(&folder);
}
END_TEST

static void check_full_disk(const Folder *folder)
{
    char path[FOLDER_PATH_SIZE];
    static char large[1 << 20];
    struct iovec parts[] = {part("head"), {.iov_base = large, .iov_len = sizeof large}};
    Error error = {0};
    folder_path(folder, "a", path);
    ck_assert_int_eq(replace(path, "old", NULL), STATUS_OK);
    ck_assert_int_eq(file_replace(path, parts, 2, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_msg(strstr(error.message, path), "%s", error.message);
    check_content(path, "old");
    ck_assert_uint_eq(folder_count(folder), 1);
    ck_assert_int_eq(replace(path, "fits", NULL), STATUS_OK);
    check_content(path, "fits");
}

/* The kernel writes what still fits, and then refuses: a short write that leads to an error. */
START_TEST(test_file_size_limit)
{
    Folder folder = folder_make();
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 100000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    check_full_disk(&folder);
    folder_remove(&folder);
}
END_TEST

/* A file system of 64 KiB, in a mount namespace of this process; where that is not permitted, the limit above stands
 * for it. */
START_TEST(test_full_disk)
{
    Folder folder = folder_make();
    bool mounted = unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                   mount("tmpfs", folder.path, "tmpfs", 0, "size=64k") == 0;
    if (mounted) {
        check_full_disk(&folder);
        ck_assert_int_eq(umount2(folder.path, MNT_DETACH), 0);
    }
    folder_remove(&folder);
}
END_TEST

START_TEST(test_replace_names_what_it_cannot_create)
{
    Error error = {0};
    ck_assert_int_eq(replace("/nonexistent/folder/a", "x", &error), STATUS_NOT_FOUND);
    ck_assert_msg(strstr(error.message, "/nonexistent/folder/a"), "%s", error.message);
    char longer[8000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    ck_assert_int_eq(replace(longer, "x", &error), STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(test_replace_refuses_a_folder)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    folder_path(&folder, "d", path);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(replace(path, "x", NULL), STATUS_FAILED_PRECONDITION);
    ck_assert_uint_eq(folder_count(&folder), 1);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_map_gives_the_bytes)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    FileMap map = {0};
    folder_write(&folder, "a", "abc", 3);
    ck_assert_int_eq(file_map(folder_path(&folder, "a", path), &map, NULL), STATUS_OK);
    ck_assert_uint_eq(map.size, 3);
    ck_assert_int_eq(memcmp(map.data, "abc", 3), 0);
    file_unmap(&map);
    folder_write(&folder, "empty", "", 0);
    ck_assert_int_eq(file_map(folder_path(&folder, "empty", path), &map, NULL), STATUS_OK);
    ck_assert_uint_eq(map.size, 0);
    ck_assert_ptr_null(map.data);
    file_unmap(&map);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_map_refuses_what_is_no_regular_file)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    FileMap map = {0};
    Error error = {0};
    ck_assert_int_eq(file_map(folder.path, &map, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, folder.path), "%s", error.message);
    ck_assert_int_eq(mkfifo(folder_path(&folder, "fifo", path), 0600), 0);
    ck_assert_int_eq(file_map(path, &map, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(file_map(folder_path(&folder, "absent", path), &map, &error), STATUS_NOT_FOUND);
    ck_assert_msg(strstr(error.message, path), "%s", error.message);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_read_keeps_its_limit)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE], *data = NULL;
    size_t size = 0;
    static char large[10000];
    memset(large, 'x', sizeof large);
    folder_write(&folder, "a", large, sizeof large);
    folder_path(&folder, "a", path);
    Error error = {0};
    ck_assert_int_eq(file_read(path, sizeof large - 1, &data, &size, &error), STATUS_OUT_OF_RANGE);
    ck_assert_msg(strstr(error.message, "more than the expected 9999 bytes"), "%s", error.message);
    ck_assert_int_eq(file_read(path, sizeof large, &data, &size, &error), STATUS_OK);
    ck_assert_uint_eq(size, sizeof large);
    ck_assert_int_eq(data[size], '\0');
    ck_assert_int_eq(memcmp(data, large, size), 0);
    free(data);
    ck_assert_int_eq(file_read(folder.path, 10, &data, &size, &error), STATUS_FAILED_PRECONDITION);
    ck_assert_int_eq(file_read("/proc/self/stat", 1 << 20, &data, &size, &error), STATUS_OK); /* states no size */
    ck_assert_uint_gt(size, 10);
    free(data);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_make_directories)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    Error error = {0};
    folder_path(&folder, "a//b/c/", path);
    ck_assert_int_eq(file_make_directories(path, NULL), STATUS_OK);
    ck_assert(file_exists(path));
    ck_assert_int_eq(file_make_directories(path, NULL), STATUS_OK);
    folder_write(&folder, "file", "", 0);
    ck_assert_int_eq(file_make_directories(folder_path(&folder, "file/d", path), &error), STATUS_ALREADY_EXISTS);
    ck_assert_msg(strstr(error.message, folder.path), "%s", error.message);
    ck_assert_int_eq(file_make_directories("", &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(file_make_directories("/", &error), STATUS_OK);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_join)
{
    char out[8];
    Error error = {0};
    ck_assert_int_eq(file_join(out, sizeof out, "abc", "def", NULL), STATUS_OK);
    ck_assert_str_eq(out, "abc/def");
    ck_assert_int_eq(file_join(out, sizeof out, "abc", "defg", &error), STATUS_OUT_OF_RANGE);
    ck_assert_msg(strstr(error.message, "abc/defg has 8 characters, expected fewer than 8"), "%s", error.message);
    ck_assert_int_eq(file_join(out, sizeof out, "/", "x", NULL), STATUS_OK);
    ck_assert_str_eq(out, "/x");
    ck_assert_int_eq(file_join(out, sizeof out, "", "x", NULL), STATUS_OK);
    ck_assert_str_eq(out, "x");
}
END_TEST

SUITE_MAIN("file", test_replace_writes_the_parts_in_order, test_replace_in_the_working_directory,
           test_short_writes_and_interruptions_go_on, test_failure_leaves_the_old_file,
           test_unsynced_directory_is_reported, test_killed_anywhere_leaves_a_whole_file,
           test_leftover_of_a_killed_process_is_overwritten, test_file_size_limit, test_full_disk,
           test_replace_names_what_it_cannot_create, test_replace_refuses_a_folder, test_map_gives_the_bytes,
           test_map_refuses_what_is_no_regular_file, test_read_keeps_its_limit, test_make_directories, test_join)
