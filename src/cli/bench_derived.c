#include "cli/bench_derived.h"

#include <stdio.h>
#include <string.h>

#include "cli/bench_layers.h"
#include "cli/bench_plan.h"
#include "cli/session.h"

typedef struct Derived {
    const Options *options;
    Output *output;
    const Plan *plan;
    BenchWork work;
} Derived;

/* What steps come to together. */
typedef struct Sum {
    int steps, launches;
    double flops, bytes, seconds;
    size_t workspace; /* the largest */
} Sum;

static void add_step(Sum *sum, const PlanStep *step)
{
    sum->steps++;
    sum->launches += step->launches;
    sum->flops += step->flops;
    sum->bytes += step->bytes;
    sum->seconds += step->roofline;
    if (step->workspace > sum->workspace) sum->workspace = step->workspace;
}

/* --- rows and events --- */

static void declare_columns(Table *table)
{
    static const char *const numbers[] = {"launches", "MFLOP", "kB", "workspace kB", "us at least"};
    bench_declare_texts(table);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        table_column(table, numbers[i], TABLE_RIGHT);
    table_column(table, "limit", TABLE_LEFT);
}

static void add_numbers(Table *table, const Sum *sum, const PlanStep *step)
{
    table_cell(table, "%d", sum->launches);
    table_cell(table, "%.3f", 1e-6 * sum->flops);
    table_cell(table, "%.1f", 1e-3 * sum->bytes);
    table_cell(table, "%.1f", 1e-3 * (double)step->workspace);
    table_cell(table, "%.2f", 1e6 * sum->seconds);
    table_cell(table, "%s", step->limit != NULL ? step->limit : "-");
}

static Event begin_event(const Derived *derived, const char *name)
{
    Event event = event_make(name);
    event_boolean(&event, "derived", true);
    event_text(&event, "gpu", derived->options->plan);
    event_text(&event, "what", bench_kind_name(derived->work.kind));
    event_integer(&event, "batch", derived->work.batch);
    return event;
}

static void add_figures(Event *event, const Sum *sum)
{
    event_integer(event, "launches", sum->launches);
    event_real(event, "flops", sum->flops);
    event_real(event, "bytes", sum->bytes);
    event_real(event, "roofline_us", 1e6 * sum->seconds);
}

/* The copies belong to no phase. */
static void report_step(const Derived *derived, const PlanStep *step, const char *phase, Table *table)
{
    Sum sum = {0};
    add_step(&sum, step);
    bench_add_texts(table, step, phase);
    add_numbers(table, &sum, step);

    Event event = begin_event(derived, "layer");
    bench_describe_step(&event, step, phase);
    add_figures(&event, &sum);
    event_integer(&event, "workspace_bytes", (int64_t)step->workspace);
    event_text(&event, "limit", step->limit);
    output_event(derived->output, &event);
}

/* `layer` NULL: of all; `phase` "all": of every one. */
static void report_total(const Derived *derived, const char *layer, const char *phase, const Sum *sum, Table *table)
{
    if (sum->steps == 0) return;
    const PlanStep together = {.workspace = sum->workspace, .limit = ""};
    char title[160];
    snprintf(title, sizeof title, "%s%s", layer != NULL ? "total " : "total", layer != NULL ? layer : "");
    bench_add_total(table, title, phase);
    add_numbers(table, sum, &together);

    Event event = begin_event(derived, "total");
    if (layer != NULL) event_text(&event, "layer", layer);
    event_text(&event, "phase", phase);
    add_figures(&event, sum);
    if (layer == NULL) event_integer(&event, "arena_bytes", (int64_t)plan_arena_bytes(derived->plan));
    output_event(derived->output, &event);
}

/* --- a plan --- */

static bool wanted(const Derived *derived, const PlanStep *step)
{
    return !derived->options->backward || step->phase == PHASE_BACKWARD;
}

static void report_copy(const Derived *derived, bool to_host, Sum *all, Table *table)
{
    const PlanStep copy = plan_copy(derived->plan, to_host);
    if (derived->options->backward || copy.bytes == 0) return;
    report_step(derived, &copy, "copy", table);
    add_step(all, &copy);
}

/* A layer's steps lie apart, forward and backward; its total stands where its first step does. */
static void report_layers(const Derived *derived, Table *table)
{
    const int count = plan_step_count(derived->plan);
    for (int i = 0; i < count; i++) {
        const PlanStep first = plan_step(derived->plan, i);
        Sum sum = {0};
        bool seen = first.layer[0] == '\0';
        for (int j = 0; j < i && !seen; j++)
            seen = bench_same_layer(plan_step(derived->plan, j).layer, first.layer);
        for (int j = i; j < count && !seen; j++) {
            const PlanStep step = plan_step(derived->plan, j);
            if (bench_same_layer(step.layer, first.layer) && wanted(derived, &step)) add_step(&sum, &step);
        }
        char name[128];
        snprintf(name, sizeof name, "%.*s", bench_layer_length(first.layer), first.layer);
        report_total(derived, name, "all", &sum, table);
    }
}

static void report_steps(const Derived *derived, Table *table)
{
    Sum phases[PHASE_UPDATE + 1] = {{0}}, all = {0};
    report_copy(derived, false, &all, table);
    for (int i = 0; i < plan_step_count(derived->plan); i++) {
        const PlanStep step = plan_step(derived->plan, i);
        if (!wanted(derived, &step)) continue;
        report_step(derived, &step, bench_phase_name(step.phase), table);
        add_step(&phases[step.phase], &step);
        add_step(&all, &step);
    }
    report_copy(derived, true, &all, table);
    report_layers(derived, table);
    for (Phase phase = PHASE_FORWARD; phase <= PHASE_UPDATE; phase++)
        report_total(derived, NULL, bench_phase_name(phase), &phases[phase], table);
    if (!derived->options->backward) report_total(derived, NULL, "all", &all, table);
}

static void report(const Derived *derived, const char *description)
{
    Text text = {0};
    Table table = {0};
    text_append(&text, "\n%s of %s, batch %ld, derived, not measured: %s; one CUDA graph a run; arena %.2f MB\n",
                bench_kind_name(derived->work.kind), derived->work.soma->name, (long)derived->work.batch, description,
                1e-6 * (double)plan_arena_bytes(derived->plan));
    declare_columns(&table);
    report_steps(derived, &table);
    table_format(&table, &text);
    if (!derived->options->json && text.data != NULL) output_result(derived->output, text.data);
    table_free(&table);
    text_free(&text);
}

static Status derive(const Options *options, Backend *backend, const BenchWork *work, Output *output, Error *error)
{
    BenchPlan plan = {0};
    const Status status = bench_plan_open(&plan, backend, work, false, error);
    if (status == STATUS_OK)
        report(&(Derived){.options = options, .output = output, .plan = plan.plan, .work = *work},
               backend_description(backend));
    bench_plan_close(&plan);
    return status;
}

Status bench_derived(const Options *options, Output *output, Error *error)
{
    const char *device = strcmp(options->device, "auto") == 0 ? "cuda" : options->device;
    const BackendOptions wanted_backend = {.precision = precision_from_name(options->dtype), .plan_for = options->plan};
    Backend *backend = NULL;
    Status status;
    GOTO_IF_ERROR(backend_open(device, &wanted_backend, &backend, error), done);
    for (size_t i = 0; i < options->batches.count; i++)
        for (BenchKind kind = 0; kind < BENCH_KINDS; kind++) {
            const BenchWork work = {session_soma(options), kind, options->batches.items[i], (uint64_t)options->seed,
                                    precision_from_name(options->dtype)};
            if (!bench_kind_wanted(options, kind)) continue;
            GOTO_IF_ERROR(derive(options, backend, &work, output, error), done);
        }
done:
    backend_close(backend);
    return status;
}
