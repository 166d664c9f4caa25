/* Any call of the CUDA libraries may fail. A short life on simulated devices is lived again and again, each time with
 * another call failing: it ends with a sentence, and leaves nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "graph/ops.h"
#include "graph/rewrite.h"
#include "ops/network.h"
#include "support/child.h"
#include "support/suite.h"

enum { BATCH = 4 };

/* --- the life --- */

typedef struct Life {
    Backend *backend;
    Variables *variables, *mirror;
    Plan *training, *serving;
    Graph *step, *answer;
} Life;

static Status run_twice(Plan *plan, Error *error)
{
    RETURN_IF_ERROR(plan_run(plan, error));
    return plan_run(plan, error);
}

/* What the network's first layer makes of an image. */
static Graph *answer_graph(void)
{
    Graph *g = graph_create(DTYPE_F32, false);
    const Value image = graph_input(g, "image", DTYPE_F32, shape_of(BATCH, 1, 16, 14));
    graph_output(g, "hidden", relu(g, conv2d(g, image, "conv1", .out = 4, .kernel = 3)));
    return g;
}

/* Trains, reads the weights, takes them over to a plan that serves, and computes with that. */
static Status live(Life *life, const char *device, Precision precision, Error *error)
{
    const BackendOptions options = {.threads = 1, .precision = precision};
    const PlanOptions training = {.rewrites = REWRITE_ALL}, serving = {.rewrites = REWRITE_ALL, .frozen = true};
    RETURN_IF_ERROR(backend_open(device, &options, &life->backend, error));
    RETURN_IF_ERROR(variables_create(life->backend, &life->variables, error));
    RETURN_IF_ERROR(variables_declare(life->variables, life->step, 1, error));
    RETURN_IF_ERROR(plan_compile(life->backend, life->step, life->variables, &training, &life->training, error));
    RETURN_IF_ERROR(run_twice(life->training, error));
    RETURN_IF_ERROR(variables_mirror(&life->mirror, life->variables, error));
    RETURN_IF_ERROR(plan_compile(life->backend, life->answer, life->variables, &serving, &life->serving, error));
    RETURN_IF_ERROR(run_twice(life->serving, error));
    return plan_refresh(life->serving, error);
}

static void end(Life *life)
{
    plan_destroy(life->training);
    plan_destroy(life->serving);
    variables_destroy(life->mirror);
    variables_destroy(life->variables);
    backend_close(life->backend);
    graph_destroy(life->step);
    graph_destroy(life->answer);
}

/* --- again and again --- */

typedef struct Chance {
    const char *device;
    Precision precision;
    long failing; /* the call */
} Chance;

static void live_in_child(void *argument)
{
    const Chance *chance = argument;
    char number[24];
    Error error = {.status = STATUS_OK};
    Life life = {.step = network_graph(DTYPE_F32, true, BATCH), .answer = answer_graph()};
    snprintf(number, sizeof number, "%ld", chance->failing);
    setenv("SIM_FAIL", number, 1);
    setenv("SIM_END", "1", 1);
    setenv("NEURON_PLANS", "", 1);
    const Status status = live(&life, chance->device, chance->precision, &error);
    if (status != STATUS_OK) fprintf(stderr, "%s\n", error.message);
    end(&life);
    exit(status == STATUS_OK ? 0 : 1);
}

/* Each sentence has the name of a call or of a library in it. */
static bool names_a_call(const char *text)
{
    static const char *const names[] = {"cuda", "cublas", "cudnn", "nccl", "NCCL", "kernel_"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(text, names[i]) != NULL) return true;
    return false;
}

/* Returns 1 when the failure ended the life, 0 when it didn't. *calls: how many there were. */
static int live_once(Chance *chance, long *calls)
{
    int status;
    long left = -1;
    char *said = child_run(live_in_child, chance, &status);
    const char *last = strstr(said, "sim: in the end: ");
    if (last != NULL) sscanf(last, "sim: in the end: %ld calls, %ld things", calls, &left);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "%s, call %ld: status %x\n%s", chance->device,
                  chance->failing, (unsigned)status, said);
    ck_assert_msg(left == 0, "%s, call %ld: left something\n%s", chance->device, chance->failing, said);
    ck_assert_msg(WEXITSTATUS(status) == 0 || names_a_call(said), "%s, call %ld:\n%s", chance->device, chance->failing,
                  said);
    free(said);
    return WEXITSTATUS(status);
}

/* In a process of its own: this one never loads the plug-in, so that each life begins with a new one. */
static void open_device(void *device)
{
    exit(harness_available(device, PRECISION_F32) ? 0 : 1);
}

static void fail_each(char *device, Precision precision)
{
    Chance chance = {device, precision, 0};
    long failed = 0, calls = 0;
    int status;
    free(child_run(open_device, device, &status));
    if (status != 0) return;
    do {
        chance.failing++;
        failed += live_once(&chance, &calls);
    } while (calls >= chance.failing);
    printf("%s, %s: %ld calls, of which %ld end the life\n", device, precision_name(precision), calls, failed);
    ck_assert_int_gt(failed, (calls + 1) / 2);
}

START_TEST(one_device_in_f32)
{
    fail_each("sim", PRECISION_F32);
}
END_TEST

START_TEST(one_device_in_f16)
{
    fail_each("sim", PRECISION_F16);
}
END_TEST

START_TEST(two_devices)
{
    fail_each("sim:0,1", PRECISION_F32);
}
END_TEST

SUITE_MAIN("any_call", one_device_in_f32, one_device_in_f16, two_devices)
