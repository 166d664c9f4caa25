/* The soma server behind its handler, without a network: answers, gradients, new weights, and what it refuses. */
#include "neuron/served.h"

/* What the plain loops answer for all rows at once. */
static Tensor truth(const Weights *weights, const Tensor *images)
{
    const int64_t rows = images->shape.dims[0] * images->shape.dims[1], side = images->shape.dims[3];
    Graph *g = answering(rows, side);
    Plan *plan = NULL;
    Tensor answer;
    ck_assert_int_eq(plan_compile(weights->backend, g, weights->variables, NULL, &plan, NULL), STATUS_OK);
    memcpy(plan_input(plan, "image").data, images->data, images->size);
    ck_assert_int_eq(plan_run(plan, NULL), STATUS_OK);
    const Tensor hidden = plan_output(plan, "hidden");
    ck_assert_int_eq(tensor_copy(&hidden, &answer, NULL), STATUS_OK);
    plan_destroy(plan);
    graph_destroy(g);
    return answer;
}

/* --- Forward --- */

static void compare_forward(int64_t batch, int64_t seq, int64_t side, int threads, bool fold)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", threads, fold, false);
    Tensor images = images_make(batch, seq, side, 2), found = ask(server, &images), expected = truth(&weights, &images);
    ck_assert(shape_equal(found.shape, shape_of(batch, seq, DIM)));
    const double difference = distance(&found, &expected);
    ck_assert_msg(difference < 1e-5, "[%ld, %ld] images of side %ld differ by %g (fold %d)", (long)batch, (long)seq,
                  (long)side, difference, fold);
    tensor_destroy(&images);
    tensor_destroy(&found);
    tensor_destroy(&expected);
    server_destroy(server);
    weights_free(&weights);
}

START_TEST(answers_are_those_of_a_plan)
{
    const int64_t rows[] = {1, 2, 3, 5, 17, 33};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        compare_forward(rows[i], 1, SIDE, 1 + (int)i % 2, false);
        compare_forward(rows[i], 1, SIDE, 1, true);
    }
}
END_TEST

START_TEST(sequences_are_rows_and_images_of_any_size)
{
    compare_forward(1, 1, 1, 1, true);
    compare_forward(1, 1, 256, 1, true);
    compare_forward(2, 3, SIDE, 1, false);
    compare_forward(1, 5, 32, 2, true);
}
END_TEST

START_TEST(long_requests_are_answered_in_pieces)
{
    compare_forward(256, 1, 8, 2, true);
    compare_forward(257, 1, 8, 2, true);
    compare_forward(3, 100, 8, 2, false);
}
END_TEST

/* More sizes than plans are kept: the first one is compiled again, and answers the same. */
START_TEST(any_number_of_image_sizes)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, false, false);
    Tensor images = images_make(1, 1, 9, 2), first = ask(server, &images);
    for (int64_t side = 10; side < 45; side++) {
        Tensor others = images_make(1, 1, side, 2), answer = ask(server, &others);
        tensor_destroy(&others);
        tensor_destroy(&answer);
    }
    Tensor again = ask(server, &images);
    ck_assert_mem_eq(again.data, first.data, first.size);
    tensor_destroy(&images);
    tensor_destroy(&first);
    tensor_destroy(&again);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* Every plan that is kept must follow: the few rows that read weights in place, and the many that pack them. */
START_TEST(published_weights_switch_every_answer)
{
    Weights before = weights_make(1), after = weights_make(2);
    SomaServer *server = serve(&before, "cpu", 2, true, false);
    const int64_t rows[] = {1, 4, 16, 64};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_int_eq(server_publish(server, before.variables, 1, NULL), STATUS_OK);
        Tensor images = images_make(rows[i], 1, SIDE, 4);
        Tensor old = ask(server, &images), old_truth = truth(&before, &images), new_truth = truth(&after, &images);
        ck_assert_int_eq(server_publish(server, after.variables, 2, NULL), STATUS_OK);
        Tensor new = ask(server, &images);
        ck_assert_double_lt(distance(&old, &old_truth), 1e-5);
        ck_assert_double_lt(distance(&new, &new_truth), 1e-5);
        ck_assert_double_gt(distance(&new, &old), 0.1);
        tensor_destroy(&images);
        tensor_destroy(&old);
        tensor_destroy(&new);
        tensor_destroy(&old_truth);
        tensor_destroy(&new_truth);
    }
    server_destroy(server);
    weights_free(&before);
    weights_free(&after);
}
END_TEST

/* --- Backward --- */

static double dot(const Tensor *a, const Tensor *b)
{
    double sum = 0;
    for (size_t i = 0; i < a->size / sizeof(float); i++)
        sum += (double)tensor_f32(a)[i] * (double)tensor_f32(b)[i];
    return sum;
}

/* hidden . seed of the images, moved by scale u. */
static double loss_at(SomaServer *server, const Tensor *images, const Tensor *u, float scale, const Tensor *seed)
{
    Tensor moved;
    ck_assert_int_eq(tensor_copy(images, &moved, NULL), STATUS_OK);
    for (size_t i = 0; i < moved.size / sizeof(float); i++)
        tensor_f32(&moved)[i] += scale * tensor_f32(u)[i];
    Tensor hidden = ask(server, &moved);
    const double loss = dot(&hidden, seed);
    tensor_destroy(&moved);
    tensor_destroy(&hidden);
    return loss;
}

/* (L(x + e u) - L(x - e u)) / 2e = gradient . u. Each direction u is a random half of the gradient's own elements, so
 * that the product is large. */
START_TEST(the_image_gradient_is_that_of_finite_differences)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "reference", 1, false, false);
    Tensor images = images_make(2, 1, SIDE, 5), seed = gradients_make(2, 1, 1);
    Tensor gradient = ask_backward(server, &images, &seed), direction;
    ck_assert(shape_equal(gradient.shape, images.shape));
    ck_assert_int_eq(tensor_copy(&gradient, &direction, NULL), STATUS_OK);
    const float e = 0.001f, norm = (float)sqrt(dot(&gradient, &gradient));
    Rng rng = rng_make(9, RNG_STREAM_TEST);
    for (int d = 0; d < 5; d++) {
        for (int i = 0; i < 2 * PIXELS; i++)
            tensor_f32(&direction)[i] = rng_below(&rng, 2) == 0 ? 0 : tensor_f32(&gradient)[i] / norm;
        const double up = loss_at(server, &images, &direction, e, &seed);
        const double down = loss_at(server, &images, &direction, -e, &seed);
        ck_assert_double_eq_tol((up - down) / (2 * (double)e), dot(&gradient, &direction), 0.02 * (double)norm);
    }
    tensor_destroy(&images);
    tensor_destroy(&seed);
    tensor_destroy(&gradient);
    tensor_destroy(&direction);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

START_TEST(both_devices_give_the_same_gradient)
{
    Weights weights = weights_make(1);
    SomaServer *cpu = serve(&weights, "cpu", 2, true, true);
    SomaServer *reference = serve(&weights, "reference", 1, false, false);
    const int64_t rows[] = {1, 3, 20, 260};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Tensor images = images_make(rows[i], 1, 16, 6), seed = gradients_make(rows[i], 1, 1);
        Tensor a = ask_backward(cpu, &images, &seed), b = ask_backward(reference, &images, &seed);
        ck_assert_double_lt(distance(&a, &b), 1e-5);
        tensor_destroy(&images);
        tensor_destroy(&seed);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
    server_destroy(cpu);
    server_destroy(reference);
    weights_free(&weights);
}
END_TEST

/* --- what is refused --- */

static void expect_refusal(SomaServer *server, Tensor input, Modality modality, const char *words)
{
    TestRequest request = request_of(modality, &input, NULL);
    handle_forward(server_handler(server), &request, 1);
    expect_failure(&request, STATUS_INVALID_ARGUMENT, words);
}

START_TEST(requests_that_are_no_images_are_refused)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    static float zeros[3 * 300 * 300];
    expect_refusal(server, tensor_view(DTYPE_I64, shape_of(2, 3), zeros), MODALITY_TEXT, "mnist");
    expect_refusal(server, tensor_view(DTYPE_F32, shape_of(1, 1, 3, 28, 28), zeros), MODALITY_IMAGE,
                   "[1, 1, 3, 28, 28]");
    expect_refusal(server, tensor_view(DTYPE_F32, shape_of(1, 1, 1, 257, 3), zeros), MODALITY_IMAGE, "256");
    expect_refusal(server, tensor_view(DTYPE_F32, shape_of(1, 1, 1, 3, 257), zeros), MODALITY_IMAGE, "256");
    float pixels[6] = {0, 1, 2, 3, NAN, 5};
    expect_refusal(server, tensor_view(DTYPE_F32, shape_of(1, 1, 1, 2, 3), pixels), MODALITY_IMAGE, "pixel 4");
    pixels[4] = INFINITY;
    expect_refusal(server, tensor_view(DTYPE_F32, shape_of(1, 1, 1, 2, 3), pixels), MODALITY_IMAGE, "pixel 4");
    Tensor images = images_make(2, 1, SIDE, 1), seed = gradients_make(1, 2, 1);
    TestRequest request = request_of(MODALITY_IMAGE, &images, &seed);
    handle_backward(server_handler(server), &request);
    expect_failure(&request, STATUS_INVALID_ARGUMENT, "[1, 2, 512]");
    expect_failure(&request, STATUS_INVALID_ARGUMENT, "[2, 1, 512]");
    Tensor good = ask(server, &images); /* and it goes on */
    tensor_destroy(&good);
    tensor_destroy(&images);
    tensor_destroy(&seed);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* In a piece of its own, far behind the first: the sentence counts from the request's beginning. */
START_TEST(a_bad_pixel_of_a_long_request_is_named)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    Tensor images = images_make(600, 1, 4, 1);
    tensor_f32(&images)[599 * 16 + 3] = NAN;
    expect_refusal(server, images, MODALITY_IMAGE, "pixel 9587 ");
    tensor_destroy(&images);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* Images of one pixel are four bytes on the wire, and 2 KiB in the answer. */
START_TEST(an_answer_beyond_the_limit_is_refused_before_it_is_made)
{
    Weights weights = weights_make(1);
    SomaServerOptions options = server_options();
    options.max_answer_bytes = 300 * DIM * sizeof(float);
    SomaServer *server = serve_with(&weights, &options);
    Tensor images = images_make(301, 1, 1, 1);
    TestRequest request = request_of(MODALITY_IMAGE, &images, NULL);
    handle_forward(server_handler(server), &request, 1);
    expect_failure(&request, STATUS_RESOURCE_EXHAUSTED, "[301, 1, 512]");
    tensor_destroy(&images);
    images = images_make(300, 1, 1, 1);
    Tensor answer = ask(server, &images);
    tensor_destroy(&answer);
    tensor_destroy(&images);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

SUITE_MAIN("server", answers_are_those_of_a_plan, sequences_are_rows_and_images_of_any_size,
           long_requests_are_answered_in_pieces, any_number_of_image_sizes, published_weights_switch_every_answer,
           the_image_gradient_is_that_of_finite_differences, both_devices_give_the_same_gradient,
           requests_that_are_no_images_are_refused, a_bad_pixel_of_a_long_request_is_named,
           an_answer_beyond_the_limit_is_refused_before_it_is_made)
