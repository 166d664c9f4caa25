/* What differs between oneDNN 2.x (Debian 12, Ubuntu 22.04) and 3.x (later systems): in 2.x a layout is a struct and an
 * operation has a descriptor of its own; in 3.x a layout is a handle that must be destroyed. Internal to onednn.c. */
#pragma once

#include <oneapi/dnnl/dnnl.h>

#include "backend/cpu/onednn.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Layout; /* NULL: none */
typedef const_dnnl_memory_desc_t LayoutView;
#else
typedef dnnl_memory_desc_t Layout; /* zeroed: none */
typedef const dnnl_memory_desc_t *LayoutView;
#endif

LayoutView layout_view(const Layout *layout);
dnnl_status_t layout_strided(Layout *out, int64_t rows, int64_t columns, int64_t row, int64_t column);
dnnl_status_t layout_tagged(Layout *out, int rank, const int64_t *dims, dnnl_format_tag_t tag);
void layout_release(Layout *layout);

/* `bias` NULL: none. */
dnnl_status_t matmul_descriptor(dnnl_engine_t engine, const Layout *a, const Layout *b, const Layout *bias,
                                const Layout *c, dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out);

typedef struct ConvolutionLayouts {
    Layout x, w, bias, y;
} ConvolutionLayouts;

dnnl_status_t convolution_descriptor(dnnl_engine_t engine, const OneDnnConvolution *convolution,
                                     const ConvolutionLayouts *layouts, dnnl_primitive_attr_t attributes,
                                     dnnl_primitive_desc_t *out);
