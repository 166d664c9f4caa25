#include "cli/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/suite.h"

START_TEST(test_first_signal_sets_the_flag)
{
    ck_assert_int_eq(signals_install(NULL), STATUS_OK);
    ck_assert(!signals_stop_requested());
    ck_assert(!signals_wait(1000000));
    kill(getpid(), SIGTERM);
    ck_assert(signals_wait(UINT64_MAX));
    ck_assert(signals_stop_requested());
    ck_assert(signals_wait(UINT64_MAX)); /* and again: the signal isn't used up */
}
END_TEST

static void *send_later(void *argument)
{
    (void)argument;
    usleep(20000);
    kill(getpid(), SIGINT);
    return NULL;
}

START_TEST(test_waiting_is_woken)
{
    pthread_t thread;
    ck_assert_int_eq(signals_install(NULL), STATUS_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, send_later, NULL), 0);
    ck_assert(signals_wait(UINT64_MAX));
    pthread_join(thread, NULL);
}
END_TEST

/* What a child that takes two signals ends by. */
static int end_by(int first, int second)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (signals_install(NULL) != STATUS_OK) _exit(99);
        kill(getpid(), first);
        if (!signals_wait(UINT64_MAX)) _exit(98);
        kill(getpid(), second);
        sleep(60);
        _exit(97);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

START_TEST(test_second_signal_ends_at_once)
{
    ck_assert_int_eq(end_by(SIGINT, SIGINT), SIGINT);
    ck_assert_int_eq(end_by(SIGINT, SIGTERM), SIGTERM);
}
END_TEST

START_TEST(test_closed_pipe_is_an_error_not_a_death)
{
    int ends[2];
    ck_assert_int_eq(signals_install(NULL), STATUS_OK);
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    ck_assert_int_eq(write(ends[1], "x", 1), -1);
    ck_assert_int_eq(errno, EPIPE);
    close(ends[1]);
}
END_TEST

SUITE_MAIN("signals", test_first_signal_sets_the_flag, test_waiting_is_woken, test_second_signal_ends_at_once,
           test_closed_pipe_is_an_error_not_a_death)
