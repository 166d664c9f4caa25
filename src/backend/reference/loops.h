/* The reference backend's loops: one function an operation, the formula in it and nothing else. Each is written once,
 * in the .inc files, over a type REAL, and compiled for float and for double (loops_f32.c, loops_f64.c). Sums are in
 * REAL, except where they are means or norms over whole tensors: those are in double. */
#pragma once

#include "graph/operation.h"
#include "tensor/tensor.h"

typedef struct LoopArguments {
    const Node *node;
    bool training;
    const Tensor *inputs; /* node->input_count of them; data is NULL where an optional input is absent */
    Tensor *outputs;
} LoopArguments;

typedef Status ReferenceLoop(const LoopArguments *arguments, Error *error);

/* Indexed by OperationKind. A view has no loop, and the loops that only move bytes are the same in both tables. */
extern ReferenceLoop *const reference_loops_f32[OPERATION_COUNT];
extern ReferenceLoop *const reference_loops_f64[OPERATION_COUNT];

ReferenceLoop reference_concat, reference_slice, reference_slice_grad;
