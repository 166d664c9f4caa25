#include "cli/parsing.h"

#include <stdio.h>
#include <string.h>

enum { FLAGS = 32 };

Status parse_flags(Options *options, CommandSet command, const char *flags, char *const *environment, Error *error)
{
    static char text[2048]; /* operands point into it */
    char *argv[FLAGS];
    int argc = 0;
    snprintf(text, sizeof text, "%s", flags);
    for (char *word = strtok(text, " "); word && argc < FLAGS; word = strtok(NULL, " "))
        argv[argc++] = word;
    return options_parse(options, command, argc, argv, environment, error);
}
