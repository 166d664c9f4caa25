#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static atomic_bool stop_requested;
static int wake_pipe[2] = {-1, -1}; /* readable for ever after the first signal */

static sigset_t stops(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
}

void signals_stop(void)
{
    atomic_store(&stop_requested, true);
    ssize_t written = write(wake_pipe[1], "!", 1);
    (void)written; /* a pipe that is full wakes as well */
}

static void *watch(void *unused)
{
    sigset_t set = stops();
    int number = 0;
    (void)unused;
    sigwait(&set, &number);
    signals_stop();
    sigwait(&set, &number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    return NULL;
}

static Status start_watching(Error *error)
{
    sigset_t set = stops();
    pthread_t thread;
    int failure = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (failure == 0) failure = pthread_create(&thread, NULL, watch, NULL);
    if (failure) return error_set_errno(error, failure, "can't watch for SIGINT and SIGTERM");
    pthread_setname_np(thread, "signals");
    pthread_detach(thread);
    return STATUS_OK;
}

Status signals_install(Error *error)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (wake_pipe[0] >= 0) return STATUS_OK;
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set_errno(error, errno, "can't make the pipe that signals wake through");
    if (sigaction(SIGPIPE, &ignore, NULL) != 0) return error_set_errno(error, errno, "can't ignore SIGPIPE");
    return start_watching(error);
}

const atomic_bool *signals_stop_flag(void)
{
    return &stop_requested;
}

bool signals_wait(uint64_t timeout_ns)
{
    struct pollfd wake = {.fd = wake_pipe[0], .events = POLLIN};
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};
    int ready;
    do {
        ready = ppoll(&wake, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    } while (ready < 0 && errno == EINTR && !signals_stop_requested());
    return signals_stop_requested();
}
