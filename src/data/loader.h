/* Batches of a part of a data set, epoch after epoch, in an order that can be resumed exactly.
 *
 * The order of an epoch is a pure function of (seed, stream, epoch): a Fisher-Yates permutation of the range drawn from
 * that epoch's own part of the random stream (base/rng.h). So the position {epoch, offset} is all that a checkpoint
 * needs. A loader belongs to one thread; the data set must outlive it, and may be shared. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "data/dataset.h"

typedef enum LoaderShuffle {
    LOADER_SHUFFLE_NONE,  /* the order of the file, every epoch */
    LOADER_SHUFFLE_EPOCH, /* a new permutation each epoch */
} LoaderShuffle;

typedef struct LoaderOptions {
    const Dataset *dataset;
    int64_t begin, end; /* images begin .. end-1 of the data set */
    bool labelled;      /* false: every label reads -1 */
    int64_t batch;      /* at least 1; may be larger than the range */
    LoaderShuffle shuffle;
    uint64_t seed, stream; /* RNG_STREAM_... */
} LoaderOptions;

/* Where the next batch begins: `offset` images of `epoch` are done. After an epoch's last batch: {epoch + 1, 0}. */
typedef struct LoaderPosition {
    int64_t epoch, offset;
} LoaderPosition;

typedef struct Loader Loader;

/* Starts at {0, 0}. OUT_OF_RANGE when the range is empty or not inside the data set, INVALID_ARGUMENT for the batch. */
Status loader_create(const LoaderOptions *options, Loader **out, Error *error);
void loader_destroy(Loader *loader);

/* Fills images [batch, channels, rows, cols], each byte divided by 255 in float (as torchvision's ToTensor), and labels
 * [batch] (NULL: not wanted), of which the first *count images are set. *count is `batch` but for the last batch of an
 * epoch, which has what is left. Allocates nothing and can't fail. */
void loader_next(Loader *loader, float *images, int32_t *labels, int64_t *count);

/* Batches in an epoch, the partial one included. */
int64_t loader_steps_per_epoch(const Loader *loader);

LoaderPosition loader_position(const Loader *loader);

/* The next batch begins at `position`; its epoch ends where it would have. OUT_OF_RANGE, and no move, when the offset
 * is not inside the range or the epoch is not 0 .. 2^28 - 1. */
Status loader_seek(Loader *loader, LoaderPosition position, Error *error);
