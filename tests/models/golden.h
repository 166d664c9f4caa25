/* The numbers of tests/golden/material.py, made again in C: what the name decides, the same in both languages; and the
 * sketch of a tensor, which stands for the whole one in a golden file. */
#pragma once

#include "tensor/tensor.h"

enum { GOLDEN_PROJECTIONS = 16, GOLDEN_SKETCH_SIZE = 1 + GOLDEN_PROJECTIONS };

/* Fill a tensor of f32 or f64 (rounded to float in either): uniform in +-bound; uniform in 0..1. */
void golden_uniform(const char *name, double bound, const Tensor *out);
void golden_fractions(const char *name, const Tensor *out);
/* i32: classes below 10 in the first `labelled` rows, -1 in the others. */
void golden_labels(const char *name, int64_t labelled, const Tensor *out);
/* A parameter's initial values from its name and the inputs that each of its outputs has. */
void golden_parameter(const char *name, int64_t fan_in, const Tensor *out);

/* The norm, then the products with vectors of random signs, of an f32 or f64 tensor. */
void golden_sketch(const char *name, const Tensor *tensor, double out[GOLDEN_SKETCH_SIZE]);
/* By how much of its norm a tensor differs from the expected one, judged by their sketches: the products' differences
 * have, in the mean square, the norm of the tensors' difference (Johnson-Lindenstrauss). */
double golden_difference(const double found[GOLDEN_SKETCH_SIZE], const double expected[GOLDEN_SKETCH_SIZE]);
