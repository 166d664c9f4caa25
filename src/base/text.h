/* A growing string, for messages and JSON-free output. Zero-initialise; free with text_free. Append fails only on lack
 * of memory, which is remembered. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct Text {
    char *data; /* NULL while empty, else terminated */
    size_t length, capacity;
    bool failed;
} Text;

void text_append(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_free(Text *text);

/* Replaces control characters, and bytes that are not UTF-8, by '?', so that text from files and peers can stand in one
 * line of a log and in JSON. */
void text_clean(char *text);

/* Of `count` candidates, the one with the least edit distance to `word` if that is at most a third of its length
 * rounded up, else NULL. */
const char *text_nearest(const char *word, const char *const *candidates, size_t count);
