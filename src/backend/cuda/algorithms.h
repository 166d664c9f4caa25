/* The algorithms that a search has chosen, kept on disk, so that the next start needs no search: for a device, the
 * versions of its libraries and the description of a problem, the text of a plan (blas_plan_text, dnn_plan_text).
 *
 * The file is a cache and nothing more. One that is missing, damaged or of another format counts as empty, and only
 * saving can fail. Several processes may use one file: saving reads it again, puts the new entries in, and replaces it
 * atomically; of two that save at the same moment one loses its entries, and searches again some day. One thread at a
 * time uses an Algorithms. */
#pragma once

#include "base/status.h"

typedef struct Algorithms Algorithms;

enum {
    ALGORITHMS_MAX_ENTRIES = 2048,   /* of a file: beyond, those that were put first are dropped */
    ALGORITHMS_MAX_FILE = 16 << 20,  /* bytes of a file, likewise */
    ALGORITHMS_MAX_TEXT = 256 << 10, /* bytes of one description or plan */
    ALGORITHMS_FORMAT = 1,           /* of the file */
};

/* Reads `path` (say, ~/.cache/neuron/algorithms.json). `device` and `versions` are part of every key from here on.
 * *damage is OK, or says why the file was ignored. */
Status algorithms_open(const char *path, const char *device, const char *versions, Algorithms **out, Error *damage,
                       Error *error);
void algorithms_close(Algorithms *algorithms); /* saves nothing */

/* The plan of a problem, valid until the next put or close; NULL: unknown. */
const char *algorithms_find(const Algorithms *algorithms, const char *problem);
/* Adds or replaces. INVALID_ARGUMENT for texts that are too long, or no UTF-8. */
Status algorithms_put(Algorithms *algorithms, const char *problem, const char *plan, Error *error);
/* Writes what was put since the last save, and makes the folder where there is none. Nothing new: does nothing. */
Status algorithms_save(Algorithms *algorithms, Error *error);
