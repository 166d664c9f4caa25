#include "cli/bench_step.h"

#include "cli/bench_time.h"
#include "cli/session.h"
#include "observe/table.h"

static Status measure(const Options *options, Backend *backend, Backend *reference, const BenchWork *work,
                      BenchTime *time, double *difference, Error *error)
{
    BenchPlan plan = {0};
    Status status;
    GOTO_IF_ERROR(bench_plan_open(&plan, backend, work, false, error), done);
    GOTO_IF_ERROR(bench_plan_check(&plan, reference, difference, error), done);
    GOTO_IF_ERROR(bench_time(&plan, options->repeat, time, error), done);
done:
    bench_plan_close(&plan);
    return status;
}

static void report(const BenchWork *work, const BenchTime *time, double difference, int threads, Table *table,
                   Output *output)
{
    double rate = (double)work->batch / time->median;
    Event event = event_make("bench");
    event_text(&event, "what", bench_kind_name(work->kind));
    event_text(&event, "soma", work->soma->name);
    event_integer(&event, "batch", work->batch);
    event_real(&event, "median_ms", 1e3 * time->median);
    event_real(&event, "min_ms", 1e3 * time->least);
    event_real(&event, "samples_per_second", rate);
    event_integer(&event, "runs", time->runs);
    event_integer(&event, "threads", threads);
    event_real(&event, "difference", difference);
    output_event(output, &event);
    table_cell(table, "%s", bench_kind_name(work->kind));
    table_cell(table, "%ld", (long)work->batch);
    table_cell(table, "%.4f", 1e3 * time->median);
    table_cell(table, "%.4f", 1e3 * time->least);
    table_cell(table, "%.0f", rate);
    table_cell(table, "%ld", (long)time->runs);
    table_cell(table, "%.1e", difference);
}

static void declare_columns(Table *table)
{
    table_column(table, "what", TABLE_LEFT);
    table_column(table, "batch", TABLE_RIGHT);
    table_column(table, "median ms", TABLE_RIGHT);
    table_column(table, "min ms", TABLE_RIGHT);
    table_column(table, "samples/s", TABLE_RIGHT);
    table_column(table, "runs", TABLE_RIGHT);
    table_column(table, "difference", TABLE_RIGHT);
}

Status bench_step(const Options *options, Backend *backend, Backend *reference, Output *output, Error *error)
{
    Table table = {0};
    Status status = STATUS_OK;
    declare_columns(&table);
    for (size_t i = 0; i < options->batches.count; i++)
        for (BenchKind kind = 0; kind < BENCH_KINDS; kind++) {
            if (!bench_kind_wanted(options, kind)) continue;
            BenchWork work = {session_soma(options), kind, options->batches.items[i], (uint64_t)options->seed,
                              precision_from_name(options->dtype)};
            BenchTime time;
            double difference;
            GOTO_IF_ERROR(measure(options, backend, reference, &work, &time, &difference, error), done);
            report(&work, &time, difference, backend_threads(backend), &table, output);
        }
    if (!options->json) table_print(&table, output);
done:
    table_free(&table);
    return status;
}
