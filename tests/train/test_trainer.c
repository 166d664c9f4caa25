/* The local step: losses fall, peers' gradients change exactly what SGD says, and threads change nothing. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>

#include "graph/ops.h"
#include "support/suite.h"
#include "train/toy.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, NAME_SIZE = 192 };

static Error error;

static Trainer *create(Backend *backend, TrainerOptions options)
{
    Trainer *trainer = NULL;
    options.soma = &soma_mnist;
    options.rows = options.columns = SIDE;
    if (options.seed == 0) options.seed = 1;
    ck_assert_msg(trainer_create(backend, &options, &trainer, &error) == STATUS_OK, "%s", error.message);
    return trainer;
}

/* Fills a batch that depends on `seed` alone. */
static TrainerBatch fill(Trainer *trainer, int64_t rows, int peers, uint64_t seed)
{
    TrainerBatch batch;
    Dataset set = toy_dataset(rows, SIDE, seed);
    ck_assert_msg(trainer_batch(trainer, rows, peers > 0, &batch, &error) == STATUS_OK, "%s", error.message);
    for (int64_t i = 0; i < rows * PIXELS; i++)
        batch.images[i] = (float)((const uint8_t *)set.images.data)[i] / 255;
    for (int64_t i = 0; i < rows; i++)
        batch.labels[i] = ((const uint8_t *)set.labels.data)[i];
    Rng rng = rng_make(seed, RNG_STREAM_TEST + 2);
    for (int64_t i = 0; i < peers * rows * SOMA_NETWORK_DIM; i++)
        batch.answers[i] = (float)fabs(rng_normal(&rng));
    for (int p = 0; p < peers; p++)
        batch.arrived[p] = 1;
    dataset_destroy(&set);
    return batch;
}

static TrainerLosses step(Trainer *trainer, int64_t rows, int64_t number, double lr)
{
    TrainerLosses losses;
    fill(trainer, rows, 0, (uint64_t)number + 10);
    ck_assert_msg(trainer_step(trainer, number, lr, &losses, &error) == STATUS_OK, "%s", error.message);
    return losses;
}

START_TEST(losses_fall)
{
    Backend *backend = toy_backend("cpu", 2);
    Trainer *trainer = create(backend, (TrainerOptions){.sgd = {.momentum = 0.9}});
    const double first = step(trainer, 20, 0, 0.02).loss;
    ck_assert_double_eq_tol(first, log(10), 0.2); /* of ten classes, nothing known */
    double last = 0;
    for (int i = 1; i < 100; i++)
        last = step(trainer, 20, i, 0.02).loss;
    ck_assert_double_lt(last, first / 4);
    trainer_destroy(trainer);
    backend_close(backend);
}
END_TEST

START_TEST(parts_of_the_loss_add_up)
{
    Backend *backend = toy_backend("cpu", 1);
    Trainer *trainer = create(backend, (TrainerOptions){.peers = 3, .distill_targets = true});
    TrainerBatch batch = fill(trainer, 6, 3, 1);
    TrainerLosses losses;
    batch.labels[4] = batch.labels[5] = -1;
    ck_assert_int_eq(trainer_step(trainer, 0, 0.01, &losses, &error), STATUS_OK);
    ck_assert_double_gt(losses.imitation, 0);
    ck_assert_double_gt(losses.distillation, 0);
    ck_assert_double_eq_tol(losses.loss,
                            losses.local_target + losses.remote_target + losses.distillation + losses.imitation, 1e-5);
    losses = step(trainer, 6, 1, 0.01); /* alone */
    ck_assert_double_eq(losses.loss, losses.local_target);
    ck_assert_double_nan(losses.remote_target);
    ck_assert_double_nan(losses.distillation);
    trainer_destroy(trainer);
    backend_close(backend);
}
END_TEST

/* A peer that didn't arrive gets no gradient, and what stands in its answers doesn't matter. */
START_TEST(a_missing_peer_has_no_part)
{
    Backend *backend = toy_backend("cpu", 1);
    double found[2];
    for (int i = 0; i < 2; i++) {
        Trainer *trainer = create(backend, (TrainerOptions){.peers = 2});
        TrainerBatch batch = fill(trainer, 3, 2, 1);
        TrainerLosses losses;
        batch.arrived[1] = 0;
        for (int64_t k = 0; k < 3 * SOMA_NETWORK_DIM; k++)
            batch.answers[3 * SOMA_NETWORK_DIM + k] = (float)(i * 100);
        ck_assert_int_eq(trainer_step(trainer, 0, 0.01, &losses, &error), STATUS_OK);
        double present = 0, missing = 0;
        for (int64_t k = 0; k < 3 * SOMA_NETWORK_DIM; k++) {
            present += fabs((double)batch.answer_gradients[k]);
            missing += fabs((double)batch.answer_gradients[3 * SOMA_NETWORK_DIM + k]);
        }
        ck_assert_double_gt(present, 0);
        ck_assert_double_eq(missing, 0);
        found[i] = losses.loss;
        trainer_destroy(trainer);
    }
    ck_assert_double_eq(found[0], found[1]);
    backend_close(backend);
}
END_TEST

/* --- gradients from peers --- */

/* States "<parameter>.peer" of every parameter, filled with normal numbers that have this norm all together. */
static Variables *peer_gradients(Backend *backend, const Variables *parameters, double norm)
{
    Variables *made = NULL;
    Graph *g = graph_create(DTYPE_F32, false);
    char name[NAME_SIZE];
    double squares = 0;
    for (int i = 0; i < variables_count(parameters); i++) {
        if (!variables_trainable(parameters, i)) continue;
        snprintf(name, sizeof name, "%s.peer", variables_name(parameters, i));
        graph_state(g, name, DTYPE_F32, variables_shape(parameters, i), INITIALIZE_NORMAL, 1);
    }
    ck_assert_int_eq(variables_create(backend, &made, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(made, g, 5, NULL), STATUS_OK);
    graph_destroy(g);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < variables_count(made); i++) {
            Tensor values = toy_read(made, variables_name(made, i));
            for (size_t k = 0; k < values.size / sizeof(float); k++) {
                if (pass == 0) squares += pow((double)tensor_f32(&values)[k], 2);
                if (pass == 1) tensor_f32(&values)[k] *= (float)(norm / sqrt(squares));
            }
            ck_assert_int_eq(variables_write(made, i, values.data, values.size, NULL), STATUS_OK);
            tensor_destroy(&values);
        }
    return made;
}

/* without - with = lr factor p for every element of every parameter. */
static void expect_difference(const Variables *with, const Variables *without, const Variables *peer, double factor)
{
    char name[NAME_SIZE];
    for (int i = 0; i < variables_count(without); i++) {
        if (!variables_trainable(without, i)) continue;
        snprintf(name, sizeof name, "%s.peer", variables_name(without, i));
        Tensor a = toy_read(with, variables_name(without, i)), b = toy_read(without, variables_name(without, i));
        Tensor p = toy_read(peer, name);
        for (size_t k = 0; k < a.size / sizeof(float); k++) {
            const double moved = (double)tensor_f32(&b)[k] - (double)tensor_f32(&a)[k];
            const double wanted = factor * (double)tensor_f32(&p)[k];
            ck_assert_msg(fabs(moved - wanted) <= 1e-6 + 1e-4 * fabs(wanted), "%s[%zu] moved by %g, expected %g",
                          variables_name(without, i), k, moved, wanted);
        }
        tensor_destroy(&a);
        tensor_destroy(&b);
        tensor_destroy(&p);
    }
}

/* One step with gradients of this norm from peers and one without: lr 8, so that rounding of the weights is small. */
static void compare_peer_step(double norm, double scale, double factor)
{
    Backend *backend = toy_backend("cpu", 2);
    const TrainerOptions options = {.learn_from_peers = true, .peer_gradient_scale = scale};
    Trainer *with = create(backend, options), *without = create(backend, options);
    Variables *peer = peer_gradients(backend, trainer_variables(with), norm);
    Variables *handed = peer_gradients(backend, trainer_variables(with), norm);
    ck_assert_int_eq(trainer_add_peer_gradients(with, handed, &error), STATUS_OK);
    step(with, 5, 0, 8);
    step(without, 5, 0, 8);
    expect_difference(trainer_variables(with), trainer_variables(without), peer, 8 * factor);
    for (int i = 0; i < variables_count(handed); i++) { /* taken */
        Tensor values = toy_read(handed, variables_name(handed, i));
        for (size_t k = 0; k < values.size / sizeof(float); k++)
            ck_assert_float_eq(tensor_f32(&values)[k], 0);
        tensor_destroy(&values);
    }
    variables_destroy(peer);
    variables_destroy(handed);
    trainer_destroy(with);
    trainer_destroy(without);
    backend_close(backend);
}

START_TEST(peer_gradients_change_what_sgd_says)
{
    compare_peer_step(0.5, 1, 1);
    compare_peer_step(0.5, 0.25, 0.25);
    compare_peer_step(0.5, 0, 0);
}
END_TEST

START_TEST(peer_gradients_are_clipped_together)
{
    compare_peer_step(4, 1, 0.25);
    compare_peer_step(1e6, 0.5, 0.5e-6);
}
END_TEST

static void assert_same_parameters(const Variables *a, const Variables *b)
{
    for (int i = 0; i < variables_count(b); i++) {
        if (!variables_trainable(b, i)) continue;
        Tensor x = toy_read(a, variables_name(b, i)), y = toy_read(b, variables_name(b, i));
        ck_assert_msg(memcmp(x.data, y.data, x.size) == 0, "'%s' differs", variables_name(b, i));
        tensor_destroy(&x);
        tensor_destroy(&y);
    }
}

/* Neither in this step nor, by way of a state that kept it, in a later one. */
START_TEST(nan_from_a_peer_never_enters)
{
    const float poison[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof poison / sizeof *poison; i++) {
        Backend *backend = toy_backend("cpu", 1);
        const TrainerOptions options = {.learn_from_peers = true, .peer_gradient_scale = 1, .sgd = {.momentum = 0.9}};
        Trainer *with = create(backend, options), *without = create(backend, options);
        for (int round = 0; round < 2; round++) { /* the second time with a healthy gradient of no size */
            Variables *peer = peer_gradients(backend, trainer_variables(with), 0);
            const int index = variables_find(peer, "hidden_layer2.bias.peer");
            float values[512] = {0};
            if (round == 0) values[100] = poison[i];
            ck_assert_int_eq(variables_write(peer, index, values, sizeof values, NULL), STATUS_OK);
            ck_assert_int_eq(trainer_add_peer_gradients(with, peer, &error), STATUS_OK);
            for (int k = 0; k < 2; k++) {
                step(with, 5, 2 * round + k, 0.01);
                step(without, 5, 2 * round + k, 0.01);
            }
            assert_same_parameters(trainer_variables(with), trainer_variables(without));
            variables_destroy(peer);
        }
        trainer_destroy(with);
        trainer_destroy(without);
        backend_close(backend);
    }
}
END_TEST

/* --- errors --- */

/* Of few rows and of many: other kernels compute those. */
START_TEST(a_loss_that_is_not_finite_is_an_error)
{
    Backend *backend = toy_backend("cpu", 1);
    for (int rows = 2; rows <= 50; rows *= 5) {
        Trainer *trainer = create(backend, (TrainerOptions){0});
        TrainerBatch batch = fill(trainer, rows, 0, 1);
        TrainerLosses losses;
        batch.images[5] = NAN;
        ck_assert_int_eq(trainer_step(trainer, 41, 0.1, &losses, &error), STATUS_ABORTED);
        ck_assert_ptr_nonnull(strstr(error.message, "step 41"));
        trainer_destroy(trainer);
    }
    backend_close(backend);
}
END_TEST

START_TEST(a_label_that_is_no_class_is_an_error)
{
    Backend *backend = toy_backend("cpu", 1);
    Trainer *trainer = create(backend, (TrainerOptions){0});
    TrainerBatch batch = fill(trainer, 2, 0, 1);
    TrainerLosses losses;
    batch.labels[1] = 10;
    ck_assert_int_eq(trainer_step(trainer, 0, 0.1, &losses, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "row 1"));
    trainer_destroy(trainer);
    backend_close(backend);
}
END_TEST

/* --- threads: the same numbers, and for a given number of threads the same bits --- */

static Trainer *trained(Backend *backend, double *losses)
{
    const int64_t rows[] = {64, 33, 64, 6, 1, 64};
    Trainer *trainer = create(backend, (TrainerOptions){.dropout = 0.5, .sgd = {.momentum = 0.9}});
    for (int i = 0; i < 6; i++)
        losses[i] = step(trainer, rows[i], i, 0.02).loss;
    return trainer;
}

START_TEST(threads_do_not_change_training)
{
    const int threads[] = {1, 2, 3, 5};
    double expected[6], found[6], again[6];
    Backend *alone = toy_backend("reference", 1);
    Trainer *truth = trained(alone, expected);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        Backend *backend = toy_backend("cpu", threads[i]);
        Trainer *first = trained(backend, found), *second = trained(backend, again);
        for (int k = 0; k < 6; k++)
            ck_assert_msg(fabs(found[k] - expected[k]) < 1e-5 * expected[k],
                          "loss of step %d is %.9g with %d threads, %.9g by plain loops", k, found[k], threads[i],
                          expected[k]);
        toy_assert_equal(trainer_variables(second), trainer_variables(first));
        trainer_destroy(first);
        trainer_destroy(second);
        backend_close(backend);
    }
    trainer_destroy(truth);
    backend_close(alone);
}
END_TEST

SUITE_MAIN("trainer", losses_fall, parts_of_the_loss_add_up, a_missing_peer_has_no_part,
           peer_gradients_change_what_sgd_says, peer_gradients_are_clipped_together, nan_from_a_peer_never_enters,
           a_loss_that_is_not_finite_is_an_error, a_label_that_is_no_class_is_an_error, threads_do_not_change_training)
