/* bench serve: how many questions a second a neuron answers, and how fast. */
#pragma once

#include "backend/backend.h"
#include "cli/options.h"
#include "observe/output.h"

/* Checks and measures every --batch at every --concurrency; events "bench", and a table for people. On loopback the
 * answers must be those of `reference` with the same weights. */
Status bench_serve(const Options *options, Backend *reference, Output *output, Error *error);
