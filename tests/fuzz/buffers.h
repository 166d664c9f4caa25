/* For the fuzzers of what gRPC delivers: its structures around bytes in rooms, without its memory or threads. */
#pragma once

#include "fuzz/fuzz.h"
#include "rpc/unary.h"

/* Looks at the pieces; not to be destroyed. Don't copy it. */
typedef struct FuzzBuffer {
    grpc_byte_buffer buffer;
    grpc_slice slices[FUZZ_PIECES];
} FuzzBuffer;
void fuzz_buffer(const FuzzPieces *pieces, FuzzBuffer *out);

/* A call that is done: with the answer in `buffer` and status OK, or, as one choice in eight has it, with another
 * status and the bytes as its details. */
void fuzz_done_call(FuzzInput *input, FuzzPieces *pieces, FuzzBuffer *buffer, UnaryCall *out);

/* A sentence that may stand in a log and in JSON: terminated, of one line, without control characters. */
void fuzz_require_sentence(const Error *error);
