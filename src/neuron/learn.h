/* The loop that ties the parts together: data, the local step, the questions to peers, the gradients from peers,
 * evaluation and checkpoints. Alone (no peers, no server) it is `neuron train`; with them, `neuron run`.
 *
 * Peers are asked about batches ahead (ask.h), so that their answers travel while the steps before are computed, and
 * gradients leave without being waited for: a peer's latency costs no time. A checkpoint begins again with the first
 * batch that wasn't learnt from. */
#pragma once

#include "data/loader.h"
#include "dendrite/dendrite.h"
#include "neuron/server.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/trainer.h"

typedef struct LearnStep {
    int64_t step, steps;           /* done, of how many */
    int64_t epoch, epochs;         /* from 1 */
    double lr, samples_per_second; /* images learnt from in the last second or so */
    TrainerLosses losses;
    int64_t answered;       /* peers that answered for this batch */
    int64_t peer_gradients; /* Backward calls that joined this step */
    int64_t ahead;          /* batches on their way to the peers when this one was learnt from */
    uint64_t waited_ns;     /* for answers, in all steps so far */
} LearnStep;

typedef struct LearnObserver {
    void *context;
    void (*step)(void *context, const LearnStep *step); /* after every step */
    void (*evaluated)(void *context, const char *path, int64_t step,
                      const Evaluation *evaluation); /* "local", "remote" */
} LearnObserver;

typedef struct LearnOptions {
    const Soma *soma;
    Backend *backend;
    const Dataset *train, *test;              /* test NULL: no evaluation */
    int64_t begin, end;                       /* labelled images of `train` */
    int64_t unlabelled_begin, unlabelled_end; /* equal: none */
    int64_t batch;                            /* of labelled rows, and as many unlabelled ones while peers are there */
    LoaderShuffle shuffle;
    int64_t steps, epochs; /* steps 0: `epochs` decides */
    Schedule schedule;     /* its `steps` is set by the loop; steps_per_drop counts epochs here */
    TrainerOptions trainer;
    int64_t save_every, eval_every; /* steps; 0: every epoch; negative: only at the end */
    const char *load;               /* NULL, or initial parameters */
    bool strict, resume;
    const char *out, *config; /* run folder (NULL: nothing is saved) and its config.json */
    const char *gradients;    /* file for the first step's gradients, or NULL */
    Dendrite *dendrite;       /* NULL: alone */
    size_t ahead;             /* batches on their way; 0: as many as hide the peers' latency */
    size_t ahead_memory;      /* bytes that they may take; 0: 512 MiB */
    uint64_t deadline_ns;     /* of the dendrite; 0: 1 s */
    SomaServer *server;       /* may be set later by learner_serve; NULL: not served */
    LearnObserver observer;
    bool (*stop)(void); /* asked between steps; NULL: never */
} LearnOptions;

typedef struct Learner Learner;

/* Loads or resumes. `options` is copied; what it points at must outlive the learner. */
Status learner_create(const LearnOptions *options, Learner **out, Error *error);
void learner_destroy(Learner *learner);

Variables *learner_variables(Learner *learner);
/* Publishes to `server` from now on, and learns from the gradients it collects: after at most 50 ms, or 100 times as
 * long as publishing takes, so that it costs at most 1 % of the time. */
void learner_serve(Learner *learner, SomaServer *server);

/* Runs to the end, or until stop() (then: saves, and returns STATUS_OK with learner_done false). */
Status learner_run(Learner *learner, Error *error);
bool learner_done(const Learner *learner);
int64_t learner_step(const Learner *learner); /* steps done, those before a resume included */

/* Evaluates the local path, or with `remote` the path through the peers' answers, on the test images. */
Status learner_evaluate(Learner *learner, bool remote, Evaluation *out, Error *error);
Status learner_save(Learner *learner, Error *error);
