/* Failures on demand, for tests: a named place in the code that can be told to fail with an errno. Costs one relaxed
 * load while none is armed.
 *
 * Armed by the environment variable NEURON_FAILPOINTS="file.write=ENOSPC@3,file.rename=KILL" (the third time; KILL
 * raises SIGKILL there), or in-process by failpoint_arm. */
#pragma once

#include "base/status.h"

/* 0: go on. Else the errno that this place is to fail with. */
int failpoint_hit(const char *name);

/* Parses the form above; replaces what was armed. NULL or "" disarms all. */
Status failpoint_arm(const char *specification, Error *error);
