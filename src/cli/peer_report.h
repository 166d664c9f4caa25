/* What a neuron reports of its peers and its serving (neuron/report.h), for people and as events: of its own at the end
 * of `run`, of another's in `peers`. */
#pragma once

#include "neuron/report.h"
#include "observe/output.h"

/* A table for people, and an event `peer` for each. `answered_for`: also what the neuron did for its callers, lines and
 * the event `serving`. */
void peer_report_show(const Neuron__PeersReply *reply, bool answered_for, Output *output);
