/* Plans of the backend's own dnn.c on the stand-in: which engines they are of, workspace limits, text, and what is
 * refused. */
#include <stdint.h>

#include "backend/cuda/devices.h"
#include "cuda_sim/dnn_problem.h"
#include "cuda_sim/library_test.h"

static Error error;

/* As the MNIST soma's second one. */
static const DnnConvolution SECOND = {
    .n = 2, .channels = 10, .rows = 12, .columns = 12, .out = 20, .kernel = {5, 5}, .stride = {1, 1}, .groups = 1};

/* As the real library: nothing fuses a float bias into half precision rows first, and no filter gradient is F32. */
START_TEST(what_the_library_has_not_is_unimplemented)
{
    Dnn *dnn = open_dnn();
    DnnPlan *plan = NULL;
    DnnConvolution c = SECOND;
    c.type = DTYPE_BF16;
    c.bias = true;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, UNLIMITED, NULL, &plan, &error), STATUS_UNIMPLEMENTED);
    c.bias = false;
    c.kind = DNN_GRAD_FILTER;
    c.result = DTYPE_F32;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, UNLIMITED, NULL, &plan, &error), STATUS_UNIMPLEMENTED);
    dnn_close(dnn);
}
END_TEST

static DnnConvolution small(DnnKind kind)
{
    DnnConvolution c = SECOND;
    c.kind = kind;
    c.type = DTYPE_F32;
    return c;
}

START_TEST(limit_of_the_workspace_is_kept)
{
    Dnn *dnn = open_dnn();
    const DnnConvolution c = small(DNN_FORWARD);
    DnnPlan *plan = plan_made(dnn, &c, NULL);
    ck_assert_uint_gt(dnn_plan_workspace(plan), 0);
    ck_assert_int_ge(dnn_plan_candidates(plan), 2);
    dnn_plan_destroy(plan);
    ck_assert_int_eq(dnn_plan_create(dnn, &c, 0, NULL, &plan, &error), STATUS_OK);
    ck_assert_uint_eq(dnn_plan_workspace(plan), 0);
    dnn_plan_destroy(plan);
    dnn_close(dnn);
}
END_TEST

START_TEST(choosing_switches_the_engine_or_leaves_it)
{
    Dnn *dnn = open_dnn();
    char before[32];
    const DnnConvolution c = small(DNN_FORWARD);
    DnnPlan *plan = plan_made(dnn, &c, NULL);
    snprintf(before, sizeof before, "%s", dnn_plan_name(plan));
    ck_assert_int_eq(dnn_plan_choose(plan, dnn_plan_candidates(plan), &error), STATUS_OUT_OF_RANGE);
    ck_assert_int_eq(dnn_plan_choose(plan, -1, &error), STATUS_OUT_OF_RANGE);
    ck_assert_str_eq(dnn_plan_name(plan), before);
    ck_assert_int_eq(dnn_plan_choose(plan, dnn_plan_candidates(plan) - 1, &error), STATUS_OK);
    ck_assert_str_ne(dnn_plan_name(plan), before);
    dnn_plan_destroy(plan);
    dnn_close(dnn);
}
END_TEST

/* Engines that break a promise come first in the stand-in's heuristics: 2 rounds float to TF32, 3 isn't deterministic,
 * 5 sums in half precision, 7 rounds float to bf16, 8 has Winograd's largest tiles. */
START_TEST(promises_are_kept)
{
    static const char *const broken[] = {"cudnn:eng3", "cudnn:eng5", "cudnn:eng7", "cudnn:eng8"};
    Dnn *dnn = open_dnn();
    for (int kind = DNN_FORWARD; kind <= DNN_GRAD_FILTER; kind++)
        for (int t = 0; t < 4; t++) {
            DnnConvolution c = small((DnnKind)kind);
            c.type = dnn_types[t % 3];
            c.tf32 = t == 3;
            DnnPlan *plan = plan_made(dnn, &c, NULL);
            for (int i = 0; i < dnn_plan_candidates(plan); i++) {
                if (dnn_plan_choose(plan, i, &error) != STATUS_OK) continue;
                for (size_t j = 0; j < sizeof broken / sizeof broken[0]; j++)
                    ck_assert_str_ne(dnn_plan_name(plan), broken[j]);
                if (t == 0) ck_assert_str_ne(dnn_plan_name(plan), "cudnn:eng2");
            }
            dnn_plan_destroy(plan);
        }
    dnn_close(dnn);
}
END_TEST

START_TEST(a_plan_comes_back_from_its_text)
{
    Dnn *dnn = open_dnn();
    for (int last = 0; last < 2; last++) {
        DnnConvolution c = SECOND;
        c.type = DTYPE_F32;
        c.channels_last = last;
        c.bias = c.relu = true;
        DnnPlan *plan = plan_made(dnn, &c, NULL);
        DnnPlan *again = plan_made(dnn, &c, dnn_plan_text(plan));
        ck_assert_str_eq(dnn_plan_text(again), dnn_plan_text(plan));
        ck_assert_str_eq(dnn_plan_name(again), dnn_plan_name(plan));
        ck_assert_uint_eq(dnn_plan_workspace(again), dnn_plan_workspace(plan));
        ck_assert_int_eq(dnn_plan_candidates(again), 0);
        Problem p = problem_of(c);
        Tensor expected = expected_of(&p);
        check_numbers(&p, again, &expected);
        tensor_destroy(&expected);
        problem_free(&p);
        dnn_plan_destroy(plan);
        dnn_plan_destroy(again);
    }
    dnn_close(dnn);
}
END_TEST

START_TEST(text_that_does_not_fit_is_refused)
{
    Dnn *dnn = open_dnn(), *other = NULL;
    DnnPlan *again = NULL;
    DnnConvolution c = small(DNN_FORWARD);
    ck_assert_int_eq(dnn_open_for(device_find("a100")->properties, &other, &error), STATUS_OK);
    DnnPlan *plan = plan_made(dnn, &c, NULL);
    const char *text = dnn_plan_text(plan);
    char *cut = strdup(text);
    cut[strlen(cut) - 10] = '\0';
    ck_assert_int_ne(dnn_plan_create(dnn, &c, UNLIMITED, cut, &again, &error), STATUS_OK);
    ck_assert_int_ne(dnn_plan_create(dnn, &c, UNLIMITED, "garbage", &again, &error), STATUS_OK);
    ck_assert_int_ne(dnn_plan_create(dnn, &c, 0, text, &again, &error), STATUS_OK);
    ck_assert_int_ne(dnn_plan_create(other, &c, UNLIMITED, text, &again, &error), STATUS_OK);
    c.n++;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, UNLIMITED, text, &again, &error), STATUS_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, "another convolution"));
    c.n--;
    c.relu = true;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, UNLIMITED, text, &again, &error), STATUS_FAILED_PRECONDITION);
    free(cut);
    dnn_plan_destroy(plan);
    dnn_close(other);
    dnn_close(dnn);
}
END_TEST

START_TEST(text_that_breaks_a_promise_is_refused)
{
    Dnn *dnn = open_dnn();
    DnnPlan *again = NULL;
    DnnConvolution c = small(DNN_FORWARD);
    c.tf32 = true;
    DnnPlan *plan = plan_made(dnn, &c, NULL);
    ck_assert_str_eq(dnn_plan_name(plan), "cudnn:eng2");
    again = plan_made(dnn, &c, dnn_plan_text(plan));
    dnn_plan_destroy(again);
    c.tf32 = false;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, UNLIMITED, dnn_plan_text(plan), &again, &error),
                     STATUS_FAILED_PRECONDITION);
    dnn_plan_destroy(plan);
    dnn_close(dnn);
}
END_TEST

static void expect_invalid(Dnn *dnn, DnnConvolution c, const char *sentence)
{
    DnnPlan *plan = NULL;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, UNLIMITED, NULL, &plan, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, sentence) != NULL, "'%s', expected '%s'", error.message, sentence);
}

/* What the real library lets pass or crashes on never reaches it. */
START_TEST(nonsense_is_refused_with_its_value)
{
    Dnn *dnn = open_dnn();
    DnnConvolution c = small(DNN_FORWARD);
#define REFUSED(change, sentence)                                                                                      \
    do {                                                                                                               \
        c = small(DNN_FORWARD);                                                                                        \
        change;                                                                                                        \
        expect_invalid(dnn, c, sentence);                                                                              \
    } while (0)
    REFUSED(c.n = 0, "n is 0, expected 1 to");
    REFUSED(c.out = -3, "out is -3");
    REFUSED(c.stride[1] = 0, "stride[1] is 0");
    REFUSED(c.padding[0] = -1, "padding[0] is -1");
    REFUSED(c.kernel[0] = 13, "kernel[0] is 13, expected at most the padded image's 12");
    REFUSED(c.groups = 3, "3 groups, expected a divisor of 10 channels");
    REFUSED(c.type = DTYPE_I32, "type is i32");
    REFUSED(c.result = DTYPE_F16, "result is f16");
    REFUSED(c.kind = (DnnKind)7, "kind is 7");
    REFUSED((c.kind = DNN_GRAD_INPUT, c.relu = true), "for the forward one only");
    REFUSED((c.n = c.rows = c.columns = INT32_MAX), "more bytes than can be counted");
    dnn_close(dnn);
}
END_TEST

START_TEST(memory_is_checked_before_the_library_sees_it)
{
    Dnn *dnn = open_dnn();
    const DnnConvolution c = small(DNN_FORWARD);
    Problem p = problem_of(c);
    Tensor expected = expected_of(&p);
    DnnPlan *plan = plan_made(dnn, &c, NULL);
    Buffers m = buffers_of(&p, plan, &expected);
    const char *odd = (const char *)m.a + 4, *odd_workspace = (const char *)m.workspace + 16;
    ck_assert_int_eq(dnn_plan_run(plan, 0, odd, m.b, NULL, m.result, m.workspace, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dnn_plan_run(plan, 0, NULL, m.b, NULL, m.result, m.workspace, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dnn_plan_run(plan, 0, m.a, m.b, NULL, m.a, m.workspace, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dnn_plan_run(plan, 0, m.a, m.b, NULL, m.result, NULL, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dnn_plan_run(plan, 0, m.a, m.b, NULL, m.result, m.result, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dnn_plan_run(plan, 0, m.a, m.b, NULL, m.result, (void *)(uintptr_t)odd_workspace, &error),
                     STATUS_INVALID_ARGUMENT);
    dnn_plan_destroy(plan);
    buffers_free(&m);
    tensor_destroy(&expected);
    problem_free(&p);
    dnn_close(dnn);
}
END_TEST

START_TEST(without_a_device_plans_are_made_and_not_run)
{
    for (size_t i = 0; i < device_count(); i++) {
        Dnn *dnn = NULL;
        const DnnConvolution c = small(DNN_GRAD_FILTER);
        ck_assert_int_eq(dnn_open_for(device_at(i)->properties, &dnn, &error), STATUS_OK);
        DnnPlan *plan = plan_made(dnn, &c, NULL);
        ck_assert_ptr_nonnull(dnn_plan_text(plan));
        ck_assert_int_eq(dnn_plan_run(plan, 0, NULL, NULL, NULL, NULL, NULL, &error), STATUS_FAILED_PRECONDITION);
        dnn_plan_destroy(plan);
        dnn_close(dnn);
    }
}
END_TEST

START_TEST(device_properties_are_checked)
{
    Dnn *dnn = NULL;
    ck_assert_int_eq(dnn_open_for(NULL, &dnn, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dnn_open_for("", &dnn, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_ne(dnn_open_for("{\"deviceVer\":900}", &dnn, &error), STATUS_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "CUDNN_STATUS_BAD_PARAM"));
}
END_TEST

START_TEST(device_sheets_are_found)
{
    ck_assert_int_eq(device_find("H100")->sm, 90);
    ck_assert_ptr_null(device_find("h1000"));
    ck_assert_ptr_null(device_at(device_count()));
    for (size_t i = 0; i < device_count(); i++) {
        const DeviceSheet *device = device_at(i);
        ck_assert_ptr_eq(device_find(device->name), device);
        ck_assert(device_peak(device, DTYPE_F32, true) > device_peak(device, DTYPE_F32, false));
        ck_assert(device_peak(device, DTYPE_BF16, false) > device_peak(device, DTYPE_F32, true));
        ck_assert(device_peak(device, DTYPE_U8, false) == 0);
    }
}
END_TEST

START_TEST(flops_count_multiply_adds_twice)
{
    const DnnConvolution c = small(DNN_FORWARD); /* 2 x 20 x 8 x 8 places, 10 x 5 x 5 each */
    ck_assert(dnn_convolution_flops(&c) == 2.0 * 2 * 20 * 8 * 8 * 250);
}
END_TEST

SUITE_MAIN("cudnn plans", what_the_library_has_not_is_unimplemented, limit_of_the_workspace_is_kept,
           choosing_switches_the_engine_or_leaves_it, promises_are_kept, a_plan_comes_back_from_its_text,
           text_that_does_not_fit_is_refused, text_that_breaks_a_promise_is_refused, nonsense_is_refused_with_its_value,
           memory_is_checked_before_the_library_sees_it, without_a_device_plans_are_made_and_not_run,
           device_properties_are_checked, device_sheets_are_found, flops_count_multiply_adds_twice)
