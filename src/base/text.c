#include "base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

static bool reserve(Text *text, size_t more)
{
    size_t needed;
    if (!size_add(text->length, more, &needed) || !size_add(needed, 1, &needed)) return false;
    if (needed <= text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity < needed)
        if (!size_multiply(capacity, 2, &capacity)) return false;
    char *data = realloc(text->data, capacity);
    if (!data) return false;
    text->data = data;
    text->capacity = capacity;
    return true;
}

void text_append(Text *text, const char *format, ...)
{
    if (text->failed) return;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0 || !reserve(text, (size_t)length)) {
        text->failed = true;
    } else {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

void text_free(Text *text)
{
    free(text->data);
    *text = (Text){0};
}

/* Bytes of the UTF-8 sequence at `at` (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF), 0 if there is
 * none. Reads no further than the terminator, which continues nothing. */
static size_t utf8_length(const uint8_t *at)
{
    if (at[0] < 0x80) return 1;
    if (at[0] < 0xC2 || at[0] > 0xF4) return 0;
    if ((at[1] & 0xC0) != 0x80) return 0;
    if (at[0] < 0xE0) return 2;
    if (at[0] == 0xE0 && at[1] < 0xA0) return 0;
    if (at[0] == 0xED && at[1] > 0x9F) return 0;
    if (at[0] == 0xF0 && at[1] < 0x90) return 0;
    if (at[0] == 0xF4 && at[1] > 0x8F) return 0;
    if ((at[2] & 0xC0) != 0x80) return 0;
    if (at[0] < 0xF0) return 3;
    return (at[3] & 0xC0) == 0x80 ? 4 : 0;
}

void text_clean(char *text)
{
    for (uint8_t *at = (uint8_t *)text; *at;) {
        size_t length = utf8_length(at);
        bool control = *at < 0x20 || *at == 0x7F || (*at == 0xC2 && length == 2 && at[1] < 0xA0); /* C0, DEL, C1 */
        if (length == 0 || control) {
            *at++ = '?';
        } else {
            at += length;
        }
    }
}

enum { WORD_MAX = 64 }; /* longer words are nobody's slip of the finger */

/* Levenshtein distance, one row of the table at a time. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t row[WORD_MAX + 1];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_length];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t count)
{
    size_t length = strlen(word);
    if (length > WORD_MAX) return NULL;
    const char *nearest = NULL;
    size_t limit = (length + 2) / 3;
    for (size_t i = 0; i < count; i++) {
        size_t candidate_length = strlen(candidates[i]);
        if (candidate_length > WORD_MAX) continue;
        size_t distance = edit_distance(word, length, candidates[i], candidate_length);
        if (distance > limit || (nearest && distance == limit)) continue;
        nearest = candidates[i];
        limit = distance;
    }
    return nearest;
}
