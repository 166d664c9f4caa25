#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader.h"
#include "graph/rewrite.h"

struct Evaluator {
    EvaluatorOptions options;
    Plan *plan;
    float *answers; /* of a batch that isn't full: [peers, count, 512] before it is spread to the plan's [peers, batch,
                       512] */
};

Status evaluator_create(Backend *backend, Variables *variables, const EvaluatorOptions *options, Evaluator **out,
                        Error *error)
{
    Evaluator *evaluator = calloc(1, sizeof *evaluator);
    Graph *g = graph_create(DTYPE_F32, false);
    Status status = STATUS_OK;
    size_t answers = (size_t)options->peers * (size_t)options->batch * SOMA_NETWORK_DIM;
    if (evaluator != NULL) evaluator->answers = calloc(answers + 1, sizeof(float));
    if (evaluator == NULL || g == NULL || evaluator->answers == NULL) {
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for an evaluator");
        goto done;
    }
    evaluator->options = *options;
    SomaConfig config = {
        .batch = options->batch, .rows = options->rows, .columns = options->columns, .peers = options->peers};
    SomaValues v = options->soma->declare(g, &config);
    graph_output(g, "local_target", v.local_target);
    graph_output(g, "remote_target", v.remote_target);
    GOTO_IF_ERROR(graph_check(g, error), done);
    GOTO_IF_ERROR(variables_declare(variables, g, 0, error), done);
    PlanOptions plan = {.rewrites = REWRITE_ALL | (options->fold ? REWRITE_FOLD_LINEAR : 0), .frozen = true};
    status = plan_compile(backend, g, variables, &plan, &evaluator->plan, error);
done:
    graph_destroy(g);
    if (status == STATUS_OK)
        *out = evaluator;
    else
        evaluator_destroy(evaluator);
    return status;
}

void evaluator_destroy(Evaluator *evaluator)
{
    if (evaluator == NULL) return;
    plan_destroy(evaluator->plan);
    free(evaluator->answers);
    free(evaluator);
}

/* -log softmax[label], and whether the label's logit is the largest. */
static double row_loss(const float *logits, int classes, int label, bool *right)
{
    int best = 0;
    double sum = 0;
    for (int i = 1; i < classes; i++)
        if (logits[i] > logits[best]) best = i;
    for (int i = 0; i < classes; i++)
        sum += exp((double)logits[i] - (double)logits[best]);
    *right = best == label;
    return log(sum) + (double)logits[best] - (double)logits[label];
}

/* Fills the plan's answers; false when nobody answered. */
static bool fill_answers(Evaluator *evaluator, const float *images, int64_t count, EvaluatorAsk *ask, void *context)
{
    Tensor answers = plan_input(evaluator->plan, "answers"), arrived = plan_input(evaluator->plan, "arrived");
    size_t row = SOMA_NETWORK_DIM * sizeof(float), width = (size_t)evaluator->options.batch * row;
    memset(answers.data, 0, answers.size);
    size_t came = ask(context, images, count, evaluator->answers, arrived.data);
    for (int p = 0; p < evaluator->options.peers; p++)
        memcpy((char *)answers.data + (size_t)p * width,
               (const char *)evaluator->answers + (size_t)p * (size_t)count * row, (size_t)count * row);
    return came > 0;
}

Status evaluator_run(Evaluator *evaluator, const Dataset *dataset, bool remote, EvaluatorAsk *ask, void *context,
                     bool (*stop)(void), Evaluation *out, Error *error)
{
    Plan *plan = evaluator->plan;
    Loader *loader = NULL;
    int64_t samples = dataset->images.shape.dims[0], count;
    int32_t *labels = calloc((size_t)evaluator->options.batch, sizeof *labels);
    LoaderOptions options = {.dataset = dataset, .end = samples, .labelled = true, .batch = evaluator->options.batch};
    Status status = STATUS_OK;
    double loss = 0;
    int64_t right = 0;
    *out = (Evaluation){0};
    if (labels == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to evaluate");
    GOTO_IF_ERROR(loader_create(&options, &loader, error), done);
    GOTO_IF_ERROR(plan_refresh(plan, error), done);
    Tensor image = plan_input(plan, "image");
    while (out->samples < samples) {
        if (stop != NULL && stop()) {
            status = error_set(error, STATUS_CANCELLED, "the evaluation was stopped after %ld of %ld images",
                               (long)out->samples, (long)samples);
            goto done;
        }
        loader_next(loader, image.data, labels, &count);
        bool answered = !remote || fill_answers(evaluator, image.data, count, ask, context);
        if (answered) {
            GOTO_IF_ERROR(plan_run(plan, error), done);
            Tensor logits = plan_output(plan, remote ? "remote_target" : "local_target");
            int classes = (int)logits.shape.dims[1];
            for (int64_t n = 0; n < count; n++) {
                bool hit;
                loss += row_loss(tensor_f32(&logits) + n * classes, classes, labels[n], &hit);
                right += hit;
            }
            out->answered += count;
        }
        out->samples += count;
    }
    out->accuracy = (double)right / (double)samples;
    out->loss = out->answered > 0 ? loss / (double)out->answered : (double)NAN;
done:
    loader_destroy(loader);
    free(labels);
    return status;
}
