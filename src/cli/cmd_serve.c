#include <stdlib.h>

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
    int64_t updates, gradients; /* learnt from peers */
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
static Status learn(ServedSoma *soma, Error *error)
{
    int64_t count, every = soma->options->save_every;
    RETURN_IF_ERROR(server_take_gradients(soma->serving.server, soma->trainer, &count, error));
    if (count == 0) return STATUS_OK;
    RETURN_IF_ERROR(trainer_step_peers(soma->trainer, soma->options->lr, error));
    RETURN_IF_ERROR(server_publish(soma->serving.server, trainer_variables(soma->trainer), error));
    soma->updates++;
    soma->gradients += count;
    return every > 0 && soma->updates % every == 0 ? save(soma, error) : STATUS_OK;
}

/* Until a signal. What came while the axon stopped is learnt as well. */
static Status serve(ServedSoma *soma, Error *error)
{
    if (!soma->options->learn) {
        signals_wait(UINT64_MAX);
        serving_stop(&soma->serving);
        return STATUS_OK;
    }
    while (!signals_wait(poll_interval))
        RETURN_IF_ERROR(learn(soma, error));
    serving_stop(&soma->serving);
    RETURN_IF_ERROR(learn(soma, error));
    return save(soma, error);
}

static void report_end(ServedSoma *soma)
{
    const Options *o = soma->options;
    Event event = event_make("done");
    serving_report(&soma->serving, soma->output, &event);
    if (o->learn) {
        int64_t rejected = server_rejected_gradients(soma->serving.server);
        output_line(soma->output, "learnt from %ld gradients in %ld updates, refused %ld that were not finite%s%s",
                    (long)soma->gradients, (long)soma->updates, (long)rejected, o->out != NULL ? "; saved in " : "",
                    o->out != NULL ? o->out : "");
        event_integer(&event, "updates", soma->updates);
        event_integer(&event, "gradients", soma->gradients);
        event_integer(&event, "rejected_gradients", rejected);
    }
    if (o->out != NULL) event_text(&event, "out", o->out);
    output_event(soma->output, &event);
}

static int run(const Options *options, Output *output)
{
    ServedSoma soma = {.options = options, .output = output, .lock = {-1}};
    Error error = {0};
    Status status;

    if (options->out != NULL && !options->learn) {
        output_error(output, "--out saves what the soma learns, expected --learn with it");
        return EXIT_USAGE;
    }
    GOTO_IF_ERROR(serving_identify(&soma.serving, options, &error), done);
    GOTO_IF_ERROR(open_out(&soma, &error), done);
    GOTO_IF_ERROR(open_weights(&soma, &error), done);
    GOTO_IF_ERROR(serving_open(&soma.serving, options, trainer_variables(soma.trainer), options->learn, output, &error),
                  done);
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
        "Answers what other neurons ask, until SIGINT or SIGTERM: Forward with the soma's representation of an input,\n"
        "Backward with the gradient of the caller's loss with respect to that input. A request that isn't right is\n"
        "refused with a sentence, and the neuron goes on.\n"
        "\n"
        "With --learn the soma learns from the gradients of Backward calls: they are checked, clipped to norm 1, and\n"
        "applied by SGD with --lr, --momentum and --weight-decay; --out saves the result at the end (and with\n"
        "--save-every N after every N updates). What is saved is the half of the soma that answers alone: the gate\n"
        "that weighs a network's answers isn't part of it.\n",
    .files = "LOAD/model.safetensors\n"
             "    the weights, if LOAD is a folder\n"
             "OUT/model.safetensors, OUT/state.safetensors, OUT/config.json\n"
             "    what was learnt, as saved last\n"
             "$XDG_CONFIG_HOME/neuron/key, else ~/.config/neuron/key\n"
             "    this neuron's identity, made where there is none (--key FILE: another place)\n",
    .examples = "neuron serve --load runs/a --listen 0.0.0.0:8091\n"
                "neuron serve --load runs/a --listen 127.0.0.1:0 --json\n"
                "neuron serve --load runs/a --learn --lr 0.001 --out runs/b\n",
    .run = run,
};
