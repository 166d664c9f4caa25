/* Real cuBLASLt without a device: blas.c's descriptors are made and read back by it, and the sizes of attributes, and
 * what it answers to wrong ones, are those of the stand-in (tests/cuda_sim/cublaslt_descriptors.cpp).
 *
 * What needs a device is taken over by this program, whose definitions stand before the library's: handles, heuristics
 * and the product itself. */
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "backend/cuda/blas.h"
#include "backend/cuda/check.h"
#include "cuda_sim/cublaslt_attributes.h"
#include "support/suite.h"

/* --- in place of what needs a device --- */

static struct {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c, d;
    cublasLtMatmulPreference_t preference;
    int products;
} seen;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = (cublasLtHandle_t)&seen;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    (void)handle;
    return CUBLAS_STATUS_SUCCESS;
}

static int64_t preferred(cublasLtMatmulPreferenceAttributes_t attribute)
{
    int64_t value = 0;
    size_t size = 0;
    ck_assert_int_eq(cublasLtMatmulPreferenceGetAttribute(seen.preference, attribute, NULL, 0, &size),
                     CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulPreferenceGetAttribute(seen.preference, attribute, &value, size, &size),
                     CUBLAS_STATUS_SUCCESS);
    return value;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    ck_assert_ptr_eq(handle, &seen);
    ck_assert_int_gt(wanted, 1);
    seen.operation = operation;
    seen.a = a;
    seen.b = b;
    seen.c = c;
    seen.d = d;
    seen.preference = preference;
    ck_assert_int_eq(preferred(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES), 4096);
    ck_assert_int_eq(preferred(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES), 16);
    ck_assert_int_eq(preferred(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES), 16);
    ck_assert_int_eq(preferred(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES), 16);
    ck_assert_int_eq(preferred(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES), 16);
    memset(results, 0, sizeof *results);
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* --- what the library holds --- */

static int64_t operation_value(cublasLtMatmulDescAttributes_t attribute)
{
    int64_t value = 0;
    size_t size = 0;
    ck_assert_int_eq(cublasLtMatmulDescGetAttribute(seen.operation, attribute, NULL, 0, &size), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulDescGetAttribute(seen.operation, attribute, &value, size, &size),
                     CUBLAS_STATUS_SUCCESS);
    return value;
}

static int64_t layout_value(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute)
{
    int64_t value = 0;
    size_t size = 0;
    ck_assert_int_eq(cublasLtMatrixLayoutGetAttribute(layout, attribute, NULL, 0, &size), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutGetAttribute(layout, attribute, &value, size, &size), CUBLAS_STATUS_SUCCESS);
    return value;
}

static void check_layout(cublasLtMatrixLayout_t layout, cudaDataType type, int64_t rows, int64_t columns, int64_t ld)
{
    ck_assert_int_eq(layout_value(layout, CUBLASLT_MATRIX_LAYOUT_TYPE), type);
    ck_assert_int_eq(layout_value(layout, CUBLASLT_MATRIX_LAYOUT_ORDER), CUBLASLT_ORDER_COL);
    ck_assert_int_eq(layout_value(layout, CUBLASLT_MATRIX_LAYOUT_ROWS), rows);
    ck_assert_int_eq(layout_value(layout, CUBLASLT_MATRIX_LAYOUT_COLS), columns);
    ck_assert_int_eq(layout_value(layout, CUBLASLT_MATRIX_LAYOUT_LD), ld);
    ck_assert_int_eq(layout_value(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT), 1);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    (void)handle;
    ck_assert(operation == seen.operation && a == seen.a && b == seen.b && c == seen.c && d == seen.d);
    ck_assert(*(const float *)alpha == 1 && *(const float *)beta == 0);
    ck_assert(A == (void *)32 && B == (void *)16 && C == (void *)48 && D == C); /* the library's A is our b */
    ck_assert(algorithm && !workspace && workspace_bytes == 0 && !stream);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_BIAS_POINTER), 64);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER), 80);
    seen.products++;
    return CUBLAS_STATUS_SUCCESS;
}

static BlasPlan *planned(Blas *blas, BlasMatmul matmul)
{
    BlasPlan *plan = NULL;
    Error error = {.message = ""};
    ck_assert_msg(blas_plan_create(blas, &matmul, 4096, NULL, &plan, &error) == STATUS_OK, "%s", error.message);
    return plan;
}

static Blas *opened(void)
{
    Blas *blas = NULL;
    ck_assert_int_eq(blas_open(&blas, NULL), STATUS_OK);
    return blas;
}

/* y [6, 10] = x [6, 33] w' [33, 10] + bias: a linear layer. */
START_TEST(test_a_plan_is_what_the_library_holds)
{
    Blas *blas = opened();
    const BlasMatmul matmul = {.m = 6,
                               .n = 10,
                               .k = 33,
                               .transpose_b = true,
                               .lda = 40,
                               .ldc = 12,
                               .type = DTYPE_BF16,
                               .result = DTYPE_F32,
                               .epilogue = BLAS_RELU_BIAS_MASK};
    BlasPlan *plan = planned(blas, matmul);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE), CUBLAS_COMPUTE_32F);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_SCALE_TYPE), CUDA_R_32F);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_POINTER_MODE), CUBLASLT_POINTER_MODE_HOST);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_TRANSA), CUBLAS_OP_T);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_TRANSB), CUBLAS_OP_N);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_EPILOGUE), CUBLASLT_EPILOGUE_RELU_AUX_BIAS);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD), 128);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE), CUDA_R_32F);
    ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_BIAS_POINTER) % 16, 0);
    check_layout(seen.a, CUDA_R_16BF, 33, 10, 33);
    check_layout(seen.b, CUDA_R_16BF, 33, 6, 40);
    check_layout(seen.c, CUDA_R_32F, 10, 6, 12);
    ck_assert_ptr_eq(seen.c, seen.d);
    ck_assert_str_eq(blas_plan_name(plan), "cublaslt:alg0");
    ck_assert_int_eq(blas_plan_run(plan, NULL, (void *)16, (void *)32, (void *)48, (void *)64, (void *)80, NULL, NULL),
                     STATUS_OK);
    ck_assert_int_eq(seen.products, 1);
    blas_plan_destroy(plan);
    blas_close(blas);
}
END_TEST

START_TEST(test_every_epilogue_and_type_is_taken)
{
    static const cublasLtEpilogue_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT,   CUBLASLT_EPILOGUE_BIAS,
                                                   CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
                                                   CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                                                   CUBLASLT_EPILOGUE_DRELU,     CUBLASLT_EPILOGUE_DRELU_BGRAD,
                                                   CUBLASLT_EPILOGUE_DGELU,     CUBLASLT_EPILOGUE_BGRADB};
    static const DType types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const cudaDataType expected[] = {CUDA_R_32F, CUDA_R_16BF, CUDA_R_16F};
    Blas *blas = opened();
    for (int type = 0; type < 3; type++)
        for (int epilogue = 0; epilogue < 10; epilogue++) {
            BlasPlan *plan = planned(blas, (BlasMatmul){.m = 3,
                                                        .n = 5,
                                                        .k = 7,
                                                        .transpose_a = true,
                                                        .type = types[type],
                                                        .tf32 = epilogue % 2,
                                                        .epilogue = (BlasEpilogue)epilogue});
            ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_EPILOGUE), epilogues[epilogue]);
            ck_assert_int_eq(operation_value(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE),
                             type == 0 && epilogue % 2 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
            check_layout(seen.a, expected[type], 5, 7, 5);
            check_layout(seen.b, expected[type], 3, 7, 3);
            check_layout(seen.c, expected[type], 5, 3, 5);
            blas_plan_destroy(plan);
        }
    blas_close(blas);
}
END_TEST

/* --- attributes --- */

START_TEST(test_sizes_of_attributes)
{
    const size_t operations = sizeof CUBLASLT_OPERATION_ATTRIBUTES / sizeof CUBLASLT_OPERATION_ATTRIBUTES[0];
    const size_t layouts = sizeof CUBLASLT_LAYOUT_ATTRIBUTES / sizeof CUBLASLT_LAYOUT_ATTRIBUTES[0];
    const size_t preferences = sizeof CUBLASLT_PREFERENCE_ATTRIBUTES / sizeof CUBLASLT_PREFERENCE_ATTRIBUTES[0];
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t layout;
    cublasLtMatmulPreference_t preference;
    size_t size = 0;
    ck_assert_int_eq(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 3, 5, 3), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
    for (size_t i = 0; i < operations; i++) {
        const CublasLtAttribute *known = &CUBLASLT_OPERATION_ATTRIBUTES[i];
        ck_assert_int_eq(
            cublasLtMatmulDescGetAttribute(operation, (cublasLtMatmulDescAttributes_t)known->attribute, NULL, 0, &size),
            CUBLAS_STATUS_SUCCESS);
        ck_assert_msg(size == known->size, "attribute %d of a product has %zu bytes", known->attribute, size);
    }
    for (size_t i = 0; i < layouts; i++) {
        const CublasLtAttribute *known = &CUBLASLT_LAYOUT_ATTRIBUTES[i];
        ck_assert_int_eq(
            cublasLtMatrixLayoutGetAttribute(layout, (cublasLtMatrixLayoutAttribute_t)known->attribute, NULL, 0, &size),
            CUBLAS_STATUS_SUCCESS);
        ck_assert_msg(size == known->size, "attribute %d of a layout has %zu bytes", known->attribute, size);
    }
    for (size_t i = 0; i < preferences; i++) {
        const CublasLtAttribute *known = &CUBLASLT_PREFERENCE_ATTRIBUTES[i];
        ck_assert_int_eq(cublasLtMatmulPreferenceGetAttribute(
                             preference, (cublasLtMatmulPreferenceAttributes_t)known->attribute, NULL, 0, &size),
                         CUBLAS_STATUS_SUCCESS);
        ck_assert_msg(size == known->size, "attribute %d of a preference has %zu bytes", known->attribute, size);
    }
}
END_TEST

START_TEST(test_statuses_that_the_stand_in_repeats)
{
    const int32_t value = 0;
    cublasLtMatmulDesc_t operation;
    ck_assert_int_eq(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &value, 8),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, NULL, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(operation, (cublasLtMatmulDescAttributes_t)9, &value, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(NULL, CUBLASLT_MATMUL_DESC_TRANSA, &value, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescCreate(NULL, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatrixLayoutCreate(NULL, CUDA_R_32F, 1, 1, 1), CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulPreferenceCreate(NULL), CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescDestroy(operation), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulDescDestroy(NULL), CUBLAS_STATUS_SUCCESS);
    ck_assert_str_eq(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED), "CUBLAS_STATUS_NOT_SUPPORTED");
    ck_assert_str_eq(cublasLtGetStatusName((cublasStatus_t)77), "unrecognized status");
}
END_TEST

START_TEST(test_no_device_is_one_clear_status)
{
    int devices = 0;
    cublasLtHandle_t handle;
    Error error = {.message = ""};
    cublasStatus_t (*create)(cublasLtHandle_t *) = NULL;
    void *symbol = dlsym(RTLD_NEXT, "cublasLtCreate");
    ck_assert_ptr_nonnull(symbol);
    memcpy(&create, &symbol, sizeof create);
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return;
    ck_assert_int_eq(cublas_status(create(&handle), "cublasLtCreate", &error), STATUS_FAILED_PRECONDITION);
    ck_assert_str_eq(error.message, "cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED");
}
END_TEST

SUITE_MAIN("cublaslt", test_a_plan_is_what_the_library_holds, test_every_epilogue_and_type_is_taken,
           test_sizes_of_attributes, test_statuses_that_the_stand_in_repeats, test_no_device_is_one_clear_status)
