#include "backend/cpu/onednn_versions.h"

#include <string.h>

#if DNNL_VERSION_MAJOR >= 3

LayoutView layout_view(const Layout *layout)
{
    return *layout;
}

dnnl_status_t layout_strided(Layout *out, int64_t rows, int64_t columns, int64_t row, int64_t column)
{
    dnnl_dims_t dims = {rows, columns}, strides = {row, column};
    return dnnl_memory_desc_create_with_strides(out, 2, dims, dnnl_f32, strides);
}

dnnl_status_t layout_tagged(Layout *out, int rank, const int64_t *dims, dnnl_format_tag_t tag)
{
    dnnl_dims_t all = {0};
    memcpy(all, dims, (size_t)rank * sizeof *dims);
    return dnnl_memory_desc_create_with_tag(out, rank, all, dnnl_f32, tag);
}

void layout_release(Layout *layout)
{
    if (*layout != NULL) dnnl_memory_desc_destroy(*layout);
    *layout = NULL;
}

dnnl_status_t matmul_descriptor(dnnl_engine_t engine, const Layout *a, const Layout *b, const Layout *bias,
                                const Layout *c, dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out)
{
    return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, bias != NULL ? *bias : NULL, *c, attributes);
}

dnnl_status_t convolution_descriptor(dnnl_engine_t engine, const OneDnnConvolution *c, const ConvolutionLayouts *l,
                                     dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out)
{
    dnnl_dims_t stride = {c->stride[0], c->stride[1]}, padding = {c->padding[0], c->padding[1]}, dilation = {0};
    dnnl_primitive_desc_t forward = NULL;
    dnnl_status_t result = dnnl_convolution_forward_primitive_desc_create(
        &forward, engine, dnnl_forward_training, dnnl_convolution_auto, l->x, l->w, c->bias ? l->bias : NULL, l->y,
        stride, dilation, padding, padding, c->direction == ONEDNN_FORWARD ? attributes : NULL);
    if (result != dnnl_success || c->direction == ONEDNN_FORWARD) {
        *out = forward;
        return result;
    }
    if (c->direction == ONEDNN_GRAD_INPUT)
        result = dnnl_convolution_backward_data_primitive_desc_create(out, engine, dnnl_convolution_direct, l->x, l->w,
                                                                      l->y, stride, dilation, padding, padding, forward,
                                                                      attributes);
    else
        result = dnnl_convolution_backward_weights_primitive_desc_create(
            out, engine, dnnl_convolution_direct, l->x, l->w, c->bias ? l->bias : NULL, l->y, stride, dilation, padding,
            padding, forward, attributes);
    dnnl_primitive_desc_destroy(forward);
    return result;
}

#else

LayoutView layout_view(const Layout *layout)
{
    return layout;
}

dnnl_status_t layout_strided(Layout *out, int64_t rows, int64_t columns, int64_t row, int64_t column)
{
    dnnl_dims_t dims = {rows, columns}, strides = {row, column};
    return dnnl_memory_desc_init_by_strides(out, 2, dims, dnnl_f32, strides);
}

dnnl_status_t layout_tagged(Layout *out, int rank, const int64_t *dims, dnnl_format_tag_t tag)
{
    dnnl_dims_t all = {0};
    memcpy(all, dims, (size_t)rank * sizeof *dims);
    return dnnl_memory_desc_init_by_tag(out, rank, all, dnnl_f32, tag);
}

void layout_release(Layout *layout)
{
    (void)layout;
}

dnnl_status_t matmul_descriptor(dnnl_engine_t engine, const Layout *a, const Layout *b, const Layout *bias,
                                const Layout *c, dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out)
{
    dnnl_matmul_desc_t operation;
    dnnl_status_t result = dnnl_matmul_desc_init(&operation, a, b, bias, c);
    return result == dnnl_success ? dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL) : result;
}

dnnl_status_t convolution_descriptor(dnnl_engine_t engine, const OneDnnConvolution *c, const ConvolutionLayouts *l,
                                     dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out)
{
    dnnl_dims_t stride = {c->stride[0], c->stride[1]}, padding = {c->padding[0], c->padding[1]};
    dnnl_convolution_desc_t operation;
    dnnl_primitive_desc_t forward = NULL;
    const Layout *bias = c->bias ? &l->bias : NULL;
    dnnl_status_t result = dnnl_convolution_forward_desc_init(&operation, dnnl_forward_training, dnnl_convolution_auto,
                                                              &l->x, &l->w, bias, &l->y, stride, padding, padding);
    if (result == dnnl_success)
        result = dnnl_primitive_desc_create(&forward, &operation, c->direction == ONEDNN_FORWARD ? attributes : NULL,
                                            engine, NULL);
    if (result != dnnl_success || c->direction == ONEDNN_FORWARD) {
        *out = forward;
        return result;
    }
    if (c->direction == ONEDNN_GRAD_INPUT)
        result = dnnl_convolution_backward_data_desc_init(&operation, dnnl_convolution_direct, &l->x, &l->w, &l->y,
                                                          stride, padding, padding);
    else
        result = dnnl_convolution_backward_weights_desc_init(&operation, dnnl_convolution_direct, &l->x, &l->w, bias,
                                                             &l->y, stride, padding, padding);
    if (result == dnnl_success) result = dnnl_primitive_desc_create(out, &operation, attributes, engine, forward);
    dnnl_primitive_desc_destroy(forward);
    return result;
}

#endif
