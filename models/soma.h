/* A soma is the model of a neuron: it declares its computation in graph operations, for a batch of a given size, and
 * computes nothing itself.
 *
 * Every soma has the same parts (names as in the reference network): a transform of the input; a context of network_dim
 * numbers a row, computed by itself (local) or joined from the answers of peers (remote); a hidden representation of
 * network_dim numbers, which is what it answers to others; and a target. */
#pragma once

#include "graph/ops.h"

enum { SOMA_NETWORK_DIM = 512 };

typedef struct SomaConfig {
    int64_t batch;         /* rows: labelled and unlabelled together */
    int64_t rows, columns; /* of an image */
    int peers;             /* how many answers join in the remote context; 0: local parts alone */
    bool answering;        /* stop at the local hidden representation */
    double dropout;        /* probability, where the soma drops */
    bool distill_detach;   /* the distillation doesn't reach the transform (the reference's way) */
    bool distill_targets;  /* on unlabelled rows the local target imitates the remote target */
} SomaConfig;

/* What a declaration made; VALUE_NONE where a part doesn't exist. Inputs by name: "image" real [batch, 1, rows,
 * columns] in 0..1, "labels" i32 [batch]
 * (-1: unlabelled), "answers" real [peers, batch, 512], "arrived" u8 [peers]; "random" where something is dropped. */
typedef struct SomaValues {
    Value input, labels, answers, arrived;
    Value local_hidden, local_target, remote_target; /* targets are logits [batch, classes] */
    Value local_target_loss, remote_target_loss, distillation_loss, imitation_loss;
    Value loss; /* the sum of those that exist */
} SomaValues;

typedef struct Soma {
    const char *name;
    int classes;
    int64_t rows, columns; /* of its usual images */
    SomaValues (*declare)(Graph *g, const SomaConfig *config);
} Soma;

/* NULL when there is no soma of that name; soma_names lists them, separated by ", ". */
const Soma *soma_find(const char *name);
const char *soma_names(void);

extern const Soma soma_mnist;
