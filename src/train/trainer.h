/* The local step: a soma's forward pass, losses, gradients and optimiser, compiled once for each size of batch that
 * comes, over one set of variables.
 *
 *   trainer_batch -> fill its inputs -> trainer_step
 *
 * A trainer belongs to one thread. Plans of the same trainer share parameters and momenta; the parameters' names are
 * the soma's.
 *
 * On a backend that computes in F16 the loss is scaled (graph/ops.h: loss_scale): where a gradient isn't finite, the
 * step is left out whole (no parameter and no momentum changes, and what peers sent is forgotten) and the scale halves;
 * after LOSS_SCALE_INTERVAL good steps it doubles. It is a state among the momenta, so a run goes on with it. Losses,
 * and gradients that leave, are unscaled. */
#pragma once

#include "backend/backend.h"
#include "models/soma.h"
#include "train/schedule.h"

typedef struct Trainer Trainer;

typedef struct TrainerOptions {
    const Soma *soma;
    int64_t rows, columns; /* of images */
    int peers;             /* the network's size; 0: alone */
    double dropout;
    bool distill_detach, distill_targets;
    SgdOptions sgd;
    bool learn_from_peers; /* gradients that peers sent are added to the own ones (trainer_add_peer_gradients) */
    double peer_gradient_scale;
    double peer_gradient_clip; /* norm that their sum is clipped to; 0: 1 */
    uint64_t seed;             /* of initial weights and dropout */
} TrainerOptions;

Status trainer_create(Backend *backend, const TrainerOptions *options, Trainer **out, Error *error);
void trainer_destroy(Trainer *trainer);
Variables *trainer_variables(Trainer *trainer);

/* Where to put a batch of `rows`; valid until the next trainer_batch. With `remote`, answers and arrived belong to it.
 */
typedef struct TrainerBatch {
    float *images;                 /* [rows, 1, rows, columns] in 0..1 */
    int32_t *labels;               /* [rows]; -1: unlabelled */
    float *answers;                /* [peers, rows, 512]; NULL without `remote` */
    uint8_t *arrived;              /* [peers] */
    const float *answer_gradients; /* after the step: d loss / d answers, for the peers; zeros where it was left out */
} TrainerBatch;

Status trainer_batch(Trainer *trainer, int64_t rows, bool remote, TrainerBatch *out, Error *error);

/* Means over the batch before the update; NaN where a part doesn't exist. */
typedef struct TrainerLosses {
    double loss, local_target, remote_target, distillation, imitation;
} TrainerLosses;

/* One step on the batch that was filled. `step` chooses the dropout masks. A loss that is not finite is ABORTED, after
 * the update: the caller should stop. */
Status trainer_step(Trainer *trainer, int64_t step, double lr, TrainerLosses *out, Error *error);

/* The state in which a parameter's gradients from peers are summed, declared in `g`: "<name of the parameter>.peer". */
Value trainer_peer_gradient(Graph *g, Value parameter);

/* Gradients of the parameters from peers, already checked and clipped one by one, to be added to the own ones in the
 * next step (clipped together, scaled by peer_gradient_scale). `from` holds states named "<parameter>.peer"
 * and is zeroed. A second call before that step replaces what the first one brought. */
Status trainer_add_peer_gradients(Trainer *trainer, Variables *from, Error *error);

/* One update from the peers' gradients alone, without a batch of one's own: they are clipped and scaled as in
 * trainer_step, and then forgotten. Does nothing when none wait. */
Status trainer_step_peers(Trainer *trainer, double lr, Error *error);

/* The gradients of the loss for the filled batch, without an update: written as safetensors under the parameters'
 * names. */
Status trainer_save_gradients(Trainer *trainer, int64_t step, const char *path, Error *error);
