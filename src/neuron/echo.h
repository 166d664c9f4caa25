/* The test soma `echo`: answers with twice the input, in rows of 512 features, zeros where the input has fewer and cut
 * where it has more; with `raw`, in the input's own shape. It has no weights and learns nothing, but checks what it is
 * sent as every soma does: what it costs is what the wire, the axon and the limits cost.
 *
 *   input                                       answer              with raw
 *   tensor [batch, seq, features]               [batch, seq, 512]   [batch, seq, features]
 *   image  [batch, seq, channels, rows, cols]   [batch, seq, 512]   [batch, seq, channels, rows, cols]
 *   text   [batch, seq]: an id is one feature   [batch, seq, 512]   [batch, seq]
 *
 * Backward is the true gradient: twice the answer's, put back to where the input's features were, zeros for those that
 * were cut, and a zero of [1, 1] for text. Values that are not finite are INVALID_ARGUMENT, an answer that overflows is
 * INTERNAL, and one beyond max_answer_bytes RESOURCE_EXHAUSTED.
 *
 * Tensors are read in blocks that stay in the cache, and doubled and checked there: one pass, whatever their size. */
#pragma once

#include "axon/axon.h"

typedef struct Echo {
    bool raw;
    size_t max_answer_bytes; /* of an answer's values; 0: RPC_MESSAGE_BYTES */
} Echo;

/* `echo` must outlive the axon that serves it; any thread. Requests are answered each alone. */
AxonHandler echo_handler(const Echo *echo);
