// kernels/softmax.cu and loss.cu against the reference backend's loops.
#include "kernel_check.h"

#include <cmath>

using namespace kernel_check;

struct Matrix {
    int64_t n, m;
};

// MNIST's logits and router; one column, a block's rows (from 1024 columns on), more rows than blocks add up at once.
static const std::vector<Matrix> matrices = {
    {64, 10}, {64, 8}, {1, 1}, {3, 33}, {1, 31}, {33, 257}, {200, 10}, {2, 1000}, {3, 1024}, {2, 2500},
};

enum class Kind { USUAL, LARGE, SPECIAL };

// Large ones need the maximum taken off: e^1000 is no number. Special ones have NaN and infinities in some rows.
static Numbers logits_of(const Matrix &matrix, Kind kind, unsigned seed)
{
    Numbers x = uniform(static_cast<size_t>(matrix.n * matrix.m), seed);
    for (double &value : x)
        value *= kind == Kind::LARGE ? 1000 : 4;
    const size_t m = static_cast<size_t>(matrix.m);
    for (size_t row = 0; kind == Kind::SPECIAL && row < static_cast<size_t>(matrix.n); row++) {
        if (row % 4 == 0) x[row * m + m / 2] = NAN;
        if (row % 4 == 1) x[row * m + m / 3] = -INFINITY;
        if (row % 4 == 2) x[row * m + m - 1] = INFINITY;
    }
    return x;
}

template <class Check> static void for_cases(Check check)
{
    for (DType type : real_types)
        for (const Matrix &matrix : matrices)
            for (Kind kind : {Kind::USUAL, Kind::LARGE, Kind::SPECIAL}) {
                if (kind != Kind::USUAL && matrix.n > 33) continue; // rows enough elsewhere
                set_context("%s, [%ld, %ld], values %d", dtype_name(type), static_cast<long>(matrix.n),
                            static_cast<long>(matrix.m), static_cast<int>(kind));
                check(type, matrix, kind);
            }
}

static size_t count_of(const Matrix &matrix)
{
    return static_cast<size_t>(matrix.n * matrix.m);
}

static Dims dims_of(const Matrix &matrix)
{
    return {matrix.n, matrix.m};
}

// A float sum of a thousand products of half precision numbers, in another order, is as exact as one of floats.
static double sum_tolerance(DType type)
{
    return type == DTYPE_F32 ? 2e-6 : tolerance_of(type);
}

// --- softmax ---

static void check_softmax(DType type, const Matrix &matrix, Kind kind, const std::vector<uint8_t> *mask_values)
{
    Numbers x = logits_of(matrix, kind, 1), wanted(count_of(matrix));
    std::vector<uint8_t> mask = mask_values ? *mask_values : std::vector<uint8_t>();
    Reals in(type, x), out(type, x.size());
    Array<uint8_t> masked(mask);
    run(
        [&] {
            return kernel_softmax(type, in.at(), mask_values ? masked.get() : nullptr, out.at(), matrix.n, matrix.m,
                                  stream());
        },
        {&out});
    reference(OP_SOFTMAX, {}, {view(x, dims_of(matrix)), mask_values ? view(mask, {matrix.m}) : Tensor{}},
              {view(wanted, dims_of(matrix))});
    expect_close("y", sum_tolerance(type), out.numbers(), wanted);
}

static void test_softmax()
{
    for_cases([](DType type, const Matrix &matrix, Kind kind) { check_softmax(type, matrix, kind, nullptr); });
}

static void test_softmax_masked()
{
    for_cases([](DType type, const Matrix &matrix, Kind kind) {
        std::vector<uint8_t> mask(static_cast<size_t>(matrix.m));
        check_softmax(type, matrix, kind, &mask); // none left: zeros
        for (size_t i = 0; i < mask.size(); i++)
            mask[i] = i % 3 != 1;
        check_softmax(type, matrix, kind, &mask);
    });
}

static void test_softmax_grad()
{
    for_cases([](DType type, const Matrix &matrix, Kind kind) {
        Numbers dy = logits_of(matrix, kind, 1), y = uniform(count_of(matrix), 2), wanted(count_of(matrix));
        Reals gradient(type, dy), value(type, y), out(type, y.size());
        run(
            [&] {
                return kernel_softmax_grad(type, gradient.at(), value.at(), out.at(), matrix.n, matrix.m, stream());
            },
            {&out});
        reference(OP_SOFTMAX_GRAD, {}, {view(dy, dims_of(matrix)), view(y, dims_of(matrix))},
                  {view(wanted, dims_of(matrix))});
        expect_close("dx", sum_tolerance(type), out.numbers(), wanted);
    });
}

// --- cross entropy ---

static const std::vector<int32_t> no_labels(1000, -1);

static void check_cross_entropy(DType type, const Matrix &matrix, Kind kind, std::vector<int32_t> label)
{
    Numbers x = logits_of(matrix, kind, 1), loss(1), softmax(x.size()), dlogits(x.size()), dloss = {0.7};
    const Dims dims = dims_of(matrix);
    label.resize(static_cast<size_t>(matrix.n));
    Reals in(type, x), share(type, x.size()), gradient(DTYPE_F32, dloss), back(type, x.size()), both(type, x.size());
    Reals one(DTYPE_F32, 1), other(DTYPE_F32, 1), given(type, x.size());
    Array<int32_t> chosen(label);
    Scratch scratch;
    run(
        [&] {
            return kernel_cross_entropy(type, in.at(), chosen.get(), one.f32(), share.at(), matrix.n, matrix.m,
                                        scratch.at(), stream());
        },
        {&one, &share});
    run(
        [&] {
            return kernel_cross_entropy_both(type, in.at(), chosen.get(), static_cast<float>(dloss[0]), nullptr,
                                             other.f32(), both.at(), matrix.n, matrix.m, scratch.at(), stream());
        },
        {&other, &both});
    run(
        [&] {
            return kernel_cross_entropy_both(type, in.at(), chosen.get(), 1, gradient.f32(), other.f32(), given.at(),
                                             matrix.n, matrix.m, scratch.at(), stream());
        },
        {&other, &given});
    reference(OP_CROSS_ENTROPY, {}, {view(x, dims), view(label, {matrix.n})}, {view(loss, {}), view(softmax, dims)});
    expect_close("loss", 1e-6, one.numbers(), loss);
    expect_close("loss of both", 1e-6, other.numbers(), loss);
    expect_close("softmax", sum_tolerance(type), share.numbers(), softmax);
    reference(OP_CROSS_ENTROPY_GRAD, {}, {view(dloss, {}), view(softmax, dims), view(label, {matrix.n})},
              {view(dlogits, dims)});
    expect_close("gradient of both", sum_tolerance(type), both.numbers(), dlogits);
    expect_close("gradient with dloss on the device", 0.0, given.numbers(), both.numbers());
    share.write_numbers(softmax); // rounded: the same for both sides
    reference(OP_CROSS_ENTROPY_GRAD, {}, {view(dloss, {}), view(softmax, dims), view(label, {matrix.n})},
              {view(dlogits, dims)});
    run(
        [&] {
            return kernel_cross_entropy_grad(type, gradient.f32(), share.at(), chosen.get(), back.at(), matrix.n,
                                             matrix.m, stream());
        },
        {&back});
    expect_close("gradient", type, back.numbers(), dlogits);
}

static void test_cross_entropy()
{
    for_cases([](DType type, const Matrix &matrix, Kind kind) {
        const int32_t classes = static_cast<int32_t>(matrix.m);
        check_cross_entropy(type, matrix, kind, labels(static_cast<size_t>(matrix.n), classes, 3));
        check_cross_entropy(type, matrix, kind, no_labels);
    });
}

// A sure and right answer: the loss is far below the logits' own precision, and still right.
static void test_cross_entropy_small()
{
    const Matrix matrix = {64, 10};
    Numbers x(count_of(matrix), 0.0), loss(1), softmax(x.size());
    std::vector<int32_t> label(64, 3);
    for (size_t row = 0; row < 64; row++)
        x[row * 10 + 3] = 15;
    Reals in(DTYPE_F32, x), one(DTYPE_F32, 1);
    Array<int32_t> chosen(label);
    Scratch scratch;
    run(
        [&] {
            return kernel_cross_entropy(DTYPE_F32, in.at(), chosen.get(), one.f32(), nullptr, 64, 10, scratch.at(),
                                        stream());
        },
        {&one});
    reference(OP_CROSS_ENTROPY, {}, {view(x, dims_of(matrix)), view(label, {64})},
              {view(loss, {}), view(softmax, dims_of(matrix))});
    EXPECT(loss[0] < 1e-5);
    expect_close("loss", 1e-6, one.numbers(), loss);
}

// A label that no column has counts as none.
static void test_cross_entropy_wrong_label()
{
    const Matrix matrix = {5, 7};
    std::vector<int32_t> wrong = {1, 7, 3, 1000000, -5}, right = {1, -1, 3, -1, -1};
    Numbers x = logits_of(matrix, Kind::USUAL, 1);
    Reals in(DTYPE_F32, x), one(DTYPE_F32, 1), other(DTYPE_F32, 1), left(DTYPE_F32, 35), back(DTYPE_F32, 35);
    Array<int32_t> first(wrong), second(right);
    Scratch scratch;
    for (const auto &[label, loss, result] : {std::make_tuple(&first, &one, &left), {&second, &other, &back}})
        run(
            [&, label = label, loss = loss, result = result] {
                return kernel_cross_entropy_both(DTYPE_F32, in.at(), label->get(), 1, nullptr, loss->f32(),
                                                 result->at(), 5, 7, scratch.at(), stream());
            },
            {loss, result});
    expect_equal("loss", one.numbers(), other.numbers());
    expect_equal("gradient", left.numbers(), back.numbers());
}

// The gradient in the logits' place.
static void test_cross_entropy_in_place()
{
    for (const Matrix &matrix : matrices) {
        set_context("[%ld, %ld]", static_cast<long>(matrix.n), static_cast<long>(matrix.m));
        Numbers x = logits_of(matrix, Kind::USUAL, 1);
        Reals in(DTYPE_F32, x), one(DTYPE_F32, 1), other(DTYPE_F32, 1), out(DTYPE_F32, x.size());
        Array<int32_t> label(labels(static_cast<size_t>(matrix.n), static_cast<int32_t>(matrix.m), 3));
        Scratch scratch;
        run(
            [&] {
                return kernel_cross_entropy_both(DTYPE_F32, in.at(), label.get(), 1, nullptr, one.f32(), out.at(),
                                                 matrix.n, matrix.m, scratch.at(), stream());
            },
            {&one, &out});
        EXPECT_CUDA(kernel_cross_entropy_both(DTYPE_F32, in.at(), label.get(), 1, nullptr, other.f32(), in.at(),
                                              matrix.n, matrix.m, scratch.at(), stream()));
        EXPECT_CUDA(cudaStreamSynchronize(stream()));
        expect_equal("loss", other.numbers(), one.numbers());
        expect_equal("gradient", in.numbers(), out.numbers());
    }
}

// --- soft cross entropy ---

static void check_soft_cross_entropy(DType type, const Matrix &matrix, Kind kind, std::vector<int32_t> label)
{
    Numbers x = logits_of(matrix, kind, 1), targets = logits_of(matrix, Kind::USUAL, 2), loss(1), softmax(x.size());
    Numbers wanted(x.size()), dlogits(x.size()), dloss = {0.7};
    const Dims dims = dims_of(matrix);
    label.resize(static_cast<size_t>(matrix.n));
    Reals in(type, x), target(type, targets), share(type, x.size()), want(type, x.size()), back(type, x.size());
    Reals one(DTYPE_F32, 1), other(DTYPE_F32, 1), gradient(DTYPE_F32, dloss);
    Array<int32_t> chosen(label);
    Scratch scratch;
    run(
        [&] {
            return kernel_soft_cross_entropy(type, in.at(), target.at(), chosen.get(), one.f32(), share.at(), want.at(),
                                             matrix.n, matrix.m, scratch.at(), stream());
        },
        {&one, &share, &want});
    run(
        [&] {
            return kernel_soft_cross_entropy(type, in.at(), target.at(), chosen.get(), other.f32(), nullptr, nullptr,
                                             matrix.n, matrix.m, scratch.at(), stream());
        },
        {&other});
    const Tensor label_view = view(label, {matrix.n});
    reference(OP_SOFT_CROSS_ENTROPY, {}, {view(x, dims), view(targets, dims), label_view},
              {view(loss, {}), view(softmax, dims), view(wanted, dims)});
    expect_close("loss", 2e-6, one.numbers(), loss);
    expect_close("loss alone", 0.0, other.numbers(), one.numbers());
    expect_close("softmax", sum_tolerance(type), share.numbers(), softmax);
    expect_close("wanted", sum_tolerance(type), want.numbers(), wanted);
    share.write_numbers(softmax); // rounded: the same for both sides
    want.write_numbers(wanted);
    reference(OP_SOFT_CROSS_ENTROPY_GRAD, {}, {view(dloss, {}), view(softmax, dims), view(wanted, dims), label_view},
              {view(dlogits, dims)});
    run(
        [&] {
            return kernel_soft_cross_entropy_grad(type, gradient.f32(), share.at(), want.at(), chosen.get(), back.at(),
                                                  matrix.n, matrix.m, stream());
        },
        {&back});
    expect_close("gradient", type, back.numbers(), dlogits);
}

static void test_soft_cross_entropy()
{
    for_cases([](DType type, const Matrix &matrix, Kind kind) {
        check_soft_cross_entropy(type, matrix, kind, labels(static_cast<size_t>(matrix.n), 1, 3));
        check_soft_cross_entropy(type, matrix, kind, no_labels);
        check_soft_cross_entropy(type, matrix, kind, std::vector<int32_t>(1000, 0)); // nothing counts
    });
}

// --- mean squared error ---

static void check_mean_squared_error(DType type, size_t count, size_t offset)
{
    Numbers a = uniform(count, 1), b = uniform(count, 2), loss(1), dloss = {-0.01 * static_cast<double>(count)},
            da(count);
    const Dims dims = {static_cast<int64_t>(count)};
    Reals left(type, a, offset), right(type, b), back(type, count), one(DTYPE_F32, 1), gradient(DTYPE_F32, dloss);
    Scratch scratch;
    run(
        [&] {
            return kernel_mean_squared_error(type, left.at(), right.at(), one.f32(), dims[0], scratch.at(), stream());
        },
        {&one});
    run(
        [&] {
            return kernel_mean_squared_error_grad(type, gradient.f32(), left.at(), right.at(), back.at(), dims[0],
                                                  stream());
        },
        {&back});
    reference(OP_MEAN_SQUARED_ERROR, {}, {view(a, dims), view(b, dims)}, {view(loss, {})});
    reference(OP_MEAN_SQUARED_ERROR_GRAD, {}, {view(dloss, {}), view(a, dims), view(b, dims)}, {view(da, dims)});
    expect_close("loss", 1e-6, one.numbers(), loss);
    expect_close("da", type, back.numbers(), da);
}

static void test_mean_squared_error()
{
    for (DType type : real_types)
        for (size_t count : {1, 3, 31, 33, 257, 64 * 512, 300000})
            for (size_t offset : {0, 1}) {
                set_context("%s, %zu elements, offset %zu", dtype_name(type), count, offset);
                if (count < 300000 || offset == 1) check_mean_squared_error(type, count, offset);
            }
}

// --- all of them ---

// Without dloss the gradient is that of dloss 1.
static void test_no_dloss()
{
    Numbers x = uniform(21, 1), b = uniform(21, 2), one = {1};
    Reals in(DTYPE_F32, x), other(DTYPE_F32, b), dloss(DTYPE_F32, one), with(DTYPE_F32, 21), without(DTYPE_F32, 21);
    Array<int32_t> label(std::vector<int32_t>{-1, 2, 0});
    for (int kind = 0; kind < 3; kind++) {
        for (Reals *out : {&with, &without})
            run(
                [&] {
                    const float *given = out == &with ? dloss.f32() : nullptr;
                    if (kind == 0)
                        return kernel_cross_entropy_grad(DTYPE_F32, given, in.at(), label.get(), out->at(), 3, 7,
                                                         stream());
                    if (kind == 1)
                        return kernel_soft_cross_entropy_grad(DTYPE_F32, given, in.at(), other.at(), label.get(),
                                                              out->at(), 3, 7, stream());
                    return kernel_mean_squared_error_grad(DTYPE_F32, given, in.at(), other.at(), out->at(), 21,
                                                          stream());
                },
                {out});
        expect_equal("gradient", without.numbers(), with.numbers());
    }
}

static void test_nothing()
{
    Scratch scratch;
    Reals loss(DTYPE_F32, 1);
    const Numbers zero = {0.0};
    run(
        [&] {
            return kernel_cross_entropy(DTYPE_F32, nullptr, nullptr, loss.f32(), nullptr, 0, 10, scratch.at(),
                                        stream());
        },
        {&loss});
    expect_equal("loss", loss.numbers(), zero);
    run(
        [&] {
            return kernel_soft_cross_entropy(DTYPE_F32, nullptr, nullptr, nullptr, loss.f32(), nullptr, nullptr, 0, 10,
                                             scratch.at(), stream());
        },
        {&loss});
    expect_equal("loss", loss.numbers(), zero);
    run([&] { return kernel_mean_squared_error(DTYPE_F32, nullptr, nullptr, loss.f32(), 0, scratch.at(), stream()); },
        {&loss});
    expect_equal("loss", loss.numbers(), zero);
    EXPECT(kernel_softmax(DTYPE_F32, nullptr, nullptr, nullptr, 0, 10, stream()) == cudaSuccess);
    EXPECT(kernel_softmax_grad(DTYPE_F32, nullptr, nullptr, nullptr, 3, 0, stream()) == cudaSuccess);
    EXPECT(kernel_cross_entropy_grad(DTYPE_F32, nullptr, nullptr, nullptr, nullptr, 0, 10, stream()) == cudaSuccess);
    EXPECT(kernel_softmax(DTYPE_F64, nullptr, nullptr, nullptr, 1, 1, stream()) == cudaErrorInvalidValue);
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"softmax", test_softmax},
                      {"softmax_masked", test_softmax_masked},
                      {"softmax_grad", test_softmax_grad},
                      {"cross_entropy", test_cross_entropy},
                      {"cross_entropy_small", test_cross_entropy_small},
                      {"cross_entropy_wrong_label", test_cross_entropy_wrong_label},
                      {"cross_entropy_in_place", test_cross_entropy_in_place},
                      {"soft_cross_entropy", test_soft_cross_entropy},
                      {"mean_squared_error", test_mean_squared_error},
                      {"no_dloss", test_no_dloss},
                      {"nothing", test_nothing}});
}
