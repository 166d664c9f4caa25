#include "cli/bench_wire.h"

#include <inttypes.h>
#include <string.h>

#include "base/rng.h"
#include "cli/bench_load.h"
#include "dendrite/dendrite.h"
#include "neuron/echo.h"

enum { MOST_CASES = 4, LARGE = 1 << 20 }; /* of large tensors (bytes), one case, for the memory */

typedef struct WireCases {
    size_t count;
    Tensor inputs[MOST_CASES], gradients[MOST_CASES], expected[MOST_CASES];
    LoadCase cases[MOST_CASES];
} WireCases;

static Status make_random(int64_t count, uint64_t seed, Tensor *out, Error *error)
{
    Rng rng = rng_make(seed, RNG_STREAM_BENCH);
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, shape_of(1, 1, count), out, error));
    for (int64_t i = 0; i < count; i++)
        tensor_f32(out)[i] = (float)rng_u32(&rng) * 0x1p-32f - 0.5f;
    return STATUS_OK;
}

/* Twice `from`, padded with zeros or cut to `count` numbers. */
static Status make_double(const Tensor *from, int64_t count, Tensor *out, Error *error)
{
    int64_t there = shape_count(from->shape);
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, shape_of(1, 1, count), out, error));
    for (int64_t i = 0; i < count && i < there; i++)
        tensor_f32(out)[i] = 2 * tensor_f32(from)[i];
    return STATUS_OK;
}

/* `raw`: the neuron answers in the input's shape, else with 512 features. */
static Status make_case(WireCases *wire, size_t index, const Options *options, int64_t bytes, bool raw, Error *error)
{
    Tensor *input = &wire->inputs[index], *gradient = &wire->gradients[index], *expected = &wire->expected[index];
    int64_t count = bytes / (int64_t)sizeof(float), answered = raw ? count : NETWORK_DIM;
    uint64_t seed = (uint64_t)options->seed + 2 * index;
    RETURN_IF_ERROR(make_random(count, seed, input, error));
    if (options->backward) {
        RETURN_IF_ERROR(make_random(answered, seed + 1, gradient, error));
        RETURN_IF_ERROR(make_double(gradient, count, expected, error));
    } else {
        RETURN_IF_ERROR(make_double(input, answered, expected, error));
    }
    wire->cases[index] = (LoadCase){.input = input,
                                    .gradient = options->backward ? gradient : NULL,
                                    .answer = expected->shape,
                                    .expected = expected};
    return STATUS_OK;
}

static void free_cases(WireCases *wire)
{
    for (size_t i = 0; i < MOST_CASES; i++) {
        tensor_destroy(&wire->inputs[i]);
        tensor_destroy(&wire->gradients[i]);
        tensor_destroy(&wire->expected[i]);
    }
}

static Status make_cases(WireCases *wire, const Options *options, int64_t bytes, bool raw, Error *error)
{
    *wire = (WireCases){.count = bytes > LARGE ? 1 : MOST_CASES};
    Status status = STATUS_OK;
    for (size_t i = 0; i < wire->count && status == STATUS_OK; i++)
        status = make_case(wire, i, options, bytes, raw, error);
    if (status != STATUS_OK) free_cases(wire);
    return status;
}

static BenchQuestions questions_of(const WireCases *wire, int64_t bytes)
{
    return (BenchQuestions){
        .count = bytes, .modality = MODALITY_TENSOR, .cases = wire->cases, .case_count = wire->count};
}

/* Whether a neuron somewhere else answers in the input's shape: the one guess or the other is right. *raw is ours to
 * choose otherwise. */
static Status find_shape(const BenchLoad *load, int64_t bytes, bool *raw, Error *error)
{
    WireCases wire;
    RETURN_IF_ERROR(make_cases(&wire, load->options, bytes, *raw, error));
    BenchQuestions questions = questions_of(&wire, bytes);
    Error why;
    Status status = bench_load_check(load, &questions, &why);
    free_cases(&wire);
    if (status == STATUS_OK) return STATUS_OK;
    if (bench_load_is_own(load) || (status != STATUS_INTERNAL && status != STATUS_INVALID_ARGUMENT))
        return error_set(error, status, "%s", why.message);
    RETURN_IF_ERROR(make_cases(&wire, load->options, bytes, !*raw, error));
    questions = questions_of(&wire, bytes);
    status = bench_load_check(load, &questions, NULL);
    free_cases(&wire);
    *raw = !*raw;
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "%s (expected soma 'echo')", why.message);
}

static Status measure(BenchLoad *load, int64_t bytes, Error *error)
{
    WireCases wire;
    bool raw = load->options->raw;
    if (bytes % (int64_t)sizeof(float) != 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "--size is %" PRId64 ", expected a multiple of 4", bytes);
    RETURN_IF_ERROR(find_shape(load, bytes, &raw, error));
    RETURN_IF_ERROR(make_cases(&wire, load->options, bytes, raw, error));
    BenchQuestions questions = questions_of(&wire, bytes);
    Status status = bench_load_measure(load, &questions, error);
    free_cases(&wire);
    return status;
}

Status bench_wire(const Options *options, Output *output, Error *error)
{
    BenchLoad load = {0};
    Echo echo = {.raw = options->raw, .max_answer_bytes = (size_t)options->max_message};
    Status status;
    GOTO_IF_ERROR(bench_load_open(&load, "wire", "bytes", options, output, error), done);
    if (bench_load_is_own(&load)) GOTO_IF_ERROR(bench_load_serve(&load, echo_handler(&echo), error), done);
    for (size_t i = 0; i < options->sizes.count; i++)
        GOTO_IF_ERROR(measure(&load, options->sizes.items[i], error), done);
    status = bench_load_report(&load, error);
done:
    bench_load_close(&load);
    return status;
}
