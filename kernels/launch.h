/* How kernels are launched, and what makes them run on the CPU too: nvcc compiles a .cu file as it is, and any C++17
 * compiler does when tests/cuda_sim is among the include folders (its simt.h then stands for the device).
 *
 *   LAUNCH(kernel<float>, grid, block, shared_bytes, stream, arguments...);     (kernel<float, 4>) where there is a
 * comma SHARED(float, part, [32]);       static shared memory: a variable or an array of a block, in a kernel or in a
 *   SHARED(int, winner);             __device__ function, template or not
 *   DYNAMIC_SHARED(float, name);     the launch's dynamic shared memory, at most 48 KiB with the static
 *
 * A launch that is refused sets cudaGetLastError(), as always.
 *
 * `__shared__` itself is refused on the CPU: as a static variable it would escape, in some compilers and inside
 * templates, what makes a missing barrier or an unset element visible (each block starts with shared memory full of
 * NaN, and its bounds are checked).
 *
 * What keeps a kernel checkable: fp16 and bf16 for storage, arithmetic in float; no cooperative groups, no named
 * barriers, no CUB, no printf and no assert; one __syncthreads a line, which all threads of the block reach: none
 * returns before; no warp operation waits for a lane that has returned; arguments by value and pointers to device
 * memory (a `const T *` is read, a `T *` written); no __device__ variables. */
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define DYNAMIC_SHARED(type, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];                                              \
    type *name = reinterpret_cast<type *>(dynamic_shared_bytes)
#else
#include "simt.h"
#endif
