/* Where the plans of library calls come from: a file of plans that were made ahead for this kind of device (`neuron
 * plan`), or that a search has found here; else the libraries' heuristics; and on a device that the file knows nothing
 * about, a timed search among what the heuristics propose, the winner of which goes into the file, so that the next
 * start needs no search. All candidates are deterministic, and give the same results but for rounding.
 *
 * The file (algorithms.h) is $NEURON_PLANS, else neuron/plans.json in $XDG_CACHE_HOME or ~/.cache. An entry that the
 * library refuses counts as absent. NEURON_TUNE=0 leaves the search out, NEURON_TUNE=1 makes simulated devices search
 * too, whose times say nothing.
 *
 * A PlansAhead belongs to whoever opened it; one thread at a time uses it, and the context that has it. */
#pragma once

#include "backend/cuda/cuda.h"

typedef struct PlansAhead PlansAhead;

/* For a device as its driver calls it, with the options' plans_file and keep_plans. With keep_plans there must be a
 * place for the file, and what is there must be one of plans; without, a file that is of no use is ignored. `searches`:
 * the device is here, and can be timed. */
Status plans_ahead_open(const BackendOptions *options, const char *device, bool searches, PlansAhead **out,
                        Error *error);
void plans_ahead_close(PlansAhead *ahead);
/* Writes what is new. Fails only with keep_plans. */
Status plans_ahead_save(PlansAhead *ahead, Error *error);

/* As dnn_plan_create and blas_plan_create, with the context's handles and CUDA_WORKSPACE_LIMIT. */
Status plan_convolution(const CudaContext *cuda, const DnnConvolution *convolution, DnnPlan **out, Error *error);
Status plan_product(const CudaContext *cuda, const BlasMatmul *matmul, BlasPlan **out, Error *error);
