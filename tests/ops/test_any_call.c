/* Any call of the CUDA libraries may fail. A short life on simulated devices is lived again and again, each time with
 * another call failing: it ends with a sentence, and leaves nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "graph/ops.h"
#include "graph/rewrite.h"
#include "ops/network.h"
#include "support/suite.h"

enum { BATCH = 4, TEXT = 8192 };

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

typedef struct Ending {
    int status; /* of the process */
    long calls, left;
    char text[TEXT]; /* what it said */
} Ending;

static void live_in_child(const char *device, Precision precision, long failing, int to)
{
    char number[24];
    Error error = {.status = STATUS_OK};
    Life life = {.step = network_graph(DTYPE_F32, true, BATCH), .answer = answer_graph()};
    snprintf(number, sizeof number, "%ld", failing);
    setenv("SIM_FAIL", number, 1);
    setenv("SIM_END", "1", 1);
    setenv("NEURON_PLANS", "", 1);
    dup2(to, STDERR_FILENO);
    const Status status = live(&life, device, precision, &error);
    if (status != STATUS_OK) fprintf(stderr, "%s\n", error.message);
    end(&life);
    exit(status == STATUS_OK ? 0 : 1);
}

static Ending live_once(const char *device, Precision precision, long failing)
{
    int ends[2];
    Ending ending = {.left = -1};
    size_t length = 0;
    fflush(NULL);
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(ends[0]);
        live_in_child(device, precision, failing, ends[1]);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], ending.text + length, TEXT - 1 - length)) > 0;)
        length += (size_t)got;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &ending.status, 0), child);
    const char *last = strstr(ending.text, "sim: in the end: ");
    if (last != NULL) sscanf(last, "sim: in the end: %ld calls, %ld things", &ending.calls, &ending.left);
    return ending;
}

static bool available(const char *device)
{
    Backend *backend = NULL;
    Error error = {.status = STATUS_OK};
    const pid_t child = fork(); /* so that this process never loads the plug-in */
    if (child == 0) _exit(backend_open(device, NULL, &backend, &error) == STATUS_OK ? 0 : 1);
    int status = 1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (status != 0) printf("skipped: there is no device '%s'\n", device);
    return status == 0;
}

/* Each sentence has the name of a call or of a library in it. */
static bool names_a_call(const char *text)
{
    static const char *const names[] = {"cuda", "cublas", "cudnn", "nccl", "NCCL", "kernel_"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(text, names[i]) != NULL) return true;
    return false;
}

static void fail_each(const char *device, Precision precision)
{
    long failed = 0, n = 0;
    if (!available(device)) return;
    for (;;) {
        const Ending ending = live_once(device, precision, ++n);
        ck_assert_msg(WIFEXITED(ending.status) && WEXITSTATUS(ending.status) <= 1, "%s, call %ld: status %x\n%s",
                      device, n, (unsigned)ending.status, ending.text);
        ck_assert_msg(ending.left == 0, "%s, call %ld: left something\n%s", device, n, ending.text);
        ck_assert_msg(WEXITSTATUS(ending.status) == 0 || names_a_call(ending.text), "%s, call %ld:\n%s", device, n,
                      ending.text);
        failed += WEXITSTATUS(ending.status);
        if (ending.calls < n) break; /* there are no more */
    }
    printf("%s, %s: %ld calls, of which %ld end the life\n", device, precision_name(precision), n - 1, failed);
    ck_assert_int_gt(failed, n / 2);
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
