/* A server that does what a test tells it, method by method: what neurons say of themselves, what they refuse, and
 * when. Beside raw.h, whose server says the same to everything. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/tensor.h"

typedef enum ScriptMethod { SCRIPT_FORWARD, SCRIPT_BACKWARD, SCRIPT_HELLO, SCRIPT_METHODS } ScriptMethod;

typedef struct Script Script;

/* On 127.0.0.1, at `port` (0: any). At first Hello is UNIMPLEMENTED, Forward and Backward are INTERNAL. */
Script *script_start(int port);
const char *script_address(const Script *script);
int script_port(const Script *script);
void script_stop(Script *script); /* connections are closed, whatever is held */

/* From now on: */
void script_answer(Script *script, ScriptMethod method, const void *bytes, size_t size); /* copied */
void script_answer_tensor(Script *script, ScriptMethod method, const Tensor *tensor);
void script_fail(Script *script, ScriptMethod method, Status status);                 /* "told to fail" */
void script_fail_next(Script *script, ScriptMethod method, Status status, int count); /* and then as before */
void script_hello(Script *script, uint64_t max_message_bytes);                        /* neuron key "scripted" */
void script_weights_version(Script *script, const char *text); /* initial metadata of all answers; NULL: none */

/* Calls of a method wait until script_hold(script, method, false). */
void script_hold(Script *script, ScriptMethod method, bool held);

int script_calls(Script *script, ScriptMethod method); /* that have come */
int script_connections(Script *script);                /* different callers' ports so far */

/* The last call's weights version in its metadata; false: it had none. */
bool script_last_version(Script *script, char out[64]);
