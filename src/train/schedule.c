#include "train/schedule.h"

#include <math.h>
#include <string.h>

Status schedule_kind(const char *name, ScheduleKind *out, Error *error)
{
    static const char *const names[] = {"constant", "step", "linear", "cosine"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (ScheduleKind)i;
            return STATUS_OK;
        }
    return error_set(error, STATUS_INVALID_ARGUMENT, "schedule is '%s', expected constant, step, linear or cosine",
                     name);
}

double schedule_rate(const Schedule *s, int64_t step)
{
    double done = s->steps > 0 ? (double)step / (double)s->steps : 0;
    if (done > 1) done = 1;
    switch (s->kind) {
    case SCHEDULE_STEP:
        return s->steps_per_drop > 0 ? s->lr * pow(s->gamma, (double)(step / s->steps_per_drop)) : s->lr;
    case SCHEDULE_LINEAR:
        return s->lr * (1 - done);
    case SCHEDULE_COSINE:
        return s->lr * (1 + cos(3.14159265358979323846 * done)) / 2;
    case SCHEDULE_CONSTANT:
        break;
    }
    return s->lr;
}
