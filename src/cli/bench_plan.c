#include "cli/bench_plan.h"

#include <math.h>
#include <string.h>

#include "cli/signals.h"
#include "graph/rewrite.h"

enum { MOST_PARAMETERS = 512 };

static const double LEARNING_RATE =
    0.001; /* small: repeated on one batch, the loss must not fall to denormal numbers */
static const double MOMENTUM = 0.9, DROPOUT = 0.5;

const char *bench_kind_name(BenchKind kind)
{
    static const char *const names[BENCH_KINDS] = {"train_step", "inference", "inference_folded"};
    return names[kind];
}

bool bench_kind_wanted(const Options *options, BenchKind kind)
{
    if (kind == BENCH_TRAIN_STEP) return true;
    return !options->backward && (kind != BENCH_INFERENCE_FOLDED || options->fold);
}

/* --- declaring --- */

static void declare_train_step(Graph *g, Value loss)
{
    Value parameters[MOST_PARAMETERS], gradients[MOST_PARAMETERS];
    int count = graph_parameters(g, parameters, MOST_PARAMETERS);
    if (count > MOST_PARAMETERS) {
        graph_fail(g, STATUS_OUT_OF_RANGE, "the soma has %d parameters, at most %d can be measured", count,
                   MOST_PARAMETERS);
        return;
    }
    graph_gradient(g, &loss, NULL, 1, parameters, count, gradients);
    graph_output(g, "loss", loss);
    sgd_group(g, parameters, gradients, count, "lr", (SgdOptions){.momentum = MOMENTUM});
}

static void declare(Graph *g, const BenchWork *work)
{
    SomaConfig config = {
        .batch = work->batch, .rows = work->soma->rows, .columns = work->soma->columns, .dropout = DROPOUT};
    SomaValues values = work->soma->declare(g, &config);
    if (work->kind == BENCH_TRAIN_STEP)
        declare_train_step(g, values.loss);
    else
        graph_output(g, "local_target", values.local_target);
}

/* --- inputs --- */

static void fill_inputs(BenchPlan *plan)
{
    Rng rng = rng_make(plan->work.seed, RNG_STREAM_BENCH);
    Tensor image = plan_input(plan->plan, "image"), labels = plan_input(plan->plan, "labels");
    for (int64_t i = 0; image.data != NULL && i < shape_count(image.shape); i++)
        ((float *)image.data)[i] = (float)rng_uniform(&rng);
    for (int64_t i = 0; labels.data != NULL && i < shape_count(labels.shape); i++)
        ((int32_t *)labels.data)[i] = (int32_t)rng_below(&rng, (uint64_t)plan->work.soma->classes);
    Tensor lr = plan_input(plan->plan, "lr"), random = plan_input(plan->plan, "random");
    if (lr.data != NULL) *(float *)lr.data = (float)LEARNING_RATE;
    if (random.data != NULL) ((int64_t *)random.data)[0] = (int64_t)plan->work.seed;
}

static Status open_with(BenchPlan *plan, Backend *backend, const BenchWork *work, const PlanOptions *options,
                        Error *error)
{
    *plan = (BenchPlan){.work = *work};
    Graph *g = graph_create(DTYPE_F32, work->kind == BENCH_TRAIN_STEP);
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    Status status;
    declare(g, work);
    GOTO_IF_ERROR(graph_check(g, error), done);
    GOTO_IF_ERROR(variables_create(backend, &plan->variables, error), done);
    GOTO_IF_ERROR(variables_declare(plan->variables, g, work->seed, error), done);
    GOTO_IF_ERROR(plan_compile(backend, g, plan->variables, options, &plan->plan, error), done);
    fill_inputs(plan);
done:
    graph_destroy(g);
    return status;
}

Status bench_plan_open(BenchPlan *plan, Backend *backend, const BenchWork *work, bool profile, Error *error)
{
    PlanOptions options = {.rewrites = REWRITE_ALL, .frozen = work->kind != BENCH_TRAIN_STEP, .profile = profile};
    if (work->kind == BENCH_INFERENCE_FOLDED) options.rewrites |= REWRITE_FOLD_LINEAR;
    return open_with(plan, backend, work, &options, error);
}

void bench_plan_close(BenchPlan *plan)
{
    plan_destroy(plan->plan);
    variables_destroy(plan->variables);
    *plan = (BenchPlan){0};
}

Status bench_plan_run(BenchPlan *plan, Error *error)
{
    if (signals_stop_requested()) return error_set(error, STATUS_CANCELLED, "stopped by a signal");
    Tensor random = plan_input(plan->plan, "random");
    if (random.data != NULL) ((int64_t *)random.data)[1] = plan->step++;
    return plan_run(plan->plan, error);
}

/* --- checking --- */

/* |a - b| / |b|; 0 where both are 0, infinite where only b is, NaN with a NaN in either. */
static double relative_difference(const float *a, const float *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

static Status compare(const BenchPlan *plan, const char *name, Tensor ours, Tensor expected, double *worst,
                      Error *error)
{
    static const double rounded[PRECISION_COUNT] = {
        [PRECISION_TF32] = 0.15, [PRECISION_F16] = 0.15, [PRECISION_BF16] = 0.4};
    double limit = plan->work.kind == BENCH_INFERENCE_FOLDED ? 1e-5 : 1e-4;
    if (plan->work.precision != PRECISION_F32) limit = rounded[plan->work.precision];
    double difference = relative_difference(ours.data, expected.data, shape_count(expected.shape));
    if (!(difference <= limit))
        return error_set(error, STATUS_INTERNAL,
                         "wrong result: '%s' of %s at batch %ld differs from the reference by %.3g of its norm, "
                         "expected at most %.0e",
                         name, bench_kind_name(plan->work.kind), (long)plan->work.batch, difference, limit);
    if (difference > *worst) *worst = difference;
    return STATUS_OK;
}

static Status compare_variable(const BenchPlan *plan, const BenchPlan *expected, int index, double *worst, Error *error)
{
    const char *name = variables_name(expected->variables, index);
    Shape shape = variables_shape(expected->variables, index);
    Tensor a = {0}, b = {0};
    Status status;
    GOTO_IF_ERROR(tensor_create(DTYPE_F32, shape, &a, error), done);
    GOTO_IF_ERROR(tensor_create(DTYPE_F32, shape, &b, error), done);
    int ours = variables_find(plan->variables, name);
    GOTO_IF_ERROR(variables_read(plan->variables, ours, a.data, a.size, error), done);
    GOTO_IF_ERROR(variables_read(expected->variables, index, b.data, b.size, error), done);
    GOTO_IF_ERROR(compare(plan, name, a, b, worst, error), done);
done:
    tensor_destroy(&a);
    tensor_destroy(&b);
    return status;
}

Status bench_plan_check(BenchPlan *plan, Backend *reference, double *difference, Error *error)
{
    BenchPlan expected = {0};
    const char *output = plan->work.kind == BENCH_TRAIN_STEP ? "loss" : "local_target";
    Status status;
    *difference = 0;
    GOTO_IF_ERROR(open_with(&expected, reference, &plan->work, &(PlanOptions){0}, error), done);
    GOTO_IF_ERROR(bench_plan_run(&expected, error), done);
    GOTO_IF_ERROR(bench_plan_run(plan, error), done);
    GOTO_IF_ERROR(
        compare(plan, output, plan_output(plan->plan, output), plan_output(expected.plan, output), difference, error),
        done);
    for (int i = 0; plan->work.kind == BENCH_TRAIN_STEP && i < variables_count(expected.variables); i++)
        GOTO_IF_ERROR(compare_variable(plan, &expected, i, difference, error), done);
done:
    bench_plan_close(&expected);
    return status;
}
