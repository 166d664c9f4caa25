/* Convolutions by the backend's own dnn.c on the stand-in, against the reference backend's loops in double: every kind,
 * type and layout, fused or not, and every candidate of each plan. */
#include "cuda_sim/dnn_problem.h"
#include "cuda_sim/library_test.h"

static Error error;

static void check_all_candidates(Dnn *dnn, DnnConvolution convolution)
{
    Problem p = problem_of(convolution);
    Tensor expected = expected_of(&p);
    DnnPlan *plan = plan_made(dnn, &convolution, NULL);
    check_numbers(&p, plan, &expected);
    for (int i = 0; i < dnn_plan_candidates(plan); i++)
        if (dnn_plan_choose(plan, i, &error) == STATUS_OK) check_numbers(&p, plan, &expected);
    dnn_plan_destroy(plan);
    tensor_destroy(&expected);
    problem_free(&p);
}

/* Strides, paddings, groups, uneven kernels, one channel, one image. */
static const DnnConvolution shapes[] = {
    {.n = 3, .channels = 1, .rows = 28, .columns = 28, .out = 10, .kernel = {5, 5}, .stride = {1, 1}, .groups = 1},
    {.n = 2, .channels = 10, .rows = 12, .columns = 12, .out = 20, .kernel = {5, 5}, .stride = {1, 1}, .groups = 1},
    {.n = 2,
     .channels = 4,
     .rows = 9,
     .columns = 7,
     .out = 6,
     .kernel = {3, 2},
     .stride = {2, 1},
     .padding = {1, 2},
     .groups = 2},
    {.n = 1,
     .channels = 6,
     .rows = 8,
     .columns = 8,
     .out = 6,
     .kernel = {3, 3},
     .stride = {1, 2},
     .padding = {1, 1},
     .groups = 6},
    {.n = 2, .channels = 5, .rows = 4, .columns = 4, .out = 3, .kernel = {1, 1}, .stride = {1, 1}, .groups = 1},
    {.n = 1, .channels = 2, .rows = 5, .columns = 5, .out = 4, .kernel = {5, 5}, .stride = {3, 3}, .groups = 1},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void each_shape(DnnKind kind, bool bias, bool relu, bool tf32, bool channels_last, DType type)
{
    Dnn *dnn = open_dnn();
    for (int i = 0; i < SHAPES; i++) {
        DnnConvolution c = shapes[i];
        c.kind = kind;
        c.type = type;
        c.bias = bias;
        c.relu = relu;
        c.tf32 = tf32;
        c.channels_last = channels_last;
        check_all_candidates(dnn, c);
    }
    dnn_close(dnn);
}

START_TEST(every_kind_agrees_with_the_reference)
{
    for (int kind = DNN_FORWARD; kind <= DNN_GRAD_FILTER; kind++)
        for (size_t t = 0; t < 3; t++)
            for (int last = 0; last < 2; last++)
                each_shape((DnnKind)kind, false, false, false, last, dnn_types[t]);
}
END_TEST

START_TEST(fused_bias_and_relu_agree_with_the_reference)
{
    for (int relu = 0; relu < 2; relu++)
        for (int last = 0; last < 2; last++)
            each_shape(DNN_FORWARD, true, relu, false, last, DTYPE_F32);
    for (size_t t = 1; t < 3; t++)
        for (int relu = 0; relu < 2; relu++)
            each_shape(DNN_FORWARD, true, relu, false, true, dnn_types[t]);
    each_shape(DNN_FORWARD, false, true, false, true, DTYPE_F32);
}
END_TEST

START_TEST(tf32_agrees_with_the_reference)
{
    for (int kind = DNN_FORWARD; kind <= DNN_GRAD_FILTER; kind++)
        each_shape((DnnKind)kind, false, false, true, false, DTYPE_F32);
}
END_TEST

START_TEST(half_precision_can_have_a_float_result)
{
    Dnn *dnn = open_dnn();
    DnnConvolution c = shapes[1];
    c.type = DTYPE_BF16;
    c.result = DTYPE_F32;
    check_all_candidates(dnn, c);
    dnn_close(dnn);
}
END_TEST

SUITE_MAIN("cudnn numbers", every_kind_agrees_with_the_reference, fused_bias_and_relu_agree_with_the_reference,
           tf32_agrees_with_the_reference, half_precision_can_have_a_float_result)
