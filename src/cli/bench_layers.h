/* bench layers: each step of a compiled plan, layer by layer, against what this machine can do at best. */
#pragma once

#include "cli/bench_plan.h"
#include "cli/options.h"
#include "observe/output.h"
#include "observe/table.h"

/* Checks and profiles every kind of work at every batch size, against this machine's peak, which is measured first, or
 * against the roofline of a GPU's data sheet. Events "peak" (of a CPU), "layer" and "total"; tables for people. */
Status bench_layers(const Options *options, Backend *backend, Backend *reference, Output *output, Error *error);

/* The first columns of a table of steps, the cells in them, and the same as fields of an event. The copies of a plan
 * belong to no Phase, so that one is a text. */
enum { BENCH_TEXT_COLUMNS = 6 };
void bench_declare_texts(Table *table);
void bench_add_texts(Table *table, const PlanStep *step, const char *phase);
void bench_add_total(Table *table, const char *total, const char *phase);
void bench_describe_step(Event *event, const PlanStep *step, const char *phase);
/* "forward", "backward", "update". */
const char *bench_phase_name(Phase phase);
/* "hidden_layer1" of "hidden_layer1" and of its parameters' "hidden_layer1.weight": characters. */
int bench_layer_length(const char *layer);
bool bench_same_layer(const char *a, const char *b);
