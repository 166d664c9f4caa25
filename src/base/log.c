/* The sink and the level are process-wide: a log belongs to the process as stderr does, and threading it through every
 * call would hide what calls are about. The sink is set before threads start; the level may change at any time. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

enum { LINE_SIZE = 2048 };

static LogSink *current_sink;
static void *current_context;
static _Atomic int least_level = LOG_INFO;

void log_set_sink(LogSink *sink, void *context)
{
    current_sink = sink;
    current_context = context;
}

void log_set_level(LogLevel least)
{
    atomic_store_explicit(&least_level, (int)least, memory_order_relaxed);
}

/* One write(2) a line, so that lines of threads and of neurons that share a terminal don't mix. */
static void write_to_stderr(LogLevel level, const char *line)
{
    static const char *const prefixes[] = {"debug: ", "", "warning: ", "error: "};
    char whole[LINE_SIZE + 16];
    int length = snprintf(whole, sizeof whole, "%s%s\n", prefixes[level], line);
    ssize_t written;
    do
        written = write(STDERR_FILENO, whole, (size_t)length);
    while (written < 0 && errno == EINTR);
}

void log_write(LogLevel level, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed)) return;
    int errno_before = errno; /* logging between a failure and its report must not change the report */
    char line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (wanted >= LINE_SIZE) memcpy(line + LINE_SIZE - 4, "...", 4);
    text_clean(line);
    if (current_sink)
        current_sink(current_context, level, line);
    else
        write_to_stderr(level, line);
    errno = errno_before;
}
