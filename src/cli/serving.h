/* What run and serve share: this neuron's identity, and its soma behind an axon.
 *
 * serving_identify -> serving_open -> serving_stop -> serving_close. Zero-initialise; serving_close in any case, before
 * what the weights belong to is freed. */
#pragma once

#include "cli/options.h"
#include "neuron/server.h"
#include "observe/output.h"
#include "wire/identity.h"
#include "wire/peer.h"

typedef struct Serving {
    Identity identity;
    char synapse_key[KEY_SIZE];
    SomaServer *server;
    Axon *axon;
} Serving;

/* Loads the identity (or makes it), and settles the key that callers name. */
Status serving_identify(Serving *serving, const Options *options, Error *error);

/* Answers on --listen with the soma and these weights, and says so: the line and the event `ready`. `learn`: the
 * gradients of peers are kept for server_take_gradients. */
Status serving_open(Serving *serving, const Options *options, const Variables *weights, bool learn, Output *output,
                    Error *error);

/* Takes no more calls, and answers those in flight for up to 5 s. */
void serving_stop(Serving *serving);

/* What the axon has done: a line, and calls, forwards, backwards and failures for the event. */
void serving_report(const Serving *serving, Output *output, Event *event);

void serving_close(Serving *serving);
