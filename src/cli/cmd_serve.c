#include <stdlib.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/serving.h"
#include "cli/session.h"
#include "cli/signals.h"
#include "train/checkpoint.h"

static const uint64_t poll_interval = 20000000; /* ns: how long a peer's gradient may wait */

/* A soma that is served, and the trainer that holds its weights. */
typedef struct ServedSoma {
    const Options *options;
    Output *output;
    Backend *backend;
    Trainer *trainer;
    Serving serving;
    CheckpointLock lock;
    char *config;
    int64_t updates; /* from peers' gradients: the weights' version */
} ServedSoma;

/* --- opening --- */

/* Takes the run folder before anything is learnt that couldn't be saved. */
static Status open_out(ServedSoma *soma, Error *error)
{
    const Options *o = soma->options;
    if (o->out == NULL) return STATUS_OK;
    RETURN_IF_ERROR(checkpoint_lock(o->out, &soma->lock, error));
    if (checkpoint_exists(o->out))
        return error_set(error, STATUS_ALREADY_EXISTS, "%s holds a run already, expected another --out", o->out);
    return session_config_text(o, &soma->config, error);
}

static Status open_weights(ServedSoma *soma, Error *error)
{
    const Options *o = soma->options;
    const Soma *model = session_soma(o);
    TrainerOptions trainer = {.soma = model,
                              .rows = model->rows,
                              .columns = model->columns,
                              .sgd = {.momentum = o->momentum, .weight_decay = o->weight_decay},
                              .peer_gradient_scale = 1,
                              .peer_gradient_clip = o->gradient_clip,
                              .seed = (uint64_t)o->seed};
    RETURN_IF_ERROR(session_backend(o, o->learn ? o->threads : 1, soma->output, &soma->backend, error));
    RETURN_IF_ERROR(trainer_create(soma->backend, &trainer, &soma->trainer, error));
    if (o->load != NULL) return checkpoint_load_model(o->load, trainer_variables(soma->trainer), o->strict, error);
    output_warning(soma->output, "no --load: soma '%s' answers with its initial weights", o->soma);
    return STATUS_OK;
}

/* --- learning from the gradients of peers --- */

static Status save(ServedSoma *soma, Error *error)
{
    CheckpointValues values = {1, {{"updates", soma->updates}}};
    if (soma->options->out == NULL) return STATUS_OK;
    return checkpoint_save(soma->options->out, trainer_variables(soma->trainer), &values, soma->config, error);
}

/* One update with what peers have sent since the last one, if they have. */
static Status learn(ServedSoma *soma, int64_t *count, Error *error)
{
    int64_t every = soma->options->save_every;
    RETURN_IF_ERROR(server_take_gradients(soma->serving.server, soma->trainer, count, error));
    if (*count == 0) return STATUS_OK;
    RETURN_IF_ERROR(trainer_step_peers(soma->trainer, soma->options->lr, error));
    soma->updates++;
    RETURN_IF_ERROR(
        server_publish(soma->serving.server, trainer_variables(soma->trainer), (uint64_t)soma->updates, error));
    return every > 0 && soma->updates % every == 0 ? save(soma, error) : STATUS_OK;
}

/* Answers what is in flight and learns from it, and then from what is left. */
static Status drain_and_learn(ServedSoma *soma, Error *error)
{
    uint64_t end = clock_now(clock_monotonic()) + soma->options->drain;
    int64_t count;
    while (clock_now(clock_monotonic()) < end && !serving_drain(&soma->serving, poll_interval))
        RETURN_IF_ERROR(learn(soma, &count, error));
    soma->serving.drain = 0; /* what is left has had its time */
    serving_stop(&soma->serving);
    do {
        RETURN_IF_ERROR(learn(soma, &count, error));
    } while (count > 0);
    return save(soma, error);
}

/* Until a signal. */
static Status serve(ServedSoma *soma, Error *error)
{
    int64_t count;
    if (!soma->options->learn) {
        signals_wait(UINT64_MAX);
        serving_stop(&soma->serving);
        return serving_check(&soma->serving, error);
    }
    while (!signals_wait(poll_interval))
        RETURN_IF_ERROR(learn(soma, &count, error));
    RETURN_IF_ERROR(serving_check(&soma->serving, error));
    return drain_and_learn(soma, error);
}

static void report_end(ServedSoma *soma)
{
    const Options *o = soma->options;
    Event event = event_make("done");
    serving_report(&soma->serving, soma->output, &event);
    if (o->learn) {
        output_line(soma->output, "made %ld updates%s%s", (long)soma->updates, o->out != NULL ? "; saved in " : "",
                    o->out != NULL ? o->out : "");
        event_integer(&event, "updates", soma->updates);
    }
    if (o->out != NULL) event_text(&event, "out", o->out);
    output_event(soma->output, &event);
}

/* --- the command --- */

/* NULL when the options go together; else what is wrong. */
static const char *contradiction(const Options *o)
{
    if (serving_is_echo(o)) {
        if (o->load != NULL) return "soma 'echo' has no weights, expected no --load with it";
        if (o->learn) return "soma 'echo' learns nothing, expected no --learn with it";
    } else if (o->raw) {
        return "--raw is for soma 'echo', expected --soma echo with it";
    }
    if (o->out != NULL && !o->learn) return "--out saves what the soma learns, expected --learn with it";
    return NULL;
}

static Status open_all(ServedSoma *soma, Error *error)
{
    const Options *o = soma->options;
    RETURN_IF_ERROR(serving_identify(&soma->serving, o, error));
    RETURN_IF_ERROR(open_out(soma, error));
    if (!serving_is_echo(o)) RETURN_IF_ERROR(open_weights(soma, error));
    const Variables *weights = soma->trainer != NULL ? trainer_variables(soma->trainer) : NULL;
    return serving_open(&soma->serving, o, weights, o->learn, soma->output, error);
}

static int run(const Options *options, Output *output)
{
    ServedSoma soma = {.options = options, .output = output, .lock = {-1}};
    Error error = {0};
    Status status;

    const char *wrong = contradiction(options);
    if (wrong != NULL) {
        output_error(output, "%s", wrong);
        return EXIT_USAGE;
    }
    GOTO_IF_ERROR(open_all(&soma, &error), done);
    GOTO_IF_ERROR(serve(&soma, &error), done);
    report_end(&soma);
done:
    if (status != STATUS_OK) output_error(output, "%s", error.message);
    serving_close(&soma.serving);
    trainer_destroy(soma.trainer);
    backend_close(soma.backend);
    if (soma.lock.file >= 0) checkpoint_unlock(&soma.lock);
    free(soma.config);
    return status == STATUS_OK ? EXIT_DONE : EXIT_FAILED;
}

const Command command_serve = {
    .name = "serve",
    .set = COMMAND_SERVE,
    .summary = "serve alone",
    .operands = "",
    .description =
        "Answers what other neurons ask, until SIGINT or SIGTERM: Forward with the soma's representation of an\n"
        "input, Backward with the gradient of the caller's loss with respect to that input. A request that isn't\n"
        "right is refused with a sentence, and the neuron goes on. Soma echo, for tests and measurements, answers\n"
        "with twice the input, and needs no weights.\n"
        "\n"
        "Forward requests that wait at the same time are computed together: up to --batch-rows rows, in a plan\n"
        "whose size is the power of two above. A batch is closed when it is full, when its first request has\n"
        "waited for --batch-wait, when the deadline of one of its calls draws near, or because nothing else waits.\n"
        "An image's answer doesn't depend on its company, and a request that fails does so alone. At most --queue\n"
        "requests wait, and callers take turns; whoever comes when the queue is full gets RESOURCE_EXHAUSTED at\n"
        "once, as does a request or an answer beyond --max-message.\n"
        "\n"
        "With --learn the soma learns from the gradients of Backward calls: each is clipped to the norm\n"
        "--gradient-clip, their sum again, and it is applied by SGD with --lr, --momentum and --weight-decay;\n"
        "--out saves the result at the end (and with --save-every N after every N updates). What is saved is the\n"
        "half of the soma that answers alone: the gate that weighs a network's answers isn't part of it. A\n"
        "gradient is answered but not learnt from when it is stale (for an answer of weights more than\n"
        "--max-staleness updates ago, or of weights that this neuron never had), when its sender has\n"
        "--gradient-budget of them waiting, when --gradient-queue wait in all, or when what it says of the weights\n"
        "isn't finite; one whose own values aren't is refused. One of more than 256 rows counts once for each 256.\n"
        "\n"
        "grpc.health.v1 says SERVING for the node (\"\") and for the synapse key. At a signal it says NOT_SERVING,\n"
        "new calls get UNAVAILABLE, and those that were accepted are answered for up to --drain; what was learnt\n"
        "is saved, and the exit status is 0. A second signal ends the program at once. The end's line, and with\n"
        "--json the event `done`, says what was answered, refused, joined to batches and learnt.\n",
    .files = "LOAD/model.safetensors\n"
             "    the weights, if LOAD is a folder\n"
             "OUT/model.safetensors, OUT/state.safetensors, OUT/config.json\n"
             "    what was learnt, as saved last\n"
             "$XDG_CONFIG_HOME/neuron/key, else ~/.config/neuron/key\n"
             "    this neuron's identity, made where there is none (--key FILE: another place)\n",
    .examples = "neuron serve --load runs/a --listen 0.0.0.0:8091\n"
                "neuron serve --load runs/a --listen 127.0.0.1:0 --json\n"
                "neuron serve --load runs/a --learn --lr 0.001 --out runs/b\n"
                "neuron serve --soma echo --raw --listen 127.0.0.1:0\n",
    .run = run,
};
