#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/rewrite.h"
#include "tensor/safetensors.h"

enum { MAX_PARAMETERS = 512, NAME_SIZE = 192 };

/* One size of batch, one kind of step. */
typedef struct SizedPlan {
    int64_t rows;
    bool remote, peer_gradients, gradients_only;
    bool peers_only; /* an update without a batch */
    Plan *plan;
    struct SizedPlan *next;
} SizedPlan;

struct Trainer {
    Backend *backend;
    TrainerOptions options;
    Variables *variables;
    SizedPlan *plans;
    SizedPlan *current;       /* what trainer_batch chose */
    bool scales_loss;         /* gradients are kept in F16 */
    bool peer_gradients_wait; /* for the next step */
};

/* A scalar among the variables, on its way in or out. */
static Status copy_scalar(Variables *variables, const char *name, bool write, void *value, size_t bytes, Error *error)
{
    const int index = variables_find(variables, name);
    return write ? variables_write(variables, index, value, bytes, error)
                 : variables_read(variables, index, value, bytes, error);
}

/* Where dynamic loss scaling stands (graph/ops.h). */
typedef struct LossScale {
    float scale;
    int32_t good_steps;
} LossScale;

static Status copy_loss_scale(Variables *variables, bool write, LossScale *scale, Error *error)
{
    RETURN_IF_ERROR(copy_scalar(variables, "loss_scale", write, &scale->scale, sizeof scale->scale, error));
    return copy_scalar(variables, "loss_scale.good_steps", write, &scale->good_steps, sizeof scale->good_steps, error);
}

Status trainer_create(Backend *backend, const TrainerOptions *options, Trainer **out, Error *error)
{
    Trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a trainer");
    trainer->backend = backend;
    trainer->options = *options;
    trainer->scales_loss = backend_precision(backend) == PRECISION_F16;
    Status status = variables_create(backend, &trainer->variables, error);
    TrainerBatch batch; /* compiling the smallest plan declares every parameter and momentum */
    if (status == STATUS_OK) status = trainer_batch(trainer, 1, options->peers > 0, &batch, error);
    LossScale first = {.scale = LOSS_SCALE_FIRST};
    if (status == STATUS_OK && trainer->scales_loss) status = copy_loss_scale(trainer->variables, true, &first, error);
    if (status == STATUS_OK)
        *out = trainer;
    else
        trainer_destroy(trainer);
    return status;
}

void trainer_destroy(Trainer *trainer)
{
    if (trainer == NULL) return;
    while (trainer->plans != NULL) {
        SizedPlan *next = trainer->plans->next;
        plan_destroy(trainer->plans->plan);
        free(trainer->plans);
        trainer->plans = next;
    }
    variables_destroy(trainer->variables);
    free(trainer);
}

Variables *trainer_variables(Trainer *trainer)
{
    return trainer->variables;
}

/* --- the graph of a step --- */

Value trainer_peer_gradient(Graph *g, Value parameter)
{
    char name[NAME_SIZE];
    const ValueInfo *info = graph_value(g, parameter);
    snprintf(name, sizeof name, "%s.peer", info->name);
    return graph_state(g, name, info->dtype, info->shape, INITIALIZE_ZERO, 0);
}

/* own + factor * what peers sent, which is then forgotten. A parameter that the own loss doesn't reach gets the peers'
 * part alone. `scale`: what the own gradients are multiplied by (VALUE_NONE: 1), which the peers' then are too. */
static void join_peer_gradients(Graph *g, const Value *parameters, int count, Value *gradients, Value scale,
                                const TrainerOptions *o)
{
    Value sums[MAX_PARAMETERS];
    graph_set_phase(g, PHASE_UPDATE);
    for (int i = 0; i < count; i++)
        sums[i] = trainer_peer_gradient(g, parameters[i]);
    double most = o->peer_gradient_clip > 0 ? o->peer_gradient_clip : 1;
    Value factor = clip_factor(g, global_norm(g, sums, count), most, o->peer_gradient_scale);
    if (value_exists(scale)) factor = scale_by(g, factor, scale);
    for (int i = 0; i < count; i++) {
        Value own = value_exists(gradients[i]) ? gradients[i] : affine(g, parameters[i], 0, 0);
        gradients[i] = add_scaled(g, own, sums[i], factor);
        graph_assign(g, sums[i], affine(g, sums[i], 0, 0));
    }
}

/* The parameters are those that the trainer has already; their bounds say nothing here. */
static void declare_peer_step(Graph *g, const Trainer *trainer)
{
    const TrainerOptions *o = &trainer->options;
    Value targets[MAX_PARAMETERS], gradients[MAX_PARAMETERS];
    int count = 0;
    for (int i = 0; i < variables_count(trainer->variables) && count < MAX_PARAMETERS; i++) {
        if (!variables_trainable(trainer->variables, i)) continue;
        Shape shape = variables_shape(trainer->variables, i);
        targets[count] = graph_parameter(g, variables_name(trainer->variables, i), shape, 0);
        gradients[count++] = VALUE_NONE;
    }
    join_peer_gradients(g, targets, count, gradients, VALUE_NONE, o);
    sgd_group(g, targets, gradients, count, "lr", o->sgd);
}

/* The gradients of the answers as they leave: unscaled and finite, zeros where the step is left out. They are judged
 * apart: what becomes of the parameters must be the same on all devices, which have answers of their own. */
static Value unscaled_answers(Graph *g, Value answers, Value unscale)
{
    if (!value_exists(answers) || !value_exists(unscale)) return answers;
    return scale_by(g, answers, loss_unscale_for(g, unscale, answers));
}

/* Under the parameters' names. Of a scaled loss also "loss_unscale", which is 0 where they are good for nothing. */
static void output_gradients(Graph *g, const Value *parameters, const Value *gradients, int count, Value unscale)
{
    graph_output(g, "loss_unscale", unscale);
    for (int i = 0; i < count; i++) {
        if (!value_exists(gradients[i])) continue;
        graph_output(g, graph_value(g, parameters[i])->name,
                     value_exists(unscale) ? scale_by(g, gradients[i], unscale) : gradients[i]);
    }
}

static void mark_samples(Graph *g, const SomaValues *v)
{
    graph_mark_samples(g, v->input, 0);
    graph_mark_samples(g, v->labels, 0);
    graph_mark_samples(g, v->answers, 1);
}

static void declare_step(Graph *g, const Trainer *trainer, const SizedPlan *sized)
{
    const TrainerOptions *o = &trainer->options;
    const int replicas = backend_replicas(trainer->backend);
    /* Rows that devices can't share evenly are computed whole by each. */
    const bool shared = replicas > 1 && sized->rows % replicas == 0;
    SomaConfig config = {.batch = shared ? sized->rows / replicas : sized->rows,
                         .rows = o->rows,
                         .columns = o->columns,
                         .peers = sized->remote ? o->peers : 0,
                         .dropout = o->dropout,
                         .distill_detach = o->distill_detach,
                         .distill_targets = o->distill_targets};
    SomaValues v = o->soma->declare(g, &config);
    if (shared) mark_samples(g, &v);
    Value targets[MAX_PARAMETERS + 1], gradients[MAX_PARAMETERS + 1];
    int count = graph_parameters(g, targets, MAX_PARAMETERS);
    if (count > MAX_PARAMETERS) {
        graph_fail(g, STATUS_OUT_OF_RANGE, "soma '%s' has %d parameters, at most %d are possible", o->soma->name, count,
                   MAX_PARAMETERS);
        return;
    }
    targets[count] = v.answers;
    Value scale = trainer->scales_loss ? loss_scale(g) : VALUE_NONE, unscale = VALUE_NONE;
    graph_gradient(g, &v.loss, &scale, 1, targets, count + 1, gradients);
    graph_output(g, "loss", v.loss);
    graph_output(g, "local_target_loss", v.local_target_loss);
    graph_output(g, "remote_target_loss", v.remote_target_loss);
    graph_output(g, "distillation_loss", v.distillation_loss);
    graph_output(g, "imitation_loss", v.imitation_loss);
    if (sized->peer_gradients) join_peer_gradients(g, targets, count, gradients, scale, o);
    if (trainer->scales_loss) unscale = loss_unscale(g, gradients, count);
    Value answers = unscaled_answers(g, gradients[count], unscale);
    if (shared && value_exists(answers))
        answers = affine(g, answers, 1.0 / replicas, 0); /* of the mean of all losses */
    graph_output_samples(g, "answer_gradients", answers, 1);
    if (sized->gradients_only) {
        output_gradients(g, targets, gradients, count, unscale);
        return;
    }
    sgd_group_scaled(g, targets, gradients, count, "lr", unscale, o->sgd);
}

static Status compile_step(Trainer *trainer, SizedPlan *sized, Error *error)
{
    Graph *g = graph_create(DTYPE_F32, true);
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    if (sized->peers_only)
        declare_peer_step(g, trainer);
    else
        declare_step(g, trainer, sized);
    Status status = graph_check(g, error);
    if (status == STATUS_OK) status = variables_declare(trainer->variables, g, trainer->options.seed, error);
    PlanOptions options = {.rewrites = REWRITE_ALL};
    if (status == STATUS_OK)
        status = plan_compile(trainer->backend, g, trainer->variables, &options, &sized->plan, error);
    graph_destroy(g);
    return status;
}

static Status sized_plan(Trainer *trainer, SizedPlan wanted, SizedPlan **out, Error *error)
{
    for (SizedPlan *p = trainer->plans; p != NULL; p = p->next)
        if (p->rows == wanted.rows && p->remote == wanted.remote && p->peer_gradients == wanted.peer_gradients &&
            p->gradients_only == wanted.gradients_only && p->peers_only == wanted.peers_only) {
            *out = p;
            return STATUS_OK;
        }
    SizedPlan *made = malloc(sizeof *made);
    if (made == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    *made = wanted;
    Status status = compile_step(trainer, made, error);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    made->next = trainer->plans;
    *out = trainer->plans = made;
    return STATUS_OK;
}

/* --- stepping --- */

Status trainer_batch(Trainer *trainer, int64_t rows, bool remote, TrainerBatch *out, Error *error)
{
    SizedPlan wanted = {.rows = rows, .remote = remote, .peer_gradients = trainer->peer_gradients_wait};
    RETURN_IF_ERROR(sized_plan(trainer, wanted, &trainer->current, error));
    Plan *plan = trainer->current->plan;
    *out = (TrainerBatch){.images = plan_input(plan, "image").data,
                          .labels = plan_input(plan, "labels").data,
                          .answers = plan_input(plan, "answers").data,
                          .arrived = plan_input(plan, "arrived").data,
                          .answer_gradients = plan_output(plan, "answer_gradients").data};
    return STATUS_OK;
}

static double scalar(Plan *plan, const char *name)
{
    Tensor tensor = plan_output(plan, name);
    return tensor.data != NULL ? (double)*(const float *)tensor.data : (double)NAN;
}

static void set_random(const Trainer *trainer, Plan *plan, int64_t step)
{
    Tensor random = plan_input(plan, "random");
    if (random.data == NULL) return;
    ((int64_t *)random.data)[0] = (int64_t)trainer->options.seed;
    ((int64_t *)random.data)[1] = step;
}

Status trainer_step(Trainer *trainer, int64_t step, double lr, TrainerLosses *out, Error *error)
{
    Plan *plan = trainer->current->plan;
    set_random(trainer, plan, step);
    *(float *)plan_input(plan, "lr").data = (float)lr;
    RETURN_IF_ERROR(plan_run(plan, error));
    if (trainer->current->peer_gradients) trainer->peer_gradients_wait = false;
    *out = (TrainerLosses){.loss = scalar(plan, "loss"),
                           .local_target = scalar(plan, "local_target_loss"),
                           .remote_target = scalar(plan, "remote_target_loss"),
                           .distillation = scalar(plan, "distillation_loss"),
                           .imitation = scalar(plan, "imitation_loss")};
    if (!isfinite(out->loss))
        return error_set(error, STATUS_ABORTED, "loss of step %ld is %g: training diverged (a smaller --lr may help)",
                         (long)step, out->loss);
    return STATUS_OK;
}

Status trainer_add_peer_gradients(Trainer *trainer, Variables *from, Error *error)
{
    TrainerBatch batch;
    bool waited = trainer->peer_gradients_wait;
    trainer->peer_gradients_wait = true;
    /* The plan that reads them declares them; its size doesn't matter. */
    Status status = trainer_batch(trainer, 1, false, &batch, error);
    for (int i = 0; status == STATUS_OK && i < variables_count(from); i++) {
        const char *name = variables_name(from, i), *dot = strrchr(name, '.');
        if (dot == NULL || strcmp(dot, ".peer") != 0) continue;
        status = variables_move(trainer->variables, from, i, error);
    }
    if (status != STATUS_OK) trainer->peer_gradients_wait = waited;
    return status;
}

Status trainer_step_peers(Trainer *trainer, double lr, Error *error)
{
    SizedPlan *sized;
    if (!trainer->peer_gradients_wait) return STATUS_OK;
    RETURN_IF_ERROR(sized_plan(trainer, (SizedPlan){.peers_only = true}, &sized, error));
    *(float *)plan_input(sized->plan, "lr").data = (float)lr;
    RETURN_IF_ERROR(plan_run(sized->plan, error));
    trainer->peer_gradients_wait = false;
    return STATUS_OK;
}

static void copy_input(Plan *to, Plan *from, const char *name)
{
    Tensor target = plan_input(to, name), source = plan_input(from, name);
    if (target.data != NULL && source.data != NULL) memcpy(target.data, source.data, source.size);
}

/* Runs a plan of gradients alone. Of a scaled loss at smaller and smaller scales until they are finite; the scale that
 * training has reached stays. */
static Status run_gradients(Trainer *trainer, Plan *plan, int64_t step, Error *error)
{
    const Tensor unscale = plan_output(plan, "loss_unscale");
    LossScale reached, tried;
    if (unscale.data == NULL) return plan_run(plan, error);
    RETURN_IF_ERROR(copy_loss_scale(trainer->variables, false, &reached, error));
    Status status, restored;
    do {
        status = copy_loss_scale(trainer->variables, false, &tried, error);
        if (status == STATUS_OK) status = plan_run(plan, error);
    } while (status == STATUS_OK && *(const float *)unscale.data == 0 && tried.scale > 1);
    restored = copy_loss_scale(trainer->variables, true, &reached, status == STATUS_OK ? error : NULL);
    if (status == STATUS_OK && *(const float *)unscale.data == 0)
        return error_set(error, STATUS_ABORTED, "gradients of step %ld aren't finite, even with a loss scale of 1",
                         (long)step);
    return status == STATUS_OK ? restored : status;
}

Status trainer_save_gradients(Trainer *trainer, int64_t step, const char *path, Error *error)
{
    static const char *const inputs[] = {"image", "labels", "answers", "arrived"};
    SizedPlan wanted = {.rows = trainer->current->rows, .remote = trainer->current->remote, .gradients_only = true};
    SizedPlan *sized;
    RETURN_IF_ERROR(sized_plan(trainer, wanted, &sized, error));
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        copy_input(sized->plan, trainer->current->plan, inputs[i]);
    set_random(trainer, sized->plan, step);
    RETURN_IF_ERROR(run_gradients(trainer, sized->plan, step, error));
    NamedTensor tensors[MAX_PARAMETERS];
    size_t count = 0;
    for (int i = 0; i < variables_count(trainer->variables) && count < MAX_PARAMETERS; i++) {
        const char *name = variables_name(trainer->variables, i);
        Tensor gradient = plan_output(sized->plan, name);
        if (gradient.data != NULL) tensors[count++] = (NamedTensor){name, gradient};
    }
    return safetensors_write(path, tensors, count, NULL, 0, error);
}
