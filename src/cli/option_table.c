#include "cli/option_table.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
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
    PEERS = COMMAND_PEERS,
    PLAN = COMMAND_PLAN,
    TRAINS = RUN | TRAIN,
    COMPUTES = TRAINS | EVAL | SERVE | BENCH,
    TALKS = RUN | EVAL | SERVE | CALL | BENCH,
    SERVES = RUN | SERVE | BENCH,
    EVERY = COMPUTES | CALL | KEY | PEERS | PLAN,
};

static Status check_device(const char *text, Error *error)
{
    return backend_check_device(text, error);
}

static Status check_dtypes(const char *text, Error *error)
{
    for (const char *at = text;; at += strcspn(at, ",") + 1) {
        char name[8];
        const size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), at);
        if (precision_from_name(name) == PRECISION_COUNT)
            return error_set(error, STATUS_INVALID_ARGUMENT, "'%s', expected f32, tf32, bf16 or f16", name);
        if (at[length] == '\0') return STATUS_OK;
    }
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
    {"soma", OPTION_CHOICE, OPTION_KEEP_SOMA, .commands = (COMPUTES | KEY | PLAN) & ~(unsigned)(SERVE | BENCH),
     FIELD(soma), .initial = "mnist", .choices = "mnist", .help = "The model."},
    {"soma", OPTION_CHOICE, OPTION_KEEP_SOMA, .commands = SERVE | BENCH, FIELD(soma), .initial = "mnist",
     .choices = "mnist|echo",
     .help = "The model; echo answers with twice the input, padded or cut to 512 features, and learns nothing."},
    {"raw", OPTION_FLAG, OPTION_FORGET, .commands = SERVE | BENCH, FIELD(raw),
     .help = "Soma echo keeps the input's shape."},
    {"config", OPTION_STRING, OPTION_FORGET, .commands = EVERY, FIELD(config), .weakest = OPTION_FROM_ENVIRONMENT,
     .placeholder = "FILE", .help = "A JSON file with options by name; a nested object gives dotted names."},
    {"data", OPTION_STRING, OPTION_KEEP_RUN, .commands = TRAINS | EVAL, FIELD(data), .initial = "data",
     .placeholder = "FOLDER", .help = "The data folder: it holds mnist/."},
    {"load", OPTION_STRING, OPTION_FORGET, .commands = TRAINS | EVAL | SERVE, FIELD(load), .placeholder = "PATH",
     .help = "Weights to begin with: a run folder or a .safetensors file."},
    {"strict", OPTION_FLAG, OPTION_FORGET, .commands = TRAINS | EVAL | SERVE, FIELD(strict),
     .help = "A tensor that --load lacks is an error, not a warning."},
    {"device", OPTION_STRING, OPTION_KEEP_RUN, .commands = COMPUTES, FIELD(device), .initial = "auto",
     .placeholder = "DEVICE", .check = check_device,
     .help = "What computes: cuda an NVIDIA GPU (cuda:1 the second), cpu oneDNN, reference plain loops, sim the CUDA "
             "backend on a simulated GPU; auto takes the fastest there is."},
    {"dtype", OPTION_CHOICE, OPTION_KEEP_RUN, .commands = COMPUTES, FIELD(dtype), .initial = "f32",
     .choices = "f32|tf32|bf16|f16",
     .help =
         "The type that activations are kept and products computed in; parameters stay f32. All but f32 need a GPU."},
    {"for", OPTION_STRING, OPTION_FORGET, .commands = PLAN, FIELD(gpu), .placeholder = "GPU",
     .help = "The GPU to plan for: a100, h100, l4 or b200."},
    {"dtype", OPTION_STRING, OPTION_FORGET, .commands = PLAN, FIELD(dtypes), .initial = "f32,bf16",
     .placeholder = "TYPE,...", .check = check_dtypes,
     .help = "The types of --dtype to plan for: f32, tf32, bf16, f16."},
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
    {"batch", OPTION_INTEGERS, OPTION_FORGET, .commands = PLAN, FIELD(batches), .initial = "1,2,4,8,16,32,64",
     .least = 1, .most = 65536, .help = "Batch sizes to plan for."},
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
    {"out", OPTION_STRING, OPTION_FORGET, .commands = PLAN, FIELD(out), .placeholder = "FILE",
     .help = "The file that the plans are added to (default: the one that neurons on this host read)."},
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
    {"peers-file", OPTION_STRING, OPTION_KEEP_RUN, .commands = RUN, FIELD(peers_file), .placeholder = "FILE",
     .help = "The neurons to ask, one a line, in place of --peers; read again when it changes: the n-th peer moves to "
             "the n-th line's address."},
    {"deadline", OPTION_DURATION, OPTION_KEEP_RUN, .commands = RUN | EVAL | CALL | PEERS | BENCH, FIELD(deadline),
     .initial = "1s", .least = 0.001, .most = 86400, .help = "How long a peer may take to answer."},
    {"ahead", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = RUN, FIELD(ahead), .initial = "0", .most = 65536,
     .help = "Batches that peers are asked about ahead; 0: as many as hide the peers' latency."},
    {"ahead-memory", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = RUN, FIELD(ahead_memory), .initial = "536870912",
     .least = 1048576, .placeholder = "BYTES", .help = "The most memory that batches on their way may take."},
    {"remote-gradient-scale", OPTION_REAL, OPTION_KEEP_RUN, .commands = RUN, FIELD(remote_gradient_scale),
     .initial = "1", .help = "What gradients from peers are multiplied with before they join a step; 0 ignores them."},
    {"learn", OPTION_FLAG, OPTION_FORGET, .commands = SERVE, FIELD(learn),
     .help = "Learn from the gradients that peers send."},
    {"max-staleness", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(max_staleness), .initial = "1000",
     .help =
         "How many own steps may lie between the weights that gave an answer and the gradient that comes back for it; "
         "an older one is answered but not learnt from."},
    {"gradient-queue", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(gradient_queue), .initial = "64",
     .least = 1, .most = 65536,
     .help = "Gradients from peers that may wait for the next own step; more are not learnt."},
    {"gradient-budget", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(gradient_budget),
     .initial = "16", .least = 1, .most = 65536, .help = "How many of them may come from one peer."},
    {"gradient-clip", OPTION_REAL, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(gradient_clip), .initial = "1",
     .most = 1e9, .help = "The norm that each gradient from a peer, and their sum, is clipped to."},
    {"batch-rows", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = SERVES, FIELD(batch_rows), .initial = "64", .least = 1,
     .most = 256, .help = "The most rows that waiting requests are joined to, to be answered as one batch."},
    {"batch-wait", OPTION_DURATION, OPTION_KEEP_RUN, .commands = SERVES, FIELD(batch_wait), .initial = "0s", .most = 10,
     .help = "How long a request may wait for others to join its batch."},
    {"queue", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = SERVES, FIELD(queue), .initial = "1024", .least = 1,
     .most = 1048576, .help = "Requests that may wait; more are refused with RESOURCE_EXHAUSTED."},
    {"network-threads", OPTION_INTEGER, OPTION_KEEP_RUN, .commands = SERVES, FIELD(network_threads), .initial = "2",
     .least = 1, .most = 64, .help = "Threads that take requests in and send answers."},
    {"serve-share", OPTION_REAL, OPTION_KEEP_RUN, .commands = RUN, FIELD(serve_share), .initial = "0.5", .most = 1,
     .help = "The most that answering others may take of this machine's core time while training; 0 or 1: no limit."},
    {"drain", OPTION_DURATION, OPTION_KEEP_RUN, .commands = RUN | SERVE, FIELD(drain), .initial = "5s", .most = 3600,
     .help = "How long calls in flight are answered after SIGINT or SIGTERM."},
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
    {"plan", OPTION_STRING, OPTION_FORGET, .commands = BENCH, FIELD(plan), .placeholder = "GPU",
     .help = "Of layers with --device cuda or sim: measure nothing, and derive the figures of a100, h100, l4 or b200."},
    {"repeat", OPTION_INTEGER, OPTION_FORGET, .commands = BENCH, FIELD(repeat), .initial = "0", .most = 1e9,
     .help = "Times to measure; 0: as often as a steady median takes."},
    {"backward", OPTION_FLAG, OPTION_FORGET, .commands = BENCH, FIELD(backward),
     .help = "Measure the backward pass only; of serve and wire: Backward calls."},
    {"connect", OPTION_STRING, OPTION_FORGET, .commands = BENCH, FIELD(connect), .placeholder = "PEER",
     .check = check_peers, .help = "The neuron to load, in place of one of bench's own on loopback."},
    {"concurrency", OPTION_INTEGERS, OPTION_FORGET, .commands = BENCH, FIELD(concurrency), .initial = "1,8,64",
     .least = 1, .most = 65536, .help = "Calls in flight at once, each by a client that waits for its answer."},
    {"size", OPTION_INTEGERS, OPTION_FORGET, .commands = BENCH, FIELD(sizes), .initial = "4096,1048576", .least = 4,
     .most = 1073741824, .help = "Bytes of the tensors that wire sends."},
    {"rate", OPTION_REAL, OPTION_FORGET, .commands = BENCH, FIELD(rate), .initial = "0", .most = 1e7,
     .help = "Calls a second, at random times whatever comes back (open loop); 0: closed loop."},
    {"duration", OPTION_DURATION, OPTION_FORGET, .commands = BENCH, FIELD(duration), .initial = "2s", .least = 0.01,
     .most = 86400, .help = "How long each measurement takes."},
    {"channels", OPTION_INTEGER, OPTION_FORGET, .commands = BENCH, FIELD(channels), .initial = "1", .least = 1,
     .most = 10000, .help = "Connections that the clients share."},
    {"svg", OPTION_STRING, OPTION_FORGET, .commands = BENCH, FIELD(svg), .placeholder = "FILE",
     .help = "Draw latency and throughput against concurrency."},

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

const char *const option_command_names[] = {"run",   "train", "eval", "serve", "call",
                                            "bench", "key",   "help", "peers", "plan"};

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
