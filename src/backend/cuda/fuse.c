/* Nodes that become one step together. tests/cli/best_plan.py has the training step that this is to come to, and why it
 * can't be less. */
#include <stdlib.h>

#include "backend/cuda/compile.h"
#include "graph/operation.h"

/* The node that makes a value; NULL for inputs and states. */
static const Node *maker(const Compiler *compiler, Value value)
{
    const int node = graph_value(compiler->graph, value)->node;
    return node >= 0 ? graph_node(compiler->graph, node) : NULL;
}

/* The only reader of a value that nobody else wants, if it is such an operation; -1 otherwise. */
static int only_reader(const Compiler *compiler, Value value, OperationKind operation)
{
    const int n = compiler->uses[value.id] == 1 ? compiler->reader[value.id] : -1;
    return n >= 0 && graph_node(compiler->graph, n)->operation == operation ? n : -1;
}

static Status want_input(Compiler *compiler, const Node *node, Value value, DType dtype, bool strided, int *slot,
                         Error *error)
{
    *slot = -1;
    return value_exists(value) ? require(compiler, node, value, dtype, strided, slot, error) : STATUS_OK;
}

/* What a fused draft makes: a value in a dtype, which is there from now on; or memory of no value (VALUE_NONE). */
typedef struct Made {
    Value value;
    DType dtype;
    Shape shape; /* of no value */
} Made;

static Status draft_fused(Compiler *compiler, int kind, const Node *node, const int *inputs, int input_count,
                          const Made *made, int made_count, Draft **out, Error *error)
{
    Draft *draft = add_draft(compiler, kind, node, input_count, made_count);
    if (draft == NULL) return no_memory(error);
    for (int i = 0; i < input_count; i++)
        draft->inputs[i] = inputs[i];
    for (int i = 0; i < made_count; i++) {
        const bool valued = value_exists(made[i].value);
        draft->outputs[i] = valued ? publish(compiler, made[i].value, made[i].dtype)
                                   : add_slot(compiler, VALUE_NONE, made[i].dtype, made[i].shape);
        if (draft->outputs[i] < 0) return no_memory(error);
    }
    *out = draft;
    return STATUS_OK;
}

/* --- relu_grad, max_pool2d_grad and dropout2d: what lies between two convolutions on the way back --- */

/* The convolution whose bias has the sum of this gradient as its own; NULL: none that a step can sum for. */
static const Node *bias_summed(const Compiler *compiler, Value gradient)
{
    for (int n = 0; n < graph_node_count(compiler->graph); n++) {
        const Node *node = graph_node(compiler->graph, n);
        if (node->operation == OP_CONV2D_GRAD_PARAMETERS && value_is(node->inputs[0], gradient) &&
            compiler->uses[node->outputs[1].id] > 0 &&
            graph_shape(compiler->graph, gradient).dims[1] <= KERNEL_MOST_SUMS)
            return node;
    }
    return NULL;
}

static Status fuse_pool_grad(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Graph *graph = compiler->graph;
    const Node *relu = graph_node(graph, n);
    const int p = only_reader(compiler, relu->outputs[0], OP_MAX_POOL2D_GRAD);
    const Node *forward = maker(compiler, relu->inputs[1]);
    if (p < 0 || forward == NULL || forward->operation != OP_CONV2D_POOL) return STATUS_OK;
    const Node *pool = graph_node(graph, p);
    if (!value_is(pool->inputs[1], forward->outputs[1])) return STATUS_OK;
    const int d = only_reader(compiler, pool->outputs[0], OP_DROPOUT);
    const Node *drop = d >= 0 ? graph_node(graph, d) : NULL;
    const bool drops = drop != NULL && drop->attributes.dropout.channels;
    const DType type = compiler->cuda->activation;
    int slots[4];
    RETURN_IF_ERROR(want_input(compiler, relu, relu->inputs[0], type, true, &slots[0], error));
    RETURN_IF_ERROR(want_input(compiler, relu, relu->inputs[1], type, true, &slots[1], error));
    RETURN_IF_ERROR(want_input(compiler, relu, pool->inputs[1], DTYPE_U8, false, &slots[2], error));
    RETURN_IF_ERROR(
        want_input(compiler, relu, drops ? drop->inputs[1] : VALUE_NONE, DTYPE_I64, false, &slots[3], error));
    Draft *draft;
    const Value result = drops ? drop->outputs[0] : pool->outputs[0];
    const Node *convolution = bias_summed(compiler, result);
    Made made[2] = {{.value = result, .dtype = type}, {.dtype = DTYPE_F32}};
    if (convolution != NULL) made[1].value = convolution->outputs[1];
    RETURN_IF_ERROR(draft_fused(compiler, CUDA_POOL_GRAD, convolution != NULL ? convolution : pool, slots, 4, made,
                                convolution != NULL ? 2 : 1, &draft, error));
    draft->attributes = drops ? drop->attributes : (Attributes){.dropout = {.probability = 0}};
    compiler->taken[p] = *fused = true;
    if (drops) compiler->taken[d] = true;
    return STATUS_OK;
}

/* --- a cross entropy whose own gradient is known before it: both in one pass over the logits --- */

/* Whether the loss's gradient is a constant, whose value is in *constant, or else an input or a state. */
static bool known_before(const Compiler *compiler, Value seed, Attributes *constant)
{
    const Node *made = maker(compiler, seed);
    *constant = (Attributes){.affine = {.scale = 0, .shift = 1}};
    if (made == NULL) return true;
    if (made->operation != OP_AFFINE || made->attributes.affine.scale != 0) return false;
    *constant = made->attributes;
    return true;
}

static Status fuse_cross_entropy(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Graph *graph = compiler->graph;
    const Node *node = graph_node(graph, n);
    const int g = only_reader(compiler, node->outputs[1], OP_CROSS_ENTROPY_GRAD);
    Attributes constant;
    if (g < 0) return STATUS_OK;
    const Node *gradient = graph_node(graph, g);
    const Value seed = gradient->inputs[0];
    if (!known_before(compiler, seed, &constant) || !value_is(gradient->inputs[2], node->inputs[1])) return STATUS_OK;
    const bool given = maker(compiler, seed) == NULL;
    const DType type = compiler->cuda->activation;
    int slots[3];
    RETURN_IF_ERROR(want_input(compiler, node, node->inputs[0], type, false, &slots[0], error));
    RETURN_IF_ERROR(want_input(compiler, node, node->inputs[1], DTYPE_I32, false, &slots[1], error));
    RETURN_IF_ERROR(want_input(compiler, node, given ? seed : VALUE_NONE, DTYPE_F32, false, &slots[2], error));
    const Made made[] = {{.value = node->outputs[0], .dtype = DTYPE_F32},
                         {.value = gradient->outputs[0], .dtype = type}};
    Draft *draft;
    RETURN_IF_ERROR(draft_fused(compiler, CUDA_CROSS_ENTROPY, node, slots, 3, made, 2, &draft, error));
    draft->attributes = constant;
    compiler->uses[seed.id]--;
    compiler->taken[g] = *fused = true;
    return STATUS_OK;
}

/* --- linear layers whose relu is undone in the product before it --- */

/* Whether some relu_grad undoes the relu of y, on what a product makes for it alone. */
static bool mask_is_wanted(const Compiler *compiler, Value y)
{
    for (int n = 0; n < graph_node_count(compiler->graph); n++) {
        const Node *node = graph_node(compiler->graph, n);
        if (node->operation != OP_RELU_GRAD || !value_is(node->inputs[1], y)) continue;
        const Node *product = maker(compiler, node->inputs[0]);
        if (product != NULL && product->operation == OP_LINEAR_GRAD_INPUT &&
            only_reader(compiler, product->outputs[0], OP_RELU_GRAD) == n)
            return true;
    }
    return false;
}

/* The layer keeps a mask besides, as an output of no value. */
static Status fuse_linear_mask(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Node *node = graph_node(compiler->graph, n);
    const Value y = node->outputs[0];
    if (node->attributes.linear.activation != ACTIVATION_RELU || !mask_is_wanted(compiler, y)) return STATUS_OK;
    if (node->input_count < 3 || !value_exists(node->inputs[2])) return STATUS_OK;
    const Shape shape = graph_shape(compiler->graph, y);
    const size_t bytes = linear_mask_bytes(compiler->cuda, shape.dims[0], shape.dims[1]);
    const DType type = compiler->cuda->activation;
    int slots[3];
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(want_input(compiler, node, node->inputs[i], input_type(compiler, node, OP_LINEAR, i), i != 1,
                                   &slots[i], error));
    const Made made[] = {{.value = y, .dtype = type},
                         {.value = VALUE_NONE, .dtype = DTYPE_U8, .shape = shape_of((int64_t)bytes)}};
    Draft *draft;
    RETURN_IF_ERROR(draft_fused(compiler, OP_LINEAR, node, slots, 3, made, 2, &draft, error));
    compiler->masks[y.id] = draft->outputs[1];
    draft->flops = operation_flops(compiler->graph, node);
    *fused = true;
    return STATUS_OK;
}

/* linear_grad_input(dy, w), and the gradient of an activation, `gradient`, which is its only reader: one step of that
 * kind, with what it is masked by. */
static Status draft_masked(Compiler *compiler, int kind, const Node *node, int gradient, int mask, bool *fused,
                           Error *error)
{
    const DType type = compiler->cuda->activation;
    int slots[3] = {-1, -1, mask};
    RETURN_IF_ERROR(want_input(compiler, node, node->inputs[0], type, true, &slots[0], error));
    RETURN_IF_ERROR(want_input(compiler, node, node->inputs[1], type, false, &slots[1], error));
    const Made made = {.value = graph_node(compiler->graph, gradient)->outputs[0], .dtype = type};
    Draft *draft;
    RETURN_IF_ERROR(draft_fused(compiler, kind, node, slots, 3, &made, 1, &draft, error));
    draft->flops = operation_flops(compiler->graph, node);
    compiler->taken[gradient] = *fused = true;
    return STATUS_OK;
}

/* Of one product cuBLASLt masks nothing. */
static bool can_be_masked(const Compiler *compiler, const Node *grad_input)
{
    return graph_shape(compiler->graph, grad_input->inputs[0]).dims[1] > 1;
}

static Status fuse_linear_relu_grad(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Node *node = graph_node(compiler->graph, n);
    const int r = only_reader(compiler, node->outputs[0], OP_RELU_GRAD);
    if (r < 0) return STATUS_OK;
    const Node *relu = graph_node(compiler->graph, r);
    const int mask = compiler->masks[relu->inputs[1].id];
    if (mask < 0 || !can_be_masked(compiler, node) || !value_is(relu->inputs[0], node->outputs[0])) return STATUS_OK;
    return draft_masked(compiler, CUDA_LINEAR_RELU_GRAD, node, r, mask, fused, error);
}

/* --- linear layers with gelu (by tanh), which products compute and undo --- */

/* A gelu of that form that reads z; -1: none. */
static int gelu_reader(const Compiler *compiler, Value z)
{
    for (int n = 0; n < graph_node_count(compiler->graph); n++) {
        const Node *node = graph_node(compiler->graph, n);
        if (node->operation == OP_GELU && node->attributes.gelu.form == GELU_TANH && value_is(node->inputs[0], z))
            return n;
    }
    return -1;
}

static bool is_dense_mask(const Compiler *compiler, Value z)
{
    const Shape shape = graph_shape(compiler->graph, z);
    return linear_gelu_is_dense(compiler->cuda, shape.dims[0], shape.dims[1]);
}

/* The layer's own result z is kept where something else reads it, in training its gelu_grad: as what the library calls
 * a mask, which is the tensor itself if its rows are as long as the library wants them. */
static Status fuse_linear_gelu(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Node *node = graph_node(compiler->graph, n);
    const Value z = node->outputs[0];
    const int g = gelu_reader(compiler, z);
    const bool kept = compiler->uses[z.id] > 1;
    if (g < 0 || node->attributes.linear.activation != ACTIVATION_NONE || (kept && !is_dense_mask(compiler, z)) ||
        graph_shape(compiler->graph, node->inputs[0]).dims[1] == 0) /* an empty product has no epilogue */
        return STATUS_OK;
    const DType type = compiler->cuda->activation;
    int slots[3];
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(want_input(compiler, node, i < node->input_count ? node->inputs[i] : VALUE_NONE, type, i == 0,
                                   &slots[i], error));
    const Made made[] = {{.value = graph_node(compiler->graph, g)->outputs[0], .dtype = type},
                         {.value = z, .dtype = type}};
    Draft *draft;
    RETURN_IF_ERROR(draft_fused(compiler, CUDA_LINEAR_GELU, node, slots, 3, made, kept ? 2 : 1, &draft, error));
    draft->flops = operation_flops(compiler->graph, node);
    compiler->taken[g] = *fused = true;
    return STATUS_OK;
}

static Status fuse_linear_gelu_grad(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Node *node = graph_node(compiler->graph, n);
    const int g = only_reader(compiler, node->outputs[0], OP_GELU_GRAD);
    const Node *gelu = g >= 0 ? graph_node(compiler->graph, g) : NULL;
    int z;
    if (gelu == NULL || gelu->attributes.gelu.form != GELU_TANH || !can_be_masked(compiler, node) ||
        !value_is(gelu->inputs[0], node->outputs[0]) || !is_dense_mask(compiler, gelu->inputs[1]))
        return STATUS_OK;
    RETURN_IF_ERROR(want_input(compiler, node, gelu->inputs[1], compiler->cuda->activation, false, &z, error));
    return draft_masked(compiler, CUDA_LINEAR_GELU_GRAD, node, g, z, fused, error);
}

/* --- a linear layer's gradient of which only some columns are wanted: those of the weights suffice --- */

/* Columns `start` on of a slot's matrix, as many as `columns`; -1: no memory. */
static int add_columns(Compiler *compiler, int matrix, int64_t start, int64_t columns)
{
    const Shape whole = compiler->slots[matrix].shape;
    const int part = add_slot(compiler, VALUE_NONE, compiler->slots[matrix].dtype, shape_of(whole.dims[0], columns));
    if (part < 0) return part;
    compiler->slots[part].parent = matrix;
    compiler->slots[part].offset = start;
    compiler->slots[part].constant = compiler->slots[matrix].constant;
    return part;
}

static Status fuse_linear_columns(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Node *node = graph_node(compiler->graph, n);
    const int s = only_reader(compiler, node->outputs[0], OP_SLICE);
    if (s < 0 || graph_node(compiler->graph, s)->attributes.axis.axis != 1) return STATUS_OK;
    const Node *slice = graph_node(compiler->graph, s);
    const DType type = compiler->cuda->activation;
    const int64_t start = slice->attributes.axis.start, columns = slice->attributes.axis.stop - start;
    const int64_t all = graph_shape(compiler->graph, node->outputs[0]).dims[1];
    if ((size_t)start * dtype_size(type) % CUDA_VECTOR != 0 || (size_t)all * dtype_size(type) % CUDA_VECTOR != 0)
        return STATUS_OK;
    int slots[2];
    RETURN_IF_ERROR(want_input(compiler, node, node->inputs[0], type, true, &slots[0], error));
    RETURN_IF_ERROR(want_input(compiler, node, node->inputs[1], type, false, &slots[1], error));
    slots[1] = add_columns(compiler, slots[1], start, columns);
    if (slots[1] < 0) return no_memory(error);
    const Made made = {.value = slice->outputs[0], .dtype = type};
    Draft *draft;
    RETURN_IF_ERROR(draft_fused(compiler, OP_LINEAR_GRAD_INPUT, node, slots, 2, &made, 1, &draft, error));
    draft->flops = operation_flops(compiler->graph, node) * (double)columns / (double)all;
    compiler->taken[s] = *fused = true;
    return STATUS_OK;
}

/* --- updates: all that follow each other, with the same rate, scale and attributes, are one step --- */

static Value gradient_scale(const Node *update)
{
    return update->input_count > 4 ? update->inputs[4] : VALUE_NONE;
}

static bool same_update(const Node *a, const Node *b)
{
    return b->operation == OP_SGD && value_is(a->inputs[3], b->inputs[3]) &&
           value_is(gradient_scale(a), gradient_scale(b)) && a->attributes.sgd.momentum == b->attributes.sgd.momentum &&
           a->attributes.sgd.weight_decay == b->attributes.sgd.weight_decay &&
           a->attributes.sgd.nesterov == b->attributes.sgd.nesterov;
}

/* A copy of input i, to be updated in place (compile.c lets the copy go where it can), which is output i. */
static Status copy_updated(Compiler *compiler, const Node *node, int i, DType dtype, int *out, Error *error)
{
    int from;
    RETURN_IF_ERROR(require(compiler, node, node->inputs[i], dtype, false, &from, error));
    *out = publish(compiler, node->outputs[i], dtype);
    return draft_copy(compiler, node, from, *out, error);
}

/* Fills the slots of an update: inputs (rate, gradients, and their scale where there is one), then outputs. */
static Status fill_group(Compiler *compiler, int first, int count, int inputs, int *slots, Error *error)
{
    const Node *node = graph_node(compiler->graph, first);
    const int width = update_width(compiler->cuda);
    RETURN_IF_ERROR(require(compiler, node, node->inputs[3], DTYPE_F32, false, &slots[0], error));
    if (inputs > 1 + count)
        RETURN_IF_ERROR(require(compiler, node, node->inputs[4], DTYPE_F32, false, &slots[1 + count], error));
    for (int k = 0; k < count; k++) {
        node = graph_node(compiler->graph, first + k);
        RETURN_IF_ERROR(require(compiler, node, node->inputs[2], DTYPE_F32, false, &slots[1 + k], error));
        int *updated = &slots[inputs + width * k];
        RETURN_IF_ERROR(copy_updated(compiler, node, 0, DTYPE_F32, &updated[0], error));
        RETURN_IF_ERROR(copy_updated(compiler, node, 1, DTYPE_F32, &updated[1], error));
        if (width > 2) RETURN_IF_ERROR(copy_updated(compiler, node, 0, compiler->cuda->activation, &updated[2], error));
        compiler->taken[first + k] = true;
    }
    return STATUS_OK;
}

static Status fuse_sgd(Compiler *compiler, int n, bool *fused, Error *error)
{
    const Node *first = graph_node(compiler->graph, n);
    int count = 1;
    double flops = 0, bytes = 0;
    while (n + count < graph_node_count(compiler->graph) && same_update(first, graph_node(compiler->graph, n + count)))
        count++;
    const int inputs = 1 + count + (value_exists(gradient_scale(first)) ? 1 : 0);
    const int outputs = update_width(compiler->cuda) * count;
    int *slots = malloc((size_t)(inputs + outputs) * sizeof *slots);
    if (slots == NULL) return no_memory(error);
    const Status status = fill_group(compiler, n, count, inputs, slots, error);
    Draft *draft = status == STATUS_OK ? add_draft(compiler, CUDA_SGD_GROUP, first, inputs, outputs) : NULL;
    for (int i = 0; draft != NULL && i < inputs + outputs; i++)
        draft->inputs[i] = slots[i]; /* outputs follow inputs */
    free(slots);
    if (status != STATUS_OK) return status;
    if (draft == NULL) return no_memory(error);
    for (int k = 0; k < count; k++)
        flops += operation_flops(compiler->graph, graph_node(compiler->graph, n + k));
    for (int i = 0; i < inputs + outputs; i++) {
        /* What is updated in place is read and written; low copies aren't read. */
        const bool twice = i >= inputs && compiler->slots[draft->inputs[i]].dtype == DTYPE_F32;
        bytes += (twice ? 2 : 1) * (double)slot_bytes(compiler, draft->inputs[i]);
    }
    draft->flops = flops;
    draft->bytes = bytes;
    *fused = true;
    return STATUS_OK;
}

Status fuse(Compiler *compiler, int n, bool *fused, Error *error)
{
    switch (graph_node(compiler->graph, n)->operation) {
    case OP_RELU_GRAD:
        return fuse_pool_grad(compiler, n, fused, error);
    case OP_CROSS_ENTROPY:
        return fuse_cross_entropy(compiler, n, fused, error);
    case OP_LINEAR:
        RETURN_IF_ERROR(fuse_linear_gelu(compiler, n, fused, error));
        return *fused ? STATUS_OK : fuse_linear_mask(compiler, n, fused, error);
    case OP_LINEAR_GRAD_INPUT:
        RETURN_IF_ERROR(fuse_linear_relu_grad(compiler, n, fused, error));
        if (!*fused) RETURN_IF_ERROR(fuse_linear_gelu_grad(compiler, n, fused, error));
        return *fused ? STATUS_OK : fuse_linear_columns(compiler, n, fused, error);
    case OP_SGD:
        return fuse_sgd(compiler, n, fused, error);
    default:
        return STATUS_OK;
    }
}
