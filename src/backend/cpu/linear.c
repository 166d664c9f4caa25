/* Matrix products: oneDNN on plain rows (strides as the views have them), cut into shares by output columns, so that
 * each thread reads only its part of the weights; own kernels for a handful of rows, which only wait for memory. */
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/onednn.h"

enum { COLUMN_GRAIN = 16, FEW_ROWS = 4 };

/* One oneDNN call a share, and how far into each operand the share begins (floats). */
typedef struct Part {
    OneDnnCall *call;
    int64_t a, b, bias, c;
    int64_t rows, columns; /* of its part of c */
    bool shares_pack;      /* with the first share */
} Part;

typedef struct Product {
    int a, b, bias; /* which inputs; bias -1: none */
    bool relu;
    Part parts[];
} Product;

/* The ReLU is our own pass over what is still in the cache (1 % of an inference): oneDNN's fused one turns NaN into 0,
 * and a training that has diverged would look as if it hadn't. */
static void run_product(const Step *step, int share)
{
    const Product *product = step->own;
    const Part *part = &product->parts[share];
    const View *c = &step->outputs[0];
    onednn_run(part->call);
    for (int64_t row = 0; product->relu && row < part->rows; row++) {
        float *values = view_f32(c) + part->c + row * c->stride;
        step->simd->relu(values, values, 0, part->columns);
    }
}

static float *at(const View *view, int64_t offset)
{
    return view->data != NULL ? view_f32(view) + offset : NULL;
}

static void bind_product(Step *step)
{
    Product *product = step->own;
    for (int i = 0; i < step->shares; i++) {
        Part *part = &product->parts[i];
        float *bias = product->bias >= 0 ? at(&step->inputs[product->bias], part->bias) : NULL;
        onednn_bind(part->call, at(&step->inputs[product->a], part->a), at(&step->inputs[product->b], part->b), bias,
                    at(&step->outputs[0], part->c), step_scratch(step, i));
    }
}

static void refresh_product(const Step *step)
{
    const Product *product = step->own;
    for (int i = 0; i < step->shares; i++)
        if (!product->parts[i].shares_pack)
            onednn_pack(product->parts[i].call, at(&step->inputs[product->b], product->parts[i].b));
}

static void destroy_product(Step *step)
{
    Product *product = step->own;
    for (int i = 0; i < step->shares; i++)
        onednn_destroy(product->parts[i].call);
    free(product);
}

/* By columns of c each thread reads only its part of the weights. By rows where there are few columns, and where b is
 * packed and c dense: then oneDNN has a faster kernel for dense parts of c (here 8 % of a whole inference of 64
 * images), and the threads share one packed b. */
static bool cut_by_rows(const OneDnnMatmul *whole, int threads)
{
    if (whole->n < (int64_t)threads * COLUMN_GRAIN) return whole->m >= 2;
    return whole->packed && whole->c_row == whole->n && whole->m >= (int64_t)threads * COLUMN_GRAIN;
}

/* Cuts the whole product into shares. */
static Status prepare_product(Step *step, const OneDnnMatmul *whole, int a, int b, int bias, bool relu, Error *error)
{
    bool by_rows = cut_by_rows(whole, step->threads);
    int64_t count = by_rows ? whole->m : whole->n, grain = by_rows ? 1 : COLUMN_GRAIN;
    double flops = 2.0 * (double)whole->m * (double)whole->n * (double)whole->k;
    int shares = flops < 2e5 ? 1 : shares_for(step, count, grain, 1);
    Product *product = calloc(1, sizeof *product + (size_t)shares * sizeof(Part));
    if (product == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a matrix product");
    *product = (Product){.a = a, .b = b, .bias = bias, .relu = relu};
    step->own = product;
    step->shares = shares;
    step->destroy = destroy_product;
    for (int i = 0; i < shares; i++) {
        Range range = share_of(count, grain, i, shares);
        Part *part = &product->parts[i];
        OneDnnMatmul matmul = *whole;
        if (by_rows) {
            matmul.m = range.end - range.begin;
            part->a = range.begin * whole->a_row;
            part->c = range.begin * whole->c_row;
        } else {
            matmul.n = range.end - range.begin;
            part->b = range.begin * whole->b_column;
            part->bias = range.begin;
            part->c = range.begin;
        }
        part->rows = matmul.m;
        part->columns = matmul.n;
        RETURN_IF_ERROR(onednn_matmul_create(&matmul, &part->call, error));
        part->shares_pack = by_rows && whole->packed && i > 0 && onednn_share_pack(part->call, product->parts[0].call);
        size_t scratch = onednn_scratch_bytes(part->call);
        if (scratch > step->scratch_bytes) step->scratch_bytes = scratch;
    }
    step->run = run_product;
    step->bind = bind_product;
    if (whole->packed) step->refresh = refresh_product;
    step->implementation = onednn_implementation(product->parts[0].call);
    return STATUS_OK;
}

static void run_few_rows(const Step *step, int share)
{
    const View *x = &step->inputs[0], *w = &step->inputs[1], *b = &step->inputs[2], *y = &step->outputs[0];
    Range range = share_of(y->shape.dims[1], COLUMN_GRAIN, share, step->shares);
    step->simd->linear_rows(view_f32(w), step->input_count > 2 && b->present ? view_f32(b) : NULL, view_f32(x),
                            x->stride, view_rows(x), x->shape.dims[1],
                            step->attributes.linear.activation == ACTIVATION_RELU, view_f32(y), y->stride, range.begin,
                            range.end);
}

Status prepare_linear(Step *step, Error *error)
{
    const View *x = &step->inputs[0], *w = &step->inputs[1], *y = &step->outputs[0];
    bool bias = step->input_count > 2 && step->inputs[2].present;
    int64_t rows = view_rows(x), in = x->shape.dims[1], out = y->shape.dims[1];
    if (rows <= FEW_ROWS && view_is_dense(w)) {
        step->run = run_few_rows;
        step->implementation = "simd, few rows";
        step->shares = in * out < 16384 ? 1 : shares_for(step, out, COLUMN_GRAIN, 1);
        return STATUS_OK;
    }
    OneDnnMatmul whole = {.m = rows,
                          .n = out,
                          .k = in,
                          .a_row = x->stride,
                          .a_column = 1,
                          .b_row = 1,
                          .b_column = w->stride,
                          .c_row = y->stride,
                          .bias = bias,
                          .packed = step->frozen};
    bool relu = step->attributes.linear.activation == ACTIVATION_RELU;
    return prepare_product(step, &whole, 0, 1, bias ? 2 : -1, relu, error);
}

/* dx [N, I] = dy [N, O] w [O, I] */
Status prepare_linear_grad_input(Step *step, Error *error)
{
    const View *dy = &step->inputs[0], *w = &step->inputs[1], *dx = &step->outputs[0];
    OneDnnMatmul whole = {.m = view_rows(dy),
                          .n = dx->shape.dims[1],
                          .k = dy->shape.dims[1],
                          .a_row = dy->stride,
                          .a_column = 1,
                          .b_row = w->stride,
                          .b_column = 1,
                          .c_row = dx->stride};
    return prepare_product(step, &whole, 0, 1, -1, false, error);
}

/* db: sums of the columns of dy, by the share that has those columns. */
static void run_grad_parameters(const Step *step, int share)
{
    const View *dy = &step->inputs[0], *db = &step->outputs[1];
    run_product(step, share);
    Range range = share_of(db->shape.dims[0], 1, share, step->shares);
    float *sums = view_f32(db);
    for (int64_t o = range.begin; o < range.end; o++)
        sums[o] = 0;
    for (int64_t n = 0; n < view_rows(dy); n++)
        step->simd->add(sums, view_f32(dy) + n * dy->stride, sums, range.begin, range.end);
}

/* dw [O, I] = dy' [O, N] x [N, I] */
Status prepare_linear_grad_parameters(Step *step, Error *error)
{
    const View *dy = &step->inputs[0], *x = &step->inputs[1], *dw = &step->outputs[0];
    OneDnnMatmul whole = {.m = dy->shape.dims[1],
                          .n = x->shape.dims[1],
                          .k = view_rows(dy),
                          .a_row = 1,
                          .a_column = dy->stride,
                          .b_row = x->stride,
                          .b_column = 1,
                          .c_row = dw->stride};
    RETURN_IF_ERROR(prepare_product(step, &whole, 0, 1, -1, false, error));
    step->run = run_grad_parameters;
    return STATUS_OK;
}

Status prepare_matmul(Step *step, Error *error)
{
    const View *a = &step->inputs[0], *b = &step->inputs[1], *y = &step->outputs[0];
    bool ta = step->attributes.matmul.transpose_a, tb = step->attributes.matmul.transpose_b;
    OneDnnMatmul whole = {.m = y->shape.dims[0],
                          .n = y->shape.dims[1],
                          .k = a->shape.dims[!ta],
                          .a_row = ta ? 1 : a->stride,
                          .a_column = ta ? a->stride : 1,
                          .b_row = tb ? 1 : b->stride,
                          .b_column = tb ? b->stride : 1,
                          .c_row = y->stride};
    return prepare_product(step, &whole, 0, 1, -1, false, error);
}
