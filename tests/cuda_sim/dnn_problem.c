#include "cuda_sim/dnn_problem.h"

#include <math.h>
#include <stdint.h>

#include "backend/reference/loops.h"
#include "base/rng.h"
#include "cuda_sim/library_test.h"

static Error error;

const DType dnn_types[3] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

DnnPlan *plan_made(Dnn *dnn, const DnnConvolution *convolution, const char *text)
{
    DnnPlan *plan = NULL;
    const Status status = dnn_plan_create(dnn, convolution, UNLIMITED, text, &plan, &error);
    ck_assert_msg(status == STATUS_OK, "%s", error.message);
    return plan;
}

/* --- numbers: what a type can hold, as double --- */

static double round_to(DType type, double value)
{
    int exponent = 0;
    if (type == DTYPE_F32 || value == 0) return (float)value;
    const int digits = type == DTYPE_BF16 ? 8 : 11;
    frexp(value, &exponent);
    if (type == DTYPE_F16 && exponent < -13) exponent = -13; /* subnormal numbers */
    const double step = ldexp(1, exponent - digits);
    return nearbyint(value / step) * step;
}

static void write_element(DType type, void *data, size_t index, double value)
{
    const float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (type == DTYPE_F32) {
        ((float *)data)[index] = single;
    } else if (type == DTYPE_BF16) {
        ((uint16_t *)data)[index] = (uint16_t)(bits >> 16); /* exact: rounded before */
    } else {
        const _Float16 half = (_Float16)single;
        memcpy((uint16_t *)data + index, &half, sizeof half);
    }
}

static double read_element(DType type, const void *data, size_t index)
{
    if (type == DTYPE_F32) return ((const float *)data)[index];
    if (type == DTYPE_BF16) {
        const uint32_t bits = (uint32_t)((const uint16_t *)data)[index] << 16;
        float single;
        memcpy(&single, &bits, sizeof single);
        return single;
    }
    _Float16 half;
    memcpy(&half, (const uint16_t *)data + index, sizeof half);
    return (double)half;
}

/* --- a convolution's tensors, in double and on the device --- */

static int64_t out_size(const DnnConvolution *c, int axis)
{
    return ((axis == 0 ? c->rows : c->columns) + 2 * c->padding[axis] - c->kernel[axis]) / c->stride[axis] + 1;
}

static Tensor doubles(Shape shape, DType type, uint64_t seed)
{
    Tensor tensor;
    Rng rng = rng_make(seed, RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_F64, shape, &tensor, &error), STATUS_OK);
    for (int64_t i = 0; i < shape_count(shape); i++)
        ((double *)tensor.data)[i] = round_to(type, rng_normal(&rng));
    return tensor;
}

Problem problem_of(DnnConvolution c)
{
    return (Problem){c, doubles(shape_of(c.n, c.channels, c.rows, c.columns), c.type, 1),
                     doubles(shape_of(c.out, c.channels / c.groups, c.kernel[0], c.kernel[1]), c.type, 2),
                     doubles(shape_of(c.n, c.out, out_size(&c, 0), out_size(&c, 1)), c.type, 3),
                     doubles(shape_of(c.out), DTYPE_F32, 4)};
}

void problem_free(Problem *p)
{
    tensor_destroy(&p->x);
    tensor_destroy(&p->w);
    tensor_destroy(&p->y);
    tensor_destroy(&p->bias);
}

/* Where element i of an NCHW tensor lies in memory. */
static size_t place(const Tensor *tensor, bool channels_last, size_t i)
{
    const int64_t *d = tensor->shape.dims;
    if (!channels_last || tensor->shape.rank != 4) return i;
    const size_t c = (size_t)d[1], plane = (size_t)(d[2] * d[3]);
    const size_t n = i / (c * plane), channel = i / plane % c, at = i % plane;
    return (n * plane + at) * c + channel;
}

static void *upload(const Tensor *tensor, DType type, bool channels_last)
{
    const size_t count = (size_t)shape_count(tensor->shape);
    char *host = calloc(count, dtype_size(type));
    for (size_t i = 0; i < count; i++)
        write_element(type, host, place(tensor, channels_last, i), ((const double *)tensor->data)[i]);
    void *device = device_memory(host, count * dtype_size(type));
    free(host);
    return device;
}

/* What the reference computes, into the tensor that the convolution's kind makes. */
Tensor expected_of(const Problem *p)
{
    const DnnConvolution *c = &p->convolution;
    const Value exists = {0};
    Tensor result[2] = {{0}}, inputs[3] = {p->x, p->w, p->bias};
    Value values[3] = {exists, exists, c->bias ? exists : VALUE_NONE};
    Node node = {.operation = OP_CONV2D, .inputs = values, .input_count = 3};
    const Tensor *like = &p->y;
    node.attributes.conv2d.groups = (int32_t)c->groups;
    node.attributes.conv2d.activation = c->relu ? ACTIVATION_RELU : ACTIVATION_NONE;
    for (int i = 0; i < 2; i++) {
        node.attributes.conv2d.kernel[i] = (int32_t)c->kernel[i];
        node.attributes.conv2d.stride[i] = (int32_t)c->stride[i];
        node.attributes.conv2d.padding[i] = (int32_t)c->padding[i];
    }
    if (c->kind != DNN_FORWARD) {
        like = c->kind == DNN_GRAD_INPUT ? &p->x : &p->w;
        node.operation = c->kind == DNN_GRAD_INPUT ? OP_CONV2D_GRAD_INPUT : OP_CONV2D_GRAD_PARAMETERS;
        node.input_count = 2;
        inputs[0] = p->y;
        inputs[1] = c->kind == DNN_GRAD_INPUT ? p->w : p->x;
    }
    ck_assert_int_eq(tensor_create(DTYPE_F64, like->shape, &result[0], &error), STATUS_OK);
    ck_assert_int_eq(tensor_create(DTYPE_F64, shape_of(c->out), &result[1], &error), STATUS_OK);
    const LoopArguments arguments = {.node = &node, .inputs = inputs, .outputs = result};
    ck_assert_int_eq(reference_loops_f64[node.operation](&arguments, &error), STATUS_OK);
    tensor_destroy(&result[1]);
    return result[0];
}

/* --- running --- */

Buffers buffers_of(const Problem *p, const DnnPlan *plan, const Tensor *expected)
{
    const DnnConvolution *c = &p->convolution;
    const DType result = c->result != DTYPE_NONE ? c->result : c->type;
    const Tensor *a = c->kind == DNN_FORWARD ? &p->x : &p->y, *b = c->kind == DNN_GRAD_FILTER ? &p->x : &p->w;
    Buffers buffers = {.a = upload(a, c->type, c->channels_last),
                       .b = upload(b, c->type, c->channels_last),
                       .bias = c->bias ? upload(&p->bias, DTYPE_F32, false) : NULL,
                       .result_bytes = (size_t)shape_count(expected->shape) * dtype_size(result)};
    buffers.result = device_memory(NULL, buffers.result_bytes);
    if (dnn_plan_workspace(plan) > 0) buffers.workspace = device_memory(NULL, dnn_plan_workspace(plan));
    return buffers;
}

void buffers_free(Buffers *buffers)
{
    cudaFree(buffers->a);
    cudaFree(buffers->b);
    cudaFree(buffers->bias);
    cudaFree(buffers->result);
    cudaFree(buffers->workspace);
}

/* |found - expected| relative to the largest expected: sums are in float, and the result is rounded once; TF32 has 11
 * digits. */
static double tolerance_of(const DnnConvolution *c)
{
    const DType result = c->result != DTYPE_NONE ? c->result : c->type;
    if (c->type == DTYPE_F32 && c->tf32) return 2e-3;
    return result == DTYPE_F32 ? 2e-6 : result == DTYPE_F16 ? 5e-4 : 4e-3;
}

void check_numbers(const Problem *p, const DnnPlan *plan, const Tensor *expected)
{
    const DnnConvolution *c = &p->convolution;
    const DType type = c->result != DTYPE_NONE ? c->result : c->type;
    Buffers buffers = buffers_of(p, plan, expected);
    const Status status =
        dnn_plan_run(plan, 0, buffers.a, buffers.b, buffers.bias, buffers.result, buffers.workspace, &error);
    ck_assert_msg(status == STATUS_OK, "%s", error.message);
    void *found = malloc(buffers.result_bytes);
    read_device(found, buffers.result, buffers.result_bytes);
    double largest = 0, difference = 0;
    for (size_t i = 0; i < (size_t)shape_count(expected->shape); i++) {
        const double wanted = ((const double *)expected->data)[i];
        largest = fmax(largest, fabs(wanted));
        difference = fmax(difference, fabs(read_element(type, found, place(expected, c->channels_last, i)) - wanted));
    }
    ck_assert_msg(difference <= tolerance_of(c) * largest, "%s of kind %d, %s: differs by %g of %g",
                  dnn_plan_name(plan), (int)c->kind, dtype_name(c->type), difference, largest);
    free(found);
    buffers_free(&buffers);
}
