#include "cli/bench_layers.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu/peak.h"
#include "cli/bench_time.h"
#include "cli/session.h"

enum { WINDOWS = 9 };

typedef struct Bench {
    const Options *options;
    Backend *backend, *reference;
    Output *output;
    bool device;  /* steps are held against its data sheet's roofline, not against this machine's peaks */
    Team *team;   /* as many threads as the backend has, for the peaks */
    double flops; /* the peak of arithmetic, a second */
} Bench;

/* One kind of work at one batch size. */
typedef struct Profile {
    BenchWork work;
    BenchPlan plan;    /* profiled */
    BenchTime whole;   /* of the same plan without a profile */
    double difference; /* from the reference */
    int count;         /* steps */
    double *seconds;   /* by step: the median of the windows' means */
    double total;      /* their sum */
    size_t bytes;      /* the working set: arena and variables */
    double bandwidth;  /* the peak in a working set of that size, bytes a second */
} Profile;

/* --- measuring --- */

static Status time_whole(const Bench *bench, Profile *profile, Error *error)
{
    BenchPlan plan = {0};
    Status status = bench_plan_open(&plan, bench->backend, &profile->work, false, error);
    if (status == STATUS_OK) status = bench_time(&plan, bench->options->repeat, &profile->whole, error);
    bench_plan_close(&plan);
    return status;
}

/* The mean of each step in each of the windows. */
static Status run_windows(Profile *profile, int64_t runs, double *means, Error *error)
{
    for (int window = 0; window < WINDOWS; window++) {
        plan_profile_reset(profile->plan.plan);
        for (int64_t run = 0; run < runs; run++)
            RETURN_IF_ERROR(bench_plan_run(&profile->plan, error));
        for (int step = 0; step < profile->count; step++)
            means[step * WINDOWS + window] = plan_step(profile->plan.plan, step).seconds;
    }
    return STATUS_OK;
}

static Status time_steps(const Bench *bench, Profile *profile, Error *error)
{
    int64_t repeat = bench->options->repeat, runs = (repeat + WINDOWS - 1) / WINDOWS;
    if (repeat == 0) runs = (int64_t)(1 / (WINDOWS * profile->whole.median)) + 1; /* about a second together */
    double *means = malloc(((size_t)profile->count + 1) * WINDOWS * sizeof *means);
    profile->seconds = calloc((size_t)profile->count + 1, sizeof *profile->seconds);
    Status status = STATUS_OK;
    if (means == NULL || profile->seconds == NULL)
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a profile of %d steps", profile->count);
    if (status == STATUS_OK) status = run_windows(profile, runs, means, error);
    for (int step = 0; status == STATUS_OK && step < profile->count; step++) {
        profile->seconds[step] = bench_median(means + step * WINDOWS, WINDOWS);
        profile->total += profile->seconds[step];
    }
    free(means);
    return status;
}

static size_t working_set(const BenchPlan *plan)
{
    size_t bytes = plan_arena_bytes(plan->plan);
    for (int i = 0; i < variables_count(plan->variables); i++)
        bytes +=
            (size_t)shape_count(variables_shape(plan->variables, i)) * dtype_size(variables_dtype(plan->variables, i));
    return bytes;
}

static Status measure(const Bench *bench, Profile *profile, Error *error)
{
    RETURN_IF_ERROR(bench_plan_open(&profile->plan, bench->backend, &profile->work, true, error));
    RETURN_IF_ERROR(bench_plan_check(&profile->plan, bench->reference, &profile->difference, error));
    profile->count = plan_step_count(profile->plan.plan);
    profile->bytes = working_set(&profile->plan);
    if (!bench->device) RETURN_IF_ERROR(peak_bandwidth(bench->team, profile->bytes, &profile->bandwidth, error));
    RETURN_IF_ERROR(time_whole(bench, profile, error));
    return time_steps(bench, profile, error);
}

/* --- rows --- */

const char *bench_phase_name(Phase phase)
{
    static const char *const names[] = {"forward", "backward", "update"};
    return names[phase];
}

int bench_layer_length(const char *layer)
{
    const char *dot = strrchr(layer, '.');
    bool parameter = dot != NULL && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0);
    return (int)(parameter ? (size_t)(dot - layer) : strlen(layer));
}

bool bench_same_layer(const char *a, const char *b)
{
    int length = bench_layer_length(a);
    return length == bench_layer_length(b) && strncmp(a, b, (size_t)length) == 0;
}

static bool wanted(const Bench *bench, const PlanStep *step)
{
    return !bench->options->backward || step->phase == PHASE_BACKWARD;
}

/* What steps come to together. */
typedef struct Sum {
    double flops, bytes, seconds;
    double roofline;   /* seconds that they take at least; 0: no data sheet */
    const char *limit; /* of one step; NULL: unknown */
} Sum;

typedef struct Rates {
    double flops, bytes; /* a second */
    double fraction;     /* of the peak that it comes closer to, or of the roofline */
    const char *bound;   /* "compute" or "bandwidth", or the roofline's limit; "-" where nothing is counted */
} Rates;

static Rates rates_of(const Bench *bench, const Profile *profile, const Sum *sum)
{
    Rates rates = {.bound = "-"};
    if (sum->seconds <= 0) return rates;
    rates.flops = sum->flops / sum->seconds;
    rates.bytes = sum->bytes / sum->seconds;
    if (bench->device) {
        rates.fraction = sum->roofline / sum->seconds;
        if (sum->limit != NULL) rates.bound = sum->limit;
        return rates;
    }
    double compute = rates.flops / bench->flops, bandwidth = rates.bytes / profile->bandwidth;
    rates.fraction = compute > bandwidth ? compute : bandwidth;
    if (rates.fraction > 0) rates.bound = compute > bandwidth ? "compute" : "bandwidth";
    return rates;
}

void bench_declare_texts(Table *table)
{
    static const char *const texts[BENCH_TEXT_COLUMNS] = {"layer",          "phase", "operation",
                                                          "implementation", "shape", "dtype"};
    for (size_t i = 0; i < BENCH_TEXT_COLUMNS; i++)
        table_column(table, texts[i], TABLE_LEFT);
}

void bench_add_texts(Table *table, const PlanStep *step, const char *phase)
{
    char shape[SHAPE_TEXT_SIZE];
    table_cell(table, "%s", step->layer[0] != '\0' ? step->layer : "-");
    table_cell(table, "%s", phase);
    table_cell(table, "%s", step->operation);
    table_cell(table, "%s", step->implementation);
    table_cell(table, "%s", shape_text(step->shape, shape));
    table_cell(table, "%s", dtype_name(step->dtype));
}

void bench_add_total(Table *table, const char *total, const char *phase)
{
    table_cell(table, "%s", total);
    table_cell(table, "%s", phase);
    for (int column = 2; column < BENCH_TEXT_COLUMNS; column++)
        table_cell(table, "%s", "");
}

void bench_describe_step(Event *event, const PlanStep *step, const char *phase)
{
    event_text(event, "layer", step->layer);
    event_text(event, "phase", phase);
    event_text(event, "operation", step->operation);
    event_text(event, "implementation", step->implementation);
    event_integers(event, "shape", step->shape.dims, (size_t)step->shape.rank);
    event_text(event, "dtype", dtype_name(step->dtype));
}

static void declare_columns(Table *table, bool device)
{
    const char *const numbers[] = {"us", "share %", "GFLOP/s", "GB/s", device ? "% of roofline" : "% of peak"};
    bench_declare_texts(table);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        table_column(table, numbers[i], TABLE_RIGHT);
    table_column(table, "bound", TABLE_LEFT);
}

static void add_numbers(Table *table, double seconds, double share, const Rates *rates)
{
    table_cell(table, "%.1f", 1e6 * seconds);
    table_cell(table, "%.1f", 100 * share);
    table_cell(table, "%.1f", 1e-9 * rates->flops);
    table_cell(table, "%.1f", 1e-9 * rates->bytes);
    table_cell(table, "%.0f", 100 * rates->fraction);
    table_cell(table, "%s", rates->bound);
}

static void add_rates(const Bench *bench, Event *event, const Sum *sum, const Rates *rates)
{
    event_real(event, "microseconds", 1e6 * sum->seconds);
    event_real(event, "gflops", 1e-9 * rates->flops);
    event_real(event, "gbps", 1e-9 * rates->bytes);
    if (bench->device) event_real(event, "roofline_us", 1e6 * sum->roofline);
    event_real(event, bench->device ? "roofline_fraction" : "peak_fraction", rates->fraction);
    event_text(event, "bound", rates->bound);
}

static void report_step(const Bench *bench, const Profile *profile, int index, Table *table)
{
    PlanStep step = plan_step(profile->plan.plan, index);
    double seconds = profile->seconds[index];
    const Sum sum = {step.flops, step.bytes, seconds, step.roofline, step.limit};
    Rates rates = rates_of(bench, profile, &sum);
    bench_add_texts(table, &step, bench_phase_name(step.phase));
    add_numbers(table, seconds, seconds / profile->total, &rates);

    Event event = event_make("layer");
    event_text(&event, "what", bench_kind_name(profile->work.kind));
    event_integer(&event, "batch", profile->work.batch);
    bench_describe_step(&event, &step, bench_phase_name(step.phase));
    event_real(&event, "share", seconds / profile->total);
    add_rates(bench, &event, &sum, &rates);
    output_event(bench->output, &event);
}

/* Layers in the order in which they come first; the steps of one in the plan's order: forward, backward, update. */
static void report_steps(const Bench *bench, const Profile *profile, Table *table)
{
    for (int i = 0; i < profile->count; i++) {
        PlanStep first = plan_step(profile->plan.plan, i);
        bool seen = false;
        for (int j = 0; j < i && !seen; j++)
            seen = bench_same_layer(plan_step(profile->plan.plan, j).layer, first.layer);
        for (int j = i; !seen && j < profile->count; j++) {
            PlanStep step = plan_step(profile->plan.plan, j);
            if (bench_same_layer(step.layer, first.layer) && wanted(bench, &step))
                report_step(bench, profile, j, table);
        }
    }
}

static Sum sum_of(const Profile *profile, bool every_phase, Phase phase)
{
    Sum sum = {0};
    for (int i = 0; i < profile->count; i++) {
        PlanStep step = plan_step(profile->plan.plan, i);
        if (!every_phase && step.phase != phase) continue;
        sum.flops += step.flops;
        sum.bytes += step.bytes;
        sum.seconds += profile->seconds[i];
        sum.roofline += step.roofline;
    }
    return sum;
}

static void report_total(const Bench *bench, const Profile *profile, const char *phase, Sum sum, Table *table)
{
    if (sum.seconds <= 0) return;
    Rates rates = rates_of(bench, profile, &sum);
    bench_add_total(table, "total", phase);
    add_numbers(table, sum.seconds, sum.seconds / profile->total, &rates);

    Event event = event_make("total");
    event_text(&event, "what", bench_kind_name(profile->work.kind));
    event_integer(&event, "batch", profile->work.batch);
    event_text(&event, "phase", phase);
    event_real(&event, "share", sum.seconds / profile->total);
    add_rates(bench, &event, &sum, &rates);
    event_real(&event, "whole_ms", 1e3 * profile->whole.median);
    event_integer(&event, "arena_bytes", (int64_t)plan_arena_bytes(profile->plan.plan));
    event_integer(&event, "working_set_bytes", (int64_t)profile->bytes);
    if (!bench->device) event_real(&event, "peak_gbps", 1e-9 * profile->bandwidth);
    event_real(&event, "difference", profile->difference);
    output_event(bench->output, &event);
}

static void report_totals(const Bench *bench, const Profile *profile, Table *table)
{
    for (Phase phase = PHASE_FORWARD; phase <= PHASE_UPDATE; phase++)
        if (!bench->options->backward || phase == PHASE_BACKWARD)
            report_total(bench, profile, bench_phase_name(phase), sum_of(profile, false, phase), table);
    if (!bench->options->backward) report_total(bench, profile, "all", sum_of(profile, true, 0), table);
}

static void report(const Bench *bench, const Profile *profile)
{
    Text text = {0};
    Table table = {0};
    text_append(&text, "\n%s of %s, batch %ld: %.4f ms as a whole; arena %.2f MB; differs from the reference by %.1e",
                bench_kind_name(profile->work.kind), profile->work.soma->name, (long)profile->work.batch,
                1e3 * profile->whole.median, 1e-6 * (double)plan_arena_bytes(profile->plan.plan), profile->difference);
    if (!bench->device)
        text_append(&text, "; peak of its %.2f MB %.1f GB/s", 1e-6 * (double)profile->bytes, 1e-9 * profile->bandwidth);
    text_append(&text, "\n");
    declare_columns(&table, bench->device);
    report_steps(bench, profile, &table);
    report_totals(bench, profile, &table);
    table_format(&table, &text);
    if (!bench->options->json && text.data != NULL) output_result(bench->output, text.data);
    table_free(&table);
    text_free(&text);
}

/* --- all of it --- */

static Status measure_machine(Bench *bench, Error *error)
{
    double bandwidth;
    bench->flops = peak_flops(bench->team);
    RETURN_IF_ERROR(peak_bandwidth(bench->team, PEAK_MEMORY_BYTES, &bandwidth, error));
    Event event = event_make("peak");
    event_integer(&event, "threads", team_members(bench->team));
    event_real(&event, "gflops", 1e-9 * bench->flops);
    event_real(&event, "memory_gbps", 1e-9 * bandwidth);
    output_event(bench->output, &event);
    output_line(bench->output, "peak with --threads %d: %.0f GFLOP/s in f32, memory %.1f GB/s",
                team_members(bench->team), 1e-9 * bench->flops, 1e-9 * bandwidth);
    return STATUS_OK;
}

Status bench_layers(const Options *options, Backend *backend, Backend *reference, Output *output, Error *error)
{
    Bench bench = {.options = options, .backend = backend, .reference = reference, .output = output};
    Status status;
    GOTO_IF_ERROR(team_create(backend_threads(backend), &bench.team, error), done);
    bench.device = backend_has_device(backend);
    if (!bench.device) GOTO_IF_ERROR(measure_machine(&bench, error), done);
    for (size_t i = 0; i < options->batches.count; i++)
        for (BenchKind kind = 0; kind < BENCH_KINDS; kind++) {
            if (!bench_kind_wanted(options, kind)) continue;
            Profile profile = {.work = {session_soma(options), kind, options->batches.items[i], (uint64_t)options->seed,
                                        precision_from_name(options->dtype)}};
            status = measure(&bench, &profile, error);
            if (status == STATUS_OK) report(&bench, &profile);
            bench_plan_close(&profile.plan);
            free(profile.seconds);
            if (status != STATUS_OK) goto done;
        }
done:
    team_destroy(bench.team);
    return status;
}
