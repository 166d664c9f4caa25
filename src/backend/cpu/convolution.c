/* Convolutions. Few channels and enough images: simd kernels in lanes. Few channels and a handful of images: simd
 * kernels on plain rows. Everything else: oneDNN. */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/onednn.h"
#include "base/size.h"
#include "graph/operation.h"

enum { FEW_CHANNELS = 32 };

static bool simple(const Attributes *attributes)
{
    for (int i = 0; i < 2; i++)
        if (attributes->conv2d.stride[i] != 1 || attributes->conv2d.padding[i] >= attributes->conv2d.kernel[i])
            return false;
    return attributes->conv2d.groups == 1;
}

static bool enough_images(const SimdKernels *simd, Shape image)
{
    return 2 * image.dims[0] >= simd->lanes;
}

bool cpu_lanes_fit(const SimdKernels *simd, const Graph *graph, const Node *node)
{
    Shape in = graph_shape(graph, node->inputs[0]), out = graph_shape(graph, node->outputs[0]);
    if (in.rank != 4 || !enough_images(simd, in)) return false;
    switch (node->operation) {
    case OP_CONV2D:
    case OP_CONV2D_POOL:
    case OP_CONV2D_GRAD_INPUT:
        return simple(&node->attributes) && in.dims[1] <= FEW_CHANNELS && out.dims[1] <= FEW_CHANNELS;
    case OP_CONV2D_GRAD_PARAMETERS:
        return simple(&node->attributes) && in.dims[1] <= FEW_CHANNELS &&
               graph_shape(graph, node->inputs[1]).dims[1] <= FEW_CHANNELS;
    case OP_MAX_POOL2D:
    case OP_MAX_POOL2D_GRAD:
        return node->attributes.pool2d.kernel[0] == 2 && node->attributes.pool2d.kernel[1] == 2 &&
               node->attributes.pool2d.stride[0] == 2 && node->attributes.pool2d.stride[1] == 2 &&
               in.dims[1] <= FEW_CHANNELS;
    default:
        return false;
    }
}

/* The geometry, from the shapes of the image side, the weights, and the unpooled output. */
static SimdConv geometry(const Step *step, Shape x, int64_t out_channels)
{
    const Attributes *a = &step->attributes;
    return (SimdConv){.batch = x.dims[0],
                      .in_channels = x.dims[1],
                      .in_height = x.dims[2],
                      .in_width = x.dims[3],
                      .out_channels = out_channels,
                      .out_height = x.dims[2] + 2 * a->conv2d.padding[0] - a->conv2d.kernel[0] + 1,
                      .out_width = x.dims[3] + 2 * a->conv2d.padding[1] - a->conv2d.kernel[1] + 1,
                      .kernel_height = a->conv2d.kernel[0],
                      .kernel_width = a->conv2d.kernel[1],
                      .pad_top = a->conv2d.padding[0],
                      .pad_left = a->conv2d.padding[1]};
}

static const float *optional(const Step *step, int input)
{
    return input < step->input_count && step->inputs[input].present ? view_f32(&step->inputs[input]) : NULL;
}

static SimdConvForward forward_of(const Step *step)
{
    bool pool = step->output_count > 1;
    return (SimdConvForward){.x = view_f32(&step->inputs[0]),
                             .weight = view_f32(&step->inputs[1]),
                             .bias = optional(step, 2),
                             .y = view_f32(&step->outputs[0]),
                             .index = pool ? step->outputs[1].data : NULL,
                             .pool = pool,
                             .relu = pool || step->attributes.conv2d.activation == ACTIVATION_RELU};
}

/* --- lanes --- */

static void run_lanes(const Step *step, int share)
{
    const View *w = &step->inputs[1];
    SimdConv c = geometry(step, step->inputs[0].shape, w->shape.dims[0]);
    SimdConvForward f = forward_of(step);
    Range units = share_of(simd_conv_units(step->simd, &c), 1, share, step->shares);
    if (step->input_count > 3 && step->inputs[3].present) {
        const int64_t *random = step->inputs[3].data;
        float *mask = (float *)step_scratch(step, share);
        int64_t pairs = (c.out_height + 1) / 2; /* units of a block; only the share's blocks need factors */
        step->simd->dropout_mask_lanes((uint64_t)random[0], (uint64_t)random[1], step->attributes.conv2d.drop_layer,
                                       step->attributes.conv2d.drop_probability, c.batch, c.out_channels, mask,
                                       units.begin / pairs * c.out_channels,
                                       (units.end + pairs - 1) / pairs * c.out_channels);
        f.mask = mask;
    }
    step->simd->conv2d_lanes(&c, &f, units.begin, units.end);
}

static Status prepare_lanes(Step *step)
{
    SimdConv c = geometry(step, step->inputs[0].shape, step->inputs[1].shape.dims[0]);
    step->run = run_lanes;
    step->implementation = "simd, lanes";
    step->shares = shares_for(step, simd_conv_units(step->simd, &c), 1, 2);
    if (step->input_count > 3 && step->inputs[3].present)
        step->scratch_bytes =
            (size_t)(simd_blocks(step->simd, c.batch) * c.out_channels * step->simd->lanes) * sizeof(float);
    return STATUS_OK;
}

/* --- plain, own kernels --- */

/* One image is cut by output channels, several by rows of images. */
static void run_plain(const Step *step, int share)
{
    SimdConv c = geometry(step, step->inputs[0].shape, step->inputs[1].shape.dims[0]);
    SimdConvForward f = forward_of(step);
    Range channels = {0, c.out_channels}, units = {0, simd_conv_plain_units(&c)};
    if (c.batch == 1)
        channels = share_of(c.out_channels, SIMD_CHANNEL_TILE, share, step->shares);
    else
        units = share_of(units.end, 1, share, step->shares);
    step->simd->conv2d_plain(&c, &f, (float *)step_scratch(step, share), channels.begin, channels.end, units.begin,
                             units.end);
}

static Status prepare_plain(Step *step)
{
    SimdConv c = geometry(step, step->inputs[0].shape, step->inputs[1].shape.dims[0]);
    step->run = run_plain;
    step->implementation = "simd, plain";
    step->shares = c.batch == 1 ? shares_for(step, c.out_channels, SIMD_CHANNEL_TILE, 2)
                                : shares_for(step, simd_conv_plain_units(&c), 1, 2);
    step->scratch_bytes = (size_t)step->simd->conv2d_plain_scratch(&c) * sizeof(float);
    return STATUS_OK;
}

static bool plain_fits(const Step *step)
{
    Shape x = step->inputs[0].shape, w = step->inputs[1].shape;
    return simple(&step->attributes) && x.dims[1] <= FEW_CHANNELS && w.dims[0] <= FEW_CHANNELS;
}

/* --- oneDNN, cut by images; the gradient of the parameters, which sums over them, in one piece --- */

typedef struct Parts {
    OneDnnConvolution whole;
    OneDnnCall *calls[];
} Parts;

/* The ReLU is our own, as in linear.c. */
static void run_onednn(const Step *step, int share)
{
    const Parts *parts = step->own;
    const View *y = &step->outputs[0];
    onednn_run(parts->calls[share]);
    if (parts->whole.direction != ONEDNN_FORWARD || step->attributes.conv2d.activation != ACTIVATION_RELU) return;
    Range images = share_of(parts->whole.batch, 1, share, step->shares);
    step->simd->relu(view_f32(y), view_f32(y), images.begin * y->stride, images.end * y->stride);
}

static void destroy_onednn(Step *step)
{
    Parts *parts = step->own;
    for (int i = 0; i < step->shares; i++)
        onednn_destroy(parts->calls[i]);
    free(parts);
}

/* The present views are bound in the order that onednn.h names; `a` and `c` begin at the share's first image. */
static void bind_onednn(Step *step)
{
    const Parts *parts = step->own;
    bool parameters = parts->whole.direction == ONEDNN_GRAD_PARAMETERS;
    for (int i = 0; i < step->shares; i++) {
        Range images = share_of(parts->whole.batch, 1, i, step->shares);
        const View *a = &step->inputs[0], *c = &step->outputs[0];
        float *bias = parameters ? view_f32(&step->outputs[1]) : (float *)(uintptr_t)optional(step, 2);
        onednn_bind(parts->calls[i], view_f32(a) + images.begin * a->stride, view_f32(&step->inputs[1]), bias,
                    view_f32(c) + (parameters ? 0 : images.begin * c->stride), step_scratch(step, i));
    }
}

static Status prepare_onednn(Step *step, OneDnnConvolution whole, Error *error)
{
    int shares = whole.direction == ONEDNN_GRAD_PARAMETERS ? 1 : shares_for(step, whole.batch, 1, 2);
    Parts *parts = calloc(1, sizeof *parts + (size_t)shares * sizeof(OneDnnCall *));
    if (parts == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a convolution");
    parts->whole = whole;
    step->own = parts;
    step->shares = shares;
    step->destroy = destroy_onednn;
    for (int i = 0; i < shares; i++) {
        OneDnnConvolution part = whole;
        Range images = share_of(whole.batch, 1, i, shares);
        part.batch = images.end - images.begin;
        RETURN_IF_ERROR(onednn_convolution_create(&part, &parts->calls[i], error));
        size_t scratch = onednn_scratch_bytes(parts->calls[i]);
        if (scratch > step->scratch_bytes) step->scratch_bytes = scratch;
    }
    step->run = run_onednn;
    step->bind = bind_onednn;
    step->implementation = onednn_implementation(parts->calls[0]);
    return STATUS_OK;
}

static OneDnnConvolution convolution_of(const Step *step, OneDnnDirection direction, Shape x, Shape y)
{
    const Attributes *a = &step->attributes;
    return (OneDnnConvolution){.direction = direction,
                               .batch = x.dims[0],
                               .in_channels = x.dims[1],
                               .in_rows = x.dims[2],
                               .in_columns = x.dims[3],
                               .out_channels = y.dims[1],
                               .out_rows = y.dims[2],
                               .out_columns = y.dims[3],
                               .groups = a->conv2d.groups,
                               .kernel = {a->conv2d.kernel[0], a->conv2d.kernel[1]},
                               .stride = {a->conv2d.stride[0], a->conv2d.stride[1]},
                               .padding = {a->conv2d.padding[0], a->conv2d.padding[1]},
                               .bias = direction == ONEDNN_GRAD_PARAMETERS ||
                                       (direction == ONEDNN_FORWARD && optional(step, 2) != NULL)};
}

Status prepare_conv2d(Step *step, Error *error)
{
    if (step->outputs[0].layout == LAYOUT_LANES) return prepare_lanes(step);
    if (plain_fits(step)) return prepare_plain(step);
    OneDnnConvolution whole = convolution_of(step, ONEDNN_FORWARD, step->inputs[0].shape, step->outputs[0].shape);
    whole.bias = step->input_count > 2 && step->inputs[2].present;
    return prepare_onednn(step, whole, error);
}

/* --- conv2d_pool on plain rows when the index or a mask is wanted: the convolution to scratch, one image at a time,
 * then the pool --- */

static void pool_image(const Step *step, const float *full, int64_t image, const SimdConv *c)
{
    const View *y = &step->outputs[0];
    int64_t oh = y->shape.dims[2], ow = y->shape.dims[3];
    uint8_t *index = step->outputs[1].data;
    const int64_t *random = step->input_count > 3 ? step->inputs[3].data : NULL;
    for (int64_t o = 0; o < c->out_channels; o++) {
        uint64_t channel = (uint64_t)(image * c->out_channels + o);
        float factor = 1;
        if (random != NULL)
            factor = dropout_factor(random, step->attributes.conv2d.drop_layer,
                                    step->attributes.conv2d.drop_probability, channel);
        for (int64_t i = 0; i < oh * ow; i++) {
            const float *window = full + (o * c->out_height + i / ow * 2) * c->out_width + i % ow * 2;
            float most = window[0] * factor;
            uint8_t where = 0;
            for (uint8_t k = 1; k < 4; k++) {
                float value = window[k / 2 * c->out_width + k % 2] * factor;
                if (value > most || isnan(value)) {
                    most = value;
                    where = k;
                }
            }
            int64_t at = (int64_t)channel * oh * ow + i;
            view_f32(y)[at] = most > 0 || isnan(most) ? most : 0;
            if (index != NULL) index[at] = where;
        }
    }
}

static size_t unfold_bytes(const Step *step, const SimdConv *c)
{
    return size_align((size_t)step->simd->conv2d_plain_scratch(c) * sizeof(float), 64);
}

static void run_composed_pool(const Step *step, int share)
{
    SimdConv c = geometry(step, step->inputs[0].shape, step->inputs[1].shape.dims[0]);
    SimdConvForward f = forward_of(step);
    int64_t images = c.batch, in = c.in_channels * c.in_height * c.in_width;
    c.batch = 1;
    unsigned char *scratch = step_scratch(step, share);
    float *full = (float *)(scratch + unfold_bytes(step, &c));
    Range range = share_of(images, 1, share, step->shares);
    for (int64_t n = range.begin; n < range.end; n++) {
        SimdConvForward one = {.x = f.x + n * in, .weight = f.weight, .bias = f.bias, .y = full};
        step->simd->conv2d_plain(&c, &one, (float *)scratch, 0, c.out_channels, 0, simd_conv_plain_units(&c));
        pool_image(step, full, n, &c);
    }
}

Status prepare_conv2d_pool(Step *step, Error *error)
{
    if (step->outputs[0].layout == LAYOUT_LANES) return prepare_lanes(step);
    if (!simple(&step->attributes))
        return error_set(error, STATUS_UNIMPLEMENTED, "conv2d_pool with a stride or groups has no kernel on the cpu");
    bool masked = step->input_count > 3 && step->inputs[3].present;
    if (!masked && !step->outputs[1].present) return prepare_plain(step);
    SimdConv c = geometry(step, step->inputs[0].shape, step->inputs[1].shape.dims[0]);
    step->run = run_composed_pool;
    step->implementation = "simd, plain, then loop";
    step->shares = shares_for(step, c.batch, 1, 2);
    c.batch = 1;
    step->scratch_bytes =
        unfold_bytes(step, &c) + (size_t)(c.out_channels * c.out_height * c.out_width) * sizeof(float);
    return STATUS_OK;
}

/* --- gradients --- */

static void run_grad_input_lanes(const Step *step, int share)
{
    SimdConv c = geometry(step, step->outputs[0].shape, step->inputs[0].shape.dims[1]);
    Range units = share_of(simd_conv_input_units(step->simd, &c), 1, share, step->shares);
    step->simd->conv2d_grad_input_lanes(&c, view_f32(&step->inputs[0]), view_f32(&step->inputs[1]),
                                        view_f32(&step->outputs[0]), units.begin, units.end);
}

Status prepare_conv2d_grad_input(Step *step, Error *error)
{
    const View *dy = &step->inputs[0], *dx = &step->outputs[0];
    if (dx->layout != LAYOUT_LANES)
        return prepare_onednn(step, convolution_of(step, ONEDNN_GRAD_INPUT, dx->shape, dy->shape), error);
    SimdConv c = geometry(step, dx->shape, dy->shape.dims[1]);
    step->run = run_grad_input_lanes;
    step->implementation = "simd, lanes";
    step->shares = shares_for(step, simd_conv_input_units(step->simd, &c), 1, 2);
    return STATUS_OK;
}

/* Cut by output channels, so that each share sums over all images, and the result doesn't depend on the number of
 * threads. */
static void run_grad_parameters_lanes(const Step *step, int share)
{
    SimdConv c = geometry(step, step->inputs[1].shape, step->inputs[0].shape.dims[1]);
    Range channels = share_of(c.out_channels, SIMD_CHANNEL_TILE, share, step->shares);
    step->simd->conv2d_grad_parameters_lanes(&c, view_f32(&step->inputs[0]), view_f32(&step->inputs[1]),
                                             view_f32(&step->outputs[0]), view_f32(&step->outputs[1]),
                                             (float *)step_scratch(step, share), channels.begin, channels.end, 0,
                                             simd_conv_units(step->simd, &c));
}

Status prepare_conv2d_grad_parameters(Step *step, Error *error)
{
    const View *dy = &step->inputs[0], *x = &step->inputs[1];
    if (x->layout != LAYOUT_LANES)
        return prepare_onednn(step, convolution_of(step, ONEDNN_GRAD_PARAMETERS, x->shape, dy->shape), error);
    SimdConv c = geometry(step, x->shape, dy->shape.dims[1]);
    step->run = run_grad_parameters_lanes;
    step->implementation = "simd, lanes";
    step->shares = shares_for(step, c.out_channels, SIMD_CHANNEL_TILE, 2);
    step->scratch_bytes = (size_t)step->simd->grad_parameters_scratch(&c) * sizeof(float);
    return STATUS_OK;
}
