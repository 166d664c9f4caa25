#include "cli/session.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/signals.h"

enum { MOST_PEERS = 256 };

const Soma *session_soma(const Options *options)
{
    return soma_find(options->soma);
}

Status session_backend(const Options *options, int64_t threads, Output *output, Backend **out, Error *error)
{
    BackendOptions backend = {.threads = (int)threads, .precision = precision_from_name(options->dtype)};
    RETURN_IF_ERROR(backend_open(options->device, &backend, out, error));
    output_line(output, "%s: %s", backend_name(*out), backend_description(*out));
    return STATUS_OK;
}

/* --- reports --- */

static void add_losses(Event *event, const TrainerLosses *losses)
{
    event_real(event, "loss", losses->loss);
    event_real(event, "local_target_loss", losses->local_target);
    if (!isnan(losses->remote_target)) event_real(event, "remote_target_loss", losses->remote_target);
    if (!isnan(losses->distillation)) event_real(event, "distillation_loss", losses->distillation);
    if (!isnan(losses->imitation)) event_real(event, "imitation_loss", losses->imitation);
}

static void on_step(void *context, const LearnStep *step)
{
    Session *session = context;
    session->steps++;
    session->steps_answered += step->answered > 0;
    session->peer_gradients += step->peer_gradients;
    session->waited_ns = step->waited_ns;
    ProgressPoint point = {.epoch = step->epoch,
                           .epochs = step->epochs,
                           .step = step->step,
                           .steps = step->steps,
                           .loss = step->losses.loss,
                           .samples_per_second = step->samples_per_second};
    progress_show(&session->progress, &point);
    if (session->peers != NULL)
        peers_file_follow(session->peers, session->dendrite, clock_now(clock_monotonic()), session->output);
    if (session->options->log_every <= 0 || step->step % session->options->log_every != 0) return;
    Event event = event_make("step");
    event_integer(&event, "step", step->step);
    add_losses(&event, &step->losses);
    event_real(&event, "lr", step->lr);
    event_real(&event, "samples_per_second", step->samples_per_second);
    if (session->dendrite != NULL) {
        event_integer(&event, "answered", step->answered);
        event_integer(&event, "ahead", step->ahead);
    }
    if (step->peer_gradients > 0) event_integer(&event, "peer_gradients", step->peer_gradients);
    output_event(session->output, &event);
}

static void on_evaluated(void *context, const char *path, int64_t step, const Evaluation *evaluation)
{
    Session *session = context;
    bool remote = strcmp(path, "remote") == 0;
    session->last[remote] = *evaluation;
    progress_finish(&session->progress);
    output_line(session->output, "step %ld: test accuracy %.2f %% (%s path, loss %.4f, %ld images)", (long)step,
                100 * evaluation->accuracy, path, evaluation->loss, (long)evaluation->samples);
    Event event = event_make("eval");
    event_integer(&event, "step", step);
    event_text(&event, "path", path);
    event_real(&event, "accuracy", evaluation->accuracy);
    event_real(&event, "loss", evaluation->loss);
    event_integer(&event, "samples", evaluation->samples);
    if (remote) event_integer(&event, "answered", evaluation->answered);
    output_event(session->output, &event);
}

static void report_end(Session *session)
{
    bool done = learner_done(session->learner);
    progress_finish(&session->progress);
    output_line(session->output, "%s after %ld steps in %.1f s%s%s", done ? "done" : "stopped", (long)session->steps,
                session->learning_seconds, session->options->out != NULL ? ", saved in " : "",
                session->options->out != NULL ? session->options->out : "");
    Event event = event_make("done");
    event_boolean(&event, "complete", done);
    event_integer(&event, "steps", session->steps);
    event_real(&event, "seconds", session->learning_seconds);
    for (int remote = 0; remote < 2; remote++)
        if (session->last[remote].samples > 0)
            event_real(&event, remote ? "remote_accuracy" : "local_accuracy", session->last[remote].accuracy);
    if (session->dendrite != NULL) {
        event_integer(&event, "steps_answered", session->steps_answered);
        event_real(&event, "waited_seconds", clock_seconds(session->waited_ns));
    }
    if (session->peer_gradients > 0) event_integer(&event, "peer_gradients", session->peer_gradients);
    if (session->options->out != NULL) event_text(&event, "out", session->options->out);
    output_event(session->output, &event);
}

/* --- opening --- */

static Status ranges(const Options *o, int64_t images, LearnOptions *learn, Error *error)
{
    learn->begin = o->train_range.set ? o->train_range.begin : 0;
    learn->end = o->train_range.set ? o->train_range.end : images;
    if (o->labelled > 0) {
        if (learn->begin + o->labelled > learn->end)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "--labelled is %ld, but the range %ld:%ld has only %ld images", (long)o->labelled,
                             (long)learn->begin, (long)learn->end, (long)(learn->end - learn->begin));
        learn->end = learn->begin + o->labelled;
    }
    if (o->unlabelled.set && o->distill_unlabelled) {
        learn->unlabelled_begin = o->unlabelled.begin;
        learn->unlabelled_end = o->unlabelled.end;
    }
    return STATUS_OK;
}

static Status learn_options(Session *session, const Options *o, size_t peers, LearnOptions *learn, Error *error)
{
    *learn = (LearnOptions){.soma = session_soma(o),
                            .backend = session->backend,
                            .train = &session->train,
                            .test = &session->test,
                            .batch = o->batch,
                            .shuffle = strcmp(o->shuffle, "none") == 0 ? LOADER_SHUFFLE_NONE : LOADER_SHUFFLE_EPOCH,
                            .steps = o->steps,
                            .epochs = o->epochs,
                            .save_every = o->save_every,
                            .eval_every = o->eval_every,
                            .load = o->load,
                            .strict = o->strict,
                            .resume = o->resume,
                            .out = o->out,
                            .config = session->config,
                            .gradients = o->gradients,
                            .dendrite = session->dendrite,
                            .ahead = (size_t)o->ahead,
                            .ahead_memory = (size_t)o->ahead_memory,
                            .deadline_ns = o->deadline,
                            .observer = {session, on_step, on_evaluated},
                            .stop = signals_stop_requested};
    learn->schedule = (Schedule){.lr = o->lr, .steps_per_drop = o->step_size, .gamma = o->gamma};
    RETURN_IF_ERROR(schedule_kind(o->schedule, &learn->schedule.kind, error));
    learn->trainer = (TrainerOptions){.soma = learn->soma,
                                      .rows = session->train.images.shape.dims[2],
                                      .columns = session->train.images.shape.dims[3],
                                      .peers = (int)peers,
                                      .dropout = o->dropout,
                                      .distill_detach = o->distill_detach,
                                      .distill_targets = o->distill_targets,
                                      .sgd = {.momentum = o->momentum, .weight_decay = o->weight_decay},
                                      .peer_gradient_scale = o->remote_gradient_scale,
                                      .peer_gradient_clip = o->gradient_clip,
                                      .seed = (uint64_t)o->seed};
    return ranges(o, session->train.images.shape.dims[0], learn, error);
}

Status session_dendrite(const Options *o, const Peer *peers, size_t count, const char *neuron_key, Dendrite **out,
                        Error *error)
{
    if (count > MOST_PEERS)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%zu peers are to be asked, at most %d are possible", count,
                         MOST_PEERS);
    DendriteOptions dendrite = {.neuron_key = neuron_key,
                                .deadline_ns = o->deadline,
                                .max_message_bytes = (size_t)o->max_message,
                                .memory_bytes = (size_t)o->ahead_memory,
                                .seed = (uint64_t)o->seed};
    return dendrite_create(&dendrite, peers, count, out, error);
}

Status session_config_text(const Options *o, char **out, Error *error)
{
    json_t *json = options_to_json(o);
    *out = json != NULL ? json_dumps(json, JSON_INDENT(4)) : NULL;
    json_decref(json);
    return *out != NULL ? STATUS_OK : error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the configuration");
}

Status session_open(Session *session, const Options *o, PeersFile *peers, const char *neuron_key, Output *output,
                    Error *error)
{
    size_t count = peers != NULL ? peers->count : 0;
    session->peers = peers;
    session->options = o;
    session->output = output;
    if (o->resume && o->out == NULL)
        return error_set(error, STATUS_INVALID_ARGUMENT, "--resume needs the run folder, expected --out FOLDER");
    RETURN_IF_ERROR(dataset_load_mnist(o->data, DATASET_TRAIN, &session->train, error));
    RETURN_IF_ERROR(dataset_load_mnist(o->data, DATASET_TEST, &session->test, error));
    RETURN_IF_ERROR(session_backend(o, o->threads, output, &session->backend, error));
    RETURN_IF_ERROR(session_config_text(o, &session->config, error));
    if (count > 0) RETURN_IF_ERROR(session_dendrite(o, peers->peers, count, neuron_key, &session->dendrite, error));
    RETURN_IF_ERROR(learn_options(session, o, count, &session->learn, error));
    return learner_create(&session->learn, &session->learner, error);
}

Status session_learn(Session *session, Error *error)
{
    session->progress = progress_make(session->output, clock_monotonic(), learner_step(session->learner));
    uint64_t started = clock_now(clock_monotonic());
    Status status = learner_run(session->learner, error);
    session->learning_seconds = clock_seconds(clock_now(clock_monotonic()) - started);
    if (status == STATUS_OK)
        report_end(session);
    else
        progress_finish(&session->progress);
    return status;
}

void session_close(Session *session)
{
    learner_destroy(session->learner);
    dendrite_destroy(session->dendrite);
    backend_close(session->backend);
    dataset_destroy(&session->train);
    dataset_destroy(&session->test);
    free(session->config);
}
