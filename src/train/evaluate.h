/* Accuracy and loss of a soma on labelled images, in evaluation mode. An evaluator belongs to one thread; it follows
 * the variables when told to. */
#pragma once

#include "backend/backend.h"
#include "data/dataset.h"
#include "models/soma.h"

typedef struct Evaluator Evaluator;

typedef struct EvaluatorOptions {
    const Soma *soma;
    int64_t rows, columns;
    int peers;     /* 0: the local path alone */
    int64_t batch; /* rows at once */
    bool fold;     /* linear layers without an activation between become one */
} EvaluatorOptions;

/* Asks the network about `count` images [count, 1, rows, columns]: fills answers [peers, count, 512] and arrived
 * [peers], returns how many arrived. */
typedef size_t EvaluatorAsk(void *context, const float *images, int64_t count, float *answers, uint8_t *arrived);

typedef struct Evaluation {
    double accuracy, loss;
    int64_t samples, answered; /* answered: of the remote path, rows for which at least one peer answered; the others
                                  count as wrong */
} Evaluation;

Status evaluator_create(Backend *backend, Variables *variables, const EvaluatorOptions *options, Evaluator **out,
                        Error *error);
void evaluator_destroy(Evaluator *evaluator);

/* With the variables' present values. `remote` needs options.peers > 0 and `ask`; rows nobody answered for have no loss
 * and count as wrong. Stops early, with CANCELLED, when *stop becomes true (NULL: never). */
Status evaluator_run(Evaluator *evaluator, const Dataset *dataset, bool remote, EvaluatorAsk *ask, void *context,
                     bool (*stop)(void), Evaluation *out, Error *error);
