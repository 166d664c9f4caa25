#include "neuron/learn.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "neuron/ask.h"

enum { EVALUATION_BATCH = 250 };

static const uint64_t publish_interval = 50000000; /* ns: how old the weights that others see may be */

/* A batch on its way: filled, asked about, not yet learnt from. */
typedef struct Pending {
    float *images;
    int32_t *labels;
    int64_t rows, labelled;   /* rows includes the labelled ones, which come first */
    LoaderPosition before[2]; /* of both loaders, so that a checkpoint begins again with this batch */
    DendriteCall *call;       /* NULL: nobody was asked */
    bool filled;
} Pending;

struct Learner {
    LearnOptions options;
    Trainer *trainer;
    Evaluator *evaluators[2]; /* local, remote; made on first use */
    Loader *loaders[2];       /* labelled, unlabelled (NULL: none) */
    Pending pending[2];
    int current; /* which pending batch is next */
    int64_t step, steps, steps_per_epoch, saved_step, evaluated_step;
    CheckpointLock lock;
    bool locked, first_step;
    uint64_t published, window_start; /* ns */
    int64_t window_rows;
    double samples_per_second;
    float *answers; /* [peers, 2 batch, 512] */
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

static Status make_pending(const LearnOptions *o, Pending *out, Error *error)
{
    size_t rows = 2 * (size_t)o->batch, pixels = (size_t)(o->trainer.rows * o->trainer.columns);
    out->images = calloc(rows * pixels, sizeof(float));
    out->labels = calloc(rows, sizeof(int32_t));
    if (out->images != NULL && out->labels != NULL) return STATUS_OK;
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a batch of %zu images", rows);
}

static CheckpointValues checkpoint_values(const Learner *learner)
{
    const Pending *next = &learner->pending[learner->current];
    LoaderPosition labelled = next->filled ? next->before[0] : loader_position(learner->loaders[0]),
                   unlabelled = {0, 0};
    if (learner->loaders[1] != NULL) unlabelled = next->filled ? next->before[1] : loader_position(learner->loaders[1]);
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
    RETURN_IF_ERROR(make_pending(o, &learner->pending[0], error));
    RETURN_IF_ERROR(make_pending(o, &learner->pending[1], error));
    learner->answers = calloc((size_t)o->trainer.peers * 2 * (size_t)o->batch * SOMA_NETWORK_DIM + 1, sizeof(float));
    if (learner->answers == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for answers");
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
    for (int i = 0; i < 2; i++) {
        dendrite_release(learner->pending[i].call);
        free(learner->pending[i].images);
        free(learner->pending[i].labels);
        loader_destroy(learner->loaders[i]);
        evaluator_destroy(learner->evaluators[i]);
    }
    trainer_destroy(learner->trainer);
    if (learner->locked) checkpoint_unlock(&learner->lock);
    free(learner->answers);
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

/* --- batches --- */

/* Fills a batch and asks the peers about it. */
static Status fetch(Learner *learner, Pending *p, Error *error)
{
    const LearnOptions *o = &learner->options;
    int64_t pixels = o->trainer.rows * o->trainer.columns, more = 0;
    p->before[0] = loader_position(learner->loaders[0]);
    loader_next(learner->loaders[0], p->images, p->labels, &p->labelled);
    if (learner->loaders[1] != NULL) {
        p->before[1] = loader_position(learner->loaders[1]);
        loader_next(learner->loaders[1], p->images + p->labelled * pixels, p->labels + p->labelled, &more);
    }
    p->rows = p->labelled + more;
    p->filled = true;
    if (o->dendrite == NULL) return STATUS_OK;
    Tensor image = tensor_view(DTYPE_F32, shape_of(p->rows, 1, 1, o->trainer.rows, o->trainer.columns), p->images);
    return dendrite_forward(o->dendrite, &image, MODALITY_IMAGE, &p->call, error);
}

/* --- one step --- */

static Status learn_from(Learner *learner, Pending *p, LearnStep *report, Error *error)
{
    const LearnOptions *o = &learner->options;
    size_t pixels = (size_t)(o->trainer.rows * o->trainer.columns);
    uint8_t arrived[256] = {0};
    size_t answered = p->call != NULL ? dendrite_wait(p->call, learner->answers, arrived) : 0;
    if (o->server != NULL)
        RETURN_IF_ERROR(server_take_gradients(o->server, learner->trainer, &report->peer_gradients, error));
    TrainerBatch batch;
    /* Without a single answer the step is a local one, on the labelled rows. */
    int64_t rows = answered > 0 ? p->rows : p->labelled;
    RETURN_IF_ERROR(trainer_batch(learner->trainer, rows, answered > 0, &batch, error));
    memcpy(batch.images, p->images, (size_t)rows * pixels * sizeof(float));
    memcpy(batch.labels, p->labels, (size_t)rows * sizeof(int32_t));
    if (answered > 0) {
        memcpy(batch.answers, learner->answers,
               (size_t)o->trainer.peers * (size_t)rows * SOMA_NETWORK_DIM * sizeof(float));
        memcpy(batch.arrived, arrived, (size_t)o->trainer.peers);
    }
    if (learner->first_step && o->gradients != NULL)
        RETURN_IF_ERROR(trainer_save_gradients(learner->trainer, learner->step, o->gradients, error));
    learner->first_step = false;
    report->lr = schedule_rate(&o->schedule, learner->step);
    report->answered = (int64_t)answered;
    RETURN_IF_ERROR(trainer_step(learner->trainer, learner->step, report->lr, &report->losses, error));
    if (answered > 0) RETURN_IF_ERROR(dendrite_backward(o->dendrite, p->call, batch.answer_gradients, arrived, error));
    learner->window_rows += rows;
    return STATUS_OK;
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
    if (learner->options.server == NULL || (!force && now - learner->published < publish_interval)) return STATUS_OK;
    learner->published = now;
    return server_publish(learner->options.server, trainer_variables(learner->trainer), error);
}

static Status one_step(Learner *learner, Error *error)
{
    const LearnOptions *o = &learner->options;
    Pending *now = &learner->pending[learner->current], *next = &learner->pending[1 - learner->current];
    LearnStep report = {.steps = learner->steps,
                        .epochs = (learner->steps + learner->steps_per_epoch - 1) / learner->steps_per_epoch};
    if (!now->filled) RETURN_IF_ERROR(fetch(learner, now, error));
    if (o->dendrite != NULL && learner->step + 1 < learner->steps) RETURN_IF_ERROR(fetch(learner, next, error));
    report.epoch = now->before[0].epoch + 1;
    RETURN_IF_ERROR(learn_from(learner, now, &report, error));
    dendrite_release(now->call);
    now->call = NULL;
    now->filled = false;
    if (o->dendrite != NULL) learner->current = 1 - learner->current;
    report.step = ++learner->step;
    uint64_t time = clock_now(clock_monotonic());
    measure_speed(learner, time);
    report.samples_per_second = learner->samples_per_second;
    if (o->observer.step != NULL) o->observer.step(o->observer.context, &report);
    return publish(learner, time, false, error);
}

/* --- evaluation and saving --- */

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
    NetworkQuestion question = {o->dendrite, o->trainer.rows, o->trainer.columns};
    return evaluator_run(learner->evaluators[remote], o->test, remote, network_ask, &question, o->stop, out, error);
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

static bool due(const Learner *learner, int64_t every)
{
    if (every < 0) return false;
    if (every > 0) return learner->step % every == 0;
    const Pending *next = &learner->pending[learner->current];
    LoaderPosition position = next->filled ? next->before[0] : loader_position(learner->loaders[0]);
    return position.offset == 0; /* an epoch has just ended */
}

Status learner_run(Learner *learner, Error *error)
{
    const LearnOptions *o = &learner->options;
    learner->window_start = clock_now(clock_monotonic());
    RETURN_IF_ERROR(publish(learner, learner->window_start, true, error));
    bool stopped = false;
    while (learner->step < learner->steps && !stopped) {
        RETURN_IF_ERROR(one_step(learner, error));
        if (o->test != NULL && due(learner, o->eval_every)) RETURN_IF_ERROR(evaluate_paths(learner, error));
        if (due(learner, o->save_every)) RETURN_IF_ERROR(learner_save(learner, error));
        stopped = o->stop != NULL && o->stop();
    }
    RETURN_IF_ERROR(publish(learner, clock_now(clock_monotonic()), true, error));
    if (!stopped && o->test != NULL && learner->evaluated_step != learner->step)
        RETURN_IF_ERROR(evaluate_paths(learner, error));
    return learner_save(learner, error);
}
