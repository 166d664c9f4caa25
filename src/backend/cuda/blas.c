/* Matrix products by cuBLASLt. The library's matrices are column-major, and its bias runs along a column of the result,
 * so every row-major matrix is handed over as the column-major one that has the same bytes, its transpose:
 *
 *     c' [n, m] = op(b)' [n, k] op(a)' [k, m]
 *
 * The library's A is our b and its B our a; a bias of n numbers lies along its columns, and the sum of op(a) over k is
 * what it calls the bias gradient of B. (Its row-major order would spare us that, but has no epilogues.)
 *
 * A Blas owns the library's handle, a plan its descriptors. The pointers of bias and mask are attributes of a plan's
 * descriptor, set anew by every run, which is why only one thread at a time may run a plan. */
#include "backend/cuda/blas.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/check.h"

enum {
    CANDIDATES = 8,
    ALIGNMENT = 16,            /* of all matrices and vectors, as promised to the heuristics */
    WORKSPACE_ALIGNMENT = 256, /* "must be 256B aligned" (cublasLtMatmul) */
    RELU_MASK_MULTIPLE = 128,  /* what a mask's leading dimension must be a multiple of: in bits */
    GELU_MASK_MULTIPLE = 8,    /* and in elements */
};

struct Blas {
    cublasLtHandle_t handle;
};

struct BlasPlan {
    cublasLtHandle_t handle;
    BlasMatmul matmul; /* with its defaults filled in */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c; /* our a, b and c */
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    int count, chosen;
    char name[32];
    char text[2 * sizeof(cublasLtMatmulAlgo_t) + 1];
};

Status blas_open(Blas **out, Error *error)
{
    Blas *blas = calloc(1, sizeof *blas);
    if (!blas) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "cannot allocate a handle of cuBLASLt");
    const cublasStatus_t result = cublasLtCreate(&blas->handle);
    if (result != CUBLAS_STATUS_SUCCESS) {
        free(blas);
        return cublas_status(result, "cublasLtCreate", error);
    }
    *out = blas;
    return STATUS_OK;
}

void blas_close(Blas *blas)
{
    if (!blas) return;
    cublasLtDestroy(blas->handle);
    free(blas);
}

/* --- what the epilogues want --- */

typedef enum MaskKind { MASK_NONE, MASK_BITS, MASK_ELEMENTS } MaskKind;

static const struct {
    const char *name;
    uint32_t epilogue; /* cublasLtEpilogue_t */
    bool bias;
    MaskKind mask;
} epilogues[] = {
    [BLAS_PLAIN] = {"plain", CUBLASLT_EPILOGUE_DEFAULT, false, MASK_NONE},
    [BLAS_BIAS] = {"bias", CUBLASLT_EPILOGUE_BIAS, true, MASK_NONE},
    [BLAS_RELU_BIAS] = {"relu_bias", CUBLASLT_EPILOGUE_RELU_BIAS, true, MASK_NONE},
    [BLAS_RELU_BIAS_MASK] = {"relu_bias_mask", CUBLASLT_EPILOGUE_RELU_AUX_BIAS, true, MASK_BITS},
    [BLAS_GELU_BIAS] = {"gelu_bias", CUBLASLT_EPILOGUE_GELU_BIAS, true, MASK_NONE},
    [BLAS_GELU_BIAS_MASK] = {"gelu_bias_mask", CUBLASLT_EPILOGUE_GELU_AUX_BIAS, true, MASK_ELEMENTS},
    [BLAS_RELU_GRAD] = {"relu_grad", CUBLASLT_EPILOGUE_DRELU, false, MASK_BITS},
    [BLAS_RELU_GRAD_BIAS] = {"relu_grad_bias", CUBLASLT_EPILOGUE_DRELU_BGRAD, true, MASK_BITS},
    [BLAS_GELU_GRAD] = {"gelu_grad", CUBLASLT_EPILOGUE_DGELU, false, MASK_ELEMENTS},
    [BLAS_BIAS_GRAD_A] = {"bias_grad_a", CUBLASLT_EPILOGUE_BGRADB, true, MASK_NONE},
};

static DType result_type(const BlasMatmul *matmul)
{
    return matmul->result == DTYPE_NONE ? matmul->type : matmul->result;
}

static int64_t rounded_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static int64_t mask_leading_dimension(const BlasMatmul *matmul)
{
    return rounded_up(matmul->n,
                      epilogues[matmul->epilogue].mask == MASK_BITS ? RELU_MASK_MULTIPLE : GELU_MASK_MULTIPLE);
}

size_t blas_mask_bytes(const BlasMatmul *matmul)
{
    const MaskKind kind = epilogues[matmul->epilogue].mask;
    if (kind == MASK_NONE) return 0;
    const size_t elements = (size_t)matmul->m * (size_t)mask_leading_dimension(matmul);
    return kind == MASK_BITS ? elements / 8 : elements * dtype_size(result_type(matmul));
}

DType blas_bias_type(const BlasMatmul *matmul)
{
    return result_type(matmul);
}

/* --- what the library doesn't check, or doesn't explain --- */

static Status check_dimension(const char *name, int64_t value, Error *error)
{
    if (value >= 1 && value <= INT32_MAX) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "%s of a matrix product is %lld, expected 1 to %d", name,
                     (long long)value, INT32_MAX);
}

/* Fills in a dense one. */
static Status check_leading_dimension(const char *matrix, int64_t columns, int64_t *ld, Error *error)
{
    if (*ld == 0) *ld = columns;
    if (*ld >= columns && *ld <= INT32_MAX) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT,
                     "leading dimension of matrix %s with %lld columns is %lld, expected %lld to %d", matrix,
                     (long long)columns, (long long)*ld, (long long)columns, INT32_MAX);
}

static bool is_type(DType type)
{
    return type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F16;
}

static Status check_types(const BlasMatmul *matmul, Error *error)
{
    if (!is_type(matmul->type))
        return error_set(error, STATUS_INVALID_ARGUMENT, "type of a matrix product is %s, expected f32, bf16 or f16",
                         dtype_name(matmul->type));
    if (matmul->result != matmul->type && matmul->result != DTYPE_F32)
        return error_set(error, STATUS_UNIMPLEMENTED, "result of a matrix product of %s is %s, expected %s or f32",
                         dtype_name(matmul->type), dtype_name(matmul->result), dtype_name(matmul->type));
    return STATUS_OK;
}

/* What the library is known not to do, rather than what it says of it: NVIDIA's own nvmath (epilog_protocol.py and its
 * tests) keeps clear of a mask's gradient where k is 1, and of a sum over b where its n, our m, is 1; and nobody uses
 * that sum but for a weight's gradient, where our a is transposed. */
static Status check_epilogue(const BlasMatmul *t, Error *error)
{
    const bool reads_mask =
        t->epilogue == BLAS_RELU_GRAD || t->epilogue == BLAS_RELU_GRAD_BIAS || t->epilogue == BLAS_GELU_GRAD;
    if (reads_mask && t->k == 1)
        return error_set(error, STATUS_UNIMPLEMENTED, "k of a matrix product with epilogue %s is 1, expected 2 or more",
                         epilogues[t->epilogue].name);
    if (t->epilogue == BLAS_BIAS_GRAD_A && (t->m == 1 || !t->transpose_a))
        return error_set(error, STATUS_UNIMPLEMENTED,
                         "matrix a with epilogue %s is %stransposed and m is %lld, expected a transposed one and 2 or "
                         "more",
                         epilogues[t->epilogue].name, t->transpose_a ? "" : "not ", (long long)t->m);
    return STATUS_OK;
}

static Status complete(BlasMatmul *matmul, Error *error)
{
    if ((unsigned)matmul->epilogue >= sizeof epilogues / sizeof epilogues[0])
        return error_set(error, STATUS_INVALID_ARGUMENT, "epilogue of a matrix product is %d, expected 0 to %d",
                         (int)matmul->epilogue, (int)BLAS_BIAS_GRAD_A);
    matmul->result = result_type(matmul);
    RETURN_IF_ERROR(check_types(matmul, error));
    RETURN_IF_ERROR(check_dimension("m", matmul->m, error));
    RETURN_IF_ERROR(check_dimension("n", matmul->n, error));
    RETURN_IF_ERROR(check_dimension("k", matmul->k, error));
    RETURN_IF_ERROR(check_epilogue(matmul, error));
    RETURN_IF_ERROR(check_leading_dimension("a", matmul->transpose_a ? matmul->m : matmul->k, &matmul->lda, error));
    RETURN_IF_ERROR(check_leading_dimension("b", matmul->transpose_b ? matmul->k : matmul->n, &matmul->ldb, error));
    return check_leading_dimension("c", matmul->n, &matmul->ldc, error);
}

/* --- descriptors --- */

static cudaDataType_t data_type(DType type)
{
    return type == DTYPE_F32 ? CUDA_R_32F : type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

static Status set_operation(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const void *value,
                            size_t size, Error *error)
{
    RETURN_IF_CUBLAS(cublasLtMatmulDescSetAttribute(operation, attribute, value, size), error);
    return STATUS_OK;
}

static Status set_transposition(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                bool transpose, Error *error)
{
    const int32_t value = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
    return set_operation(operation, attribute, &value, sizeof value, error);
}

static Status set_pointer(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const void *pointer,
                          Error *error)
{
    return set_operation(operation, attribute, &pointer, sizeof pointer, error);
}

/* The pointers stand here for their alignment only, which is what heuristics want to know of them. */
static Status set_epilogue(BlasPlan *plan, Error *error)
{
    const uint32_t epilogue = epilogues[plan->matmul.epilogue].epilogue;
    const void *aligned = (const void *)(uintptr_t)ALIGNMENT;
    RETURN_IF_ERROR(set_operation(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, error));
    if (epilogues[plan->matmul.epilogue].bias) {
        const int32_t type = (int32_t)data_type(blas_bias_type(&plan->matmul));
        RETURN_IF_ERROR(set_operation(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type, error));
        RETURN_IF_ERROR(set_pointer(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, aligned, error));
    }
    if (epilogues[plan->matmul.epilogue].mask != MASK_NONE) {
        const int64_t ld = mask_leading_dimension(&plan->matmul);
        RETURN_IF_ERROR(set_operation(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &ld, sizeof ld, error));
        RETURN_IF_ERROR(set_pointer(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aligned, error));
    }
    return STATUS_OK;
}

static Status describe_operation(BlasPlan *plan, Error *error)
{
    const BlasMatmul *matmul = &plan->matmul;
    const cublasComputeType_t compute =
        matmul->type == DTYPE_F32 && matmul->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const int32_t host = CUBLASLT_POINTER_MODE_HOST;
    RETURN_IF_CUBLAS(cublasLtMatmulDescCreate(&plan->operation, compute, CUDA_R_32F), error);
    RETURN_IF_ERROR(set_operation(plan->operation, CUBLASLT_MATMUL_DESC_POINTER_MODE, &host, sizeof host, error));
    RETURN_IF_ERROR(set_transposition(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, matmul->transpose_b, error));
    RETURN_IF_ERROR(set_transposition(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, matmul->transpose_a, error));
    return set_epilogue(plan, error);
}

/* A row-major matrix [rows, columns]. */
static Status describe_matrix(cublasLtMatrixLayout_t *out, DType type, int64_t rows, int64_t columns, int64_t ld,
                              Error *error)
{
    RETURN_IF_CUBLAS(cublasLtMatrixLayoutCreate(out, data_type(type), (uint64_t)columns, (uint64_t)rows, ld), error);
    return STATUS_OK;
}

static Status describe_matrices(BlasPlan *plan, Error *error)
{
    const BlasMatmul *t = &plan->matmul;
    RETURN_IF_ERROR(
        describe_matrix(&plan->a, t->type, t->transpose_a ? t->k : t->m, t->transpose_a ? t->m : t->k, t->lda, error));
    RETURN_IF_ERROR(
        describe_matrix(&plan->b, t->type, t->transpose_b ? t->n : t->k, t->transpose_b ? t->k : t->n, t->ldb, error));
    return describe_matrix(&plan->c, t->result, t->m, t->n, t->ldc, error);
}

/* --- algorithms --- */

static Status set_preferences(cublasLtMatmulPreference_t preference, size_t workspace_limit, Error *error)
{
    static const cublasLtMatmulPreferenceAttributes_t matrices[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    };
    const uint64_t limit = workspace_limit;
    const uint32_t alignment = ALIGNMENT;
    RETURN_IF_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit,
                                                          sizeof limit),
                     error);
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++)
        RETURN_IF_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, matrices[i], &alignment, sizeof alignment),
                         error);
    return STATUS_OK;
}

static Status no_algorithm(const BlasMatmul *matmul, size_t workspace_limit, Error *error)
{
    return error_set(error, STATUS_UNIMPLEMENTED,
                     "cuBLASLt has no algorithm for a product of %s [%lld, %lld] by [%lld, %lld] to %s with epilogue "
                     "%s in %zu bytes of workspace",
                     dtype_name(matmul->type), (long long)matmul->m, (long long)matmul->k, (long long)matmul->k,
                     (long long)matmul->n, dtype_name(matmul->result), epilogues[matmul->epilogue].name,
                     workspace_limit);
}

/* Keeps those of the `count` candidates that can be used, in the library's order: the fastest, as it estimates, first.
 */
static int usable_candidates(cublasLtMatmulHeuristicResult_t *candidates, int count, size_t workspace_limit)
{
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (candidates[i].state == CUBLAS_STATUS_SUCCESS && candidates[i].workspaceSize <= workspace_limit)
            candidates[kept++] = candidates[i];
    return kept;
}

static Status ask_heuristics(BlasPlan *plan, size_t workspace_limit, Error *error)
{
    cublasLtMatmulPreference_t preference;
    int count = 0;
    RETURN_IF_CUBLAS(cublasLtMatmulPreferenceCreate(&preference), error);
    Status status = set_preferences(preference, workspace_limit, error);
    if (status != STATUS_OK) goto done;
    const cublasStatus_t result =
        cublasLtMatmulAlgoGetHeuristic(plan->handle, plan->operation, plan->b, plan->a, plan->c, plan->c, preference,
                                       CANDIDATES, plan->candidates, &count);
    if (result != CUBLAS_STATUS_SUCCESS && result != CUBLAS_STATUS_NOT_SUPPORTED) {
        status = cublas_status(result, "cublasLtMatmulAlgoGetHeuristic", error);
        goto done;
    }
    if (result == CUBLAS_STATUS_SUCCESS) plan->count = usable_candidates(plan->candidates, count, workspace_limit);
    if (plan->count == 0) status = no_algorithm(&plan->matmul, workspace_limit, error);
done:
    cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool read_algorithm(const char *text, cublasLtMatmulAlgo_t *algorithm)
{
    unsigned char bytes[sizeof *algorithm];
    if (strlen(text) != 2 * sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++) {
        const int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i] = (unsigned char)(high * 16 + low);
    }
    memcpy(algorithm, bytes, sizeof bytes);
    return true;
}

static Status use_known(BlasPlan *plan, size_t workspace_limit, const char *known, Error *error)
{
    cublasLtMatmulHeuristicResult_t *candidate = &plan->candidates[0];
    cublasLtMatmulAlgo_t algorithm;
    if (!read_algorithm(known, &algorithm))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "known algorithm of cuBLASLt has %zu characters, expected %zu hexadecimal digits",
                         strlen(known), 2 * sizeof algorithm);
    RETURN_IF_CUBLAS(cublasLtMatmulAlgoCheck(plan->handle, plan->operation, plan->b, plan->a, plan->c, plan->c,
                                             &algorithm, candidate),
                     error);
    if (candidate->workspaceSize > workspace_limit)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED,
                         "known algorithm of cuBLASLt needs %zu bytes of workspace, expected at most %zu",
                         candidate->workspaceSize, workspace_limit);
    candidate->algo = algorithm; /* the check leaves this field alone */
    plan->count = 1;
    return STATUS_OK;
}

static void write_algorithm(const cublasLtMatmulAlgo_t *algorithm, char *text)
{
    unsigned char bytes[sizeof *algorithm];
    memcpy(bytes, algorithm, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

Status blas_plan_choose(BlasPlan *plan, int candidate, Error *error)
{
    int32_t id = 0;
    size_t written = 0;
    if (candidate < 0 || candidate >= plan->count)
        return error_set(error, STATUS_OUT_OF_RANGE, "candidate of a matrix product is %d, expected 0 to %d", candidate,
                         plan->count - 1);
    const cublasLtMatmulAlgo_t *algorithm = &plan->candidates[candidate].algo;
    RETURN_IF_CUBLAS(cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &written),
                     error);
    plan->chosen = candidate;
    snprintf(plan->name, sizeof plan->name, "cublaslt:alg%d", (int)id);
    write_algorithm(algorithm, plan->text);
    return STATUS_OK;
}

/* --- plans --- */

Status blas_plan_create(Blas *blas, const BlasMatmul *matmul, size_t workspace_limit, const char *known, BlasPlan **out,
                        Error *error)
{
    Status status;
    BlasPlan *plan = calloc(1, sizeof *plan);
    if (!plan) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "cannot allocate the plan of a matrix product");
    plan->handle = blas->handle;
    plan->matmul = *matmul;
    GOTO_IF_ERROR(complete(&plan->matmul, error), failed);
    GOTO_IF_ERROR(describe_operation(plan, error), failed);
    GOTO_IF_ERROR(describe_matrices(plan, error), failed);
    GOTO_IF_ERROR(known ? use_known(plan, workspace_limit, known, error) : ask_heuristics(plan, workspace_limit, error),
                  failed);
    GOTO_IF_ERROR(blas_plan_choose(plan, 0, error), failed);
    *out = plan;
    return STATUS_OK;
failed:
    blas_plan_destroy(plan);
    return status;
}

void blas_plan_destroy(BlasPlan *plan)
{
    if (!plan) return;
    if (plan->c) cublasLtMatrixLayoutDestroy(plan->c);
    if (plan->b) cublasLtMatrixLayoutDestroy(plan->b);
    if (plan->a) cublasLtMatrixLayoutDestroy(plan->a);
    if (plan->operation) cublasLtMatmulDescDestroy(plan->operation);
    free(plan);
}

size_t blas_plan_workspace(const BlasPlan *plan)
{
    return plan->candidates[plan->chosen].workspaceSize;
}

const char *blas_plan_name(const BlasPlan *plan)
{
    return plan->name;
}

int blas_plan_candidates(const BlasPlan *plan)
{
    return plan->count;
}

const char *blas_plan_text(const BlasPlan *plan)
{
    return plan->text;
}

/* --- running --- */

static Status check_pointer(const char *name, const void *pointer, uintptr_t alignment, Error *error)
{
    if (pointer && (uintptr_t)pointer % alignment == 0) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT,
                     "%s of a matrix product is at %p, expected device memory aligned to %d bytes", name, pointer,
                     (int)alignment);
}

Status blas_plan_run(const BlasPlan *plan, cudaStream_t stream, const void *a, const void *b, void *c, void *bias,
                     void *mask, void *workspace, Error *error)
{
    const float one = 1, zero = 0;
    const cublasLtMatmulHeuristicResult_t *chosen = &plan->candidates[plan->chosen];
    RETURN_IF_ERROR(check_pointer("a", a, ALIGNMENT, error));
    RETURN_IF_ERROR(check_pointer("b", b, ALIGNMENT, error));
    RETURN_IF_ERROR(check_pointer("c", c, ALIGNMENT, error));
    if (chosen->workspaceSize) RETURN_IF_ERROR(check_pointer("workspace", workspace, WORKSPACE_ALIGNMENT, error));
    if (epilogues[plan->matmul.epilogue].bias) {
        RETURN_IF_ERROR(check_pointer("bias", bias, ALIGNMENT, error));
        RETURN_IF_ERROR(set_pointer(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias, error));
    }
    if (epilogues[plan->matmul.epilogue].mask != MASK_NONE) {
        RETURN_IF_ERROR(check_pointer("mask", mask, ALIGNMENT, error));
        RETURN_IF_ERROR(set_pointer(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask, error));
    }
    RETURN_IF_CUBLAS(cublasLtMatmul(plan->handle, plan->operation, &one, b, plan->b, a, plan->a, &zero, c, plan->c, c,
                                    plan->c, &chosen->algo, chosen->workspaceSize ? workspace : NULL,
                                    chosen->workspaceSize, stream),
                     error);
    return STATUS_OK;
}
