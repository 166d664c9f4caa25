/* A computation, declared before anything is computed: nodes (operations) between values (tensors that will exist when
 * a plan runs).
 *
 * Building never fails loudly: a mistake (a shape that doesn't fit) marks the graph with its first error, every later
 * value is VALUE_NONE, and the error is read once, by graph_check or when the plan is compiled. A graph owns its nodes,
 * values and names; one thread builds it, then anybody may read it. The words that a soma is written in (conv2d,
 * linear, ...) are in ops.h; the operations' rules are in operation.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "graph/operation_kind.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

typedef struct Graph Graph;

typedef struct Value {
    int32_t id; /* index into the graph's values; -1: none */
} Value;

#define VALUE_NONE ((Value){-1})

typedef enum ValueKind {
    VALUE_INPUT,    /* given by the caller before each run */
    VALUE_STATE,    /* kept between runs and shared between plans by name: a parameter, a momentum, a running mean */
    VALUE_COMPUTED, /* what a node makes */
} ValueKind;

typedef enum Initializer { INITIALIZE_ZERO, INITIALIZE_ONE, INITIALIZE_UNIFORM, INITIALIZE_NORMAL } Initializer;

typedef struct ValueInfo {
    ValueKind kind;
    DType dtype;
    Shape shape;
    const char *name;
    int32_t node;        /* what makes it (VALUE_COMPUTED), else -1 */
    int32_t output;      /* which of the node's outputs it is */
    int32_t sample_axis; /* inputs: see graph_mark_samples; -1: none */
    /* states only */
    bool trainable; /* a parameter: graph_gradient's usual target, and what a model file holds */
    Initializer initializer;
    double bound;   /* uniform in [-bound, bound), or the normal's standard deviation */
    Value assigned; /* the value that replaces this state at the end of a run; VALUE_NONE: read only */
} ValueInfo;

typedef enum Phase { PHASE_FORWARD, PHASE_BACKWARD, PHASE_UPDATE } Phase;

typedef enum Activation { ACTIVATION_NONE, ACTIVATION_RELU } Activation;

typedef enum GeluForm {
    GELU_EXACT, /* by erf: BERT's */
    GELU_TANH,  /* an approximation by tanh, to some 5e-4: what libraries fuse with matrix products */
} GeluForm;

typedef union Attributes {
    struct {
        int32_t kernel[2], stride[2], padding[2], groups;
        Activation activation;
        int32_t rows, columns;   /* of the input: the gradient operations need them */
        double drop_probability; /* conv2d_pool: dropout2d before the pool; 0: none */
        uint32_t drop_layer;
    } conv2d;
    struct {
        int32_t kernel[2], stride[2], rows,
            columns; /* rows and columns: of the input (gradient) or the output (adaptive) */
    } pool2d;
    struct {
        Activation activation;
    } linear;
    struct {
        double scale, shift;
    } affine;
    struct {
        GeluForm form;
    } gelu;
    struct {
        double probability; /* of being dropped, in [0, 1) */
        uint32_t layer;     /* which of the graph's masks (rng_mask_word) */
        bool channels;      /* one decision a channel of [N, C, ...] instead of one an element */
    } dropout;
    struct {
        int32_t axis;
        int64_t start, stop; /* slice; in slice_grad: where it goes in a dimension of `extent` */
        int64_t extent;
    } axis;
    struct {
        bool transpose_a, transpose_b;
    } matmul;
    struct {
        double momentum, weight_decay;
        bool nesterov;
    } sgd;
    struct {
        double max_norm, scale;
    } clip;
    Shape reshape;
} Attributes;

enum { NODE_MAX_OUTPUTS = 3 };

typedef struct Node {
    OperationKind operation;
    Phase phase;
    const char *layer; /* the soma's name for it ("hidden_layer1"), "" where it has none */
    int input_count, output_count;
    const Value *inputs; /* VALUE_NONE stands for an optional input that is absent */
    Value outputs[NODE_MAX_OUTPUTS];
    Attributes attributes;
} Node;

/* `real` is the type of parameters and of what real numbers default to (F32; F64 for gradient checks). In a graph that
 * isn't `training`, dropout is the identity. */
Graph *graph_create(DType real, bool training);
void graph_destroy(Graph *graph);
DType graph_real(const Graph *graph);
bool graph_training(const Graph *graph);

/* The first mistake, or STATUS_OK. */
Status graph_check(const Graph *graph, Error *error);
/* Marks the graph with an error unless it has one; returns VALUE_NONE. For rules and rewrites. */
Value graph_fail(Graph *graph, Status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Declarations. A name is declared once a graph, except that states are found again by name (same dtype and shape, else
 * a mistake). */
Value graph_input(Graph *graph, const char *name, DType dtype, Shape shape);
Value graph_state(Graph *graph, const char *name, DType dtype, Shape shape, Initializer initializer, double bound);
Value graph_parameter(Graph *graph, const char *name, Shape shape,
                      double bound); /* trainable, real, uniform in +-bound */
void graph_output(Graph *graph, const char *name, Value value);
/* Several devices may share a batch: each computes the graph for its part of the samples, gradients that update
 * parameters are the mean over all, and so are outputs. An input whose dimension `axis` counts samples is then as many
 * times as long there, and so is an output that says so; all others are the same for every device. */
void graph_mark_samples(Graph *graph, Value input, int axis);
void graph_output_samples(Graph *graph, const char *name, Value value, int axis);
/* After each run the state holds `value` (same dtype and shape). Nodes that read the state read what it held before the
 * run. */
void graph_assign(Graph *graph, Value state, Value value);

/* What nodes made from now on belong to; both hold until changed. `layer` is copied. */
void graph_set_phase(Graph *graph, Phase phase);
void graph_set_layer(Graph *graph, const char *layer);

/* Appends a node; its outputs' dtypes and shapes come from the operation's rule. Returns output 0. */
Value graph_apply(Graph *graph, OperationKind operation, const Value *inputs, int input_count, Attributes attributes);
/* Output `index` of the node that made `value`. */
Value graph_sibling(const Graph *graph, Value value, int index);

/* Reading. */
static inline bool value_is(Value a, Value b)
{
    return a.id == b.id;
}
static inline bool value_exists(Value value)
{
    return value.id >= 0;
}
int graph_value_count(const Graph *graph);
const ValueInfo *graph_value(const Graph *graph, Value value);
Shape graph_shape(const Graph *graph, Value value); /* rank 0 for VALUE_NONE */
int graph_node_count(const Graph *graph);
const Node *graph_node(const Graph *graph, int index); /* in an order in which every node follows what it reads */
int graph_output_count(const Graph *graph);
const char *graph_output_name(const Graph *graph, int index);
Value graph_output_at(const Graph *graph, int index);
int graph_output_sample_axis(const Graph *graph, int index); /* -1: none */
Value graph_find(const Graph *graph,
                 const char *name); /* an output, else an input or a state; VALUE_NONE when absent */

/* Appends the backward pass (phase BACKWARD): gradients[i] becomes d(sum of outputs . seeds)/d(targets[i]), VALUE_NONE
 * where no output depends on it. seeds[i] has outputs[i]'s shape; VALUE_NONE means 1 and needs a scalar. Values behind
 * detach get none. */
void graph_gradient(Graph *graph, const Value *outputs, const Value *seeds, int output_count, const Value *targets,
                    int target_count, Value *gradients);

/* The states that are trainable, in order of declaration. Returns how many; writes at most `capacity`. */
int graph_parameters(const Graph *graph, Value *out, int capacity);
