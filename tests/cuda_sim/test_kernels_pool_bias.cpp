// kernel_dropout_pool_relu_bias_grad: dx as kernel_dropout_pool_relu_grad has it, bit for bit, and its sums over images
// and places.
#include "kernel_check.h"

using namespace kernel_check;

namespace
{

struct Case {
    int64_t n;
    int channels, rows, columns;
    int64_t gap; // elements between two images of y; of dy twice as many
    double probability;
};

const std::vector<Case> cases = {{64, 10, 24, 24, 0, 0}, {64, 20, 8, 8, 512, 0.5},    {5, 3, 7, 9, 1, 0.25},
                                 {1, 1, 2, 2, 0, 0},     {300, 33, 3, 2, 3, 0.5},     {2, 1024, 2, 3, 0, 0.5},
                                 {2, 40, 2, 2, 0, 0.9},  {1100, 4, 25, 24, 0, 0.125}, {3, 2, 70, 64, 8, 0}};

KernelPool pool_of(const Case &test)
{
    return halving_pool(test.n * test.channels, test.rows, test.columns);
}

// Sums of dx in double.
Numbers channel_sums(const Case &test, const Numbers &dx)
{
    const size_t plane = static_cast<size_t>(test.rows) * static_cast<size_t>(test.columns);
    Numbers sums(static_cast<size_t>(test.channels));
    for (size_t i = 0; i < dx.size(); i++)
        sums[i / plane % sums.size()] += dx[i];
    return sums;
}

void check(DType type, const Case &test)
{
    const KernelPool pool = pool_of(test);
    const int64_t image = static_cast<int64_t>(test.channels) * pool.out_rows * pool.out_columns;
    const size_t images = static_cast<size_t>(test.n), outputs = images * static_cast<size_t>(image);
    const size_t elements = static_cast<size_t>(pool.planes) * static_cast<size_t>(test.rows * test.columns);
    Numbers dy = uniform(images * static_cast<size_t>(image + 2 * test.gap), 1);
    Numbers y = uniform(images * static_cast<size_t>(image + test.gap), 2);
    std::vector<uint8_t> places(outputs);
    for (size_t i = 0; i < outputs; i++)
        places[i] = static_cast<uint8_t>((i * 7 + i / 3) % 4);
    Reals gradient(type, dy), forward(type, y), dx(type, elements), alone(type, elements);
    Array<uint8_t> index(places);
    Array<int64_t> random(std::vector<int64_t>{11, 5});
    Array<float> db(static_cast<size_t>(test.channels));
    Scratch scratch;
    const KernelDropout dropout = dropout_of(test.probability > 0 ? random.get() : nullptr, 3, test.probability);
    run(
        [&] {
            return kernel_dropout_pool_relu_bias_grad(type, gradient.at(), image + 2 * test.gap, forward.at(),
                                                      image + test.gap, index.get(), test.channels, dx.at(), db.get(),
                                                      pool, dropout, scratch.at(), stream());
        },
        {&dx, &db});
    run(
        [&] {
            return kernel_dropout_pool_relu_grad(type, gradient.at(), image + 2 * test.gap, forward.at(),
                                                 image + test.gap, index.get(), test.channels, alone.at(), pool,
                                                 dropout, stream());
        },
        {&alone});
    expect_equal("dx", dx.numbers(), alone.numbers());
    const std::vector<float> sums = db.values();
    expect_close("db", type, Numbers(sums.begin(), sums.end()), channel_sums(test, dx.numbers()));
}

void test_sums()
{
    for (DType type : real_types)
        for (const Case &test : cases) {
            set_context("%s, %ld x %d x %dx%d, gap %ld", dtype_name(type), static_cast<long>(test.n), test.channels,
                        test.rows, test.columns, static_cast<long>(test.gap));
            check(type, test);
        }
}

// Of no image every sum is 0; more channels than there are places for sums are refused, and what doesn't fit.
void test_refused()
{
    KernelPool pool = pool_of(cases[0]);
    pool.planes = 0;
    Array<float> db(10);
    run(
        [&] {
            return kernel_dropout_pool_relu_bias_grad(DTYPE_F32, nullptr, 0, nullptr, 0, nullptr, 10, nullptr, db.get(),
                                                      pool, {}, nullptr, stream());
        },
        {&db});
    expect_equal("db", db.values(), std::vector<float>(10));
    pool.planes = 10;
    const int64_t image = 10 * 12 * 12;
    for (int channels : {0, 7, KERNEL_MOST_SUMS + 1})
        EXPECT(kernel_dropout_pool_relu_bias_grad(DTYPE_F32, nullptr, image, nullptr, image, nullptr, channels, nullptr,
                                                  nullptr, pool, {}, nullptr, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_dropout_pool_relu_bias_grad(DTYPE_F32, nullptr, image - 1, nullptr, image, nullptr, 10, nullptr,
                                              nullptr, pool, {}, nullptr, stream()) == cudaErrorInvalidValue);
}

} // namespace

int main(int argc, char **argv)
{
    return run_tests(argc, argv, {{"sums", test_sums}, {"refused", test_refused}});
}
