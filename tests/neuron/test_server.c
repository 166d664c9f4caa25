/* The soma server behind its handler, without a network: answers, gradients, new weights, and what it refuses. */
#include "neuron/server.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "graph/ops.h"
#include "support/suite.h"
#include "train/toy.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, DIM = SOMA_NETWORK_DIM };

static Error error;

/* --- weights, requests, and the truth --- */

/* A backend with the soma's parameters, drawn from `seed`. */
typedef struct Weights {
    Backend *backend;
    Variables *variables;
} Weights;

static Graph *answering(int64_t rows, int64_t side)
{
    Graph *g = graph_create(DTYPE_F32, false);
    SomaConfig config = {.batch = rows, .rows = side, .columns = side, .answering = true};
    graph_output(g, "hidden", soma_mnist.declare(g, &config).local_hidden);
    return g;
}

static Weights weights_make(uint64_t seed)
{
    Weights weights = {.backend = toy_backend("reference", 1)};
    Graph *g = answering(1, SIDE);
    ck_assert_int_eq(variables_create(weights.backend, &weights.variables, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(weights.variables, g, seed, NULL), STATUS_OK);
    graph_destroy(g);
    return weights;
}

static void weights_free(Weights *weights)
{
    variables_destroy(weights->variables);
    backend_close(weights->backend);
}

static SomaServer *serve(const Weights *weights, const char *device, int threads, bool fold, bool learn)
{
    SomaServer *server = NULL;
    const SomaServerOptions options = {
        .soma = &soma_mnist, .device = device, .threads = threads, .fold = fold, .learn = learn};
    ck_assert_msg(server_create(&options, weights->variables, &server, &error) == STATUS_OK, "%s", error.message);
    return server;
}

/* [batch, seq, 1, side, side] of numbers in 0..1. */
static Tensor images_make(int64_t batch, int64_t seq, int64_t side, uint64_t seed)
{
    Tensor images;
    Rng rng = rng_make(seed, RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(batch, seq, 1, side, side), &images, NULL), STATUS_OK);
    for (int64_t i = 0; i < batch * seq * side * side; i++)
        tensor_f32(&images)[i] = (float)rng_uniform(&rng);
    return images;
}

static Tensor gradients_make(int64_t batch, int64_t seq, double scale)
{
    Tensor gradients;
    Rng rng = rng_make(3, RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(batch, seq, DIM), &gradients, NULL), STATUS_OK);
    for (int64_t i = 0; i < batch * seq * DIM; i++)
        tensor_f32(&gradients)[i] = (float)(scale * rng_normal(&rng));
    return gradients;
}

static Tensor ask(SomaServer *server, const Tensor *images)
{
    Tensor answer = {0};
    const AxonHandler handler = server_handler(server);
    ck_assert_msg(handler.forward(handler.context, images, MODALITY_IMAGE, &answer, &error) == STATUS_OK, "%s",
                  error.message);
    return answer;
}

static Tensor ask_backward(SomaServer *server, const Tensor *images, const Tensor *gradients)
{
    Tensor answer = {0};
    const AxonHandler handler = server_handler(server);
    ck_assert_msg(handler.backward(handler.context, images, MODALITY_IMAGE, gradients, &answer, &error) == STATUS_OK,
                  "%s", error.message);
    return answer;
}

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

static double distance(const Tensor *a, const Tensor *b)
{
    double sum = 0, norm = 0;
    ck_assert_uint_eq(a->size, b->size);
    for (size_t i = 0; i < a->size / sizeof(float); i++) {
        const double x = (double)tensor_f32(a)[i], y = (double)tensor_f32(b)[i];
        sum += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(sum / norm);
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
        ck_assert_int_eq(server_publish(server, before.variables, NULL), STATUS_OK);
        Tensor images = images_make(rows[i], 1, SIDE, 4);
        Tensor old = ask(server, &images), old_truth = truth(&before, &images), new_truth = truth(&after, &images);
        ck_assert_int_eq(server_publish(server, after.variables, NULL), STATUS_OK);
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

/* --- learning from Backward --- */

static Trainer *trainer_make(Backend *backend)
{
    const TrainerOptions options = {
        .soma = &soma_mnist, .rows = SIDE, .columns = SIDE, .peer_gradient_scale = 1, .seed = 1};
    Trainer *trainer = NULL;
    ck_assert_int_eq(trainer_create(backend, &options, &trainer, &error), STATUS_OK);
    return trainer;
}

static void step(Trainer *trainer, float lr)
{
    TrainerBatch batch;
    TrainerLosses losses;
    ck_assert_int_eq(trainer_batch(trainer, 2, false, &batch, &error), STATUS_OK);
    for (int i = 0; i < 2 * PIXELS; i++)
        batch.images[i] = (float)(i % 7) / 7;
    batch.labels[0] = 3;
    batch.labels[1] = 8;
    ck_assert_int_eq(trainer_step(trainer, 0, (double)lr, &losses, &error), STATUS_OK);
}

/* How far the peers' gradients moved all parameters: ||with - without|| / lr. */
static double moved(Trainer *with, Trainer *without, double lr)
{
    double sum = 0;
    Variables *a = trainer_variables(with), *b = trainer_variables(without);
    for (int i = 0; i < variables_count(b); i++) {
        if (!variables_trainable(b, i)) continue;
        Tensor x = toy_read(a, variables_name(b, i)), y = toy_read(b, variables_name(b, i));
        for (size_t k = 0; k < x.size / sizeof(float); k++)
            sum += pow((double)tensor_f32(&x)[k] - (double)tensor_f32(&y)[k], 2);
        tensor_destroy(&x);
        tensor_destroy(&y);
    }
    return sqrt(sum) / lr;
}

/* Calls Backward `calls` times with gradients of this size, and takes them; returns how far they move a step. */
static double learn_from(double size, int calls, int64_t *count, int64_t *rejected)
{
    const float lr = 0.5f;
    Backend *backend = toy_backend("cpu", 1);
    Trainer *with = trainer_make(backend), *without = trainer_make(backend);
    Weights weights = {.variables = trainer_variables(with)};
    SomaServer *server = serve(&weights, "cpu", 1, true, true);
    Tensor images = images_make(2, 1, SIDE, 6), seed = gradients_make(2, 1, size);
    for (int i = 0; i < calls; i++) {
        Tensor answer = ask_backward(server, &images, &seed);
        tensor_destroy(&answer);
    }
    ck_assert_int_eq(server_take_gradients(server, with, count, &error), STATUS_OK);
    *rejected = server_rejected_gradients(server);
    step(with, lr);
    step(without, lr);
    const double result = moved(with, without, (double)lr);
    int64_t nothing;
    ck_assert_int_eq(server_take_gradients(server, with, &nothing, &error), STATUS_OK);
    ck_assert_int_eq(nothing, 0);
    tensor_destroy(&images);
    tensor_destroy(&seed);
    server_destroy(server);
    trainer_destroy(with);
    trainer_destroy(without);
    backend_close(backend);
    return result;
}

/* Small gradients add up; large ones are clipped to norm 1, each and together. */
START_TEST(gradients_reach_the_trainer)
{
    int64_t count, rejected;
    const double one = learn_from(1e-4, 1, &count, &rejected);
    ck_assert_int_eq(count, 1);
    ck_assert_double_gt(one, 1e-5);
    ck_assert_double_lt(one, 1);
    const double three = learn_from(1e-4, 3, &count, &rejected);
    ck_assert_int_eq(count, 3);
    ck_assert_double_eq_tol(three, 3 * one, 1e-2 * one);
    ck_assert_double_eq_tol(learn_from(100, 1, &count, &rejected), 1, 1e-4);
    ck_assert_double_eq_tol(learn_from(100, 4, &count, &rejected), 1, 1e-4);
    ck_assert_int_eq(rejected, 0);
}
END_TEST

START_TEST(gradients_that_overflow_are_rejected)
{
    int64_t count, rejected;
    ck_assert_double_eq(learn_from(1e38, 2, &count, &rejected), 0);
    ck_assert_int_eq(count, 0);
    ck_assert_int_eq(rejected, 2);
}
END_TEST

START_TEST(a_server_that_does_not_learn_keeps_nothing)
{
    Backend *backend = toy_backend("cpu", 1);
    Trainer *trainer = trainer_make(backend);
    Weights weights = {.variables = trainer_variables(trainer)};
    SomaServer *server = serve(&weights, "cpu", 1, true, false);
    Tensor images = images_make(1, 1, SIDE, 6), seed = gradients_make(1, 1, 1);
    Tensor answer = ask_backward(server, &images, &seed);
    int64_t count = -1;
    ck_assert_int_eq(server_take_gradients(server, trainer, &count, &error), STATUS_OK);
    ck_assert_int_eq(count, 0);
    tensor_destroy(&images);
    tensor_destroy(&seed);
    tensor_destroy(&answer);
    server_destroy(server);
    trainer_destroy(trainer);
    backend_close(backend);
}
END_TEST

/* --- what is refused --- */

static void expect_refusal(SomaServer *server, Tensor input, Modality modality, const char *words)
{
    Tensor answer = {0};
    const AxonHandler handler = server_handler(server);
    error = (Error){0};
    ck_assert_int_eq(handler.forward(handler.context, &input, modality, &answer, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, words) != NULL, "expected '%s' in: %s", words, error.message);
    tensor_destroy(&answer);
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
    Tensor images = images_make(2, 1, SIDE, 1), seed = gradients_make(1, 2, 1), answer = {0};
    const AxonHandler handler = server_handler(server);
    ck_assert_int_eq(handler.backward(handler.context, &images, MODALITY_IMAGE, &seed, &answer, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "[1, 2, 512]"));
    ck_assert_ptr_nonnull(strstr(error.message, "[2, 1, 512]"));
    Tensor good = ask(server, &images); /* and it goes on */
    tensor_destroy(&good);
    tensor_destroy(&images);
    tensor_destroy(&seed);
    server_destroy(server);
    weights_free(&weights);
}
END_TEST

/* --- threads --- */

typedef struct Caller {
    SomaServer *server;
    atomic_bool stop;
    atomic_int answers;
} Caller;

static void *call_on(void *argument)
{
    Caller *caller = argument;
    Tensor images = images_make(3, 1, SIDE, 6), seed = gradients_make(3, 1, 1);
    while (!atomic_load(&caller->stop)) {
        Tensor a = ask(caller->server, &images), b = ask_backward(caller->server, &images, &seed);
        atomic_fetch_add(&caller->answers, 1);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
    tensor_destroy(&images);
    tensor_destroy(&seed);
    return NULL;
}

/* The learner publishes and takes while the axon's worker answers: ThreadSanitizer watches. */
START_TEST(answering_and_learning_at_once)
{
    Backend *backend = toy_backend("cpu", 2);
    Trainer *trainer = trainer_make(backend);
    Weights weights = {.variables = trainer_variables(trainer)};
    Caller caller = {.server = serve(&weights, "cpu", 2, true, true)};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, call_on, &caller), 0);
    int64_t taken = 0, count;
    for (int i = 0; i < 20 || atomic_load(&caller.answers) < 5; i++) {
        ck_assert_int_eq(server_take_gradients(caller.server, trainer, &count, &error), STATUS_OK);
        taken += count;
        step(trainer, 0.01f);
        ck_assert_int_eq(server_publish(caller.server, trainer_variables(trainer), &error), STATUS_OK);
    }
    atomic_store(&caller.stop, true);
    pthread_join(thread, NULL);
    ck_assert_int_gt(taken, 0);
    server_destroy(caller.server);
    trainer_destroy(trainer);
    backend_close(backend);
}
END_TEST

SUITE_MAIN("server", answers_are_those_of_a_plan, sequences_are_rows_and_images_of_any_size,
           long_requests_are_answered_in_pieces, any_number_of_image_sizes, published_weights_switch_every_answer,
           the_image_gradient_is_that_of_finite_differences, both_devices_give_the_same_gradient,
           gradients_reach_the_trainer, gradients_that_overflow_are_rejected,
           a_server_that_does_not_learn_keeps_nothing, requests_that_are_no_images_are_refused,
           answering_and_learning_at_once)
