/* Rewrites: small functions that replace a pattern of nodes by a cheaper one with the same result, after gradients were
 * taken. Each can be left out, so that a test can compare with and without. They return how many patterns they
 * replaced. */
#pragma once

#include "graph/graph.h"

enum {
    REWRITE_ACTIVATION = 1, /* relu(linear | conv2d) -> their own activation */
    REWRITE_CONV_POOL = 2,  /* relu(max_pool2d([dropout2d](conv2d), 2)) -> conv2d_pool */
    REWRITE_FOLD_LINEAR =
        4, /* serving: linear(linear(x)) without an activation between -> one linear; see rewrite_fold_linear */
    REWRITE_ALL = 3,
};

/* Applies the rewrites in `which`, then drops what no output and no assignment needs. A new graph; the caller destroys
 * both. */
Graph *rewrite(const Graph *graph, unsigned which, int *replaced);
