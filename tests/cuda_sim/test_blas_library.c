/* The cuBLASLt stand-in by raw calls: what it answers by the real library's statuses, and what ends the process. A
 * product here is c [M, N] = a [M, K] b [K, N], column-major. */
#include <cublasLt.h>
#include <stdint.h>

#include "library_test.h"

enum { M = 6, N = 10, K = 33, LIMIT = 1 << 20 };

typedef struct Raw {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t results[4];
    int count;
    float *A, *B, *C, *bias;
    unsigned char *workspace;
    uint64_t limit;
} Raw;

static Raw raw_make(void)
{
    Raw raw = {.limit = LIMIT};
    ck_assert_int_eq(cublasLtCreate(&raw.handle), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulDescCreate(&raw.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutCreate(&raw.a, CUDA_R_32F, M, K, M), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutCreate(&raw.b, CUDA_R_32F, K, N, K), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutCreate(&raw.c, CUDA_R_32F, M, N, M), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulPreferenceCreate(&raw.preference), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulPreferenceSetAttribute(raw.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                          &raw.limit, sizeof raw.limit),
                     CUBLAS_STATUS_SUCCESS);
    raw.A = device_memory(NULL, M * K * sizeof(float));
    raw.B = device_memory(NULL, K * N * sizeof(float));
    raw.C = device_memory(NULL, M * N * sizeof(float));
    raw.bias = device_memory(NULL, M * sizeof(float));
    raw.workspace = device_memory(NULL, LIMIT);
    return raw;
}

static void raw_free(Raw *raw)
{
    ck_assert_int_eq(cublasLtMatmulPreferenceDestroy(raw->preference), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutDestroy(raw->a), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutDestroy(raw->b), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatrixLayoutDestroy(raw->c), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtMatmulDescDestroy(raw->operation), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(cublasLtDestroy(raw->handle), CUBLAS_STATUS_SUCCESS);
    CHECK_CUDA(cudaDeviceReset()); /* the memory */
}

static cublasStatus_t raw_ask(Raw *raw)
{
    return cublasLtMatmulAlgoGetHeuristic(raw->handle, raw->operation, raw->a, raw->b, raw->c, raw->c, raw->preference,
                                          4, raw->results, &raw->count);
}

static cublasStatus_t raw_multiply(const Raw *raw, const float *alpha, const float *beta,
                                   const cublasLtMatmulAlgo_t *algorithm, size_t workspace, cudaStream_t stream)
{
    return cublasLtMatmul(raw->handle, raw->operation, alpha, raw->A, raw->a, raw->B, raw->b, beta, raw->C, raw->c,
                          raw->C, raw->c, algorithm, raw->workspace, workspace, stream);
}

static const float zero = 0, one = 1;

static cublasStatus_t raw_run(Raw *raw, int candidate, size_t workspace)
{
    return raw_multiply(raw, &one, &zero, &raw->results[candidate].algo, workspace, NULL);
}

/* The first candidate, with all the workspace. */
static cublasStatus_t raw_run_on(Raw *raw, cudaStream_t stream)
{
    return raw_multiply(raw, &one, &zero, &raw->results[0].algo, LIMIT, stream);
}

static void raw_set(Raw *raw, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size)
{
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(raw->operation, attribute, value, size), CUBLAS_STATUS_SUCCESS);
}

static void raw_set_epilogue(Raw *raw, uint32_t epilogue)
{
    raw_set(raw, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
}

START_TEST(test_statuses_of_the_real_library)
{
    Raw raw = raw_make();
    const int32_t transposed = CUBLAS_OP_T, half = CUDA_R_16F;
    const int64_t narrow = 64;
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(raw.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, 8),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(raw.operation, (cublasLtMatmulDescAttributes_t)9, &transposed, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescSetAttribute(NULL, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulDescDestroy(NULL), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(raw.count, 3);
    ck_assert_int_eq(raw_run(&raw, 0, raw.results[0].workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, 4); /* the shapes don't fit any more */
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(cublasLtMatmulAlgoCheck(raw.handle, raw.operation, raw.a, raw.b, raw.c, raw.c,
                                             &raw.results[0].algo, &raw.results[1]),
                     CUBLAS_STATUS_INVALID_VALUE);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_TRANSA, &(int32_t){CUBLAS_OP_N}, 4);
    raw_set_epilogue(&raw, CUBLASLT_EPILOGUE_RELU_BIAS); /* another problem: the algorithm doesn't fit any more */
    raw_set(&raw, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &raw.bias, sizeof raw.bias);
    ck_assert_int_eq(raw_run(&raw, 0, LIMIT), CUBLAS_STATUS_INVALID_VALUE);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &half, 4);
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_NOT_SUPPORTED);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &(int32_t){-1}, 4);
    raw_set_epilogue(&raw, CUBLASLT_EPILOGUE_RELU_AUX_BIAS);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &narrow, sizeof narrow);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &raw.bias, sizeof raw.bias);
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_INVALID_VALUE);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &(int64_t){128}, sizeof narrow);
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_SUCCESS);
    raw_set(&raw, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &(void *){NULL}, sizeof(void *));
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_INVALID_VALUE); /* which heuristics look at already */
    ck_assert_int_eq(cublasLtMatmulAlgoGetHeuristic(NULL, raw.operation, raw.a, raw.b, raw.c, raw.c, raw.preference, 4,
                                                    raw.results, &raw.count),
                     CUBLAS_STATUS_NOT_INITIALIZED);
    ck_assert_int_eq(cublasLtDestroy(NULL), CUBLAS_STATUS_INVALID_VALUE);
    raw_free(&raw);
}
END_TEST

START_TEST(test_products_that_have_no_kernel)
{
    Raw raw = raw_make();
    raw_set_epilogue(&raw, CUBLASLT_EPILOGUE_BGRADB); /* for a transposed b alone */
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_NOT_SUPPORTED);
    raw_set_epilogue(&raw, CUBLASLT_EPILOGUE_DEFAULT);
    cublasLtMatrixLayoutDestroy(raw.c);
    ck_assert_int_eq(cublasLtMatrixLayoutCreate(&raw.c, CUDA_R_16BF, M, N, M), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_NOT_SUPPORTED);
    ck_assert_int_eq(raw.count, 0);
    raw_free(&raw);
}
END_TEST

START_TEST(test_a_workspace_is_filled_with_rubbish)
{
    Raw raw = raw_make();
    unsigned char host[1024];
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_SUCCESS);
    CHECK_CUDA(cudaMemset(raw.workspace, 0, LIMIT));
    CHECK_CUDA(cudaMemset(raw.A, 0, M * K * sizeof(float)));
    CHECK_CUDA(cudaMemset(raw.B, 0, K * N * sizeof(float)));
    ck_assert_int_eq(raw_run(&raw, 0, sizeof host), CUBLAS_STATUS_SUCCESS);
    read_device(host, raw.workspace, sizeof host);
    for (size_t i = 0; i < sizeof host; i++)
        ck_assert_int_ne(host[i], 0);
    raw_free(&raw);
}
END_TEST

START_TEST(test_alignment_decides_about_candidates)
{
    Raw raw = raw_make();
    const uint32_t eight = 8;
    ck_assert_int_eq(cublasLtMatmulPreferenceSetAttribute(raw.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                          &eight, sizeof eight),
                     CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_SUCCESS);
    ck_assert_int_eq(raw.count, 1);
    raw.B = device_memory(NULL, K * N * sizeof(float) + 4);
    raw.B += 1;
    ck_assert_int_eq(raw_run(&raw, 0, 0), CUBLAS_STATUS_SUCCESS);
    CHECK_CUDA(cudaDeviceSynchronize());
    raw_free(&raw);
}
END_TEST

/* A graph keeps the pointers that it was captured with, and computes anew at every launch. */
START_TEST(test_products_are_captured)
{
    Raw raw = raw_make();
    float host[M * K], c = 0;
    for (int i = 0; i < K * N; i++)
        CHECK_CUDA(cudaMemcpy(raw.B + i, &one, sizeof one, cudaMemcpyHostToDevice));
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_SUCCESS);
    const cudaStream_t stream = capture_begin();
    ck_assert_int_eq(raw_run_on(&raw, stream), CUBLAS_STATUS_SUCCESS);
    const cudaGraphExec_t exec = capture_end(stream);
    for (int launch = 1; launch <= 2; launch++) {
        for (int i = 0; i < M * K; i++)
            host[i] = (float)launch;
        CHECK_CUDA(cudaMemcpy(raw.A, host, sizeof host, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaGraphLaunch(exec, stream));
        CHECK_CUDA(cudaStreamSynchronize(stream));
        read_device(&c, raw.C + M * N - 1, sizeof c);
        ck_assert(c == (float)(launch * K));
    }
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaStreamDestroy(stream));
    raw_free(&raw);
}
END_TEST

/* --- what ends the process --- */

static void use_destroyed_descriptor(void *raw)
{
    cublasLtMatmulDescDestroy(((Raw *)raw)->operation);
    raw_ask(raw);
}

static void use_destroyed_handle(void *raw)
{
    cublasLtDestroy(((Raw *)raw)->handle);
    raw_run(raw, 0, LIMIT);
}

static void use_host_memory(void *raw)
{
    ((Raw *)raw)->A = calloc(M * K, sizeof(float));
    raw_run(raw, 0, LIMIT);
}

static void use_odd_address(void *raw)
{
    ((Raw *)raw)->B += 1;
    raw_run(raw, 0, LIMIT);
}

static void use_odd_workspace(void *raw)
{
    ((Raw *)raw)->workspace += 16;
    raw_run(raw, 0, LIMIT - 16);
}

static void use_short_memory(void *raw)
{
    ((Raw *)raw)->B = device_memory(NULL, (K * N - 1) * sizeof(float));
    raw_run(raw, 0, LIMIT);
}

static void use_freed_memory(void *raw)
{
    cudaFree(((Raw *)raw)->B);
    raw_run(raw, 0, LIMIT);
}

static void overlap(void *raw)
{
    ((Raw *)raw)->C = ((Raw *)raw)->A;
    raw_run(raw, 0, LIMIT);
}

static void forget_bias(void *raw)
{
    raw_set_epilogue(raw, CUBLASLT_EPILOGUE_BIAS);
    raw_ask(raw);
    raw_run(raw, 0, LIMIT);
}

static void use_other_device(void *raw)
{
    cudaSetDevice(1);
    raw_run(raw, 0, LIMIT);
}

static void use_stream_of_other_device(void *raw)
{
    cudaStream_t stream;
    cudaSetDevice(1);
    cudaStreamCreate(&stream);
    cudaSetDevice(0);
    raw_run_on(raw, stream);
}

static void use_memory_of_other_device(void *raw)
{
    cudaSetDevice(1);
    ((Raw *)raw)->A = device_memory(NULL, M * K * sizeof(float));
    cudaSetDevice(0);
    raw_run(raw, 0, LIMIT);
}

static void use_device_alpha(void *raw)
{
    Raw *r = raw;
    raw_multiply(r, r->bias, r->bias, &r->results[0].algo, LIMIT, NULL);
}

static void make_empty_layout(void *raw)
{
    cublasLtMatrixLayoutCreate(&((Raw *)raw)->a, CUDA_R_32F, 0, 4, 4);
}

static void make_tight_layout(void *raw)
{
    cublasLtMatrixLayoutCreate(&((Raw *)raw)->a, CUDA_R_32F, 5, 4, 4);
}

static void set_unknown_epilogue(void *raw)
{
    raw_set_epilogue(raw, 12345);
}

static void use_beta(void *raw)
{
    raw_multiply(raw, &one, &one, &((Raw *)raw)->results[0].algo, LIMIT, NULL);
}

static void use_no_algorithm(void *raw)
{
    raw_multiply(raw, &one, &zero, NULL, LIMIT, NULL);
}

static void describe_no_algorithm(void *raw)
{
    int32_t id;
    memset(&((Raw *)raw)->results[0].algo, 0, sizeof(cublasLtMatmulAlgo_t));
    cublasLtMatmulAlgoConfigGetAttribute(&((Raw *)raw)->results[0].algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, NULL);
}

static void ask_for_splits(void *raw)
{
    int32_t splits;
    cublasLtMatmulAlgoConfigGetAttribute(&((Raw *)raw)->results[0].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                                         sizeof splits, NULL);
}

static void use_gelu_alone(void *raw)
{
    raw_set_epilogue(raw, CUBLASLT_EPILOGUE_GELU);
    raw_ask(raw);
}

static void use_row_order(void *raw)
{
    const int32_t order = CUBLASLT_ORDER_ROW;
    cublasLtMatrixLayoutSetAttribute(((Raw *)raw)->c, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order);
    raw_ask(raw);
}

/* Values that descriptors of the real library take without a word. */
typedef struct Value {
    enum { OPERATION, LAYOUT, PREFERENCE } descriptor;
    int attribute;
    int32_t value;
    const char *message;
} Value;

static void set_value(void *argument)
{
    const Value *value = argument;
    const Raw raw = raw_make();
    if (value->descriptor == OPERATION)
        cublasLtMatmulDescSetAttribute(raw.operation, (cublasLtMatmulDescAttributes_t)value->attribute, &value->value,
                                       4);
    else if (value->descriptor == LAYOUT)
        cublasLtMatrixLayoutSetAttribute(raw.a, (cublasLtMatrixLayoutAttribute_t)value->attribute, &value->value, 4);
    else
        cublasLtMatmulPreferenceSetAttribute(raw.preference, (cublasLtMatmulPreferenceAttributes_t)value->attribute,
                                             &value->value, 4);
}

START_TEST(test_values_of_attributes)
{
    static Value values[] = {
        {OPERATION, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_64F, "compute type is 70"},
        {OPERATION, CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_16F, "scale type is 2"},
        {OPERATION, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE, "pointer mode is 1"},
        {OPERATION, CUBLASLT_MATMUL_DESC_TRANSA, 99, "transposition is 99, expected CUBLAS_OP_N or CUBLAS_OP_T"},
        {OPERATION, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, 99, "data type is 99"},
        {OPERATION, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, 7, "attribute is 15, expected one that is simulated"},
        {LAYOUT, CUBLASLT_MATRIX_LAYOUT_TYPE, 99, "data type is 99"},
        {LAYOUT, CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_COL32, "order is 2"},
        {LAYOUT, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 2, "batch count is 2"},
        {PREFERENCE, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 12, "alignment is 12, expected a power of two"},
        {PREFERENCE, CUBLASLT_MATMUL_PREF_SEARCH_MODE, 1, "attribute 0 of a preference isn't simulated"},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        check_dies(set_value, &values[i], values[i].message);
}
END_TEST

/* The product runs on one stream, and another copies its result without waiting for it. */
static void forget_event(void *raw)
{
    Raw *r = raw;
    const cudaStream_t streams[2] = {stream_make(), stream_make()};
    void *copy = device_memory(NULL, M * N * sizeof(float));
    raw_run_on(r, streams[0]);
    cudaMemcpyAsync(copy, r->C, M * N * sizeof(float), cudaMemcpyDeviceToDevice, streams[1]);
    cudaDeviceSynchronize();
}

START_TEST(test_violations)
{
    static const Rule rules[] = {
        {use_destroyed_descriptor, "sim: cublasLtMatmulAlgoGetHeuristic: "},
        {use_destroyed_handle, "is no handle of cuBLASLt, or one that was destroyed"},
        {use_host_memory, "is no device memory"},
        {use_odd_address, "isn't aligned to the 16 bytes that heuristics were promised"},
        {use_odd_workspace, "sim: cublasLtMatmul: the workspace"},
        {use_short_memory, "4 past the end of an allocation of 1316 bytes"},
        {use_freed_memory, "sim: cublasLtMatmul: "},
        {overlap, "sim: cublasLtMatmul: A overlaps D, which the product writes"},
        {forget_bias, "sim: cublasLtMatmul: epilogue 4 wants a pointer to a bias, which is NULL"},
        {use_other_device, "sim: cublasLtMatmul: the handle is of device 0, the current device is 1"},
        {use_stream_of_other_device, "sim: cublasLtMatmul: the stream is of device 1, the handle of device 0"},
        {use_memory_of_other_device, "is memory of device 1, the handle is of device 0"},
        {use_device_alpha, "sim: cublasLtMatmul: alpha or beta is in device memory"},
        {make_empty_layout, "sim: cublasLtMatrixLayoutCreate: dimension is 0, expected 1 to 2147483647"},
        {make_tight_layout, "sim: cublasLtMatrixLayoutCreate: leading dimension is 4, expected at least"},
        {set_unknown_epilogue, "sim: cublasLtMatmulDescSetAttribute: epilogue is 12345"},
        {use_beta, "sim: cublasLtMatmul: beta isn't 0"},
        {use_no_algorithm, "sim: cublasLtMatmul: no algorithm is given"},
        {describe_no_algorithm, "holds no algorithm"},
        {ask_for_splits, "attribute 2 of an algorithm isn't simulated"},
        {use_gelu_alone, "epilogue 32 isn't simulated"},
        {use_row_order, "a matrix is in CUBLASLT_ORDER_ROW"},
        {forget_event, "cublasLtMatmul"},
    };
    Raw raw = raw_make();
    ck_assert_int_eq(raw_ask(&raw), CUBLAS_STATUS_SUCCESS);
    check_rules(rules, sizeof rules / sizeof rules[0], &raw);
    raw_free(&raw);
}
END_TEST

SUITE_MAIN("blas library", test_statuses_of_the_real_library, test_products_that_have_no_kernel,
           test_a_workspace_is_filled_with_rubbish, test_alignment_decides_about_candidates, test_products_are_captured,
           test_values_of_attributes, test_violations)
