#include "cli/bench_serve.h"

#include <string.h>

#include "base/rng.h"
#include "cli/bench_load.h"
#include "cli/session.h"
#include "neuron/server.h"

enum { MOST_CASES = 8, LEAST_CASES = 2, CHECKED_ROWS = 256 }; /* the reference backend is slow */

static const double TOLERANCE = 1e-4; /* of an answer's norm */

typedef struct ServeBench {
    const Options *options;
    const Soma *soma;
    Backend *reference;
    Variables *weights; /* random; NULL with --connect: they are the peer's */
    SomaServer *server;
    BenchLoad load;
} ServeBench;

typedef struct ServeCases {
    size_t count;
    Tensor inputs[MOST_CASES], gradients[MOST_CASES], expected[MOST_CASES];
    LoadCase cases[MOST_CASES];
} ServeCases;

/* --- the soma --- */

/* hidden(image), and d(hidden . gradient)/d(image). */
static void declare(Graph *g, const ServeBench *bench, int64_t batch)
{
    SomaConfig config = {.batch = batch, .rows = bench->soma->rows, .columns = bench->soma->columns, .answering = true};
    SomaValues values = bench->soma->declare(g, &config);
    graph_output(g, "hidden", values.local_hidden);
    if (!bench->options->backward) return;
    Value seed = graph_input(g, "gradient", graph_real(g), graph_shape(g, values.local_hidden)), gradient;
    graph_gradient(g, &values.local_hidden, &seed, 1, &values.input, 1, &gradient);
    graph_output(g, "image_gradient", gradient);
}

static Status declare_weights(ServeBench *bench, Error *error)
{
    Graph *g = graph_create(DTYPE_F32, false);
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    declare(g, bench, 1);
    Status status = graph_check(g, error);
    if (status == STATUS_OK) status = variables_create(bench->reference, &bench->weights, error);
    if (status == STATUS_OK) status = variables_declare(bench->weights, g, (uint64_t)bench->options->seed, error);
    graph_destroy(g);
    return status;
}

static Status serve(ServeBench *bench, Error *error)
{
    const Options *o = bench->options;
    SomaServerOptions options = {.soma = bench->soma,
                                 .device = o->device,
                                 .precision = precision_from_name(o->dtype),
                                 .threads = o->threads > 0 ? (int)o->threads : 1,
                                 .fold = o->fold,
                                 .batch_rows = o->batch_rows,
                                 .batch_wait_ns = o->batch_wait,
                                 .max_answer_bytes = (size_t)o->max_message};
    RETURN_IF_ERROR(declare_weights(bench, error));
    RETURN_IF_ERROR(server_create(&options, bench->weights, &bench->server, error));
    return bench_load_serve(&bench->load, server_handler(bench->server), error);
}

/* --- questions --- */

static void fill(Tensor *tensor, Rng *rng, float least, float most)
{
    for (int64_t i = 0; i < shape_count(tensor->shape); i++)
        tensor_f32(tensor)[i] = least + (most - least) * (float)rng_uniform(rng);
}

static Status make_case(const ServeBench *bench, ServeCases *serve, size_t index, int64_t batch, Error *error)
{
    Rng rng = rng_make((uint64_t)bench->options->seed + index, RNG_STREAM_BENCH);
    Tensor *input = &serve->inputs[index], *gradient = &serve->gradients[index], *expected = &serve->expected[index];
    Shape image = shape_of(batch, 1, 1, bench->soma->rows, bench->soma->columns);
    Shape hidden = shape_of(batch, 1, SOMA_NETWORK_DIM);
    bool backward = bench->options->backward;
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, image, input, error));
    fill(input, &rng, 0, 1);
    if (backward) {
        RETURN_IF_ERROR(tensor_create(DTYPE_F32, hidden, gradient, error));
        fill(gradient, &rng, -1, 1);
    }
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, backward ? image : hidden, expected, error));
    serve->cases[index] = (LoadCase){.input = input,
                                     .gradient = backward ? gradient : NULL,
                                     .answer = expected->shape,
                                     .expected = bench->weights != NULL ? expected : NULL};
    return STATUS_OK;
}

static Status answer_cases(const ServeBench *bench, Plan *plan, ServeCases *serve, Error *error)
{
    bool backward = bench->options->backward;
    for (size_t i = 0; i < serve->count; i++) {
        Tensor image = plan_input(plan, "image"), gradient = plan_input(plan, "gradient");
        memcpy(image.data, serve->inputs[i].data, image.size);
        if (backward) memcpy(gradient.data, serve->gradients[i].data, gradient.size);
        RETURN_IF_ERROR(plan_run(plan, error));
        Tensor answer = plan_output(plan, backward ? "image_gradient" : "hidden");
        memcpy(serve->expected[i].data, answer.data, answer.size);
    }
    return STATUS_OK;
}

/* What plain loops make of the questions, with the same weights. */
static Status find_answers(const ServeBench *bench, ServeCases *serve, int64_t batch, Error *error)
{
    Graph *g = graph_create(DTYPE_F32, false);
    Plan *plan = NULL;
    PlanOptions options = {0};
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    declare(g, bench, batch);
    Status status = plan_compile(bench->reference, g, bench->weights, &options, &plan, error);
    if (status == STATUS_OK) status = answer_cases(bench, plan, serve, error);
    plan_destroy(plan);
    graph_destroy(g);
    return status;
}

static void free_cases(ServeCases *serve)
{
    for (size_t i = 0; i < MOST_CASES; i++) {
        tensor_destroy(&serve->inputs[i]);
        tensor_destroy(&serve->gradients[i]);
        tensor_destroy(&serve->expected[i]);
    }
}

static size_t case_count(int64_t batch)
{
    int64_t count = CHECKED_ROWS / batch;
    return (size_t)(count < LEAST_CASES ? LEAST_CASES : count > MOST_CASES ? MOST_CASES : count);
}

static Status measure(ServeBench *bench, int64_t batch, Error *error)
{
    ServeCases serve = {.count = case_count(batch)};
    BenchQuestions questions = {.count = batch,
                                .samples = batch,
                                .modality = MODALITY_IMAGE,
                                .cases = serve.cases,
                                .case_count = serve.count,
                                .tolerance = TOLERANCE};
    Status status = STATUS_OK;
    for (size_t i = 0; i < serve.count; i++)
        GOTO_IF_ERROR(make_case(bench, &serve, i, batch, error), done);
    if (bench->weights != NULL) GOTO_IF_ERROR(find_answers(bench, &serve, batch, error), done);
    GOTO_IF_ERROR(bench_load_check(&bench->load, &questions, error), done);
    GOTO_IF_ERROR(bench_load_measure(&bench->load, &questions, error), done);
done:
    free_cases(&serve);
    return status;
}

Status bench_serve(const Options *options, Backend *reference, Output *output, Error *error)
{
    ServeBench bench = {.options = options, .soma = session_soma(options), .reference = reference};
    Status status;
    GOTO_IF_ERROR(bench_load_open(&bench.load, "serve", "batch", options, output, error), done);
    if (bench_load_is_own(&bench.load)) GOTO_IF_ERROR(serve(&bench, error), done);
    for (size_t i = 0; i < options->batches.count; i++)
        GOTO_IF_ERROR(measure(&bench, options->batches.items[i], error), done);
    status = bench_load_report(&bench.load, error);
done:
    bench_load_close(&bench.load); /* first: the axon calls the server */
    server_destroy(bench.server);
    variables_destroy(bench.weights);
    return status;
}
