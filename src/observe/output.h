/* What the program says: JSON events for programs, lines for people.
 *
 * Events go to stdout, one object a line, and only with --json; then nothing else goes to stdout. Lines for people go
 * to stderr. Results that a person asked for (a table, a key, a help page) go to stdout, or to stderr with --json.
 *
 * One Output serves the whole program; any thread may write to it: `lock` guards everything below it, and a line is
 * never torn. Write errors on stdout (a full disk, a closed pipe) are remembered and told by output_finish, so that a
 * command whose output was lost doesn't end with success. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "base/status.h"

typedef struct Output {
    FILE *results;  /* stdout; not owned */
    FILE *people;   /* stderr; not owned */
    bool json;      /* events on `results` */
    bool quiet;     /* people get warnings and errors only */
    bool terminal;  /* `people` is a terminal: progress is one line, redrawn */
    unsigned width; /* columns of the terminal; 0: ask it */

    pthread_mutex_t lock;
    bool status_shown; /* the last line on `people` is a status line, without its end */
    int write_error;   /* errno of the first failed write on `results` */
} Output;

/* `people` counts as a terminal when it is one and TERM is set to anything but "dumb". */
Status output_open(Output *output, FILE *results, FILE *people, bool json, bool quiet, Error *error);

/* Flushes; fails with "can't write to standard output: ..." when any write on `results` failed. Call once, at the end;
 * the Output must not be used afterwards. */
Status output_finish(Output *output, Error *error);

/* True once a write on `results` has failed: nobody reads any more. */
bool output_broken(Output *output);

/* --- for people -----------------------------------------------------------------------------------------------------
 * One line each; the end of line is added. */
void output_line(Output *output, const char *format, ...) __attribute__((format(printf, 2, 3)));
void output_warning(Output *output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "neuron: <sentence>" for people, and the event {"event":"error","message":"<sentence>"}. */
void output_error(Output *output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text as it is, with no end of line added. */
void output_result(Output *output, const char *text);

/* The line at the bottom of a terminal, redrawn in place; other lines scroll past above it. Not for a file. NULL:
 * clears it. */
void output_status_line(Output *output, const char *line);

/* Columns of the terminal, 80 when it doesn't say. */
unsigned output_width(const Output *output);

/* A sink for log.h; context is the Output. */
LogSink output_log_sink;

/* --- events ---------------------------------------------------------------------------------------------------------
 * Event event = event_make("step");
 * event_integer(&event, "step", 12);
 * event_real(&event, "loss", 0.25);
 * output_event(output, &event);
 *
 * Keys come out in the order they were added. Reals have 9 significant digits (a float survives), and are null when
 * they are NaN or infinite, which JSON can't say. Bytes that aren't UTF-8 become '?'. A key given twice keeps the later
 * value. */
typedef struct Event {
    struct json_t *object;
    bool failed; /* out of memory */
} Event;

Event event_make(const char *name);
void event_integer(Event *event, const char *key, int64_t value);
void event_integers(Event *event, const char *key, const int64_t *values, size_t count);
void event_real(Event *event, const char *key, double value);
void event_boolean(Event *event, const char *key, bool value);
void event_text(Event *event, const char *key, const char *value); /* NULL: null */

/* Takes the event and frees it; prints it with --json. */
void output_event(Output *output, Event *event);
