/* bench step: whole training steps and inferences. */
#pragma once

#include "cli/bench_plan.h"
#include "cli/options.h"
#include "observe/output.h"

/* Checks and measures every kind of work at every batch size; events "bench", and a table for people. */
Status bench_step(const Options *options, Backend *backend, Backend *reference, Output *output, Error *error);
