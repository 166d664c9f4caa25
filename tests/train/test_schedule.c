/* Learning rates, against the numbers that PyTorch's schedulers give (torch.optim.lr_scheduler, worked out by hand from
 * their closed forms). */
#include "train/schedule.h"

#include <string.h>

#include "support/suite.h"

static const double TOLERANCE = 1e-15;

static void expect(const Schedule *schedule, int64_t step, double rate)
{
    const double found = schedule_rate(schedule, step);
    ck_assert_msg(found >= rate - TOLERANCE && found <= rate + TOLERANCE, "step %ld: %.17g, expected %.17g", (long)step,
                  found, rate);
}

START_TEST(constant_stays)
{
    const Schedule schedule = {SCHEDULE_CONSTANT, .lr = 0.05, .steps = 10};
    expect(&schedule, 0, 0.05);
    expect(&schedule, 9, 0.05);
    expect(&schedule, 1000, 0.05);
}
END_TEST

/* StepLR(step_size=10, gamma=0.1): 0.05 0.005 0.0005, changing at 10 and 20. */
START_TEST(step_drops_like_steplr)
{
    const Schedule schedule = {SCHEDULE_STEP, .lr = 0.05, .steps = 100, .steps_per_drop = 10, .gamma = 0.1};
    expect(&schedule, 0, 0.05);
    expect(&schedule, 9, 0.05);
    expect(&schedule, 10, 0.005);
    expect(&schedule, 19, 0.005);
    expect(&schedule, 20, 0.0005);
    const Schedule halves = {SCHEDULE_STEP, .lr = 1, .steps_per_drop = 3, .gamma = 0.5};
    expect(&halves, 8, 0.25);
    const Schedule never = {SCHEDULE_STEP, .lr = 0.05, .steps = 100, .gamma = 0.1};
    expect(&never, 99, 0.05);
}
END_TEST

/* LinearLR(start_factor=1, end_factor=0, total_iters=8) with lr 0.02: falls by 0.0025 a step. */
START_TEST(linear_reaches_zero_after_the_last_step)
{
    const Schedule schedule = {SCHEDULE_LINEAR, .lr = 0.02, .steps = 8};
    const double rates[] = {0.02, 0.0175, 0.015, 0.0125, 0.01, 0.0075, 0.005, 0.0025, 0};
    for (int64_t step = 0; step <= 8; step++)
        expect(&schedule, step, rates[step]);
    expect(&schedule, 100, 0); /* not below */
}
END_TEST

/* CosineAnnealingLR(T_max=6, eta_min=0) with lr 0.4: 0.2 (1 + cos(k pi / 6)); cosines 1, sqrt(3)/2, 1/2, 0, ... */
START_TEST(cosine_is_cosine_annealing)
{
    const Schedule schedule = {SCHEDULE_COSINE, .lr = 0.4, .steps = 6};
    expect(&schedule, 0, 0.4);
    expect(&schedule, 1, 0.37320508075688773);
    expect(&schedule, 2, 0.3);
    expect(&schedule, 3, 0.2);
    expect(&schedule, 4, 0.1);
    expect(&schedule, 5, 0.026794919243112270);
    expect(&schedule, 6, 0);
}
END_TEST

START_TEST(names_are_known)
{
    const char *const names[] = {"constant", "step", "linear", "cosine"};
    ScheduleKind kind;
    Error error = {0};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(schedule_kind(names[i], &kind, NULL), STATUS_OK);
        ck_assert_int_eq((int)kind, i);
    }
    ck_assert_int_eq(schedule_kind("Linear", &kind, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "'Linear'"));
    ck_assert_ptr_nonnull(strstr(error.message, "cosine"));
}
END_TEST

SUITE_MAIN("schedule", constant_stays, step_drops_like_steplr, linear_reaches_zero_after_the_last_step,
           cosine_is_cosine_annealing, names_are_known)
