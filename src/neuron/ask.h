/* Batches that the network is asked about ahead: filled from loaders, sent to every peer, and taken in order when their
 * answers are wanted. Used by the learner, and by an evaluation of the remote path. Without a dendrite it is a plain
 * source of batches.
 *
 *   asker_next -> asker_wait -> (dendrite_backward with batch->call) -> asker_done
 *
 * An asker belongs to one thread. A batch's images are handed to the dendrite, which sends them from where they are. */
#pragma once

#include "data/loader.h"
#include "dendrite/dendrite.h"
#include "neuron/ahead.h"
#include "train/evaluate.h"

typedef struct Asker Asker;

enum { ASK_LOADERS = 2 }; /* a batch's rows: those of the first loader, then those of the second */

typedef struct AskerOptions {
    Loader *loaders[ASK_LOADERS]; /* the second may be NULL; not owned, and moved by the asker alone */
    int64_t batch;                /* rows of each loader's batches */
    int64_t rows, columns;        /* of images */
    Dendrite *dendrite;           /* NULL: nobody is asked, and nothing is done ahead */
    size_t ahead;                 /* batches on their way; 0: as ahead.h finds */
    size_t memory_bytes;          /* of them, with their answers and gradients; 0: 512 MiB */
    uint64_t deadline_ns;         /* of the dendrite's calls; 0: 1 s */
} AskerOptions;

typedef struct AskedBatch {
    const float *images;                /* [rows, 1, rows, columns] */
    int32_t *labels;                    /* [rows] */
    int64_t rows, first;                /* of both loaders; of the first one */
    LoaderPosition before[ASK_LOADERS]; /* where the loaders were */
    DendriteCall *call;                 /* NULL: nobody was asked */
    Tensor input;                       /* where there is no call */
    uint64_t sent;                      /* ns */
} AskedBatch;

Status asker_create(const AskerOptions *options, Asker **out, Error *error);
/* Gives up what is on its way. NULL is fine. */
void asker_destroy(Asker *asker);

/* No more than `batches` are taken from now on: nobody is asked about one beyond. */
void asker_limit(Asker *asker, int64_t batches);

/* The next batch, and asks about as many after it as are wanted ahead. At the limit *out is NULL. */
Status asker_next(Asker *asker, AskedBatch **out, Error *error);

/* As dendrite_wait; 0 when nobody was asked. While nothing is known of the peers' latency, further batches go out
 * meanwhile; a failure to send them shows in the next asker_next. */
size_t asker_wait(Asker *asker, AskedBatch *batch, float *answers, uint8_t *arrived);

void asker_done(Asker *asker, AskedBatch *batch);

/* Where a loader was before the first batch that wasn't taken. */
LoaderPosition asker_position(const Asker *asker, int loader);

size_t asker_ahead(const Asker *asker);    /* batches on their way at this moment */
uint64_t asker_waited(const Asker *asker); /* ns spent in asker_wait so far */

/* An EvaluatorAsk; its context is an Asker over the images that are evaluated, in their order and with the evaluator's
 * batch: what the evaluator has just filled is the batch whose answers come. */
EvaluatorAsk asker_evaluate;
