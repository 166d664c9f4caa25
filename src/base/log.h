/* The log: one line an event, to a sink that cli/ chooses (stderr by default). The one place outside cli/ that may
 * write. Thread-safe: a line is written with one call. */
#pragma once

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;

typedef void LogSink(void *context, LogLevel level, const char *line);

/* Replaces the sink (NULL: stderr) and the least level shown (default LOG_INFO). Call before threads start. */
void log_set_sink(LogSink *sink, void *context);
void log_set_level(LogLevel least);

void log_write(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...)   log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_error(...)   log_write(LOG_ERROR, __VA_ARGS__)
