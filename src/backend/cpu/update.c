/* What optimisers need: norms, clipping, and the step itself, updated in place where the parameters live. */
#include <math.h>

#include "backend/cpu/cpu.h"

enum { SCALED_PART = 1024 };

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

static void run_loss_scale(const Step *step, int share)
{
    (void)share;
    const float scale = *view_f32(&step->inputs[1]);
    const bool good = isfinite(*view_f32(&step->inputs[0]));
    const int32_t steps = good ? *(const int32_t *)step->inputs[2].data + 1 : 0;
    const bool grow = steps >= LOSS_SCALE_INTERVAL;
    const float next = good ? (grow ? 2 * scale : scale) : scale / 2;
    *view_f32(&step->outputs[0]) = good ? 1 / scale : 0;
    if (step->outputs[1].present) *view_f32(&step->outputs[1]) = fmaxf(fminf(next, LOSS_SCALE_MOST), 1);
    if (step->outputs[2].present) *(int32_t *)step->outputs[2].data = grow ? 0 : steps;
}

Status prepare_loss_scale(Step *step, Error *error)
{
    (void)error;
    step->run = run_loss_scale;
    step->shares = 1;
    step->implementation = "loop";
    return STATUS_OK;
}

/* Gradients that are to be multiplied first: a part at a time, on the stack. */
static void sgd_scaled(const Step *step, const SimdSgd *sgd, float scale, Range range)
{
    float part[SCALED_PART];
    const float *g = view_f32(&step->inputs[2]);
    float *w = view_f32(&step->outputs[0]), *v = view_f32(&step->outputs[1]);
    for (int64_t i = range.begin; i < range.end; i += SCALED_PART) {
        const int64_t length = range.end - i < SCALED_PART ? range.end - i : SCALED_PART;
        step->simd->affine(g + i, scale, 0, part, 0, length);
        step->simd->sgd_momentum(sgd, part, v + i, w + i, 0, length);
    }
}

static void run_sgd(const Step *step, int share)
{
    const View *w = &step->outputs[0], *v = &step->outputs[1], *g = &step->inputs[2];
    const bool scaled = step->input_count > 4 && step->inputs[4].present;
    const float scale = scaled ? *view_f32(&step->inputs[4]) : 1;
    SimdSgd sgd = {.learning_rate = *view_f32(&step->inputs[3]),
                   .momentum = (float)step->attributes.sgd.momentum,
                   .weight_decay = (float)step->attributes.sgd.weight_decay,
                   .nesterov = step->attributes.sgd.nesterov};
    Range range = share_of(view_count(w), 16, share, step->shares);
    const View *from[2] = {&step->inputs[0], &step->inputs[1]};
    for (int i = 0; i < 2; i++) /* where the output isn't the state itself, it starts as a copy */
        if (step->outputs[i].data != from[i]->data)
            step->simd->affine(view_f32(from[i]), 1, 0, view_f32(&step->outputs[i]), range.begin, range.end);
    if (!scaled)
        step->simd->sgd_momentum(&sgd, view_f32(g), view_f32(v), view_f32(w), range.begin, range.end);
    else if (scale != 0) /* or else nothing changes */
        sgd_scaled(step, &sgd, scale, range);
}

Status prepare_sgd(Step *step, Error *error)
{
    (void)error;
    step->run = run_sgd;
    step->shares = shares_for(step, view_count(&step->outputs[0]), 16, 4096);
    step->implementation = "simd";
    return STATUS_OK;
}
