#include "cli/bench_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/signals.h"

enum { WARM_SHARE = 5 }; /* a run begins with --duration / WARM_SHARE that isn't counted */

static const char bench_key[] = "bench";

/* --- the neuron --- */

static Status find_peer(BenchLoad *load, Error *error)
{
    Peer *peers = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(peer_parse_list(load->options->connect, &peers, &count, error));
    if (count == 1) load->peer = peers[0];
    free(peers);
    if (count == 1) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "--connect is '%s', of %zu peers, expected one",
                     load->options->connect, count);
}

static void declare_columns(Table *table, const char *counted)
{
    const char *const names[] = {counted,  "concurrency", "calls/s", "MB/s out", "MB/s in", "p50 us",
                                 "p99 us", "p99.9 us",    "max us",  "calls",    "failed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        table_column(table, names[i], TABLE_RIGHT);
}

Status bench_load_open(BenchLoad *load, const char *what, const char *counted, const Options *options, Output *output,
                       Error *error)
{
    load->what = what;
    load->counted = counted;
    load->options = options;
    load->output = output;
    declare_columns(&load->table, counted);
    return options->connect != NULL ? find_peer(load, error) : STATUS_OK;
}

bool bench_load_is_own(const BenchLoad *load)
{
    return load->options->connect == NULL;
}

Status bench_load_serve(BenchLoad *load, AxonHandler handler, Error *error)
{
    AxonOptions options = {.listen = "127.0.0.1:0",
                           .neuron_key = bench_key,
                           .max_message_bytes = (size_t)load->options->max_message,
                           .queue_capacity = (size_t)load->options->queue,
                           .threads = (int)load->options->network_threads};
    RETURN_IF_ERROR(axon_start(&options, &load->axon, error));
    RETURN_IF_ERROR(axon_serve(load->axon, bench_key, handler, error));
    return peer_parse(axon_address(load->axon), &load->peer, error);
}

void bench_load_close(BenchLoad *load)
{
    axon_destroy(load->axon);
    load->axon = NULL;
    table_free(&load->table);
    plot_free(&load->plot);
}

/* --- runs --- */

static LoadOptions load_options(const BenchLoad *load, const BenchQuestions *questions)
{
    const Options *o = load->options;
    return (LoadOptions){.peer = load->peer,
                         .neuron_key = bench_key,
                         .modality = questions->modality,
                         .cases = questions->cases,
                         .case_count = questions->case_count,
                         .tolerance = questions->tolerance,
                         .rate = o->rate,
                         .channels = (size_t)o->channels,
                         .warm_ns = o->duration / WARM_SHARE,
                         .duration_ns = o->duration,
                         .deadline_ns = o->deadline,
                         .max_message_bytes = (size_t)o->max_message,
                         .seed = (uint64_t)o->seed,
                         .stop = signals_stop_requested};
}

static Status check_right(const BenchLoad *load, const LoadResult *result, Error *error)
{
    if (result->wrong == 0) return STATUS_OK;
    return error_set(error, STATUS_INTERNAL, "%s: %" PRIu64 " wrong answers, the first: %s", load->peer.address,
                     result->wrong, result->first.message);
}

/* A client a question; the time is over after the first answer of each. */
Status bench_load_check(const BenchLoad *load, const BenchQuestions *questions, Error *error)
{
    LoadOptions options = load_options(load, questions);
    LoadResult result;
    options.concurrency = questions->case_count;
    options.rate = 0;
    options.channels = 1;
    options.warm_ns = 0;
    options.duration_ns = 1;
    RETURN_IF_ERROR(load_run(&options, &result, error));
    RETURN_IF_ERROR(check_right(load, &result, error));
    if (load_failed(&result) == 0) return STATUS_OK;
    return error_set(error, result.first.status, "%s: %s: %s", load->peer.address, status_name(result.first.status),
                     result.first.message);
}

/* --- reports --- */

static double microseconds(const LoadResult *result, double fraction)
{
    return 1e-3 * (double)histogram_percentile(&result->latency, fraction);
}

static void report_event(const BenchLoad *load, const BenchQuestions *questions, int64_t concurrency,
                         const LoadResult *result)
{
    const Options *o = load->options;
    Event event = event_make("bench");
    event_text(&event, "what", load->what);
    event_text(&event, "method", o->backward ? "backward" : "forward");
    event_integer(&event, load->counted, questions->count);
    event_integer(&event, "concurrency", concurrency);
    event_integer(&event, "channels", o->channels);
    if (o->rate > 0) event_real(&event, "rate", o->rate);
    event_integer(&event, "calls", (int64_t)result->calls);
    event_integer(&event, "answered", (int64_t)result->answered);
    event_real(&event, "seconds", result->seconds);
    event_real(&event, "calls_per_second", result->calls_per_second);
    if (questions->samples > 0)
        event_real(&event, "samples_per_second", (double)questions->samples * result->calls_per_second);
    event_real(&event, "megabytes_per_second", result->megabytes_per_second_sent);
    event_real(&event, "megabytes_per_second_received", result->megabytes_per_second_received);
    event_real(&event, "mean_us", 1e-3 * histogram_mean(&result->latency));
    event_real(&event, "p50_us", microseconds(result, 0.5));
    event_real(&event, "p99_us", microseconds(result, 0.99));
    event_real(&event, "p999_us", microseconds(result, 0.999));
    event_real(&event, "max_us", 1e-3 * (double)result->latency.most);
    event_integer(&event, "failures", (int64_t)load_failed(result));
    event_integer(&event, "unsent", (int64_t)result->unsent);
    for (size_t s = 0; s < sizeof result->failures / sizeof *result->failures; s++)
        if (result->failures[s] > 0) event_integer(&event, status_name((Status)s), (int64_t)result->failures[s]);
    output_event(load->output, &event);
}

static void report_row(BenchLoad *load, const BenchQuestions *questions, int64_t concurrency, const LoadResult *result)
{
    Table *table = &load->table;
    table_cell(table, "%" PRId64, questions->count);
    table_cell(table, "%" PRId64, concurrency);
    table_cell(table, "%.0f", result->calls_per_second);
    table_cell(table, "%.1f", result->megabytes_per_second_sent);
    table_cell(table, "%.1f", result->megabytes_per_second_received);
    table_cell(table, "%.1f", microseconds(result, 0.5));
    table_cell(table, "%.1f", microseconds(result, 0.99));
    table_cell(table, "%.1f", microseconds(result, 0.999));
    table_cell(table, "%.1f", 1e-3 * (double)result->latency.most);
    table_cell(table, "%" PRIu64, result->calls);
    table_cell(table, "%" PRIu64, load_failed(result));
}

/* What is beside the figures, for people: nothing is lost without a word. */
static void report_failures(const BenchLoad *load, const LoadResult *result)
{
    Text text = {0};
    for (size_t s = 0; s < sizeof result->failures / sizeof *result->failures; s++)
        if (result->failures[s] > 0)
            text_append(&text, " %s %" PRIu64 ",", status_name((Status)s), result->failures[s]);
    if (text.data != NULL)
        output_warning(load->output, "calls failed:%s the first: %s", text.data, result->first.message);
    if (result->unsent > 0)
        output_warning(load->output, "%" PRIu64 " calls were due and never sent: --concurrency were out all the time",
                       result->unsent);
    text_free(&text);
}

typedef struct Curves {
    PlotSeries *rate, *p50, *p99, *p999;
} Curves;

static Curves add_panels(BenchLoad *load, const BenchQuestions *questions)
{
    char title[PLOT_TEXT_SIZE], axis[PLOT_TEXT_SIZE];
    const Options *o = load->options;
    if (o->rate > 0)
        snprintf(axis, sizeof axis, "most calls in flight (%.6g due a second)", o->rate);
    else
        snprintf(axis, sizeof axis, "calls in flight");
    snprintf(title, sizeof title, "Throughput, %s %" PRId64, load->counted, questions->count);
    PlotPanel *rate = plot_panel(&load->plot, title, axis, "calls/s");
    snprintf(title, sizeof title, "Latency, %s %" PRId64, load->counted, questions->count);
    PlotPanel *latency = plot_panel(&load->plot, title, axis, "microseconds");
    if (rate != NULL) rate->log_x = true;
    if (latency != NULL) latency->log_x = latency->log_y = true;
    Curves curves = {.rate = plot_series(rate, "calls/s")};
    curves.p50 = plot_series(latency, "p50");
    curves.p99 = plot_series(latency, "p99");
    curves.p999 = plot_series(latency, "p99.9");
    return curves;
}

static void add_points(const Curves *curves, int64_t concurrency, const LoadResult *result)
{
    double x = (double)concurrency;
    plot_point(curves->rate, x, result->calls_per_second);
    plot_point(curves->p50, x, microseconds(result, 0.5));
    plot_point(curves->p99, x, microseconds(result, 0.99));
    plot_point(curves->p999, x, microseconds(result, 0.999));
}

Status bench_load_measure(BenchLoad *load, const BenchQuestions *questions, Error *error)
{
    Curves curves = add_panels(load, questions);
    for (size_t i = 0; i < load->options->concurrency.count; i++) {
        LoadOptions options = load_options(load, questions);
        LoadResult result;
        int64_t concurrency = load->options->concurrency.items[i];
        options.concurrency = (size_t)concurrency;
        RETURN_IF_ERROR(load_run(&options, &result, error));
        if (signals_stop_requested()) return error_set(error, STATUS_CANCELLED, "stopped by a signal");
        RETURN_IF_ERROR(check_right(load, &result, error));
        report_failures(load, &result);
        report_row(load, questions, concurrency, &result);
        report_event(load, questions, concurrency, &result);
        add_points(&curves, concurrency, &result);
    }
    return STATUS_OK;
}

Status bench_load_report(BenchLoad *load, Error *error)
{
    const Options *o = load->options;
    char title[PLOT_TEXT_SIZE + PEER_ADDRESS_SIZE];
    if (!o->json) table_print(&load->table, load->output);
    if (o->svg == NULL) return STATUS_OK;
    snprintf(title, sizeof title, "neuron bench %s: %s, %s", load->what, o->backward ? "Backward" : "Forward",
             load->axon != NULL ? "on loopback" : load->peer.address);
    load->plot.title = title;
    Status status = plot_write(&load->plot, o->svg, error);
    load->plot.title = NULL;
    return status;
}
