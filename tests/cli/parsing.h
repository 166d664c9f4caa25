/* Options from a line of text, for tests. */
#pragma once

#include "cli/options.h"

/* Parses `flags`, split at spaces, with these variables (NULL for none). */
Status parse_flags(Options *options, CommandSet command, const char *flags, char *const *environment, Error *error);
