/* The soma echo: twice the input, for every modality, padded, cut or raw; its gradient; and what it refuses. */
#include "neuron/echo.h"

#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "models/soma.h"
#include "neuron/requests.h"
#include "support/suite.h"

enum { DIM = SOMA_NETWORK_DIM };

static const Echo padded = {.raw = false}, raw = {.raw = true};

static Tensor numbers(Shape shape)
{
    Tensor tensor;
    Rng rng = rng_make((uint64_t)shape_count(shape), RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape, &tensor, NULL), STATUS_OK);
    for (int64_t i = 0; i < shape_count(shape); i++)
        tensor_f32(&tensor)[i] = (float)rng_normal(&rng);
    return tensor;
}

static Tensor ids(Shape shape)
{
    Tensor tensor;
    ck_assert_int_eq(tensor_create(DTYPE_I64, shape, &tensor, NULL), STATUS_OK);
    for (int64_t i = 0; i < shape_count(shape); i++)
        ((int64_t *)tensor.data)[i] = 7 * i - 3;
    return tensor;
}

static double element(const Tensor *tensor, size_t i)
{
    return tensor->dtype == DTYPE_I64 ? (double)((const int64_t *)tensor->data)[i] : (double)tensor_f32(tensor)[i];
}

/* `to` has rows of `wide` elements: twice those of `from`, whose rows have `narrow`, and zeros. */
static void expect_doubled(const Tensor *to, size_t wide, const Tensor *from, size_t narrow, size_t rows)
{
    ck_assert_uint_eq(to->size, rows * wide * sizeof(float));
    size_t wrong = 0;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < wide; i++) {
            const double expected = i < narrow ? 2 * element(from, row * narrow + i) : 0;
            wrong += (double)tensor_f32(to)[row * wide + i] != expected;
        }
    ck_assert_uint_eq(wrong, 0);
}

static size_t features_of(Shape shape)
{
    size_t features = 1;
    for (int i = 2; i < shape.rank; i++)
        features *= (size_t)shape.dims[i];
    return features;
}

/* Forward and Backward of one input, padded and raw. */
static void check(Modality modality, Tensor input)
{
    const size_t rows = (size_t)(input.shape.dims[0] * input.shape.dims[1]), features = features_of(input.shape);
    for (int i = 0; i < 2; i++) {
        const Echo *echo = i == 0 ? &padded : &raw;
        const Shape shape = echo->raw ? input.shape : shape_of(input.shape.dims[0], input.shape.dims[1], DIM);
        const size_t width = features_of(shape);
        TestRequest request = request_of(modality, &input, NULL);
        handle_forward(echo_handler(echo), &request, 1);
        ck_assert_msg(request.status == STATUS_OK, "%s", request.error.message);
        ck_assert(!request.has_version);
        ck_assert(shape_equal(request.answer.shape, shape));
        expect_doubled(&request.answer, width, &input, features, rows);
        request_free(&request);

        Tensor gradient = numbers(shape);
        request = request_of(modality, &input, &gradient);
        handle_backward(echo_handler(echo), &request);
        ck_assert_msg(request.status == STATUS_OK, "%s", request.error.message);
        if (modality == MODALITY_TEXT) {
            ck_assert(shape_equal(request.answer.shape, shape_of(1, 1)));
            ck_assert_double_eq(element(&request.answer, 0), 0);
        } else {
            ck_assert(shape_equal(request.answer.shape, input.shape));
            expect_doubled(&request.answer, features, &gradient, width, rows);
        }
        request_free(&request);
        tensor_destroy(&gradient);
    }
    tensor_destroy(&input);
}

START_TEST(tensors)
{
    const int64_t features[] = {1, 3, 511, 512, 513, 1024};
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        check(MODALITY_TENSOR, numbers(shape_of(2, 3, features[i])));
}
END_TEST

START_TEST(images)
{
    check(MODALITY_IMAGE, numbers(shape_of(2, 2, 3, 5, 7)));
    check(MODALITY_IMAGE, numbers(shape_of(3, 1, 1, 28, 28)));
}
END_TEST

START_TEST(texts)
{
    check(MODALITY_TEXT, ids(shape_of(1, 1)));
    check(MODALITY_TEXT, ids(shape_of(3, 200)));
}
END_TEST

/* Longer than a block, in rows that don't end where blocks do. */
START_TEST(tensors_of_many_blocks)
{
    check(MODALITY_TENSOR, numbers(shape_of(1, 1, 50000)));
    check(MODALITY_TENSOR, numbers(shape_of(100, 3, 513)));
    check(MODALITY_TENSOR, numbers(shape_of(101, 5, 77)));
    check(MODALITY_TENSOR, numbers(shape_of(150, 1, DIM)));
    check(MODALITY_TEXT, ids(shape_of(7, 2500)));
}
END_TEST

/* Every place of a block, at its end and in a cut part too. */
START_TEST(values_that_are_not_finite_are_refused)
{
    const size_t places[] = {0, 15, 16, 600, 16383, 16384, 39999};
    const float values[] = {NAN, -NAN, INFINITY, -INFINITY};
    Tensor input = numbers(shape_of(1, 1, 40000)), gradient = numbers(shape_of(1, 1, DIM));
    for (size_t p = 0; p < sizeof places / sizeof *places; p++)
        for (size_t v = 0; v < 4; v++) {
            char words[40];
            const float kept = tensor_f32(&input)[places[p]];
            tensor_f32(&input)[places[p]] = values[v];
            snprintf(words, sizeof words, "element %zu of the input", places[p]);
            for (int kind = 0; kind < 3; kind++) {
                TestRequest request = request_of(MODALITY_TENSOR, &input, kind < 2 ? NULL : &gradient);
                if (kind < 2)
                    handle_forward(echo_handler(kind == 0 ? &padded : &raw), &request, 1);
                else
                    handle_backward(echo_handler(&padded), &request);
                expect_failure(&request, STATUS_INVALID_ARGUMENT, words);
            }
            tensor_f32(&input)[places[p]] = kept;
        }
    tensor_f32(&gradient)[77] = NAN;
    TestRequest request = request_of(MODALITY_TENSOR, &input, &gradient);
    handle_backward(echo_handler(&padded), &request);
    expect_failure(&request, STATUS_INVALID_ARGUMENT, "element 77 of the gradient");
    tensor_destroy(&input);
    tensor_destroy(&gradient);
}
END_TEST

START_TEST(twice_the_largest_number_is_no_answer)
{
    Tensor input = numbers(shape_of(1, 1, 20));
    tensor_f32(&input)[7] = 3e38f;
    TestRequest request = request_of(MODALITY_TENSOR, &input, NULL);
    handle_forward(echo_handler(&raw), &request, 1);
    expect_failure(&request, STATUS_INTERNAL, "overflow");
    tensor_destroy(&input);
}
END_TEST

/* Ids of 8 bytes become rows of 2 KiB. */
START_TEST(an_answer_beyond_the_limit_is_refused)
{
    const Echo echo = {.max_answer_bytes = 9 * DIM * sizeof(float)};
    for (int64_t count = 9; count <= 10; count++) {
        Tensor input = ids(shape_of(1, count));
        TestRequest request = request_of(MODALITY_TEXT, &input, NULL);
        handle_forward(echo_handler(&echo), &request, 1);
        if (count == 9)
            ck_assert_int_eq(request.status, STATUS_OK);
        else
            expect_failure(&request, STATUS_RESOURCE_EXHAUSTED, "[1, 10, 512]");
        request_free(&request);
        tensor_destroy(&input);
    }
}
END_TEST

START_TEST(gradients_of_another_shape_are_refused)
{
    Tensor input = numbers(shape_of(2, 1, 5)), gradient = numbers(shape_of(2, 1, 5));
    TestRequest request = request_of(MODALITY_TENSOR, &input, &gradient);
    handle_backward(echo_handler(&padded), &request);
    expect_failure(&request, STATUS_INVALID_ARGUMENT, "[2, 1, 512]");
    tensor_destroy(&input);
    tensor_destroy(&gradient);
}
END_TEST

SUITE_MAIN("echo", tensors, images, texts, tensors_of_many_blocks, values_that_are_not_finite_are_refused,
           twice_the_largest_number_is_no_answer, an_answer_beyond_the_limit_is_refused,
           gradients_of_another_shape_are_refused)
