#include "ops/harness.h"

#include <check.h>
#include <math.h>
#include <stdio.h>

static void require(const Harness *harness, Status status, const Error *error)
{
    ck_assert_msg(status == STATUS_OK, "%s: %s: %s", harness->label, status_name(status), error->message);
}

bool harness_available(const char *device, Precision precision)
{
    Backend *backend = NULL;
    Error error = {0};
    const BackendOptions options = {.threads = 1, .precision = precision};
    const Status status = backend_open(device, &options, &backend, &error);
    if (status != STATUS_OK) printf("skipped: %s\n", error.message);
    backend_close(backend);
    return status == STATUS_OK;
}

Harness harness_open(const char *device, int threads, const Graph *graph, unsigned rewrites)
{
    return harness_open_in(PRECISION_F32, device, threads, graph, rewrites);
}

Harness harness_open_in(Precision precision, const char *device, int threads, const Graph *graph, unsigned rewrites)
{
    Harness harness = {0};
    Error error = {0};
    const char *operation =
        graph_node_count(graph) > 0 ? operation_of(graph_node(graph, 0)->operation)->name : "empty graph";
    snprintf(harness.label, sizeof harness.label, "%s, %s", device, operation);
    const BackendOptions options = {.threads = threads, .precision = precision};
    require(&harness, graph_check(graph, &error), &error);
    require(&harness, backend_open(device, &options, &harness.backend, &error), &error);
    require(&harness, variables_create(harness.backend, &harness.variables, &error), &error);
    require(&harness, variables_declare(harness.variables, graph, 1, &error), &error);
    require(&harness,
            plan_compile(harness.backend, graph, harness.variables, &(PlanOptions){.rewrites = rewrites}, &harness.plan,
                         &error),
            &error);
    return harness;
}

void harness_close(Harness *harness)
{
    plan_destroy(harness->plan);
    variables_destroy(harness->variables);
    backend_close(harness->backend);
    *harness = (Harness){0};
}

void harness_run(const Harness *harness)
{
    Error error = {0};
    require(harness, plan_run(harness->plan, &error), &error);
}

Tensor harness_input(const Harness *harness, const char *name)
{
    Tensor tensor = plan_input(harness->plan, name);
    ck_assert_msg(tensor.data != NULL, "the plan has no input '%s'", name);
    return tensor;
}

Tensor harness_output(const Harness *harness, const char *name)
{
    Tensor tensor = plan_output(harness->plan, name);
    ck_assert_msg(tensor.data != NULL, "the plan has no output '%s'", name);
    return tensor;
}

void harness_fill(Harness *harness, const OperationCase *test)
{
    char label[CASE_LABEL_SIZE];
    snprintf(harness->label, sizeof harness->label, "%s, %.64s", backend_name(harness->backend),
             case_label(test, label));
    for (int i = 0; i < case_input_count(test); i++) {
        if (test->inputs[i].fill == FILL_ABSENT) continue;
        char name[32];
        snprintf(name, sizeof name, "input%d", i);
        Tensor tensor = harness_input(harness, name);
        case_fill(test, i, &tensor);
    }
}

/* Bits of a value, and the exponent of the smallest that has them all; below it steps are as there. */
static double rounded(double value, int bits, int least)
{
    int exponent;
    if (value == 0 || !isfinite(value)) return value;
    frexp(value, &exponent);
    const int step = (exponent - 1 < least ? least : exponent - 1) - bits + 1;
    return ldexp(nearbyint(ldexp(value, -step)), step);
}

void round_values(const Tensor *tensor, Precision precision)
{
    static const struct {
        int bits, least;
    } types[PRECISION_COUNT] = {{24, -126}, {11, -126}, {8, -126}, {11, -14}}; /* f32, tf32, bf16, f16 */
    if (!dtype_is_float(tensor->dtype)) return;
    for (int64_t i = 0, count = shape_count(tensor->shape); i < count; i++)
        element_set(tensor, i, rounded(element_get(tensor, i), types[precision].bits, types[precision].least));
}

double relative_difference_of_values(const Tensor *a, const Tensor *b)
{
    if (!shape_equal(a->shape, b->shape)) return INFINITY;
    double difference = 0, norm = 0;
    for (int64_t i = 0, count = shape_count(a->shape); i < count; i++) {
        const double x = element_get(a, i), y = element_get(b, i);
        if (isnan(x) != isnan(y)) return INFINITY;
        if (isnan(x)) continue;
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    if (difference == 0) return 0;
    if (!dtype_is_float(b->dtype)) return INFINITY;
    return sqrt(difference / norm);
}

double relative_difference(const Tensor *a, const Tensor *b)
{
    return a->dtype == b->dtype ? relative_difference_of_values(a, b) : INFINITY;
}
