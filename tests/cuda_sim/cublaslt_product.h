// What a product of the cuBLASLt stand-in computes, once its rules are kept: plain memory in, plain memory out.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace cublaslt
{

// A column-major matrix, or its transpose.
struct Operand {
    const void *data;
    cudaDataType type; // CUDA_R_32F, CUDA_R_16BF or CUDA_R_16F
    int64_t ld;
    bool transposed;
};

// d [m, n] = alpha a [m, k] b [k, n], then the epilogue. Sums are in float, over k in order; those of a split product
// in `splits` parts, which are added in order. Results are rounded to nearest even.
struct Product {
    int64_t m, n, k;
    Operand a, b;
    bool tf32; // the inputs are rounded to TF32
    float alpha;
    int splits;
    void *d;
    cudaDataType d_type;
    int64_t ldd;
    uint32_t epilogue; // cublasLtEpilogue_t
    void *bias;        // of d's type; read, or written by the gradients
    void *aux;         // bits for ReLU, d's type for GELU
    int64_t aux_ld;
};

void compute(const Product &product);

size_t bytes_of(cudaDataType type); // 0: a type that isn't simulated

} // namespace cublaslt
