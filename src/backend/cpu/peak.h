/* What this machine can do at best, measured: the yardstick of the benchmark. Not a data sheet's figure, but what a
 * loop that does nothing else reaches with the team's threads. */
#pragma once

#include <stddef.h>

#include "base/status.h"
#include "base/team.h"

/* Floating-point operations a second in f32: fused multiply-adds on registers, two operations each, with the widest
 * vectors this processor has (on one without fused multiply-add: a multiplication and an addition). The best of many
 * short runs; takes a quarter of a second. */
double peak_flops(Team *team);

/* Bytes a second that the team moves in a working set of `bytes` (half of it read from, half written to): the larger of
 * what reading alone and reading and writing reach. Small sets stay in caches; PEAK_MEMORY_BYTES doesn't. */
enum { PEAK_MEMORY_BYTES = 256 << 20 };
Status peak_bandwidth(Team *team, size_t bytes, double *out, Error *error);
