#include "neuron/echo.h"

#include <math.h>
#include <string.h>

#include "models/soma.h"
#include "rpc/rpc.h"

enum {
    BLOCK = 16384, /* elements: 64 KiB of f32, which the second-level cache keeps */
    LANES = 16,    /* a count that the compiler knows becomes vector instructions */
};

/* What is read: a request's input, or its gradient. */
typedef struct Source {
    const AxonRequest *request;
    const Shape *shape;
    bool gradient;
    const char *what; /* in sentences */
} Source;

static Source input_of(const AxonRequest *request)
{
    return (Source){request, &request->shape, false, "the input"};
}

static Source gradient_of(const AxonRequest *request)
{
    return (Source){request, &request->gradient_shape, true, "the gradient"};
}

/* --- blocks --- */

static void read_ids(const AxonRequest *request, size_t first, size_t count, float *to)
{
    int64_t ids[LANES * LANES];
    for (size_t done = 0; done < count;) {
        size_t left = count - done, some = left < LANES * LANES ? left : LANES * LANES;
        axon_read_input(request, first + done, some, ids);
        for (size_t i = 0; i < some; i++)
            to[done + i] = (float)ids[i];
        done += some;
    }
}

static void read_block(const Source *source, size_t first, size_t count, float *to)
{
    if (source->gradient)
        axon_read_gradient(source->request, first, count, to);
    else if (source->request->modality == MODALITY_TEXT)
        read_ids(source->request, first, count, to);
    else
        axon_read_input(source->request, first, count, to);
}

/* Doubles in place. False when a result is not finite: its exponent is all ones, to which one more unit carries into
 * the sign's place. */
static bool double_all(float *values, size_t count)
{
    uint32_t carried[LANES] = {0}, bits[LANES], any = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (int k = 0; k < LANES; k++)
            values[i + (size_t)k] *= 2;
        memcpy(bits, values + i, sizeof bits);
        for (int k = 0; k < LANES; k++)
            carried[k] |= (bits[k] & 0x7fffffffu) + 0x00800000u;
    }
    for (; i < count; i++) {
        values[i] *= 2;
        memcpy(bits, values + i, sizeof *bits);
        any |= (bits[0] & 0x7fffffffu) + 0x00800000u;
    }
    for (int k = 0; k < LANES; k++)
        any |= carried[k];
    return (any & 0x80000000u) == 0;
}

/* Why a doubled block is not finite: the sender's values were not, or twice them overflow. */
static Status explain(const Source *source, size_t first, size_t count, float *block, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    read_block(source, first, count, block);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(block[i]))
            return error_set(error, STATUS_INVALID_ARGUMENT, "element %zu of %s %s is %g, expected a finite number",
                             first + i, source->what, shape_text(*source->shape, text), (double)block[i]);
    return error_set(error, STATUS_INTERNAL, "twice the elements of %s %s overflow", source->what,
                     shape_text(*source->shape, text));
}

/* Puts the elements from `first` on of rows of `from` elements into rows of `to`, of which the rest keeps its zeros. */
static void spread(const float *block, size_t first, size_t count, size_t from, size_t to, float *out)
{
    size_t kept = from < to ? from : to;
    for (size_t done = 0; done < count;) {
        size_t row = (first + done) / from, column = (first + done) % from;
        size_t left = count - done, run = from - column < left ? from - column : left;
        if (column < kept)
            memcpy(out + row * to + column, block + done, (run < kept - column ? run : kept - column) * sizeof(float));
        done += run;
    }
}

/* Doubles what is read from rows of `from` elements into rows of `to` at `out`; NULL: only looks. Rows of one width are
 * doubled where they end up. */
static Status double_rows(const Source *source, size_t from, size_t to, float *out, Error *error)
{
    float scratch[BLOCK];
    size_t total = (size_t)shape_count(*source->shape);
    bool in_place = out != NULL && from == to;
    for (size_t first = 0; first < total; first += BLOCK) {
        size_t left = total - first, count = left < BLOCK ? left : BLOCK;
        float *block = in_place ? out + first : scratch;
        read_block(source, first, count, block);
        if (!double_all(block, count)) return explain(source, first, count, block, error);
        if (out != NULL && !in_place) spread(block, first, count, from, to, out);
    }
    return STATUS_OK;
}

/* --- answers --- */

/* Features of one row: what follows batch and seq. */
static size_t features_of(Shape shape)
{
    size_t features = 1;
    for (int i = 2; i < shape.rank; i++)
        features *= (size_t)shape.dims[i];
    return features;
}

static Shape answer_shape(const Echo *echo, const AxonRequest *request)
{
    return echo->raw ? request->shape : shape_of(request->shape.dims[0], request->shape.dims[1], SOMA_NETWORK_DIM);
}

/* `whole`: every element will be written, so that none needs to be zeroed first. */
static Status answer_create(const Echo *echo, Shape shape, bool whole, Tensor *out, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    size_t bytes = 0, limit = echo->max_answer_bytes > 0 ? echo->max_answer_bytes : RPC_MESSAGE_BYTES;
    if (!shape_bytes(shape, sizeof(float), &bytes) || bytes > limit)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "the answer would be %s, %zu bytes, expected at most %zu",
                         shape_text(shape, text), bytes, limit);
    return whole ? tensor_allocate(DTYPE_F32, shape, out, error) : tensor_create(DTYPE_F32, shape, out, error);
}

/* Sends what a handler made, or says why it has made none. */
static void finish(AxonRequest *request, Status status, Tensor *answer, const Error *error)
{
    if (status == STATUS_OK) {
        axon_answer(request, answer, NULL);
        return;
    }
    tensor_destroy(answer);
    axon_fail(request, error);
}

static Status forward_one(const Echo *echo, const AxonRequest *request, Tensor *answer, Error *error)
{
    Shape shape = answer_shape(echo, request);
    Source input = input_of(request);
    size_t from = features_of(request->shape), to = features_of(shape);
    RETURN_IF_ERROR(answer_create(echo, shape, from >= to, answer, error));
    return double_rows(&input, from, to, answer->data, error);
}

static void forward(void *context, AxonRequest *const *requests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Tensor answer = {0};
        Error error = {0};
        Status status = forward_one(context, requests[i], &answer, &error);
        finish(requests[i], status, &answer, &error);
    }
}

static Status backward_one(const Echo *echo, const AxonRequest *request, Tensor *answer, Error *error)
{
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    bool text = request->modality == MODALITY_TEXT;
    Shape expected = answer_shape(echo, request), shape = text ? shape_of(1, 1) : request->shape;
    Source input = input_of(request), gradient = gradient_of(request);
    if (!shape_equal(request->gradient_shape, expected))
        return error_set(error, STATUS_INVALID_ARGUMENT, "shape of the gradient is %s, expected %s",
                         shape_text(request->gradient_shape, a), shape_text(expected, b));
    RETURN_IF_ERROR(double_rows(&input, features_of(request->shape), 0, NULL, error));
    size_t from = features_of(expected), to = features_of(request->shape);
    RETURN_IF_ERROR(answer_create(echo, shape, !text && from >= to, answer, error));
    return double_rows(&gradient, from, to, text ? NULL : answer->data, error);
}

static void backward(void *context, AxonRequest *request)
{
    Tensor answer = {0};
    Error error = {0};
    Status status = backward_one(context, request, &answer, &error);
    finish(request, status, &answer, &error);
}

AxonHandler echo_handler(const Echo *echo)
{
    return (AxonHandler){.context = (void *)(uintptr_t)echo, .forward = forward, .backward = backward};
}
