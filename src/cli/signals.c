#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static atomic_bool stop_requested;
static int wake_pipe[2] = {-1, -1}; /* readable for ever after the first signal */

/* Only async-signal-safe calls. In the handler the signal is blocked: the raised one arrives as it returns. */
static void on_signal(int number)
{
    int saved = errno;
    if (atomic_exchange(&stop_requested, true)) {
        signal(number, SIG_DFL);
        raise(number);
    } else {
        ssize_t written = write(wake_pipe[1], "!", 1);
        (void)written; /* a pipe that is full wakes as well */
    }
    errno = saved;
}

Status signals_install(Error *error)
{
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};
    if (wake_pipe[0] < 0 && pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set_errno(error, errno, "can't make the pipe that signals wake through");
    if (sigaction(SIGINT, &stop, NULL) != 0 || sigaction(SIGTERM, &stop, NULL) != 0 ||
        sigaction(SIGPIPE, &ignore, NULL) != 0)
        return error_set_errno(error, errno, "can't handle SIGINT, SIGTERM and SIGPIPE");
    return STATUS_OK;
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
