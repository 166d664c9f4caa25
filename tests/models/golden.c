#include "models/golden.h"

#include <math.h>
#include <stdio.h>

enum { NAME_SIZE = 192, CLASSES = 10 };

/* Knuth's linear congruential generator (MMIX), started at the name's FNV-1a hash; its upper halves are used. */
typedef struct Draws {
    uint64_t state;
} Draws;

static Draws draws_of(const char *name)
{
    Draws draws = {UINT64_C(0xcbf29ce484222325)};
    for (const char *c = name; *c != '\0'; c++)
        draws.state = (draws.state ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    return draws;
}

static uint32_t draw(Draws *draws)
{
    draws->state = draws->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(draws->state >> 32);
}

static void set(const Tensor *tensor, int64_t index, double value)
{
    if (tensor->dtype == DTYPE_F64)
        ((double *)tensor->data)[index] = (float)value;
    else
        ((float *)tensor->data)[index] = (float)value;
}

static double get(const Tensor *tensor, int64_t index)
{
    return tensor->dtype == DTYPE_F64 ? ((const double *)tensor->data)[index]
                                      : (double)((const float *)tensor->data)[index];
}

void golden_uniform(const char *name, double bound, const Tensor *out)
{
    Draws draws = draws_of(name);
    for (int64_t i = 0, count = shape_count(out->shape); i < count; i++)
        set(out, i, (2 * (double)(draw(&draws) >> 8) + 1 - 0x1p24) / 0x1p24 * bound);
}

void golden_fractions(const char *name, const Tensor *out)
{
    Draws draws = draws_of(name);
    for (int64_t i = 0, count = shape_count(out->shape); i < count; i++)
        set(out, i, (draw(&draws) >> 8) / 0x1p24);
}

void golden_labels(const char *name, int64_t labelled, const Tensor *out)
{
    Draws draws = draws_of(name);
    int32_t *labels = out->data;
    for (int64_t i = 0; i < out->shape.dims[0]; i++) {
        const int32_t label = (int32_t)((draw(&draws) >> 16) % CLASSES);
        labels[i] = i < labelled ? label : -1;
    }
}

void golden_parameter(const char *name, int64_t fan_in, const Tensor *out)
{
    golden_uniform(name, sqrt(1.5 / (double)fan_in), out);
}

void golden_sketch(const char *name, const Tensor *tensor, double out[GOLDEN_SKETCH_SIZE])
{
    char seed[NAME_SIZE];
    snprintf(seed, sizeof seed, "signs of %s", name);
    Draws draws = draws_of(seed);
    double squares = 0, products[GOLDEN_PROJECTIONS] = {0};
    for (int64_t i = 0, count = shape_count(tensor->shape); i < count; i++) {
        const double value = get(tensor, i);
        const uint32_t signs = draw(&draws) >> 16;
        squares += value * value;
        for (int k = 0; k < GOLDEN_PROJECTIONS; k++)
            products[k] += signs >> k & 1 ? -value : value;
    }
    out[0] = sqrt(squares);
    for (int k = 0; k < GOLDEN_PROJECTIONS; k++)
        out[1 + k] = products[k];
}

double golden_difference(const double found[GOLDEN_SKETCH_SIZE], const double expected[GOLDEN_SKETCH_SIZE])
{
    double squares = 0;
    for (int k = 1; k < GOLDEN_SKETCH_SIZE; k++)
        squares += (found[k] - expected[k]) * (found[k] - expected[k]);
    return fmax(sqrt(squares / GOLDEN_PROJECTIONS), fabs(found[0] - expected[0])) / expected[0];
}
