#include "backend/cuda/check.h"

Status cuda_status(cudaError_t result, const char *call, Error *error)
{
    Status status;
    switch (result) {
    case cudaSuccess:
        return STATUS_OK;
    case cudaErrorMemoryAllocation:
        status = STATUS_RESOURCE_EXHAUSTED;
        break;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorStubLibrary:
        status = STATUS_FAILED_PRECONDITION;
        break;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorNotSupported:
        status = STATUS_INTERNAL;
        break;
    default:
        status = STATUS_DATA_LOSS;
        break;
    }
    return error_set(error, status, "%s: %s (%s)", call, cudaGetErrorString(result), cudaGetErrorName(result));
}

Status cublas_status(cublasStatus_t result, const char *call, Error *error)
{
    Status status = STATUS_INTERNAL;
    if (result == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    if (result == CUBLAS_STATUS_ALLOC_FAILED) status = STATUS_RESOURCE_EXHAUSTED;
    if (result == CUBLAS_STATUS_NOT_SUPPORTED || result == CUBLAS_STATUS_ARCH_MISMATCH) status = STATUS_UNIMPLEMENTED;
    if (result == CUBLAS_STATUS_NOT_INITIALIZED) status = STATUS_FAILED_PRECONDITION;
    if (result == CUBLAS_STATUS_EXECUTION_FAILED) status = STATUS_DATA_LOSS;
    return error_set(error, status, "%s: %s", call, cublasLtGetStatusName(result));
}

Status cudnn_status(cudnnStatus_t result, const char *call, Error *error)
{
    Status status = STATUS_INTERNAL;
    if (result == CUDNN_STATUS_SUCCESS) return STATUS_OK;
    const unsigned kind = (unsigned)CUDNN_STATUS_CATEGORY(result);
    if (kind == (unsigned)CUDNN_STATUS_NOT_SUPPORTED) status = STATUS_UNIMPLEMENTED;
    if (result == CUDNN_STATUS_NOT_INITIALIZED) status = STATUS_FAILED_PRECONDITION;
    if (kind == (unsigned)CUDNN_STATUS_EXECUTION_FAILED) status = STATUS_DATA_LOSS;
    if (result == CUDNN_STATUS_ALLOC_FAILED) status = STATUS_RESOURCE_EXHAUSTED;
    return error_set(error, status, "%s: %s", call, cudnnGetErrorString(result));
}
