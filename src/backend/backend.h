/* The one interface to what computes: reference (plain loops, F32 and F64), cpu (oneDNN and own kernels, F32), and the
 * plug-ins cuda (NVIDIA GPUs) and sim (the same code on simulated ones).
 *
 *   backend_open -> variables_create -> variables_declare(graph) -> plan_compile(graph) -> { fill plan_input, plan_run,
 * read plan_output }
 *
 * Variables are the states of graphs (parameters, momenta), shared by name between the plans of one backend: the
 * training plan updates what the evaluation plan reads. A plan belongs to one thread at a time, and no two plans that
 * touch the same Variables may run at once unless all only read them. plan_run allocates nothing. */
#pragma once

#include "base/rng.h"
#include "graph/graph.h"
#include "tensor/tensor.h"

typedef struct Backend Backend;
typedef struct Variables Variables;
typedef struct Plan Plan;

/* What is kept between operations, and what products are computed in. Parameters and their updates are F32 always; cpu
 * and reference have F32 alone. */
typedef enum Precision { PRECISION_F32, PRECISION_TF32, PRECISION_BF16, PRECISION_F16, PRECISION_COUNT } Precision;

const char *precision_name(Precision precision); /* "f32", "tf32", "bf16", "f16" */
Precision precision_from_name(const char *name); /* PRECISION_COUNT when unknown */

typedef struct BackendOptions {
    int threads;         /* 0: all cores this process may use */
    size_t memory_limit; /* bytes an arena may take; 0: no limit */
    Precision precision;
    const char *plan_for;   /* cuda and sim: the name of a GPU ("h100"), whatever this host has: plans are made for it,
                               and described, and can't be run; NULL: this host's */
    const char *plans_file; /* cuda and sim: where plans of library calls are looked up, and what a search finds is
                               kept; NULL: the usual file (cuda/plans_ahead.h) */
    bool keep_plans;        /* with plan_for: all plans that are made are kept there */
} BackendOptions;

/* `device` is "cpu", "reference", "cuda" or "sim"; the latter two may name a device of the host: "cuda:1". "auto" is
 * cuda where this build and this host have it, else cpu. Anything else is INVALID_ARGUMENT; FAILED_PRECONDITION, with
 * one sentence that says what is missing, where this build has no such plug-in, or this host no driver or no device. */
Status backend_open(const char *device, const BackendOptions *options, Backend **out, Error *error);
/* Whether backend_open knows the name, whatever this host has. */
Status backend_check_device(const char *device, Error *error);
void backend_close(Backend *backend);
const char *backend_name(const Backend *backend);
int backend_threads(const Backend *backend);
Precision backend_precision(const Backend *backend);
/* Whether it computes on a device with memory of its own: plans then tell launches and, by a data sheet, rooflines. */
bool backend_has_device(const Backend *backend);
/* How many devices share a batch ("cuda:0,1": two). Graphs that train are then compiled for each one's part of the
 * samples (graph_mark_samples); others run on the first device alone. */
int backend_replicas(const Backend *backend);
/* What it computes with: "oneDNN 2.6.3, avx512, 2 threads". */
const char *backend_description(const Backend *backend);

/* --- variables --- */
Status variables_create(Backend *backend, Variables **out, Error *error);
void variables_destroy(Variables *variables);
/* Makes room for every state of the graph that isn't there yet, with its initial value drawn from `seed` and its name
 * (so that the order of declaration doesn't matter). A state that is there with another dtype or shape is an error. */
Status variables_declare(Variables *variables, const Graph *graph, uint64_t seed, Error *error);
int variables_count(const Variables *variables);
const char *variables_name(const Variables *variables, int index);
bool variables_trainable(const Variables *variables, int index);
DType variables_dtype(const Variables *variables, int index);
Shape variables_shape(const Variables *variables, int index);
int variables_find(const Variables *variables, const char *name); /* -1 when absent */
/* Copies to and from host memory, in the dtype and shape given at declaration (`bytes` must match). */
Status variables_read(const Variables *variables, int index, void *out, size_t bytes, Error *error);
Status variables_write(Variables *variables, int index, const void *in, size_t bytes, Error *error);
/* Hands one variable's value to that of the same name in `to` (nowhere, if there is none) and leaves zeros. */
Status variables_move(Variables *to, Variables *from, int index, Error *error);
/* Makes *mirror (NULL at first) a copy of all variables in host memory, which is good for reading and saving, and for
 * no plan. After a failure it may be half old and half new. */
Status variables_mirror(Variables **mirror, const Variables *from, Error *error);
bool variables_in_host_memory(const Variables *variables);
/* Copies every parameter (trainable variable) that both have by name: a snapshot. The sets may belong to different
 * backends. */
Status variables_copy_parameters(Variables *to, const Variables *from, Error *error);

/* --- plans --- */
typedef struct PlanOptions {
    unsigned rewrites; /* graph/rewrite.h */
    bool frozen;  /* weights are packed once: after a change of variables, plan_refresh before the next run (a run in
                     between may mix old and new) */
    bool profile; /* measure each step */
} PlanOptions;

/* `variables` must outlive the plan; the graph need not. Fails with the graph's first mistake. */
Status plan_compile(Backend *backend, const Graph *graph, Variables *variables, const PlanOptions *options, Plan **out,
                    Error *error);
void plan_destroy(Plan *plan);

/* Looks at the memory of an input (write it before plan_run) or an output (read it after). data is NULL when there is
 * no such name. */
Tensor plan_input(Plan *plan, const char *name);
Tensor plan_output(Plan *plan, const char *name);
Status plan_run(Plan *plan, Error *error);
/* Of a frozen plan: take over the variables' present values. */
Status plan_refresh(Plan *plan, Error *error);

size_t plan_arena_bytes(const Plan *plan);

typedef struct PlanStep {
    const char *layer;          /* the soma's name, "" where it has none */
    const char *operation;      /* "conv2d" */
    const char *implementation; /* "brgemm:avx512_core", "lanes", "loop" */
    Phase phase;
    Shape shape; /* of the (first) output */
    DType dtype;
    double flops, bytes; /* derived from shapes (graph/operation.h) */
    int launches;        /* of kernels and of library calls; 0: no device */
    double roofline;     /* seconds that it takes at least, by the device's data sheet; 0: unknown */
    const char *limit;   /* what sets that: "compute", "memory", "launch" or "link"; NULL: unknown */
    size_t workspace;    /* bytes of memory besides inputs and outputs that it uses while it runs */
    double seconds;      /* mean over the runs since compilation or plan_profile_reset; 0 unless profiled */
} PlanStep;

int plan_step_count(const Plan *plan);
PlanStep plan_step(const Plan *plan, int index);
/* What a run copies between host and device before its steps, or after them; bytes 0: nothing. */
PlanStep plan_copy(const Plan *plan, bool to_host);
void plan_profile_reset(Plan *plan);
