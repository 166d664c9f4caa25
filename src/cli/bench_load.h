/* What bench wire and bench serve share: a neuron to load (one of bench's own on loopback, or --connect), a run of
 * dendrite/load.h at each --concurrency, and the reports: a table, events, a picture.
 *
 * bench_load_open -> bench_load_serve (where bench_load_is_own) -> bench_load_check, bench_load_measure ... ->
 * bench_load_report -> bench_load_close. Zero-initialise; close in any case, before what the handler uses is freed. */
#pragma once

#include "axon/axon.h"
#include "cli/options.h"
#include "dendrite/load.h"
#include "observe/plot.h"
#include "observe/table.h"

typedef struct BenchLoad {
    const char *what;    /* "wire", "serve" */
    const char *counted; /* what a measurement varies: "bytes", "batch" */
    const Options *options;
    Output *output;
    Peer peer;
    Axon *axon; /* bench's own; NULL with --connect */
    Table table;
    Plot plot;
} BenchLoad;

/* Questions of one size. */
typedef struct BenchQuestions {
    int64_t count;   /* bytes, or rows */
    int64_t samples; /* rows that a call asks about; 0: none to speak of */
    Modality modality;
    const LoadCase *cases;
    size_t case_count;
    double tolerance;
} BenchQuestions;

Status bench_load_open(BenchLoad *load, const char *what, const char *counted, const Options *options, Output *output,
                       Error *error);
/* Whether there is no --connect, and the neuron is ours to make. */
bool bench_load_is_own(const BenchLoad *load);
Status bench_load_serve(BenchLoad *load, AxonHandler handler, Error *error);

/* Asks each question once. INTERNAL when an answer is wrong; a failure's own status when a call fails. */
Status bench_load_check(const BenchLoad *load, const BenchQuestions *questions, Error *error);

/* At each --concurrency. Failed calls are told and counted; a wrong answer is INTERNAL. CANCELLED once a signal has
 * asked the program to stop. */
Status bench_load_measure(BenchLoad *load, const BenchQuestions *questions, Error *error);

/* Prints the table and draws the picture. */
Status bench_load_report(BenchLoad *load, Error *error);
void bench_load_close(BenchLoad *load);
