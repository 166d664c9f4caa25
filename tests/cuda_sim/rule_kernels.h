// Kernels that break a rule each, and some that keep all of them; see rule_kernels.cu.
#pragma once

#include <cuda_runtime_api.h>

// Launches the kernel of this name: one block of 64 threads, `x` of at least 64 floats. The error of the launch.
cudaError_t rule_kernel(const char *name, float *x, cudaStream_t stream);
// y = a x + y over n elements, any n.
cudaError_t rule_axpy(float a, const float *x, float *y, int n, cudaStream_t stream);
// sum[0] = sum of x by blocks that finish each other's work; `counter` is 0 before and after.
cudaError_t rule_sum(const float *x, float *parts, unsigned *counter, float *sum, int n, bool fenced,
                     cudaStream_t stream);
