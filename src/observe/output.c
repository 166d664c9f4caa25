#include "observe/output.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"

static const char CLEAR_LINE[] = "\r\x1b[K";

Status output_open(Output *output, FILE *results, FILE *people, bool json, bool quiet, Error *error)
{
    const char *term = getenv("TERM");
    *output = (Output){.results = results, .people = people, .json = json, .quiet = quiet};
    output->terminal = isatty(fileno(people)) == 1 && term && strcmp(term, "dumb") != 0;
    int failure = pthread_mutex_init(&output->lock, NULL);
    if (failure) return error_set_errno(error, failure, "can't make the lock of the output");
    return STATUS_OK;
}

Status output_finish(Output *output, Error *error)
{
    output_status_line(output, NULL);
    errno = 0;
    if (fflush(output->results) != 0 && !output->write_error) output->write_error = errno ? errno : EIO;
    fflush(output->people);
    pthread_mutex_destroy(&output->lock);
    if (output->write_error) return error_set_errno(error, output->write_error, "can't write to standard output");
    return STATUS_OK;
}

bool output_broken(Output *output)
{
    pthread_mutex_lock(&output->lock);
    bool broken = output->write_error != 0;
    pthread_mutex_unlock(&output->lock);
    return broken;
}

unsigned output_width(const Output *output)
{
    struct winsize size;
    if (output->width) return output->width;
    if (ioctl(fileno(output->people), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

/* --- lines: called with the lock held -------------------------------------------------------------------------------
 */

static void clear_status(Output *output)
{
    if (output->status_shown) fputs(CLEAR_LINE, output->people);
    output->status_shown = false;
}

static void write_people(Output *output, const char *prefix, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void write_people(Output *output, const char *prefix, const char *format, va_list arguments)
{
    clear_status(output);
    fputs(prefix, output->people);
    vfprintf(output->people, format, arguments);
    fputc('\n', output->people);
    fflush(output->people);
}

static void write_results(Output *output, const char *text)
{
    if (output->write_error) return;
    errno = 0;
    if (fputs(text, output->results) < 0 || fflush(output->results) != 0) output->write_error = errno ? errno : EIO;
}

/* --- for people ------------------------------------------------------------------------------------------------------
 */

void output_line(Output *output, const char *format, ...)
{
    if (output->quiet) return;
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&output->lock);
    write_people(output, "", format, arguments);
    pthread_mutex_unlock(&output->lock);
    va_end(arguments);
}

void output_warning(Output *output, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&output->lock);
    write_people(output, "warning: ", format, arguments);
    pthread_mutex_unlock(&output->lock);
    va_end(arguments);
}

void output_error(Output *output, const char *format, ...)
{
    char message[2 * ERROR_MESSAGE_SIZE];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    vsnprintf(message, sizeof message, format, again);
    va_end(again);

    pthread_mutex_lock(&output->lock);
    write_people(output, "neuron: ", format, arguments);
    pthread_mutex_unlock(&output->lock);
    va_end(arguments);

    Event event = event_make("error");
    event_text(&event, "message", message);
    output_event(output, &event);
}

void output_result(Output *output, const char *text)
{
    if (output->json && output->quiet) return;
    pthread_mutex_lock(&output->lock);
    clear_status(output);
    if (output->json) {
        fputs(text, output->people);
        fflush(output->people);
    } else {
        write_results(output, text);
    }
    pthread_mutex_unlock(&output->lock);
}

void output_status_line(Output *output, const char *line)
{
    if (output->quiet || !output->terminal) return;
    pthread_mutex_lock(&output->lock);
    if (line || output->status_shown) {
        fprintf(output->people, "%s%s", CLEAR_LINE, line ? line : "");
        fflush(output->people);
    }
    output->status_shown = line != NULL;
    pthread_mutex_unlock(&output->lock);
}

void output_log_sink(void *context, LogLevel level, const char *line)
{
    if (level >= LOG_WARNING)
        output_warning(context, "%s", line);
    else
        output_line(context, "%s", line);
}

/* --- events ----------------------------------------------------------------------------------------------------------
 */

static void event_set(Event *event, const char *key, json_t *value)
{
    if (json_object_set_new(event->object, key, value) != 0) event->failed = true;
}

Event event_make(const char *name)
{
    Event event = {.object = json_object()};
    event.failed = event.object == NULL;
    event_text(&event, "event", name);
    return event;
}

void event_integer(Event *event, const char *key, int64_t value)
{
    event_set(event, key, json_integer(value));
}

void event_integers(Event *event, const char *key, const int64_t *values, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(array, json_integer(values[i])) != 0) event->failed = true;
    event_set(event, key, array);
}

void event_real(Event *event, const char *key, double value)
{
    event_set(event, key, isfinite(value) ? json_real(value) : json_null());
}

void event_boolean(Event *event, const char *key, bool value)
{
    event_set(event, key, json_boolean(value));
}

void event_text(Event *event, const char *key, const char *value)
{
    json_t *string = value ? json_string(value) : json_null();
    if (!string) { /* not UTF-8 */
        char *clean = strdup(value);
        if (clean) {
            text_clean(clean);
            string = json_string(clean);
        }
        free(clean);
    }
    event_set(event, key, string);
}

void output_event(Output *output, Event *event)
{
    if (output->json) {
        char *line = event->failed ? NULL : json_dumps(event->object, JSON_COMPACT | JSON_REAL_PRECISION(9));
        pthread_mutex_lock(&output->lock);
        if (line) {
            write_results(output, line);
            write_results(output, "\n");
        } else if (!output->write_error) {
            output->write_error = ENOMEM;
        }
        pthread_mutex_unlock(&output->lock);
        free(line);
    }
    json_decref(event->object);
    event->object = NULL;
}
