/* Matrix products by cuBLASLt, with what follows them fused: a description becomes a plan, which runs on a stream. One
 * thread at a time uses a Blas and its plans. */
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "base/status.h"
#include "tensor/dtype.h"

typedef struct Blas Blas;
typedef struct BlasPlan BlasPlan;

/* A handle on the current device. */
Status blas_open(Blas **out, Error *error);
void blas_close(Blas *blas);

typedef enum BlasEpilogue {
    BLAS_PLAIN,
    BLAS_BIAS,           /* + bias [n] */
    BLAS_RELU_BIAS,      /* max(0, . + bias) */
    BLAS_RELU_BIAS_MASK, /* the same, and `mask` gets a bit an element: where it was positive */
    BLAS_GELU_BIAS,      /* gelu (tanh) of . + bias */
    BLAS_GELU_BIAS_MASK, /* the same, and `mask` gets what gelu was given, in c's type */
    BLAS_RELU_GRAD,      /* . where `mask` says so, else 0 */
    BLAS_RELU_GRAD_BIAS, /* the same, and `bias` gets the sum over its rows: [n] */
    BLAS_GELU_GRAD,      /* . times the derivative of gelu at what `mask` holds */
    BLAS_BIAS_GRAD_A, /* `bias` [m] gets the sum of op(a) over k: with c = dy' x the bias gradient of a linear layer */
} BlasEpilogue;

/* c [m, n] = op(a) op(b), then the epilogue; row-major; op(a) is [m, k], op(b) [k, n]. Leading dimensions count
 * elements from one row in memory to the next; 0: dense. */
typedef struct BlasMatmul {
    int64_t m, n, k;
    bool transpose_a, transpose_b; /* a is [k, m] in memory, b is [n, k] */
    int64_t lda, ldb, ldc;
    DType type;   /* of a and b: F32, BF16, F16; sums are in float */
    DType result; /* of c; NONE: `type` */
    bool tf32;    /* F32 inputs may be rounded to TF32 */
    BlasEpilogue epilogue;
} BlasMatmul;

/* Bytes of an epilogue's mask for c [m, n] (aligned to 16), and its leading dimension is the library's own affair. */
size_t blas_mask_bytes(const BlasMatmul *matmul);
/* The dtype of an epilogue's bias, or of the gradient of a bias: c's, since the library has no other. */
DType blas_bias_type(const BlasMatmul *matmul);

/* Dimensions are 1 or more, leading dimensions at least the row's length (INVALID_ARGUMENT otherwise: an empty product
 * is the caller's affair). Heuristics choose (or, given `known`, an algorithm that blas_plan_text wrote; one that
 * doesn't fit is an error). UNIMPLEMENTED where the library has no algorithm for these types, shapes and epilogue
 * within the limit; it never has one for gradients that read a mask where k is 1, and for BLAS_BIAS_GRAD_A where m is 1
 * or a isn't transposed. */
Status blas_plan_create(Blas *blas, const BlasMatmul *matmul, size_t workspace_limit, const char *known, BlasPlan **out,
                        Error *error);
void blas_plan_destroy(BlasPlan *plan);
size_t blas_plan_workspace(const BlasPlan *plan); /* bytes, of memory aligned to 256 */
const char *blas_plan_name(const BlasPlan *plan); /* for reports: "cublaslt:alg21" */
int blas_plan_candidates(const BlasPlan *plan);
Status blas_plan_choose(BlasPlan *plan, int candidate, Error *error);
/* The algorithm as text (hexadecimal), to be kept; lives as long as the plan. */
const char *blas_plan_text(const BlasPlan *plan);

/* Device pointers, aligned to 16 bytes. `bias` and `mask` as the epilogue wants them. */
Status blas_plan_run(const BlasPlan *plan, cudaStream_t stream, const void *a, const void *b, void *c, void *bias,
                     void *mask, void *workspace, Error *error);
