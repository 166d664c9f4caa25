/* Inputs and outputs move on streams of their own, in buckets, beside the steps that don't need them; that a step waits
 * for what it reads is the simulator's to see. */
#include <math.h>
#include <string.h>

#include "backend/cuda/compile.h"
#include "graph/ops.h"
#include "support/suite.h"

static Error error;

#define CHECK_OK(call) ck_assert_msg((call) == STATUS_OK, "%s", error.message)

/* early = relu(a); late = early + b: each of `count` numbers. */
typedef struct Rig {
    Graph *graph;
    Value a, b;
    void *devices;
    CudaPlan *plan;
} Rig;

static Rig rig_make(int64_t count, Precision precision, const PlanOptions *options)
{
    Rig rig = {.graph = graph_create(DTYPE_F32, false)};
    const BackendOptions backend = {.precision = precision};
    void *plan = NULL;
    rig.b = graph_input(rig.graph, "b", DTYPE_F32, shape_of(count)); /* declared first, and read last */
    rig.a = graph_input(rig.graph, "a", DTYPE_F32, shape_of(count));
    const Value early = relu(rig.graph, rig.a);
    graph_output(rig.graph, "late", add(rig.graph, early, rig.b));
    graph_output(rig.graph, "early", early);
    CHECK_OK(devices_open(&backend, NULL, &rig.devices, &error));
    CHECK_OK(cuda_plan_compile(rig.devices, rig.graph, NULL, options, &plan, &error));
    rig.plan = plan;
    return rig;
}

static void rig_free(Rig *rig)
{
    cuda_plan_destroy(rig->plan);
    devices_close(rig->devices);
    graph_destroy(rig->graph);
}

static void check_runs(Rig *rig)
{
    const Tensor *a = &rig->plan->inputs[rig->a.id], *b = &rig->plan->inputs[rig->b.id];
    const int64_t count = shape_count(a->shape);
    for (int run = 0; run < 3; run++) {
        for (int64_t i = 0; i < count; i++) {
            ((float *)a->data)[i] = (float)(i % 7 - 3 + run);
            ((float *)b->data)[i] = (float)(i % 5);
        }
        CHECK_OK(cuda_plan_run(rig->plan, &error));
        for (int64_t i = 0; i < count; i++) {
            const float x = (float)(i % 7 - 3 + run), early = x > 0 ? x : 0;
            ck_assert(((const float *)rig->plan->outputs[1].data)[i] == early);
            ck_assert(((const float *)rig->plan->outputs[0].data)[i] == early + (float)(i % 5));
        }
    }
}

static const int64_t MUCH = 1 << 18, LITTLE = 1000; /* 1 MiB, 4 kB */

START_TEST(large_tensors_move_beside_the_steps)
{
    Rig rig = rig_make(MUCH, PRECISION_F32, &(PlanOptions){.rewrites = 0});
    const CudaPart *part = &rig.plan->parts[0];
    ck_assert_int_eq(part->step_count, 2);
    ck_assert_int_eq(part->inputs.count, 2);
    ck_assert_int_eq(part->inputs.items[0].step, 0);
    ck_assert_int_eq(part->inputs.items[1].step, 1);
    ck_assert_int_eq(part->outputs.count, 2);
    ck_assert_int_eq(part->outputs.items[0].step, 0);
    ck_assert_int_eq(part->outputs.items[1].step, 1);
    check_runs(&rig);
    rig_free(&rig);
}
END_TEST

START_TEST(small_tensors_move_together)
{
    Rig rig = rig_make(LITTLE, PRECISION_F32, &(PlanOptions){.rewrites = 0});
    const CudaPart *part = &rig.plan->parts[0];
    ck_assert_int_eq(part->inputs.count, 1);
    ck_assert_int_eq(part->inputs.items[0].step, 0);
    ck_assert_int_eq(part->outputs.count, 1);
    ck_assert_int_eq(part->outputs.items[0].step, 1);
    check_runs(&rig);
    rig_free(&rig);
}
END_TEST

START_TEST(a_profile_runs_the_same)
{
    Rig rig = rig_make(MUCH, PRECISION_F32, &(PlanOptions){.profile = true});
    check_runs(&rig);
    rig_free(&rig);
}
END_TEST

/* A caller may send what f16 hasn't: the largest that it has stands for it. */
START_TEST(large_numbers_saturate)
{
    Rig rig = rig_make(LITTLE, PRECISION_F16, &(PlanOptions){.rewrites = 0});
    const float sent[] = {1e6f, -1e6f, 65504, INFINITY}, early[] = {65504, 0, 65504, INFINITY};
    memcpy(rig.plan->inputs[rig.a.id].data, sent, sizeof sent);
    CHECK_OK(cuda_plan_run(rig.plan, &error));
    for (int i = 0; i < 4; i++)
        ck_assert(((const float *)rig.plan->outputs[1].data)[i] == early[i]);
    rig_free(&rig);
}
END_TEST

SUITE_MAIN("plan_copies", large_tensors_move_beside_the_steps, small_tensors_move_together, a_profile_runs_the_same,
           large_numbers_saturate)
