/* The cases of each operation, declared once: test_reference, test_gradients and test_backends all run them, and
 * make_golden.py computes the small ones again in PyTorch. A case is one node over inputs of given shapes and values.
 *
 * Everything here is a pure function of the case, so that two backends get the same bytes. */
#pragma once

#include "graph/operation.h"
#include "tensor/tensor.h"

enum { CASE_MAX_INPUTS = 6, CASE_LABEL_SIZE = 96 };

/* Values of an input. REAL kinds have the dtype of the graph's real numbers. */
typedef enum Fill {
    FILL_END, /* after the last input */
    FILL_ABSENT,
    FILL_UNIFORM,  /* real, -1 .. 1 */
    FILL_POSITIVE, /* real, 0.5 .. 1.5 */
    FILL_WIDE,     /* real, -8 .. 8: the tails of activations too */
    FILL_DISTINCT, /* real, evenly spaced in -1 .. 1 without 0, shuffled: no kink of relu or max_pool is near */
    FILL_GRID,     /* real, multiples of 1/8 in -1 .. 1: sums of products are exact in float, and ties occur */
    FILL_HOLES,    /* uniform, but every seventh element is NaN, beginning with the first */
    FILL_ZERO,     /* real */
    FILL_LABELS,   /* i32, -1 .. limit - 1 */
    FILL_NO_LABEL, /* i32, all -1 */
    FILL_MASK,     /* u8, 0 or 1, both present when there is room */
    FILL_INDEX,    /* u8, 0 .. limit - 1 */
    FILL_COUNTS,   /* i32, anything */
    FILL_RANDOM,   /* i64 [2]: seed and step of dropout */
} Fill;

typedef struct CaseInput {
    Fill fill;
    Shape shape;
    int limit;
    bool constant; /* real, but no gradient flows to it */
} CaseInput;

typedef struct OperationCase {
    OperationKind operation;
    const char *name; /* unique within the operation */
    CaseInput inputs[CASE_MAX_INPUTS];
    Attributes attributes;
    bool large; /* too large for finite differences */
} OperationCase;

int case_count(void);
const OperationCase *case_at(int index);
/* "conv2d/stride"; returns `out`. */
const char *case_label(const OperationCase *test, char out[CASE_LABEL_SIZE]);
/* NULL when there is none. */
const OperationCase *case_find(const char *label);
int case_input_count(const OperationCase *test);
bool case_input_is_real(const CaseInput *input);
/* Whether finite differences make sense: the operation has a gradient rule, values are finite and it isn't large. */
bool case_is_differentiable(const OperationCase *test);

/* The case as a training graph with inputs "input0", ... and outputs "output0", ... */
typedef struct CaseGraph {
    Graph *graph;
    Value inputs[CASE_MAX_INPUTS]; /* VALUE_NONE where absent */
    Value outputs[NODE_MAX_OUTPUTS];
    int input_count, output_count;
} CaseGraph;

CaseGraph case_graph(const OperationCase *test, DType real);
/* Writes the values of input `index` into a tensor of its dtype and shape. */
void case_fill(const OperationCase *test, int index, const Tensor *out);

/* An element as a double, whatever its dtype (F32, F64, I32, I64, U8). */
double element_get(const Tensor *tensor, int64_t index);
void element_set(const Tensor *tensor, int64_t index, double value);
