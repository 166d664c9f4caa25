/* Training on the simulated device in each precision: f32 follows the reference backend, f16 scales its loss and leaves
 * out the steps that overflow, and bf16 learns as well as f32. MNIST is read from the folder that NEURON_DATA names;
 * without it, those tests say so and pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/loader.h"
#include "graph/ops.h"
#include "support/folder.h"
#include "support/suite.h"
#include "tensor/safetensors.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/toy.h"
#include "train/trainer.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, ROWS = 6, MOST_STEPS = 128 };

static Error error;

static void require(Status status)
{
    ck_assert_msg(status == STATUS_OK, "%s: %s", status_name(status), error.message);
}

/* The simulated device; NULL, and a message, where this build has none. */
static Backend *sim_backend(Precision precision)
{
    Backend *backend = NULL;
    const BackendOptions options = {.threads = 1, .precision = precision};
    if (backend_open("sim", &options, &backend, &error) == STATUS_OK) return backend;
    printf("skipped: %s\n", error.message);
    return NULL;
}

static Trainer *create(Backend *backend, TrainerOptions options)
{
    Trainer *trainer = NULL;
    options.soma = &soma_mnist;
    options.rows = options.columns = SIDE;
    options.seed = 1;
    require(trainer_create(backend, &options, &trainer, &error));
    return trainer;
}

static const TrainerOptions plain = {.sgd = {.momentum = 0.9}};

/* Fills a batch of ROWS that depends on `seed` alone. */
static TrainerBatch fill(Trainer *trainer, int peers, uint64_t seed)
{
    TrainerBatch batch;
    Dataset set = toy_dataset(ROWS, SIDE, seed);
    require(trainer_batch(trainer, ROWS, peers > 0, &batch, &error));
    for (int64_t i = 0; i < ROWS * PIXELS; i++)
        batch.images[i] = (float)((const uint8_t *)set.images.data)[i] / 255;
    for (int64_t i = 0; i < ROWS; i++)
        batch.labels[i] = ((const uint8_t *)set.labels.data)[i];
    Rng rng = rng_make(seed, RNG_STREAM_TEST + 2);
    for (int64_t i = 0; i < peers * ROWS * SOMA_NETWORK_DIM; i++)
        batch.answers[i] = (float)fabs(rng_normal(&rng));
    for (int p = 0; p < peers; p++)
        batch.arrived[p] = 1;
    dataset_destroy(&set);
    return batch;
}

static double step(Trainer *trainer, int64_t number, double lr)
{
    TrainerLosses losses;
    fill(trainer, 0, (uint64_t)number + 10);
    require(trainer_step(trainer, number, lr, &losses, &error));
    return losses.loss;
}

/* --- the loss scale of f16 --- */

static void write_scale(Trainer *trainer, float scale, int32_t good_steps)
{
    Variables *v = trainer_variables(trainer);
    require(variables_write(v, variables_find(v, "loss_scale"), &scale, sizeof scale, &error));
    require(variables_write(v, variables_find(v, "loss_scale.good_steps"), &good_steps, sizeof good_steps, &error));
}

static void expect_scale(Trainer *trainer, double scale, int good_steps)
{
    const Variables *v = trainer_variables(trainer);
    Tensor found = toy_read(v, "loss_scale"), good = toy_read(v, "loss_scale.good_steps");
    ck_assert_double_eq((double)*(const float *)found.data, scale);
    ck_assert_int_eq(*(const int32_t *)good.data, good_steps);
    tensor_destroy(&found);
    tensor_destroy(&good);
}

START_TEST(only_f16_scales_its_loss)
{
    for (int p = 0; p < PRECISION_COUNT; p++) {
        Backend *backend = sim_backend((Precision)p);
        if (backend == NULL) return;
        ck_assert_int_eq(backend_precision(backend), p);
        Trainer *trainer = create(backend, plain);
        const bool scales = variables_find(trainer_variables(trainer), "loss_scale") >= 0;
        ck_assert_int_eq(scales, p == PRECISION_F16);
        if (scales) expect_scale(trainer, LOSS_SCALE_FIRST, 0);
        trainer_destroy(trainer);
        backend_close(backend);
    }
}
END_TEST

START_TEST(the_scale_doubles_after_many_good_steps)
{
    Backend *backend = sim_backend(PRECISION_F16);
    if (backend == NULL) return;
    Trainer *trainer = create(backend, plain);
    step(trainer, 0, 0.01);
    expect_scale(trainer, LOSS_SCALE_FIRST, 1);
    write_scale(trainer, 1024, LOSS_SCALE_INTERVAL - 2);
    step(trainer, 1, 0.01);
    expect_scale(trainer, 1024, LOSS_SCALE_INTERVAL - 1);
    step(trainer, 2, 0.01);
    expect_scale(trainer, 2048, 0);
    step(trainer, 3, 0.01);
    expect_scale(trainer, 2048, 1);
    trainer_destroy(trainer);
    backend_close(backend);
}
END_TEST

/* Everything but the loss scale. */
static void copy_all(Variables *to, const Variables *from)
{
    for (int i = 0; i < variables_count(from); i++) {
        const char *name = variables_name(from, i);
        Tensor values = toy_read(from, name);
        if (!loss_scale_has_state(name))
            require(variables_write(to, variables_find(to, name), values.data, values.size, &error));
        tensor_destroy(&values);
    }
}

static void expect_unchanged(const Variables *found, const Variables *expected)
{
    for (int i = 0; i < variables_count(expected); i++) {
        const char *name = variables_name(expected, i);
        if (loss_scale_has_state(name)) continue;
        Tensor a = toy_read(found, name), b = toy_read(expected, name);
        ck_assert_msg(memcmp(a.data, b.data, a.size) == 0, "'%s' has changed", name);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
}

/* At 2^24 the gradient of a wrong logit of 6 rows is some 10^6, more than F16 holds: that step changes neither
 * parameters nor momenta, and its loss is right all the same. The scale halves until steps are good again. */
START_TEST(a_step_that_overflows_changes_nothing)
{
    Backend *backend = sim_backend(PRECISION_F16);
    if (backend == NULL) return;
    Trainer *trainer = create(backend, plain), *twin = create(backend, plain);
    step(trainer, 0, 0.05); /* so that momenta aren't zero */
    copy_all(trainer_variables(twin), trainer_variables(trainer));
    write_scale(trainer, LOSS_SCALE_MOST, 1234);
    const double expected = step(twin, 1, 0), found = step(trainer, 1, 0.05); /* the loss is that before the update */
    ck_assert_double_eq(found, expected);
    expect_scale(trainer, LOSS_SCALE_MOST / 2, 0);
    copy_all(trainer_variables(twin), trainer_variables(trainer));
    double scale = LOSS_SCALE_MOST / 2;
    for (int tries = 0; tries < 24; tries++) {
        step(trainer, 2, 0.05);
        Tensor now = toy_read(trainer_variables(trainer), "loss_scale");
        const double next = (double)*(const float *)now.data;
        tensor_destroy(&now);
        if (next == scale) break;
        ck_assert_double_eq(next, scale / 2);
        expect_unchanged(trainer_variables(trainer), trainer_variables(twin));
        scale = next;
    }
    ck_assert_double_gt(scale, 1024); /* 65504 / (5/6 / 6 rows) is more */
    expect_scale(trainer, scale, 1);
    trainer_destroy(trainer);
    trainer_destroy(twin);
    backend_close(backend);
}
END_TEST

/* Losses of some steps, of f16 and of f32: 11 bits of each value err by 2^-12 of it, and errors of many values
 * average out. */
START_TEST(f16_steps_follow_f32)
{
    Backend *half = sim_backend(PRECISION_F16);
    if (half == NULL) return;
    Backend *single = sim_backend(PRECISION_F32);
    Trainer *found = create(half, plain), *expected = create(single, plain);
    for (int i = 0; i < 12; i++) {
        const double a = step(found, i, 0.02), b = step(expected, i, 0.02);
        ck_assert_msg(fabs(a - b) <= 5e-3 * b, "loss of step %d is %g in f16 and %g in f32", i, a, b);
    }
    trainer_destroy(found);
    trainer_destroy(expected);
    backend_close(half);
    backend_close(single);
}
END_TEST

static double difference_of(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(difference / norm);
}

/* Gradients of one batch as a file, even where the scale is too large for them at first. Few rows, of which some values
 * fall on the other side of a relu or max_pool, differ by some hundredths (tests/models/test_mnist.c); a scale of two
 * that were left would be a difference of 1. */
START_TEST(saved_gradients_are_unscaled)
{
    Backend *half = sim_backend(PRECISION_F16);
    if (half == NULL) return;
    Backend *single = toy_backend("cpu", 1);
    Trainer *found = create(half, plain), *expected = create(single, plain);
    Folder folder = folder_make();
    char a[FOLDER_PATH_SIZE], b[FOLDER_PATH_SIZE];
    Safetensors *ours = NULL, *theirs = NULL;
    fill(found, 0, 3);
    fill(expected, 0, 3);
    write_scale(found, LOSS_SCALE_MOST, 77);
    require(trainer_save_gradients(found, 0, folder_path(&folder, "a", a), &error));
    require(trainer_save_gradients(expected, 0, folder_path(&folder, "b", b), &error));
    expect_scale(found, LOSS_SCALE_MOST, 77);
    require(safetensors_open(a, &ours, &error));
    require(safetensors_open(b, &theirs, &error));
    ck_assert_uint_eq(safetensors_count(ours), safetensors_count(theirs));
    for (size_t i = 0; i < safetensors_count(theirs); i++) {
        const char *name = safetensors_name(theirs, i);
        const Tensor *x = safetensors_find(ours, name), *y = safetensors_find(theirs, name);
        ck_assert_msg(x != NULL, "there is no gradient of '%s'", name);
        const double difference = difference_of(x->data, y->data, y->size / sizeof(float));
        ck_assert_msg(difference <= 0.15, "gradient of '%s' differs by %g of its norm", name, difference);
    }
    safetensors_close(ours);
    safetensors_close(theirs);
    folder_remove(&folder);
    trainer_destroy(found);
    trainer_destroy(expected);
    backend_close(half);
    backend_close(single);
}
END_TEST

/* --- peers, in f16 --- */

/* One step with two peers: what leaves for them, copied. */
static float *answer_gradients(Trainer *trainer, double lr)
{
    const size_t count = 2 * ROWS * SOMA_NETWORK_DIM;
    float *copy = malloc(count * sizeof *copy);
    TrainerLosses losses;
    const TrainerBatch batch = fill(trainer, 2, 5);
    require(trainer_step(trainer, 0, lr, &losses, &error));
    memcpy(copy, batch.answer_gradients, count * sizeof *copy);
    return copy;
}

START_TEST(gradients_of_answers_leave_unscaled_and_finite)
{
    Backend *half = sim_backend(PRECISION_F16);
    if (half == NULL) return;
    Backend *single = toy_backend("cpu", 1);
    const TrainerOptions options = {.peers = 2, .distill_targets = true};
    const size_t count = 2 * ROWS * SOMA_NETWORK_DIM;
    Trainer *found = create(half, options), *expected = create(single, options);
    float *a = answer_gradients(found, 0), *b = answer_gradients(expected, 0);
    ck_assert_double_le(difference_of(a, b, count), 0.15); /* as above */
    write_scale(found, LOSS_SCALE_MOST, 0);
    free(a);
    a = answer_gradients(found, 0);
    for (size_t i = 0; i < count; i++)
        ck_assert_float_eq(a[i], 0);
    expect_scale(found, LOSS_SCALE_MOST / 2, 0);
    free(a);
    free(b);
    trainer_destroy(found);
    trainer_destroy(expected);
    backend_close(half);
    backend_close(single);
}
END_TEST

/* Every element of one parameter's "<name>.peer" is 1/64; all others stay zero. */
static Variables *peer_gradient(Backend *backend, const char *parameter, Shape shape)
{
    Variables *made = NULL;
    Graph *g = graph_create(DTYPE_F32, false);
    char name[64];
    snprintf(name, sizeof name, "%s.peer", parameter);
    graph_state(g, name, DTYPE_F32, shape, INITIALIZE_ONE, 0);
    require(variables_create(backend, &made, &error));
    require(variables_declare(made, g, 1, &error));
    graph_destroy(g);
    Tensor values = toy_read(made, name);
    for (int64_t i = 0; i < shape_count(shape); i++)
        tensor_f32(&values)[i] = 1.0f / 64;
    require(variables_write(made, 0, values.data, values.size, &error));
    tensor_destroy(&values);
    return made;
}

/* What peers sent moves a parameter by lr times it, whatever the loss's scale is: 8 / 64, of a norm below 1. */
START_TEST(gradients_of_peers_are_not_scaled)
{
    static const char *const parameter = "hidden_layer2.bias";
    Backend *backend = sim_backend(PRECISION_F16);
    if (backend == NULL) return;
    const TrainerOptions options = {.learn_from_peers = true, .peer_gradient_scale = 1};
    Trainer *with = create(backend, options), *without = create(backend, options);
    Variables *sent = peer_gradient(backend, parameter, shape_of(SOMA_NETWORK_DIM));
    require(trainer_add_peer_gradients(with, sent, &error));
    step(with, 0, 8);
    step(without, 0, 8);
    Tensor a = toy_read(trainer_variables(with), parameter), b = toy_read(trainer_variables(without), parameter);
    for (int i = 0; i < SOMA_NETWORK_DIM; i++)
        ck_assert_float_eq_tol(tensor_f32(&b)[i] - tensor_f32(&a)[i], 0.125f, 1e-6f);
    tensor_destroy(&a);
    tensor_destroy(&b);
    expect_scale(with, LOSS_SCALE_FIRST, 1);
    variables_destroy(sent);
    trainer_destroy(with);
    trainer_destroy(without);
    backend_close(backend);
}
END_TEST

/* --- a run goes on where it was --- */

START_TEST(the_scale_is_in_checkpoints)
{
    Backend *backend = sim_backend(PRECISION_F16);
    if (backend == NULL) return;
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    CheckpointValues values = {.count = 0};
    Trainer *first = create(backend, plain), *second = create(backend, plain);
    write_scale(first, 512, LOSS_SCALE_INTERVAL - 2);
    step(first, 0, 0.05);
    require(checkpoint_save(folder_path(&folder, "run", path), trainer_variables(first), &values, "{}", &error));
    require(checkpoint_load(path, trainer_variables(second), &values, &error));
    expect_scale(second, 512, LOSS_SCALE_INTERVAL - 1);
    step(first, 1, 0.05);
    step(second, 1, 0.05);
    expect_scale(second, 1024, 0);
    toy_assert_equal(trainer_variables(second), trainer_variables(first));
    trainer_destroy(first);
    trainer_destroy(second);
    folder_remove(&folder);
    backend_close(backend);
}
END_TEST

/* --- MNIST --- */

/* False, and a message, where there is none. */
static bool load_mnist(DatasetSplit split, Dataset *out)
{
    const char *data = getenv("NEURON_DATA");
    if (data != NULL && dataset_load_mnist(data, split, out, &error) == STATUS_OK) return true;
    printf("skipped: NEURON_DATA names no folder with MNIST\n");
    return false;
}

static Loader *load_batches(const Dataset *set, int64_t batch, LoaderShuffle shuffle)
{
    Loader *loader = NULL;
    const LoaderOptions options = {.dataset = set,
                                   .end = set->images.shape.dims[0],
                                   .labelled = true,
                                   .batch = batch,
                                   .shuffle = shuffle,
                                   .seed = 1,
                                   .stream = RNG_STREAM_SHUFFLE};
    require(loader_create(&options, &loader, &error));
    return loader;
}

/* Trains on the loader's batches; losses[i] (NULL: not wanted) of each step. The rate falls linearly to a tenth of
 * `lr` with `falling`. */
static void train(Trainer *trainer, Loader *loader, int64_t rows, int steps, double lr, bool falling, double *losses)
{
    for (int i = 0; i < steps; i++) {
        TrainerBatch batch;
        TrainerLosses found;
        int64_t count;
        const double rate = falling ? lr * (1 - 0.9 * i / steps) : lr;
        require(trainer_batch(trainer, rows, false, &batch, &error));
        loader_next(loader, batch.images, batch.labels, &count);
        ck_assert_int_eq(count, rows);
        require(trainer_step(trainer, i, rate, &found, &error));
        if (losses != NULL) losses[i] = found.loss;
    }
}

/* The same steps on the reference and the simulated device, in f32: losses, and in the end all parameters, agree within
 * 1e-4. Momenta are gradients, which jump: of the millions of values that go through a relu or max_pool, one may lie so
 * near to the kink that two orders of summation put it on different sides. */
/* The reference's plain loops are minutes slower under a sanitizer, which has other tests of the same code. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static void compare_trajectories(int64_t rows, int steps, double lr, double dropout)
{
    Dataset set;
    double expected[MOST_STEPS], found[MOST_STEPS];
    Backend *sim = sim_backend(PRECISION_F32);
    if (sim == NULL || SANITIZED || !load_mnist(DATASET_TRAIN, &set)) {
        backend_close(sim);
        return;
    }
    Backend *reference = toy_backend("reference", 1);
    const TrainerOptions options = {.dropout = dropout, .sgd = {.momentum = 0.9}};
    Trainer *truth = create(reference, options), *trainer = create(sim, options);
    Loader *loader = load_batches(&set, rows, LOADER_SHUFFLE_NONE);
    train(truth, loader, rows, steps, lr, false, expected);
    require(loader_seek(loader, (LoaderPosition){0}, &error));
    train(trainer, loader, rows, steps, lr, false, found);
    double most = 0, worst = 0;
    for (int i = 0; i < steps; i++)
        most = fmax(most, fabs(found[i] - expected[i]));
    const Variables *v = trainer_variables(truth);
    for (int i = 0; i < variables_count(v); i++) {
        if (!variables_trainable(v, i)) continue;
        const char *name = variables_name(v, i);
        Tensor a = toy_read(trainer_variables(trainer), name), b = toy_read(v, name);
        worst = fmax(worst, difference_of(a.data, b.data, b.size / sizeof(float)));
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
    printf("%d steps of %ld at lr %g, dropout %g: losses %.4g .. %.4g, within %.2g; parameters within %.2g\n", steps,
           (long)rows, lr, dropout, expected[0], expected[steps - 1], most, worst);
    fflush(stdout);
    ck_assert_double_le(most, 1e-4);
    ck_assert_double_le(worst, 1e-4);
    loader_destroy(loader);
    trainer_destroy(truth);
    trainer_destroy(trainer);
    backend_close(reference);
    backend_close(sim);
    dataset_destroy(&set);
}

START_TEST(fast_steps_follow_the_reference)
{
    compare_trajectories(64, 20, 0.03, 0);
    compare_trajectories(64, 20, 0.03, 0.5);
}
END_TEST

START_TEST(slow_steps_follow_the_reference)
{
    compare_trajectories(64, 100, 0.001, 0);
    compare_trajectories(64, 100, 0.001, 0.5);
}
END_TEST

/* Accuracy on the test images after 600 steps of 64. */
static double accuracy(Backend *backend, const Dataset *training, const Dataset *test)
{
    Trainer *trainer = create(backend, plain);
    Evaluator *evaluator = NULL;
    Evaluation result;
    Loader *loader = load_batches(training, 64, LOADER_SHUFFLE_EPOCH);
    train(trainer, loader, 64, 600, 0.02, true, NULL);
    const EvaluatorOptions options = {.soma = &soma_mnist, .rows = SIDE, .columns = SIDE, .batch = 500};
    require(evaluator_create(backend, trainer_variables(trainer), &options, &evaluator, &error));
    require(evaluator_run(evaluator, test, false, NULL, NULL, NULL, &result, &error));
    evaluator_destroy(evaluator);
    loader_destroy(loader);
    trainer_destroy(trainer);
    return result.accuracy;
}

START_TEST(bf16_learns_as_well_as_f32)
{
    Dataset training, test;
    Backend *sim = sim_backend(PRECISION_BF16);
    if (SANITIZED || sim == NULL || !load_mnist(DATASET_TRAIN, &training)) {
        backend_close(sim);
        return;
    }
    ck_assert(load_mnist(DATASET_TEST, &test));
    Backend *cpu = toy_backend("cpu", 1);
    const double expected = accuracy(cpu, &training, &test), found = accuracy(sim, &training, &test);
    printf("accuracy after 600 steps of 64: %.2f %% in bf16 on sim, %.2f %% in f32 on cpu\n", 100 * found,
           100 * expected);
    fflush(stdout);
    ck_assert_double_le(fabs(found - expected), 0.003);
    backend_close(sim);
    backend_close(cpu);
    dataset_destroy(&training);
    dataset_destroy(&test);
}
END_TEST

SUITE_MAIN("precision", only_f16_scales_its_loss, the_scale_doubles_after_many_good_steps,
           a_step_that_overflows_changes_nothing, f16_steps_follow_f32, saved_gradients_are_unscaled,
           gradients_of_answers_leave_unscaled_and_finite, gradients_of_peers_are_not_scaled,
           the_scale_is_in_checkpoints, fast_steps_follow_the_reference, slow_steps_follow_the_reference,
           bf16_learns_as_well_as_f32)
