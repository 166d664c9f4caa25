/* One option's value: from text or JSON into its field, and back. Only the parser, the help pages and tests use it. */
#pragma once

#include "base/text.h"
#include "cli/option_table.h"

/* Parses `text`, checks it, and stores it in the row's field. INVALID_ARGUMENT: "option lr is 'x' (flag --lr), expected
 * a number of at least 0"; `where` is what stands in the brackets. */
Status option_set(Options *options, const OptionRow *row, const char *text, const char *where, Error *error);

/* The same for a JSON value, which must be of the type's kind: "0.1" is no number. */
Status option_set_json(Options *options, const OptionRow *row, const struct json_t *value, const char *where,
                       Error *error);

/* A new reference that option_set_json takes; NULL on lack of memory. */
struct json_t *option_get_json(const Options *options, const OptionRow *row);

/* "a number of at least 0 and below 1", "constant, step, linear or cosine". */
void option_expected(const OptionRow *row, Text *text);

/* Memory that lives as long as the options; NULL when there is none. */
void *option_allocate(Options *options, size_t size);
