#include "neuron/server.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "graph/rewrite.h"

enum {
    MAX_ROWS = 256,  /* at once; longer requests are answered in pieces */
    MAX_SIDE = 256,  /* pixels of an image's side */
    PLAN_LIMIT = 24, /* compiled at a time; the one used longest ago goes first */
    MAX_PARAMETERS = 512,
};

typedef struct ServerPlan {
    Plan *plan;
    bool backward;
    int64_t rows, height, width;
    uint64_t version, used; /* of the weights it was refreshed with; when it ran last */
} ServerPlan;

struct SomaServer {
    SomaServerOptions options;
    Backend *backend;
    pthread_mutex_t lock; /* guards everything below */
    Variables *variables;
    uint64_t version, ticks;
    ServerPlan plans[PLAN_LIMIT];
    int64_t waiting, rejected; /* gradients summed since the last take; not finite */
};

static SomaConfig config_of(int64_t rows, int64_t height, int64_t width)
{
    return (SomaConfig){.batch = rows, .rows = height, .columns = width, .answering = true};
}

static void declare_forward(Graph *g, const Soma *soma, int64_t rows, int64_t height, int64_t width)
{
    SomaConfig config = config_of(rows, height, width);
    graph_output(g, "hidden", soma->declare(g, &config).local_hidden);
}

/* d(hidden . gradient)/d(image), and with `learn` the same for the parameters, summed in "<parameter>.peer": each
 * call's gradient is clipped to norm 1, and left out where it isn't finite. */
static void declare_backward(Graph *g, const Soma *soma, int64_t rows, int64_t height, int64_t width, bool learn)
{
    SomaConfig config = config_of(rows, height, width);
    SomaValues v = soma->declare(g, &config);
    Value seed = graph_input(g, "gradient", graph_real(g), graph_shape(g, v.local_hidden));
    Value targets[MAX_PARAMETERS + 1], gradients[MAX_PARAMETERS + 1], reached[MAX_PARAMETERS];
    int count = learn ? graph_parameters(g, targets, MAX_PARAMETERS) : 0, reached_count = 0;
    targets[count] = v.input;
    graph_gradient(g, &v.local_hidden, &seed, 1, targets, count + 1, gradients);
    graph_output(g, "image_gradient", gradients[count]);
    for (int i = 0; i < count; i++)
        if (value_exists(gradients[i])) reached[reached_count++] = gradients[i];
    if (reached_count == 0) return;
    graph_set_phase(g, PHASE_UPDATE);
    Value norm = global_norm(g, reached, reached_count), factor = clip_factor(g, norm, 1, 1);
    graph_output(g, "norm", norm);
    for (int i = 0; i < count; i++) {
        if (!value_exists(gradients[i])) continue;
        Value sum = trainer_peer_gradient(g, targets[i]);
        graph_assign(g, sum, add_scaled(g, sum, gradients[i], factor));
    }
}

static Status compile(SomaServer *server, ServerPlan *made, Error *error)
{
    Graph *g = graph_create(DTYPE_F32, false);
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    if (made->backward)
        declare_backward(g, server->options.soma, made->rows, made->height, made->width, server->options.learn);
    else
        declare_forward(g, server->options.soma, made->rows, made->height, made->width);
    PlanOptions options = {.rewrites = REWRITE_ALL, .frozen = !made->backward};
    if (!made->backward && server->options.fold) options.rewrites |= REWRITE_FOLD_LINEAR;
    Status status = graph_check(g, error);
    if (status == STATUS_OK) status = variables_declare(server->variables, g, 0, error);
    if (status == STATUS_OK) status = plan_compile(server->backend, g, server->variables, &options, &made->plan, error);
    graph_destroy(g);
    made->version = server->version;
    return status;
}

/* The plan of this size, compiled now if need be in place of the one that was used longest ago, and with the newest
 * weights. */
static Status find_plan(SomaServer *server, bool backward, int64_t rows, int64_t height, int64_t width, Plan **out,
                        Error *error)
{
    ServerPlan *found = NULL, *oldest = &server->plans[0];
    for (int i = 0; i < PLAN_LIMIT && found == NULL; i++) {
        ServerPlan *p = &server->plans[i];
        if (p->plan != NULL && p->backward == backward && p->rows == rows && p->height == height && p->width == width)
            found = p;
        if (p->used < oldest->used) oldest = p;
    }
    if (found == NULL) {
        found = oldest;
        plan_destroy(found->plan);
        *found = (ServerPlan){.backward = backward, .rows = rows, .height = height, .width = width};
        RETURN_IF_ERROR(compile(server, found, error));
    } else if (!backward && found->version != server->version) {
        RETURN_IF_ERROR(plan_refresh(found->plan, error));
        found->version = server->version;
    }
    found->used = ++server->ticks;
    *out = found->plan;
    return STATUS_OK;
}

static int64_t bucket(int64_t rows)
{
    int64_t size = 1;
    while (size < rows && size < MAX_ROWS)
        size *= 2;
    return size;
}

/* --- requests --- */

typedef struct Request {
    int64_t rows, height, width, pixels; /* rows: batch times seq */
} Request;

static Status check_image(const SomaServer *server, const Tensor *input, Modality modality, Request *out, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    if (modality != MODALITY_IMAGE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "soma '%s' takes images, but the request's modality is %s",
                         server->options.soma->name, modality_name(modality));
    const int64_t *dims = input->shape.dims; /* [batch, seq, channels, rows, columns] */
    if (dims[2] != 1 || dims[3] > MAX_SIDE || dims[4] > MAX_SIDE)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "shape of the image is %s, expected [batch, seq, 1, rows, columns] with sides of 1 to %d",
                         shape_text(input->shape, text), MAX_SIDE);
    *out = (Request){dims[0] * dims[1], dims[3], dims[4], dims[3] * dims[4]};
    for (int64_t i = 0; i < out->rows * out->pixels; i++)
        if (!isfinite(tensor_f32(input)[i]))
            return error_set(error, STATUS_INVALID_ARGUMENT, "pixel %ld of the image is %g, expected a finite number",
                             (long)i, (double)tensor_f32(input)[i]);
    return STATUS_OK;
}

/* Copies rows into a plan's input, and zeroes the rows beyond them. */
static void fill(Tensor to, const float *rows, int64_t count, int64_t width)
{
    size_t used = (size_t)(count * width) * sizeof(float);
    memcpy(to.data, rows, used);
    memset((char *)to.data + used, 0, to.size - used);
}

static Status forward_pieces(SomaServer *server, const Request *request, const Tensor *input, float *answer,
                             Error *error)
{
    for (int64_t row = 0; row < request->rows;) {
        int64_t left = request->rows - row, count = left < MAX_ROWS ? left : MAX_ROWS;
        Plan *plan;
        RETURN_IF_ERROR(find_plan(server, false, bucket(count), request->height, request->width, &plan, error));
        fill(plan_input(plan, "image"), tensor_f32(input) + row * request->pixels, count, request->pixels);
        RETURN_IF_ERROR(plan_run(plan, error));
        memcpy(answer + row * SOMA_NETWORK_DIM, plan_output(plan, "hidden").data,
               (size_t)count * SOMA_NETWORK_DIM * sizeof(float));
        row += count;
    }
    return STATUS_OK;
}

static Status forward(void *context, const Tensor *input, Modality modality, Tensor *answer, Error *error)
{
    SomaServer *server = context;
    Request request;
    RETURN_IF_ERROR(check_image(server, input, modality, &request, error));
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, shape_of(input->shape.dims[0], input->shape.dims[1], SOMA_NETWORK_DIM),
                                  answer, error));
    pthread_mutex_lock(&server->lock);
    Status status = forward_pieces(server, &request, input, answer->data, error);
    pthread_mutex_unlock(&server->lock);
    return status;
}

static void note_gradient(SomaServer *server, Plan *plan)
{
    Tensor norm = plan_output(plan, "norm");
    if (norm.data == NULL) return;
    if (isfinite(*tensor_f32(&norm)))
        server->waiting++;
    else
        server->rejected++;
}

static Status backward_pieces(SomaServer *server, const Request *request, const Tensor *input, const Tensor *gradient,
                              float *answer, Error *error)
{
    for (int64_t row = 0; row < request->rows;) {
        int64_t left = request->rows - row, count = left < MAX_ROWS ? left : MAX_ROWS;
        Plan *plan;
        RETURN_IF_ERROR(find_plan(server, true, bucket(count), request->height, request->width, &plan, error));
        fill(plan_input(plan, "image"), tensor_f32(input) + row * request->pixels, count, request->pixels);
        fill(plan_input(plan, "gradient"), tensor_f32(gradient) + row * SOMA_NETWORK_DIM, count, SOMA_NETWORK_DIM);
        RETURN_IF_ERROR(plan_run(plan, error));
        memcpy(answer + row * request->pixels, plan_output(plan, "image_gradient").data,
               (size_t)(count * request->pixels) * sizeof(float));
        note_gradient(server, plan);
        row += count;
    }
    return STATUS_OK;
}

static Status backward(void *context, const Tensor *input, Modality modality, const Tensor *gradient,
                       Tensor *input_gradient, Error *error)
{
    SomaServer *server = context;
    Request request;
    RETURN_IF_ERROR(check_image(server, input, modality, &request, error));
    Shape expected = shape_of(input->shape.dims[0], input->shape.dims[1], SOMA_NETWORK_DIM);
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    if (!shape_equal(gradient->shape, expected))
        return error_set(error, STATUS_INVALID_ARGUMENT, "shape of the gradient is %s, expected %s",
                         shape_text(gradient->shape, a), shape_text(expected, b));
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, input->shape, input_gradient, error));
    pthread_mutex_lock(&server->lock);
    Status status = backward_pieces(server, &request, input, gradient, input_gradient->data, error);
    pthread_mutex_unlock(&server->lock);
    return status;
}

AxonHandler server_handler(SomaServer *server)
{
    return (AxonHandler){.context = server, .forward = forward, .backward = backward};
}

/* --- weights in, gradients out --- */

Status server_publish(SomaServer *server, const Variables *from, Error *error)
{
    pthread_mutex_lock(&server->lock);
    Status status = variables_copy_parameters(server->variables, from, error);
    server->version++;
    pthread_mutex_unlock(&server->lock);
    return status;
}

Status server_take_gradients(SomaServer *server, Trainer *trainer, int64_t *count, Error *error)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&server->lock);
    *count = server->waiting;
    if (server->waiting > 0) status = trainer_add_peer_gradients(trainer, server->variables, error);
    server->waiting = 0;
    pthread_mutex_unlock(&server->lock);
    return status;
}

int64_t server_rejected_gradients(SomaServer *server)
{
    pthread_mutex_lock(&server->lock);
    int64_t rejected = server->rejected;
    pthread_mutex_unlock(&server->lock);
    return rejected;
}

Status server_create(const SomaServerOptions *options, const Variables *from, SomaServer **out, Error *error)
{
    SomaServer *server = calloc(1, sizeof *server);
    if (server == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a server");
    server->options = *options;
    pthread_mutex_init(&server->lock, NULL);
    BackendOptions backend = {.threads = options->threads};
    Plan *plan;
    Status status = backend_open(options->device, &backend, &server->backend, error);
    if (status == STATUS_OK) status = variables_create(server->backend, &server->variables, error);
    if (status == STATUS_OK) /* declares the parameters, and makes the first request quick */
        status = find_plan(server, false, 1, options->soma->rows, options->soma->columns, &plan, error);
    if (status == STATUS_OK) status = server_publish(server, from, error);
    if (status == STATUS_OK)
        *out = server;
    else
        server_destroy(server);
    return status;
}

void server_destroy(SomaServer *server)
{
    if (server == NULL) return;
    for (int i = 0; i < PLAN_LIMIT; i++)
        plan_destroy(server->plans[i].plan);
    variables_destroy(server->variables);
    backend_close(server->backend);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
