#include "cli/option_table.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "wire/peer.h"

enum {
    RUN = COMMAND_RUN,
    TRAIN = COMMAND_TRAIN,
    EVAL = COMMAND_EVAL,
    SERVE = COMMAND_SERVE,
    CALL = COMMAND_CALL,
    BENCH = COMMAND_BENCH,
    KEY = COMMAND_KEY,
    HELP = COMMAND_HELP,
    TRAINS = RUN | TRAIN,
    COMPUTES = TRAINS | EVAL | SERVE | BENCH,
    TALKS = RUN | EVAL | SERVE | CALL,
    EVERY = COMPUTES | CALL | KEY,
};

static Status check_device(const char *text, Error *error)
{
    if (strcmp(text, "cuda") == 0 || strncmp(text, "cuda:", 5) == 0 || strcmp(text, "sim") == 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "this build has no CUDA plug-in");
    return STATUS_OK;
}

static Status check_listen(const char *text, Error *error)
{
    char host[PEER_ADDRESS_SIZE];
    int port;
    return address_parse(text, host, &port, error);
}

static Status check_peers(const char *text, Error *error)
{
    Peer *peers = NULL;
    size_t count = 0;
    Status status = peer_parse_list(text, &peers, &count, error);
    free(peers);
    return status;
}

#define FIELD(field) .offset = offsetof(Options, field)

/* In the order of the help pages. */
const OptionRow option_table[] = {
    /* --- the soma and what it computes on --- */
    {"soma", OPTION_CHOICE, OPTION_KEEP_SOMA, .commands = COMPUTES | KEY, FIELD(soma), .initial = "mnist",
     .choices = "mnist", .help = "The model."},
    {"config", OPTION_STRING, OPTION_FORGET, .commands = EVERY, FIELD(config), .weakest = OPTION_FROM_ENVIRONMENT,
     .placeholder = "FILE", .help = "A JSON file with options by name; a nested object gives dotted names."},
    {"data", OPTION_STRING, OPTION_KEEP_RUN, .commands = TRAINS | EVAL, FIELD(data), .initial = "data",
     .placeholder = "FOLDER", .help = "The data folder: it holds mnist/."},
    {"load", OPTION_STRING, OPTION_FORGET, .commands = TRAINS | EVAL | SERVE, FIELD(load), .placeholder = "PATH",
     .help = "Weights to begin with: a run folder or a .safetensors file."},
    {"strict", OPTION_FLAG, OPTION_FORGET, .commands = TRAINS | EVAL | SERVE, FIELD(strict),
     .help = "A tensor that --load lacks is an error, not a warning."},
    {"device", OPTION_CHOICE, OPTION_KEEP_RUN, .commands = COMPUTES, FIELD(device), .initial = "auto",
     .choices = "auto|cpu|reference", .check = check_device,
     .help = "What computes: cpu is oneDNN, reference plain loops; auto takes the fastest there is."},
    {"dtype", OPTION_CHOICE, OPTION_KEEP_RUN, .commands = COMPUTES, FIELD(dtype), .initial = "f32", .choices = "f32",
     .help = "The type that activations and weights are computed in."},
    {"seed", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = COMPUTES, FIELD(seed), .initial = "0",
     .most = 9007199254740991.0, .help = "Of all randomness: the same seed, the same run."},
    {"threads", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = COMPUTES, FIELD(threads), .initial = "0", .most = 1024,
     .help = "Threads that compute; 0: one a core."},
    {"serve-threads", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(serve_threads), .initial = "1",
     .most = 1024, .help = "Threads that compute answers for peers, beside those that train; 0: one a core."},

    /* --- training --- */
    {"steps", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(steps), .least = 1,
     .help = "Steps to train for, in place of --epochs."},
    {"epochs", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(epochs), .initial = "10", .least = 1,
     .most = 1e9, .help = "Passes over the training images."},
    {"batch", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS | EVAL, FIELD(batch), .initial = "64", .least = 1,
     .most = 65536, .help = "Samples a step."},
    {"batch", OPTION_INTEGERS, OPTION_FORGET, .commands = BENCH, FIELD(batches), .initial = "1,64", .least = 1,
     .most = 65536, .help = "Batch sizes to measure."},
    {"lr", OPTION_REAL, OPTION_KEEP_RUN, .commands = TRAINS | SERVE, FIELD(lr), .initial = "0.02",
     .help = "Learning rate."},
    {"momentum", OPTION_REAL, OPTION_KEEP_RUN, .commands = TRAINS | SERVE, FIELD(momentum), .initial = "0.9", .most = 1,
     .below = true, .help = "Momentum of the optimiser."},
    {"weight-decay", OPTION_REAL, OPTION_KEEP_RUN, .commands = TRAINS | SERVE, FIELD(weight_decay), .initial = "0",
     .help = "L2 penalty that is added to the gradients."},
    {"schedule", OPTION_CHOICE, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(schedule), .initial = "linear",
     .choices = "constant|step|linear|cosine",
     .help = "How the learning rate falls; linear and cosine reach 0 at the last step."},
    {"step-size", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(step_size), .initial = "10", .least = 1,
     .most = 1e9, .help = "Epochs between two falls of --schedule step."},
    {"gamma", OPTION_REAL, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(gamma), .initial = "0.1", .most = 1,
     .help = "What the learning rate is multiplied with at each fall of --schedule step."},
    {"dropout", OPTION_REAL, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(dropout), .initial = "0.5", .most = 1,
     .below = true, .help = "Share of channels dropped in training."},
    {"shuffle", OPTION_CHOICE, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(shuffle), .initial = "epoch",
     .choices = "none|epoch", .help = "Order of the samples: as they are in the file, or anew every epoch."},
    {"augment", OPTION_CHOICE, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(augment), .initial = "none",
     .choices = "none|standard",
     .help = "Changes made to training images; standard is what the soma's recipe does (for mnist nothing)."},
    {"train-range", OPTION_RANGE, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(train_range),
     .help = "The part of the training images to use, from A to before B (default all)."},
    {"labelled", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(labelled), .least = 1,
     .help = "Use the labels of the first N images of the range only (default all)."},
    {"unlabelled", OPTION_RANGE, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(unlabelled),
     .help = "Training images to learn from without their labels, from A to before B (default none)."},
    {"distill.detach", OPTION_BOOLEAN, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(distill_detach), .initial = "false",
     .help = "Keep the distillation's gradient out of the transform, as the reference does."},
    {"distill.unlabelled", OPTION_BOOLEAN, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(distill_unlabelled),
     .initial = "true", .help = "Distil on the unlabelled images too."},
    {"distill.targets", OPTION_BOOLEAN, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(distill_targets), .initial = "true",
     .help = "On unlabelled images the local head imitates the remote head."},
    {"gradients", OPTION_STRING, OPTION_FORGET, .commands = TRAINS, FIELD(gradients), .placeholder = "FILE",
     .help = "Save the gradients of the first step as safetensors."},

    /* --- the run folder --- */
    {"out", OPTION_STRING, OPTION_FORGET, .commands = TRAINS | SERVE, FIELD(out), .placeholder = "FOLDER",
     .help = "The run folder to save to (default: nothing is saved)."},
    {"out", OPTION_STRING, OPTION_FORGET, .commands = CALL, FIELD(out), .placeholder = "FILE",
     .help = "Save the answer as safetensors."},
    {"resume", OPTION_FLAG, OPTION_FORGET, .commands = TRAINS, FIELD(resume), .help = "Continue the run in --out."},
    {"log-every", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(log_every), .initial = "100", .least = 1,
     .help = "Steps between two step events."},
    {"save-every", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS | SERVE, FIELD(save_every), .initial = "0",
     .help = "Steps between two saves; 0: after every epoch."},
    {"eval-every", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TRAINS, FIELD(eval_every), .initial = "0",
     .help = "Steps between two evaluations; 0: after every epoch."},

    /* --- the network --- */
    {"listen", OPTION_STRING, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(listen), .initial = "127.0.0.1:8091",
     .placeholder = "HOST:PORT", .check = check_listen, .help = "Where the axon answers; port 0 takes any free one."},
    {"peers", OPTION_PEERS, OPTION_KEEP_RUN, .commands = RUN | EVAL, FIELD(peers), .check = check_peers,
     .help = "The neurons to ask."},
    {"deadline", OPTION_DURATION, OPTION_KEEP_RUN, .commands = RUN | EVAL | CALL, FIELD(deadline), .initial = "1s",
     .least = 0.001, .most = 86400, .help = "How long a peer may take to answer."},
    {"remote-gradient-scale", OPTION_REAL, OPTION_KEEP_RUN, .commands = RUN, FIELD(remote_gradient_scale),
     .initial = "1", .help = "What gradients from peers are multiplied with before they join a step; 0 ignores them."},
    {"learn", OPTION_FLAG, OPTION_FORGET, .commands = SERVE, FIELD(learn),
     .help = "Learn from the gradients that peers send."},
    {"synapse-key", OPTION_STRING, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(synapse_key), .placeholder = "KEY",
     .help = "The key that callers name (default: made from this neuron's key and the soma's name)."},
    {"key", OPTION_STRING, OPTION_KEEP_RUN, .commands = TALKS | KEY, FIELD(key), .placeholder = "FILE",
     .help = "The file with this neuron's identity (default: neuron/key in $XDG_CONFIG_HOME or ~/.config)."},
    {"force", OPTION_FLAG, OPTION_FORGET, .commands = KEY, FIELD(force),
     .help = "Make a new key even if there is one; the old file is kept as FILE.old."},
    {"max-message", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = TALKS, FIELD(max_message), .initial = "67108864",
     .least = 1024, .most = 2147483647, .placeholder = "BYTES", .help = "The largest message to accept."},
    {"fold", OPTION_BOOLEAN, OPTION_FORGET, .commands = EVAL | SERVE | RUN | BENCH, FIELD(fold), .initial = "true",
     .help = "Fold linear layers that follow each other into one when answering."},
    {"path", OPTION_CHOICE, OPTION_FORGET, .commands = EVAL, FIELD(path), .initial = "local", .choices = "local|remote",
     .help = "Which half of the soma is measured; remote asks the peers."},

    /* --- one call, one measurement --- */
    {"modality", OPTION_CHOICE, OPTION_FORGET, .commands = CALL, FIELD(modality), .initial = "tensor",
     .choices = "text|image|tensor", .help = "What the input is to the peer."},
    {"input", OPTION_STRING, OPTION_FORGET, .commands = CALL, FIELD(input), .placeholder = "FILE",
     .help = "The input, a .safetensors file with one tensor."},
    {"text", OPTION_STRING, OPTION_FORGET, .commands = CALL, FIELD(text), .placeholder = "TEXT",
     .help = "The input, a text, in place of --input."},
    {"gradient", OPTION_STRING, OPTION_FORGET, .commands = CALL, FIELD(gradient), .placeholder = "FILE",
     .help = "Call Backward with this gradient, a .safetensors file with one tensor."},
    {"repeat", OPTION_INTEGER, OPTION_FORGET, .commands = BENCH, FIELD(repeat), .initial = "0", .most = 1e9,
     .help = "Times to measure; 0: as often as a steady median takes."},
    {"backward", OPTION_FLAG, OPTION_FORGET, .commands = BENCH, FIELD(backward),
     .help = "Measure the backward pass only."},

    /* --- what is said --- */
    {"json", OPTION_FLAG, OPTION_FORGET, .commands = EVERY, FIELD(json),
     .help = "Print events on stdout, one JSON object a line."},
    {"quiet", OPTION_FLAG, OPTION_FORGET, .commands = EVERY, FIELD(quiet),
     .help = "Print only warnings and errors on stderr."},
    {"help", OPTION_FLAG, OPTION_FORGET, .commands = EVERY | HELP, FIELD(help), .weakest = OPTION_FROM_FLAG,
     .help = "Print this page (also -h)."},
    {"version", OPTION_FLAG, OPTION_FORGET, .commands = EVERY | HELP, FIELD(version), .weakest = OPTION_FROM_FLAG,
     .help = "Print the program's version."},
};

const size_t option_table_length = sizeof option_table / sizeof *option_table;

_Static_assert(sizeof option_table / sizeof *option_table <= OPTIONS_LIMIT, "raise OPTIONS_LIMIT");

const OptionRow *option_find(const char *name, unsigned commands)
{
    for (size_t i = 0; i < option_table_length; i++)
        if ((option_table[i].commands & commands) && strcmp(option_table[i].name, name) == 0) return &option_table[i];
    return NULL;
}

const char *option_nearest(const char *name, unsigned commands)
{
    const char *names[OPTIONS_LIMIT];
    size_t count = 0;
    for (size_t i = 0; i < option_table_length; i++)
        if (option_table[i].commands & commands) names[count++] = option_table[i].name;
    return text_nearest(name, names, count);
}

const char *const option_command_names[] = {"run", "train", "eval", "serve", "call", "bench", "key", "help"};

void option_commands_text(unsigned commands, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (unsigned bit = 0; commands >> bit && used < size; bit++) {
        if (!(commands >> bit & 1)) continue;
        const char *separator = !used ? "" : commands >> bit == 1 ? " and " : ", ";
        int written = snprintf(out + used, size - used, "%s%s", separator, option_command_names[bit]);
        if (written > 0) used += (size_t)written;
    }
}

void option_environment_name(const OptionRow *row, char *out, size_t size)
{
    snprintf(out, size, "NEURON_%s", row->name);
    for (char *at = out; *at; at++)
        *at = *at == '-' || *at == '.' ? '_' : (char)toupper((unsigned char)*at);
}
