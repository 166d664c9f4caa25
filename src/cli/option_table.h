/* The one table that declares every option, and what its rows mean. Only the parser, the help pages and tests read it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cli/options.h"

typedef enum OptionType {
    OPTION_STRING,
    OPTION_CHOICE,   /* one of the words in `choices`; const char * */
    OPTION_INTEGER,  /* int64_t */
    OPTION_REAL,     /* double */
    OPTION_DURATION, /* 500ms, 3s, 2m; uint64_t nanoseconds; bounds in seconds */
    OPTION_FLAG,     /* --x, --x=false; bool */
    OPTION_BOOLEAN,  /* --x true; bool */
    OPTION_RANGE,    /* A:B with 0 <= A < B; OptionRange */
    OPTION_INTEGERS, /* 1,2,3; OptionIntegers */
    OPTION_PEERS,    /* HOST:PORT[/SYNAPSE_KEY],...; an array in JSON; const char * */
} OptionType;

/* Whether a run folder remembers the option, and who takes it from there. */
typedef enum OptionMemoryRule {
    OPTION_FORGET,
    OPTION_KEEP_RUN,  /* taken by --resume */
    OPTION_KEEP_SOMA, /* taken by --load as well: without it the weights mean something else */
} OptionMemoryRule;

typedef struct OptionRow {
    const char *name;
    OptionType type;
    OptionMemoryRule rule;
    OptionSource weakest;    /* sources below it don't know the option */
    unsigned commands;       /* CommandSet bits; a name may have several rows with disjoint commands */
    size_t offset;           /* of its field in Options */
    const char *initial;     /* the default as a user would type it, or NULL */
    const char *choices;     /* "constant|step|linear|cosine" */
    const char *placeholder; /* in help pages; NULL: from the type */
    double least, most;      /* bounds of numbers, of each in a list; most 0: none */
    bool below;              /* `most` itself is too much */
    Status (*check)(const char *text, Error *error); /* NULL, or: more than the type says; the sentence for a refusal */
    const char *help;                                /* a sentence or two */
} OptionRow;

extern const OptionRow option_table[];
extern const size_t option_table_length;

/* The row of that name that `commands` takes, or NULL. */
const OptionRow *option_find(const char *name, unsigned commands);

/* Of the names that `commands` takes, the nearest to `name`, or NULL. */
const char *option_nearest(const char *name, unsigned commands);

/* The commands by the number of their bit in CommandSet. */
extern const char *const option_command_names[];

/* "run, train and serve", for messages. */
void option_commands_text(unsigned commands, char *out, size_t size);

/* "NEURON_WEIGHT_DECAY", for "weight-decay" and "distill.detach" alike. */
void option_environment_name(const OptionRow *row, char *out, size_t size);
