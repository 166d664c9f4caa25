/* What run and serve share: this neuron's identity, and its soma behind an axon.
 *
 * serving_identify -> serving_open -> serving_stop -> serving_close. Zero-initialise; serving_close in any case, before
 * what the weights belong to is freed, and the dendrite. */
#pragma once

#include <stdatomic.h>

#include "cli/options.h"
#include "neuron/echo.h"
#include "neuron/report.h"
#include "neuron/server.h"
#include "observe/output.h"
#include "wire/identity.h"
#include "wire/peer.h"

typedef struct Serving {
    Identity identity;
    char synapse_key[KEY_SIZE];
    Dendrite *dendrite; /* whose peers are reported; to be set before serving_open, NULL: none */
    Report *report;     /* what the axon answers to Hello and Peers */
    SomaServer *server; /* NULL: soma echo */
    Echo echo;
    Axon *axon;
    uint64_t drain; /* ns */
    bool learns;
    atomic_bool losing, lost; /* the device; `losing`: somebody has seen it first */
    Error loss;               /* why; written before `lost` is set */
} Serving;

/* --soma echo, which has no weights. */
bool serving_is_echo(const Options *options);

/* Loads the identity (or makes it), and settles the key that callers name. */
Status serving_identify(Serving *serving, const Options *options, Error *error);

/* Answers on --listen with the soma and these weights (NULL with soma echo), and says so: the line and the event
 * `ready`. `learn`: the gradients of peers are kept for server_take_gradients. */
Status serving_open(Serving *serving, const Options *options, const Variables *weights, bool learn, Output *output,
                    Error *error);

/* Training is over: answering has all cores. */
void serving_alone(Serving *serving);

/* Health says NOT_SERVING, new calls are refused, and those in flight are answered: true when all are, false after
 * `timeout_ns`; then it may be called again. */
bool serving_drain(Serving *serving, uint64_t timeout_ns);

/* Drains for up to --drain, and ends what is left. A second call returns at once. */
void serving_stop(Serving *serving);

/* What the axon has done: lines for people, and for the event calls, forwards, backwards, failures (in all, and by
 * status), batches (by what closed them), and what became of the peers' gradients. */
void serving_report(const Serving *serving, Output *output, Event *event);

/* The device is lost: health says NOT_SERVING, and the program is asked to stop, so that whoever watches it can start
 * it again. May be called from any thread; the first call counts. */
void serving_lose(Serving *serving, const Error *error);
/* OK, or why the device was lost. */
Status serving_check(Serving *serving, Error *error);

void serving_close(Serving *serving);
