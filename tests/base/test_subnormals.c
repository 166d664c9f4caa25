#include "base/subnormals.h"

#include <pthread.h>

#include "support/suite.h"

/* The smallest normal number by two: volatile, so that the compiler doesn't compute it. */
static float half_of_the_least(void)
{
    volatile float least = 0x1p-126f, half = 0.5f;
    return least * half;
}

/* As many times that as is normal again: 0 where a subnormal operand is a zero. */
static float many_times(volatile float subnormal)
{
    volatile float many = 0x1p100f;
    return subnormal * many;
}

static void *compute(void *result)
{
    *(float *)result = half_of_the_least();
    return NULL;
}

START_TEST(they_are_numbers_before)
{
    ck_assert(half_of_the_least() > 0);
    ck_assert(many_times(0x1p-130f) > 0);
}
END_TEST

START_TEST(results_and_operands_are_zeros)
{
    subnormals_flush();
#if defined __SSE2__ || defined __aarch64__
    ck_assert(half_of_the_least() == 0);
    ck_assert(many_times(0x1p-130f) == 0);
#endif
    ck_assert(many_times(0x1p-126f) == 0x1p-26f);
}
END_TEST

START_TEST(threads_inherit_it)
{
    pthread_t thread;
    float result = 1;
    subnormals_flush();
    ck_assert_int_eq(pthread_create(&thread, NULL, compute, &result), 0);
    pthread_join(thread, NULL);
    ck_assert(result == half_of_the_least());
}
END_TEST

SUITE_MAIN("subnormals", they_are_numbers_before, results_and_operands_are_zeros, threads_inherit_it)
