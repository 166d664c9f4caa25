/* A server's plans in f16: a caller's gradient may be as small or as large as f32 has it. */
#include "neuron/server_plans.h"

#include <stdio.h>

#include "neuron/served.h"
#include "train/trainer.h"

enum { ROWS = 4 };

/* A backend with a soma's weights, and what it learns from peers. */
typedef struct Side {
    Weights weights;
    ServerPlans *plans;
    Plan *plan;
} Side;

/* false: this build or this host hasn't that device. */
static bool side_open(const char *device, Precision precision, Side *side)
{
    const BackendOptions options = {.threads = 1, .precision = precision};
    *side = (Side){.plans = NULL};
    if (backend_open(device, &options, &side->weights.backend, &error) != STATUS_OK) {
        printf("skipped: %s\n", error.message);
        return false;
    }
    weights_draw(&side->weights, 3);
    const ServerPlansOptions plans = {
        .soma = &soma_mnist, .backend = side->weights.backend, .variables = side->weights.variables, .clip = 1e30f};
    ck_assert_int_eq(server_plans_create(&plans, &side->plans, &error), STATUS_OK);
    ck_assert_msg(server_plans_find(side->plans, (PlanSize){PLAN_LEARN, ROWS, SIDE, SIDE}, &side->plan, &error) ==
                      STATUS_OK,
                  "%s", error.message);
    return true;
}

static void side_close(Side *side)
{
    server_plans_destroy(side->plans);
    if (side->weights.backend != NULL) weights_free(&side->weights);
}

static void run(const Side *side, double size)
{
    Tensor image = plan_input(side->plan, "image"), gradient = plan_input(side->plan, "gradient");
    Tensor images = images_make(ROWS, 1, SIDE, 6), gradients = gradients_make(ROWS, 1, size);
    memcpy(image.data, images.data, image.size);
    memcpy(gradient.data, gradients.data, gradient.size);
    tensor_destroy(&images);
    tensor_destroy(&gradients);
    ck_assert_msg(plan_run(side->plan, &error) == STATUS_OK, "%s", error.message);
}

/* Gradients of f16 layers differ by up to a tenth of their norm, since some values fall on the other side of a relu
 * (tests/ops/test_backends.c). */
static const double TOLERANCE = 0.15;

START_TEST(gradients_of_any_size_go_back_in_f16)
{
    static const double sizes[] = {1e-12, 1e-6, 1, 1e6};
    static const char *const sum = "hidden_layer1.weight.peer";
    Side half, whole;
    ck_assert(side_open("cpu", PRECISION_F32, &whole));
    if (side_open("sim", PRECISION_F16, &half)) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            run(&half, sizes[i]);
            run(&whole, sizes[i]);
            const Tensor a = plan_output(half.plan, "image_gradient"), b = plan_output(whole.plan, "image_gradient");
            ck_assert_msg(distance(&a, &b) < TOLERANCE, "images, %g: %g", sizes[i], distance(&a, &b));
            const Tensor p = plan_output(half.plan, "norm"), q = plan_output(whole.plan, "norm");
            ck_assert_msg(distance(&p, &q) < TOLERANCE, "norm, %g: %g", sizes[i], distance(&p, &q));
            Tensor learnt = toy_read(half.weights.variables, sum), right = toy_read(whole.weights.variables, sum);
            ck_assert_msg(distance(&learnt, &right) < TOLERANCE, "sum, %g: %g", sizes[i], distance(&learnt, &right));
            tensor_destroy(&learnt);
            tensor_destroy(&right);
        }
    }
    side_close(&half);
    side_close(&whole);
}
END_TEST

SUITE_MAIN("server_plans", gradients_of_any_size_go_back_in_f16)
