#include "backend/cpu/onednn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/onednn_versions.h"

enum { MAX_ARGUMENTS = 5 };

/* Declared here instead of by omp.h, so that nothing of ours is compiled with -fopenmp. */
extern void omp_set_num_threads(int threads);

struct OneDnnCall {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive, pack;
    dnnl_exec_arg_t arguments[MAX_ARGUMENTS];
    int argument_count;
    dnnl_memory_t a, b, bias, c, scratch, plain_b; /* NULL where absent */
    size_t scratch_bytes;
    char implementation[48];
};

void onednn_use_one_thread(void)
{
    omp_set_num_threads(1);
}

const char *onednn_version_text(char *out, size_t size)
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d", version->major, version->minor, version->patch);
    return out;
}

int onednn_vector_bits(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if (isa == 0 || (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core) return 512;
    return (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2 ? 256 : 128;
}

static Status failed(Error *error, dnnl_status_t result, const char *what)
{
    return error_set(error, result == dnnl_out_of_memory ? STATUS_RESOURCE_EXHAUSTED : STATUS_INTERNAL,
                     "oneDNN can't make %s (status %d)", what, (int)result);
}

/* One engine and stream a call: they are small, and nothing is then shared between threads. */
static Status call_create(OneDnnCall **out, Error *error)
{
    OneDnnCall *call = calloc(1, sizeof *call);
    if (call == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a oneDNN primitive");
    dnnl_status_t result = dnnl_engine_create(&call->engine, dnnl_cpu, 0);
    if (result == dnnl_success) result = dnnl_stream_create(&call->stream, call->engine, dnnl_stream_in_order);
    if (result != dnnl_success) {
        onednn_destroy(call);
        return failed(error, result, "a CPU engine");
    }
    *out = call;
    return STATUS_OK;
}

/* Scratch by the plan. */
static dnnl_status_t attributes_create(dnnl_primitive_attr_t *out)
{
    dnnl_status_t result = dnnl_primitive_attr_create(out);
    return result == dnnl_success ? dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user) : result;
}

static dnnl_status_t argument(OneDnnCall *call, dnnl_primitive_desc_t descriptor, int name, dnnl_memory_t *memory,
                              void *handle)
{
    LayoutView layout = dnnl_primitive_desc_query_md(descriptor, dnnl_query_exec_arg_md, name);
    if (layout == NULL || dnnl_memory_desc_get_size(layout) == 0) return dnnl_success;
    dnnl_status_t result = dnnl_memory_create(memory, layout, call->engine, handle);
    if (result == dnnl_success) call->arguments[call->argument_count++] = (dnnl_exec_arg_t){name, *memory};
    return result;
}

/* The primitive, and its arguments by their oneDNN names (0: none). */
static dnnl_status_t finish(OneDnnCall *call, dnnl_primitive_desc_t descriptor, const int names[4], void *b_handle)
{
    const char *implementation = "";
    dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &implementation);
    snprintf(call->implementation, sizeof call->implementation, "%s", implementation);
    LayoutView scratch = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    call->scratch_bytes = scratch != NULL ? dnnl_memory_desc_get_size(scratch) : 0;
    dnnl_status_t result = dnnl_primitive_create(&call->primitive, descriptor);
    dnnl_memory_t *memories[4] = {&call->a, &call->b, &call->bias, &call->c};
    for (int i = 0; i < 4 && result == dnnl_success; i++)
        if (names[i] != 0)
            result = argument(call, descriptor, names[i], memories[i], i == 1 ? b_handle : DNNL_MEMORY_NONE);
    if (result == dnnl_success)
        result = argument(call, descriptor, DNNL_ARG_SCRATCHPAD, &call->scratch, DNNL_MEMORY_NONE);
    return result;
}

/* A reorder from plain b to what the primitive wants, into memory that the call owns. */
static dnnl_status_t make_pack(OneDnnCall *call, LayoutView plain)
{
    LayoutView packed;
    dnnl_primitive_desc_t reorder = NULL;
    dnnl_status_t result = dnnl_memory_get_memory_desc(call->b, &packed);
    if (result == dnnl_success)
        result = dnnl_reorder_primitive_desc_create(&reorder, plain, call->engine, packed, call->engine, NULL);
    if (result == dnnl_success) result = dnnl_primitive_create(&call->pack, reorder);
    if (result == dnnl_success) result = dnnl_memory_create(&call->plain_b, plain, call->engine, DNNL_MEMORY_NONE);
    dnnl_primitive_desc_destroy(reorder);
    return result;
}

Status onednn_matmul_create(const OneDnnMatmul *matmul, OneDnnCall **out, Error *error)
{
    OneDnnCall *call = NULL;
    RETURN_IF_ERROR(call_create(&call, error));
    Layout a = {0}, b = {0}, plain = {0}, bias = {0}, c = {0};
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t descriptor = NULL;
    const int64_t b_dims[2] = {matmul->k, matmul->n};
    dnnl_status_t result = layout_strided(&a, matmul->m, matmul->k, matmul->a_row, matmul->a_column);
    if (result == dnnl_success) result = layout_strided(&plain, matmul->k, matmul->n, matmul->b_row, matmul->b_column);
    if (result == dnnl_success && matmul->packed) result = layout_tagged(&b, 2, b_dims, dnnl_format_tag_any);
    if (result == dnnl_success) result = layout_strided(&c, matmul->m, matmul->n, matmul->c_row, 1);
    if (result == dnnl_success) result = layout_strided(&bias, 1, matmul->n, matmul->n, 1);
    if (result == dnnl_success) result = attributes_create(&attributes);
    if (result == dnnl_success)
        result = matmul_descriptor(call->engine, &a, matmul->packed ? &b : &plain, matmul->bias ? &bias : NULL, &c,
                                   attributes, &descriptor);
    const int names[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, matmul->bias ? DNNL_ARG_BIAS : 0, DNNL_ARG_DST};
    if (result == dnnl_success)
        result = finish(call, descriptor, names, matmul->packed ? DNNL_MEMORY_ALLOCATE : DNNL_MEMORY_NONE);
    if (matmul->packed && result == dnnl_success) result = make_pack(call, layout_view(&plain));
    Layout *layouts[] = {&a, &b, &plain, &bias, &c};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        layout_release(layouts[i]);
    dnnl_primitive_desc_destroy(descriptor);
    dnnl_primitive_attr_destroy(attributes);
    if (result != dnnl_success) {
        onednn_destroy(call);
        char what[96];
        snprintf(what, sizeof what, "a product of [%ld, %ld] and [%ld, %ld]", (long)matmul->m, (long)matmul->k,
                 (long)matmul->k, (long)matmul->n);
        return failed(error, result, what);
    }
    *out = call;
    return STATUS_OK;
}

static dnnl_status_t convolution_layouts(const OneDnnConvolution *c, ConvolutionLayouts *out)
{
    const int64_t x[] = {c->batch, c->in_channels, c->in_rows, c->in_columns};
    const int64_t y[] = {c->batch, c->out_channels, c->out_rows, c->out_columns};
    const int64_t grouped[] = {c->groups, c->out_channels / c->groups, c->in_channels / c->groups, c->kernel[0],
                               c->kernel[1]};
    const int64_t single[] = {c->out_channels, c->in_channels, c->kernel[0], c->kernel[1]};
    const int64_t bias[] = {c->out_channels};
    dnnl_status_t result = layout_tagged(&out->x, 4, x, dnnl_nchw);
    if (result == dnnl_success) result = layout_tagged(&out->y, 4, y, dnnl_nchw);
    if (result == dnnl_success) result = layout_tagged(&out->bias, 1, bias, dnnl_a);
    if (result == dnnl_success)
        result = c->groups > 1 ? layout_tagged(&out->w, 5, grouped, dnnl_goihw)
                               : layout_tagged(&out->w, 4, single, dnnl_oihw);
    return result;
}

Status onednn_convolution_create(const OneDnnConvolution *convolution, OneDnnCall **out, Error *error)
{
    static const int names[3][4] = {
        [ONEDNN_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
        [ONEDNN_GRAD_INPUT] = {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, 0, DNNL_ARG_DIFF_SRC},
        [ONEDNN_GRAD_PARAMETERS] = {DNNL_ARG_DIFF_DST, DNNL_ARG_SRC, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_WEIGHTS},
    };
    OneDnnCall *call = NULL;
    RETURN_IF_ERROR(call_create(&call, error));
    ConvolutionLayouts layouts = {0};
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_status_t result = convolution_layouts(convolution, &layouts);
    if (result == dnnl_success) result = attributes_create(&attributes);
    if (result == dnnl_success)
        result = convolution_descriptor(call->engine, convolution, &layouts, attributes, &descriptor);
    if (result == dnnl_success) result = finish(call, descriptor, names[convolution->direction], DNNL_MEMORY_NONE);
    layout_release(&layouts.x);
    layout_release(&layouts.w);
    layout_release(&layouts.bias);
    layout_release(&layouts.y);
    dnnl_primitive_desc_destroy(descriptor);
    dnnl_primitive_attr_destroy(attributes);
    if (result != dnnl_success) {
        onednn_destroy(call);
        char what[128];
        snprintf(what, sizeof what, "a convolution of [%ld, %ld, %ld, %ld] to %ld channels", (long)convolution->batch,
                 (long)convolution->in_channels, (long)convolution->in_rows, (long)convolution->in_columns,
                 (long)convolution->out_channels);
        return failed(error, result, what);
    }
    *out = call;
    return STATUS_OK;
}

size_t onednn_scratch_bytes(const OneDnnCall *call)
{
    return call->scratch_bytes;
}

const char *onednn_implementation(const OneDnnCall *call)
{
    return call->implementation;
}

static void set_handle(dnnl_memory_t memory, void *handle)
{
    if (memory != NULL) dnnl_memory_set_data_handle(memory, handle);
}

void onednn_bind(OneDnnCall *call, void *a, void *b, void *bias, void *c, void *scratch)
{
    set_handle(call->a, a);
    if (call->pack == NULL) set_handle(call->b, b);
    set_handle(call->bias, bias);
    set_handle(call->c, c);
    set_handle(call->scratch, scratch);
}

void onednn_pack(OneDnnCall *call, const void *b)
{
    set_handle(call->plain_b, (void *)(uintptr_t)b);
    dnnl_exec_arg_t arguments[2] = {{DNNL_ARG_FROM, call->plain_b}, {DNNL_ARG_TO, call->b}};
    dnnl_primitive_execute(call->pack, call->stream, 2, arguments);
}

bool onednn_share_pack(OneDnnCall *call, const OneDnnCall *other)
{
    LayoutView own, others;
    void *handle;
    dnnl_memory_t shared;
    if (dnnl_memory_get_memory_desc(call->b, &own) != dnnl_success ||
        dnnl_memory_get_memory_desc(other->b, &others) != dnnl_success || !dnnl_memory_desc_equal(own, others) ||
        dnnl_memory_get_data_handle(other->b, &handle) != dnnl_success ||
        dnnl_memory_create(&shared, own, call->engine, handle) != dnnl_success)
        return false;
    for (int i = 0; i < call->argument_count; i++)
        if (call->arguments[i].memory == call->b) call->arguments[i].memory = shared;
    dnnl_memory_destroy(call->b);
    call->b = shared;
    return true;
}

void onednn_run(OneDnnCall *call)
{
    dnnl_primitive_execute(call->primitive, call->stream, call->argument_count, call->arguments);
}

void onednn_destroy(OneDnnCall *call)
{
    if (call == NULL) return;
    dnnl_memory_t memories[] = {call->a, call->b, call->bias, call->c, call->scratch, call->plain_b};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i] != NULL) dnnl_memory_destroy(memories[i]);
    if (call->primitive != NULL) dnnl_primitive_destroy(call->primitive);
    if (call->pack != NULL) dnnl_primitive_destroy(call->pack);
    if (call->stream != NULL) dnnl_stream_destroy(call->stream);
    if (call->engine != NULL) dnnl_engine_destroy(call->engine);
    free(call);
}
