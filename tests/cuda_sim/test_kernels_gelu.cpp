// gelu and its gradient, kernels/elementwise.cu, against the reference backend's loops.
#include "elementwise_cases.h"

#include <cmath>

using namespace kernel_check;

static const GeluForm forms[] = {GELU_EXACT, GELU_TANH};

// Into the tails, with NaN and infinities among them.
static Numbers wide(size_t count, unsigned seed)
{
    Numbers values = with_specials(count, seed);
    for (double &value : values)
        value *= 8;
    return values;
}

static Attributes attributes_of(GeluForm form)
{
    Attributes attributes = {};
    attributes.gelu.form = form;
    return attributes;
}

static void check(DType type, Numbers &x, const std::vector<size_t> &offset, GeluForm form)
{
    const size_t count = x.size();
    Numbers dy = uniform(count, 2), y(count), dx(count);
    const Dims dims = {static_cast<int64_t>(count)};
    const bool by_tanh = form == GELU_TANH;
    Reals gradient(type, dy, offset[0]), in(type, x, offset[1]), out(type, count, offset[2]);
    run([&] { return kernel_gelu(type, in.at(), out.at(), dims[0], by_tanh, stream()); }, {&out});
    reference(OP_GELU, attributes_of(form), {view(x, dims)}, {view(y, dims)});
    expect_close(by_tanh ? "y by tanh" : "y by erf", type, out.numbers(), y);
    run([&] { return kernel_gelu_grad(type, gradient.at(), in.at(), out.at(), dims[0], by_tanh, stream()); }, {&out});
    reference(OP_GELU_GRAD, attributes_of(form), {view(dy, dims), view(x, dims)}, {view(dx, dims)});
    expect_close(by_tanh ? "dx by tanh" : "dx by erf", type, out.numbers(), dx);
}

static void test_counts_and_offsets()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        for (GeluForm form : forms) {
            Numbers x = wide(count, 1);
            check(type, x, offset, form);
        }
    });
}

// Each element, from where P is 0 in float to where it is 1: to within 1e-6 of the larger of itself and 0.01, and the
// slope to within 5e-7.
static void test_tails()
{
    for (GeluForm form : forms) {
        const size_t count = 3001;
        Numbers x(count), dy(count, 1), y(count), dx(count);
        for (size_t i = 0; i < count; i++)
            x[i] = (static_cast<double>(i) - 1500) / 60;
        const Dims dims = {static_cast<int64_t>(count)};
        Reals gradient(DTYPE_F32, dy), in(DTYPE_F32, x), out(DTYPE_F32, count), slope(DTYPE_F32, count);
        EXPECT_CUDA(kernel_gelu(DTYPE_F32, in.at(), out.at(), dims[0], form == GELU_TANH, stream()));
        EXPECT_CUDA(
            kernel_gelu_grad(DTYPE_F32, gradient.at(), in.at(), slope.at(), dims[0], form == GELU_TANH, stream()));
        EXPECT_CUDA(cudaStreamSynchronize(stream()));
        reference(OP_GELU, attributes_of(form), {view(x, dims)}, {view(y, dims)});
        reference(OP_GELU_GRAD, attributes_of(form), {view(dy, dims), view(x, dims)}, {view(dx, dims)});
        const Numbers got = out.numbers(), slopes = slope.numbers();
        for (size_t i = 0; i < count; i++) {
            set_context("form %d, x = %g", form, x[i]);
            EXPECT(std::abs(got[i] - y[i]) <= 1e-6 * std::fmax(std::abs(y[i]), 0.01));
            EXPECT(std::abs(slopes[i] - dx[i]) <= 5e-7);
        }
    }
}

static void test_in_place()
{
    for (DType type : real_types) {
        set_context("%s", dtype_name(type));
        Numbers x = uniform(1003, 1), dy = uniform(1003, 2), wanted(1003);
        const Dims dims = {1003};
        Reals memory(type, x), gradient(type, dy);
        EXPECT_CUDA(kernel_gelu_grad(type, gradient.at(), memory.at(), gradient.at(), 1003, false, stream()));
        EXPECT_CUDA(kernel_gelu(type, memory.at(), memory.at(), 1003, true, stream()));
        EXPECT_CUDA(cudaStreamSynchronize(stream()));
        reference(OP_GELU_GRAD, attributes_of(GELU_EXACT), {view(dy, dims), view(x, dims)}, {view(wanted, dims)});
        expect_close("dx", type, gradient.numbers(), wanted);
        reference(OP_GELU, attributes_of(GELU_TANH), {view(x, dims)}, {view(wanted, dims)});
        expect_close("y", type, memory.numbers(), wanted);
    }
}

static void test_nothing()
{
    const void *in = nullptr;
    EXPECT(kernel_gelu(DTYPE_F32, in, nullptr, 0, true, stream()) == cudaSuccess);
    EXPECT(kernel_gelu_grad(DTYPE_F16, in, in, nullptr, 0, false, stream()) == cudaSuccess);
    EXPECT(kernel_gelu(DTYPE_F64, in, nullptr, 1, false, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_gelu_grad(DTYPE_U8, in, in, nullptr, 1, true, stream()) == cudaErrorInvalidValue);
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"counts_and_offsets", test_counts_and_offsets},
                      {"tails", test_tails},
                      {"in_place", test_in_place},
                      {"nothing", test_nothing}});
}
