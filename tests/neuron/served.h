/* A soma server behind its handler, without a network: weights, images, gradients, and the truth. */
#pragma once

#include <math.h>

#include "graph/ops.h"
#include "neuron/requests.h"
#include "neuron/server.h"
#include "support/suite.h"
#include "train/toy.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, DIM = SOMA_NETWORK_DIM };

static Error error;

/* A backend with the soma's parameters, drawn from `seed`. */
typedef struct Weights {
    Backend *backend;
    Variables *variables;
} Weights;

static inline Graph *answering(int64_t rows, int64_t side)
{
    Graph *g = graph_create(DTYPE_F32, false);
    SomaConfig config = {.batch = rows, .rows = side, .columns = side, .answering = true};
    graph_output(g, "hidden", soma_mnist.declare(g, &config).local_hidden);
    return g;
}

/* On a backend that is open. */
static inline void weights_draw(Weights *weights, uint64_t seed)
{
    Graph *g = answering(1, SIDE);
    ck_assert_int_eq(variables_create(weights->backend, &weights->variables, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(weights->variables, g, seed, NULL), STATUS_OK);
    graph_destroy(g);
}

static inline Weights weights_make(uint64_t seed)
{
    Weights weights = {.backend = toy_backend("reference", 1)};
    weights_draw(&weights, seed);
    return weights;
}

static inline void weights_free(Weights *weights)
{
    variables_destroy(weights->variables);
    backend_close(weights->backend);
}

static inline SomaServerOptions server_options(void)
{
    return (SomaServerOptions){.soma = &soma_mnist,
                               .device = "cpu",
                               .threads = 1,
                               .fold = true,
                               .gradients = {.max_staleness = 10, .capacity = 64, .budget = 16, .clip = 1}};
}

static inline SomaServer *serve_with(const Weights *weights, const SomaServerOptions *options)
{
    SomaServer *server = NULL;
    ck_assert_msg(server_create(options, weights->variables, &server, &error) == STATUS_OK, "%s", error.message);
    return server;
}

static inline SomaServer *serve(const Weights *weights, const char *device, int threads, bool fold, bool learn)
{
    SomaServerOptions options = server_options();
    options.device = device;
    options.threads = threads;
    options.fold = fold;
    options.learn = learn;
    return serve_with(weights, &options);
}

/* [batch, seq, 1, side, side] of numbers in 0..1. */
static inline Tensor images_make(int64_t batch, int64_t seq, int64_t side, uint64_t seed)
{
    Tensor images;
    Rng rng = rng_make(seed, RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(batch, seq, 1, side, side), &images, NULL), STATUS_OK);
    for (int64_t i = 0; i < batch * seq * side * side; i++)
        tensor_f32(&images)[i] = (float)rng_uniform(&rng);
    return images;
}

static inline Tensor gradients_make(int64_t batch, int64_t seq, double scale)
{
    Tensor gradients;
    Rng rng = rng_make(3, RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(batch, seq, DIM), &gradients, NULL), STATUS_OK);
    for (int64_t i = 0; i < batch * seq * DIM; i++)
        tensor_f32(&gradients)[i] = (float)(scale * rng_normal(&rng));
    return gradients;
}

static inline Tensor ask(SomaServer *server, const Tensor *images)
{
    TestRequest request = request_of(MODALITY_IMAGE, images, NULL);
    handle_forward(server_handler(server), &request, 1);
    ck_assert_msg(request.status == STATUS_OK, "%s", request.error.message);
    return request.answer;
}

static inline Tensor ask_backward(SomaServer *server, const Tensor *images, const Tensor *gradients)
{
    TestRequest request = request_of(MODALITY_IMAGE, images, gradients);
    handle_backward(server_handler(server), &request);
    ck_assert_msg(request.status == STATUS_OK, "%s", request.error.message);
    return request.answer;
}

static inline double distance(const Tensor *a, const Tensor *b)
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

/* --- learning --- */

static inline Trainer *trainer_make(Backend *backend)
{
    const TrainerOptions options = {.soma = &soma_mnist,
                                    .rows = SIDE,
                                    .columns = SIDE,
                                    .peer_gradient_scale = 1,

                                    .seed = 1};
    Trainer *trainer = NULL;
    ck_assert_int_eq(trainer_create(backend, &options, &trainer, &error), STATUS_OK);
    return trainer;
}

static inline void step(Trainer *trainer, float lr)
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
