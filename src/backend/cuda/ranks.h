/* The GPUs of one host that train together, by NCCL: each has the whole model and a part of the batch, and the mean of
 * their gradients is every one's gradient. Rank r is devices[r].
 *
 * One thread drives all ranks. Gradients are reduced in buckets while the backward pass still runs: once the kernels
 * that make a bucket are on their streams, record an event on each, let each rank's communication stream wait for its
 * own, and call ranks_all_reduce_mean for the bucket; whoever reads the result waits for an event after it. Everything
 * may be captured, all ranks into one graph. */
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "base/status.h"

typedef struct Ranks Ranks;

/* `devices`: `count` different ones. Blocks until all have met. The current device stays what it was. */
Status ranks_open(const int *devices, int count, Ranks **out, Error *error);
/* What was put on streams must be over, unless a call failed before: then it is given up. */
void ranks_close(Ranks *ranks);
int ranks_count(const Ranks *ranks);

/* buffers[r] [count], in the memory of rank r, becomes the mean over all ranks, on streams[r], a stream of that device.
 * Returns once the work is on the streams. An error of NCCL, of this call or of earlier ones that went on in the
 * background, leaves the ranks unusable: DATA_LOSS. */
Status ranks_all_reduce_mean(Ranks *ranks, float *const *buffers, size_t count, const cudaStream_t *streams,
                             Error *error);
