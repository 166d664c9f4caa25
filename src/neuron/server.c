#include "neuron/server.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "neuron/server_plans.h"
#include "neuron/snapshot.h"
#include "rpc/rpc.h"
#include "wire/message.h"

enum { MAX_SIDE = 256 }; /* pixels of an image's side */

struct SomaServer {
    SomaServerOptions options;
    Backend *backend;
    Snapshot *snapshot;
    GradientSums *sums; /* NULL: doesn't learn */
    atomic_uint_fast64_t version;

    /* The handler's. */
    Variables *variables; /* but for the sums in it, which gradient_sums.h guards */
    ServerPlans *plans;
};

/* --- requests --- */

typedef struct Images {
    int64_t rows, height, width; /* rows: batch times seq */
    size_t pixels;
} Images;

static PlanSize plan_size(PlanKind kind, const Images *images, int64_t rows)
{
    return (PlanSize){.kind = kind, .rows = rows, .height = images->height, .width = images->width};
}

static Shape hidden_shape(const AxonRequest *request)
{
    return shape_of(request->shape.dims[0], request->shape.dims[1], SOMA_NETWORK_DIM);
}

static Status check_images(const SomaServer *server, const AxonRequest *request, Images *out, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    if (request->modality != MODALITY_IMAGE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "soma '%s' takes images, but the request's modality is %s",
                         server->options.soma->name, modality_name(request->modality));
    const int64_t *dims = request->shape.dims; /* [batch, seq, channels, rows, columns] */
    if (dims[2] != 1 || dims[3] > MAX_SIDE || dims[4] > MAX_SIDE)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "shape of the image is %s, expected [batch, seq, 1, rows, columns] with sides of 1 to %d",
                         shape_text(request->shape, text), MAX_SIDE);
    *out = (Images){dims[0] * dims[1], dims[3], dims[4], (size_t)(dims[3] * dims[4])};
    return STATUS_OK;
}

/* A small image has a large answer, so that what is made for it must be bounded too. */
static Status create_answer(const SomaServer *server, Shape shape, Tensor *out, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    size_t bytes = 0, limit = server->options.max_answer_bytes;
    if (!shape_bytes(shape, sizeof(float), &bytes) || bytes > limit)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "the answer would be %s, %zu bytes, expected at most %zu",
                         shape_text(shape, text), bytes, limit);
    return tensor_allocate(DTYPE_F32, shape, out, error);
}

/* `values` begin at the request's value `first`. */
static Status check_values(const float *values, size_t count, size_t first, const char *value, const char *whole,
                           Error *error)
{
    if (floats_finite(values, count)) return STATUS_OK;
    size_t i = 0;
    while (isfinite(values[i]))
        i++;
    return error_set(error, STATUS_INVALID_ARGUMENT, "%s %zu of the %s is %g, expected a finite number", value,
                     first + i, whole, (double)values[i]);
}

/* Rows `row` to `row + count` of a request, to where a plan reads them. */
static Status read_images(const AxonRequest *request, const Images *images, int64_t row, int64_t count, float *to,
                          Error *error)
{
    size_t first = (size_t)row * images->pixels, size = (size_t)count * images->pixels;
    axon_read_input(request, first, size, to);
    return check_values(to, size, first, "pixel", "image", error);
}

static Status read_gradient(const AxonRequest *request, int64_t row, int64_t count, float *to, Error *error)
{
    size_t first = (size_t)row * SOMA_NETWORK_DIM, size = (size_t)count * SOMA_NETWORK_DIM;
    axon_read_gradient(request, first, size, to);
    return check_values(to, size, first, "element", "gradient", error);
}

/* Zeroes a plan's input from element `used` on. */
static void clear_rest(Tensor input, size_t used)
{
    used *= sizeof(float);
    memset((char *)input.data + used, 0, input.size - used);
}

/* Takes over weights that were published since the last time. */
static Status adopt_weights(SomaServer *server, Error *error)
{
    uint64_t version = 0;
    bool taken = false;
    RETURN_IF_ERROR(snapshot_take(server->snapshot, server->variables, &version, &taken, error));
    if (!taken) return STATUS_OK;
    atomic_store(&server->version, version);
    server_plans_refresh(server->plans);
    return STATUS_OK;
}

static void fail(const SomaServer *server, AxonRequest *request, const Error *error)
{
    if (error->status == STATUS_DATA_LOSS && server->options.lost != NULL)
        server->options.lost(server->options.lost_context, error);
    axon_fail(request, error);
}

static void finish(SomaServer *server, AxonRequest *request, Status status, Tensor *answer, bool forward,
                   const Error *error)
{
    if (status == STATUS_OK) {
        uint64_t version = atomic_load(&server->version);
        axon_answer(request, answer, forward ? &version : NULL);
        return;
    }
    tensor_destroy(answer);
    fail(server, request, error);
}

/* --- Forward --- */

/* Copies rows of a plan's output to where the answer wants them. */
static Status take_hidden(const float *hidden, int64_t rows, float *to, Error *error)
{
    size_t count = (size_t)rows * SOMA_NETWORK_DIM;
    if (!floats_finite(hidden, count))
        return error_set(error, STATUS_INTERNAL, "the soma's answer is not finite: the input is too large for it");
    memcpy(to, hidden, count * sizeof(float));
    return STATUS_OK;
}

/* A request of more rows than one plan takes. */
static Status forward_pieces(SomaServer *server, const AxonRequest *request, const Images *images, Tensor *answer,
                             Error *error)
{
    RETURN_IF_ERROR(create_answer(server, hidden_shape(request), answer, error));
    for (int64_t row = 0; row < images->rows;) {
        int64_t left = images->rows - row, count = left < SERVER_MAX_ROWS ? left : SERVER_MAX_ROWS;
        Plan *plan;
        RETURN_IF_ERROR(server_plans_find(server->plans, plan_size(PLAN_FORWARD, images, count), &plan, error));
        Tensor input = plan_input(plan, "image"), hidden = plan_output(plan, "hidden");
        RETURN_IF_ERROR(read_images(request, images, row, count, input.data, error));
        clear_rest(input, (size_t)count * images->pixels);
        RETURN_IF_ERROR(plan_run(plan, error));
        RETURN_IF_ERROR(take_hidden(tensor_f32(&hidden), count, tensor_f32(answer) + row * SOMA_NETWORK_DIM, error));
        row += count;
    }
    return STATUS_OK;
}

static void forward_alone(SomaServer *server, AxonRequest *request, const Images *images)
{
    Tensor answer = {0};
    Error error = {0};
    Status status = forward_pieces(server, request, images, &answer, &error);
    finish(server, request, status, &answer, true, &error);
}

/* Requests that are computed as one: those that are left, and their rows. */
typedef struct Batch {
    AxonRequest *requests[SERVER_MAX_ROWS];
    size_t count;
    int64_t rows;
    Images images; /* of one; all have this size */
} Batch;

static int64_t rows_of(const AxonRequest *request)
{
    return request->shape.dims[0] * request->shape.dims[1];
}

/* Reads every request behind the one before. One that can't be read fails, and the next takes its place. */
static void fill(Batch *batch, Tensor input)
{
    size_t kept = 0;
    batch->rows = 0;
    for (size_t i = 0; i < batch->count; i++) {
        AxonRequest *request = batch->requests[i];
        int64_t rows = rows_of(request);
        float *to = tensor_f32(&input) + (size_t)batch->rows * batch->images.pixels;
        Error error = {0};
        if (read_images(request, &batch->images, 0, rows, to, &error) != STATUS_OK) {
            axon_fail(request, &error);
            continue;
        }
        batch->requests[kept++] = request;
        batch->rows += rows;
    }
    batch->count = kept;
    clear_rest(input, (size_t)batch->rows * batch->images.pixels);
}

static void answer_batch(SomaServer *server, const Batch *batch, const float *hidden)
{
    for (size_t i = 0; i < batch->count; i++) {
        AxonRequest *request = batch->requests[i];
        int64_t rows = rows_of(request);
        Tensor answer = {0};
        Error error = {0};
        Status status = create_answer(server, hidden_shape(request), &answer, &error);
        if (status == STATUS_OK) status = take_hidden(hidden, rows, answer.data, &error);
        finish(server, request, status, &answer, true, &error);
        hidden += rows * SOMA_NETWORK_DIM;
    }
}

static void fail_batch(const SomaServer *server, const Batch *batch, const Error *error)
{
    for (size_t i = 0; i < batch->count; i++)
        fail(server, batch->requests[i], error);
}

static void forward_batch(SomaServer *server, Batch *batch)
{
    Error error = {0};
    Plan *plan;
    PlanSize size = plan_size(PLAN_FORWARD, &batch->images, batch->rows);
    if (server_plans_find(server->plans, size, &plan, &error) != STATUS_OK) {
        fail_batch(server, batch, &error);
        return;
    }
    fill(batch, plan_input(plan, "image"));
    if (batch->count == 0) return;
    if (plan_run(plan, &error) != STATUS_OK) {
        fail_batch(server, batch, &error);
        return;
    }
    Tensor hidden = plan_output(plan, "hidden");
    answer_batch(server, batch, tensor_f32(&hidden));
}

/* Whatever comes is answered; what doesn't fit into the batch, in the batch after it or alone. */
static void forward(void *context, AxonRequest *const *requests, size_t count)
{
    SomaServer *server = context;
    Batch batch = {.count = 0};
    Error adopting = {0};
    Status adopted = adopt_weights(server, &adopting);
    for (size_t i = 0; i < count; i++) {
        Error error = adopting;
        Images images;
        Status status = adopted;
        if (status == STATUS_OK) status = check_images(server, requests[i], &images, &error);
        if (status != STATUS_OK) {
            fail(server, requests[i], &error);
            continue;
        }
        if (images.rows > SERVER_MAX_ROWS) {
            forward_alone(server, requests[i], &images);
            continue;
        }
        if (batch.rows + images.rows > SERVER_MAX_ROWS) {
            forward_batch(server, &batch);
            batch = (Batch){.count = 0};
        }
        batch.images = images;
        batch.rows += images.rows;
        batch.requests[batch.count++] = requests[i];
    }
    if (batch.count > 0) forward_batch(server, &batch);
}

/* --- Backward --- */

static Status check_gradient_shape(const AxonRequest *request, Error *error)
{
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    Shape expected = hidden_shape(request);
    if (shape_equal(request->gradient_shape, expected)) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "shape of the gradient is %s, expected %s",
                     shape_text(request->gradient_shape, a), shape_text(expected, b));
}

/* Some rows of a Backward call, and where its answer goes. */
typedef struct Piece {
    const AxonRequest *request;
    const Images *images;
    int64_t row, count;
    float *answer;
} Piece;

/* *outcome is right after a failure too. */
static Status run_piece(SomaServer *server, const Piece *piece, PlanKind kind, GradientOutcome *outcome, Error *error)
{
    size_t pixels = (size_t)piece->count * piece->images->pixels, features = (size_t)piece->count * SOMA_NETWORK_DIM;
    Plan *plan;
    *outcome = GRADIENT_GIVEN_UP;
    RETURN_IF_ERROR(server_plans_find(server->plans, plan_size(kind, piece->images, piece->count), &plan, error));
    Tensor image = plan_input(plan, "image"), gradient = plan_input(plan, "gradient");
    RETURN_IF_ERROR(read_images(piece->request, piece->images, piece->row, piece->count, image.data, error));
    *outcome = GRADIENT_WAS_NOT_FINITE;
    RETURN_IF_ERROR(read_gradient(piece->request, piece->row, piece->count, gradient.data, error));
    clear_rest(image, pixels);
    clear_rest(gradient, features);
    *outcome = GRADIENT_GIVEN_UP;
    RETURN_IF_ERROR(plan_run(plan, error));
    Tensor norm = plan_output(plan, "norm"), slope = plan_output(plan, "image_gradient");
    if (norm.data != NULL) *outcome = isfinite(*tensor_f32(&norm)) ? GRADIENT_ADDED : GRADIENT_WAS_NOT_FINITE;
    if (!floats_finite(slope.data, pixels))
        return error_set(error, STATUS_INTERNAL, "the input's gradient is not finite: input or gradient are too large");
    memcpy(piece->answer + (size_t)piece->row * piece->images->pixels, slope.data, pixels * sizeof(float));
    return STATUS_OK;
}

/* A gradient that isn't admitted costs only the input's own. */
static Status backward_piece(SomaServer *server, const Piece *piece, Error *error)
{
    const AxonRequest *r = piece->request;
    GradientStamp stamp = {.caller = r->caller, .has_version = r->has_version, .version = r->version};
    GradientOutcome outcome;
    if (server->sums == NULL || !gradient_sums_begin(server->sums, &stamp, atomic_load(&server->version)))
        return run_piece(server, piece, PLAN_BACKWARD, &outcome, error);
    Status status = run_piece(server, piece, PLAN_LEARN, &outcome, error);
    Status ended = gradient_sums_end(server->sums, &stamp, outcome, status == STATUS_OK ? error : NULL);
    return status != STATUS_OK ? status : ended;
}

static Status backward_pieces(SomaServer *server, const AxonRequest *request, Tensor *answer, Error *error)
{
    Images images;
    RETURN_IF_ERROR(adopt_weights(server, error));
    RETURN_IF_ERROR(check_images(server, request, &images, error));
    RETURN_IF_ERROR(check_gradient_shape(request, error));
    RETURN_IF_ERROR(create_answer(server, request->shape, answer, error));
    Piece piece = {.request = request, .images = &images, .answer = answer->data};
    for (; piece.row < images.rows; piece.row += piece.count) {
        int64_t left = images.rows - piece.row;
        piece.count = left < SERVER_MAX_ROWS ? left : SERVER_MAX_ROWS;
        RETURN_IF_ERROR(backward_piece(server, &piece, error));
    }
    return STATUS_OK;
}

static void backward(void *context, AxonRequest *request)
{
    SomaServer *server = context;
    Tensor answer = {0};
    Error error = {0};
    Status status = backward_pieces(server, request, &answer, &error);
    finish(server, request, status, &answer, false, &error);
}

AxonHandler server_handler(SomaServer *server)
{
    return (AxonHandler){.context = server,
                         .batch_rows = server->options.batch_rows,
                         .batch_wait_ns = server->options.batch_wait_ns,
                         .forward = forward,
                         .backward = backward};
}

int server_threads(const SomaServer *server)
{
    return backend_threads(server->backend);
}

/* --- weights in, gradients out --- */

Status server_publish(SomaServer *server, const Variables *from, uint64_t version, Error *error)
{
    return snapshot_put(server->snapshot, from, version, error);
}

Status server_take_gradients(SomaServer *server, Trainer *trainer, int64_t *count, Error *error)
{
    *count = 0;
    return server->sums != NULL ? gradient_sums_take(server->sums, trainer, count, error) : STATUS_OK;
}

void server_gradient_counts(SomaServer *server, GradientCounts *out)
{
    *out = (GradientCounts){0};
    if (server->sums != NULL) gradient_sums_counts(server->sums, out);
    out->version = atomic_load(&server->version);
}

/* --- the server itself --- */

/* Declares the soma's parameters by compiling for one image; other sizes of batch follow, so that the first of them
 * isn't late. The sums must be declared before the learner looks for them. */
static Status make_plans(SomaServer *server, Error *error)
{
    const SomaServerOptions *o = &server->options;
    PlanSize size = {.kind = PLAN_FORWARD, .height = o->soma->rows, .width = o->soma->columns};
    Plan *plan;
    for (size.rows = 1; size.rows <= o->batch_rows || size.rows == 1; size.rows *= 2)
        RETURN_IF_ERROR(server_plans_find(server->plans, size, &plan, error));
    size.rows = 1;
    size.kind = PLAN_LEARN;
    return o->learn ? server_plans_find(server->plans, size, &plan, error) : STATUS_OK;
}

static Status make_snapshot(SomaServer *server, Error *error)
{
    Graph *g = graph_create(DTYPE_F32, false);
    SomaConfig config = {
        .batch = 1, .rows = server->options.soma->rows, .columns = server->options.soma->columns, .answering = true};
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    server->options.soma->declare(g, &config);
    Status status = snapshot_create(server->backend, g, &server->snapshot, error);
    graph_destroy(g);
    return status;
}

static Status open_server(SomaServer *server, const Variables *from, Error *error)
{
    const SomaServerOptions *o = &server->options;
    BackendOptions backend = {.threads = o->threads, .precision = o->precision};
    RETURN_IF_ERROR(backend_open(o->device, &backend, &server->backend, error));
    RETURN_IF_ERROR(variables_create(server->backend, &server->variables, error));
    ServerPlansOptions plans = {.soma = o->soma,
                                .backend = server->backend,
                                .variables = server->variables,
                                .fold = o->fold,
                                .clip = o->gradients.clip};
    RETURN_IF_ERROR(server_plans_create(&plans, &server->plans, error));
    RETURN_IF_ERROR(make_plans(server, error));
    RETURN_IF_ERROR(make_snapshot(server, error));
    if (o->learn)
        RETURN_IF_ERROR(gradient_sums_create(server->backend, &o->gradients, server->variables, &server->sums, error));
    return server_publish(server, from, 0, error);
}

Status server_create(const SomaServerOptions *options, const Variables *from, SomaServer **out, Error *error)
{
    SomaServer *server = calloc(1, sizeof *server);
    if (server == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a server");
    server->options = *options;
    if (server->options.batch_rows > SERVER_MAX_ROWS) server->options.batch_rows = SERVER_MAX_ROWS;
    if (server->options.max_answer_bytes == 0) server->options.max_answer_bytes = RPC_MESSAGE_BYTES;
    Status status = open_server(server, from, error);
    if (status == STATUS_OK)
        *out = server;
    else
        server_destroy(server);
    return status;
}

void server_destroy(SomaServer *server)
{
    if (server == NULL) return;
    gradient_sums_destroy(server->sums);
    snapshot_destroy(server->snapshot);
    server_plans_destroy(server->plans);
    variables_destroy(server->variables);
    backend_close(server->backend);
    free(server);
}
