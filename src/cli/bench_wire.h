/* bench wire: what it costs to send tensors to a neuron and get them back, with a soma that computes next to nothing
 * (neuron/echo.h). */
#pragma once

#include "cli/options.h"
#include "observe/output.h"

/* Checks and measures every --size at every --concurrency; events "bench", and a table for people. */
Status bench_wire(const Options *options, Output *output, Error *error);
