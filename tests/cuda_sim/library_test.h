/* What tests of the libraries' stand-ins share: the backend's way into a library, and code that has to end in a
 * violation. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/blas.h"
#include "backend/cuda/dnn.h"
#include "on_device.h"
#include "support/suite.h"

Blas *open_blas(void);
Dnn *open_dnn(void);

/* Runs the function in a process of its own, which has to abort with `message` on stderr. */
void check_dies(void (*function)(void *argument), void *argument, const char *message);

/* A rule, broken by a function, and what is said of it. */
typedef struct Rule {
    void (*breaks)(void *argument);
    const char *message;
} Rule;

/* check_dies for each rule, with the same argument. */
void check_rules(const Rule *rules, size_t count, void *argument);
