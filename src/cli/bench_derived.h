/* `neuron bench layers --plan GPU`: what a plan for a GPU would launch, compute and move, and how long that takes at
 * least by the GPU's data sheet. Nothing is run, and no GPU is needed; nothing that is printed is a measurement. */
#pragma once

#include "cli/options.h"
#include "observe/output.h"

Status bench_derived(const Options *options, Output *output, Error *error);
