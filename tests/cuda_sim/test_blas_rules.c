/* What blas.c refuses, how it keeps algorithms, and what it says when the library fails. */
#include <cublasLt.h>
#include <stdint.h>

#include "library_test.h"

enum { M = 6, N = 10, K = 33, LIMIT = 1 << 20 };

static const BlasMatmul PRODUCT = {.m = M, .n = N, .k = K, .type = DTYPE_F32};

static void check_refused(BlasMatmul matmul, Status status, const char *message)
{
    Blas *blas = open_blas();
    BlasPlan *plan = NULL;
    Error error = {.message = ""};
    ck_assert_int_eq(blas_plan_create(blas, &matmul, LIMIT, NULL, &plan, &error), status);
    ck_assert_str_eq(error.message, message);
    blas_close(blas);
}

START_TEST(test_shapes_and_types_are_checked)
{
    BlasMatmul matmul = PRODUCT;
    matmul.m = 0;
    check_refused(matmul, STATUS_INVALID_ARGUMENT, "m of a matrix product is 0, expected 1 to 2147483647");
    matmul = PRODUCT;
    matmul.n = -1;
    check_refused(matmul, STATUS_INVALID_ARGUMENT, "n of a matrix product is -1, expected 1 to 2147483647");
    matmul = PRODUCT;
    matmul.k = (int64_t)1 << 31;
    check_refused(matmul, STATUS_INVALID_ARGUMENT, "k of a matrix product is 2147483648, expected 1 to 2147483647");
    matmul = PRODUCT;
    matmul.lda = K - 1;
    check_refused(matmul, STATUS_INVALID_ARGUMENT,
                  "leading dimension of matrix a with 33 columns is 32, expected 33 to 2147483647");
    matmul.lda = 0;
    matmul.transpose_b = true;
    matmul.ldb = N;
    check_refused(matmul, STATUS_INVALID_ARGUMENT,
                  "leading dimension of matrix b with 33 columns is 10, expected 33 to 2147483647");
    matmul = PRODUCT;
    matmul.type = DTYPE_I32;
    check_refused(matmul, STATUS_INVALID_ARGUMENT, "type of a matrix product is i32, expected f32, bf16 or f16");
    matmul = PRODUCT;
    matmul.result = DTYPE_BF16;
    check_refused(matmul, STATUS_UNIMPLEMENTED, "result of a matrix product of f32 is bf16, expected f32 or f32");
    matmul = PRODUCT;
    matmul.epilogue = BLAS_RELU_GRAD;
    matmul.k = 1;
    check_refused(matmul, STATUS_UNIMPLEMENTED,
                  "k of a matrix product with epilogue relu_grad is 1, expected 2 or more");
    matmul = PRODUCT;
    matmul.epilogue = BLAS_BIAS_GRAD_A;
    check_refused(matmul, STATUS_UNIMPLEMENTED,
                  "matrix a with epilogue bias_grad_a is not transposed and m is 6, expected a transposed one and 2 or "
                  "more");
    matmul = PRODUCT;
    matmul.epilogue = (BlasEpilogue)10;
    check_refused(matmul, STATUS_INVALID_ARGUMENT, "epilogue of a matrix product is 10, expected 0 to 9");
}
END_TEST

START_TEST(test_pointers_are_checked)
{
    Blas *blas = open_blas();
    BlasPlan *plan = NULL;
    BlasMatmul matmul = PRODUCT;
    Error error = {.message = ""};
    void *a = (void *)64, *odd = (void *)72;
    matmul.epilogue = BLAS_RELU_BIAS_MASK;
    ck_assert_int_eq(blas_plan_create(blas, &matmul, LIMIT, NULL, &plan, &error), STATUS_OK);
    ck_assert_uint_gt(blas_plan_workspace(plan), 0);
    ck_assert_int_eq(blas_plan_run(plan, NULL, NULL, a, a, a, a, (void *)256, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "a of a matrix product is at (nil), expected device memory aligned to 16 bytes");
    ck_assert_int_eq(blas_plan_run(plan, NULL, a, odd, a, a, a, (void *)256, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "b of a matrix product is at 0x48, expected device memory aligned to 16 bytes");
    ck_assert_int_eq(blas_plan_run(plan, NULL, a, a, a, NULL, a, (void *)256, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "bias of a matrix product is at (nil), expected device memory aligned to 16 bytes");
    ck_assert_int_eq(blas_plan_run(plan, NULL, a, a, a, a, NULL, (void *)256, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "mask of a matrix product is at (nil), expected device memory aligned to 16 bytes");
    ck_assert_int_eq(blas_plan_run(plan, NULL, a, a, a, a, a, a, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message,
                     "workspace of a matrix product is at 0x40, expected device memory aligned to 256 bytes");
    blas_plan_destroy(plan);
    blas_close(blas);
}
END_TEST

START_TEST(test_algorithms_are_kept_as_text)
{
    Blas *blas = open_blas();
    BlasPlan *plan = NULL, *again = NULL;
    BlasMatmul other = PRODUCT;
    Error error = {.message = ""};
    char text[256];
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, LIMIT, NULL, &plan, NULL), STATUS_OK);
    ck_assert_int_eq(blas_plan_candidates(plan), 3);
    ck_assert_str_eq(blas_plan_name(plan), "cublaslt:alg21");
    ck_assert_int_eq(blas_plan_choose(plan, 1, NULL), STATUS_OK);
    ck_assert_str_eq(blas_plan_name(plan), "cublaslt:alg24");
    snprintf(text, sizeof text, "%s", blas_plan_text(plan));
    ck_assert_uint_eq(strlen(text), 2 * sizeof(cublasLtMatmulAlgo_t));
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, LIMIT, text, &again, NULL), STATUS_OK);
    ck_assert_str_eq(blas_plan_name(again), "cublaslt:alg24");
    ck_assert_str_eq(blas_plan_text(again), text);
    ck_assert_uint_eq(blas_plan_workspace(again), blas_plan_workspace(plan));
    ck_assert_int_eq(blas_plan_candidates(again), 1);
    ck_assert_int_eq(blas_plan_choose(again, 1, &error), STATUS_OUT_OF_RANGE);
    ck_assert_str_eq(error.message, "candidate of a matrix product is 1, expected 0 to 0");
    blas_plan_destroy(again);
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, 0, text, &again, &error), STATUS_RESOURCE_EXHAUSTED);
    other.k++;
    ck_assert_int_eq(blas_plan_create(blas, &other, LIMIT, text, &again, &error), STATUS_INTERNAL);
    text[3] = 'x';
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, LIMIT, text, &again, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, LIMIT, "00", &again, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "known algorithm of cuBLASLt has 2 characters, expected 128 hexadecimal digits");
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, 0, NULL, &again, NULL), STATUS_OK); /* one wants no workspace */
    ck_assert_int_eq(blas_plan_candidates(again), 1);
    ck_assert_uint_eq(blas_plan_workspace(again), 0);
    blas_plan_destroy(again);
    blas_plan_destroy(plan);
    blas_close(blas);
}
END_TEST

START_TEST(test_every_call_can_fail)
{
    static const struct {
        const char *call;
        Status status;
    } calls[] = {{"cublasLtCreate:1", STATUS_RESOURCE_EXHAUSTED},
                 {"cublasLtMatmulDescCreate:1", STATUS_RESOURCE_EXHAUSTED},
                 {"cublasLtMatmulDescSetAttribute:1", STATUS_INTERNAL},
                 {"cublasLtMatmulDescSetAttribute:4", STATUS_INTERNAL},
                 {"cublasLtMatrixLayoutCreate:2", STATUS_RESOURCE_EXHAUSTED},
                 {"cublasLtMatmulPreferenceCreate:1", STATUS_RESOURCE_EXHAUSTED},
                 {"cublasLtMatmulPreferenceSetAttribute:2", STATUS_INTERNAL},
                 {"cublasLtMatmulAlgoGetHeuristic:1", STATUS_INTERNAL},
                 {"cublasLtMatmulAlgoConfigGetAttribute:1", STATUS_INTERNAL}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        Blas *blas = NULL;
        BlasPlan *plan = NULL;
        Error error = {.message = ""};
        setenv("SIM_FAIL", calls[i].call, 1);
        Status status = blas_open(&blas, &error);
        if (status == STATUS_OK) status = blas_plan_create(blas, &PRODUCT, LIMIT, NULL, &plan, &error);
        ck_assert_msg(status == calls[i].status, "%s: %s", calls[i].call, error.message);
        ck_assert_ptr_null(plan);
        ck_assert_msg(strncmp(error.message, calls[i].call, strcspn(calls[i].call, ":")) == 0, "%s", error.message);
        unsetenv("SIM_FAIL");
        blas_close(blas);
    }
}
END_TEST

START_TEST(test_a_product_can_fail)
{
    Blas *blas = open_blas();
    BlasPlan *plan = NULL;
    Error error = {.message = ""};
    ck_assert_int_eq(blas_plan_create(blas, &PRODUCT, 0, NULL, &plan, NULL), STATUS_OK);
    void *a = device_memory(NULL, M * K * 4), *b = device_memory(NULL, K * N * 4), *c = device_memory(NULL, M * N * 4);
    setenv("SIM_FAIL", "cublasLtMatmul:1", 1);
    ck_assert_int_eq(blas_plan_run(plan, NULL, a, b, c, NULL, NULL, NULL, &error), STATUS_DATA_LOSS);
    ck_assert_msg(strstr(error.message, "CUBLAS_STATUS_EXECUTION_FAILED") != NULL, "%s", error.message);
    ck_assert_int_eq(blas_plan_run(plan, NULL, a, b, c, NULL, NULL, NULL, NULL), STATUS_OK);
    CHECK_CUDA(cudaDeviceSynchronize());
    blas_plan_destroy(plan);
    blas_close(blas);
}
END_TEST

SUITE_MAIN("blas rules", test_shapes_and_types_are_checked, test_pointers_are_checked, test_algorithms_are_kept_as_text,
           test_every_call_can_fail, test_a_product_can_fail)
