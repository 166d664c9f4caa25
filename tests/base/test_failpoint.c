#include "base/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/suite.h"

START_TEST(test_unarmed_goes_on)
{
    ck_assert_int_eq(failpoint_hit("file.write"), 0);
    ck_assert_int_eq(failpoint_arm("", NULL), STATUS_OK);
    ck_assert_int_eq(failpoint_hit("file.write"), 0);
}
END_TEST

START_TEST(test_armed_fails_each_time)
{
    ck_assert_int_eq(failpoint_arm("file.write=ENOSPC", NULL), STATUS_OK);
    ck_assert_int_eq(failpoint_hit("file.write"), ENOSPC);
    ck_assert_int_eq(failpoint_hit("file.write"), ENOSPC);
    ck_assert_int_eq(failpoint_hit("file.open"), 0);
    ck_assert_int_eq(failpoint_arm(NULL, NULL), STATUS_OK);
    ck_assert_int_eq(failpoint_hit("file.write"), 0);
}
END_TEST

START_TEST(test_counted_fails_that_time_only)
{
    ck_assert_int_eq(failpoint_arm("a=EIO@3,b=EMFILE@1", NULL), STATUS_OK);
    ck_assert_int_eq(failpoint_hit("a"), 0);
    ck_assert_int_eq(failpoint_hit("b"), EMFILE);
    ck_assert_int_eq(failpoint_hit("a"), 0);
    ck_assert_int_eq(failpoint_hit("a"), EIO);
    ck_assert_int_eq(failpoint_hit("a"), 0);
    ck_assert_int_eq(failpoint_hit("b"), 0);
}
END_TEST

START_TEST(test_one_name_may_fail_differently)
{
    ck_assert_int_eq(failpoint_arm("a=EINTR@1,a=EIO@2", NULL), STATUS_OK);
    ck_assert_int_eq(failpoint_hit("a"), EINTR);
    ck_assert_int_eq(failpoint_hit("a"), EIO);
    ck_assert_int_eq(failpoint_hit("a"), 0);
}
END_TEST

START_TEST(test_environment_arms)
{
    setenv("NEURON_FAILPOINTS", "file.fsync=EIO@2,tensor.create=ENOMEM", 1);
    ck_assert_int_eq(failpoint_hit("tensor.create"), ENOMEM);
    ck_assert_int_eq(failpoint_hit("file.fsync"), 0);
    ck_assert_int_eq(failpoint_hit("file.fsync"), EIO);
}
END_TEST

START_TEST(test_arming_replaces_the_environment)
{
    setenv("NEURON_FAILPOINTS", "a=EIO", 1);
    ck_assert_int_eq(failpoint_arm("b=ENOMEM", NULL), STATUS_OK);
    ck_assert_int_eq(failpoint_hit("a"), 0);
    ck_assert_int_eq(failpoint_hit("b"), ENOMEM);
}
END_TEST

START_TEST(test_kill_kills_there)
{
    pid_t child = fork();
    if (child == 0) {
        failpoint_arm("file.rename=KILL@2", NULL);
        if (failpoint_hit("file.rename") != 0) _exit(1);
        failpoint_hit("file.rename");
        _exit(2);
    }
    int outcome;
    ck_assert_int_eq(waitpid(child, &outcome, 0), child);
    ck_assert(WIFSIGNALED(outcome));
    ck_assert_int_eq(WTERMSIG(outcome), SIGKILL);
}
END_TEST

START_TEST(test_mistakes_are_refused_by_name)
{
    static const char *const wrong[] = {"file.write",
                                        "=EIO",
                                        "a=EWRONG",
                                        "a=",
                                        "a=EIO@0",
                                        "a=EIO@",
                                        "a=EIO@three",
                                        "a=EIO@-1",
                                        "a=EIO@1x",
                                        "a=5",
                                        "a=EIO@99999999999999999999",
                                        "a=EIO,b=EWRONG",
                                        "a=EIO@3@4",
                                        "a =eio",
                                        "a=EIO;b=EIO"};
    ck_assert_int_eq(failpoint_arm("kept=EIO", NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        Error error = {0};
        ck_assert_msg(failpoint_arm(wrong[i], &error) == STATUS_INVALID_ARGUMENT, "'%s' was accepted", wrong[i]);
        ck_assert_msg(strstr(error.message, "failpoint") && strstr(error.message, "expected"), "'%s'", error.message);
    }
    ck_assert_int_eq(failpoint_hit("kept"), EIO);
    ck_assert_int_eq(failpoint_hit("a"), 0);
}
END_TEST

SUITE_MAIN("failpoint", test_unarmed_goes_on, test_armed_fails_each_time, test_counted_fails_that_time_only,
           test_one_name_may_fail_differently, test_environment_arms, test_arming_replaces_the_environment,
           test_kill_kills_there, test_mistakes_are_refused_by_name)
