/* The operation table: one row an operation, read by graph building, gradients, the planner, the tests and the
 * benchmark.
 *
 * A new operation is: one name in operation_kind.h, its shapes and formula beside it, one row in operations_*.c (shape
 * rule, gradient rule in terms of other operations, FLOPs), one reference loop (backend/reference), one entry a
 * backend, and one case in tests/ops/cases.c. Shapes below are row-major; N batch, C channels, real = F32 or F64. */
#pragma once

#include "graph/graph.h"

/* One output, as a shape rule gives it. */
typedef struct OutputRule {
    DType dtype;
    Shape shape;
} OutputRule;

typedef struct Operation {
    const char *name;
    int inputs_min, inputs_max; /* max -1: any number; optional inputs come last and may be VALUE_NONE */
    int outputs;
    bool view; /* output 0 is input 0's bytes */
    /* Fills outputs[], or returns false having called graph_fail with both names. */
    bool (*infer)(Graph *graph, const Node *node, OutputRule *outputs);
    /* Sets input_gradients[i] for each i with needed[i], given the gradients of all outputs (VALUE_NONE: zero); NULL:
     * no gradient flows. */
    void (*gradient)(Graph *graph, const Node *node, const Value *output_gradients, const bool *needed,
                     Value *input_gradients);
    double (*flops)(const Graph *graph, const Node *node); /* NULL: none worth counting */
} Operation;

const Operation *operation_of(OperationKind kind);

/* Bytes that the node must move at least: every input read once, every output written once (a view moves none). */
double operation_bytes(const Graph *graph, const Node *node);
double operation_flops(const Graph *graph, const Node *node);
