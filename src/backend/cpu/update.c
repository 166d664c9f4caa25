/* What optimisers need: norms, clipping, and the step itself, updated in place where the parameters live. */
#include <math.h>

#include "backend/cpu/cpu.h"

static void run_global_norm(const Step *step, int share)
{
    (void)share;
    double sum = 0;
    for (int i = 0; i < step->input_count; i++)
        sum += step->simd->sum_of_squares(view_f32(&step->inputs[i]), 0, view_count(&step->inputs[i]));
    *view_f32(&step->outputs[0]) = (float)sqrt(sum);
}

Status prepare_global_norm(Step *step, Error *error)
{
    (void)error;
    step->run = run_global_norm;
    step->shares = 1;
    step->implementation = "simd";
    return STATUS_OK;
}

static void run_clip_factor(const Step *step, int share)
{
    (void)share;
    double norm = *view_f32(&step->inputs[0]), most = step->attributes.clip.max_norm;
    double factor = !isfinite(norm) ? 0 : norm > most ? most / norm : 1;
    *view_f32(&step->outputs[0]) = (float)(factor * step->attributes.clip.scale);
}

Status prepare_clip_factor(Step *step, Error *error)
{
    (void)error;
    step->run = run_clip_factor;
    step->shares = 1;
    step->implementation = "loop";
    return STATUS_OK;
}

static void run_sgd(const Step *step, int share)
{
    const View *w = &step->outputs[0], *v = &step->outputs[1], *g = &step->inputs[2];
    SimdSgd sgd = {.learning_rate = *view_f32(&step->inputs[3]),
                   .momentum = (float)step->attributes.sgd.momentum,
                   .weight_decay = (float)step->attributes.sgd.weight_decay,
                   .nesterov = step->attributes.sgd.nesterov};
    Range range = share_of(view_count(w), 16, share, step->shares);
    const View *from[2] = {&step->inputs[0], &step->inputs[1]};
    for (int i = 0; i < 2; i++) /* where the output isn't the state itself, it starts as a copy */
        if (step->outputs[i].data != from[i]->data)
            step->simd->affine(view_f32(from[i]), 1, 0, view_f32(&step->outputs[i]), range.begin, range.end);
    step->simd->sgd_momentum(&sgd, view_f32(g), view_f32(v), view_f32(w), range.begin, range.end);
}

Status prepare_sgd(Step *step, Error *error)
{
    (void)error;
    step->run = run_sgd;
    step->shares = shares_for(step, view_count(&step->outputs[0]), 16, 4096);
    step->implementation = "simd";
    return STATUS_OK;
}
