/* neuron plan: the plans of a soma's convolutions for a GPU that this host needn't have, put into the file that a node
 * on such a GPU reads before it searches. */
#include <stdio.h>
#include <string.h>

#include "cli/bench_plan.h"
#include "cli/command.h"
#include "cli/session.h"
#include "neuron/server_plans.h"
#include "observe/table.h"

typedef struct Planning {
    const Options *options;
    Output *output;
    Backend *backend;
    const char *dtype;
    Table table;
    int convolutions, products;
} Planning;

/* --- reports --- */

static void declare_columns(Table *table)
{
    static const char *const texts[] = {"dtype", "what", "layer", "operation", "shape", "engine"};
    table_column(table, "batch", TABLE_RIGHT);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        table_column(table, texts[i], TABLE_LEFT);
    table_column(table, "workspace kB", TABLE_RIGHT);
}

static void report_convolution(Planning *planning, const char *what, int64_t batch, const PlanStep *step)
{
    Table *table = &planning->table;
    char shape[SHAPE_TEXT_SIZE];
    table_cell(table, "%ld", (long)batch);
    table_cell(table, "%s", planning->dtype);
    table_cell(table, "%s", what);
    table_cell(table, "%s", step->layer);
    table_cell(table, "%s", step->operation);
    table_cell(table, "%s", shape_text(step->shape, shape));
    table_cell(table, "%s", step->implementation);
    table_cell(table, "%.1f", 1e-3 * (double)step->workspace);

    Event event = event_make("convolution");
    event_text(&event, "gpu", planning->options->gpu);
    event_text(&event, "dtype", planning->dtype);
    event_text(&event, "what", what);
    event_integer(&event, "batch", batch);
    event_text(&event, "layer", step->layer);
    event_text(&event, "operation", step->operation);
    event_integers(&event, "shape", step->shape.dims, (size_t)step->shape.rank);
    event_text(&event, "engine", step->implementation);
    event_integer(&event, "workspace_bytes", (int64_t)step->workspace);
    output_event(planning->output, &event);
}

static void report_plan(Planning *planning, const char *what, int64_t batch, const Plan *plan)
{
    for (int i = 0; i < plan_step_count(plan); i++) {
        const PlanStep step = plan_step(plan, i);
        if (strncmp(step.implementation, "cublaslt", strlen("cublaslt")) == 0) planning->products++;
        if (strncmp(step.implementation, "cudnn", strlen("cudnn")) != 0) continue;
        report_convolution(planning, what, batch, &step);
        planning->convolutions++;
    }
}

/* --- plans --- */

/* As neuron train alone has it; with peers the convolutions are the same. */
static Status plan_training(Planning *planning, int64_t batch, Error *error)
{
    const BenchWork work = {session_soma(planning->options), BENCH_TRAIN_STEP, batch, 0,
                            precision_from_name(planning->dtype)};
    BenchPlan plan = {0};
    const Status status = bench_plan_open(&plan, planning->backend, &work, false, error);
    if (status == STATUS_OK) report_plan(planning, bench_kind_name(BENCH_TRAIN_STEP), batch, plan.plan);
    bench_plan_close(&plan);
    return status;
}

/* What a server compiles for requests of so many rows: for the power of two that they fit into. */
static Status plan_answers(Planning *planning, int64_t rows, Error *error)
{
    static const struct {
        PlanKind kind;
        const char *name;
    } kinds[] = {{PLAN_FORWARD, "forward"}, {PLAN_BACKWARD, "backward"}};
    const Soma *soma = session_soma(planning->options);
    ServerPlansOptions options = {.soma = soma, .backend = planning->backend, .fold = true, .clip = 1};
    ServerPlans *plans = NULL;
    Plan *plan;
    Status status;
    int64_t batch = 1;
    while (batch < rows)
        batch *= 2;
    GOTO_IF_ERROR(variables_create(planning->backend, &options.variables, error), done);
    GOTO_IF_ERROR(server_plans_create(&options, &plans, error), done);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const PlanSize size = {kinds[i].kind, batch, soma->rows, soma->columns};
        GOTO_IF_ERROR(server_plans_find(plans, size, &plan, error), done);
        report_plan(planning, kinds[i].name, batch, plan);
    }
done:
    server_plans_destroy(plans);
    variables_destroy(options.variables);
    return status;
}

static Status plan_dtype(Planning *planning, const char *dtype, Error *error)
{
    const Options *o = planning->options;
    const BackendOptions backend = {
        .precision = precision_from_name(dtype), .plan_for = o->gpu, .plans_file = o->out, .keep_plans = true};
    Status status;
    planning->dtype = dtype;
    GOTO_IF_ERROR(backend_open("cuda", &backend, &planning->backend, error), done);
    output_line(planning->output, "%s: %s", backend_name(planning->backend), backend_description(planning->backend));
    for (size_t i = 0; i < o->batches.count; i++) {
        GOTO_IF_ERROR(plan_training(planning, o->batches.items[i], error), done);
        if (o->batches.items[i] <= SERVER_MAX_ROWS)
            GOTO_IF_ERROR(plan_answers(planning, o->batches.items[i], error), done);
    }
done:
    backend_close(planning->backend);
    planning->backend = NULL;
    return status;
}

static Status plan_dtypes(Planning *planning, Error *error)
{
    for (const char *at = planning->options->dtypes;; at += strcspn(at, ",") + 1) {
        char name[8];
        const int length = (int)strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", length, at);
        RETURN_IF_ERROR(plan_dtype(planning, name, error));
        if (at[length] == '\0') return STATUS_OK;
    }
}

static void report_end(const Planning *planning)
{
    const Options *o = planning->options;
    if (!o->json) table_print(&planning->table, planning->output);
    output_line(planning->output,
                "%d convolutions have a plan for %s in %s; the algorithms of %d matrix products are left to the "
                "device, since cuBLASLt's heuristics need one",
                planning->convolutions, o->gpu, o->out != NULL ? o->out : "the file that neurons on this host read",
                planning->products);
    Event event = event_make("planned");
    event_text(&event, "gpu", o->gpu);
    event_integer(&event, "convolutions", planning->convolutions);
    event_integer(&event, "products_left", planning->products);
    event_text(&event, "out", o->out);
    output_event(planning->output, &event);
}

static int run(const Options *options, Output *output)
{
    Planning planning = {.options = options, .output = output};
    Error error = {0};
    if (options->gpu == NULL) {
        output_error(output, "neuron plan needs the GPU to plan for, expected --for GPU; see 'neuron help plan'");
        return EXIT_USAGE;
    }
    declare_columns(&planning.table);
    const Status status = plan_dtypes(&planning, &error);
    if (status == STATUS_OK)
        report_end(&planning);
    else
        output_error(output, "%s", error.message);
    table_free(&planning.table);
    return status == STATUS_OK ? EXIT_DONE : EXIT_FAILED;
}

const Command command_plan = {
    .name = "plan",
    .set = COMMAND_PLAN,
    .summary = "plans for a GPU, made ahead on a host without one",
    .operands = "",
    .description =
        "Makes the plans of a soma's convolutions for a GPU that this host needn't have, and adds them to a file: a\n"
        "neuron that computes on such a GPU (--device cuda) finds them there, and starts without a search. Needs this\n"
        "build's CUDA plug-in with its libraries, and no driver.\n"
        "\n"
        "For each type of --dtype and each size of --batch the training step is planned, and the answers to Forward "
        "and\n"
        "Backward calls of as many rows (a server joins requests to powers of two); each convolution is printed with\n"
        "the engine that cuDNN's heuristics choose for it, and the memory it works in. What the file has already "
        "stays.\n"
        "\n"
        "Plans hold for one model of GPU and one version of cuDNN. What doesn't fit, or isn't there, a neuron "
        "searches\n"
        "for when it starts: it times what the libraries propose, all of it deterministic, and adds the fastest to "
        "the\n"
        "file. Matrix products are always left to that, since cuBLASLt plans on a device only. NEURON_TUNE=0 in the\n"
        "environment leaves the search out, and the libraries' heuristics decide; NEURON_TUNE=1 makes --device sim\n"
        "search too, which is of use to tests alone. Results differ by rounding only.\n",
    .files = "$NEURON_PLANS, or else neuron/plans.json in $XDG_CACHE_HOME or ~/.cache\n"
             "    where neurons look plans up, and keep what they found; without --out plans are added here\n",
    .examples = "neuron plan --for h100\n"
                "neuron plan --for l4 --batch 1,64 --dtype f32,bf16 --out plans.json\n"
                "NEURON_PLANS=plans.json neuron train --device cuda --dtype bf16\n",
    .run = run,
};
