/* Help pages, in the form of man pages. The options come from the table, so that a page is always true. */
#pragma once

#include "base/text.h"
#include "cli/command.h"

/* NAME, SYNOPSIS, DESCRIPTION, OPTIONS, FILES, EXIT STATUS, EXAMPLES. */
void help_page(const Command *command, Text *text);

/* What the program is, and its commands. */
void help_overview(Text *text);

/* Three lines, for those who typed nothing. */
void help_usage(Text *text);
