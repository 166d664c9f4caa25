/* A graph compiled on a backend, for one test; and the measure of agreement. Everything aborts the test on an error. */
#pragma once

#include "backend/backend.h"
#include "ops/cases.h"

typedef struct Harness {
    char label[CASE_LABEL_SIZE]; /* stands in errors: the device, then the case once harness_fill was told it */
    Backend *backend;
    Variables *variables;
    Plan *plan;
} Harness;

/* Whether this build and this host have the device; says so where not. */
bool harness_available(const char *device, Precision precision);
/* The variables hold their initial values of seed 1. */
Harness harness_open(const char *device, int threads, const Graph *graph, unsigned rewrites);
Harness harness_open_in(Precision precision, const char *device, int threads, const Graph *graph, unsigned rewrites);
void harness_close(Harness *harness);
void harness_run(const Harness *harness);
/* The input or output of that name. */
Tensor harness_input(const Harness *harness, const char *name);
Tensor harness_output(const Harness *harness, const char *name);
/* Writes the case's values to its inputs. */
void harness_fill(Harness *harness, const OperationCase *test);

/* Rounds a real tensor's values to those that a precision has (nearest, ties to even). */
void round_values(const Tensor *tensor, Precision precision);

/* ||a - b|| / ||b|| in the Euclidean norm (0 when equal); a NaN must meet a NaN. Infinite when dtypes, shapes, NaNs or
 * any integers differ. */
double relative_difference(const Tensor *a, const Tensor *b);
/* The same, allowing dtypes to differ. */
double relative_difference_of_values(const Tensor *a, const Tensor *b);
