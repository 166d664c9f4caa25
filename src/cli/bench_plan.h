/* What bench measures: a soma's training step or inference as one compiled plan, fed with random images and labels that
 * depend on the seed alone; and its check, the same computation on the reference backend.
 *
 * The training step is the one of train/trainer.h without peers: forward, loss, gradients, SGD with momentum. The
 * inference goes from the image to the logits of the local target, with the weights packed once. */
#pragma once

#include "backend/backend.h"
#include "cli/options.h"
#include "models/soma.h"

typedef enum BenchKind { BENCH_TRAIN_STEP, BENCH_INFERENCE, BENCH_INFERENCE_FOLDED, BENCH_KINDS } BenchKind;

/* "train_step", "inference", "inference_folded". */
const char *bench_kind_name(BenchKind kind);
/* --fold false leaves the folded inference out, --backward both inferences. */
bool bench_kind_wanted(const Options *options, BenchKind kind);

typedef struct BenchWork {
    const Soma *soma;
    BenchKind kind;
    int64_t batch;
    uint64_t seed;
    Precision precision; /* of the backend that is measured */
} BenchWork;

typedef struct BenchPlan {
    BenchWork work;
    Variables *variables;
    Plan *plan;
    int64_t step; /* chooses the dropout masks */
} BenchPlan;

/* Zero-initialise; close in any case. With `profile` each step of the plan is measured. */
Status bench_plan_open(BenchPlan *plan, Backend *backend, const BenchWork *work, bool profile, Error *error);
void bench_plan_close(BenchPlan *plan);

/* CANCELLED once a signal has asked the program to stop. */
Status bench_plan_run(BenchPlan *plan, Error *error);

/* Runs a plan that hasn't run yet once, and the same work on the reference backend, unfused and unfolded. The loss or
 * the logits, and after a training step every parameter and every momentum (which is then the gradient), must agree:
 * |ours - reference| <= limit * |reference| in the Euclidean norm, tensor by tensor, with the limit 1e-4, folded 1e-5;
 * in tf32 and f16 0.15, in bf16 0.4, since where activations are rounded another pixel of a pool may be the largest,
 * or another side of a relu, and the first layer has the sum of it all.
 * *difference is the largest quotient. INTERNAL with the tensor's name when one doesn't agree. */
Status bench_plan_check(BenchPlan *plan, Backend *reference, double *difference, Error *error);
