/* bench layers: each step of a compiled plan, layer by layer, against what this machine can do at best. */
#pragma once

#include "cli/bench_plan.h"
#include "cli/options.h"
#include "observe/output.h"

/* Measures the machine's peak, then checks and profiles every kind of work at every batch size. Events "peak", "layer"
 * and "total"; tables for people. */
Status bench_layers(const Options *options, Backend *backend, Backend *reference, Output *output, Error *error);
