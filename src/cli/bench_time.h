/* Repeated measurements and their middle. */
#pragma once

#include "cli/bench_plan.h"

typedef struct BenchTime {
    double median, least; /* seconds a run */
    int64_t runs;
} BenchTime;

/* Runs the plan to warm it up, and then `repeat` times; 0: for about a second, at least 9 times. */
Status bench_time(BenchPlan *plan, int64_t repeat, BenchTime *out, Error *error);

/* Reorders the values; count >= 1. */
double bench_median(double *values, int64_t count);
