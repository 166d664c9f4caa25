/* A small network with everything that MNIST's soma is made of, for the tests of whole plans. */
#pragma once

#include "ops/harness.h"

/* Two convolutions with pools, dropout2d, two linear layers, the loss, its gradients, their norm and an update by SGD
 * with momentum. Inputs "image", "labels", "lr" (and "random"); outputs "logits", "loss", "norm". */
Graph *network_graph(DType real, bool training, int batch);
/* Writes every input of any graph: normal numbers for reals, 0 to 2 for integers. */
void network_fill(const Harness *harness, const Graph *graph);
/* The largest relative_difference of a variable of `a` from the one of `b` with its name. */
double network_variables_difference(const Harness *a, const Harness *b);
