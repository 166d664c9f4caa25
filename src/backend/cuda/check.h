/* What the CUDA libraries answer, as a Status with a sentence that names the call:
 *
 *   RETURN_IF_CUDA(cudaMalloc(&memory, bytes), error);        "cudaMalloc(&memory, bytes): out of memory
 * (cudaErrorMemoryAllocation)"
 *
 * No memory is RESOURCE_EXHAUSTED, no driver or no device FAILED_PRECONDITION, what the program did wrong INTERNAL, and
 * everything that leaves a device unusable DATA_LOSS: the process should end and be started again. */
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "base/status.h"

Status cuda_status(cudaError_t result, const char *call, Error *error);
Status cublas_status(cublasStatus_t result, const char *call, Error *error);
Status cudnn_status(cudnnStatus_t result, const char *call, Error *error);

#define RETURN_IF_CUDA(call, error)                                                                                    \
    do {                                                                                                               \
        const cudaError_t result_ = (call);                                                                            \
        if (result_ != cudaSuccess) return cuda_status(result_, #call, error);                                         \
    } while (0)
#define RETURN_IF_CUBLAS(call, error)                                                                                  \
    do {                                                                                                               \
        const cublasStatus_t result_ = (call);                                                                         \
        if (result_ != CUBLAS_STATUS_SUCCESS) return cublas_status(result_, #call, error);                             \
    } while (0)
#define RETURN_IF_CUDNN(call, error)                                                                                   \
    do {                                                                                                               \
        const cudnnStatus_t result_ = (call);                                                                          \
        if (result_ != CUDNN_STATUS_SUCCESS) return cudnn_status(result_, #call, error);                               \
    } while (0)
