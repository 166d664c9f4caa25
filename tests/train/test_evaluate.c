/* Accuracy and loss against a computation by hand, on a soma small enough for that; and the path through the peers. */
#include "train/evaluate.h"

#include <math.h>

#include "support/suite.h"
#include "train/toy.h"

enum { CLASSES = 3, PIXELS = 4, SAMPLES = 7 };

static Error error;

/* Local: logits = w pixels + b. Remote: the first peer's first three features. */
static SomaValues declare_small(Graph *g, const SomaConfig *c)
{
    SomaValues v;
    memset(&v, 0xff, sizeof v); /* VALUE_NONE */
    v.input = graph_input(g, "image", DTYPE_F32, shape_of(c->batch, 1, c->rows, c->columns));
    v.local_target = linear(g, flatten(g, v.input, 1), "target", .out = CLASSES);
    if (c->peers == 0) return v;
    v.answers = graph_input(g, "answers", DTYPE_F32, shape_of(c->peers, c->batch, SOMA_NETWORK_DIM));
    v.arrived = graph_input(g, "arrived", DTYPE_U8, shape_of(c->peers));
    Value first = reshape(g, slice(g, v.answers, 0, 0, 1), shape_of(c->batch, SOMA_NETWORK_DIM));
    v.remote_target = slice(g, first, 1, 0, CLASSES);
    return v;
}

static const Soma small = {"small", CLASSES, 2, 2, declare_small};

static const float weights[CLASSES][PIXELS] = {{4, 0, 0, 1}, {0, 3, 1, 0}, {-2, 0, 5, 1}};
static const float bias[CLASSES] = {0.5f, 0, -1};
static uint8_t pixels[SAMPLES][PIXELS] = {{255, 0, 0, 0},   {0, 255, 0, 10}, {0, 0, 255, 20},     {200, 100, 0, 0},
                                          {90, 90, 90, 90}, {10, 0, 200, 0}, {255, 255, 255, 255}};
static uint8_t labels[SAMPLES] = {0, 1, 2, 1, 0, 2, 2};

static Dataset seven(void)
{
    return (Dataset){.images = tensor_view(DTYPE_U8, shape_of(SAMPLES, 1, 2, 2), pixels),
                     .labels = tensor_view(DTYPE_U8, shape_of(SAMPLES), labels),
                     .classes = CLASSES,
                     .name = "seven"};
}

/* -log softmax[label] in double, and whether the label has the largest logit. */
static double loss_of(const double logits[CLASSES], int label, bool *right)
{
    double sum = 0;
    *right = true;
    for (int c = 0; c < CLASSES; c++) {
        sum += exp(logits[c]);
        if (logits[c] > logits[label]) *right = false;
    }
    return log(sum) - logits[label];
}

static Evaluation by_hand(void)
{
    Evaluation expected = {.samples = SAMPLES, .answered = SAMPLES};
    for (int n = 0; n < SAMPLES; n++) {
        double logits[CLASSES];
        bool right;
        for (int c = 0; c < CLASSES; c++) {
            logits[c] = (double)bias[c];
            for (int i = 0; i < PIXELS; i++)
                logits[c] += (double)weights[c][i] * pixels[n][i] / 255;
        }
        expected.loss += loss_of(logits, labels[n], &right) / SAMPLES;
        expected.accuracy += right ? 1.0 / SAMPLES : 0;
    }
    return expected;
}

typedef struct Setting {
    Backend *backend;
    Variables *variables;
    Evaluator *evaluator;
} Setting;

static void set_weights(Variables *variables, const float *w, const float *b)
{
    const size_t w_bytes = sizeof weights, b_bytes = sizeof bias;
    ck_assert_int_eq(variables_write(variables, variables_find(variables, "target.weight"), w, w_bytes, NULL),
                     STATUS_OK);
    ck_assert_int_eq(variables_write(variables, variables_find(variables, "target.bias"), b, b_bytes, NULL), STATUS_OK);
}

static Setting set_up(const char *device, int64_t batch, int peers)
{
    Setting setting = {.backend = toy_backend(device, 1)};
    const EvaluatorOptions options = {.soma = &small, .rows = 2, .columns = 2, .peers = peers, .batch = batch};
    ck_assert_int_eq(variables_create(setting.backend, &setting.variables, NULL), STATUS_OK);
    ck_assert_msg(evaluator_create(setting.backend, setting.variables, &options, &setting.evaluator, &error) ==
                      STATUS_OK,
                  "%s", error.message);
    set_weights(setting.variables, &weights[0][0], bias);
    return setting;
}

static void tear_down(Setting *setting)
{
    evaluator_destroy(setting->evaluator);
    variables_destroy(setting->variables);
    backend_close(setting->backend);
}

START_TEST(accuracy_and_loss_are_those_by_hand)
{
    const Evaluation expected = by_hand();
    const Dataset set = seven();
    ck_assert_double_gt(expected.accuracy, 0);
    ck_assert_double_lt(expected.accuracy, 1);
    for (int64_t batch = 1; batch <= SAMPLES + 2; batch++) { /* with and without a partial last batch */
        Setting setting = set_up(batch % 2 == 0 ? "cpu" : "reference", batch, 0);
        Evaluation found;
        ck_assert_int_eq(evaluator_run(setting.evaluator, &set, false, NULL, NULL, NULL, &found, &error), STATUS_OK);
        ck_assert_int_eq(found.samples, SAMPLES);
        ck_assert_double_eq_tol(found.accuracy, expected.accuracy, 1e-12);
        ck_assert_double_eq_tol(found.loss, expected.loss, 1e-6);
        tear_down(&setting);
    }
}
END_TEST

START_TEST(it_follows_the_variables)
{
    Setting setting = set_up("cpu", 3, 0);
    const Dataset set = seven();
    const float zeros[CLASSES * PIXELS] = {0}, second[CLASSES] = {0, 100, 0};
    Evaluation found;
    set_weights(setting.variables, zeros, second);
    ck_assert_int_eq(evaluator_run(setting.evaluator, &set, false, NULL, NULL, NULL, &found, &error), STATUS_OK);
    ck_assert_double_eq_tol(found.accuracy, 2.0 / 7, 1e-12);
    set_weights(setting.variables, &weights[0][0], bias);
    ck_assert_int_eq(evaluator_run(setting.evaluator, &set, false, NULL, NULL, NULL, &found, &error), STATUS_OK);
    ck_assert_double_eq_tol(found.loss, by_hand().loss, 1e-6);
    tear_down(&setting);
}
END_TEST

/* --- the remote path --- */

typedef struct Network {
    int asked, silent_from; /* calls answered before it falls silent */
} Network;

/* The first peer answers with 10 at the feature of the brightest of the first three pixels; the second is always away.
 */
static size_t answer(void *context, const float *images, int64_t count, float *answers, uint8_t *arrived)
{
    Network *network = context;
    arrived[0] = network->asked++ < network->silent_from;
    arrived[1] = 0;
    for (int64_t i = 0; i < 2 * count * SOMA_NETWORK_DIM; i++)
        answers[i] = 0;
    for (int64_t n = 0; arrived[0] && n < count; n++) {
        int best = 0;
        for (int i = 1; i < CLASSES; i++)
            if (images[n * PIXELS + i] > images[n * PIXELS + best]) best = i;
        answers[n * SOMA_NETWORK_DIM + best] = 10;
    }
    return arrived[0];
}

/* Samples 0, 1, 2 and 5 are right by the brightest pixel; 4 and 6 tie, and the first pixel is taken: 4 is right. */
START_TEST(answers_are_asked_for_and_joined)
{
    const Dataset set = seven();
    const double right = log(1 + 2 * exp(-10)), wrong = right + 10;
    for (int64_t batch = 1; batch <= SAMPLES + 1; batch++) {
        Setting setting = set_up("cpu", batch, 2);
        Network network = {.silent_from = 100};
        Evaluation found;
        ck_assert_int_eq(evaluator_run(setting.evaluator, &set, true, answer, &network, NULL, &found, &error),
                         STATUS_OK);
        ck_assert_int_eq(network.asked, (SAMPLES + batch - 1) / batch);
        ck_assert_int_eq(found.answered, SAMPLES);
        ck_assert_double_eq_tol(found.accuracy, 5.0 / 7, 1e-12);
        ck_assert_double_eq_tol(found.loss, (5 * right + 2 * wrong) / 7, 1e-6);
        tear_down(&setting);
    }
}
END_TEST

START_TEST(rows_without_an_answer_are_wrong_and_have_no_loss)
{
    const Dataset set = seven();
    Setting setting = set_up("cpu", 3, 2);
    Network network = {.silent_from = 1};
    Evaluation found;
    ck_assert_int_eq(evaluator_run(setting.evaluator, &set, true, answer, &network, NULL, &found, &error), STATUS_OK);
    ck_assert_int_eq(found.samples, SAMPLES);
    ck_assert_int_eq(found.answered, 3);
    ck_assert_double_eq_tol(found.accuracy, 3.0 / 7, 1e-12);
    ck_assert_double_eq_tol(found.loss, log(1 + 2 * exp(-10)), 1e-6);
    network = (Network){.silent_from = 0};
    ck_assert_int_eq(evaluator_run(setting.evaluator, &set, true, answer, &network, NULL, &found, &error), STATUS_OK);
    ck_assert_double_eq(found.accuracy, 0);
    ck_assert_int_eq(found.answered, 0);
    ck_assert_double_nan(found.loss);
    tear_down(&setting);
}
END_TEST

/* --- the real soma --- */

/* Folding is for speed only. */
START_TEST(folding_changes_nothing)
{
    Backend *backend = toy_backend("cpu", 2);
    Dataset set = toy_dataset(41, 28, 3);
    Evaluation found[2];
    Variables *variables = NULL;
    ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);
    for (int fold = 0; fold < 2; fold++) {
        const EvaluatorOptions options = {
            .soma = &soma_mnist, .rows = 28, .columns = 28, .batch = 16, .fold = fold == 1};
        Evaluator *evaluator = NULL;
        ck_assert_int_eq(evaluator_create(backend, variables, &options, &evaluator, &error), STATUS_OK);
        ck_assert_int_eq(evaluator_run(evaluator, &set, false, NULL, NULL, NULL, &found[fold], &error), STATUS_OK);
        evaluator_destroy(evaluator);
    }
    ck_assert_double_eq_tol(found[0].loss, found[1].loss, 1e-5);
    ck_assert_double_eq_tol(found[0].loss, log(10), 0.1); /* nothing is known yet */
    variables_destroy(variables);
    dataset_destroy(&set);
    backend_close(backend);
}
END_TEST

static int asked_to_stop;

static bool stop_at_the_third(void)
{
    return ++asked_to_stop == 3;
}

START_TEST(it_stops_when_told_to)
{
    Setting setting = set_up("cpu", 2, 0);
    const Dataset set = seven();
    Evaluation found;
    ck_assert_int_eq(evaluator_run(setting.evaluator, &set, false, NULL, NULL, stop_at_the_third, &found, &error),
                     STATUS_CANCELLED);
    ck_assert_ptr_nonnull(strstr(error.message, "4 of 7"));
    tear_down(&setting);
}
END_TEST

SUITE_MAIN("evaluate", accuracy_and_loss_are_those_by_hand, it_follows_the_variables, answers_are_asked_for_and_joined,
           rows_without_an_answer_are_wrong_and_have_no_loss, folding_changes_nothing, it_stops_when_told_to)
