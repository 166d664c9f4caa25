#include "neuron/learn.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "neuron/ask.h"
#include "neuron/rescue.h"

enum { EVALUATION_BATCH = 250 };

static const uint64_t publish_interval = 50000000; /* ns: how old the weights that others see may be */
enum { PUBLISH_SHARE = 100 };                      /* copying them takes at most one such part of the time */

struct Learner {
    LearnOptions options;
    Trainer *trainer;
    Evaluator *evaluators[2]; /* local, remote; made on first use */
    Loader *loaders[2];       /* labelled, unlabelled (NULL: none) */
    Asker *asker;             /* of the training set */
    int64_t step, steps, steps_per_epoch, saved_step, evaluated_step;
    CheckpointLock lock;
    bool locked, first_step;
    Rescue rescue;
    uint64_t published, publish_pause, window_start; /* ns */
    int64_t window_rows;
    double samples_per_second;
};

/* --- making one --- */

static Status make_loader(const LearnOptions *o, bool labelled, Loader **out, Error *error)
{
    LoaderOptions options = {.dataset = o->train,
                             .begin = labelled ? o->begin : o->unlabelled_begin,
                             .end = labelled ? o->end : o->unlabelled_end,
                             .labelled = labelled,
                             .batch = o->batch,
                             .shuffle = o->shuffle,
                             .seed = o->trainer.seed,
                             .stream = labelled ? RNG_STREAM_SHUFFLE : RNG_STREAM_UNLABELLED};
    return loader_create(&options, out, error);
}

static CheckpointValues checkpoint_values(const Learner *learner)
{
    LoaderPosition labelled = asker_position(learner->asker, 0), unlabelled = {0, 0};
    if (learner->loaders[1] != NULL) unlabelled = asker_position(learner->asker, 1);
    return (CheckpointValues){6,
                              {{"step", learner->step},
                               {"labelled_epoch", labelled.epoch},
                               {"labelled_offset", labelled.offset},
                               {"unlabelled_epoch", unlabelled.epoch},
                               {"unlabelled_offset", unlabelled.offset},
                               {"seed", (int64_t)learner->options.trainer.seed}}};
}

static Status resume(Learner *learner, Error *error)
{
    CheckpointValues values = checkpoint_values(learner);
    RETURN_IF_ERROR(checkpoint_load(learner->options.out, trainer_variables(learner->trainer), &values, error));
    if ((uint64_t)values.items[5].value != learner->options.trainer.seed)
        return error_set(error, STATUS_FAILED_PRECONDITION, "the run in %s has seed %lld, not %lld",
                         learner->options.out, (long long)values.items[5].value,
                         (long long)learner->options.trainer.seed);
    learner->step = learner->saved_step = learner->evaluated_step = values.items[0].value;
    if (learner->step < 0) return error_set(error, STATUS_DATA_LOSS, "step in %s is negative", learner->options.out);
    LoaderPosition labelled = {values.items[1].value, values.items[2].value};
    RETURN_IF_ERROR(loader_seek(learner->loaders[0], labelled, error));
    if (learner->loaders[1] == NULL) return STATUS_OK;
    return loader_seek(learner->loaders[1], (LoaderPosition){values.items[3].value, values.items[4].value}, error);
}

static Status make_asker(const LearnOptions *o, Loader *const loaders[2], int64_t batch, Asker **out, Error *error)
{
    AskerOptions options = {.loaders = {loaders[0], loaders[1]},
                            .batch = batch,
                            .rows = o->trainer.rows,
                            .columns = o->trainer.columns,
                            .dendrite = o->dendrite,
                            .ahead = o->ahead,
                            .memory_bytes = o->ahead_memory,
                            .deadline_ns = o->deadline_ns};
    return asker_create(&options, out, error);
}

static Status prepare(Learner *learner, Error *error)
{
    LearnOptions *o = &learner->options;
    if (o->out != NULL) {
        RETURN_IF_ERROR(checkpoint_lock(o->out, &learner->lock, error));
        learner->locked = true;
        if (!o->resume && checkpoint_exists(o->out))
            return error_set(error, STATUS_ALREADY_EXISTS, "%s holds a run already, expected --resume or another --out",
                             o->out);
    }
    RETURN_IF_ERROR(make_loader(o, true, &learner->loaders[0], error));
    bool unlabelled = o->dendrite != NULL && o->unlabelled_end > o->unlabelled_begin;
    if (unlabelled) RETURN_IF_ERROR(make_loader(o, false, &learner->loaders[1], error));
    RETURN_IF_ERROR(make_asker(o, learner->loaders, o->batch, &learner->asker, error));
    learner->steps_per_epoch = loader_steps_per_epoch(learner->loaders[0]);
    learner->steps = o->steps > 0 ? o->steps : o->epochs * learner->steps_per_epoch;
    o->schedule.steps = learner->steps;
    o->schedule.steps_per_drop *= learner->steps_per_epoch;
    RETURN_IF_ERROR(trainer_create(o->backend, &o->trainer, &learner->trainer, error));
    if (o->resume) return resume(learner, error);
    if (o->load != NULL) return checkpoint_load_model(o->load, trainer_variables(learner->trainer), o->strict, error);
    return STATUS_OK;
}

Status learner_create(const LearnOptions *options, Learner **out, Error *error)
{
    Learner *learner = calloc(1, sizeof *learner);
    if (learner == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to learn");
    learner->options = *options;
    learner->first_step = true;
    learner->saved_step = -1;
    Status status = prepare(learner, error);
    if (status == STATUS_OK)
        *out = learner;
    else
        learner_destroy(learner);
    return status;
}

void learner_destroy(Learner *learner)
{
    if (learner == NULL) return;
    asker_destroy(learner->asker);
    for (int i = 0; i < 2; i++) {
        loader_destroy(learner->loaders[i]);
        evaluator_destroy(learner->evaluators[i]);
    }
    trainer_destroy(learner->trainer);
    rescue_free(&learner->rescue);
    if (learner->locked) checkpoint_unlock(&learner->lock);
    free(learner);
}

Variables *learner_variables(Learner *learner)
{
    return trainer_variables(learner->trainer);
}

void learner_serve(Learner *learner, SomaServer *server)
{
    learner->options.server = server;
}

bool learner_done(const Learner *learner)
{
    return learner->step >= learner->steps;
}

int64_t learner_step(const Learner *learner)
{
    return learner->step;
}

/* --- one step --- */

/* What came of asking about the batch goes straight to where the trainer reads it. Without a single answer the step is
 * a local one, on the labelled rows. */
static Status fill(Learner *learner, AskedBatch *asked, TrainerBatch *batch, size_t *answered, Error *error)
{
    const LearnOptions *o = &learner->options;
    size_t image = (size_t)(o->trainer.rows * o->trainer.columns) * sizeof(float);
    int64_t rows = asked->rows;
    *answered = 0;
    if (asked->call != NULL) {
        RETURN_IF_ERROR(trainer_batch(learner->trainer, rows, true, batch, error));
        *answered = asker_wait(learner->asker, asked, batch->answers, batch->arrived);
    }
    if (*answered == 0) {
        rows = asked->first;
        RETURN_IF_ERROR(trainer_batch(learner->trainer, rows, false, batch, error));
    }
    memcpy(batch->images, asked->images, (size_t)rows * image);
    memcpy(batch->labels, asked->labels, (size_t)rows * sizeof(int32_t));
    learner->window_rows += rows;
    return STATUS_OK;
}

static Status learn_from(Learner *learner, AskedBatch *asked, LearnStep *report, Error *error)
{
    const LearnOptions *o = &learner->options;
    TrainerBatch batch;
    size_t answered;
    if (o->server != NULL)
        RETURN_IF_ERROR(server_take_gradients(o->server, learner->trainer, &report->peer_gradients, error));
    RETURN_IF_ERROR(fill(learner, asked, &batch, &answered, error));
    if (learner->first_step && o->gradients != NULL)
        RETURN_IF_ERROR(trainer_save_gradients(learner->trainer, learner->step, o->gradients, error));
    learner->first_step = false;
    report->lr = schedule_rate(&o->schedule, learner->step);
    report->answered = (int64_t)answered;
    report->ahead = (int64_t)asker_ahead(learner->asker);
    report->waited_ns = asker_waited(learner->asker);
    RETURN_IF_ERROR(trainer_step(learner->trainer, learner->step, report->lr, &report->losses, error));
    if (answered == 0) return STATUS_OK;
    return dendrite_backward(o->dendrite, asked->call, batch.answer_gradients, batch.arrived, error);
}

static void measure_speed(Learner *learner, uint64_t now)
{
    double seconds = clock_seconds(now - learner->window_start);
    if (seconds < 0.25 && learner->samples_per_second > 0) return;
    learner->samples_per_second = seconds > 0 ? (double)learner->window_rows / seconds : 0;
    if (seconds < 0.25) return;
    learner->window_start = now;
    learner->window_rows = 0;
}

static Status publish(Learner *learner, uint64_t now, bool force, Error *error)
{
    if (learner->options.server == NULL || (!force && now - learner->published < learner->publish_pause))
        return STATUS_OK;
    RETURN_IF_ERROR(
        server_publish(learner->options.server, trainer_variables(learner->trainer), (uint64_t)learner->step, error));
    learner->published = clock_now(clock_monotonic());
    learner->publish_pause = PUBLISH_SHARE * (learner->published - now);
    if (learner->publish_pause < publish_interval) learner->publish_pause = publish_interval;
    return STATUS_OK;
}

static Status one_step(Learner *learner, Error *error)
{
    const LearnOptions *o = &learner->options;
    LearnStep report = {.steps = learner->steps,
                        .epochs = (learner->steps + learner->steps_per_epoch - 1) / learner->steps_per_epoch};
    AskedBatch *asked;
    RETURN_IF_ERROR(asker_next(learner->asker, &asked, error));
    report.epoch = asked->before[0].epoch + 1;
    Status status = learn_from(learner, asked, &report, error);
    asker_done(learner->asker, asked);
    if (status != STATUS_OK) return status;
    report.step = ++learner->step;
    uint64_t time = clock_now(clock_monotonic());
    measure_speed(learner, time);
    report.samples_per_second = learner->samples_per_second;
    if (o->observer.step != NULL) o->observer.step(o->observer.context, &report);
    return publish(learner, time, false, error);
}

/* --- evaluation and saving --- */

/* The batches of training that are on their way stay there meanwhile. */
static Status run_evaluator(Learner *learner, bool remote, Evaluation *out, Error *error)
{
    const LearnOptions *o = &learner->options;
    Loader *loaders[2] = {NULL, NULL};
    Asker *asker = NULL;
    int64_t images = o->test->images.shape.dims[0];
    LoaderOptions loader = {.dataset = o->test, .end = images, .labelled = true, .batch = EVALUATION_BATCH};
    Status status;
    if (remote) {
        GOTO_IF_ERROR(loader_create(&loader, &loaders[0], error), done);
        GOTO_IF_ERROR(make_asker(o, loaders, EVALUATION_BATCH, &asker, error), done);
        asker_limit(asker, loader_steps_per_epoch(loaders[0]));
    }
    status = evaluator_run(learner->evaluators[remote], o->test, remote, asker_evaluate, asker, o->stop, out, error);
done:
    asker_destroy(asker);
    loader_destroy(loaders[0]);
    return status;
}

Status learner_evaluate(Learner *learner, bool remote, Evaluation *out, Error *error)
{
    const LearnOptions *o = &learner->options;
    if (learner->evaluators[remote] == NULL) {
        EvaluatorOptions options = {.soma = o->soma,
                                    .rows = o->trainer.rows,
                                    .columns = o->trainer.columns,
                                    .peers = remote ? o->trainer.peers : 0,
                                    .batch = EVALUATION_BATCH,
                                    .fold = true};
        RETURN_IF_ERROR(evaluator_create(o->backend, trainer_variables(learner->trainer), &options,
                                         &learner->evaluators[remote], error));
    }
    return run_evaluator(learner, remote, out, error);
}

static Status evaluate_paths(Learner *learner, Error *error)
{
    const LearnOptions *o = &learner->options;
    learner->evaluated_step = learner->step;
    for (int remote = 0; remote <= (o->dendrite != NULL); remote++) {
        Evaluation evaluation;
        Status status = learner_evaluate(learner, remote, &evaluation, error);
        if (status == STATUS_CANCELLED) return STATUS_OK; /* stopping: the loop will see it */
        if (status != STATUS_OK) return status;
        if (o->observer.evaluated != NULL)
            o->observer.evaluated(o->observer.context, remote ? "remote" : "local", learner->step, &evaluation);
    }
    /* The time spent here says nothing about the speed of learning. */
    learner->window_start = clock_now(clock_monotonic());
    learner->window_rows = 0;
    return STATUS_OK;
}

Status learner_save(Learner *learner, Error *error)
{
    const LearnOptions *o = &learner->options;
    if (o->out == NULL || learner->saved_step == learner->step) return STATUS_OK;
    CheckpointValues values = checkpoint_values(learner);
    RETURN_IF_ERROR(checkpoint_save(o->out, trainer_variables(learner->trainer), &values, o->config, error));
    learner->saved_step = learner->step;
    return STATUS_OK;
}

/* With what was copied to the host last, since the device has nothing any more. */
static void save_rescued(Learner *learner)
{
    const LearnOptions *o = &learner->options;
    const Rescue *rescue = &learner->rescue;
    Error error = {0};
    Status status = STATUS_OK;
    if (o->out == NULL) return;
    if (rescue->copy != NULL && rescue->step > learner->saved_step) {
        status = checkpoint_save(o->out, rescue->copy, &rescue->values, o->config, &error);
        if (status == STATUS_OK) learner->saved_step = rescue->step;
    }
    if (status != STATUS_OK) log_warning("step %ld can't be saved: %s", (long)rescue->step, error.message);
    log_warning("the device is lost: %s holds step %ld of %ld", o->out, (long)learner->saved_step, (long)learner->step);
}

static bool due(const Learner *learner, int64_t every)
{
    if (every < 0) return false;
    if (every > 0) return learner->step % every == 0;
    return asker_position(learner->asker, 0).offset == 0; /* an epoch has just ended */
}

/* For when the device is lost. */
static Status keep(Learner *learner, Error *error)
{
    const CheckpointValues values = checkpoint_values(learner);
    if (learner->options.out == NULL) return STATUS_OK;
    return rescue_take(&learner->rescue, trainer_variables(learner->trainer), &values, learner->step, error);
}

static Status run(Learner *learner, Error *error)
{
    const LearnOptions *o = &learner->options;
    learner->window_start = clock_now(clock_monotonic());
    RETURN_IF_ERROR(publish(learner, learner->window_start, true, error));
    bool stopped = false;
    asker_limit(learner->asker, learner->steps - learner->step);
    while (learner->step < learner->steps && !stopped) {
        RETURN_IF_ERROR(one_step(learner, error));
        if (o->test != NULL && due(learner, o->eval_every)) RETURN_IF_ERROR(evaluate_paths(learner, error));
        if (due(learner, o->save_every)) RETURN_IF_ERROR(learner_save(learner, error));
        RETURN_IF_ERROR(keep(learner, error));
        stopped = o->stop != NULL && o->stop();
    }
    RETURN_IF_ERROR(publish(learner, clock_now(clock_monotonic()), true, error));
    if (!stopped && o->test != NULL && learner->evaluated_step != learner->step)
        RETURN_IF_ERROR(evaluate_paths(learner, error));
    return learner_save(learner, error);
}

Status learner_run(Learner *learner, Error *error)
{
    Error loss = {0};
    const Status status = run(learner, &loss);
    if (status == STATUS_DATA_LOSS) save_rescued(learner);
    if (status != STATUS_OK && error != NULL) *error = loss;
    return status;
}
