/* Requests that are computed together, and weights that change meanwhile: nobody's answer depends on the company it
 * came in, and every answer is of exactly one published set of weights. */
#include <pthread.h>
#include <stdatomic.h>

#include "neuron/served.h"

enum { VERSIONS = 4, MOST = 64 };

/* `count` requests of 1, 2, 3, 1, 2, ... rows; returns their rows. */
static int64_t requests_make(TestRequest *requests, Tensor *images, size_t count)
{
    int64_t rows = 0;
    for (size_t i = 0; i < count; i++) {
        images[i] = images_make(1 + (int64_t)i % 3, 1, SIDE, 100 + i);
        requests[i] = request_of(MODALITY_IMAGE, &images[i], NULL);
        rows += images[i].shape.dims[0];
    }
    return rows;
}

static void requests_free(TestRequest *requests, Tensor *images, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        request_free(&requests[i]);
        tensor_destroy(&images[i]);
    }
}

/* Not bit for bit: plans of different sizes add in different orders. */
static void expect_same_as_alone(SomaServer *server, const TestRequest *request, const Tensor *images)
{
    ck_assert_msg(request->status == STATUS_OK, "%s", request->error.message);
    Tensor alone = ask(server, images);
    ck_assert(shape_equal(request->answer.shape, alone.shape));
    ck_assert_double_lt(distance(&request->answer, &alone), 1e-6);
    tensor_destroy(&alone);
}

START_TEST(an_answer_is_the_same_in_any_company)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 2, true, false);
    const size_t counts[] = {1, 2, 3, 7, 20, MOST};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        TestRequest requests[MOST];
        Tensor images[MOST];
        requests_make(requests, images, counts[c]);
        handle_forward(server_handler(server), requests, counts[c]);
        for (size_t i = 0; i < counts[c]; i++)
            expect_same_as_alone(server, &requests[i], &images[i]);
        requests_free(requests, images, counts[c]);
    }
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* Within one size of plan not even a bit depends on a row's place, or on what stood there before. */
START_TEST(a_row_s_place_changes_no_bit)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    Tensor first[8] = {{0}}, images = images_make(1, 1, SIDE, 7), other = images_make(1, 1, SIDE, 8);
    for (size_t place = 0; place < 8; place++) {
        TestRequest requests[8];
        for (size_t i = 0; i < 8; i++)
            requests[i] = request_of(MODALITY_IMAGE, i == place ? &images : &other, NULL);
        handle_forward(server_handler(server), requests, 5 > place ? 5 : place + 1);
        ck_assert_int_eq(requests[place].status, STATUS_OK);
        ck_assert_int_eq(tensor_copy(&requests[place].answer, &first[place], NULL), STATUS_OK);
        ck_assert_mem_eq(first[place].data, first[0].data, first[0].size);
        for (size_t i = 0; i < 8; i++)
            request_free(&requests[i]);
    }
    for (size_t place = 0; place < 8; place++)
        tensor_destroy(&first[place]);
    tensor_destroy(&images);
    tensor_destroy(&other);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

START_TEST(a_request_that_is_not_finite_fails_alone)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    TestRequest requests[7];
    Tensor images[7];
    requests_make(requests, images, 7);
    tensor_f32(&images[0])[5] = INFINITY;
    tensor_f32(&images[4])[PIXELS + 2] = NAN;
    tensor_f32(&images[6])[0] = NAN;
    handle_forward(server_handler(server), requests, 7);
    expect_failure(&requests[0], STATUS_INVALID_ARGUMENT, "pixel 5 ");
    expect_failure(&requests[4], STATUS_INVALID_ARGUMENT, "pixel 786 ");
    expect_failure(&requests[6], STATUS_INVALID_ARGUMENT, "pixel 0 ");
    for (size_t i = 0; i < 7; i++)
        if (i != 0 && i != 4 && i != 6) expect_same_as_alone(server, &requests[i], &images[i]);
    requests_free(requests, images, 7);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

START_TEST(a_batch_of_which_nothing_is_finite_fails)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    TestRequest requests[3];
    Tensor images[3];
    requests_make(requests, images, 3);
    for (int i = 0; i < 3; i++)
        tensor_f32(&images[i])[i] = NAN;
    handle_forward(server_handler(server), requests, 3);
    for (int i = 0; i < 3; i++)
        expect_failure(&requests[i], STATUS_INVALID_ARGUMENT, "pixel");
    requests_free(requests, images, 3);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* Finite pixels whose answer overflows are the soma's failure, and theirs alone. */
START_TEST(an_answer_that_overflows_fails_alone)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    TestRequest requests[3];
    Tensor images[3];
    requests_make(requests, images, 3);
    for (int i = 0; i < PIXELS; i++)
        tensor_f32(&images[1])[i] = 3e38f;
    handle_forward(server_handler(server), requests, 3);
    expect_failure(&requests[1], STATUS_INTERNAL, "finite");
    expect_same_as_alone(server, &requests[0], &images[0]);
    expect_same_as_alone(server, &requests[2], &images[2]);
    requests_free(requests, images, 3);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* The handler asks for no more, but if it were given more, all would be answered. */
START_TEST(a_batch_of_more_rows_than_a_plan_takes)
{
    Weights weights = weights_make(1);
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    TestRequest requests[4];
    Tensor images[4];
    const int64_t rows[] = {200, 100, 300, 1};
    for (size_t i = 0; i < 4; i++) {
        images[i] = images_make(rows[i], 1, 8, i);
        requests[i] = request_of(MODALITY_IMAGE, &images[i], NULL);
    }
    handle_forward(server_handler(server), requests, 4);
    for (size_t i = 0; i < 4; i++)
        expect_same_as_alone(server, &requests[i], &images[i]);
    requests_free(requests, images, 4);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* --- weights that change meanwhile --- */

typedef struct Publishing {
    SomaServer *server;
    Weights weights;
    bool published;
} Publishing;

static void publish_now(void *context)
{
    Publishing *publishing = context;
    ck_assert_int_eq(server_publish(publishing->server, publishing->weights.variables, 7, &error), STATUS_OK);
    publishing->published = true;
}

/* In the middle of the handler, on its own thread: publish would never return if it waited for the handler. What is
 * being computed keeps its weights and their version; what comes next has the new ones. */
START_TEST(publishing_does_not_wait_for_a_handler)
{
    Weights before = weights_make(1);
    Publishing publishing = {.weights = weights_make(2)};
    publishing.server = serve(&before, "cpu", 1, true, false);
    Tensor images = images_make(3, 1, SIDE, 5), old = ask(publishing.server, &images);
    TestRequest during = request_of(MODALITY_IMAGE, &images, NULL), after = during;
    during.on_read = publish_now;
    during.context = &publishing;
    handle_forward(server_handler(publishing.server), &during, 1);
    ck_assert(publishing.published);
    ck_assert(during.has_version);
    ck_assert_uint_eq(during.version, 0);
    ck_assert_mem_eq(during.answer.data, old.data, old.size);
    handle_forward(server_handler(publishing.server), &after, 1);
    ck_assert_uint_eq(after.version, 7);
    ck_assert_double_gt(distance(&after.answer, &old), 0.1);
    request_free(&during);
    request_free(&after);
    tensor_destroy(&old);
    tensor_destroy(&images);
    server_destroy(publishing.server);
    weights_free(&before);
    weights_free(&publishing.weights);
}
END_TEST

START_TEST(of_several_sets_the_last_one_answers)
{
    Weights weights[VERSIONS];
    for (uint64_t v = 0; v < VERSIONS; v++)
        weights[v] = weights_make(v);
    SomaServer *server = serve(&weights[0], "cpu", 1, true, false);
    Tensor images = images_make(2, 1, SIDE, 5);
    for (uint64_t v = 1; v < VERSIONS; v++)
        ck_assert_int_eq(server_publish(server, weights[v].variables, v, &error), STATUS_OK);
    TestRequest request = request_of(MODALITY_IMAGE, &images, NULL);
    handle_forward(server_handler(server), &request, 1);
    ck_assert_uint_eq(request.version, VERSIONS - 1);
    SomaServer *other = serve(&weights[VERSIONS - 1], "cpu", 1, true, false);
    Tensor expected = ask(other, &images);
    ck_assert_mem_eq(request.answer.data, expected.data, expected.size);
    tensor_destroy(&expected);
    request_free(&request);
    tensor_destroy(&images);
    server_destroy(server);
    server_destroy(other);
    for (int v = 0; v < VERSIONS; v++)
        weights_free(&weights[v]);
}
END_TEST

typedef struct Publisher {
    SomaServer *server;
    Weights weights[VERSIONS];
    atomic_bool stop;
    atomic_uint_fast64_t published;
} Publisher;

/* Version v has the weights v % VERSIONS. */
static void *publish_on(void *argument)
{
    Publisher *publisher = argument;
    for (uint64_t v = 1; !atomic_load(&publisher->stop); v++) {
        const Variables *from = publisher->weights[v % VERSIONS].variables;
        ck_assert_int_eq(server_publish(publisher->server, from, v, &error), STATUS_OK);
        atomic_store(&publisher->published, v);
    }
    return NULL;
}

/* Each answer is, bit for bit, that of the version it says. */
START_TEST(every_answer_is_of_the_version_it_says)
{
    Publisher publisher = {.stop = false};
    Tensor images = images_make(3, 1, SIDE, 6), expected[VERSIONS];
    for (uint64_t v = 0; v < VERSIONS; v++) {
        publisher.weights[v] = weights_make(v);
        SomaServer *alone = serve(&publisher.weights[v], "cpu", 1, true, false);
        expected[v] = ask(alone, &images);
        server_destroy(alone);
    }
    publisher.server = serve(&publisher.weights[0], "cpu", 1, true, false);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, publish_on, &publisher), 0);
    uint64_t last = 0, changes = 0;
    for (int i = 0; i < 50 || changes < 5; i++) {
        TestRequest request = request_of(MODALITY_IMAGE, &images, NULL);
        handle_forward(server_handler(publisher.server), &request, 1);
        ck_assert_msg(request.status == STATUS_OK, "%s", request.error.message);
        ck_assert_uint_ge(request.version, last);
        changes += request.version != last;
        last = request.version;
        ck_assert_mem_eq(request.answer.data, expected[last % VERSIONS].data, expected[0].size);
        request_free(&request);
    }
    atomic_store(&publisher.stop, true);
    pthread_join(thread, NULL);
    GradientCounts counts;
    Tensor answer = ask(publisher.server, &images); /* the last one wasn't lost */
    server_gradient_counts(publisher.server, &counts);
    ck_assert_uint_eq(counts.version, atomic_load(&publisher.published));
    tensor_destroy(&answer);
    tensor_destroy(&images);
    server_destroy(publisher.server);
    for (int v = 0; v < VERSIONS; v++) {
        tensor_destroy(&expected[v]);
        weights_free(&publisher.weights[v]);
    }
}
END_TEST

SUITE_MAIN("server batch", an_answer_is_the_same_in_any_company, a_row_s_place_changes_no_bit,
           a_request_that_is_not_finite_fails_alone, a_batch_of_which_nothing_is_finite_fails,
           an_answer_that_overflows_fails_alone, a_batch_of_more_rows_than_a_plan_takes,
           publishing_does_not_wait_for_a_handler, of_several_sets_the_last_one_answers,
           every_answer_is_of_the_version_it_says)
