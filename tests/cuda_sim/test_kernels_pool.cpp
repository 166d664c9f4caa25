// kernels/pool.cu and pool_fused.cu against the reference backend's loops.
#include "kernel_check.h"

#include <cmath>

using namespace kernel_check;

static size_t product(const Dims &dims)
{
    int64_t count = 1;
    for (int64_t dim : dims)
        count *= dim;
    return static_cast<size_t>(count);
}

// --- adaptive average ---

struct AdaptiveCase {
    int64_t n, channels;
    int rows, columns, out_rows, out_columns;
};

// MNIST's own size, smaller and larger images, windows that overlap, and few large windows.
static const std::vector<AdaptiveCase> adaptive_cases = {
    {64, 1, 28, 28, 28, 28}, {3, 1, 32, 30, 28, 28}, {2, 1, 14, 20, 28, 28}, {2, 3, 7, 5, 3, 4},
    {3, 5, 11, 13, 1, 1},    {2, 2, 33, 31, 2, 1},   {1, 1, 1, 1, 1, 1},     {1, 1, 2, 3, 5, 7},
};

static KernelPool pool_of(const AdaptiveCase &test)
{
    KernelPool pool = {};
    pool.planes = test.n * test.channels;
    pool.rows = test.rows;
    pool.columns = test.columns;
    pool.out_rows = test.out_rows;
    pool.out_columns = test.out_columns;
    return pool;
}

static void check_adaptive(DType type, const AdaptiveCase &test)
{
    const KernelPool pool = pool_of(test);
    const Dims x_dims = {test.n, test.channels, test.rows, test.columns};
    const Dims y_dims = {test.n, test.channels, test.out_rows, test.out_columns};
    Numbers x = uniform(product(x_dims), 1), dy = uniform(product(y_dims), 2), y(product(y_dims)), dx(product(x_dims));
    Reals in(type, x), out(type, y.size()), gradient(type, dy), back(type, dx.size());
    run([&] { return kernel_adaptive_avg_pool2d(type, in.at(), out.at(), pool, stream()); }, {&out});
    run([&] { return kernel_adaptive_avg_pool2d_grad(type, gradient.at(), back.at(), pool, stream()); }, {&back});
    reference(OP_ADAPTIVE_AVG_POOL2D, {}, {view(x, x_dims)}, {view(y, y_dims)});
    reference(OP_ADAPTIVE_AVG_POOL2D_GRAD, {}, {view(dy, y_dims)}, {view(dx, x_dims)});
    expect_close("y", type, out.numbers(), y);
    expect_close("dx", type, back.numbers(), dx);
}

static void test_adaptive()
{
    for (DType type : real_types)
        for (const AdaptiveCase &test : adaptive_cases) {
            set_context("%s, %dx%d to %dx%d", dtype_name(type), test.rows, test.columns, test.out_rows,
                        test.out_columns);
            check_adaptive(type, test);
        }
}

// --- maximum ---

struct MaxCase {
    int64_t n, channels;
    int rows, columns, kernel[2], stride[2];
};

// MNIST's two pools; windows that overlap, leave gaps, leave the last row out, and are the whole plane.
static const std::vector<MaxCase> max_cases = {
    {8, 10, 24, 24, {2, 2}, {2, 2}}, {8, 20, 8, 8, {2, 2}, {2, 2}}, {3, 5, 7, 9, {3, 3}, {2, 2}},
    {2, 3, 9, 7, {2, 3}, {3, 4}},    {2, 3, 7, 5, {2, 2}, {2, 2}},  {1, 1, 16, 16, {16, 16}, {1, 1}},
    {1, 1, 1, 1, {1, 1}, {1, 1}},    {2, 1, 6, 6, {3, 3}, {1, 1}},
};

static KernelPool pool_of(const MaxCase &test)
{
    return pool_of(test.n * test.channels, test.rows, test.columns, test.kernel, test.stride);
}

static Attributes attributes_of(const MaxCase &test)
{
    Attributes attributes = {};
    for (int i = 0; i < 2; i++) {
        attributes.pool2d.kernel[i] = test.kernel[i];
        attributes.pool2d.stride[i] = test.stride[i];
    }
    return attributes;
}

// Ties: multiples of a quarter. NaN and infinities: every fifth.
static Numbers with_ties(size_t count, bool specials)
{
    Numbers values = specials ? with_specials(count, 1) : uniform(count, 1);
    for (double &value : values)
        value = std::isfinite(value) ? std::round(value * 4) / 4 : value;
    return values;
}

static void check_max(DType type, const MaxCase &test, bool specials)
{
    const KernelPool pool = pool_of(test);
    const Attributes attributes = attributes_of(test);
    const Dims x_dims = {test.n, test.channels, test.rows, test.columns};
    const Dims y_dims = {test.n, test.channels, pool.out_rows, pool.out_columns};
    Numbers x = with_ties(product(x_dims), specials), y(product(y_dims));
    Numbers dy = uniform(product(y_dims), 2), dx(product(x_dims));
    std::vector<uint8_t> index(y.size());
    Reals in(type, x), out(type, y.size()), gradient(type, dy), back(type, dx.size());
    Array<uint8_t> place(y.size());
    run([&] { return kernel_max_pool2d(type, in.at(), out.at(), place.get(), pool, stream()); }, {&out, &place});
    run([&] { return kernel_max_pool2d_grad(type, gradient.at(), place.get(), back.at(), pool, stream()); }, {&back});
    reference(OP_MAX_POOL2D, attributes, {view(x, x_dims)}, {view(y, y_dims), view(index, y_dims)});
    reference(OP_MAX_POOL2D_GRAD, attributes, {view(dy, y_dims), view(index, y_dims)}, {view(dx, x_dims)});
    expect_close("y", 0.0, out.numbers(), y);
    expect_equal("index", place.values(), index);
    expect_close("dx", type, back.numbers(), dx);
    run([&] { return kernel_max_pool2d(type, in.at(), out.at(), nullptr, pool, stream()); }, {&out});
    expect_close("y without index", 0.0, out.numbers(), y);
}

static void test_max()
{
    for (DType type : real_types)
        for (const MaxCase &test : max_cases)
            for (bool specials : {false, true}) {
                set_context("%s, %dx%d, window %dx%d%s", dtype_name(type), test.rows, test.columns, test.kernel[0],
                            test.kernel[1], specials ? ", NaN among them" : "");
                check_max(type, test, specials);
            }
}

// --- bias, dropout, maximum and relu in one ---

struct FusedCase {
    int64_t n;
    int channels, rows, columns;
    bool bias;
    double probability; /* 0: no random numbers */
    int64_t gap;        /* elements between images of y */
    size_t offset;      /* of x and dx, in elements */
};

static const std::vector<FusedCase> fused_cases = {
    {64, 10, 24, 24, true, 0, 0, 0}, {64, 20, 8, 8, true, 0.5, 0, 0}, {3, 20, 8, 8, true, 0.5, 192, 0},
    {3, 5, 7, 9, true, 0.5, 0, 0},   {3, 5, 8, 7, false, 0.1, 3, 0},  {2, 3, 9, 6, true, 0.25, 1, 0},
    {2, 3, 6, 6, true, 0.25, 0, 1},  {1, 1, 2, 2, false, 0, 0, 0},    {2, 2, 3, 3, true, 0.9, 0, 0},
};

static KernelPool pool_of(const FusedCase &test)
{
    return halving_pool(test.n * test.channels, test.rows, test.columns);
}

// The same by loops of the reference, one operation after the other: a convolution with one weight of 1 for each
// channel stands for x + bias.
static void fused_reference(const FusedCase &test, Numbers &x, Numbers &bias, std::vector<int64_t> &state, Numbers &y,
                            std::vector<uint8_t> &index)
{
    Attributes attributes = {};
    attributes.conv2d.kernel[0] = attributes.conv2d.kernel[1] = 1;
    attributes.conv2d.stride[0] = attributes.conv2d.stride[1] = 1;
    attributes.conv2d.groups = test.channels;
    attributes.conv2d.drop_probability = test.probability;
    attributes.conv2d.drop_layer = 5;
    const Dims dims = {test.n, test.channels, test.rows / 2, test.columns / 2};
    Numbers ones(static_cast<size_t>(test.channels), 1.0);
    reference(OP_CONV2D_POOL, attributes,
              {view(x, {test.n, test.channels, test.rows, test.columns}), view(ones, {test.channels, 1, 1, 1}),
               test.bias ? view(bias, {test.channels}) : Tensor{}, test.probability > 0 ? view(state, {2}) : Tensor{}},
              {view(y, dims), view(index, dims)});
}

// Images of `size` numbers, `gap` apart, from and to dense ones. What lies between is 77.
static Numbers spread(const Numbers &dense, size_t size, size_t gap)
{
    Numbers values;
    for (size_t i = 0; i < dense.size(); i++) {
        values.push_back(dense[i]);
        if ((i + 1) % size == 0) values.insert(values.end(), gap, 77.0);
    }
    return values;
}

struct FusedData {
    Dims x_dims, y_dims;
    size_t image, gap;
    Numbers x, bias, y;
    std::vector<uint8_t> index;
    std::vector<int64_t> state = {11, 4};
};

static FusedData data_of(const FusedCase &test, DType type, bool specials)
{
    FusedData data;
    data.x_dims = {test.n, test.channels, test.rows, test.columns};
    data.y_dims = {test.n, test.channels, test.rows / 2, test.columns / 2};
    data.image = product(data.y_dims) / static_cast<size_t>(test.n);
    data.gap = static_cast<size_t>(test.gap);
    data.x = with_ties(product(data.x_dims), specials);
    data.bias = uniform(static_cast<size_t>(test.channels), 3);
    for (double &value : data.bias)
        value = std::round(value * 4) / 4; // sums stay exact in all types, so that ties are ties
    data.y.resize(product(data.y_dims));
    data.index.resize(data.y.size());
    Reals(type, data.x);
    fused_reference(test, data.x, data.bias, data.state, data.y, data.index);
    return data;
}

static KernelDropout dropout_of(const FusedCase &test, const Array<int64_t> &random)
{
    return dropout_of(test.probability > 0 ? random.get() : nullptr, 5, test.probability);
}

static void check_fused(DType type, const FusedCase &test, bool specials)
{
    FusedData data = data_of(test, type, specials);
    Numbers blank = spread(Numbers(data.y.size(), 77.0), data.image, data.gap);
    Reals in(type, data.x, test.offset), out(type, blank), bias(DTYPE_F32, data.bias);
    Array<uint8_t> place(data.y.size());
    Array<int64_t> random(data.state);
    const int64_t stride = static_cast<int64_t>(data.image + data.gap);
    run(
        [&] {
            return kernel_bias_dropout_pool_relu(type, in.at(), test.bias ? bias.f32() : nullptr, test.channels,
                                                 out.at(), stride, place.get(), pool_of(test), dropout_of(test, random),
                                                 stream());
        },
        {&out, &place});
    expect_close("y", type, out.numbers(), spread(data.y, data.image, data.gap));
    expect_equal("index", place.values(), data.index);
    run(
        [&] {
            return kernel_bias_dropout_pool_relu(type, in.at(), test.bias ? bias.f32() : nullptr, test.channels,
                                                 out.at(), stride, nullptr, pool_of(test), dropout_of(test, random),
                                                 stream());
        },
        {&out});
    expect_close("y without index", type, out.numbers(), spread(data.y, data.image, data.gap));
}

// dropout2d(max_pool2d_grad(relu_grad(dy, y), index)) by the reference's loops.
static Numbers fused_grad_reference(const FusedCase &test, FusedData &data, Numbers &dy)
{
    Attributes pool = {}, drop = {};
    pool.pool2d.kernel[0] = pool.pool2d.kernel[1] = pool.pool2d.stride[0] = pool.pool2d.stride[1] = 2;
    drop.dropout.probability = test.probability;
    drop.dropout.layer = 5;
    drop.dropout.channels = true;
    Numbers passed(dy.size()), dx(data.x.size());
    reference(OP_RELU_GRAD, {}, {view(dy, data.y_dims), view(data.y, data.y_dims)}, {view(passed, data.y_dims)});
    reference(OP_MAX_POOL2D_GRAD, pool, {view(passed, data.y_dims), view(data.index, data.y_dims)},
              {view(dx, data.x_dims)});
    if (test.probability > 0)
        reference(OP_DROPOUT, drop, {view(dx, data.x_dims), view(data.state, {2})}, {view(dx, data.x_dims)});
    return dx;
}

static void check_fused_grad(DType type, const FusedCase &test, bool specials)
{
    FusedData data = data_of(test, type, specials);
    Numbers dy = uniform(data.y.size(), 2);
    Reals(type, dy);
    Reals(type, data.y);
    const Numbers dx = fused_grad_reference(test, data, dy);
    Numbers wide = spread(dy, data.image, 2 * data.gap), value = spread(data.y, data.image, data.gap);
    Reals gradient(type, wide), forward(type, value), out(type, data.x.size(), test.offset);
    Array<uint8_t> place(data.index);
    Array<int64_t> random(data.state);
    const int64_t image = static_cast<int64_t>(data.image);
    run(
        [&] {
            return kernel_dropout_pool_relu_grad(type, gradient.at(), image + 2 * test.gap, forward.at(),
                                                 image + test.gap, place.get(), test.channels, out.at(), pool_of(test),
                                                 dropout_of(test, random), stream());
        },
        {&out});
    expect_close("dx", type, out.numbers(), dx);
}

template <class Check> static void for_fused_cases(Check check)
{
    for (DType type : real_types)
        for (const FusedCase &test : fused_cases)
            for (bool specials : {false, true}) {
                set_context("%s, %ld x %d x %dx%d, gap %ld, offset %zu%s", dtype_name(type), static_cast<long>(test.n),
                            test.channels, test.rows, test.columns, static_cast<long>(test.gap), test.offset,
                            specials ? ", NaN among them" : "");
                if (!specials || test.n < 64) check(type, test, specials);
            }
}

static void test_fused()
{
    for_fused_cases(check_fused);
}

static void test_fused_grad()
{
    for_fused_cases(check_fused_grad);
}

static void test_refused()
{
    KernelPool pool = pool_of(max_cases[0]);
    pool.planes = 0;
    EXPECT(kernel_max_pool2d(DTYPE_F32, nullptr, nullptr, nullptr, pool, stream()) == cudaSuccess);
    EXPECT(kernel_max_pool2d_grad(DTYPE_F32, nullptr, nullptr, nullptr, pool, stream()) == cudaSuccess);
    EXPECT(kernel_adaptive_avg_pool2d(DTYPE_F32, nullptr, nullptr, pool, stream()) == cudaSuccess);
    EXPECT(kernel_adaptive_avg_pool2d_grad(DTYPE_F32, nullptr, nullptr, pool, stream()) == cudaSuccess);
    pool.planes = 1;
    EXPECT(kernel_max_pool2d(DTYPE_F64, nullptr, nullptr, nullptr, pool, stream()) == cudaErrorInvalidValue);
    pool.kernel[0] = pool.rows + 1; // reads beyond the plane
    EXPECT(kernel_max_pool2d(DTYPE_F32, nullptr, nullptr, nullptr, pool, stream()) == cudaErrorInvalidValue);
    pool = pool_of(fused_cases[0]);
    const int64_t image = 10 * 12 * 12;
    EXPECT(kernel_bias_dropout_pool_relu(DTYPE_F32, nullptr, nullptr, 10, nullptr, image - 1, nullptr, pool, {},
                                         stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_bias_dropout_pool_relu(DTYPE_F32, nullptr, nullptr, 7, nullptr, image, nullptr, pool, {}, stream()) ==
           cudaErrorInvalidValue);
    EXPECT(kernel_dropout_pool_relu_grad(DTYPE_F32, nullptr, image, nullptr, image - 1, nullptr, 10, nullptr, pool, {},
                                         stream()) == cudaErrorInvalidValue);
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"adaptive", test_adaptive},
                      {"max", test_max},
                      {"fused", test_fused},
                      {"fused_grad", test_fused_grad},
                      {"refused", test_refused}});
}
