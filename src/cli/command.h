/* A subcommand: one file cmd_<name>.c that defines one Command, and one line in commands.c. */
#pragma once

#include <stddef.h>

#include "cli/options.h"
#include "observe/output.h"

/* What the program ends with. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct Command {
    const char *name;
    CommandSet set;       /* which options it takes */
    const char *summary;  /* "train alone": what follows the name in lists */
    const char *operands; /* "HOST:PORT", "layers | step"; "" for none */
    size_t least_operands, most_operands;
    const char *description; /* the man page's text; lines end with '\n', paragraphs are an empty line apart */
    const char *files;       /* or NULL */
    const char *examples;    /* or NULL */

    /* Returns the exit status; says what went wrong with output_error. */
    int (*run)(const Options *options, Output *output);
} Command;

/* In the order of the overview. */
extern const Command *const commands[];
extern const size_t command_count;

/* NULL when there is none of that name. */
const Command *command_find(const char *name);

/* Says that a word isn't one of the `count` that are expected, with the nearest of them: "unknown command 'trian'; did
 * you mean 'train'?". Returns EXIT_USAGE. */
int command_unknown_word(Output *output, const char *what, const char *word, const char *const *expected, size_t count);

extern const Command command_run;
extern const Command command_train;
extern const Command command_eval;
extern const Command command_serve;
extern const Command command_call;
extern const Command command_peers;
extern const Command command_bench;
extern const Command command_plan;
extern const Command command_help;
extern const Command command_key;
