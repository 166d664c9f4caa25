#include "neuron/rescue.h"

#include "base/clock.h"

static const uint64_t least_pause = 1000000000; /* ns between two copies */
enum { SHARE = 100 };                           /* copying takes at most one such part of the time */

Status rescue_take(Rescue *rescue, const Variables *variables, const CheckpointValues *values, int64_t step,
                   Error *error)
{
    const uint64_t start = clock_now(clock_monotonic());
    if (variables_in_host_memory(variables) || (rescue->copy != NULL && start - rescue->taken < rescue->pause))
        return STATUS_OK;
    RETURN_IF_ERROR(variables_mirror(&rescue->other, variables, error));
    Variables *before = rescue->copy;
    rescue->copy = rescue->other;
    rescue->other = before;
    rescue->values = *values;
    rescue->step = step;
    rescue->taken = clock_now(clock_monotonic());
    rescue->pause = SHARE * (rescue->taken - start);
    if (rescue->pause < least_pause) rescue->pause = least_pause;
    return STATUS_OK;
}

void rescue_free(Rescue *rescue)
{
    variables_destroy(rescue->copy);
    variables_destroy(rescue->other);
    rescue->copy = rescue->other = NULL;
}
