/* The cpu backend from inside: how a graph becomes a list of steps over one arena.
 *
 * A plan runs on a team of threads: each step is cut into shares, which are tasks (base/tasks.h), and steps wait for
 * each other only where one touches what another writes. oneDNN runs single-threaded inside a share, so there is no
 * OpenMP team that could fight with another process for the cores. How a step is cut depends on the number of threads
 * alone, so results don't depend on who runs a share.
 *
 * Layouts. A value lives in one or both of: PLAIN, row-major as the graph says, dimension 0 possibly wider than dense
 * (a view into a concatenation); LANES, simd.h's layout for convolutions with few channels, where as many images as a
 * vector has floats lie side by side. A (value, layout) pair is a slot. Views (reshape, detach, slices of columns,
 * parts of a concatenation, states updated in place) are slots inside another slot's memory.
 *
 * An operation is one row of cpu_operation(): a prepare function that looks at the step's views (shapes, layouts and
 * strides; no addresses yet), sets run, shares, scratch and implementation, and may make primitives; after the memory
 * plan every view has its address, and run is called. */
#pragma once

#include "backend/cpu/simd/simd.h"
#include "backend/driver.h"
#include "base/team.h"

typedef enum Layout { LAYOUT_PLAIN, LAYOUT_LANES, LAYOUT_COUNT } Layout;

/* A slot as a step sees it. */
typedef struct View {
    void *data; /* NULL for an optional input that is absent (and before the memory plan) */
    DType dtype;
    Layout layout;
    Shape shape;
    int64_t stride; /* PLAIN: elements from one index of dimension 0 to the next */
    bool present;
} View;

typedef struct Step Step;

/* Computes `count` elements from each start; `first` is the index of the first one. */
typedef void Elements(const Step *step, const float *const *in, float *out, int64_t first, int64_t count);

struct Step {
    void (*run)(const Step *step, int share);
    void (*refresh)(const Step *step); /* frozen plans: takes over the weights; NULL: nothing to do */
    void (*destroy)(Step *step);       /* frees `own`; NULL: nothing to free */
    void (*bind)(Step *step);          /* called once addresses are known; NULL: nothing to do */
    const SimdKernels *simd;
    Attributes attributes;
    View *inputs;
    View outputs[NODE_MAX_OUTPUTS];
    int input_count, output_count;
    int threads; /* of the team; prepare sets shares <= threads */
    int shares;
    size_t scratch_bytes; /* a share; a multiple of 64 */
    unsigned char *scratch;
    bool labelled;      /* input 1 holds labels of the columns of input 0, checked before a run */
    bool frozen;        /* the weights (states) change only between refreshes */
    bool barrier;       /* all shares of earlier steps must be done before this one starts */
    void *own;          /* what prepare allocated */
    Elements *elements; /* of an element-wise step (elementwise.c) */
    const char *implementation;
    /* for the report */
    const char *layer, *operation;
    Phase phase;
    double flops, bytes, seconds;
    uint64_t runs;
};

/* Which layouts an operation takes. */
typedef enum LayoutRule {
    LAYOUT_RULE_PLAIN,  /* plain in, plain out, rows may be strided */
    LAYOUT_RULE_DENSE,  /* plain in, plain out, all dense */
    LAYOUT_RULE_FOLLOW, /* element-wise: as the first input is, the others with it; strided rows are fine */
    LAYOUT_RULE_IMAGE,  /* lanes where cpu_lanes_fit says so, else plain and dense */
} LayoutRule;

typedef struct CpuOperation {
    Status (*prepare)(Step *step, Error *error);
    LayoutRule layout;
    bool in_place; /* output i may be input i's memory */
} CpuOperation;

const CpuOperation *cpu_operation(OperationKind kind);

/* Whether the lanes kernels can do this node, and are worth it: enough images to fill a vector, stride 1, one group,
 * few channels. */
bool cpu_lanes_fit(const SimdKernels *simd, const Graph *graph, const Node *node);

/* --- helpers for operations --- */

/* The part of `count` units that share `share` of `shares` takes, cut at multiples of `grain`. */
typedef struct Range {
    int64_t begin, end;
} Range;
Range share_of(int64_t count, int64_t grain, int share, int shares);
/* As many shares as there are grains, at most the team's threads; 1 for work below `least` units. */
int shares_for(const Step *step, int64_t count, int64_t grain, int64_t least);

static inline float *view_f32(const View *view)
{
    return view->data;
}
static inline int64_t view_count(const View *view)
{
    return shape_count(view->shape);
}
/* Rows (dimension 0) and elements in each. */
static inline int64_t view_rows(const View *view)
{
    return view->shape.rank > 0 ? view->shape.dims[0] : 1;
}
static inline int64_t view_columns(const View *view)
{
    return view_rows(view) > 0 ? view_count(view) / view_rows(view) : 0;
}
static inline bool view_is_dense(const View *view)
{
    return view->layout == LAYOUT_LANES || view->shape.rank == 0 || view->stride == view_columns(view);
}
/* Floats that a view's memory holds from its first to its last element, padding lanes included. */
int64_t view_extent(const SimdKernels *simd, const View *view);
static inline unsigned char *step_scratch(const Step *step, int share)
{
    return step->scratch + (size_t)share * step->scratch_bytes;
}

/* What dropout multiplies an element or channel by (graph/operation_kind.h): 0, or 1 / (1 - probability). `random`:
 * seed, step. */
float dropout_factor(const int64_t *random, uint32_t layer, double probability, uint64_t index);

/* The steps that aren't graph operations. prepare_convert: plain <-> lanes, with scale and shift in attributes.affine
 * (used when going to lanes). prepare_copy: plain rows, any dtype. */
Status prepare_convert(Step *step, Error *error);
Status prepare_copy(Step *step, Error *error);

/* The rows of cpu_operation, by file. */
typedef Status Prepare(Step *step, Error *error);
Prepare prepare_affine, prepare_add, prepare_add_scaled, prepare_scale_by, prepare_relu, prepare_relu_grad,
    prepare_gelu, prepare_gelu_grad, prepare_dropout; /* elementwise.c */
Prepare prepare_concat, prepare_slice, prepare_slice_grad, prepare_weighted_sum, prepare_weighted_sum_grad_weights,
    prepare_weighted_sum_grad_values; /* join.c */
Prepare prepare_adaptive_avg_pool2d, prepare_adaptive_avg_pool2d_grad, prepare_max_pool2d,
    prepare_max_pool2d_grad; /* pooling.c */
Prepare prepare_conv2d, prepare_conv2d_pool, prepare_conv2d_grad_input,
    prepare_conv2d_grad_parameters;                                                                /* convolution.c */
Prepare prepare_linear, prepare_linear_grad_input, prepare_linear_grad_parameters, prepare_matmul; /* linear.c */
Prepare prepare_softmax, prepare_softmax_grad, prepare_cross_entropy, prepare_cross_entropy_grad,
    prepare_soft_cross_entropy, prepare_soft_cross_entropy_grad, prepare_mean_squared_error,
    prepare_mean_squared_error_grad;                                               /* loss.c */
Prepare prepare_global_norm, prepare_clip_factor, prepare_loss_scale, prepare_sgd; /* update.c */
