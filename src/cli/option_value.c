#include "cli/option_value.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_LIMIT = 256 };

struct OptionMemory {
    struct OptionMemory *next;
    alignas(max_align_t) char data[];
};

void *option_allocate(Options *options, size_t size)
{
    struct OptionMemory *memory = malloc(sizeof *memory + size);
    if (!memory) return NULL;
    memory->next = options->memory;
    options->memory = memory;
    return memory->data;
}

void options_free(Options *options)
{
    struct OptionMemory *memory = options->memory;
    while (memory) {
        struct OptionMemory *next = memory->next;
        free(memory);
        memory = next;
    }
    *options = (Options){0};
}

static char *keep_text(Options *options, const char *text, size_t length)
{
    char *copy = option_allocate(options, length + 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

/* --- what is expected ------------------------------------------------------------------------------------------------
 */

static void append_choices(const char *choices, Text *text)
{
    for (const char *at = choices; *at;) {
        int length = (int)strcspn(at, "|");
        bool first = at == choices, last = at[length] == '\0';
        text_append(text, "%s%.*s", first ? "" : last ? " or " : ", ", length, at);
        at += length + !last;
    }
}

static void append_bounds(const OptionRow *row, Text *text)
{
    const char *unit = row->type == OPTION_DURATION ? "s" : "";
    text_append(text, " of at least %.17g%s", row->least, unit);
    if (row->most != 0) text_append(text, " and %s %.17g%s", row->below ? "below" : "at most", row->most, unit);
}

void option_expected(const OptionRow *row, Text *text)
{
    switch (row->type) {
    case OPTION_STRING:
        text_append(text, "a text");
        break;
    case OPTION_CHOICE:
        append_choices(row->choices, text);
        break;
    case OPTION_INTEGER:
        text_append(text, "an integer");
        append_bounds(row, text);
        break;
    case OPTION_REAL:
        text_append(text, "a number");
        append_bounds(row, text);
        break;
    case OPTION_DURATION:
        text_append(text, "a duration such as 500ms, 3s or 2m");
        append_bounds(row, text);
        break;
    case OPTION_FLAG:
    case OPTION_BOOLEAN:
        text_append(text, "true or false");
        break;
    case OPTION_RANGE:
        text_append(text, "a range A:B with 0 <= A < B");
        break;
    case OPTION_INTEGERS:
        text_append(text, "integers");
        append_bounds(row, text);
        text_append(text, ", separated by commas");
        break;
    case OPTION_PEERS:
        text_append(text, "HOST:PORT[/SYNAPSE_KEY], several separated by commas");
        break;
    }
}

/* --- parsing: false when the text isn't what is expected -------------------------------------------------------------
 */

static bool in_bounds(const OptionRow *row, double value)
{
    if (value < row->least) return false;
    return row->most == 0 || (row->below ? value < row->most : value <= row->most);
}

/* The digits at `text`; *end is what follows them. */
static bool parse_digits(const char *text, const char **end, int64_t *out)
{
    char *rest;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    *out = strtoll(text, &rest, 10);
    *end = rest;
    return errno == 0;
}

static bool parse_integer(const OptionRow *row, const char *text, char end, const char **rest, int64_t *out)
{
    return parse_digits(text, rest, out) && **rest == end && in_bounds(row, (double)*out);
}

static bool parse_real(const char *text, const char **end, double *out)
{
    char *rest;
    bool begins = (*text >= '0' && *text <= '9') || *text == '.' || *text == '-';
    if (!begins || strpbrk(text, "xX")) return false;
    *out = strtod(text, &rest);
    *end = rest;
    return rest != text && isfinite(*out);
}

static bool parse_duration(const OptionRow *row, const char *text, uint64_t *out)
{
    static const struct {
        const char *unit;
        double nanoseconds;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    const char *unit;
    double number;
    if (!parse_real(text, &unit, &number) || number < 0) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(unit, units[i].unit) != 0) continue;
        double nanoseconds = number * units[i].nanoseconds;
        if (nanoseconds >= 9e18 || !in_bounds(row, nanoseconds * 1e-9)) return false;
        *out = (uint64_t)(nanoseconds + 0.5);
        return true;
    }
    return false;
}

static bool parse_boolean(const char *text, bool *out)
{
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0) return false;
    *out = yes;
    return true;
}

static bool parse_range(const char *text, OptionRange *out)
{
    const char *end;
    OptionRange range = {.set = true};
    if (!parse_digits(text, &end, &range.begin) || *end != ':') return false;
    if (!parse_digits(end + 1, &end, &range.end) || *end || range.begin >= range.end) return false;
    *out = range;
    return true;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = choices; *at;) {
        size_t word = strcspn(at, "|");
        if (word == length && memcmp(at, text, length) == 0) return true;
        at += word + (at[word] == '|');
    }
    return false;
}

static bool parse_integers(Options *options, const OptionRow *row, const char *text, OptionIntegers *out)
{
    int64_t items[LIST_LIMIT];
    size_t count = 0;
    for (const char *at = text;; at++) {
        if (count == LIST_LIMIT || !parse_digits(at, &at, &items[count])) return false;
        if (!in_bounds(row, (double)items[count++])) return false;
        if (!*at) break;
        if (*at != ',') return false;
    }
    int64_t *copy = option_allocate(options, count * sizeof *copy);
    if (!copy) return false;
    memcpy(copy, items, count * sizeof *copy);
    *out = (OptionIntegers){copy, count};
    return true;
}

static bool parse_text(Options *options, const char *text, const char **out)
{
    *out = keep_text(options, text, strlen(text));
    return *out != NULL;
}

/* Fields are left alone when the text is refused. */
static bool parse_value(Options *options, const OptionRow *row, const char *text)
{
    void *field = (char *)options + row->offset;
    const char *end;
    int64_t integer;
    double real;
    switch (row->type) {
    case OPTION_STRING:
    case OPTION_PEERS:
        return parse_text(options, text, field);
    case OPTION_CHOICE:
        return is_choice(row->choices, text) && parse_text(options, text, field);
    case OPTION_INTEGER:
        if (!parse_integer(row, text, '\0', &end, &integer)) return false;
        *(int64_t *)field = integer;
        return true;
    case OPTION_REAL:
        if (!parse_real(text, &end, &real) || *end || !in_bounds(row, real)) return false;
        *(double *)field = real;
        return true;
    case OPTION_DURATION:
        return parse_duration(row, text, field);
    case OPTION_FLAG:
    case OPTION_BOOLEAN:
        return parse_boolean(text, field);
    case OPTION_RANGE:
        return parse_range(text, field);
    case OPTION_INTEGERS:
        return parse_integers(options, row, text, field);
    }
    return false;
}

static Status refuse(const OptionRow *row, const char *text, const char *where, Error *error)
{
    Text expected = {0};
    option_expected(row, &expected);
    Status status = error_set(error, STATUS_INVALID_ARGUMENT, "option %s is '%.100s' (%s), expected %s", row->name,
                              text, where, expected.data ? expected.data : "something else");
    text_free(&expected);
    return status;
}

Status option_set(Options *options, const OptionRow *row, const char *text, const char *where, Error *error)
{
    if (row->check) {
        Status status = row->check(text, error);
        if (status != STATUS_OK)
            return error_prefix(error, "option %s is '%.100s' (%s)", row->name, text, where), status;
    }
    if (!parse_value(options, row, text)) return refuse(row, text, where, error);
    return STATUS_OK;
}

/* --- JSON ------------------------------------------------------------------------------------------------------------
 */

static bool is_kind(const OptionRow *row, const json_t *value)
{
    size_t index;
    json_t *item;
    switch (row->type) {
    case OPTION_INTEGER:
        return json_is_integer(value);
    case OPTION_REAL:
        return json_is_number(value);
    case OPTION_FLAG:
    case OPTION_BOOLEAN:
        return json_is_boolean(value);
    case OPTION_INTEGERS:
    case OPTION_PEERS:
        json_array_foreach((json_t *)value, index, item)
        {
            if (row->type == OPTION_PEERS ? !json_is_string(item) : !json_is_integer(item)) return false;
        }
        return json_is_array(value) || (row->type == OPTION_PEERS ? json_is_string(value) : json_is_integer(value));
    default:
        return json_is_string(value);
    }
}

/* The value as a user would type it. */
static void append_json(const json_t *value, Text *text)
{
    size_t index;
    json_t *item;
    switch (json_typeof(value)) {
    case JSON_STRING:
        text_append(text, "%s", json_string_value(value));
        break;
    case JSON_INTEGER:
        text_append(text, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        text_append(text, "%.17g", json_real_value(value));
        break;
    case JSON_ARRAY:
        json_array_foreach((json_t *)value, index, item)
        {
            if (index) text_append(text, ",");
            append_json(item, text);
        }
        break;
    case JSON_TRUE:
        text_append(text, "true");
        break;
    case JSON_FALSE:
        text_append(text, "false");
        break;
    default:
        break;
    }
}

Status option_set_json(Options *options, const OptionRow *row, const json_t *value, const char *where, Error *error)
{
    Status status;
    if (!is_kind(row, value)) {
        char *written = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        status = refuse(row, written ? written : "?", where, error);
        free(written);
        return status;
    }
    Text text = {0};
    append_json(value, &text);
    status = option_set(options, row, text.data ? text.data : "", where, error);
    text_free(&text);
    return status;
}

static json_t *json_of_duration(uint64_t nanoseconds)
{
    unsigned long long value = nanoseconds;
    if (value % 1000000000 == 0) return json_sprintf("%llus", value / 1000000000);
    if (value % 1000000 == 0) return json_sprintf("%llums", value / 1000000);
    if (value % 1000 == 0) return json_sprintf("%lluus", value / 1000);
    return json_sprintf("%lluns", value);
}

json_t *option_get_json(const Options *options, const OptionRow *row)
{
    const void *field = (const char *)options + row->offset;
    const OptionRange *range = field;
    const OptionIntegers *integers = field;
    json_t *array;
    switch (row->type) {
    case OPTION_STRING:
    case OPTION_CHOICE:
    case OPTION_PEERS:
        return json_string(*(const char *const *)field);
    case OPTION_INTEGER:
        return json_integer(*(const int64_t *)field);
    case OPTION_REAL:
        return json_real(*(const double *)field);
    case OPTION_DURATION:
        return json_of_duration(*(const uint64_t *)field);
    case OPTION_FLAG:
    case OPTION_BOOLEAN:
        return json_boolean(*(const bool *)field);
    case OPTION_RANGE:
        return json_sprintf("%lld:%lld", (long long)range->begin, (long long)range->end);
    case OPTION_INTEGERS:
        array = json_array();
        for (size_t i = 0; i < integers->count; i++)
            json_array_append_new(array, json_integer(integers->items[i]));
        return array;
    }
    return NULL;
}
