/* Products of backend/cuda/blas.c on the stand-in, against the reference backend's loops in double: every epilogue,
 * type, transposition and candidate, at awkward shapes and with rows that lie apart. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/reference/loops.h"
#include "library_test.h"

enum { SENTINEL = 0x5a };

/* --- numbers --- */

static uint32_t random_state = 1;

static double random_number(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (double)(random_state >> 8) / (1 << 23) - 1;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Inputs are made of numbers that all types have: 8 significant bits, not small. */
static double representable(double value)
{
    return round(value * 64) / 64;
}

static void put(void *data, DType type, int64_t index, double value)
{
    const uint32_t bits = bits_of((float)value);
    if (type == DTYPE_F32)
        ((float *)data)[index] = (float)value;
    else if (type == DTYPE_BF16)
        ((uint16_t *)data)[index] = (uint16_t)(bits >> 16);
    else
        ((uint16_t *)data)[index] =
            value == 0 ? 0 : (uint16_t)((bits >> 16 & 0x8000) | (((bits & 0x7fffffff) >> 13) - (112 << 10)));
}

static double get(const void *data, DType type, int64_t index)
{
    if (type == DTYPE_F32) return ((const float *)data)[index];
    const uint32_t bits = ((const uint16_t *)data)[index];
    if (type == DTYPE_BF16) return float_of(bits << 16);
    const double size =
        (bits >> 10 & 31) ? ldexp(1024 + (bits & 1023), (int)(bits >> 10 & 31) - 25) : ldexp(bits & 1023, -24);
    return bits & 0x8000 ? -size : size;
}

/* Half a unit in the last place, relative. */
static double unit(DType type)
{
    return type == DTYPE_BF16 ? 0x1p-8 : type == DTYPE_F16 ? 0x1p-11 : 0x1p-24;
}

/* --- matrices: dense doubles here, rows `ld` apart there --- */

typedef struct Matrix {
    int64_t rows, columns, ld;
    DType type;
    double *values;
    void *device;
    size_t bytes;
} Matrix;

static Matrix matrix_make(int64_t rows, int64_t columns, int64_t ld, DType type, bool random)
{
    Matrix matrix = {rows, columns, ld ? ld : columns, type, NULL, NULL, 0};
    matrix.bytes = (size_t)((rows - 1) * matrix.ld + columns) * dtype_size(type);
    matrix.values = calloc((size_t)(rows * columns), sizeof(double));
    void *host = malloc(matrix.bytes);
    memset(host, SENTINEL, matrix.bytes);
    for (int64_t i = 0; random && i < rows * columns; i++) {
        matrix.values[i] = representable(random_number());
        put(host, type, i / columns * matrix.ld + i % columns, matrix.values[i]);
    }
    matrix.device = device_memory(host, matrix.bytes);
    free(host);
    return matrix;
}

static void matrix_free(Matrix *matrix)
{
    free(matrix->values);
    CHECK_CUDA(cudaFree(matrix->device));
}

static void check_close(double got, double expected, double tolerance, const char *what, int64_t row, int64_t column)
{
    ck_assert_msg(fabs(got - expected) <= tolerance, "%s[%lld, %lld] is %g, expected %g to within %g", what,
                  (long long)row, (long long)column, got, expected, tolerance);
}

/* Against matrix->values; what lies between the rows is untouched. */
static void matrix_check(const Matrix *matrix, double tolerance)
{
    unsigned char *host = malloc(matrix->bytes);
    read_device(host, matrix->device, matrix->bytes);
    for (int64_t row = 0; row < matrix->rows; row++) {
        for (int64_t column = 0; column < matrix->columns; column++) {
            const double expected = matrix->values[row * matrix->columns + column];
            check_close(get(host, matrix->type, row * matrix->ld + column), expected,
                        tolerance + unit(matrix->type) * fabs(expected), "c", row, column);
        }
        const size_t size = dtype_size(matrix->type), end = (size_t)(row * matrix->ld + matrix->columns) * size;
        for (size_t i = end; row + 1 < matrix->rows && i < (size_t)((row + 1) * matrix->ld) * size; i++)
            ck_assert_msg(host[i] == SENTINEL, "byte %zu after row %lld of c was written", i - end, (long long)row);
    }
    free(host);
}

/* --- one product --- */

typedef struct Product {
    BlasMatmul matmul;
    Matrix a, b, c;
    double tolerance; /* of an element before it is rounded to c's type */
} Product;

static void reference_product(const BlasMatmul *matmul, const Matrix *a, const Matrix *b, Matrix *c)
{
    const Value absent[2] = {{.id = 0}, {.id = 1}};
    Node node = {.operation = OP_MATMUL, .input_count = 2, .output_count = 1, .inputs = absent};
    node.attributes.matmul.transpose_a = matmul->transpose_a;
    node.attributes.matmul.transpose_b = matmul->transpose_b;
    const Tensor inputs[2] = {tensor_view(DTYPE_F64, shape_of(a->rows, a->columns), a->values),
                              tensor_view(DTYPE_F64, shape_of(b->rows, b->columns), b->values)};
    Tensor output = tensor_view(DTYPE_F64, shape_of(c->rows, c->columns), c->values);
    const LoopArguments arguments = {.node = &node, .inputs = inputs, .outputs = &output};
    ck_assert_int_eq(reference_loops_f64[OP_MATMUL](&arguments, NULL), STATUS_OK);
}

static Product product_make(BlasMatmul matmul)
{
    Product p = {.matmul = matmul};
    const DType result = matmul.result == DTYPE_NONE ? matmul.type : matmul.result;
    p.a = matrix_make(matmul.transpose_a ? matmul.k : matmul.m, matmul.transpose_a ? matmul.m : matmul.k, matmul.lda,
                      matmul.type, true);
    p.b = matrix_make(matmul.transpose_b ? matmul.n : matmul.k, matmul.transpose_b ? matmul.k : matmul.n, matmul.ldb,
                      matmul.type, true);
    p.c = matrix_make(matmul.m, matmul.n, matmul.ldc, result, false);
    reference_product(&matmul, &p.a, &p.b, &p.c);
    p.tolerance = 1e-6 * sqrt((double)matmul.k) + 1e-6;
    return p;
}

static void product_free(Product *p)
{
    matrix_free(&p->a);
    matrix_free(&p->b);
    matrix_free(&p->c);
}

static void product_run(Blas *blas, const Product *p, int candidate, void *bias, void *mask)
{
    BlasPlan *plan = NULL;
    Error error = {.message = ""};
    ck_assert_msg(blas_plan_create(blas, &p->matmul, 32 << 20, NULL, &plan, &error) == STATUS_OK, "%s", error.message);
    ck_assert_int_eq(blas_plan_choose(plan, candidate % blas_plan_candidates(plan), &error), STATUS_OK);
    const size_t bytes = blas_plan_workspace(plan);
    void *workspace = bytes ? device_memory(NULL, bytes) : NULL;
    const cudaStream_t stream = stream_make();
    ck_assert_msg(blas_plan_run(plan, stream, p->a.device, p->b.device, p->c.device, bias, mask, workspace, &error) ==
                      STATUS_OK,
                  "%s", error.message);
    CHECK_CUDA(cudaStreamSynchronize(stream));
    CHECK_CUDA(cudaStreamDestroy(stream));
    CHECK_CUDA(cudaFree(workspace));
    blas_plan_destroy(plan);
}

static void check_product(Blas *blas, BlasMatmul matmul, int candidate)
{
    Product p = product_make(matmul);
    product_run(blas, &p, candidate, NULL, NULL);
    matrix_check(&p.c, p.tolerance);
    product_free(&p);
}

static const int64_t SHAPES[][3] = {{1, 1, 1},    {3, 10, 33},   {33, 1, 100},   {1, 33, 10},   {100, 10, 33},
                                    {10, 100, 3}, {33, 33, 257}, {64, 256, 320}, {64, 512, 832}};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof SHAPES[0], SMALL_SHAPES = 7 };

static BlasMatmul matmul_of(const int64_t *shape, DType type, DType result, BlasEpilogue epilogue)
{
    return (BlasMatmul){
        .m = shape[0], .n = shape[1], .k = shape[2], .type = type, .result = result, .epilogue = epilogue};
}

static const DType TYPES[][2] = {{DTYPE_F32, DTYPE_NONE},
                                 {DTYPE_BF16, DTYPE_NONE},
                                 {DTYPE_F16, DTYPE_NONE},
                                 {DTYPE_BF16, DTYPE_F32},
                                 {DTYPE_F16, DTYPE_F32}};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

/* --- the tests --- */

START_TEST(test_all_shapes_types_and_transpositions)
{
    Blas *blas = open_blas();
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int type = 0; type < TYPE_COUNT; type++)
            for (int transposed = 0; transposed < 4; transposed++) {
                if (shape >= SMALL_SHAPES && transposed != type % 4) continue;
                BlasMatmul matmul = matmul_of(SHAPES[shape], TYPES[type][0], TYPES[type][1], BLAS_PLAIN);
                matmul.transpose_a = transposed & 1;
                matmul.transpose_b = transposed & 2;
                check_product(blas, matmul, shape + type + transposed);
            }
    blas_close(blas);
}
END_TEST

START_TEST(test_rows_may_lie_apart)
{
    Blas *blas = open_blas();
    for (int transposed = 0; transposed < 4; transposed++)
        for (int candidate = 0; candidate < 3; candidate++) {
            BlasMatmul matmul = matmul_of((const int64_t[]){33, 10, 100}, DTYPE_F32, DTYPE_NONE, BLAS_PLAIN);
            matmul.transpose_a = transposed & 1;
            matmul.transpose_b = transposed & 2;
            matmul.lda = 104;
            matmul.ldb = 103;
            matmul.ldc = 17;
            check_product(blas, matmul, candidate);
        }
    blas_close(blas);
}
END_TEST

START_TEST(test_tf32_rounds_the_inputs)
{
    Blas *blas = open_blas();
    BlasMatmul matmul = matmul_of((const int64_t[]){1, 1, 1}, DTYPE_F32, DTYPE_NONE, BLAS_PLAIN);
    for (int tf32 = 0; tf32 < 2; tf32++) {
        const float in = 1 + 0x1p-11f + 0x1p-20f, one = 1;
        float out = 0;
        matmul.tf32 = tf32;
        Product p = product_make(matmul);
        CHECK_CUDA(cudaMemcpy(p.a.device, &in, sizeof in, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaMemcpy(p.b.device, &one, sizeof one, cudaMemcpyHostToDevice));
        product_run(blas, &p, 2, NULL, NULL);
        read_device(&out, p.c.device, sizeof out);
        ck_assert(out == (tf32 ? 1 + 0x1p-10f : in));
        product_free(&p);
    }
    blas_close(blas);
}
END_TEST

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double gelu_derivative(double x)
{
    const double step = 1e-5;
    return (gelu(x + step) - gelu(x - step)) / (2 * step);
}

/* A forward product with a bias; leaves what the activation is given in `before` [m, n]. */
static void check_forward(Blas *blas, Product *p, int candidate, void *mask, double *before)
{
    const BlasMatmul *t = &p->matmul;
    Matrix bias = matrix_make(1, t->n, 0, blas_bias_type(t), true);
    for (int64_t i = 0; i < t->m * t->n; i++) {
        const double x = p->c.values[i] + bias.values[i % t->n];
        const bool relu = t->epilogue == BLAS_RELU_BIAS || t->epilogue == BLAS_RELU_BIAS_MASK;
        const bool is_gelu = t->epilogue == BLAS_GELU_BIAS || t->epilogue == BLAS_GELU_BIAS_MASK;
        before[i] = x;
        p->c.values[i] = is_gelu ? gelu(x) : relu ? fmax(x, 0) : x;
    }
    product_run(blas, p, candidate, bias.device, mask);
    matrix_check(&p->c, p->tolerance);
    matrix_free(&bias);
}

/* The gradient that goes with it: a product of its own, masked by what the forward product kept. */
static void check_gradient(Blas *blas, BlasMatmul matmul, int candidate, void *mask, const double *before)
{
    Product p = product_make(matmul);
    Matrix sums = matrix_make(1, matmul.n, 0, blas_bias_type(&matmul), false);
    const double unsure = 1e-4 + unit(p.c.type); /* where rounding decides about the mask's bit */
    const bool gelu_grad = matmul.epilogue == BLAS_GELU_GRAD;
    unsigned char *host = malloc(p.c.bytes);
    for (int64_t i = 0; i < matmul.m * matmul.n; i++) {
        p.c.values[i] = gelu_grad ? p.c.values[i] * gelu_derivative(before[i]) : before[i] > 0 ? p.c.values[i] : 0;
        sums.values[i % matmul.n] += p.c.values[i];
    }
    product_run(blas, &p, candidate, matmul.epilogue == BLAS_RELU_GRAD_BIAS ? sums.device : NULL, mask);
    read_device(host, p.c.device, p.c.bytes);
    for (int64_t i = 0; i < matmul.m * matmul.n; i++) {
        const double expected = p.c.values[i];
        const double slack = gelu_grad ? 4 * unit(p.c.type) * sqrt((double)matmul.k) * (1 + fabs(before[i])) : 0;
        if (gelu_grad || fabs(before[i]) > unsure)
            check_close(get(host, p.c.type, i / matmul.n * p.c.ld + i % matmul.n), expected,
                        p.tolerance + unit(p.c.type) * fabs(expected) + slack, "gradient", i / matmul.n, i % matmul.n);
    }
    if (matmul.epilogue == BLAS_RELU_GRAD_BIAS) matrix_check(&sums, p.tolerance * (double)matmul.m);
    free(host);
    matrix_free(&sums);
    product_free(&p);
}

static void check_pair(Blas *blas, const int64_t *shape, int type, BlasEpilogue forward, BlasEpilogue backward,
                       int candidate)
{
    BlasMatmul matmul = matmul_of(shape, TYPES[type][0], TYPES[type][1], forward);
    matmul.transpose_b = true;
    matmul.ldc = shape[1] + 8;
    double *before = calloc((size_t)(shape[0] * shape[1]), sizeof *before);
    const size_t bytes = blas_mask_bytes(&matmul);
    void *mask = bytes ? device_memory(NULL, bytes) : NULL;
    Product p = product_make(matmul);
    check_forward(blas, &p, candidate, mask, before);
    product_free(&p);
    if (mask) {
        BlasMatmul gradient =
            matmul_of((const int64_t[]){shape[0], shape[1], 20}, TYPES[type][0], TYPES[type][1], backward);
        ck_assert_uint_eq(blas_mask_bytes(&gradient), bytes);
        check_gradient(blas, gradient, candidate + 1, mask, before);
    }
    CHECK_CUDA(cudaFree(mask));
    free(before);
}

START_TEST(test_epilogues)
{
    static const BlasEpilogue pairs[][2] = {{BLAS_BIAS, BLAS_PLAIN},
                                            {BLAS_RELU_BIAS, BLAS_PLAIN},
                                            {BLAS_RELU_BIAS_MASK, BLAS_RELU_GRAD},
                                            {BLAS_RELU_BIAS_MASK, BLAS_RELU_GRAD_BIAS},
                                            {BLAS_GELU_BIAS, BLAS_PLAIN},
                                            {BLAS_GELU_BIAS_MASK, BLAS_GELU_GRAD}};
    Blas *blas = open_blas();
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int type = 0; type < TYPE_COUNT; type++)
            for (int pair = 0; pair < 6; pair++) {
                if (shape >= SMALL_SHAPES && pair % 3 != type % 3) continue;
                check_pair(blas, SHAPES[shape], type, pairs[pair][0], pairs[pair][1], shape + type + pair);
            }
    blas_close(blas);
}
END_TEST

START_TEST(test_bits_of_a_mask_are_those_of_positive_results)
{
    Blas *blas = open_blas();
    BlasMatmul matmul = matmul_of((const int64_t[]){2, 3, 1}, DTYPE_F32, DTYPE_NONE, BLAS_RELU_BIAS_MASK);
    const float a[] = {1, -1}, b[] = {2, -3, 4}, bias[] = {0, 0, 4};
    unsigned char bits[32];
    float c[6];
    ck_assert_uint_eq(blas_mask_bytes(&matmul), sizeof bits); /* rows of 128 bits */
    Product p = product_make(matmul);
    CHECK_CUDA(cudaMemcpy(p.a.device, a, sizeof a, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(p.b.device, b, sizeof b, cudaMemcpyHostToDevice));
    void *bias_device = device_memory(bias, sizeof bias), *mask = device_memory(NULL, sizeof bits);
    product_run(blas, &p, 0, bias_device, mask);
    read_device(bits, mask, sizeof bits);
    read_device(c, p.c.device, sizeof c);
    ck_assert_int_eq(bits[0] & 7, 5);  /* 2, -3, 8 */
    ck_assert_int_eq(bits[16] & 7, 2); /* -2, 3, 0 */
    ck_assert(c[0] == 2 && c[1] == 0 && c[2] == 8 && c[3] == 0 && c[4] == 3 && c[5] == 0);
    product_free(&p);
    CHECK_CUDA(cudaFree(bias_device));
    CHECK_CUDA(cudaFree(mask));
    blas_close(blas);
}
END_TEST

/* The reference's own loop for a linear layer's parameters: dw [out, in] = dy' x, db [out] = sums of dy. */
START_TEST(test_gradient_of_a_linear_layers_parameters)
{
    static const int64_t layers[][3] = {{2, 1, 1}, {10, 33, 3}, {33, 10, 100}, {10, 320, 64}, {256, 320, 64}};
    Blas *blas = open_blas();
    for (int layer = 0; layer < 5; layer++)
        for (int type = 0; type < TYPE_COUNT; type++) {
            BlasMatmul matmul = matmul_of(layers[layer], TYPES[type][0], TYPES[type][1], BLAS_BIAS_GRAD_A);
            matmul.transpose_a = true;
            matmul.lda = matmul.m + 6; /* dy may be a slice */
            Product p = product_make(matmul);
            Matrix db = matrix_make(1, matmul.m, 0, blas_bias_type(&matmul), false);
            const Tensor inputs[2] = {tensor_view(DTYPE_F64, shape_of(matmul.k, matmul.m), p.a.values),
                                      tensor_view(DTYPE_F64, shape_of(matmul.k, matmul.n), p.b.values)};
            Tensor outputs[2] = {tensor_view(DTYPE_F64, shape_of(matmul.m, matmul.n), p.c.values),
                                 tensor_view(DTYPE_F64, shape_of(matmul.m), db.values)};
            const Value values[2] = {{.id = 0}, {.id = 1}};
            /* (dy, x, w): the loop only looks at the shape of the third */
            const Node node = {.operation = OP_LINEAR_GRAD_PARAMETERS, .input_count = 2, .inputs = values};
            const LoopArguments arguments = {.node = &node, .inputs = inputs, .outputs = outputs};
            ck_assert_int_eq(reference_loops_f64[OP_LINEAR_GRAD_PARAMETERS](&arguments, NULL), STATUS_OK);
            product_run(blas, &p, layer + type, db.device, NULL);
            matrix_check(&p.c, p.tolerance);
            matrix_check(&db, p.tolerance);
            matrix_free(&db);
            product_free(&p);
        }
    blas_close(blas);
}
END_TEST

/* To nearest even, with the exponents of `type`. */
static double rounded(double x, DType type)
{
    const int digits = type == DTYPE_F16 ? 10 : 7, least = type == DTYPE_F16 ? -14 : -126;
    if (x == 0) return 0;
    const int exponent = ilogb(x) > least ? ilogb(x) : least;
    const double value = ldexp(nearbyint(ldexp(x, digits - exponent)), exponent - digits);
    return type == DTYPE_F16 && fabs(value) > 65504 ? copysign(INFINITY, x) : value;
}

/* Products of two numbers are exact in float, so only the result is rounded. */
START_TEST(test_results_are_rounded_to_nearest_even)
{
    enum { SIDE = 128 };
    static const DType types[] = {DTYPE_F16, DTYPE_BF16};
    Blas *blas = open_blas();
    for (int t = 0; t < 2; t++) {
        uint16_t a[SIDE], b[SIDE], c[SIDE * SIDE];
        Product p = product_make(matmul_of((const int64_t[]){SIDE, SIDE, 1}, types[t], DTYPE_NONE, BLAS_PLAIN));
        for (int i = 0; i < SIDE; i++) {
            const int exponent =
                types[t] == DTYPE_F16 ? i % 31 << 10 : (100 + i % 50) << 7; /* zero and denormals too */
            a[i] = (uint16_t)(exponent | (i * 37 & (types[t] == DTYPE_F16 ? 1023 : 127)));
        }
        for (int i = 0; i < SIDE; i++)
            b[i] = (uint16_t)(0x8000 | a[SIDE - 1 - i / 2]);
        if (types[t] == DTYPE_F16) { /* 19 times -3448 is above the largest, and yet rounded down to it */
            a[1] = 0x4cc0;
            b[1] = 0xeabc;
        }
        CHECK_CUDA(cudaMemcpy(p.a.device, a, sizeof a, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaMemcpy(p.b.device, b, sizeof b, cudaMemcpyHostToDevice));
        product_run(blas, &p, 2, NULL, NULL);
        read_device(c, p.c.device, sizeof c);
        for (int i = 0; i < SIDE * SIDE; i++) {
            const double expected = rounded(get(a, types[t], i / SIDE) * get(b, types[t], i % SIDE), types[t]);
            const double got = (c[i] & 0x7fff) == 0x7c00 && types[t] == DTYPE_F16 ? -INFINITY : get(c, types[t], i);
            ck_assert_msg(got == expected, "%04x times %04x is %04x (%g), expected %g", a[i / SIDE], b[i % SIDE], c[i],
                          got, expected);
        }
        product_free(&p);
    }
    blas_close(blas);
}
END_TEST

START_TEST(test_the_same_bits_run_after_run)
{
    Blas *blas = open_blas();
    Product p = product_make(matmul_of((const int64_t[]){33, 100, 257}, DTYPE_F32, DTYPE_NONE, BLAS_PLAIN));
    float *first = malloc(p.c.bytes), *second = malloc(p.c.bytes);
    for (int candidate = 0; candidate < 3; candidate++) {
        product_run(blas, &p, candidate, NULL, NULL);
        read_device(first, p.c.device, p.c.bytes);
        product_run(blas, &p, candidate, NULL, NULL);
        read_device(second, p.c.device, p.c.bytes);
        ck_assert_mem_eq(first, second, p.c.bytes);
    }
    free(first);
    free(second);
    product_free(&p);
    blas_close(blas);
}
END_TEST

SUITE_MAIN("blas products", test_all_shapes_types_and_transpositions, test_rows_may_lie_apart,
           test_tf32_rounds_the_inputs, test_epilogues, test_bits_of_a_mask_are_those_of_positive_results,
           test_gradient_of_a_linear_layers_parameters, test_results_are_rounded_to_nearest_even,
           test_the_same_bits_run_after_run)
