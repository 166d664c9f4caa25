/* The table of levels; the kernels themselves are compiled once a level, from simd/. */
#include "backend/cpu/simd/simd.h"

extern const SimdKernels simd_kernels_baseline;
#ifdef SIMD_X86
extern const SimdKernels simd_kernels_avx2;
extern const SimdKernels simd_kernels_avx512;
#endif

const SimdKernels *simd_kernels(SimdLevel level)
{
    switch (level) {
    case SIMD_BASELINE:
        return &simd_kernels_baseline;
#ifdef SIMD_X86
    case SIMD_AVX2:
        return &simd_kernels_avx2;
    case SIMD_AVX512:
        return &simd_kernels_avx512;
#endif
    default:
        return NULL;
    }
}
