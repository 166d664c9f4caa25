/* The real cuDNN, without a device, finalises a plan for every convolution of the MNIST soma, in every type, both
 * layouts, for each device of devices.h: by dnn.c, which is all that the backend calls. What is said in dnn.h about
 * which graphs there are plans for is checked here. Nothing is run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/devices.h"
#include "backend/cuda/dnn.h"
#include "support/suite.h"

enum { WORKSPACE = 64 << 20 };

static Error error;

/* The soma's two convolutions, 5x5 without padding. */
static DnnConvolution soma(int layer, int64_t n)
{
    const DnnConvolution first = {.channels = 1, .rows = 28, .columns = 28, .out = 10},
                         second = {.channels = 10, .rows = 12, .columns = 12, .out = 20};
    DnnConvolution c = layer == 0 ? first : second;
    c.n = n;
    c.kernel[0] = c.kernel[1] = 5;
    c.stride[0] = c.stride[1] = 1;
    c.groups = 1;
    return c;
}

static Dnn *open_for(const DeviceSheet *device)
{
    Dnn *dnn = NULL;
    ck_assert_msg(dnn_open_for(device->properties, &dnn, &error) == STATUS_OK, "%s: %s", device->name, error.message);
    return dnn;
}

static void describe(const DnnConvolution *c, char out[160])
{
    snprintf(out, 160, "kind %d, n %d, %d channels, %s%s%s%s%s", (int)c->kind, (int)c->n, (int)c->channels,
             dtype_name(c->type), c->tf32 ? ", tf32" : "", c->channels_last ? ", channels last" : "",
             c->bias ? ", bias" : "", c->relu ? ", relu" : "");
}

static void expect_plan(Dnn *dnn, const DeviceSheet *device, const DnnConvolution *c)
{
    DnnPlan *plan = NULL;
    char text[160];
    describe(c, text);
    const Status status = dnn_plan_create(dnn, c, WORKSPACE, NULL, &plan, &error);
    ck_assert_msg(status == STATUS_OK, "%s, %s: %s", device->name, text, error.message);
    ck_assert_uint_le(dnn_plan_workspace(plan), WORKSPACE);
    ck_assert_int_ge(dnn_plan_candidates(plan), 1);
    ck_assert_ptr_nonnull(dnn_plan_text(plan));
    dnn_plan_destroy(plan);
}

static void expect_none(Dnn *dnn, const DeviceSheet *device, const DnnConvolution *c)
{
    DnnPlan *plan = NULL;
    char text[160];
    describe(c, text);
    ck_assert_msg(dnn_plan_create(dnn, c, WORKSPACE, NULL, &plan, &error) == STATUS_UNIMPLEMENTED,
                  "%s, %s: there is a plan now, or another error", device->name, text);
}

static const struct {
    DType type;
    bool tf32;
} types[] = {{DTYPE_F32, false}, {DTYPE_F32, true}, {DTYPE_BF16, false}, {DTYPE_F16, false}};
enum { TYPES = sizeof types / sizeof types[0] };

/* Every variant of the soma's convolutions for n images. */
#define EACH_VARIANT(c, n)                                                                                             \
    for (int variant = 0; variant < 4 * TYPES; variant++)                                                              \
        for (DnnConvolution c = variant_of(variant, n), *once = &c; once != NULL; once = NULL)

static DnnConvolution variant_of(int variant, int64_t n)
{
    DnnConvolution c = soma(variant & 1, n);
    c.channels_last = (variant & 2) != 0;
    c.type = types[variant / 4].type;
    c.tf32 = types[variant / 4].tf32;
    return c;
}

/* A training batch, a batch that serves one, and a batch of double size. */
static void check_plain(const DeviceSheet *device)
{
    static const int64_t sizes[] = {64, 1, 128};
    Dnn *dnn = open_for(device);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        EACH_VARIANT(c, sizes[i])
    for (int kind = DNN_FORWARD; kind <= DNN_GRAD_FILTER; kind++) {
        if (sizes[i] == 1 && kind != DNN_FORWARD) continue;
        c.kind = (DnnKind)kind;
        expect_plan(dnn, device, &c);
    }
    dnn_close(dnn);
}

static void check_fused(const DeviceSheet *device)
{
    Dnn *dnn = open_for(device);
    EACH_VARIANT(c, 64)
    {
        c.bias = true;
        for (int relu = 0; relu < 2; relu++) {
            c.relu = relu;
            if (c.type == DTYPE_F32 || c.channels_last)
                expect_plan(dnn, device, &c);
            else
                expect_none(dnn, device, &c);
        }
        c.bias = false;
        if (!c.channels_last) expect_none(dnn, device, &c);
    }
    dnn_close(dnn);
}

START_TEST(a100_plain)
{
    check_plain(device_find("a100"));
}
END_TEST

START_TEST(h100_plain)
{
    check_plain(device_find("h100"));
}
END_TEST

START_TEST(l4_plain)
{
    check_plain(device_find("l4"));
}
END_TEST

START_TEST(b200_plain)
{
    check_plain(device_find("b200"));
}
END_TEST

START_TEST(bias_and_relu_fuse_where_dnn_h_says)
{
    for (size_t i = 0; i < device_count(); i++)
        check_fused(device_at(i));
}
END_TEST

START_TEST(float_results_of_half_precision)
{
    Dnn *dnn = open_for(device_find("h100"));
    for (int kind = DNN_FORWARD; kind <= DNN_GRAD_FILTER; kind++) {
        DnnConvolution c = soma(1, 64);
        c.kind = (DnnKind)kind;
        c.type = DTYPE_BF16;
        c.result = DTYPE_F32;
        if (kind == DNN_FORWARD)
            expect_plan(dnn, device_find("h100"), &c);
        else
            expect_none(dnn, device_find("h100"), &c);
    }
    dnn_close(dnn);
}
END_TEST

/* Every change makes a text that no plan comes of. */
static void expect_refused(Dnn *dnn, const DnnConvolution *c, const char *text, size_t limit, const char *what)
{
    DnnPlan *plan = NULL;
    ck_assert_msg(dnn_plan_create(dnn, c, limit, text, &plan, &error) != STATUS_OK, "%s was taken for a plan", what);
}

START_TEST(plans_come_back_from_their_text)
{
    Dnn *dnn = open_for(device_find("h100")), *other = open_for(device_find("a100"));
    EACH_VARIANT(c, 64)
    for (int kind = DNN_FORWARD; kind <= DNN_GRAD_FILTER; kind++) {
        DnnPlan *plan = NULL, *again = NULL;
        c.kind = (DnnKind)kind;
        ck_assert_int_eq(dnn_plan_create(dnn, &c, WORKSPACE, NULL, &plan, &error), STATUS_OK);
        const char *text = dnn_plan_text(plan);
        const Status status = dnn_plan_create(dnn, &c, WORKSPACE, text, &again, &error);
        ck_assert_msg(status == STATUS_OK, "%s", error.message);
        ck_assert_str_eq(dnn_plan_name(again), dnn_plan_name(plan));
        ck_assert_uint_eq(dnn_plan_workspace(again), dnn_plan_workspace(plan));
        dnn_plan_destroy(again);
        expect_refused(other, &c, text, WORKSPACE, "a plan for another device");
        if (dnn_plan_workspace(plan) > 0)
            expect_refused(dnn, &c, text, dnn_plan_workspace(plan) - 1, "a plan above the limit");
        c.n++;
        expect_refused(dnn, &c, text, WORKSPACE, "a plan for another batch");
        c.n--;
        c.kind = (DnnKind)((kind + 1) % 3);
        expect_refused(dnn, &c, text, WORKSPACE, "a plan of another kind");
        c.kind = (DnnKind)kind;
        dnn_plan_destroy(plan);
    }
    dnn_close(other);
    dnn_close(dnn);
}
END_TEST

START_TEST(damaged_text_is_refused)
{
    Dnn *dnn = open_for(device_find("h100"));
    DnnPlan *plan = NULL;
    DnnConvolution c = soma(1, 64);
    c.type = DTYPE_F32;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, WORKSPACE, NULL, &plan, &error), STATUS_OK);
    const size_t length = strlen(dnn_plan_text(plan));
    for (size_t cut = 0; cut < length; cut += 37) {
        char *text = strdup(dnn_plan_text(plan));
        text[cut] = '\0';
        expect_refused(dnn, &c, text, WORKSPACE, "a part of a text");
        free(text);
    }
    expect_refused(dnn, &c, "garbage", WORKSPACE, "garbage");
    dnn_plan_destroy(plan);
    dnn_close(dnn);
}
END_TEST

/* No TF32 unless allowed, also when the plan comes from a file. */
START_TEST(text_of_a_tf32_plan_is_refused_without_tf32)
{
    Dnn *dnn = open_for(device_find("a100"));
    DnnPlan *plan = NULL;
    DnnConvolution c = soma(1, 64);
    c.type = DTYPE_F32;
    c.tf32 = true;
    c.kind = DNN_GRAD_FILTER;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, WORKSPACE, NULL, &plan, &error), STATUS_OK);
    c.tf32 = false;
    expect_refused(dnn, &c, dnn_plan_text(plan), WORKSPACE, "a plan with TF32");
    ck_assert_ptr_nonnull(strstr(error.message, "full precision"));
    dnn_plan_destroy(plan);
    dnn_close(dnn);
}
END_TEST

START_TEST(candidates_can_be_chosen)
{
    Dnn *dnn = open_for(device_find("h100"));
    DnnPlan *plan = NULL;
    DnnConvolution c = soma(1, 64);
    int good = 0;
    c.type = DTYPE_F32;
    ck_assert_int_eq(dnn_plan_create(dnn, &c, WORKSPACE, NULL, &plan, &error), STATUS_OK);
    for (int i = 0; i < dnn_plan_candidates(plan); i++)
        good += dnn_plan_choose(plan, i, &error) == STATUS_OK;
    ck_assert_int_ge(good, 2);
    dnn_plan_destroy(plan);
    dnn_close(dnn);
}
END_TEST

SUITE_MAIN("real cudnn plans", a100_plain, h100_plain, l4_plain, b200_plain, bias_and_relu_fuse_where_dnn_h_says,
           float_results_of_half_precision, plans_come_back_from_their_text, damaged_text_is_refused,
           text_of_a_tf32_plan_is_refused_without_tf32, candidates_can_be_chosen)
