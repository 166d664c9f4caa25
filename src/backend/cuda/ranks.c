/* Data parallel training in one host: one NCCL communicator a GPU, made together. The calls of all ranks stand in one
 * group, since one thread makes them all, and a call of one rank may wait for the others. */
#include "backend/cuda/ranks.h"

#include <nccl.h>
#include <stdbool.h>
#include <stdlib.h>

struct Ranks {
    int count;
    bool broken; /* a call failed: communicators are aborted, since the other ranks may never come */
    ncclComm_t communicators[];
};

static Status nccl_status(ncclResult_t result, const char *call, Error *error)
{
    if (result == ncclSuccess) return STATUS_OK;
    const bool ours = result == ncclInvalidArgument || result == ncclInvalidUsage;
    return error_set(error, ours ? STATUS_INTERNAL : STATUS_DATA_LOSS, "%s: %s: %s", call, ncclGetErrorString(result),
                     ncclGetLastError(NULL));
}

Status ranks_open(const int *devices, int count, Ranks **out, Error *error)
{
    if (count < 1) return error_set(error, STATUS_INVALID_ARGUMENT, "number of ranks is %d, expected 1 or more", count);
    Ranks *ranks = calloc(1, sizeof *ranks + (size_t)count * sizeof ranks->communicators[0]);
    if (!ranks) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "cannot allocate %d ranks", count);
    ranks->count = count;
    const ncclResult_t result = ncclCommInitAll(ranks->communicators, count, devices);
    if (result != ncclSuccess) {
        free(ranks);
        return nccl_status(result, "ncclCommInitAll", error);
    }
    *out = ranks;
    return STATUS_OK;
}

void ranks_close(Ranks *ranks)
{
    if (!ranks) return;
    for (int rank = 0; rank < ranks->count; rank++) {
        if (ranks->broken)
            ncclCommAbort(ranks->communicators[rank]);
        else
            ncclCommDestroy(ranks->communicators[rank]);
    }
    free(ranks);
}

int ranks_count(const Ranks *ranks)
{
    return ranks->count;
}

/* What went wrong in the background since the last call. */
static Status check_background(const Ranks *ranks, Error *error)
{
    for (int rank = 0; rank < ranks->count; rank++) {
        ncclResult_t background = ncclSuccess;
        const ncclResult_t result = ncclCommGetAsyncError(ranks->communicators[rank], &background);
        if (result != ncclSuccess) return nccl_status(result, "ncclCommGetAsyncError", error);
        if (background != ncclSuccess) {
            nccl_status(background, "in the background of NCCL", error);
            return error_prefix(error, "rank %d of %d", rank, ranks->count);
        }
    }
    return STATUS_OK;
}

static ncclResult_t reduce_all(const Ranks *ranks, float *const *buffers, size_t count, const cudaStream_t *streams)
{
    ncclResult_t first = ncclGroupStart();
    if (first != ncclSuccess) return first;
    for (int rank = 0; rank < ranks->count && first == ncclSuccess; rank++)
        first = ncclAllReduce(buffers[rank], buffers[rank], count, ncclFloat32, ncclAvg, ranks->communicators[rank],
                              streams[rank]);
    const ncclResult_t last = ncclGroupEnd(); /* closes the group in any case */
    return first != ncclSuccess ? first : last;
}

Status ranks_all_reduce_mean(Ranks *ranks, float *const *buffers, size_t count, const cudaStream_t *streams,
                             Error *error)
{
    if (ranks->broken)
        return error_set(error, STATUS_DATA_LOSS, "%d ranks can't go on: a call of NCCL failed before", ranks->count);
    if (count == 0) return STATUS_OK;
    Status status = nccl_status(reduce_all(ranks, buffers, count, streams), "ncclAllReduce", error);
    if (status == STATUS_OK) status = check_background(ranks, error);
    ranks->broken = status != STATUS_OK;
    return status;
}
