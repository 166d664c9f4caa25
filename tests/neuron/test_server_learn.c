/* Gradients that peers send: which reach the trainer, how large, and that taking them never waits. */
#include <pthread.h>
#include <stdatomic.h>

#include "neuron/served.h"

/* A server that learns, with a trainer of the same weights. */
typedef struct School {
    Backend *backend;
    Trainer *trainer, *untaught;
    SomaServer *server;
    Tensor images;
} School;

static School school_make(const SomaServerOptions *options)
{
    School school = {.backend = toy_backend("cpu", 1)};
    school.trainer = trainer_make(school.backend);
    school.untaught = trainer_make(school.backend);
    Weights weights = {.variables = trainer_variables(school.trainer)};
    school.server = serve_with(&weights, options);
    school.images = images_make(2, 1, SIDE, 6);
    return school;
}

static void school_free(School *school)
{
    tensor_destroy(&school->images);
    server_destroy(school->server);
    trainer_destroy(school->trainer);
    trainer_destroy(school->untaught);
    backend_close(school->backend);
}

static SomaServerOptions learning(void)
{
    SomaServerOptions options = server_options();
    options.learn = true;
    return options;
}

static TestRequest teach_as(School *school, double size, uint64_t caller, const uint64_t *version)
{
    Tensor seed = gradients_make(2, 1, size);
    TestRequest request = request_of(MODALITY_IMAGE, &school->images, &seed);
    request.asked.caller = caller;
    request.asked.has_version = version != NULL;
    if (version != NULL) request.asked.version = *version;
    handle_backward(server_handler(school->server), &request);
    tensor_destroy(&seed);
    request_free(&request);
    return request;
}

static void teach(School *school, double size, uint64_t caller)
{
    TestRequest request = teach_as(school, size, caller, NULL);
    ck_assert_msg(request.status == STATUS_OK, "%s", request.error.message);
    ck_assert(!request.has_version);
}

static int64_t take(School *school)
{
    int64_t count;
    ck_assert_int_eq(server_take_gradients(school->server, school->trainer, &count, &error), STATUS_OK);
    return count;
}

static uint64_t refused(School *school, GradientRefusal why)
{
    GradientCounts counts;
    server_gradient_counts(school->server, &counts);
    return counts.refused[why];
}

/* How far the peers' gradients move a step: ||with - without|| / lr. */
static double lesson(School *school)
{
    const float lr = 0.5f;
    double sum = 0;
    step(school->trainer, lr);
    step(school->untaught, lr);
    Variables *a = trainer_variables(school->trainer), *b = trainer_variables(school->untaught);
    for (int i = 0; i < variables_count(b); i++) {
        if (!variables_trainable(b, i)) continue;
        Tensor x = toy_read(a, variables_name(b, i)), y = toy_read(b, variables_name(b, i));
        for (size_t k = 0; k < x.size / sizeof(float); k++)
            sum += pow((double)tensor_f32(&x)[k] - (double)tensor_f32(&y)[k], 2);
        tensor_destroy(&x);
        tensor_destroy(&y);
    }
    return sqrt(sum) / (double)lr;
}

/* `calls` gradients of this size, taken at once. */
static double learn_from(const SomaServerOptions *options, double size, int calls)
{
    School school = school_make(options);
    for (int i = 0; i < calls; i++)
        teach(&school, size, 1);
    ck_assert_int_eq(take(&school), calls);
    ck_assert_int_eq(take(&school), 0);
    const double moved = lesson(&school);
    school_free(&school);
    return moved;
}

/* Small gradients add up; large ones are clipped, each and together. */
START_TEST(gradients_reach_the_trainer)
{
    SomaServerOptions options = learning();
    const double one = learn_from(&options, 1e-4, 1);
    ck_assert_double_gt(one, 1e-5);
    ck_assert_double_lt(one, 1);
    ck_assert_double_eq_tol(learn_from(&options, 1e-4, 3), 3 * one, 1e-2 * one);
    ck_assert_double_eq_tol(learn_from(&options, 100, 1), 1, 1e-4);
    ck_assert_double_eq_tol(learn_from(&options, 100, 4), 1, 1e-4);
    options.gradients.clip = 0.125f; /* 4 of them are still within the sum's 1 */
    ck_assert_double_eq_tol(learn_from(&options, 100, 1), 0.125, 1e-4);
    ck_assert_double_eq_tol(learn_from(&options, 100, 4), 0.5, 1e-4);
}
END_TEST

START_TEST(a_server_that_does_not_learn_keeps_nothing)
{
    SomaServerOptions options = server_options();
    School school = school_make(&options);
    teach(&school, 1, 1);
    ck_assert_int_eq(take(&school), 0);
    school_free(&school);
}
END_TEST

/* Pieces of 256 rows are a gradient each. */
START_TEST(a_long_call_counts_for_each_piece)
{
    SomaServerOptions options = learning();
    options.gradients.budget = 2;
    School school = school_make(&options);
    Tensor images = images_make(600, 1, 4, 1), seed = gradients_make(600, 1, 1);
    Tensor answer = ask_backward(school.server, &images, &seed);
    ck_assert(shape_equal(answer.shape, images.shape));
    ck_assert_int_eq(take(&school), 2);
    ck_assert_uint_eq(refused(&school, GRADIENT_OVER_BUDGET), 1);
    tensor_destroy(&answer);
    tensor_destroy(&images);
    tensor_destroy(&seed);
    school_free(&school);
}
END_TEST

/* --- what isn't learnt from --- */

/* Finite as it came, but the parameters' gradient isn't. */
START_TEST(gradients_that_overflow_are_not_learnt)
{
    SomaServerOptions options = learning();
    School school = school_make(&options);
    teach(&school, 1e-4, 1);
    teach_as(&school, 1e38, 1, NULL);
    ck_assert_uint_eq(refused(&school, GRADIENT_NOT_FINITE), 1);
    ck_assert_int_eq(take(&school), 1);
    ck_assert_double_lt(lesson(&school), 1); /* finite: the sum was left alone */
    school_free(&school);
}
END_TEST

START_TEST(gradients_that_are_not_finite_fail)
{
    SomaServerOptions options = learning();
    School school = school_make(&options);
    Tensor seed = gradients_make(2, 1, 1);
    tensor_f32(&seed)[DIM + 3] = NAN;
    TestRequest request = request_of(MODALITY_IMAGE, &school.images, &seed);
    handle_backward(server_handler(school.server), &request);
    expect_failure(&request, STATUS_INVALID_ARGUMENT, "element 515 of the gradient is nan");
    ck_assert_uint_eq(refused(&school, GRADIENT_NOT_FINITE), 1);
    tensor_f32(&school.images)[3] = NAN; /* not a matter of gradients */
    request = request_of(MODALITY_IMAGE, &school.images, &seed);
    handle_backward(server_handler(school.server), &request);
    expect_failure(&request, STATUS_INVALID_ARGUMENT, "pixel 3 of the image is nan");
    ck_assert_uint_eq(refused(&school, GRADIENT_NOT_FINITE), 1);
    ck_assert_int_eq(take(&school), 0);
    tensor_destroy(&seed);
    school_free(&school);
}
END_TEST

/* Refused gradients are answered all the same, and with the same numbers. */
START_TEST(gradients_of_other_versions_are_stale)
{
    SomaServerOptions options = learning(); /* up to 10 steps old */
    School school = school_make(&options);
    const uint64_t versions[] = {29, 30, 40, 41}, taken[] = {0, 1, 1, 0};
    ck_assert_int_eq(server_publish(school.server, trainer_variables(school.trainer), 40, &error), STATUS_OK);
    uint64_t stale = 0;
    for (size_t i = 0; i < 4; i++) {
        TestRequest request = teach_as(&school, 1e-4, 1, &versions[i]);
        ck_assert_int_eq(request.status, STATUS_OK);
        stale += 1 - taken[i];
        ck_assert_int_eq(take(&school), (int64_t)taken[i]);
        ck_assert_uint_eq(refused(&school, GRADIENT_STALE), stale);
    }
    school_free(&school);
}
END_TEST

START_TEST(a_refused_gradient_is_answered_alike)
{
    SomaServerOptions options = learning();
    options.gradients.capacity = 1;
    School school = school_make(&options);
    Tensor seed = gradients_make(2, 1, 1);
    Tensor learnt = ask_backward(school.server, &school.images, &seed);
    Tensor queue_full = ask_backward(school.server, &school.images, &seed);
    ck_assert_uint_eq(refused(&school, GRADIENT_QUEUE_FULL), 1);
    ck_assert_double_lt(distance(&queue_full, &learnt), 1e-6);
    ck_assert_int_eq(take(&school), 1);
    tensor_destroy(&learnt);
    tensor_destroy(&queue_full);
    tensor_destroy(&seed);
    school_free(&school);
}
END_TEST

START_TEST(one_caller_can_not_fill_the_queue)
{
    SomaServerOptions options = learning();
    options.gradients.capacity = 5;
    options.gradients.budget = 3;
    School school = school_make(&options);
    for (int i = 0; i < 5; i++)
        teach(&school, 1e-4, 1);
    for (int i = 0; i < 5; i++)
        teach(&school, 1e-4, 2);
    ck_assert_uint_eq(refused(&school, GRADIENT_OVER_BUDGET), 2);
    ck_assert_uint_eq(refused(&school, GRADIENT_QUEUE_FULL), 3);
    GradientCounts counts;
    server_gradient_counts(school.server, &counts);
    ck_assert_uint_eq(counts.waiting, 5);
    ck_assert_uint_eq(counts.learnt, 0);
    ck_assert_int_eq(take(&school), 5);
    server_gradient_counts(school.server, &counts);
    ck_assert_uint_eq(counts.waiting, 0);
    ck_assert_uint_eq(counts.learnt, 5);
    teach(&school, 1e-4, 1); /* places are free again */
    ck_assert_int_eq(take(&school), 1);
    school_free(&school);
}
END_TEST

/* --- taking while the handler adds --- */

typedef struct Taking {
    School *school;
    int64_t count;
} Taking;

static void take_now(void *context)
{
    Taking *taking = context;
    taking->count = take(taking->school);
}

/* In the middle of the handler, on its own thread: take would never return if it waited for the handler. It gets
 * nothing then, and everything the next time, though the next gradient is being added at that moment too. */
START_TEST(taking_does_not_wait_for_a_handler)
{
    SomaServerOptions options = learning();
    School school = school_make(&options);
    Tensor seed = gradients_make(2, 1, 1e-4);
    Taking takings[2] = {{&school, -1}, {&school, -1}};
    for (int i = 0; i < 2; i++) {
        TestRequest request = request_of(MODALITY_IMAGE, &school.images, &seed);
        request.on_read = take_now;
        request.context = &takings[i];
        handle_backward(server_handler(school.server), &request);
        ck_assert_int_eq(request.status, STATUS_OK);
        request_free(&request);
    }
    ck_assert_int_eq(takings[0].count, 0);
    ck_assert_int_eq(takings[1].count, 1);
    const double first = lesson(&school);
    ck_assert_double_gt(first, 1e-5);
    ck_assert_int_eq(take(&school), 1); /* the second, which came while the first was taken */
    ck_assert_int_eq(take(&school), 0);
    tensor_destroy(&seed);
    school_free(&school);
}
END_TEST

typedef struct Caller {
    School *school;
    atomic_bool stop;
    atomic_int answers;
} Caller;

static void *call_on(void *argument)
{
    Caller *caller = argument;
    Tensor images = images_make(3, 1, SIDE, 6), seed = gradients_make(3, 1, 1);
    while (!atomic_load(&caller->stop)) {
        Tensor a = ask(caller->school->server, &images), b = ask_backward(caller->school->server, &images, &seed);
        atomic_fetch_add(&caller->answers, 1);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
    tensor_destroy(&images);
    tensor_destroy(&seed);
    return NULL;
}

/* The learner publishes and takes while another thread answers: ThreadSanitizer watches. Every gradient is learnt from
 * once, or refused. */
START_TEST(answering_and_learning_at_once)
{
    SomaServerOptions options = learning();
    options.threads = 2;
    School school = school_make(&options);
    Caller caller = {.school = &school};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, call_on, &caller), 0);
    int64_t taken = 0;
    for (uint64_t i = 1; i < 20 || atomic_load(&caller.answers) < 5; i++) {
        taken += take(&school);
        step(school.trainer, 0.01f);
        ck_assert_int_eq(server_publish(school.server, trainer_variables(school.trainer), i, &error), STATUS_OK);
    }
    atomic_store(&caller.stop, true);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++) {
        taken += take(&school);
        step(school.trainer, 0.01f);
    }
    GradientCounts counts;
    server_gradient_counts(school.server, &counts);
    ck_assert_uint_eq(counts.waiting, 0);
    ck_assert_uint_eq(counts.learnt, (uint64_t)taken);
    uint64_t all = counts.learnt;
    for (int i = 0; i < GRADIENT_REFUSALS; i++)
        all += counts.refused[i];
    ck_assert_uint_eq(all, (uint64_t)atomic_load(&caller.answers));
    school_free(&school);
}
END_TEST

SUITE_MAIN("server learn", gradients_reach_the_trainer, a_server_that_does_not_learn_keeps_nothing,
           a_long_call_counts_for_each_piece, gradients_that_overflow_are_not_learnt,
           gradients_that_are_not_finite_fail, gradients_of_other_versions_are_stale,
           a_refused_gradient_is_answered_alike, one_caller_can_not_fill_the_queue, taking_does_not_wait_for_a_handler,
           answering_and_learning_at_once)
