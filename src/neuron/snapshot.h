/* Weights on their way from the learner to the server: a consistent set, taken over when the server has time for it.
 * Neither side ever waits for the other, and what the learner puts last is what the server gets next.
 *
 * There are two sets. The learner writes into one that nobody reads: a free one, or else the one that waits unread. So
 * the set that the server is reading is left alone, and a set is seen whole or not at all.
 *
 * Threads: one puts, one takes. */
#pragma once

#include "backend/backend.h"

typedef struct Snapshot Snapshot;

/* Of the parameters of `graph`. */
Status snapshot_create(Backend *backend, const Graph *graph, Snapshot **out, Error *error);
void snapshot_destroy(Snapshot *snapshot);

/* One copy of the parameters. */
Status snapshot_put(Snapshot *snapshot, const Variables *from, uint64_t version, Error *error);

/* Copies the newest set to `to`, with its version; *taken false, and nothing touched, when it has been taken before. */
Status snapshot_take(Snapshot *snapshot, Variables *to, uint64_t *version, bool *taken, Error *error);
