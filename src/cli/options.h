/* What the user asked for: every option of every command, typed, with where it came from.
 *
 * A value comes from the strongest source that has one: the built-in default, the configuration of a run folder
 * (--load,
 * --resume), the configuration file (--config), the environment, a flag. The table in option_table.c declares the
 * options; nothing else does. An Options owns its strings and lists: options_free. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct json_t;

/* The commands, as a set: which options one takes. */
typedef enum CommandSet {
    COMMAND_RUN = 1 << 0,
    COMMAND_TRAIN = 1 << 1,
    COMMAND_EVAL = 1 << 2,
    COMMAND_SERVE = 1 << 3,
    COMMAND_CALL = 1 << 4,
    COMMAND_BENCH = 1 << 5,
    COMMAND_KEY = 1 << 6,
    COMMAND_HELP = 1 << 7,
    COMMAND_PEERS = 1 << 8,
    COMMAND_PLAN = 1 << 9,
} CommandSet;

/* The weaker first. */
typedef enum OptionSource {
    OPTION_FROM_DEFAULT,
    OPTION_FROM_RUN_FOLDER,
    OPTION_FROM_CONFIG,
    OPTION_FROM_ENVIRONMENT,
    OPTION_FROM_FLAG,
} OptionSource;

typedef struct OptionRange {
    bool set;
    int64_t begin, end; /* begin <= i < end */
} OptionRange;

typedef struct OptionIntegers {
    const int64_t *items;
    size_t count;
} OptionIntegers;

enum { OPTIONS_LIMIT = 96 };

/* One field an option, in the order of the table. Strings are NULL and lists empty when neither given nor defaulted; a
 * choice is always one of the words of its row. Durations are nanoseconds. Options that the command doesn't take have
 * their zero values. */
typedef struct Options {
    const char *soma;
    const char *config;
    const char *data; /* the data folder */
    const char *load;
    bool strict;
    const char *device; /* auto, cpu, reference, cuda[:N], sim[:N] */
    const char *dtype;
    const char *dtypes; /* of plan: f32,bf16 */
    const char *gpu;    /* of plan: the GPU to plan for */
    const char *plan;   /* of bench: the GPU to derive figures for; NULL: measure */
    int64_t seed;
    int64_t threads;       /* 0: all cores */
    int64_t serve_threads; /* 0: all cores */

    int64_t steps; /* 0: `epochs` decides */
    int64_t epochs;
    int64_t batch;          /* all commands but bench and plan */
    OptionIntegers batches; /* --batch of bench and plan: one or more */
    double lr, momentum, weight_decay;
    const char *schedule; /* constant, step, linear, cosine */
    int64_t step_size;    /* epochs */
    double gamma;
    double dropout;
    const char *shuffle; /* none, epoch */
    const char *augment; /* none, standard */
    OptionRange train_range;
    int64_t labelled; /* 0: all of the range */
    OptionRange unlabelled;
    bool distill_detach, distill_unlabelled, distill_targets;
    const char *gradients;

    const char *out; /* a run folder; of call and plan: a file */
    bool resume;
    int64_t log_every, save_every, eval_every; /* steps; save and eval 0: every epoch */

    const char *listen; /* HOST:PORT, port 0: any; for address_parse */
    const char *peers;  /* HOST:PORT[/SYNAPSE_KEY],...: for peer_parse_list */
    const char *peers_file;
    int64_t ahead;        /* batches asked about ahead; 0: as many as the peers' latency takes */
    int64_t ahead_memory; /* bytes */
    uint64_t deadline;
    double remote_gradient_scale;
    bool learn;
    const char *synapse_key;
    const char *key; /* a file; NULL: where key files are by default */
    bool force;
    int64_t max_message; /* bytes */
    int64_t batch_rows;
    uint64_t batch_wait;
    int64_t queue; /* calls */
    int64_t network_threads;
    double serve_share; /* 0..1 */
    uint64_t drain;
    bool raw;                                               /* of soma echo */
    int64_t max_staleness, gradient_queue, gradient_budget; /* versions; calls; calls */
    double gradient_clip;
    bool fold;
    const char *path; /* local, remote */

    const char *modality; /* text, image, tensor */
    const char *input;
    const char *text;
    const char *gradient;
    int64_t repeat; /* 0: as often as a steady median takes */
    bool backward;
    const char *connect; /* HOST:PORT[/SYNAPSE_KEY]; NULL: a server of bench's own */
    OptionIntegers concurrency;
    OptionIntegers sizes; /* bytes */
    double rate;          /* calls a second; 0: closed loop */
    uint64_t duration;    /* of each measurement */
    int64_t channels;
    const char *svg;

    bool json, quiet, help, version;

    const char *const *operands; /* what isn't an option, in order; of argv */
    size_t operand_count;

    /* The parser's own. */
    CommandSet command;
    unsigned char sources[OPTIONS_LIMIT]; /* an OptionSource a row of the table */
    struct OptionMemory *memory;
} Options;

/* Reads the environment ("NAME=value" strings ended by NULL; NULL for none), the file that --config or NEURON_CONFIG
 * names, and the flags argv[0 .. argc-1] (program and command names are left out by the caller). An empty variable
 * counts as unset; variables that aren't options of the command are ignored. Stops at --help and --version, before
 * anything else is checked.
 *
 * Fails with INVALID_ARGUMENT and a sentence that names the option, its value, where it came from and what was
 * expected, or the nearest option's name. *out must be freed after a failure too, and out->json is right then. */
Status options_parse(Options *out, CommandSet command, int argc, char *const *argv, char *const *environment,
                     Error *error);
void options_free(Options *options);

/* Takes what the run folder's config.json says, where no stronger source has said anything. With --resume the folder is
 * --out, and everything that shapes training is taken; else it is --load (if that is a run folder), and only what
 * shapes the soma is. A file that isn't a run's configuration: ignored with --load, DATA_LOSS with --resume. Commands
 * that take neither option have nothing to read. */
Status options_read_run_folder(Options *options, Error *error);

/* `name` as the user types it, without dashes. */
OptionSource options_source(const Options *options, const char *name);
static inline bool options_given(const Options *options, const char *name)
{
    return options_source(options, name) != OPTION_FROM_DEFAULT;
}

/* What a run folder's config.json holds: {"neuron": VERSION, option: value, ...} with the options that a resumed run
 * needs, nested where names have dots. The caller owns it; NULL on lack of memory. A file like that is a valid --config
 * too. */
struct json_t *options_to_json(const Options *options);

/* The reverse, as options_read_run_folder does it; `where` names the file in errors. `everything` false: only what
 * shapes the soma. */
Status options_from_json(Options *options, const struct json_t *json, const char *where, bool everything, Error *error);
