/* How an evaluator (train/evaluate.h) asks the network: every peer about every image, and waits for all that answer in
 * time. */
#pragma once

#include "dendrite/dendrite.h"
#include "train/evaluate.h"

typedef struct NetworkQuestion {
    Dendrite *dendrite;
    int64_t rows, columns; /* of the images */
} NetworkQuestion;

/* An EvaluatorAsk; its context is a NetworkQuestion. */
EvaluatorAsk network_ask;
