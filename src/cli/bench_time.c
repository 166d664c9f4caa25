#include "cli/bench_time.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/size.h"

enum { LEAST_RUNS = 9, LEAST_WARM_RUNS = 3 };

static const double WARM_SECONDS = 0.2, STEADY_SECONDS = 1;

typedef struct Samples {
    double *seconds;
    int64_t count, capacity;
} Samples;

static Status add_sample(Samples *samples, double seconds, Error *error)
{
    if (samples->count == samples->capacity) {
        int64_t capacity = samples->capacity > 0 ? 2 * samples->capacity : 1024;
        double *grown = realloc(samples->seconds, (size_t)capacity * sizeof *grown);
        if (grown == NULL)
            return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %ld measurements", (long)capacity);
        samples->seconds = grown;
        samples->capacity = capacity;
    }
    samples->seconds[samples->count++] = seconds;
    return STATUS_OK;
}

static double now(void)
{
    return clock_seconds(clock_now(clock_monotonic()));
}

/* Caches, branch predictors and the clock rate settle. */
static Status warm_up(BenchPlan *plan, int64_t repeat, Error *error)
{
    double start = now();
    int64_t most = repeat > 0 && repeat < LEAST_WARM_RUNS ? repeat : INT64_MAX;
    for (int64_t run = 0; run < most && (run < LEAST_WARM_RUNS || now() - start < WARM_SECONDS); run++)
        RETURN_IF_ERROR(bench_plan_run(plan, error));
    return STATUS_OK;
}

static Status measure(BenchPlan *plan, int64_t repeat, Samples *samples, Error *error)
{
    double first = now(), start = first;
    for (;;) {
        RETURN_IF_ERROR(bench_plan_run(plan, error));
        double end = now();
        RETURN_IF_ERROR(add_sample(samples, end - start, error));
        bool enough =
            repeat > 0 ? samples->count >= repeat : samples->count >= LEAST_RUNS && end - first >= STEADY_SECONDS;
        if (enough) return STATUS_OK;
        start = now();
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

Status bench_time(BenchPlan *plan, int64_t repeat, BenchTime *out, Error *error)
{
    Samples samples = {0};
    Status status;
    GOTO_IF_ERROR(warm_up(plan, repeat, error), done);
    GOTO_IF_ERROR(measure(plan, repeat, &samples, error), done);
    out->median = bench_median(samples.seconds, samples.count);
    out->least = samples.seconds[0];
    out->runs = samples.count;
done:
    free(samples.seconds);
    return status;
}
