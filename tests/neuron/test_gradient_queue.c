/* Which gradients are admitted: by age, by caller, by room. */
#include "neuron/gradient_queue.h"

#include <string.h>

#include "support/suite.h"

static GradientQueue *queue_make(uint64_t max_staleness, size_t capacity, size_t budget)
{
    GradientQueue *queue = NULL;
    const GradientLimits limits = {.max_staleness = max_staleness, .capacity = capacity, .budget = budget, .clip = 1};
    ck_assert_int_eq(gradient_queue_create(&limits, &queue, NULL), STATUS_OK);
    return queue;
}

/* -1: admitted; else the refusal, which must have been counted. */
static int admit_version(GradientQueue *queue, uint64_t caller, const uint64_t *version, uint64_t now)
{
    GradientStamp stamp = {.caller = caller, .has_version = version != NULL, .version = version ? *version : 0};
    GradientRefusal refusal = GRADIENT_REFUSALS;
    uint64_t before[GRADIENT_REFUSALS];
    for (int i = 0; i < GRADIENT_REFUSALS; i++)
        before[i] = gradient_queue_refused(queue, (GradientRefusal)i);
    const bool admitted = gradient_queue_admit(queue, &stamp, now, &refusal);
    for (int i = 0; i < GRADIENT_REFUSALS; i++)
        ck_assert_uint_eq(gradient_queue_refused(queue, (GradientRefusal)i),
                          before[i] + (!admitted && i == (int)refusal));
    return admitted ? -1 : (int)refusal;
}

static int admit(GradientQueue *queue, uint64_t caller)
{
    return admit_version(queue, caller, NULL, 5);
}

START_TEST(versions_too_old_or_ahead_are_stale)
{
    GradientQueue *queue = queue_make(3, 100, 100);
    const uint64_t stale[] = {0, 6, 11, UINT64_MAX}, fresh[] = {7, 8, 10};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(admit_version(queue, 1, &stale[i], 10), GRADIENT_STALE);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(admit_version(queue, 1, &fresh[i], 10), -1);
    ck_assert_int_eq(admit_version(queue, 1, NULL, 10), -1); /* whoever says nothing is believed */
    ck_assert_uint_eq(gradient_queue_waiting(queue), 4);
    gradient_queue_destroy(queue);
}
END_TEST

/* No version is so large that an age wraps around. */
START_TEST(ages_do_not_overflow)
{
    GradientQueue *queue = queue_make(UINT64_MAX, 100, 100);
    const uint64_t oldest = 0, ahead = UINT64_MAX;
    ck_assert_int_eq(admit_version(queue, 1, &oldest, UINT64_MAX), -1);
    ck_assert_int_eq(admit_version(queue, 1, &ahead, UINT64_MAX), -1);
    ck_assert_int_eq(admit_version(queue, 1, &ahead, 0), GRADIENT_STALE);
    gradient_queue_destroy(queue);
}
END_TEST

START_TEST(a_budget_is_a_caller_s)
{
    GradientQueue *queue = queue_make(3, 100, 2);
    for (uint64_t caller = 1; caller <= 3; caller++) {
        ck_assert_int_eq(admit(queue, caller), -1);
        ck_assert_int_eq(admit(queue, caller), -1);
        ck_assert_int_eq(admit(queue, caller), GRADIENT_OVER_BUDGET);
    }
    gradient_queue_destroy(queue);
}
END_TEST

START_TEST(a_full_queue_is_full_for_all)
{
    GradientQueue *queue = queue_make(3, 4, 3);
    for (uint64_t caller = 1; caller <= 4; caller++)
        ck_assert_int_eq(admit(queue, caller), -1);
    ck_assert_int_eq(admit(queue, 1), GRADIENT_QUEUE_FULL);
    ck_assert_int_eq(admit(queue, 5), GRADIENT_QUEUE_FULL);
    gradient_queue_destroy(queue);
}
END_TEST

START_TEST(taking_frees_every_place)
{
    GradientQueue *queue = queue_make(3, 3, 2);
    for (int round = 0; round < 3; round++) {
        ck_assert_uint_eq(gradient_queue_take(queue), round == 0 ? 0 : 3);
        ck_assert_int_eq(admit(queue, 1), -1);
        ck_assert_int_eq(admit(queue, 1), -1);
        ck_assert_int_eq(admit(queue, 1), GRADIENT_OVER_BUDGET);
        ck_assert_int_eq(admit(queue, 2), -1);
        ck_assert_int_eq(admit(queue, 2), GRADIENT_QUEUE_FULL);
    }
    gradient_queue_destroy(queue);
}
END_TEST

/* The place of one that turned out worthless is given back, to its caller and to the queue. */
START_TEST(what_is_withdrawn_takes_no_place)
{
    GradientQueue *queue = queue_make(3, 3, 2);
    ck_assert_int_eq(admit(queue, 1), -1);
    ck_assert_int_eq(admit(queue, 2), -1);
    ck_assert_int_eq(admit(queue, 2), -1);
    gradient_queue_withdraw(queue, 2, true);
    ck_assert_uint_eq(gradient_queue_refused(queue, GRADIENT_NOT_FINITE), 1);
    ck_assert_int_eq(admit(queue, 2), -1);
    gradient_queue_withdraw(queue, 1, false);
    ck_assert_uint_eq(gradient_queue_refused(queue, GRADIENT_NOT_FINITE), 1);
    ck_assert_int_eq(admit(queue, 2), GRADIENT_OVER_BUDGET);
    ck_assert_int_eq(admit(queue, 3), -1);
    ck_assert_uint_eq(gradient_queue_take(queue), 3);
    gradient_queue_destroy(queue);
}
END_TEST

START_TEST(refusals_have_names)
{
    const char *const names[] = {"stale", "over budget", "queue full", "not finite"};
    for (int i = 0; i < GRADIENT_REFUSALS; i++)
        ck_assert_str_eq(gradient_refusal_name((GradientRefusal)i), names[i]);
}
END_TEST

SUITE_MAIN("gradient queue", versions_too_old_or_ahead_are_stale, ages_do_not_overflow, a_budget_is_a_caller_s,
           a_full_queue_is_full_for_all, taking_frees_every_place, what_is_withdrawn_takes_no_place,
           refusals_have_names)
