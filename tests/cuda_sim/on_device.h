/* What a program does first with a device, for tests in C and C++: memory with content, streams, events. A call that
 * fails ends the test. */
#pragma once

#include <check.h>
#include <cuda_runtime_api.h>
#include <stddef.h>

#define CHECK_CUDA(call) ck_assert_int_eq((call), cudaSuccess)

#ifdef __cplusplus
extern "C" {
#endif

/* `content` may be NULL: the memory is as it comes. */
void *device_memory(const void *content, size_t bytes);
/* Zeros, and nothing left to run. */
float *device_zeros(size_t count);
void read_device(void *host, const void *device, size_t bytes);

/* One that doesn't wait for the default stream, nor it for this one. */
cudaStream_t stream_make(void);
/* `second` comes after all that `first` has so far. */
void stream_follow(cudaStream_t second, cudaStream_t first);
/* One that keeps no time. */
cudaEvent_t event_make(void);

/* A new stream, which this thread captures; and what was captured on a stream, to be launched. */
cudaStream_t capture_begin(void);
cudaGraphExec_t capture_end(cudaStream_t stream);

#ifdef __cplusplus
}
#endif
