// kernels/reduce.cu and join.cu against the reference backend's loops.
#include "kernel_check.h"

#include <cstring>

using namespace kernel_check;

// --- channel_sum ---

struct SumCase {
    int64_t n;
    int channels;
    int64_t inner;
};

// Biases of MNIST's convolutions and linear layers, and sizes around a warp and a block.
static const std::vector<SumCase> sum_cases = {
    {64, 10, 576}, {64, 20, 64}, {64, 512, 1}, {64, 10, 1}, {1, 1, 1},     {3, 33, 1},
    {1000, 31, 1}, {5, 3, 7},    {2, 5, 25},   {1, 3, 257}, {33, 1, 1000}, {7, 2, 16},
};

static void check_channel_sum(DType type, const SumCase &test, size_t offset)
{
    const size_t count = static_cast<size_t>(test.n * test.channels * test.inner);
    Numbers x = uniform(count, 1), wanted(static_cast<size_t>(test.channels));
    for (double &value : x)
        value += 0.5; // sums that don't vanish
    Reals in(type, x, offset), out(DTYPE_F32, wanted.size());
    run([&] { return kernel_channel_sum(type, in.at(), out.f32(), test.n, test.channels, test.inner, stream()); },
        {&out});
    // db of a convolution with one input channel of one weight is the sum of dy.
    Attributes attributes = {};
    attributes.conv2d.kernel[0] = attributes.conv2d.kernel[1] = attributes.conv2d.groups = 1;
    attributes.conv2d.stride[0] = attributes.conv2d.stride[1] = 1;
    Numbers image(static_cast<size_t>(test.n * test.inner)), weights(wanted.size());
    reference(OP_CONV2D_GRAD_PARAMETERS, attributes,
              {view(x, {test.n, test.channels, 1, test.inner}), view(image, {test.n, 1, 1, test.inner})},
              {view(weights, {test.channels, 1, 1, 1}), view(wanted, {test.channels})});
    expect_close("sums", 1e-6, out.numbers(), wanted);
}

static void test_channel_sum()
{
    for (DType type : real_types)
        for (const SumCase &test : sum_cases)
            for (size_t offset : {0, 1}) {
                set_context("%s, [%ld, %d, %ld], offset %zu", dtype_name(type), static_cast<long>(test.n),
                            test.channels, static_cast<long>(test.inner), offset);
                check_channel_sum(type, test, offset);
            }
}

static void test_channel_sum_of_nothing()
{
    Reals out(DTYPE_F32, 5);
    run([&] { return kernel_channel_sum(DTYPE_F32, nullptr, out.f32(), 0, 5, 7, stream()); }, {&out});
    expect_equal("sums", out.numbers(), Numbers(5, 0.0));
    EXPECT(kernel_channel_sum(DTYPE_F32, nullptr, nullptr, 3, 0, 7, stream()) == cudaSuccess);
    EXPECT(kernel_channel_sum(DTYPE_I32, nullptr, nullptr, 3, 1, 7, stream()) == cudaErrorInvalidValue);
}

// --- copy_rows ---

struct CopyCase {
    size_t width, rows, from_stride, to_stride, from_offset, to_offset; /* bytes */
};

// Every unit from 16 bytes to 1: concat of MNIST's parts, bf16 rows of odd length, single bytes.
static const std::vector<CopyCase> copy_cases = {
    {320 * 4, 64, 320 * 4, 832 * 4, 0, 0},
    {512 * 4, 64, 512 * 4, 832 * 4, 0, 320 * 4},
    {24, 7, 40, 48, 8, 16},
    {12, 5, 20, 16, 4, 0},
    {6, 33, 10, 6, 2, 2},
    {7, 9, 7, 11, 0, 3},
    {1, 257, 3, 1, 1, 0},
    {16, 1, 16, 16, 0, 0},
    {5, 1, 0, 0, 1, 1},
};

static void check_copy(const CopyCase &test)
{
    std::vector<uint8_t> from(test.from_stride * (test.rows - 1) + test.width);
    std::vector<uint8_t> to(test.to_stride * (test.rows - 1) + test.width, 0xee);
    for (size_t i = 0; i < from.size(); i++)
        from[i] = static_cast<uint8_t>(i * 7 + 1);
    Memory source(from.size(), test.from_offset), target(to.size(), test.to_offset);
    source.write(from.data());
    target.write(to.data());
    run(
        [&] {
            return kernel_copy_rows(source.at(), static_cast<int64_t>(test.from_stride), target.at(),
                                    static_cast<int64_t>(test.to_stride), static_cast<int64_t>(test.width),
                                    static_cast<int64_t>(test.rows), stream());
        },
        {&target});
    for (size_t row = 0; row < test.rows; row++)
        memcpy(to.data() + row * test.to_stride, from.data() + row * test.from_stride, test.width);
    std::vector<uint8_t> got(to.size());
    target.read(got.data());
    expect_equal("bytes", got, to);
}

static void test_copy_rows()
{
    for (const CopyCase &test : copy_cases) {
        set_context("%zu rows of %zu bytes", test.rows, test.width);
        check_copy(test);
    }
    EXPECT(kernel_copy_rows(nullptr, 4, nullptr, 4, 0, 3, stream()) == cudaSuccess);
    EXPECT(kernel_copy_rows(nullptr, 4, nullptr, 4, 4, 0, stream()) == cudaSuccess);
}

// --- weighted sums ---

struct WeightedCase {
    int64_t n, m, d;
};

static const std::vector<WeightedCase> weighted_cases = {
    {64, 8, 512}, {64, 10, 320}, {3, 1, 33}, {33, 5, 1}, {1, 1000, 31}, {2, 3, 257}, {5, 0, 8}, {1, 1, 1},
};

static void check_weighted_sum(DType type, const WeightedCase &test, size_t offset)
{
    const Dims weights_dims = {test.n, test.m}, values_dims = {test.m, test.n, test.d}, y_dims = {test.n, test.d};
    const size_t weights_count = static_cast<size_t>(test.n * test.m), y_count = static_cast<size_t>(test.n * test.d);
    Numbers weights = uniform(weights_count, 1), values = uniform(y_count * static_cast<size_t>(test.m), 2);
    Numbers dy = uniform(y_count, 3), y(y_count), dweights(weights_count), dvalues(values.size());
    Reals left(type, weights), right(type, values, offset), out(type, y_count), gradient(type, dy);
    Reals left_back(type, weights_count), right_back(type, values.size(), offset);
    run([&] { return kernel_weighted_sum(type, left.at(), right.at(), out.at(), test.n, test.m, test.d, stream()); },
        {&out});
    run(
        [&] {
            return kernel_weighted_sum_grad_weights(type, gradient.at(), right.at(), left_back.at(), test.n, test.m,
                                                    test.d, stream());
        },
        {&left_back});
    run(
        [&] {
            return kernel_weighted_sum_grad_values(type, gradient.at(), left.at(), right_back.at(), test.n, test.m,
                                                   test.d, stream());
        },
        {&right_back});
    const Tensor g = view(weights, weights_dims), v = view(values, values_dims), dy_view = view(dy, y_dims);
    reference(OP_WEIGHTED_SUM, {}, {g, v}, {view(y, y_dims)});
    reference(OP_WEIGHTED_SUM_GRAD_WEIGHTS, {}, {dy_view, v}, {view(dweights, weights_dims)});
    reference(OP_WEIGHTED_SUM_GRAD_VALUES, {}, {dy_view, g}, {view(dvalues, values_dims)});
    expect_close("y", type, out.numbers(), y);
    expect_close("dweights", type, left_back.numbers(), dweights);
    expect_close("dvalues", type, right_back.numbers(), dvalues);
}

static void test_weighted_sum()
{
    for (DType type : real_types)
        for (const WeightedCase &test : weighted_cases)
            for (size_t offset : {0, 1}) {
                set_context("%s, [%ld, %ld, %ld], offset %zu", dtype_name(type), static_cast<long>(test.n),
                            static_cast<long>(test.m), static_cast<long>(test.d), offset);
                check_weighted_sum(type, test, offset);
            }
}

static void test_weighted_sum_of_nothing()
{
    EXPECT(kernel_weighted_sum(DTYPE_F32, nullptr, nullptr, nullptr, 0, 3, 4, stream()) == cudaSuccess);
    EXPECT(kernel_weighted_sum(DTYPE_F32, nullptr, nullptr, nullptr, 3, 3, 0, stream()) == cudaSuccess);
    EXPECT(kernel_weighted_sum_grad_weights(DTYPE_F32, nullptr, nullptr, nullptr, 3, 0, 4, stream()) == cudaSuccess);
    EXPECT(kernel_weighted_sum_grad_values(DTYPE_F32, nullptr, nullptr, nullptr, 3, 0, 4, stream()) == cudaSuccess);
    EXPECT(kernel_weighted_sum(DTYPE_F64, nullptr, nullptr, nullptr, 1, 1, 1, stream()) == cudaErrorInvalidValue);
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"channel_sum", test_channel_sum},
                      {"channel_sum_of_nothing", test_channel_sum_of_nothing},
                      {"copy_rows", test_copy_rows},
                      {"weighted_sum", test_weighted_sum},
                      {"weighted_sum_of_nothing", test_weighted_sum_of_nothing}});
}
